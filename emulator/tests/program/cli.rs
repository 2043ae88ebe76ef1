//! The program as you run it: flags, output, shutdown.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use apigw_local::FaultKind;
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::{connect_async, tungstenite::Message};

/// Bound of every wait.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(20);

/// The template of most tests.
const TEMPLATE: &str = "tests/program/cli.yaml";

pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_apigw-local"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running program. Dropping it kills the process.
pub(crate) struct RunningProgram {
    child: Child,
    pub(crate) lines: Vec<String>,
}

impl RunningProgram {
    /// Starts the program on free ports and waits for its `ready` line.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::with(TEMPLATE, arguments)
    }

    /// Starts the program with another template.
    pub(crate) fn with(template: &str, arguments: &[&str]) -> Self {
        let mut command = program(&["--ws-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--template", template]);
        Self::of(command.args(arguments))
    }

    /// Starts what prints a `ready` line, and waits for it.
    fn of(command: &mut Command) -> Self {
        let mut running = Self { child: command.spawn().expect("started"), lines: Vec::new() };
        let stdout = BufReader::new(running.child.stdout.take().expect("piped"));
        for line in stdout.lines() {
            running.lines.push(line.expect("a line"));
            if running.lines.last().is_some_and(|line| line.starts_with("ready ")) {
                return running;
            }
        }
        panic!("it ended without being ready: {:?}", running.lines);
    }

    /// Returns the address with `scheme` in the `ready` line.
    pub(crate) fn address(&self, scheme: &str) -> String {
        let ready = self.lines.last().expect("a ready line");
        ready.split(' ').find(|word| word.starts_with(scheme)).expect("an address").to_owned()
    }

    /// Returns what `apigw-local env` prints about it.
    pub(crate) fn variables(&self) -> String {
        let http = self.address("http://");
        let output =
            program(&["env", "--http-addr", http.trim_start_matches("http://").trim_end_matches('/')]).output();
        let output = output.expect("started");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Returns the id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn interrupt(&self) {
        self.signal("INT");
    }

    fn signal(&self, name: &str) {
        // The shell's own `kill`: some machines have no program of this name.
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
    }

    /// Stops the program gracefully and returns its log.
    pub(crate) fn end(self) -> String {
        self.end_by("INT")
    }

    /// Stops the program with a signal and returns its log.
    fn end_by(mut self, signal: &str) -> String {
        self.signal(signal);
        let mut logged = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut logged).expect("a log");
        assert!(self.child.wait().expect("ended").success());
        logged
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn addresses_of_the_environment_count_where_flags_are_missing() {
    let addresses = ["WS", "HTTP", "AWS"].map(|name| (format!("APIGW_LOCAL_{name}_ADDR"), "127.0.0.1:0"));
    let mut command = program(&["--template", TEMPLATE]);
    let running = RunningProgram::of(command.envs(addresses));
    assert!(running.variables().contains("export AWS_ENDPOINT_URL="), "an address of AWS services was given");
    // As in the image for containers, where it is every address of the container.
    let http = running.address("http://");
    let (_, port) = http.trim_end_matches('/').rsplit_once(':').expect("a port");
    let printed = program(&["env"]).env("APIGW_LOCAL_HTTP_ADDR", format!("0.0.0.0:{port}")).output().expect("started");
    assert_eq!(String::from_utf8(printed.stdout).expect("UTF-8"), running.variables());
    for command in [&["--template", TEMPLATE][..], &["env"]] {
        let refused = program(command).env("APIGW_LOCAL_HTTP_ADDR", "nowhere").output().expect("started");
        let error = String::from_utf8(refused.stderr).expect("UTF-8");
        assert!(error.contains("'nowhere' for '--http-addr"), "{error}");
    }
}

#[test]
fn without_an_emulator_there_are_no_variables_and_a_file_of_somebody_else_is_left_alone() {
    let output = program(&["env", "--http-addr", "127.0.0.1:1"]).output().expect("started");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.starts_with("error: no emulator answers at 127.0.0.1:1: "), "{error}");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "MINE=1\n").expect("written");
    let output = program(&["--template", TEMPLATE, "--env-file", file.path().to_str().expect("UTF-8")]).output();
    let output = output.expect("started");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("was not written by apigw-local"), "{error}");
    assert_eq!(std::fs::read_to_string(file.path()).expect("read"), "MINE=1\n");
}

