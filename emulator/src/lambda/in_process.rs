//! The project's own functions, run in this process exactly as the Lambda runtime runs them: JSON in, JSON out.

use std::{fmt, path::Path, sync::Arc};

use aws_types::{SdkConfig, region::Region};
use clock::Clock;
use futures_util::{FutureExt, future::BoxFuture};
use hyper::body::Bytes;
use lambda_runtime::Diagnostic;
use shared::runtime::{
    environment::Environment,
    function::{Function, Invocation, Start},
    metrics::Metrics,
};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};
use tokio_util::task::AbortOnDropHandle;

use super::{InvokeError, panicked};
use crate::{
    aws,
    template::{self, Code},
};

/// A function of this workspace, on a thread and a runtime of its own, as it has them in Lambda. That is also much
/// faster: the AWS clients need half the time on a runtime of one thread.
pub(crate) struct InProcess {
    function: Arc<dyn Invoke>,
    runtime: Handle,
    /// Ends the thread when it is dropped.
    _alive: oneshot::Sender<()>,
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcess")
    }
}

/// [`Function`] without its types.
trait Invoke: Send + Sync {
    fn invoke(
        self: Arc<Self>,
        payload: Bytes,
        invocation: Invocation,
    ) -> BoxFuture<'static, Result<Bytes, InvokeError>>;
}

struct Typed<F>(F);

impl<F: Function> Invoke for Typed<F> {
    fn invoke(
        self: Arc<Self>,
        payload: Bytes,
        invocation: Invocation,
    ) -> BoxFuture<'static, Result<Bytes, InvokeError>> {
        async move {
            let event = serde_json::from_slice(&payload)
                .map_err(|error| function_error("DeserializeError", error.to_string()))?;
            let response = self.0.handle(event, invocation).await.map_err(|failure| {
                let Diagnostic { error_type, error_message, .. } = failure.into();
                function_error(&error_type, error_message)
            })?;
            serde_json::to_vec(&response)
                .map(Bytes::from)
                .map_err(|error| function_error("SerializeError", error.to_string()))
        }
        .boxed()
    }
}

fn function_error(error_type: &str, error_message: String) -> InvokeError {
    InvokeError::FunctionError { error_type: error_type.to_owned(), error_message }
}

/// The functions that are linked into this program.
const OURS: [&str; 10] =
    ["alerts", "authorize", "canary", "connect", "deliver", "disconnect", "publish", "recover", "scorer", "subscribe"];

/// Whether a function of the template in the directory `template` is one of this workspace, and not somebody else's of
/// the same name.
pub(super) fn is_ours(function: &template::Function, template: &Path) -> bool {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().and_then(|path| path.canonicalize().ok());
    let code = match &function.code {
        Code::Path(path) => template.join(path).canonicalize().ok(),
        Code::Inline(_) | Code::Elsewhere => None,
    };
    function.binary.as_deref().is_some_and(|binary| OURS.contains(&binary)) && code.is_some() && code == workspace
}

impl InProcess {
    /// Starts the function that the template builds from `function.binary`.
    pub(super) fn start(
        function: &template::Function,
        environment: Environment,
        clock: Clock,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let start = Start { sdk: sdk_config(&environment), environment, clock, metrics: Metrics::Off };
        let invoke = match function.binary.as_deref() {
            Some("alerts") => typed::<alerts::Alerts>(&start)?,
            Some("authorize") => typed::<authorize::Authorize>(&start)?,
            Some("canary") => typed::<canary::Canary>(&start)?,
            Some("connect") => typed::<connect::Connect>(&start)?,
            Some("deliver") => typed::<deliver::Deliver>(&start)?,
            Some("disconnect") => typed::<disconnect::Disconnect>(&start)?,
            Some("publish") => typed::<publish::Publish>(&start)?,
            Some("recover") => typed::<recover::Recover>(&start)?,
            Some("scorer") => typed::<scorer::Scorer>(&start)?,
            Some("subscribe") => typed::<subscribe::Subscribe>(&start)?,
            other => return Err(format!("no function of this workspace is {other:?}").into()),
        };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (alive, ended) = oneshot::channel();
        let name = format!("lambda-{}", function.logical_id);
        // The sender is dropped and never used: either way the wait is over.
        std::thread::Builder::new().name(name).spawn(move || runtime.block_on(async { drop(ended.await) }))?;
        Ok(Self { function: invoke, runtime: handle, _alive: alive })
    }

    /// Invokes it. Whoever stops waiting ends the invocation, as Lambda does at a time-out.
    pub(super) async fn invoke(&self, payload: Bytes, invocation: Invocation) -> Result<Bytes, InvokeError> {
        let task = self.runtime.spawn(Arc::clone(&self.function).invoke(payload, invocation));
        AbortOnDropHandle::new(task).await.unwrap_or_else(|ended| Err(panicked(ended)))
    }
}

fn typed<F: Function>(start: &Start) -> Result<Arc<dyn Invoke>, Box<dyn std::error::Error + Send + Sync>> {
    Ok(Arc::new(Typed(F::start(start)?)))
}

/// What `aws-config` would make of the same environment, had the function a process of its own.
fn sdk_config(environment: &Environment) -> SdkConfig {
    aws::base_config().region(Region::new(aws::region(environment))).service_config(environment.clone()).build()
}
