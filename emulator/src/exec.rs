//! Runs a command beside the emulator, with variables that lead it here, and ends with it.

use std::{
    ffi::OsString,
    fs::File,
    future::poll_fn,
    io,
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Signal, getpgrp, kill_process},
    termios::tcgetpgrp,
};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

use crate::stack::Stack;

/// What a shell adds to the number of the signal that ended a command.
const SIGNALLED: i32 = 128;

/// What a shell ends with where the command does not exist, and where it cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// Other signals that end a process which does not handle them, and that people and supervisors send.
const PASSED_ON: [Signal; 8] =
    [Signal::USR1, Signal::USR2, Signal::ALARM, Signal::VTALARM, Signal::PROF, Signal::IO, Signal::XCPU, Signal::XFSZ];

/// How long every further signal counts as the first one. One to a whole group comes directly and once more from each
/// process that passes it on, such as `timeout` and the launcher of the package for npm.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// Why a command could not run beside the emulator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    /// There is no command.
    #[error("no command to run: write it after --, such as apigw-local exec -- npm test")]
    Missing,
    /// It cannot be started.
    #[error("cannot run {0}")]
    Start(String, #[source] io::Error),
    /// It cannot be waited for, or signals cannot be received.
    #[error("cannot wait for the command")]
    Wait(#[source] io::Error),
}

impl ExecError {
    /// The exit code that a shell would have.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Start(_, error) if error.kind() == io::ErrorKind::NotFound => ExitCode::from(NOT_FOUND),
            Self::Start(..) => ExitCode::from(NOT_EXECUTABLE),
            Self::Missing | Self::Wait(_) => ExitCode::FAILURE,
        }
    }
}

/// Runs a command to its end. Ctrl-C reaches it from the terminal; without one, SIGINT is passed on. SIGTERM is passed
/// on, also for SIGQUIT and the end of the terminal. Another one, after a second or later, kills it. Other signals are
/// passed on as they are, so that none ends this process and leaves the command behind.
pub(crate) async fn run(stack: &Stack, command: &[OsString]) -> Result<ExitCode, ExecError> {
    let (program, arguments) = command.split_first().ok_or(ExecError::Missing)?;
    // Registered before the command starts: the emulator is not to end before it.
    let mut interrupted = signal(SignalKind::interrupt()).map_err(ExecError::Wait)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(ExecError::Wait)?;
    let mut hung_up = signal(SignalKind::hangup()).map_err(ExecError::Wait)?;
    let mut quit = signal(SignalKind::quit()).map_err(ExecError::Wait)?;
    let others = PASSED_ON.map(|passed| Ok((passed, signal(SignalKind::from_raw(passed.as_raw()))?)));
    let mut others = others.into_iter().collect::<io::Result<Vec<_>>>().map_err(ExecError::Wait)?;
    let mut child = Command::new(program)
        .args(arguments)
        .envs(stack.variables.values())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| ExecError::Start(program.to_string_lossy().into_owned(), error))?;
    let mut told_at: Option<Instant> = None;
    loop {
        tokio::select! {
            ended = child.wait() => return ended.map(exit_code).map_err(ExecError::Wait),
            _ = interrupted.recv() => {
                if !has_foreground() {
                    send(&child, Signal::INT);
                }
                continue;
            }
            other = poll_fn(|context| first_of(&mut others, context)) => {
                send(&child, other);
                continue;
            }
            _ = terminated.recv() => {}
            _ = hung_up.recv() => {}
            _ = quit.recv() => {}
        }
        match told_at {
            None => {
                send(&child, Signal::TERM);
                told_at = Some(Instant::now());
            }
            Some(at) if at.elapsed() < SAME_SIGNAL => {}
            Some(_) => send(&child, Signal::KILL),
        }
    }
}

/// The first signal that has come.
fn first_of(signals: &mut [(Signal, tokio::signal::unix::Signal)], context: &mut Context<'_>) -> Poll<Signal> {
    for (signal, received) in signals {
        if received.poll_recv(context).is_ready() {
            return Poll::Ready(*signal);
        }
    }
    Poll::Pending
}

/// Whether Ctrl-C in a terminal reaches this process and so the command, which is in the same group.
fn has_foreground() -> bool {
    let terminal = File::open("/dev/tty").ok();
    terminal.and_then(|terminal| tcgetpgrp(terminal).ok()).is_some_and(|group| group == getpgrp())
}

fn send(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    // It may have ended meanwhile.
    let _ = pid.map(|pid| kill_process(pid, signal));
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| SIGNALLED + signal));
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
