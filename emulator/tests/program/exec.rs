//! `apigw-local exec`: a command beside the emulator.

use std::{
    io::{BufRead, BufReader, Lines},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::cli::program;

const TEMPLATE: &[&str] = &["exec", "--template", "tests/program/cli.yaml"];

/// Runs a script of the shell beside the emulator.
fn exec(script: &str) -> Output {
    program(&[TEMPLATE, &["--", "sh", "-c", script]].concat()).output().expect("ended")
}

#[test]
fn a_command_has_the_addresses_and_its_output_is_all_there_is() {
    let output = exec("echo $APIGW_LOCAL_WS_URL $APIGW_LOCAL_HTTP_URL $AWS_ENDPOINT_URL_DYNAMODB");
    let printed = String::from_utf8(output.stdout).expect("a text");
    let addresses: Vec<&str> = printed.split_whitespace().collect();
    let [sockets, http, database] = addresses.as_slice() else { panic!("{printed}") };
    assert!(sockets.starts_with("ws://127.0.0.1:") && sockets.ends_with("/dev"), "{printed}");
    assert!(http.starts_with("http://127.0.0.1:") && database.starts_with("http://127.0.0.1:"), "{printed}");
    assert_eq!(printed.lines().count(), 1, "notes do not mix with it: {printed}");
    assert!(output.status.success());
}

#[test]
fn two_run_at_once_on_ports_of_their_own() {
    let start = || {
        let mut command = program(&[TEMPLATE, &["--", "sh", "-c", "echo $APIGW_LOCAL_WS_URL; read line"]].concat());
        command.stdin(Stdio::piped()).spawn().expect("started")
    };
    let mut both = [start(), start()];
    let addresses = both.each_mut().map(|child| {
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        line
    });
    assert!(addresses[0] != addresses[1] && addresses[1].starts_with("ws://"), "{addresses:?}");
    for mut child in both {
        drop(child.stdin.take());
        // `read` fails at the end of its input.
        assert_eq!(child.wait().expect("ended").code(), Some(1));
    }
}

#[test]
fn it_ends_as_the_command_does() {
    assert_eq!(exec("exit 7").status.code(), Some(7));
    assert_eq!(exec("kill -KILL $$").status.code(), Some(128 + 9));
    let missing = program(&[TEMPLATE, &["--", "no-such-command"]].concat()).output().expect("ended");
    let printed = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert_eq!(missing.status.code(), Some(127));
    assert!(printed.contains("error: cannot run no-such-command: No such file"), "{printed}");
    let none = program(TEMPLATE).output().expect("ended");
    assert_eq!(none.status.code(), Some(2), "{}", String::from_utf8_lossy(&none.stderr));
    let invalid = program(&["exec", "--template", "nothing.yaml", "--", "true"]).output().expect("ended");
    assert_eq!(invalid.status.code(), Some(1));
}

#[test]
fn a_signal_is_passed_on_and_the_command_has_the_last_word() {
    for (signal, told) in [("TERM", "TERM"), ("HUP", "TERM"), ("QUIT", "TERM"), ("INT", "INT")] {
        let mut command = Trapping::start(&format!("trap 'echo told; exit 3' {told}"));
        command.signal(signal);
        assert_eq!(command.line(), "told", "{signal}");
        assert_eq!(command.child.wait().expect("ended").code(), Some(3), "{signal}");
    }
}

#[test]
fn a_signal_that_would_end_the_emulator_alone_is_passed_on_as_it_is() {
    for signal in ["USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "XCPU", "XFSZ"] {
        let mut command = Trapping::start(&format!("trap 'echo told; exit 3' {signal}"));
        command.signal(signal);
        assert_eq!(command.line(), "told", "{signal}");
        assert_eq!(command.child.wait().expect("ended").code(), Some(3), "{signal}");
    }
    // A command that does not handle it ends too, and is not left behind.
    let mut command = Trapping::start(":");
    command.signal("USR1");
    assert_eq!(command.child.wait().expect("ended").code(), Some(128 + Signal::USR1.as_raw()));
    assert_eq!(command.lines.count(), 0, "nothing has its output open");
}

#[test]
fn a_signal_is_told_once_and_kills_a_command_that_stays_if_it_comes_again_after_a_second() {
    let mut command = Trapping::start("trap 'echo told' TERM");
    let began = Instant::now();
    command.signal("TERM");
    assert_eq!(command.line(), "told");
    let ended = loop {
        command.signal("TERM");
        if let Some(status) = command.child.try_wait().expect("a child") {
            break status;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it was not killed");
    };
    assert_eq!(ended.code(), Some(128 + 9));
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(command.lines.count(), 0, "it was told once");
}

/// A shell beside the emulator that traps signals and waits.
struct Trapping {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Without an end of its input the shell waits in `read`, which a signal interrupts.
    _input: Option<ChildStdin>,
}

impl Trapping {
    fn start(trap: &str) -> Self {
        let script = format!("{trap}; echo running; while :; do read line; done");
        let mut child = program(&[TEMPLATE, &["--", "sh", "-c", &script]].concat())
            .stdin(Stdio::piped())
            // Also where a terminal runs the tests, its Ctrl-C does not reach this one.
            .process_group(0)
            .spawn()
            .expect("started");
        let input = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut started = Self { child, lines, _input: input };
        assert_eq!(started.line(), "running");
        started
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("a line").expect("a text")
    }

    fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
    }
}
