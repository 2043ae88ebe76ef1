//! Posting to connections through the API Gateway management API.

use aws_sdk_apigatewaymanagement::{
    Client,
    config::{StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig},
    error::SdkError,
    operation::post_to_connection::PostToConnectionError,
    primitives::Blob,
};
use aws_types::SdkConfig;
use serde::Serialize;

use crate::{
    connection::ConnectionId,
    error::Chain,
    limits::{POST_ATTEMPT_TIMEOUT, POST_ATTEMPTS_MAX, POST_CONNECT_TIMEOUT, POST_TIMEOUT},
};

/// What became of one post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The gateway took it.
    Sent,
    /// The connection does not exist (any more).
    Gone,
    /// It did not arrive, after all attempts.
    Undelivered(Cause),
}

/// Why a post did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The account's rate, or the client's buffer, was exhausted at every attempt.
    Throttled,
    /// Not allowed: a missing permission, or an endpoint without its stage.
    Forbidden,
    /// No answer in time.
    TimedOut,
    /// The endpoint could not be reached.
    Unreachable,
    /// Any other answer.
    Rejected,
}

/// Posts frames to connections, each within bounds of time and attempts.
#[derive(Clone, Debug)]
pub struct Pusher {
    client: Client,
}

impl Pusher {
    /// A client for the endpoint that `AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI` names.
    pub fn new(sdk: &SdkConfig) -> Self {
        let config = aws_sdk_apigatewaymanagement::config::Builder::from(sdk)
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(POST_CONNECT_TIMEOUT)
                    .operation_attempt_timeout(POST_ATTEMPT_TIMEOUT)
                    .operation_timeout(POST_TIMEOUT)
                    .build(),
            )
            .retry_config(RetryConfig::standard().with_max_attempts(POST_ATTEMPTS_MAX))
            // It watches the speed of streams; a post is one small frame and has its time-outs.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        Self { client: Client::from_conf(config) }
    }

    /// Posts one frame. Every end is a value: a post never fails an alert.
    pub async fn post(&self, connection: &ConnectionId, frame: Blob) -> Delivery {
        let result = self.client.post_to_connection().connection_id(connection.as_str()).data(frame).send().await;
        match result {
            Ok(_) => Delivery::Sent,
            Err(error) => match outcome(&error) {
                Delivery::Undelivered(cause) => {
                    tracing::warn!(%connection, ?cause, error = %Chain(&error), "alert undelivered");
                    Delivery::Undelivered(cause)
                }
                outcome => outcome,
            },
        }
    }
}

fn outcome(error: &SdkError<PostToConnectionError>) -> Delivery {
    let cause = match error {
        SdkError::ServiceError(service) => match service.err() {
            PostToConnectionError::GoneException(_) => return Delivery::Gone,
            PostToConnectionError::ForbiddenException(_) => Cause::Forbidden,
            PostToConnectionError::LimitExceededException(_) => Cause::Throttled,
            _ => match service.raw().status().as_u16() {
                403 => Cause::Forbidden,
                410 => return Delivery::Gone,
                429 => Cause::Throttled,
                _ => Cause::Rejected,
            },
        },
        SdkError::TimeoutError(_) => Cause::TimedOut,
        SdkError::DispatchFailure(failure) if failure.is_timeout() => Cause::TimedOut,
        SdkError::DispatchFailure(_) => Cause::Unreachable,
        _ => Cause::Rejected,
    };
    Delivery::Undelivered(cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_aws::{Answer, sdk};

    /// Posts once to a service that answers so, and returns the outcome and the number of attempts.
    async fn post(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> (Delivery, usize) {
        let (sdk, requests) = sdk(answer);
        let connection = "eHrdFcnvvHcCE-w=".parse().expect("an id");
        let delivery = Pusher::new(&sdk).post(&connection, Blob::new("{}")).await;
        let attempts = requests.lock().expect("no test panics with the lock").len();
        (delivery, attempts)
    }

    fn error(status: u16, kind: &'static str) -> impl Fn(usize) -> Answer {
        move |_| Answer(status, kind, String::new())
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_succeed_later_is_tried_again_and_within_bounds() {
        let attempts_max = POST_ATTEMPTS_MAX as usize;
        assert_eq!(post(error(200, "")).await, (Delivery::Sent, 1));
        assert_eq!(post(error(410, "GoneException")).await, (Delivery::Gone, 1));
        assert_eq!(post(error(410, "")).await, (Delivery::Gone, 1), "a bare 410 is Gone too");
        assert_eq!(post(error(403, "ForbiddenException")).await, (Delivery::Undelivered(Cause::Forbidden), 1));
        assert_eq!(post(error(413, "PayloadTooLargeException")).await, (Delivery::Undelivered(Cause::Rejected), 1));
        let throttled = (Delivery::Undelivered(Cause::Throttled), attempts_max);
        assert_eq!(post(error(429, "LimitExceededException")).await, throttled);
        assert_eq!(post(error(503, "")).await, (Delivery::Undelivered(Cause::Rejected), attempts_max));
        let second_time = |before| {
            if before == 0 {
                Answer(429, "LimitExceededException", String::new())
            } else {
                Answer(200, "", String::new())
            }
        };
        assert_eq!(post(second_time).await, (Delivery::Sent, 2));
    }
}
