//! Entry points of the fuzz targets, behind the feature `fuzzing`.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, OnceLock},
};

use clock::Clock;
use tokio::runtime::{Builder, Runtime};

use serde_json::Value;

use crate::{
    aws_query::QueryInput,
    gateway::{self, Gateway, GatewayOptions, GatewaySettings},
    lambda::{Functions, process},
    recorder::Recorder,
    sns::Topics,
    sqs::{self, Queues},
    template::{self, EventPattern, Package, SelectionExpression, Template, TemplateInputs},
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
        let settings = GatewaySettings::new(
            &GatewayOptions::default(),
            1.0,
            Arc::default(),
            Arc::default(),
            Arc::new(crate::http_client::HttpClient::new()),
        );
        let recorder = Recorder::new(Clock::System);
        let address = ([127, 0, 0, 1], 8765).into();
        let gateway = Gateway::new(template.sockets, address, functions, None, Clock::System, settings, recorder);
        (Builder::new_current_thread().enable_all().build().expect("a runtime"), gateway)
    });
    runtime.block_on(Arc::clone(gateway).serve_bytes(bytes));
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
