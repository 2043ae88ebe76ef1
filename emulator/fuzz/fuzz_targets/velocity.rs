//! A mapping template, and behind the first NUL the body that it is rendered with.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, json};

fuzz_target!(|text: &str| {
    let (template, body) = text.split_once('\0').unwrap_or((text, r#"{"a": [1, {"b": "c"}, null], "n": 2.5}"#));
    let Ok(template) = velocity::MappingTemplate::parse(template) else { return };
    let context = Map::from_iter([("connectionId".to_owned(), json!("Gto47d9-DoECGqg="))]);
    let inputs = velocity::Inputs {
        body,
        read_json: |json| serde_json::from_str(json),
        context: &context,
        stage_variables: &BTreeMap::from([("name".to_owned(), "value".to_owned())]),
        parameters: &Map::new(),
    };
    let _ = template.render(&inputs);
});
