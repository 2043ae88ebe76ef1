//! Entry points of the fuzz targets, behind the feature `fuzzing`.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use clock::Clock;
use futures_util::future::BoxFuture;
use hyper::body::Bytes;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::{Builder, Runtime},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    aws_query::QueryInput,
    event_api::EventApis,
    gateway::{self, Gateway, GatewayOptions, GatewaySettings},
    http::{self, Guard, Request},
    http_api::HttpApis,
    invocation::{FunctionSetting, Invocation, Invoke, InvokeError, LinkedFunctions, StartFailure},
    lambda::{Functions, process},
    recorder::Recorder,
    sns::Topics,
    sqs::{self, Queues},
    template::{self, EventPattern, Function, Package, SelectionExpression, Template, TemplateInputs},
};

/// Reads a template.
pub fn template(text: &str) {
    if let Err(error) = Template::parse(text, &TemplateInputs::default()) {
        assert!(!error.to_string().is_empty());
    }
}

/// Parses a selection expression and evaluates it for a message.
pub fn selection(expression: &str, message: &str) {
    if let Ok(selection) = SelectionExpression::parse(expression) {
        let _ = selection.evaluate(message);
    }
}

/// Serves the bytes of a client on a connection whose routes respond with mapping templates.
pub fn frames(bytes: &[u8]) {
    static PARTS: OnceLock<(Runtime, Arc<Gateway>)> = OnceLock::new();
    let (runtime, gateway) = PARTS.get_or_init(|| {
        let template =
            Template::parse(include_str!("../tests/program/fuzzed.yaml"), &TemplateInputs::default()).expect("valid");
        let functions = Functions::unreachable(&BTreeMap::new());
        let settings =
            GatewaySettings::new(&GatewayOptions::default(), 1.0, Arc::default(), Arc::default(), Arc::default());
        let recorder = Recorder::new(Clock::System);
        let address = ([127, 0, 0, 1], 8765).into();
        let gateway = Gateway::new(template.sockets, address, functions, None, Clock::System, settings, recorder);
        (Builder::new_current_thread().enable_all().build().expect("a runtime"), gateway)
    });
    runtime.block_on(Arc::clone(gateway).serve_bytes(bytes));
}

/// Serves the bytes of a client on a socket of an Event API, which it may do everything with.
pub fn events(bytes: &[u8]) {
    static PARTS: OnceLock<(Runtime, EventApis)> = OnceLock::new();
    let (runtime, apis) = PARTS.get_or_init(|| {
        let template = include_str!("../tests/program/fuzzed_events.yaml");
        let template = Template::parse(template, &TemplateInputs::default()).expect("valid");
        let functions = Functions::unreachable(&BTreeMap::new());
        let (options, recorder) = (GatewayOptions::default(), Recorder::new(Clock::System));
        let apis =
            EventApis::new(template.event_apis, &options, 1.0, functions, Clock::System, Arc::default(), recorder);
        (Builder::new_current_thread().enable_all().build().expect("a runtime"), apis)
    });
    runtime.block_on(apis.serve_bytes(bytes));
}

/// Serves the bytes of a client over a connection to HTTP and REST APIs, whose functions and authorizers all give this
/// answer.
pub fn http(bytes: &[u8], answer: &[u8]) {
    static PARTS: OnceLock<(Runtime, Arc<Answering>, Arc<HttpApis>)> = OnceLock::new();
    let (runtime, functions, apis) = PARTS.get_or_init(|| {
        let template = include_str!("../tests/program/fuzzed_http.yaml");
        let template = Template::parse(template, &TemplateInputs::default()).expect("valid");
        let answering = Arc::<Answering>::default();
        let linked = Functions::alone(&template.functions, &Arc::clone(&answering), None);
        let (quotas, options, http) = (Arc::default(), GatewayOptions::default(), Arc::default());
        let apis = HttpApis::new(template.http_apis, |_| false, linked, Clock::System, quotas, &options, http);
        (Builder::new_current_thread().enable_all().build().expect("a runtime"), answering, Arc::new(apis))
    });
    *functions.0.lock().unwrap_or_else(PoisonError::into_inner) = Bytes::copy_from_slice(answer);
    let exchanged = async {
        let (client, server) = tokio::io::duplex(bytes.len().max(1));
        let (mut replies, mut requests) = tokio::io::split(client);
        requests.write_all(bytes).await.expect("room for all");
        requests.shutdown().await.expect("open");
        let (peer, apis) = (([127, 0, 0, 1], 1).into(), Arc::clone(apis));
        let routed = Arc::clone(&apis);
        let guard = Guard::new(([127, 0, 0, 1], 8766).into(), &[]).except(move |request| routed.is_open_to(request));
        let handler = move |request: Request, peer| {
            let apis = Arc::clone(&apis);
            async move {
                match apis.handle(request, peer).await {
                    Ok(response) => response,
                    Err(request) => apis.not_found(&request.into_parts().0),
                }
            }
        };
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        let served = http::serve_connection(server, false, peer, guard, shutdown, tasks.clone(), handler);
        let mut read = Vec::new();
        let (_, _) = tokio::join!(replies.read_to_end(&mut read), served);
        tasks.close();
        tasks.wait().await;
        read
    };
    let replied = runtime.block_on(exchanged);
    assert!(replied.is_empty() || replied.starts_with(b"HTTP/1."), "{}", String::from_utf8_lossy(&replied));
}

