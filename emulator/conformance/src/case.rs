//! Cases: data in `cases/*.yaml`. The README explains the steps.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use apigw_local::{YamlError, YamlNode};
use serde::Deserialize;
use serde_json::Value;

use crate::pattern::{self, Pattern};

/// A behaviour and the steps that show it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// The behaviour, as a sentence.
    pub(crate) name: String,
    /// How sure it is that API Gateway behaves like this.
    pub(crate) source: CaseSource,
    /// The document or recording that says so.
    pub(crate) cite: String,
    /// Parameters of the template that differ from their defaults.
    #[serde(default)]
    pub(crate) parameters: BTreeMap<String, String>,
    /// What the emulator does instead. With it, the case must fail there.
    #[serde(rename = "known-difference")]
    pub(crate) known_difference: Option<String>,
    /// Whether it takes minutes.
    #[serde(default)]
    pub(crate) slow: bool,
    /// The steps, in order.
    pub(crate) steps: Vec<Step>,
    /// Name of its file, without the extension.
    #[serde(skip)]
    pub(crate) file: String,
}

/// How sure it is that API Gateway behaves as a case says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum CaseSource {
    /// Documented by AWS.
    #[serde(rename = "D")]
    Documented,
    /// Recorded from the service.
    #[serde(rename = "R")]
    Recorded,
    /// Read in the source of another emulator.
    #[serde(rename = "S")]
    Emulator,
    /// Reported by one person.
    #[serde(rename = "1")]
    Reported,
    /// Unknown: what the emulator does.
    #[serde(rename = "?")]
    Unknown,
}

impl fmt::Display for CaseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Documented => "D",
            Self::Recorded => "R",
            Self::Emulator => "S",
            Self::Reported => "1",
            Self::Unknown => "?",
        })
    }
}

/// A step: an action or an expectation.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    /// Connects.
    Connect(Connect),
    /// Sends a message or a ping frame.
    Send(SendFrame),
    /// Sends a close frame.
    Close(Close),
    /// Ends the TCP connection without a close frame.
    Drop(DropConnection),
    /// Expects the next frame.
    Expect(Expect),
    /// Expects the next event of a kind.
    ExpectEvent(ExpectEvent),
    /// Expects that no event of a kind has come so far.
    ExpectNoEvent(ExpectNoEvent),
    /// Sends an HTTP request, signed by default.
    Call(Box<Call>),
    /// Calls the AWS client.
    Sdk(Sdk),
    /// Sends a request to the HTTP API or the REST API, with the token by default.
    Request(Box<ApiRequest>),
}

impl Case {
    /// The APIs beside the WebSocket API that it needs.
    pub(crate) fn apis(&self) -> impl Iterator<Item = Api> {
        self.steps.iter().filter_map(|step| match step {
            Step::Request(request) => Some(request.api),
            _ => None,
        })
    }
}

/// The default client of a step.
fn client() -> String {
    "client".to_owned()
}

/// The default function of an event: the one behind the routes.
pub(crate) const HANDLER: &str = "handler";

fn handler() -> String {
    HANDLER.to_owned()
}

fn yes() -> bool {
    true
}

/// A handshake and the expected response.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Connect {
    #[serde(default = "client")]
    pub(crate) client: String,
    /// Replaces the path of the address.
    pub(crate) path: Option<String>,
    /// The query as a text, or as names and values. A value that is not a text is sent as JSON.
    #[serde(default)]
    pub(crate) query: Value,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// An invalid token, instead of the valid one.
    pub(crate) token: Option<InvalidToken>,
    /// Whether the observer receives the events of this connection.
    #[serde(default = "yes")]
    pub(crate) observed: bool,
    /// Whether the client closes the TCP connection once `$connect` runs.
    #[serde(default)]
    pub(crate) abandon: bool,
    /// Whether the request is signed. By default it is if the template says `AWS_IAM`.
    pub(crate) signed: Option<bool>,
    /// Expected status.
    #[serde(default = "switching_protocols")]
    pub(crate) status: u16,
    /// Expected headers, names in lower case.
    pub(crate) response_headers: Option<Pattern>,
    /// Expected body of a rejection.
    pub(crate) body: Option<Pattern>,
}

fn switching_protocols() -> u16 {
    101
}

