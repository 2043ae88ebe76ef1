//! The bridge as a service: writes JSON log lines to standard output, and shuts down at SIGTERM and SIGINT.

use std::process::ExitCode;

use bridge::{Options, StartError, Unpublished};
use clap::Parser;
use shared::error::ErrorChain;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Exit status for an invalid configuration, as for invalid flags.
const MISCONFIGURED: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    tracing_subscriber::fmt().json().with_env_filter(EnvFilter::new(&options.log)).init();
    match run(options).await {
        Ok(Unpublished { messages: 0, entries }) => {
            tracing::info!(entries, "stopped");
            ExitCode::SUCCESS
        }
        Ok(Unpublished { messages, entries }) => {
            // The entries will be read again, the messages are lost.
            tracing::error!(messages, entries, "stopped before everything was published");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {}", ErrorChain(error.as_ref()));
            ExitCode::from(if error.is::<StartError>() { MISCONFIGURED } else { 1 })
        }
    }
}

async fn run(options: Options) -> Result<Unpublished, Box<dyn std::error::Error>> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let stop = async {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
        tracing::info!("stopping: nothing more is read");
    };
    Ok(bridge::run(options, stop).await?)
}