/// Functions that all give the same answer.
#[derive(Debug, Default)]
struct Answering(Mutex<Bytes>);

impl LinkedFunctions for Arc<Answering> {
    fn start(&self, _: &Function, _: FunctionSetting) -> Option<Result<Arc<dyn Invoke>, StartFailure>> {
        Some(Ok(Arc::<Answering>::clone(self)))
    }
}

impl Invoke for Answering {
    fn invoke(self: Arc<Self>, payload: Bytes, _: Invocation) -> BoxFuture<'static, Result<Bytes, InvokeError>> {
        let event: Value = serde_json::from_slice(&payload).expect("an event is JSON");
        assert!(event.is_object(), "{event}");
        let answer = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async move { Ok(answer) })
    }
}

/// Reads a `samconfig.toml`.
pub fn samconfig(text: &str) {
    if let Err(error) = template::read_samconfig(text) {
        assert!(!error.to_string().is_empty());
    }
}

/// Looks for templates and code beside what the CDK and the Serverless Framework write: the manifest of a `cdk.out`, a
/// manifest of assets, the state of a service, and the key of an object.
pub fn manifests([manifest, assets, state, key]: [&str; 4]) {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in [
        ("manifest.json", manifest),
        ("App.assets.json", assets),
        ("serverless-state.json", state),
        ("App.template.json", "{}"),
    ] {
        fs::write(directory.path().join(name), text).expect("written");
    }
    if let Err(error) = template::locate(directory.path()) {
        assert!(!error.to_string().is_empty());
    }
    let package = Package { asset: None, key: Some(key.to_owned()) };
    assert!(package.find(directory.path()).is_none_or(|found| found.is_absolute()));
}

/// Carries out a form of SNS, and sends it as a message of SQS.
pub fn form(text: &str) {
    static PARTS: OnceLock<(Arc<Topics>, Arc<Queues>)> = OnceLock::new();
    let (topics, queues) = PARTS.get_or_init(|| {
        let template = include_str!("../tests/program/fuzzed_services.yaml");
        let template = Template::parse(template, &TemplateInputs::default()).expect("valid");
        let queues = Arc::new(Queues::new(template.queues, Clock::System));
        let functions = Functions::unreachable(&BTreeMap::new());
        (Topics::new(template.topics, functions, Arc::clone(&queues), Clock::System), queues)
    });
    let (status, document) = topics.perform(text);
    assert!(status.is_success() || document.contains("<Code>"), "{document}");
    // What it sends, it accepts again, and what it refuses it says why.
    if let Err(error) = sqs::send_message(queues, sqs::message_of_form(&QueryInput::parse(text))) {
        assert!(!error.message.is_empty());
    }
    queues.reset();
}

/// Reads an event pattern and matches an event with it.
pub fn pattern(pattern: &str, event: &str) {
    let Ok(pattern) = serde_json::from_str::<Value>(pattern) else { return };
    let event = serde_json::from_str::<Value>(event).unwrap_or_default();
    match EventPattern::parse(&pattern) {
        Ok(pattern) => {
            pattern.matches(&event);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Evaluates the statements of a policy for an action on a resource.
pub fn policy(statements: &str, action: &str, resource: &str) {
    if let Ok(Value::Array(statements)) = serde_json::from_str(statements) {
        gateway::judge(&statements, action, resource);
    }
}

/// Unpacks a zip file, of which nothing may leave its directory.
pub fn archive(bytes: &[u8]) {
    process::unpack_bytes(bytes);
}