/// A token that the authorizer does not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum InvalidToken {
    /// No header.
    Absent,
    /// The header without a value.
    Empty,
    /// Another value.
    Wrong,
}

/// A message or a ping frame.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SendFrame {
    #[serde(default = "client")]
    pub(crate) client: String,
    #[serde(flatten)]
    pub(crate) message: SentMessage,
}

/// The message or frames to send.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SentMessage {
    /// One text frame.
    Text(String),
    /// JSON in one text frame.
    Json(Value),
    /// A text message in several frames.
    Fragments(Vec<String>),
    /// A text message of `bytes` letters, in frames of `frame` letters.
    Fill {
        /// Length of the message.
        bytes: usize,
        /// Length of each frame except the last.
        frame: usize,
    },
    /// A binary frame.
    Binary(String),
    /// A ping frame.
    Ping(String),
}

/// A close frame, with a status if `code` is there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Close {
    #[serde(default = "client")]
    pub(crate) client: String,
    pub(crate) code: Option<u16>,
    #[serde(default)]
    pub(crate) reason: String,
}

/// The end of the TCP connection, without a close frame.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DropConnection {
    #[serde(default = "client")]
    pub(crate) client: String,
}

/// Expects a frame from the gateway.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    #[serde(default = "client")]
    pub(crate) client: String,
    /// Longest wait in seconds, instead of the default.
    pub(crate) within: Option<u64>,
    #[serde(flatten)]
    pub(crate) frame: ExpectedFrame,
}

/// An expected frame.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ExpectedFrame {
    /// A text frame, compared byte by byte.
    Text(Pattern),
    /// A text frame with this many letters `x`.
    Fill(usize),
    /// A text frame with JSON.
    Json(Pattern),
    /// A pong frame.
    Pong(String),
    /// A close frame.
    Close { code: u16, reason: Option<Pattern> },
}

/// Expects an event that a function received.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectEvent {
    #[serde(flatten)]
    pub(crate) kind: EventKind,
    pub(crate) event: Option<Pattern>,
    /// The result of the function's own post.
    pub(crate) posted: Option<Pattern>,
}

/// Expects that there is no event.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectNoEvent {
    #[serde(flatten)]
    pub(crate) kind: EventKind,
}

/// Which events.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct EventKind {
    #[serde(default = "client")]
    pub(crate) client: String,
    /// The function: `handler` or `authorizer`, or what brought a record: `queue`, `topic`, `stream` or `bus`.
    #[serde(default = "handler")]
    pub(crate) by: String,
    /// `CONNECT`, `MESSAGE`, `DISCONNECT`, or `RECORD` of what brings records.
    #[serde(rename = "type")]
    pub(crate) event_type: String,
}

/// An HTTP request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Call {
    #[serde(default)]
    pub(crate) to: Endpoint,
    pub(crate) method: String,
    /// Appended to the address.
    #[serde(default)]
    pub(crate) path: String,
    /// Replaces the path of the address.
    pub(crate) root: Option<String>,
    #[serde(default = "yes")]
    pub(crate) signed: bool,
    #[serde(flatten)]
    pub(crate) sent: SentBody,
    /// Expected status, if it matters.
    pub(crate) status: Option<u16>,
    /// Expected headers, names in lower case.
    pub(crate) response_headers: Option<Pattern>,
    /// Expected body, as text or as JSON.
    pub(crate) body: Option<Pattern>,
}

/// The body of a request.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct SentBody {
    /// As text.
    #[serde(default)]
    pub(crate) data: String,
    /// As bytes.
    #[serde(default)]
    pub(crate) bytes: Vec<u8>,
    /// This many letters `x`.
    #[serde(default)]
    pub(crate) fill: usize,
}

/// A request to the HTTP API or the REST API, and the expected response.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ApiRequest {
    pub(crate) api: Api,
    #[serde(default = "get")]
    pub(crate) method: String,
    /// Appended to the address.
    pub(crate) path: String,
    /// The query as a text, or as names and values. A value that is not a text is sent as JSON.
    #[serde(default)]
    pub(crate) query: Value,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, HeaderValues>,
    /// An invalid token, instead of the valid one.
    pub(crate) token: Option<InvalidToken>,
    #[serde(flatten)]
    pub(crate) sent: SentBody,
    /// Expected status, unless `null` says that it does not matter.
    #[serde(default = "ok")]
    pub(crate) status: Option<u16>,
    /// Expected headers, names in lower case.
    pub(crate) response_headers: Option<Pattern>,
    /// Expected body, as text or as JSON.
    pub(crate) body: Option<Pattern>,
}

