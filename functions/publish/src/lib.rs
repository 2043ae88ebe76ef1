//! Publishes an alert, or takes one back, asked for by an HTTP request, a client of the WebSocket API, an EventBridge
//! event, or a direct invocation.

mod event;
mod webhook;

use aws_lambda_events::event::apigw::ApiGatewayWebsocketProxyRequest;
use clock::Clock;
use serde::Serialize;
use serde_json::{Value, json};
use shared::{
    auth::access::{Authorization, Regions, USER_FIELD, authorizer_field},
    error::{ApiError, ErrorChain, InternalError},
    limits::{
        ALERTS_PER_MINUTE_DEFAULT, ALERTS_PER_MINUTE_MAX, PUSH_RATE_DEFAULT, PUSH_RATE_MAX, PUSH_RATE_MIN,
        REGIONS_MAX_DEFAULT, REGIONS_OF_ALL_MAX, SCORE_MAX, SCORE_THRESHOLD_DEFAULT,
    },
    model::{
        connection::Connection,
        publication::{Publication, PublisherId},
        publications::Publications,
        repeat::RepeatRule,
    },
    protocol::{event::AnyEvent, reply::Reply},
    publish::{
        publisher::{Dispatcher, PublishOutcome, Published, Publisher, alerts_per_minute},
        removal::RemovalOutcome,
    },
    runtime::{
        environment::InvalidEnvironment,
        function::{Function, Invocation, StartContext},
    },
    tables::{
        alerts::Alerts,
        subscriptions::{
            Subscriptions,
            connection_state::{Charged, MembershipChange, MessageRate},
        },
    },
};
use tokio::time::Instant;

use crate::{
    event::{Caller, PublishRequest, RemovalEvent},
    webhook::Webhook,
};

#[derive(Debug)]
pub struct Publish {
    publisher: Publisher,
    subscriptions: Subscriptions,
    message_rate: MessageRate,
    authorization: Authorization,
    webhook: Webhook,
    clock: Clock,
}

/// What the caller gets, in the caller's own form.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum PublishResponse {
    /// A response of the HTTP API.
    Http(HttpResponse),
    /// What the gateway sends back over the socket, as the route has a route response.
    Frame(FrameResponse),
    /// The result of an invocation.
    Published(PublishOutcome),
    /// The result of an invocation that takes an alert back.
    Removed(RemovalOutcome),
    /// The results of an invocation with several publications, as `{"results": …}`.
    Results(Value),
    /// The refusal of an invocation, as `{"error": …}`.
    Rejected(Value),
}

/// A response in the form that an HTTP API expects (payload version 2.0).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpResponse {
    status_code: u16,
    headers: Value,
    body: String,
}

/// A response to a message.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FrameResponse {
    status_code: u16,
    body: String,
}

impl Function for Publish {
    type Event = AnyEvent;
    type Response = PublishResponse;

    fn start(start: &StartContext) -> Result<Self, InvalidEnvironment> {
        let mut environment = start.environment.reader();
        let alerts = Alerts::from_env(start, &mut environment);
        let regions_max = environment.whole_number("REGIONS_MAX", REGIONS_MAX_DEFAULT, 1..=REGIONS_OF_ALL_MAX);
        let alerts = alerts.with_regions_max(regions_max);
        let alerts = alerts.with_repeat_rule(RepeatRule::from_env(&mut environment));
        let deliver = environment.required("DELIVER_FUNCTION");
        let score_threshold = environment.decimal_number("SCORE_THRESHOLD", SCORE_THRESHOLD_DEFAULT, 0.0..=SCORE_MAX);
        let push_rate = environment.decimal_number("PUSH_RATE", PUSH_RATE_DEFAULT, PUSH_RATE_MIN..=PUSH_RATE_MAX);
        let per_minute = 0..=ALERTS_PER_MINUTE_MAX;
        let per_minute = environment.whole_number("ALERTS_PER_MINUTE", ALERTS_PER_MINUTE_DEFAULT, per_minute);
        let webhook = Webhook::from_env(start, &mut environment);
        let subscriptions = Subscriptions::from_env(start, &mut environment);
        let message_rate = MessageRate::from_env(&mut environment);
        let authorization = environment.parsed(Authorization::VARIABLE, Authorization::Off);
        environment.finish(Self {
            subscriptions,
            message_rate,
            authorization,
            webhook,
            clock: start.clock.clone(),
            publisher: Publisher {
                alerts,
                dispatcher: Dispatcher::new(aws_sdk_lambda::Client::new(&start.sdk), deliver, start.clock.clone()),
                score_threshold,
                push_rate,
                rate_limit: alerts_per_minute(per_minute),
            },
        })
    }

