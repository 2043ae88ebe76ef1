//! The service's functions, run in this process exactly as the Lambda runtime runs them: JSON in, JSON out.

use std::{fmt, sync::Arc};

use apigw_local::{FunctionSetting, Invoke, InvokeError, StartFailure};
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, SharedCredentialsProvider};
use aws_types::{SdkConfig, region::Region};
use futures_util::{FutureExt, future::BoxFuture};
use hyper::body::Bytes;
use lambda_runtime::Diagnostic;
use shared::runtime::{
    environment::Environment,
    function::{Function, Invocation, StartContext, time_limits},
    metrics::Metrics,
    network::Network,
};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};
use tokio_util::task::AbortOnDropHandle;

/// Starts a function of the template by the name of its binary. `None` if this program does not have it.
pub(crate) fn start(
    function: &apigw_local::Function,
    setting: FunctionSetting,
) -> Option<Result<Arc<dyn Invoke>, StartFailure>> {
    let start = match function.binary.as_deref()? {
        "alerts" => on_thread::<alerts::Alerts>,
        "authorize" => on_thread::<authorize::Authorize>,
        "canary" => on_thread::<canary::Canary>,
        "connect" => on_thread::<connect::Connect>,
        "deliver" => on_thread::<deliver::Deliver>,
        "disconnect" => on_thread::<disconnect::Disconnect>,
        "publish" => on_thread::<publish::Publish>,
        "recover" => on_thread::<recover::Recover>,
        "scorer" => on_thread::<scorer::Scorer>,
        "subscribe" => on_thread::<subscribe::Subscribe>,
        _ => return None,
    };
    Some(start(&function.logical_id, setting))
}

/// A function with its own thread and runtime, as in Lambda. It is also faster: the AWS clients need half the time on a
/// runtime with one thread.
struct OnThread<F> {
    function: F,
    runtime: Handle,
    /// Ends the thread when it is dropped.
    _alive: oneshot::Sender<()>,
}

impl<F> fmt::Debug for OnThread<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnThread")
    }
}

fn on_thread<F: Function>(logical_id: &str, setting: FunctionSetting) -> Result<Arc<dyn Invoke>, StartFailure> {
    let environment: Environment = setting.environment.into_iter().collect();
    let sdk = sdk_config(&environment);
    let function = F::start(&StartContext {
        sdk,
        network: Network::System,
        environment,
        clock: setting.clock,
        metrics: Metrics::Off,
    })?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (alive, ended) = oneshot::channel();
    // The wait ends when the sender is dropped.
    std::thread::Builder::new()
        .name(format!("lambda-{logical_id}"))
        .spawn(move || runtime.block_on(async { drop(ended.await) }))?;
    Ok(Arc::new(OnThread { function, runtime: handle, _alive: alive }))
}

impl<F: Function> Invoke for OnThread<F> {
    fn invoke(
        self: Arc<Self>,
        payload: Bytes,
        invocation: apigw_local::Invocation,
    ) -> BoxFuture<'static, Result<Bytes, InvokeError>> {
        let runtime = self.runtime.clone();
        let invocation = Invocation { request_id: invocation.request_id, deadline: invocation.deadline };
        let task = runtime.spawn(async move {
            let event = serde_json::from_slice(&payload)
                .map_err(|error| function_error("DeserializeError", error.to_string()))?;
            let response = self.function.handle(event, invocation).await.map_err(|failure| {
                let Diagnostic { error_type, error_message, .. } = failure.into();
                function_error(&error_type, error_message)
            })?;
            serde_json::to_vec(&response)
                .map(Bytes::from)
                .map_err(|error| function_error("SerializeError", error.to_string()))
        });
        // Dropping the handle ends the invocation, as Lambda does at a timeout.
        let task = AbortOnDropHandle::new(task);
        async move { task.await.unwrap_or_else(|ended| Err(ended.into())) }.boxed()
    }
}

fn function_error(error_type: &str, error_message: String) -> InvokeError {
    InvokeError::FunctionError { error_type: error_type.to_owned(), error_message }
}

/// The configuration that `aws-config` would read from the same environment in a process of its own.
pub(crate) fn sdk_config(environment: &Environment) -> SdkConfig {
    let variable = |name: &str| environment.get(name).unwrap_or_default().to_owned();
    let credentials =
        Credentials::new(variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"), None, None, "environment");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .sleep_impl(aws_smithy_async::rt::sleep::SharedAsyncSleep::new(aws_smithy_async::rt::sleep::TokioSleep::new()))
        .time_source(aws_smithy_async::time::SharedTimeSource::new(aws_smithy_async::time::SystemTimeSource::new()))
        .retry_config(aws_types::sdk_config::RetryConfig::standard())
        .timeout_config(time_limits())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .region(Region::new(variable("AWS_REGION")))
        .service_config(environment.clone())
        .build()
}
