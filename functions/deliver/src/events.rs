//! The leg of the Event API: one publication for each alert and each removal, beside the fan-out.

use clock::Timestamp;
use serde_json::json;
use shared::{
    error::{ErrorChain, InternalError},
    fanout::{Content, Event, FanoutTask, was_taken_back},
    publish::publisher::Dispatcher,
    push::{EventPublisher, EventsEndpoint},
    runtime::{
        environment::{InvalidEnvironment, Reader},
        function::StartContext,
        metrics::document,
    },
    tables::alerts::Alerts,
};

/// Publishes on the Event API.
#[derive(Debug)]
pub(crate) struct Events {
    publisher: EventPublisher,
    alerts: Alerts,
    /// Invokes this function.
    dispatcher: Dispatcher,
    own_name: String,
    start: StartContext,
}

/// Where the Event API is, if there is one.
pub(crate) fn endpoint(environment: &mut Reader<'_>) -> Option<EventsEndpoint> {
    let url: String = environment.parsed("EVENTS_PUBLISH_URL", String::new());
    (!url.is_empty()).then(|| environment.understood("EVENTS_PUBLISH_URL", url.parse())).flatten()
}

impl Events {
    pub(crate) fn new(
        endpoint: EventsEndpoint,
        alerts: Alerts,
        dispatcher: Dispatcher,
        own_name: String,
        start: &StartContext,
    ) -> Result<Self, InvalidEnvironment> {
        let publisher =
            EventPublisher::new(&start.sdk, &start.network, endpoint).map_err(InvalidEnvironment::because)?;
        Ok(Self { publisher, alerts, dispatcher, own_name, start: start.clone() })
    }

    /// Publishes what the first invocation of a fan-out delivers, while it delivers it. What the Event API does not
    /// take is handed over to another invocation, so that the fan-out neither waits for it nor fails with it.
    pub(crate) async fn beside(&self, task: &FanoutTask) {
        if task.part.is_some() {
            return;
        }
        let Err(failure) = self.publish(task).await else { return };
        let alert = task.content.id();
        tracing::warn!(error = %ErrorChain(&failure), alert, "alert not published on the Event API yet");
        if let Err(failure) = self.dispatcher.start(&task.for_events_alone()).await {
            tracing::error!(error = %ErrorChain(&failure), alert, "alert not handed over to another invocation");
        }
    }

    /// Publishes what a task delivers, unless it was taken back.
    ///
    /// # Errors
    ///
    /// If the Event API did not take it within the bounds of [`EventPublisher::publish`].
    pub(crate) async fn publish(&self, task: &FanoutTask) -> Result<(), InternalError> {
        let Some(Event { channel, frame }) = task.content.event() else { return Ok(()) };
        if let Content::Alert(alert) = &task.content
            && was_taken_back(self.alerts.has(alert), alert).await
        {
            return Ok(());
        }
        let published = self.publisher.publish(&channel, &frame).await;
        let now = self.start.clock.now();
        self.emit(task, published.is_ok(), now);
        if published.is_ok() {
            let since = task.redriven_at.unwrap_or(task.dispatched_at);
            let lag_ms = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
            tracing::info!(
                alert = task.content.id(),
                channel,
                seq = task.content.seq(),
                lag_ms,
                "alert published on the Event API"
            );
        }
        published
    }

    /// Counts one event.
    fn emit(&self, task: &FanoutTask, is_published: bool, now: Timestamp) {
        let metrics = [
            ("EventsPublished", "Count", json!(u8::from(is_published))),
            ("EventsUndelivered", "Count", json!(u8::from(!is_published))),
        ];
        let mut document = document(&metrics, &self.own_name, now);
        document["Alert"] = json!(task.content.id());
        document["Region"] = json!(task.content.place());
        document["Seq"] = json!(task.content.seq());
        self.start.metrics.emit(&document);
    }
}