#[tokio::test]
async fn it_prints_all_addresses_and_ends_with_a_close_frame_on_each_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("local.env");
    let mut running = RunningProgram::start(&["--env-file", file.to_str().expect("UTF-8")]);
    let variables = running.variables();
    for variable in ["DYNAMODB", "LAMBDA", "APIGATEWAYMANAGEMENTAPI", "SQS"] {
        let line = format!("export AWS_ENDPOINT_URL_{variable}=http://127.0.0.1:");
        assert!(variables.lines().any(|printed| printed.starts_with(&line)), "{variables}");
    }
    let written = std::fs::read_to_string(&file).expect("written before it is ready");
    assert_eq!(written.split_once('\n').expect("a first line").1, variables);
    let curl = format!("\"$(curl -s {}inspector/env)\"", running.address("http://"));
    assert!(running.lines.iter().any(|printed| printed.ends_with(&curl)), "{:?}", running.lines);
    let notes = running.lines.iter().filter(|line| line.starts_with("# note: ")).count();
    assert_eq!(running.lines.len(), notes + 3, "{:?}", running.lines);
    assert!(running.address("http://").starts_with("http://127.0.0.1:"));
    let inspector = format!("as it happens: {}inspector", running.address("http://"));
    assert!(running.lines.iter().any(|printed| printed.ends_with(&inspector)), "{:?}", running.lines);

    let (mut socket, _) = connect_async(running.address("ws://")).await.expect("connected");
    running.interrupt();
    let closed = tokio::time::timeout(WAIT_MAX, socket.next()).await.expect("in time");
    match closed {
        Some(Ok(Message::Close(Some(frame)))) => {
            assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1001, "Going away"))
        }
        other => panic!("no close frame: {other:?}"),
    }
    drop(socket);
    assert!(running.child.wait().expect("ended").success());
}

/// Opens a socket, sends pings if asked to, and returns the status and reason with which the gateway closes it.
async fn closed_after(running: &RunningProgram, ping_every: Option<Duration>) -> (u16, String) {
    let (socket, _) = connect_async(running.address("ws://")).await.expect("connected");
    let (mut sending, mut receiving) = socket.split();
    let pinging = async {
        let Some(every) = ping_every else { return std::future::pending().await };
        let mut ticks = tokio::time::interval(every);
        while sending.send(Message::text(r#"{"type":"ping"}"#)).await.is_ok() {
            ticks.tick().await;
        }
        std::future::pending::<()>().await;
    };
    let receiving = async {
        loop {
            match receiving.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return (u16::from(frame.code), frame.reason.to_string()),
                Some(Ok(Message::Text(_))) => {}
                other => panic!("no close frame: {other:?}"),
            }
        }
    };
    tokio::select! {
        closed = tokio::time::timeout(WAIT_MAX, receiving) => closed.expect("in time"),
        () = pinging => unreachable!("it ends with the socket"),
    }
}

#[tokio::test]
async fn idle_and_old_connections_are_closed_as_after_ten_minutes_and_two_hours() {
    // Ten minutes in 0.2 s, two hours in 2.4 s.
    let running = RunningProgram::start(&["--time-scale", "3000"]);
    let started = Instant::now();
    assert_eq!(closed_after(&running, None).await, (1001, "Going away".to_owned()));
    let idle = started.elapsed();
    assert!((Duration::from_millis(200)..Duration::from_millis(2_400)).contains(&idle), "{idle:?}");
    let started = Instant::now();
    assert_eq!(closed_after(&running, Some(Duration::from_millis(40))).await, (1001, "Going away".to_owned()));
    assert!(started.elapsed() >= Duration::from_millis(2_400), "a connection in use lives for two hours");
}