fn get() -> String {
    "GET".to_owned()
}

fn ok() -> Option<u16> {
    Some(200)
}

/// One value of a header, or several headers of one name.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum HeaderValues {
    One(String),
    Several(Vec<String>),
}

/// An API beside the WebSocket API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Api {
    Http,
    Rest,
}

/// One of the two addresses of the WebSocket API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Endpoint {
    /// The address of `@connections`.
    #[default]
    Management,
    /// The address of the WebSocket.
    Socket,
}

/// A call with the AWS client.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sdk {
    pub(crate) operation: Operation,
    /// Id of the connection.
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) data: String,
    /// `ok`, or the code of the error.
    pub(crate) result: String,
}

/// An operation of the management API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Operation {
    Post,
    Get,
    Delete,
}

/// Why cases cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaseError {
    /// The directory or a file in it cannot be read.
    #[error("cannot read the cases in {0}: choose another directory with --cases")]
    Unreadable(PathBuf, #[source] io::Error),
    /// A file is not YAML.
    #[error("invalid cases in {0}")]
    Yaml(PathBuf, #[source] YamlError),
    /// A case does not have the form in the README.
    #[error("invalid case {1:?} in {0}: {2}")]
    Form(PathBuf, String, serde_json::Error),
    /// Two cases have the same name.
    #[error("duplicate case {0:?}")]
    Duplicate(String),
}

/// Reads all cases of a directory, file by file.
pub(crate) fn load(directory: &Path) -> Result<Vec<Case>, CaseError> {
    let unreadable = |error| CaseError::Unreadable(directory.to_owned(), error);
    let entries = fs::read_dir(directory).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let mut cases: Vec<Case> = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).map_err(|error| CaseError::Unreadable(path.clone(), error))?;
        let of_file = parse(&text, &path)?;
        if let Some(duplicate) = of_file.iter().find(|case| cases.iter().any(|other| other.name == case.name)) {
            return Err(CaseError::Duplicate(duplicate.name.clone()));
        }
        cases.extend(of_file);
    }
    Ok(cases)
}

/// Reads the cases of one file.
pub(crate) fn parse(text: &str, path: &Path) -> Result<Vec<Case>, CaseError> {
    let document =
        YamlNode::parse(text, pattern::key_of_tag).map_err(|error| CaseError::Yaml(path.to_owned(), error))?;
    let file = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let case = |value: &Value| {
        let name = value["name"].as_str().unwrap_or("(no name)").to_owned();
        let case: Case =
            serde_json::from_value(value.clone()).map_err(|error| CaseError::Form(path.to_owned(), name, error))?;
        Ok(Case { file: file.clone(), ..case })
    };
    document.to_json().as_array().into_iter().flatten().map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cases_of_the_repository_are_valid() {
        let cases = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")).expect("the cases");
        assert!(cases.len() > 50, "{}", cases.len());
        for case in cases {
            assert!(!case.steps.is_empty() && !case.cite.is_empty(), "{}", case.name);
        }
    }

    #[test]
    fn a_mistake_in_a_case_is_reported_with_its_name() {
        let error = |steps: &str| {
            let text = format!("- name: this one\n  source: D\n  cite: x\n  steps: [{steps}]\n");
            parse(&text, Path::new("a.yaml")).map(|_| ()).map_err(|error| error.to_string())
        };
        for right in ["send: {text: x}", "request: {api: http, path: /, data: x, headers: {a: x, b: [x, y]}}"] {
            assert_eq!(error(right), Ok(()), "{right}");
        }
        for wrong in [
            "send: {txt: x}",
            "send: {}",
            "connect: {stauts: 101}",
            "expect: {text: x, textt: y}",
            "jump: {}",
            "expect-event: {type: CONNECT, evnt: {}}",
            "call: {method: GET, status: x}",
            "call: {method: GET, dat: x}",
            "request: {api: soap, path: /}",
            "request: {api: http, path: /, bdy: x}",
        ] {
            assert!(error(wrong).expect_err(wrong).contains("this one"), "{wrong}");
        }
    }
}
