//! The form of a case. Every case is data in `cases/*.yaml`; the README explains the steps.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use apigw_local::{YamlError, YamlNode};
use serde::Deserialize;
use serde_json::Value;

use crate::pattern::{self, Pattern};

/// A behaviour, and the steps that show it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// What is so, as a sentence.
    pub(crate) name: String,
    /// How sure it is that API Gateway behaves like this.
    pub(crate) source: CaseSource,
    /// Where that can be read.
    pub(crate) cite: String,
    /// Parameters of the template that differ from the defaults.
    #[serde(default)]
    pub(crate) parameters: BTreeMap<String, String>,
    /// In what our own gateway differs: there, a failure is expected.
    #[serde(rename = "known-difference")]
    pub(crate) known_difference: Option<String>,
    /// Whether it takes minutes in real time.
    #[serde(default)]
    pub(crate) slow: bool,
    /// What is done and expected, in order.
    pub(crate) steps: Vec<Step>,
    /// Name of the file, without extension.
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
    /// Not known: what our own gateway does.
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

/// One thing that is done or expected.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    /// A handshake.
    Connect(Connect),
    /// A message or a ping frame.
    Send(SendFrame),
    /// A close frame.
    Close(Close),
    /// The end of the TCP connection without a close frame.
    Drop(DropConnection),
    /// The next frame.
    Expect(Expect),
    /// The next event of a kind.
    ExpectEvent(ExpectEvent),
    /// That no event of a kind has come so far.
    ExpectNoEvent(ExpectNoEvent),
    /// An HTTP request, signed unless it says otherwise.
    Call(Box<Call>),
    /// A call with the AWS client.
    Sdk(Sdk),
}

/// The client that a step names when it names none.
fn client() -> String {
    "client".to_owned()
}

/// What functions of routes are called where events are told.
pub(crate) const HANDLER: &str = "handler";

fn handler() -> String {
    HANDLER.to_owned()
}

fn yes() -> bool {
    true
}

/// A handshake, and what comes back.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Connect {
    #[serde(default = "client")]
    pub(crate) client: String,
    /// Instead of the path of the address.
    pub(crate) path: Option<String>,
    /// The query as it is, or names and values; a value that is no text is written as JSON.
    #[serde(default)]
    pub(crate) query: Value,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// The token, if not the right one.
    pub(crate) token: Option<InvalidToken>,
    /// Whether functions tell the observer of this connection.
    #[serde(default = "yes")]
    pub(crate) observed: bool,
    /// Whether the client hangs up once `$connect` runs.
    #[serde(default)]
    pub(crate) abandon: bool,
    /// Whether the request is signed; by default where the template says `AWS_IAM`.
    pub(crate) signed: Option<bool>,
    /// Expected status.
    #[serde(default = "switching_protocols")]
    pub(crate) status: u16,
    /// Expected headers, names in lower case.
    pub(crate) response_headers: Option<Pattern>,
    /// Expected body of a refusal.
    pub(crate) body: Option<Pattern>,
}

fn switching_protocols() -> u16 {
    101
}

/// A token that does not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum InvalidToken {
    /// No such header.
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

/// What is sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SentMessage {
    /// One text frame.
    Text(String),
    /// One text frame with JSON.
    Json(Value),
    /// A text message in several frames.
    Fragments(Vec<String>),
    /// A text message of so many letters, in frames of a size.
    Fill {
        /// Letters of the message.
        bytes: usize,
        /// Letters of each frame but the last.
        frame: usize,
    },
    /// A binary frame.
    Binary(String),
    /// A ping frame.
    Ping(String),
}

/// A close frame, without a status if it names none.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Close {
    #[serde(default = "client")]
    pub(crate) client: String,
    pub(crate) code: Option<u16>,
    #[serde(default)]
    pub(crate) reason: String,
}

/// The end of the TCP connection.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DropConnection {
    #[serde(default = "client")]
    pub(crate) client: String,
}

/// A frame from the gateway.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    #[serde(default = "client")]
    pub(crate) client: String,
    /// Longest wait in seconds, where it is not the usual one.
    pub(crate) within: Option<u64>,
    #[serde(flatten)]
    pub(crate) frame: ExpectedFrame,
}

