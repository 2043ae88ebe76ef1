//! `apigw-local`: runs the template of an API Gateway WebSocket API on this machine.

use std::{path::PathBuf, process::ExitCode};

use apigw_local::{TemplateSource, cli};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs API Gateway WebSocket and HTTP APIs, Lambda functions and DynamoDB tables from a SAM template on this machine
#[derive(Debug, Parser)]
#[command(name = "apigw-local", version, max_term_width = 110)]
struct Arguments {
    /// The SAM template to run
    #[arg(long, value_name = "FILE", default_value = "template.yaml", help_heading = "Template")]
    template: PathBuf,

    #[command(flatten)]
    emulator: cli::Flags,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    cli::run(arguments.emulator, TemplateSource::File(arguments.template), &()).await
}
