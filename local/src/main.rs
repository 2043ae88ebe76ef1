//! `cargo run`: starts Viral Alerts on this machine and prints its addresses.

use std::process::ExitCode;

use apigw_local::cli;
use clap::Parser;
use local::Service;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs Viral Alerts on this machine: its functions, its tables and its APIs, and a demo page.
#[derive(Debug, Parser)]
#[command(name = "viral-alerts-local", version, max_term_width = 110)]
struct Arguments {
    /// Run the functions as processes, as cargo or cargo lambda built them last, instead of in this one
    #[arg(long, conflicts_with = "lambda_endpoint", help_heading = "Functions")]
    processes: bool,

    #[command(flatten)]
    emulator: cli::Flags,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Arguments = cli::parse();
    let service = Service { processes: arguments.processes };
    cli::run(arguments.emulator, Service::template(), &service).await
}