#[test]
fn an_error_is_one_line_that_says_what_to_do() {
    let check = |arguments: &[&str], expected: &str| {
        let output = program(arguments).output().expect("ended");
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && printed.contains(expected), "{arguments:?}: {printed}");
    };
    check(
        &["--template", "nothing.yaml"],
        "cannot read the template nothing.yaml; name another with --template: No such file",
    );
    check(&["--template", "Cargo.toml"], "error: invalid template Cargo.toml: ");
    check(&[], "error: no template in .: expected template.yaml, template.yml or template.json, or what ");
    check(
        &["--template", "tests/program/samconfig/params.yaml", "--parameter", "Nothing=1"],
        "unknown parameter Nothing: the template does not declare it",
    );
    check(
        &["--template", TEMPLATE, "--parameter", "Nothing=1"],
        "unknown parameter Nothing: the template does not declare it",
    );
    check(&["--time-scale", "0"], "expected a factor from 1 to 100000");
    check(&["--parameter", "x"], "expected NAME=VALUE");
    check(&["--idle-timeout", "2"], "time unit needed");
    check(&["--connection-duration", "3h"], "expected 1ms to 7200s");
    check(&["--request-rate", "0"], "invalid rate \"0\": expected N or N:BURST");
    check(&["--table-capacity", "3000"], "invalid capacity \"3000\": expected READS:WRITES, whole numbers above zero");
    check(&["--fault", "gone=1"], "unknown fault \"gone\": expected one of lost-disconnect, false-gone, ");
    check(&["--fault-seed", "1"], "--fault <KIND=PROBABILITY>");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    check(
        &["--template", TEMPLATE, "--ws-addr", &taken],
        &format!("cannot listen on {taken}; name another address with --ws-addr"),
    );
}

#[test]
fn parameters_of_samconfig_count_unless_the_command_line_names_them() {
    let template = "tests/program/samconfig/params.yaml";
    let note = |running: &RunningProgram| {
        running.lines.iter().find(|line| line.contains("samconfig.toml")).cloned().unwrap_or_default()
    };
    let running = RunningProgram::with(template, &[]);
    assert_eq!(note(&running), "# note: samconfig.toml sets the parameters Name, Stage");
    assert!(running.address("ws://").ends_with("/configured"), "{:?}", running.lines);
    let running = RunningProgram::with(template, &["--parameter", "Stage=given"]);
    assert_eq!(note(&running), "# note: samconfig.toml sets the parameters Name");
    assert!(running.address("ws://").ends_with("/given"), "{:?}", running.lines);
}

#[test]
fn a_data_directory_belongs_to_one_process_until_that_is_killed() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().to_str().expect("UTF-8");
    let first = RunningProgram::start(&["--data-dir", data_dir]);
    let second =
        ["--template", TEMPLATE, "--data-dir", data_dir, "--ws-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"];
    let second = program(&second).output().expect("ended");
    let printed = String::from_utf8_lossy(&second.stderr).into_owned();
    let expected = format!("error: the data directory {data_dir} is in use by the process {} since 20", first.id());
    assert!(!second.status.success() && printed.contains(&expected), "{printed}");
    assert!(printed.contains("stop that process, or name another with --data-dir"), "{printed}");
    // Dropping it kills the process, which cannot clean up.
    drop(first);
    RunningProgram::start(&["--data-dir", data_dir]).end();
}

#[test]
fn help_is_grouped_and_names_every_fault() {
    let output = program(&["--help"]).output().expect("ended");
    let printed = String::from_utf8(output.stdout).expect("a text");
    for group in ["Addresses", "Template", "Tables", "Functions", "Clocks", "Quotas", "Signatures", "Faults", "Logs"] {
        assert!(printed.contains(&format!("\n{group}:\n")), "{group}: {printed}");
    }
    let (_, options) = printed.split_once("\nOptions:\n").expect("the group of other flags");
    let options: Vec<&str> = options.lines().take_while(|line| !line.is_empty()).collect();
    assert_eq!(options.len(), 2, "only help and version belong to no group: {options:?}");
    for kind in FaultKind::ALL {
        assert!(printed.contains(kind.name()), "{kind}: {printed}");
    }
    assert!(printed.lines().all(|line| line.chars().count() <= 110), "{printed}");
}

