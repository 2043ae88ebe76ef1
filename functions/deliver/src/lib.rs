//! Delivers one alert to its audience, that one was taken back, or what is said in a room to those in it; invoked
//! asynchronously by publish, and by itself for large audiences.

mod events;

use std::sync::Arc;

use rand::RngExt;
use shared::{
    error::{ErrorChain, InternalError},
    fanout::{Content, Fanout, FanoutReport, FanoutTask, Services},
    limits::{AUDIENCE_NOTE_TIMEOUT, PUSH_RATE_DEFAULT, PUSH_RATE_MAX, PUSH_RATE_MIN, SUSPECTS_MAX, WORKER_RATE},
    model::{
        alert::Alert,
        audience::Audience,
        connection::{ConnectionId, Slot, SlotRange},
        member::AudiencePage,
    },
    publish::publisher::Dispatcher,
    push::{self, ConnectionState, Frame, PostOutcome, Pusher, Session},
    runtime::{
        environment::InvalidEnvironment,
        function::{Function, Invocation, StartContext},
    },
    tables::{alerts::Alerts, subscriptions::Subscriptions},
};
use tokio::{
    join,
    time::{Instant, timeout},
};

use self::events::Events;

#[derive(Debug)]
pub struct Deliver {
    subscriptions: Subscriptions,
    alerts: Alerts,
    pusher: Pusher,
    dispatcher: Dispatcher,
    own_name: String,
    push_rate: f64,
    fallback_to_everyone: bool,
    /// The second leg, if there is one.
    events: Option<Events>,
    start: StartContext,
}

impl Function for Deliver {
    type Event = FanoutTask;
    type Response = FanoutReport;

    fn start(start: &StartContext) -> Result<Self, InvalidEnvironment> {
        let mut environment = start.environment.reader();
        let subscriptions = Subscriptions::from_env(start, &mut environment);
        let alerts = Alerts::from_env(start, &mut environment);
        let endpoint = environment.required_endpoint(push::SERVICE);
        // Set by Lambda: the function invokes itself.
        let own_name = environment.required("AWS_LAMBDA_FUNCTION_NAME");
        let push_rate = environment.decimal_number("PUSH_RATE", PUSH_RATE_DEFAULT, PUSH_RATE_MIN..=PUSH_RATE_MAX);
        let fallback_to_everyone = environment.parsed("FALLBACK_TO_EVERYONE", true);
        let events_endpoint = events::endpoint(&mut environment);
        let endpoint = environment.finish_whole(endpoint)?;
        let lambda = aws_sdk_lambda::Client::new(&start.sdk);
        let dispatcher = Dispatcher::new(lambda, own_name.clone(), start.clock.clone());
        let events = events_endpoint
            .map(|endpoint| Events::new(endpoint, alerts.clone(), dispatcher.clone(), own_name.clone(), start))
            .transpose()?;
        Ok(Self {
            subscriptions,
            alerts,
            pusher: Pusher::new(&start.sdk, &start.network, endpoint).map_err(InvalidEnvironment::because)?,
            dispatcher,
            own_name,
            push_rate,
            fallback_to_everyone,
            events,
            start: start.clone(),
        })
    }

    async fn handle(
        &self,
        task: FanoutTask,
        Invocation { deadline, .. }: Invocation,
    ) -> Result<FanoutReport, InternalError> {
        match &self.events {
            None => self.fan_out(&task, deadline).await,
            Some(events) if task.is_for_events_alone() => events.publish(&task).await.map(|()| FanoutReport::default()),
            Some(events) => join!(self.fan_out(&task, deadline), events.beside(&task)).0,
        }
    }
}

impl Deliver {
    /// Delivers on the WebSocket API.
    async fn fan_out(&self, task: &FanoutTask, deadline: Instant) -> Result<FanoutReport, InternalError> {
        let services = Aws {
            subscriptions: self.subscriptions.clone(),
            alerts: self.alerts.clone(),
            session: self.pusher.session().await?,
            dispatcher: self.dispatcher.clone(),
        };
        let fanout = Fanout {
            services: Arc::new(services),
            push_rate: self.push_rate,
            worker_rate: WORKER_RATE,
            suspects_max: SUSPECTS_MAX,
            fallback_to_everyone: self.fallback_to_everyone,
            clock: self.start.clock.clone(),
        };
        let ended = fanout.deliver(task, deadline).await;
        let report = ended.as_ref().unwrap_or_else(|failed| &failed.report);
        let now = self.start.clock.now();
        self.start.metrics.emit(&report.metrics(&task.content, &self.own_name, now));
        let report = ended.map_err(|failed| failed.failure)?;
        if let (Some(audience), Content::Alert(alert)) = (report.audience, &task.content) {
            self.note_audience(alert, audience).await;
        }
        Ok(report)
    }

    /// The alert has been delivered: if the next publisher is told an older figure, or none, it has not failed.
    async fn note_audience(&self, alert: &Alert, audience: u64) {
        let noted = timeout(AUDIENCE_NOTE_TIMEOUT, self.alerts.note_audience(&alert.region, audience)).await;
        let error = match noted {
            Ok(Ok(())) => return,
            Ok(Err(failure)) => ErrorChain(&failure).to_string(),
            Err(_) => format!("not within {AUDIENCE_NOTE_TIMEOUT:?}"),
        };
        tracing::warn!(error, region = %alert.region, audience, "size of the audience not noted");
    }
}

/// The services of AWS that a fan-out uses.
#[derive(Debug)]
struct Aws {
    subscriptions: Subscriptions,
    alerts: Alerts,
    session: Session,
    dispatcher: Dispatcher,
}

impl Services for Aws {
    async fn has(&self, alert: &Alert) -> Result<bool, InternalError> {
        self.alerts.has(alert).await
    }

    async fn page(
        &self,
        audience: &Audience,
        range: SlotRange,
        after: Option<&Slot>,
    ) -> Result<AudiencePage, InternalError> {
        self.subscriptions.page(audience, range, after).await
    }

    async fn post(&self, connection: &ConnectionId, frame: &Frame) -> PostOutcome {
        self.session.post(connection, frame).await
    }

    async fn get_connection(&self, connection: &ConnectionId) -> ConnectionState {
        self.session.get_connection(connection).await
    }

    async fn close(&self, connection: &ConnectionId) -> ConnectionState {
        self.session.close(connection).await
    }

    async fn remove(&self, connections: Vec<ConnectionId>) -> Result<(), InternalError> {
        self.subscriptions.close_all(connections).await
    }

    async fn start(&self, task: &FanoutTask) -> Result<(), InternalError> {
        self.dispatcher.start(task).await
    }

    fn random(&self) -> f64 {
        rand::rng().random_range(0.0..=1.0)
    }
}
