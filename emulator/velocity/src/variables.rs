//! The variables of API Gateway: `$input`, `$context`, `$stageVariables` and `$util`, and properties of values.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value as Json;

use crate::{
    RenderCause,
    json_path::JsonPath,
    render::Renderer,
    value::{Entries, Key, Value},
};

/// All but what Java's `URLEncoder` leaves unencoded. It writes a space as a plus sign.
const URL_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'*').remove(b'_').remove(b' ');

/// Decodes base64 with or without padding, as the service does.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Renderer<'_, '_> {
    /// A variable of the service. It is created once, so changes of the template stay.
    pub(crate) fn global(&mut self, name: &str) -> Result<Value, RenderCause> {
        let (name, made) = match name {
            "input" => return Ok(Value::Input),
            "util" => return Ok(Value::Util),
            "context" => ("context", Self::context as fn(&mut Self) -> Result<Value, RenderCause>),
            "stageVariables" => {
                ("stageVariables", Self::stage_variables as fn(&mut Self) -> Result<Value, RenderCause>)
            }
            _ => return Ok(Value::Null),
        };
        self.once(name, made)
    }

    fn once(
        &mut self,
        name: &'static str,
        make: fn(&mut Self) -> Result<Value, RenderCause>,
    ) -> Result<Value, RenderCause> {
        if let Some(value) = self.globals.get(name) {
            return Ok(value.clone());
        }
        let value = make(self)?;
        self.globals.insert(name, value.clone());
        Ok(value)
    }

    fn context(&mut self) -> Result<Value, RenderCause> {
        let mut entries = Entries::new();
        for (name, value) in self.inputs.context {
            let value = match value {
                Json::Object(said) if name == "authorizer" => {
                    let mut as_text = Entries::new();
                    for (name, value) in said {
                        let value = self.heap.json(value, 0)?;
                        let text = self.heap.written(&value)?;
                        as_text.insert(Key::Text(name.as_str().into()), self.heap.text(&text)?);
                    }
                    self.heap.map(as_text)?
                }
                value => self.heap.json(value, 0)?,
            };
            entries.insert(Key::Text(name.as_str().into()), value);
        }
        self.heap.map(entries)
    }

    fn stage_variables(&mut self) -> Result<Value, RenderCause> {
        let mut entries = Entries::new();
        for (name, value) in self.inputs.stage_variables {
            entries.insert(Key::Text(name.as_str().into()), self.heap.text(value)?);
        }
        self.heap.map(entries)
    }

    fn parameters(&mut self) -> Result<Value, RenderCause> {
        self.heap.json(&Json::Object(self.inputs.parameters.clone()), 0)
    }

    /// The body as a value: a string if it is not JSON, and nothing if it is empty.
    fn body(&mut self) -> Result<Value, RenderCause> {
        let body = self.inputs.body;
        self.heap.budget.steps(body.len() / 16)?;
        match (self.inputs.read_json)(body) {
            Ok(json) => self.heap.json(&json, 0),
            Err(_) if body.trim().is_empty() => Ok(Value::Null),
            Err(_) => self.heap.text(body),
        }
    }

    /// Finds the value at a path of `$input`.
    fn find(&mut self, path: &Value) -> Result<Option<Value>, RenderCause> {
        let path = self.heap.written(path)?;
        let body = self.once("body", Self::body)?;
        JsonPath::parse(&path)?.find(&mut self.heap, &body)
    }

    pub(crate) fn input_method(&mut self, method: &str, arguments: &[Value]) -> Result<Value, RenderCause> {
        match (method, arguments) {
            ("path", [path]) => Ok(self.find(path)?.unwrap_or(Value::Null)),
            ("json", [path]) => {
                let mut json = String::new();
                match self.find(path)? {
                    Some(found) => self.heap.write_json(&found, &mut json, 0)?,
                    None => json.push_str("\"\""),
                }
                Ok(Value::Text(json.into()))
            }
            ("params", []) => self.once("parameters", Self::parameters),
            ("params", [Value::Text(name)]) => {
                let Value::Map(all) = self.once("parameters", Self::parameters)? else { return Ok(Value::Null) };
                for place in ["path", "querystring", "header"] {
                    if let Value::Map(parameters) = self.heap.property(all, place) {
                        let value = self.heap.property(parameters, name);
                        if !matches!(value, Value::Null) {
                            return Ok(value);
                        }
                    }
                }
                Ok(Value::Null)
            }
            _ => Ok(Value::Null),
        }
    }

    pub(crate) fn util_method(&mut self, method: &str, arguments: &[Value]) -> Result<Value, RenderCause> {
        let [argument] = arguments else { return Ok(Value::Null) };
        if matches!(argument, Value::Null) {
            return Ok(Value::Null);
        }
        let text = self.heap.written(argument)?;
        self.heap.budget.steps(text.len() / 16)?;
        let failed = |message: String| RenderCause::Method { method: format!("$util.{method}"), message };
        let result = match method {
            "escapeJavaScript" => escape_java_script(&text),
            "urlEncode" => utf8_percent_encode(&text, URL_ENCODED).to_string().replace(' ', "+"),
            "urlDecode" => percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned(),
            "base64Encode" => general_purpose::STANDARD.encode(&text),
            "base64Decode" => {
                let decoded = BASE64.decode(&text).map_err(|error| failed(format!("invalid base64: {error}")))?;
                String::from_utf8_lossy(&decoded).into_owned()
            }
            "parseJson" => {
                let json = (self.inputs.read_json)(&text).map_err(|error| failed(format!("invalid JSON: {error}")))?;
                return self.heap.json(&json, 0);
            }
            _ => return Ok(Value::Null),
        };
        self.heap.text(&result)
    }

    /// `.name`: an entry of a map, or the result of a getter.
    pub(crate) fn property(&mut self, value: &Value, name: &str) -> Result<Value, RenderCause> {
        match value {
            Value::Map(map) => Ok(self.heap.property(*map, name)),
            Value::Loop(depth) => self.loop_property(*depth, name),
            Value::Input if name == "body" => match self.inputs.body {
                // As recorded from the service.
                "" => self.heap.text("{}"),
                body => self.heap.text(body),
            },
            value => {
                let mut characters = name.chars();
                let Some(first) = characters.next() else { return Ok(Value::Null) };
                let capitalised = format!("{}{}", first.to_ascii_uppercase(), characters.as_str());
                match self.method(value, &format!("get{capitalised}"), &[])? {
                    Value::Null => self.method(value, &format!("is{capitalised}"), &[]),
                    found => Ok(found),
                }
            }
        }
    }

    pub(crate) fn loop_property(&mut self, depth: usize, name: &str) -> Result<Value, RenderCause> {
        let Some(current) = self.loops.get(depth) else { return Ok(Value::Null) };
        let number = |number: usize| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        Ok(match name {
            "index" => number(current.index),
            "count" => number(current.index + 1),
            "hasNext" => Value::Boolean(current.index + 1 < current.len),
            "first" => Value::Boolean(current.index == 0),
            "last" => Value::Boolean(current.index + 1 == current.len),
            "parent" => depth.checked_sub(1).map_or(Value::Null, Value::Loop),
            "topmost" => Value::Loop(0),
            _ => Value::Null,
        })
    }
}

/// Escapes as Java's commons-lang does: both quotes, both slashes, control characters, and everything beyond ASCII.
fn escape_java_script(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(character @ (b'\'' | b'"' | b'\\' | b'/')) => {
                out.push('\\');
                out.push(char::from(character));
            }
            Ok(8) => out.push_str("\\b"),
            Ok(b'\t') => out.push_str("\\t"),
            Ok(b'\n') => out.push_str("\\n"),
            Ok(12) => out.push_str("\\f"),
            Ok(b'\r') => out.push_str("\\r"),
            Ok(character @ 32..=127) => out.push(char::from(character)),
            _ => out.push_str(&format!("\\u{unit:04X}")),
        }
    }
    out
}
