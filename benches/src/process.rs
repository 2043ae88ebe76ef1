//! The local mode as a process of its own, and what the system says of it.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{Outcome, WAIT_MAX};

/// Clock ticks per second in `/proc`, the same on every Linux that Rust runs on.
const TICKS_PER_SEC: u64 = 100;

/// A running local mode.
#[derive(Debug)]
pub(crate) struct Local {
    child: Child,
    /// Address of the gateway with its stage.
    pub(crate) ws: String,
    /// Address of the HTTP API.
    pub(crate) http: String,
    /// Address of DynamoDB.
    pub(crate) dynamodb: String,
}

impl Local {
    /// Starts the program beside this one and waits for its `ready` line.
    pub(crate) async fn start() -> Outcome<Self> {
        let mut child = Command::new(sibling("local")?)
            .args(["--ws-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--log", "error"])
            // The gateway here has no quota unless it is asked for one, so what is measured is how fast posts can be made.
            .args(["--parameter", "PushRate=1000000"])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let mut dynamodb = String::new();
        while let Some(line) = timeout(WAIT_MAX, lines.next_line()).await?? {
            if let Some(address) = line.strip_prefix("export AWS_ENDPOINT_URL_DYNAMODB=") {
                dynamodb = address.to_owned();
            }
            if let Some(ready) = line.strip_prefix("ready ") {
                let mut words = ready.split(' ').map(str::to_owned);
                let (ws, http) = (words.next(), words.next());
                return Ok(Self { child, ws: ws.ok_or("no address")?, http: http.ok_or("no address")?, dynamodb });
            }
        }
        Err("the local mode ended without being ready; does it run from this directory?".into())
    }

    /// Resident memory, in KB of 1,024 bytes.
    pub(crate) fn resident_kb(&self) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.split_whitespace().next().ok_or("no figure")?.parse()?)
    }

    /// CPU time used so far.
    pub(crate) fn cpu(&self) -> Outcome<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()?))?;
        let (_, fields) = stat.rsplit_once(')').ok_or("no fields")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let (user, system): (u64, u64) = (fields[11].parse()?, fields[12].parse()?);
        Ok(Duration::from_millis((user + system) * 1_000 / TICKS_PER_SEC))
    }

    /// Ends it as Ctrl-C does.
    pub(crate) async fn stop(mut self) -> Outcome<()> {
        Command::new("sh").args(["-c", &format!("kill -INT {}", self.pid()?)]).status().await?;
        timeout(WAIT_MAX, self.child.wait()).await??;
        Ok(())
    }

    fn pid(&self) -> Outcome<u32> {
        self.child.id().ok_or_else(|| "the local mode has ended".into())
    }
}

/// A program in the directory of this one.
pub(crate) fn sibling(name: &str) -> Outcome<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("{} is missing: build with --workspace --bins", path.display()).into())
    }
}
