//! `cargo run`: starts Viral Alerts on this machine and prints its addresses.

use std::process::ExitCode;

use apigw_local::cli;
use clap::{Parser, ValueEnum};
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

    /// Whether alerts are published on an Event API (AWS AppSync) too: the parameter Delivery of the template
    #[arg(long, value_enum, default_value_t = Delivery::Gateway, help_heading = "Template")]
    delivery: Delivery,

    #[command(flatten)]
    emulator: cli::Flags,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Delivery {
    Gateway,
    Both,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Arguments = cli::parse();
    let service = Service { processes: arguments.processes };
    let flags = match arguments.delivery {
        Delivery::Gateway => arguments.emulator,
        Delivery::Both => arguments.emulator.with_parameter("Delivery", "both"),
    };
    cli::run(flags, Service::template(), &service).await
}
