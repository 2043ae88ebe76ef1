//! `apigw-local`: runs the template of an API Gateway WebSocket API, and its HTTP and REST APIs, on this machine.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, process::ExitCode};

use apigw_local::{TemplateSource, cli};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What people do most.
const EXAMPLES: &str = "\
Examples:
  apigw-local                                    run the template of this directory
  apigw-local --template app.yaml --parameter Stage=dev
  apigw-local --ws-addr 3001 --http-addr 3000    on other ports of 127.0.0.1
  apigw-local exec -- npm test                   run tests beside it, on free ports
  eval \"$(apigw-local env)\"                     lead AWS clients of this shell to it
  apigw-local init my-api                        write a small project to begin with";

/// Runs API Gateway WebSocket, HTTP and REST APIs, AppSync Event APIs, Lambda functions, DynamoDB tables and their
/// streams, SQS, SNS, EventBridge and parameters of Systems Manager from a SAM template on this machine
#[derive(Debug, Parser)]
#[command(
    name = "apigw-local",
    version,
    max_term_width = 110,
    args_conflicts_with_subcommands = true,
    after_help = EXAMPLES
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything on free ports, run a command with the variables that lead it there, and end with its status
    Exec {
        #[command(flatten)]
        run: Box<Run>,

        /// The command with its arguments, such as: apigw-local exec -- npm test
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },

    /// Write the smallest project that works, here and on AWS: a template and a function in Node.js
    Init {
        /// Where to; the directory is made if it does not exist
        #[arg(value_name = "DIR", default_value = ".")]
        directory: PathBuf,
    },

    /// Print a script that makes a shell complete arguments, such as: source <(apigw-local completions bash)
    Completions {
        /// The shell
        shell: Shell,
    },

    /// Print the variables that lead AWS clients and functions to the emulator that runs, such as:
    /// eval "$(apigw-local env)"
    Env {
        /// HTTP address of the emulator
        #[arg(
            long,
            value_name = "ADDR",
            value_parser = cli::address,
            env = "APIGW_LOCAL_HTTP_ADDR",
            hide_env_values = true,
            default_value_t = cli::HTTP_ADDR_DEFAULT
        )]
        http_addr: SocketAddr,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// What to run: a SAM or CloudFormation template, a directory with one, serverless.yml, cdk.json or a cdk.out; may
    /// be repeated for several stacks of one application
    #[arg(long = "template", value_name = "PATH", default_value = ".", help_heading = "Template")]
    templates: Vec<PathBuf>,

    #[command(flatten)]
    emulator: cli::Flags,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Arguments = cli::parse();
    match arguments.command {
        None => cli::run(arguments.run.emulator, TemplateSource::Paths(arguments.run.templates), &()).await,
        Some(Command::Init { directory }) => cli::init(&directory),
        Some(Command::Completions { shell }) => cli::completions::<Arguments>(shell),
        Some(Command::Env { http_addr }) => cli::env(http_addr).await,
        Some(Command::Exec { run, command }) => {
            let Run { templates, emulator } = *run;
            cli::exec(emulator, TemplateSource::Paths(templates), &(), &command).await
        }
    }
}
