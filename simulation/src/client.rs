//! AWS clients whose requests a world answers.

use std::{collections::BTreeMap, fmt, sync::Arc};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_smithy_async::{
    rt::sleep::{SharedAsyncSleep, TokioSleep},
    time::{SharedTimeSource, SystemTimeSource},
};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use clock::Clock;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::{Value, json};
use shared::runtime::{
    environment::Environment,
    function::{Function, StartContext, time_limits},
    metrics::Metrics,
    network::Network,
};

/// A request of an AWS client.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// The execution environment that makes it: functions of different ones share no memory.
    pub process: String,
    /// The method of HTTP.
    pub method: String,
    /// The address that it is for.
    pub uri: String,
    /// The operation, where a header names it, as with DynamoDB: `PutItem`.
    pub operation: String,
    /// Whether Lambda is asked to take an invocation and not to wait for its result.
    pub is_async: bool,
    /// What it is signed with, where a function signs it itself.
    pub signature: String,
    /// The body.
    pub body: Vec<u8>,
}

/// An answer of AWS.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status of HTTP.
    pub status: u16,
    /// The body, JSON.
    pub body: Vec<u8>,
}

impl Reply {
    /// Success, with a body.
    ///
    /// # Panics
    ///
    /// If the body does not serialise.
    pub fn json(body: &impl Serialize) -> Self {
        Self { status: 200, body: serde_json::to_vec(body).expect("a body that serialises") }
    }

    /// An error as the AWS JSON protocol writes it.
    pub fn error(status: u16, kind: &str, message: &str) -> Self {
        let body = json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{kind}"), "message": message});
        Self { status, body: body.to_string().into_bytes() }
    }
}

impl Reply {
    /// DynamoDB's, where a partition has no units left.
    pub(crate) fn throttled() -> Self {
        Self::error(400, "ProvisionedThroughputExceededException", "the partition has no units left")
    }

    /// DynamoDB's, where a transaction is cancelled: the code of each action.
    pub(crate) fn cancelled<'a>(codes: impl Iterator<Item = &'a str>) -> Self {
        let reasons: Vec<Value> = codes.map(|code| json!({"Code": code})).collect();
        let body = json!({
            "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
            "Message": "Transaction cancelled",
            "CancellationReasons": reasons,
        });
        Self { status: 400, body: body.to_string().into_bytes() }
    }
}

/// The answer never arrives: the connection broke, before or after the request took effect.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the connection broke")]
pub struct Lost;

/// What stands where AWS would be.
pub trait World: Send + Sync + 'static {
    /// Answers a request in its own time.
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Reply, Lost>>;
}

struct Connector<W> {
    world: Arc<W>,
    process: String,
}

impl<W> fmt::Debug for Connector<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("process", &self.process).finish_non_exhaustive()
    }
}

impl<W: World> HttpConnector for Connector<W> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let call = Call {
            process: self.process.clone(),
            method: request.method().to_owned(),
            uri: request.uri().to_owned(),
            operation: target.rsplit('.').next().unwrap_or_default().to_owned(),
            is_async: request.headers().get("x-amz-invocation-type") == Some("Event"),
            body: request.body().bytes().unwrap_or_default().to_vec(),
            ..Call::default()
        };
        let answer = Arc::clone(&self.world).answer(call);
        HttpConnectorFuture::new(async move {
            let Reply { status, body } = answer.await.map_err(|lost| ConnectorError::io(lost.into()))?;
            let status = StatusCode::try_from(status).map_err(|error| ConnectorError::other(error.into(), None))?;
            Ok(HttpResponse::new(status, SdkBody::from(body)))
        })
    }
}

/// What the clients of one process are made from: retries and time limits as in the cloud, and the world in place of
/// the network.
pub fn sdk<W: World>(world: &Arc<W>, process: &str) -> SdkConfig {
    let connector = SharedHttpConnector::new(Connector { world: Arc::clone(world), process: process.to_owned() });
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        // Clients of one region share a budget of retries within a process of the system. Processes share nothing.
        .region(Region::new(format!("region-of-{process}")))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "test")))
        .endpoint_url("http://world.example")
        .retry_config(aws_config::retry::RetryConfig::standard())
        .timeout_config(time_limits())
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .time_source(SharedTimeSource::new(SystemTimeSource::new()))
        .http_client(http_client_fn(move |_, _| connector.clone()))
        .build()
}

/// The variables of the template's tables and functions, whose names are their logical ids, and `more`.
pub fn environment(more: &[(&str, &str)]) -> Environment {
    let fixed = [
        ("SUBSCRIPTIONS_TABLE", "SubscriptionsTable"),
        ("ALERTS_TABLE", "AlertsTable"),
        ("DELIVER_FUNCTION", "DeliverFunction"),
    ];
    let variables: BTreeMap<String, String> =
        fixed.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    variables.into_iter().collect()
}

/// Starts a function as a process of its own in the world.
///
/// # Panics
///
/// If the environment does not suffice.
pub fn start<F: Function, W: World>(world: &Arc<W>, process: &str, clock: &Clock, environment: Environment) -> F {
    let start = StartContext {
        environment,
        sdk: sdk(world, process),
        network: Network::System,
        clock: clock.clone(),
        metrics: Metrics::Off,
    };
    F::start(&start).unwrap_or_else(|error| panic!("{process} does not start: {error}"))
}
