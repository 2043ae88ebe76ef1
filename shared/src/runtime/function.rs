//! What every Lambda function shares: reading its environment once, building its clients once, and running.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_config::{SdkConfig, timeout::TimeoutConfig};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use clock::{Clock, system_time};
use futures_util::FutureExt;
use lambda_runtime::{LambdaEvent, service_fn};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::{
    error::InternalError,
    limits::{AWS_ATTEMPT_TIMEOUT, AWS_CALL_TIMEOUT},
    runtime::{
        environment::{Environment, InvalidEnvironment},
        metrics::Metrics,
        network::Network,
    },
};

/// A Lambda function: what it needs at start, and what it does with an event.
pub trait Function: Sized + Send + Sync + 'static {
    type Event: DeserializeOwned + Send;
    type Response: Serialize + Send;

    /// Reads its environment and builds its clients, once for each execution environment.
    fn start(start: &StartContext) -> Result<Self, InvalidEnvironment>;

    /// Handles one event. A failure is reported to Lambda, which retries an asynchronous invocation.
    fn handle(
        &self,
        event: Self::Event,
        invocation: Invocation,
    ) -> impl Future<Output = Result<Self::Response, InternalError>> + Send;
}

/// What a function knows of the invocation that it handles.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Names the invocation. Lambda keeps it when it tries an asynchronous invocation again.
    pub request_id: String,
    /// When it has to have ended.
    pub deadline: Instant,
}

/// What a function finds when it starts.
#[derive(Clone, Debug)]
pub struct StartContext {
    pub environment: Environment,
    /// Region, credentials, endpoints and HTTP client for the AWS clients.
    pub sdk: SdkConfig,
    /// Where all other connections lead.
    pub network: Network,
    pub clock: Clock,
    /// Where its metrics go.
    pub metrics: Metrics,
}

/// The `main` of every function: runs `F` on the Lambda runtime until the execution environment ends.
pub fn run<F: Function>() -> Result<(), lambda_runtime::Error> {
    lambda_runtime::tracing::init_default_subscriber();
    // One event at a time and nothing to compute beside it: a second thread would only add hand-overs.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let http =
            aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let environment = Environment::from_process();
        let sdk = aws_config::from_env().http_client(http).timeout_config(time_limits()).load().await;
        let start = StartContext {
            sdk: sdk.into_builder().service_config(environment.clone()).build(),
            environment,
            network: Network::System,
            clock: Clock::System,
            metrics: Metrics::Log,
        };
        let function = Arc::new(F::start(&start)?);
        lambda_runtime::run(service_fn(move |event: LambdaEvent<F::Event>| {
            let function = Arc::clone(&function);
            let LambdaEvent { payload, context, .. } = event;
            let deadline = Instant::now() + left_until(context.deadline);
            let invocation = Invocation { request_id: context.request_id, deadline };
            // Boxed, because the future of a whole function nests deeper than the compiler follows.
            async move { function.handle(payload, invocation).boxed().await }
        }))
        .await
    })
}

/// The time limits of AWS clients, which have none of their own once they are connected.
pub fn time_limits() -> TimeoutConfig {
    TimeoutConfig::builder().operation_attempt_timeout(AWS_ATTEMPT_TIMEOUT).operation_timeout(AWS_CALL_TIMEOUT).build()
}

/// Longest that Lambda lets an invocation take. Source: Lambda quotas.
const INVOCATION_MAX: Duration = Duration::from_secs(15 * 60);

/// Time until a deadline in milliseconds since the Unix epoch, as the Runtime API states it. One that has passed
/// already is none: `cargo lambda watch` states a constant.
fn left_until(deadline_ms: u64) -> Duration {
    let deadline = SystemTime::UNIX_EPOCH + Duration::from_millis(deadline_ms);
    deadline.duration_since(system_time()).unwrap_or(INVOCATION_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_has_passed_is_none() {
        assert_eq!(left_until(600_000), INVOCATION_MAX);
        let in_a_minute = system_time() + Duration::from_secs(60);
        let since_epoch = in_a_minute.duration_since(SystemTime::UNIX_EPOCH).expect("after the epoch");
        let left = left_until(u64::try_from(since_epoch.as_millis()).expect("not that late"));
        assert!(left <= Duration::from_secs(60) && left > Duration::from_secs(50), "{left:?}");
    }
}
