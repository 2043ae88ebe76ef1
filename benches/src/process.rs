//! The emulator and its peers as processes, and their memory and CPU time.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{Outcome, WAIT_MAX};

/// Clock ticks per second in `/proc`, on every Linux that Rust supports.
const TICKS_PER_SEC: u64 = 100;

/// A server that has printed `ready` with its WebSocket address and its publish address.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// The WebSocket address, with the stage of the emulator.
    pub(crate) ws: String,
    /// The publish address.
    pub(crate) http: String,
}

impl Server {
    /// Starts the service in the emulator, without quotas.
    pub(crate) async fn local() -> Outcome<Self> {
        Self::local_with(&["--parameter", "PushRate=1000000"]).await
    }

    /// Starts the service in the emulator: the program beside this one.
    pub(crate) async fn local_with(arguments: &[&str]) -> Outcome<Self> {
        let mut command = Command::new(sibling("viral-alerts-local")?);
        command.args(["--ws-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--log", "error"]).args(arguments);
        Self::start(command).await
    }

    /// Starts a peer.
    pub(crate) async fn peer(program: &Path, arguments: &[&str]) -> Outcome<Self> {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::start(command).await
    }

    async fn start(mut command: Command) -> Outcome<Self> {
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        while let Some(line) = timeout(WAIT_MAX, lines.next_line()).await?? {
            if let Some(ready) = line.strip_prefix("ready ") {
                let mut words = ready.split(' ').map(str::to_owned);
                let (ws, http) = (words.next(), words.next());
                return Ok(Self { child, ws: ws.ok_or("no address")?, http: http.ok_or("no address")? });
            }
        }
        Err(format!("{:?} ended without being ready; does it run from the root of the repository?", command).into())
    }

    /// Returns the resident memory in KB of 1,024 bytes.
    pub(crate) fn resident_kb(&self) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.split_whitespace().next().ok_or("no figure")?.parse()?)
    }

    /// Returns the CPU time used so far, in ticks.
    pub(crate) fn cpu(&self) -> Outcome<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()?))?;
        let (_, fields) = stat.rsplit_once(')').ok_or("no fields")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let (user, system): (u64, u64) = (fields[11].parse()?, fields[12].parse()?);
        Ok(Duration::from_millis((user + system) * 1_000 / TICKS_PER_SEC))
    }

    /// Returns the CPU time used so far by each thread, by its id, in nanoseconds as the scheduler counts it, and
    /// whether its name begins with `name`.
    pub(crate) fn cpu_of_threads(&self, name: &str) -> Outcome<BTreeMap<OsString, (bool, Duration)>> {
        let mut threads = BTreeMap::new();
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid()?))? {
            let path = thread?.path();
            // A thread may end at any time.
            let read = |file| std::fs::read_to_string(path.join(file)).ok();
            let (Some(comm), Some(schedstat)) = (read("comm"), read("schedstat")) else { continue };
            let running = Duration::from_nanos(schedstat.split_whitespace().next().ok_or("no fields")?.parse()?);
            threads.insert(path.file_name().unwrap_or_default().to_owned(), (comm.starts_with(name), running));
        }
        Ok(threads)
    }

    /// Stops it as Ctrl-C does.
    pub(crate) async fn stop(mut self) -> Outcome<()> {
        Command::new("sh").args(["-c", &format!("kill -INT {}", self.pid()?)]).status().await?;
        timeout(WAIT_MAX, self.child.wait()).await??;
        Ok(())
    }

    fn pid(&self) -> Outcome<u32> {
        self.child.id().ok_or_else(|| "the server has ended".into())
    }
}

/// Returns the path of a program beside this one.
pub(crate) fn sibling(name: &str) -> Outcome<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("{} is missing: build with --workspace --bins", path.display()).into())
    }
}