    async fn handle(
        &self,
        AnyEvent(event): AnyEvent,
        invocation: Invocation,
    ) -> Result<PublishResponse, InternalError> {
        if let Some(message) = event::message(&event) {
            return self.answer(&message, invocation.deadline).await;
        }
        if event::is_webhook(&event) {
            match self.webhook.check(&event, self.clock.now()).await {
                Ok(Ok(())) => {}
                Ok(Err(refusal)) => return Ok(refused(Caller::Http, &refusal)),
                Err(failure) => {
                    tracing::error!(error = %ErrorChain(&failure), "webhook not checked");
                    return Ok(refused(Caller::Http, &ApiError::unavailable()));
                }
            }
        }
        if let Some(removal) = event::removal(&event) {
            return self.take_back(removal).await;
        }
        let PublishRequest { caller, publisher, publications } = event::parse(event, &invocation.request_id);
        match publications {
            Ok(Publications::One(publication)) => {
                let published = self.publisher.publish(publication, &publisher, invocation.deadline).await;
                answer_of_one(caller, published)
            }
            Ok(Publications::Several(publications)) => {
                let results = self.publish_each(publications, &publisher, invocation.deadline).await;
                answer_of_several(caller, results)
            }
            Err(refusal) => Ok(refused(caller, &refusal)),
        }
    }
}

fn answer_of_one(caller: Caller, published: Published) -> Result<PublishResponse, InternalError> {
    match (caller, published) {
        (Caller::Invocation, Ok(Ok(outcome))) => Ok(PublishResponse::Published(outcome)),
        // Lambda tries a failed asynchronous invocation again, with the same document: what may pass later does.
        (Caller::Invocation, Ok(Err(refusal))) if refusal.code.retryable() => {
            Err(InternalError::new("publishing an alert", refusal))
        }
        (Caller::Invocation, Err(failure)) => Err(failure),
        (Caller::Http, Ok(Ok(outcome))) => Ok(http(200, &outcome)),
        (_, Ok(Err(refusal))) => Ok(refused(caller, &refusal)),
        (Caller::Http, Err(failure)) => {
            tracing::error!(error = %ErrorChain(&failure), "alert not published");
            Ok(refused(caller, &ApiError::unavailable()))
        }
    }
}

/// The results of several publications. An invocation of which a part may pass later fails: Lambda tries it again with
/// the same document, and the others are told as duplicates then.
fn answer_of_several(caller: Caller, results: Vec<Published>) -> Result<PublishResponse, InternalError> {
    let mut answers = Vec::new();
    for result in results {
        let refusal = match result {
            Ok(Ok(outcome)) => {
                answers.push(json!(outcome));
                continue;
            }
            Err(failure) if caller == Caller::Invocation => return Err(failure),
            Ok(Err(refusal)) if caller == Caller::Invocation && refusal.code.retryable() => {
                return Err(InternalError::new("publishing an alert", refusal));
            }
            Ok(Err(refusal)) => refusal,
            Err(failure) => {
                tracing::error!(error = %ErrorChain(&failure), "alert not published");
                ApiError::unavailable()
            }
        };
        if caller == Caller::Invocation {
            tracing::warn!(%refusal, field = refusal.field, "publication refused");
        }
        answers.push(json!({"error": refusal.body()}));
    }
    let body = json!({"results": answers});
    Ok(if caller == Caller::Http { http(200, &body) } else { PublishResponse::Results(body) })
}

