//! Entry points of the fuzz targets, behind the feature `fuzzing`.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use clock::Clock;
use tokio::runtime::{Builder, Runtime};

use crate::{
    gateway::{Gateway, GatewayOptions, GatewaySettings},
    lambda::Functions,
    recorder::Recorder,
    template::{SelectionExpression, Template, TemplateInputs},
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
        let settings = GatewaySettings::new(&GatewayOptions::default(), 1.0, Arc::default(), Arc::default());
        let recorder = Recorder::new(Clock::System);
        let address = ([127, 0, 0, 1], 8765).into();
        let gateway = Gateway::new(template.sockets, address, functions, None, Clock::System, settings, recorder);
        (Builder::new_current_thread().enable_all().build().expect("a runtime"), gateway)
    });
    runtime.block_on(Arc::clone(gateway).serve_bytes(bytes));
}