/// What is received.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ExpectedFrame {
    /// A text, byte for byte.
    Text(Pattern),
    /// A text of so many letters `x`.
    Fill(usize),
    /// A text with JSON.
    Json(Pattern),
    /// A pong frame.
    Pong(String),
    /// A close frame.
    Close {
        /// Its status.
        code: u16,
        /// Its reason.
        reason: Option<Pattern>,
    },
}

/// An event that a function received.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectEvent {
    #[serde(flatten)]
    pub(crate) kind: EventKind,
    /// The event.
    pub(crate) event: Option<Pattern>,
    /// What became of the function's own post.
    pub(crate) posted: Option<Pattern>,
}

/// That there is no event.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectNoEvent {
    #[serde(flatten)]
    pub(crate) kind: EventKind,
}

/// Which events are meant.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct EventKind {
    #[serde(default = "client")]
    pub(crate) client: String,
    /// The function: `handler` or `authorizer`.
    #[serde(default = "handler")]
    pub(crate) by: String,
    /// `CONNECT`, `MESSAGE` or `DISCONNECT`.
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
    /// What follows the address.
    #[serde(default)]
    pub(crate) path: String,
    /// Instead of the path of the address.
    pub(crate) root: Option<String>,
    #[serde(default = "yes")]
    pub(crate) signed: bool,
    /// Text of the request.
    #[serde(default)]
    pub(crate) data: String,
    /// Bytes of the request, if they are no text.
    #[serde(default)]
    pub(crate) bytes: Vec<u8>,
    /// A body of so many letters `x`.
    #[serde(default)]
    pub(crate) fill: usize,
    /// Expected status, where it matters.
    pub(crate) status: Option<u16>,
    /// Expected headers, names in lower case.
    pub(crate) response_headers: Option<Pattern>,
    /// Expected body: a text as it is, anything else as JSON.
    pub(crate) body: Option<Pattern>,
}

/// Which of the two addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Endpoint {
    /// That of `@connections`.
    #[default]
    Management,
    /// That of the WebSocket.
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
    /// `ok`, or the kind of the error.
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

/// Cases that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaseError {
    /// The directory or a file of it cannot be read.
    #[error("cannot read the cases in {0}; name another directory with --cases")]
    Unreadable(PathBuf, #[source] io::Error),
    /// A file is not YAML.
    #[error("{0} is not YAML")]
    Yaml(PathBuf, #[source] YamlError),
    /// A case has another form than the README says.
    #[error("{0}, case {1}: {2}")]
    Form(PathBuf, String, serde_json::Error),
    /// Two cases have one name.
    #[error("two cases are called: {0}")]
    Twice(String),
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
        if let Some(twice) = of_file.iter().find(|case| cases.iter().any(|other| other.name == case.name)) {
            return Err(CaseError::Twice(twice.name.clone()));
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
        let name = value["name"].as_str().unwrap_or("without a name").to_owned();
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
    fn the_cases_of_the_repository_have_the_right_form() {
        let cases = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")).expect("the cases");
        assert!(cases.len() > 50, "{}", cases.len());
        for case in cases {
            assert!(!case.steps.is_empty() && !case.cite.is_empty(), "{}", case.name);
        }
    }

    #[test]
    fn a_mistake_in_a_case_is_said_with_its_name() {
        let error = |steps: &str| {
            let text = format!("- name: this one\n  source: D\n  cite: x\n  steps: [{steps}]\n");
            parse(&text, Path::new("a.yaml")).map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(error("send: {text: x}"), Ok(()));
        for wrong in [
            "send: {txt: x}",
            "send: {}",
            "connect: {stauts: 101}",
            "expect: {text: x, textt: y}",
            "jump: {}",
            "expect-event: {type: CONNECT, evnt: {}}",
            "call: {method: GET, status: x}",
        ] {
            assert!(error(wrong).expect_err(wrong).contains("this one"), "{wrong}");
        }
    }
}