impl Publish {
    async fn take_back(
        &self,
        RemovalEvent { caller, publisher, by, request }: RemovalEvent,
    ) -> Result<PublishResponse, InternalError> {
        let removed = match &request {
            Ok(request) => self.publisher.take_back(request, &publisher, &by).await,
            Err(refusal) => Ok(Err(refusal.clone())),
        };
        match (caller, removed) {
            (Caller::Http, Ok(Ok(removed))) => Ok(http(200, &removed)),
            (Caller::Invocation, Ok(Ok(removed))) => Ok(PublishResponse::Removed(removed)),
            // Lambda tries a failed asynchronous invocation again.
            (Caller::Invocation, Ok(Err(refusal))) if refusal.code.retryable() => {
                Err(InternalError::new("taking an alert back", refusal))
            }
            (Caller::Invocation, Err(failure)) => Err(failure),
            (_, Ok(Err(refusal))) => Ok(refused(caller, &refusal)),
            (Caller::Http, Err(failure)) => {
                tracing::error!(error = %ErrorChain(&failure), "alert not taken back");
                Ok(refused(caller, &ApiError::unavailable()))
            }
        }
    }

    /// Publishes those of several that are valid, and has a result for each.
    async fn publish_each(
        &self,
        publications: Vec<Result<Publication, ApiError>>,
        publisher: &PublisherId,
        deadline: Instant,
    ) -> Vec<Published> {
        let valid = publications.iter().filter_map(|publication| publication.as_ref().ok()).cloned().collect();
        let mut published = self.publisher.publish_all(valid, publisher, deadline).await.into_iter();
        let result = |publication| match publication {
            Ok(_) => published.next(),
            Err(refusal) => Some(Ok(Err(refusal))),
        };
        publications.into_iter().filter_map(result).collect()
    }

    /// Answers a client that wants to publish.
    async fn answer(
        &self,
        event: &ApiGatewayWebsocketProxyRequest,
        deadline: Instant,
    ) -> Result<PublishResponse, InternalError> {
        let connection = shared::protocol::event::connection(event, &self.clock)?;
        let body = match self.publish_of(&connection, event, deadline).await {
            Ok(Ok(outcome)) => Reply::Published(&outcome).frame(),
            Ok(Err(refusal)) => Reply::Error(refusal.body()).frame(),
            Err(failure) => {
                tracing::error!(
                    connection = %connection.id, error = %ErrorChain(&failure),
                    "alert of a client not published"
                );
                Reply::Error(ApiError::unavailable().body()).frame()
            }
        };
        Ok(PublishResponse::Frame(FrameResponse { status_code: 200, body }))
    }

    async fn publish_of(
        &self,
        connection: &Connection,
        event: &ApiGatewayWebsocketProxyRequest,
        deadline: Instant,
    ) -> Published {
        if let Err(refusal) =
            self.subscriptions.admit(connection, MembershipChange::None, Charged::Message(self.message_rate)).await?
        {
            return Ok(Err(refusal));
        }
        let allowed = Regions::published_by(event, self.authorization);
        let publication = match event::socket(event.body.as_deref().unwrap_or_default(), &allowed) {
            Ok(publication) => publication,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let user = authorizer_field(event, USER_FIELD).unwrap_or_default();
        self.publisher.publish(publication, &PublisherId::new("user", user), deadline).await
    }
}

fn refused(caller: Caller, refusal: &ApiError) -> PublishResponse {
    let body = json!({"error": refusal.body()});
    match caller {
        Caller::Http => {
            let mut answer = http(refusal.code.http_status(), &body);
            if let (PublishResponse::Http(response), Some(after)) = (&mut answer, refusal.retry_after) {
                // Whole seconds, rounded up.
                response.headers["retry-after"] = json!(after.as_millis().div_ceil(1_000).to_string());
            }
            answer
        }
        Caller::Invocation => {
            tracing::warn!(%refusal, field = refusal.field, "publication refused");
            PublishResponse::Rejected(body)
        }
    }
}

fn http(status_code: u16, body: &impl Serialize) -> PublishResponse {
    PublishResponse::Http(HttpResponse {
        status_code,
        headers: json!({"content-type": "application/json; charset=utf-8", "cache-control": "no-store"}),
        body: serde_json::to_string(body).expect("strings, numbers and booleans always serialise"),
    })
}