/// Returns the ids of the processes that a process has started, from any of its threads.
#[cfg(target_os = "linux")]
fn children(process: u32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("its threads").flatten();
    let of_thread = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("children")).ok();
    let all: Vec<String> = threads.filter_map(of_thread).collect();
    all.iter().flat_map(|ids| ids.split_whitespace()).map(str::to_owned).collect()
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn every_signal_that_ends_a_program_ends_it_with_its_functions() {
    for signal in ["TERM", "HUP", "QUIT"] {
        let running = RunningProgram::with("tests/program/listeners.yaml", &[]);
        let (mut socket, _) = connect_async(running.address("ws://")).await.expect("connected");
        socket.send(Message::text("{}")).await.expect("sent");
        let id = running.id();
        crate::scripted::eventually("the function runs", || !children(id).is_empty()).await;
        let functions = children(id);
        let log = tokio::task::spawn_blocking(move || running.end_by(signal)).await.expect("ended");
        assert!(log.contains("stopping: closing sockets"), "{signal}: {log}");
        let running = |function: &String| std::path::Path::new(&format!("/proc/{function}/cmdline")).exists();
        crate::scripted::eventually("its functions have ended", || !functions.iter().any(running)).await;
        let closed = tokio::time::timeout(WAIT_MAX, socket.next()).await.expect("in time");
        assert!(matches!(closed, Some(Ok(Message::Close(Some(_))))), "{signal}: {closed:?}");
    }
}

#[tokio::test]
async fn the_end_says_which_asynchronous_invocations_are_given_up() {
    let running = RunningProgram::with("tests/program/listeners.yaml", &[]);
    let variables = running.variables();
    let address = variables.lines().find_map(|line| line.strip_prefix("export AWS_ENDPOINT_URL_LAMBDA=http://"));
    let (address, invoke) = (address.expect("an address"), "POST /2015-03-31/functions/Message/invocations");
    let kind = "x-amz-invocation-type: Event\r\n";
    for body in ["{\"body\":\"throw\"}", "{}"] {
        let reply = crate::scripted::ask(address.parse().expect("an address"), invoke, kind, body).await;
        assert_eq!(reply.status, 202);
    }
    let log = tokio::task::spawn_blocking(move || running.end()).await.expect("ended");
    let line = "asynchronous invocations given up: the emulator stopped events=\"1 of Message\"";
    assert!(log.contains(line), "{log}");
}

#[test]
fn a_run_with_faults_prints_the_seed_that_repeats_it() {
    let seed = |arguments: &[&str]| {
        let running = RunningProgram::start(arguments);
        let note =
            running.lines.iter().find_map(|line| line.strip_prefix("# note: faults are injected; --fault-seed "));
        note.and_then(|note| note.strip_suffix(" repeats them")).map(str::to_owned)
    };
    assert_eq!(seed(&["--fault", "false-gone=0.5", "--fault-seed", "7"]).as_deref(), Some("7"));
    let random = seed(&["--fault", "false-gone=0.5"]).expect("a seed");
    assert!(random.parse::<u64>().is_ok(), "{random}");
    assert_eq!(seed(&[]), None);
}

#[tokio::test]
async fn a_request_outside_the_stage_is_logged_with_the_right_addresses() {
    let running = RunningProgram::start(&[]);
    let wrong = running.address("ws://").replace("/dev", "/development");
    assert!(connect_async(&wrong).await.is_err());
    let right = running.address("ws://");
    let endpoint = right.replace("ws://", "http://");
    let logged = running.end();
    let line = logged.lines().find(|line| line.contains("request outside the stage refused")).expect(&logged);
    for field in [
        r#"path="/development""#.to_owned(),
        format!(r#"websocket_url="{right}""#),
        format!(r#"management_endpoint="{endpoint}""#),
    ] {
        assert!(line.contains(&field), "{field}: {line}");
    }
}
