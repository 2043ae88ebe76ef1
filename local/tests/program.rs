//! `cargo run`: the service behind the emulator, and the demo page.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use cost::{Estimate, Usage};
use futures_util::StreamExt;
use tokio_tungstenite::{connect_async, tungstenite::Message};

/// Bound of every wait.
const WAIT_MAX: Duration = Duration::from_secs(20);

fn local(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_viral-alerts-local"));
    // An unrelated directory: the program needs no files.
    command.current_dir(std::env::temp_dir()).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running program, which ends with the test, passed or failed.
struct Running {
    child: Child,
    lines: Vec<String>,
}

impl Running {
    /// Starts the program on free ports and waits until it prints that it is ready.
    fn start(arguments: &[&str]) -> Self {
        let mut command = local(&["--ws-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"]);
        let mut running = Self { child: command.args(arguments).spawn().expect("started"), lines: Vec::new() };
        let stdout = BufReader::new(running.child.stdout.take().expect("piped"));
        for line in stdout.lines() {
            running.lines.push(line.expect("a line"));
            if running.lines.last().is_some_and(|line| line.starts_with("ready ")) {
                return running;
            }
        }
        panic!("it ended without being ready: {:?}", running.lines);
    }

    /// The address in the `ready` line that starts with `scheme`.
    fn address(&self, scheme: &str) -> String {
        let ready = self.lines.last().expect("a ready line");
        ready.split(' ').find(|word| word.starts_with(scheme)).expect("an address").to_owned()
    }

    fn interrupt(&self) {
        // The shell's own `kill`, because not every machine has the program.
        let kill = format!("kill -INT {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request to the HTTP address and returns the status and body of the response.
fn ask(running: &Running, request: &str, body: &str) -> (u16, String) {
    let address = running.address("http://").trim_start_matches("http://").trim_end_matches('/').to_owned();
    let mut socket = TcpStream::connect(&address).expect("connected");
    let length = body.len();
    write!(
        socket,
        "{request} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .expect("sent");
    let mut response = String::new();
    socket.read_to_string(&mut response).expect("an answer");
    let (head, body) = response.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

/// Publishes an alert for PL over HTTP and returns the response.
fn publish(running: &Running) -> serde_json::Value {
    let body = r#"{"region":"PL","video":{"id":"v","title":"t","thumbnail":"","score":90}}"#;
    serde_json::from_str(&ask(running, "POST /", body).1).expect("JSON")
}

#[tokio::test]
async fn an_alert_that_was_published_arrives_before_the_program_ends() {
    let mut running = Running::start(&[]);
    let (mut socket, _) = connect_async(format!("{}?region=PL", running.address("ws://"))).await.expect("connected");
    assert_eq!(publish(&running)["published"], true);
    running.interrupt();
    let mut frames = Vec::new();
    while let Some(Ok(frame)) = tokio::time::timeout(WAIT_MAX, socket.next()).await.expect("in time") {
        frames.push(frame);
    }
    match frames.as_slice() {
        [Message::Text(alert), Message::Close(Some(_))] => assert!(alert.contains("new_trending"), "{alert}"),
        other => panic!("expected an alert and a close frame, not {other:?}"),
    }
    assert!(running.child.wait().expect("ended").success());
    let mut logged = String::new();
    running.child.stderr.take().expect("piped").read_to_string(&mut logged).expect("a log");
    let lines: Vec<&str> = logged.lines().filter(|line| line.contains("alert=\"")).collect();
    assert_eq!(lines.len(), 2, "one when it is published and one when it is delivered: {logged}");
    assert!(lines.iter().all(|line| line.chars().count() < 190), "they fit into two lines of a terminal: {logged}");
}

#[test]
fn the_cost_chart_gets_the_figures_of_the_command() {
    let running = Running::start(&[]);
    let usage = Usage { clients: 250_000, minutes_a_day: 1_440, alerts_a_day: 3, published_a_day: 60 };
    let answer = ask(&running, "GET /cost?clients=250000&minutes=1440&alerts=3&published=60", "");
    // As texts: to the last digit.
    let text = |usage| serde_json::json!(Estimate::new(usage, "us-east-1").expect("there are prices")).to_string();
    assert_eq!(answer, (200, text(usage)));
    assert_eq!(ask(&running, "GET /cost", ""), (200, text(Usage::DEFAULT)));

    let refusal = r#"{"message":"invalid minutes \"2000\": expected a whole number from 1 to 1440"}"#;
    assert_eq!(ask(&running, "GET /cost?minutes=2000", ""), (400, refusal.to_owned()));
    assert_eq!(ask(&running, "GET /cost?region=mars-1", "").0, 400);
}

#[tokio::test]
async fn a_data_directory_keeps_the_log() {
    let directory = std::env::temp_dir().join(format!("viral-alerts-{}", std::process::id()));
    let data_dir = directory.to_string_lossy().into_owned();
    let mut first = Running::start(&["--data-dir", &data_dir]);
    let before = publish(&first);
    first.interrupt();
    assert!(first.child.wait().expect("ended").success());
    let second = Running::start(&["--data-dir", &data_dir]);
    let after = publish(&second);
    drop(second);
    assert_eq!((&before["seq"], &after["seq"], &before["epoch"]), (&1.into(), &2.into(), &after["epoch"]));
    std::fs::remove_dir_all(directory).expect("removed");
}

#[tokio::test]
async fn a_parameter_that_a_function_cannot_use_is_named_at_the_start() {
    for (parameter, problem) in [
        // CloudFormation refuses it.
        ("EventsShare=101", r#"invalid value "101" of the parameter EventsShare: expected a number from 0 to 100"#),
        // CloudFormation takes it, as it looks like a region.
        ("DefaultRegion=X-CANARY", "DEFAULT_REGION cannot be used: X-CANARY is reserved for the synthetic canary"),
    ] {
        let arguments = ["--parameter", parameter, "--ws-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"];
        // If it starts after all, it does not end by itself.
        let output = tokio::process::Command::from(local(&arguments)).kill_on_drop(true).output();
        let output = tokio::time::timeout(WAIT_MAX, output).await.expect("in time").expect("ended");
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && printed.contains(problem), "{printed}");
    }
}

#[test]
fn the_page_is_served_and_gets_the_connections() {
    let running = Running::start(&[]);
    let (status, page) = ask(&running, "GET /", "");
    assert!(status == 200 && page.contains("<!doctype html>"), "{page}");
    let (_, state) = ask(&running, "GET /local.json", "");
    let state: serde_json::Value = serde_json::from_str(&state).expect("JSON");
    assert_eq!((&state["connected"], &state["scoreThreshold"]), (&0.into(), &85.0.into()));
}
