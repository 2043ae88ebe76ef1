//! Runs the cases of `cases/` against a WebSocket API: the local mode, another emulator, or an API in an account.

mod case;
mod client;
mod gateway;
mod observer;
mod pattern;
mod report;
mod runner;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use apigw_local::{ErrorChain, GatewayOptions, Options, Stack};
use aws_credential_types::Credentials;
use clap::{Parser, ValueEnum};
use hyper::Uri;

use crate::{
    case::Case,
    gateway::{Address, GatewayClient},
    report::{CaseOutcome, ConformanceReport},
    runner::CaseRunner,
};

/// Token of the API that this program starts itself, which only this machine reaches.
const LOCAL_TOKEN: &str = "conformance-on-this-machine";

/// How many times faster limits pass in slow cases on the API that this program starts: ten minutes in two seconds.
const LOCAL_TIME_SCALE: f64 = 300.0;

/// Looks whether a WebSocket API behaves as API Gateway does
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
struct Arguments {
    /// Address of the WebSocket API, with its stage; without one the local mode is started and looked at
    #[arg(long, value_name = "URL", requires = "management", requires = "token")]
    url: Option<Uri>,

    /// Address of its management API, what /@connections follows
    #[arg(long, value_name = "URL", requires = "url")]
    management: Option<Uri>,

    /// Token with which the template was deployed
    #[arg(long, env = "CONFORMANCE_TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// Region in signatures
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    region: String,

    /// A parameter with which the template was deployed, where it is not the default; may be repeated
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parameter, requires = "url")]
    parameters: Vec<(String, String)>,

    /// Run only cases whose name or file contains this; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,

    /// Leave out cases whose name or file contains this, such as those that a gateway's templates cannot express; may
    /// be repeated
    #[arg(long, value_name = "TEXT")]
    skip: Vec<String>,

    /// Run the cases too that take ten minutes; the local mode always runs them, in shrunken time
    #[arg(long)]
    slow: bool,

    /// Longest wait for anything that a gateway should do, in seconds; the $connect integration has 10
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    wait: u64,

    /// How to print the results
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// Directory of the cases
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/cases"))]
    cases: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line for each case
    Text,
    /// One JSON object at the end
    Json,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a parameter is given as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", ErrorChain(error.as_ref()));
            ExitCode::from(2)
        }
    }
}

/// Runs the cases. Whether none failed.
async fn run(arguments: &Arguments) -> Result<bool, Box<dyn std::error::Error>> {
    let mut cases = case::load(&arguments.cases)?;
    let contains = |case: &Case, text: &String| case.name.contains(text) || case.file.contains(text);
    let is_named = |case: &Case, texts: &[String]| texts.iter().any(|text| contains(case, text));
    cases.retain(|case| arguments.only.is_empty() || is_named(case, &arguments.only));
    cases.retain(|case| !is_named(case, &arguments.skip));
    let mut report = ConformanceReport::default();
    let gateway = match (&arguments.url, &arguments.management, &arguments.token) {
        (Some(url), Some(management), Some(token)) => {
            let address = Address {
                socket: http_scheme(url)?,
                management: management.clone(),
                region: arguments.region.clone(),
                token: token.clone(),
                parameters: arguments.parameters.iter().cloned().collect(),
            };
            let deployed = address.parameters.clone();
            let gateway = GatewayClient::new(address, None, Duration::from_secs(arguments.wait)).await?;
            // Where nobody answers there is nothing to look at.
            gateway.call(runner::handshake(&gateway)).await?;
            let mut session = CaseRunner::new(gateway);
            for case in &cases {
                let skipped = why_skipped(case, &deployed, arguments.slow);
                look(&mut report, arguments.format, case, skipped, &mut session, false).await;
            }
            url.to_string()
        }
        _ => {
            run_locally(arguments, &cases, &mut report).await?;
            "the local mode".to_owned()
        }
    };
    match arguments.format {
        Format::Text => println!("{gateway}: {}", report.summary()),
        Format::Json => println!("{:#}", report.json(&gateway)),
    }
    Ok(report.is_success())
}

fn why_skipped(case: &Case, deployed: &BTreeMap<String, String>, slow: bool) -> Option<String> {
    if case.slow && !slow {
        return Some("takes minutes: --slow".to_owned());
    }
    if case.parameters == *deployed {
        return None;
    }
    let wanted: Vec<_> = case.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Some(if wanted.is_empty() {
        "needs a deployment with the default parameters".to_owned()
    } else {
        format!("needs a deployment with {}", wanted.join(" "))
    })
}

async fn look(
    report: &mut ConformanceReport,
    format: Format,
    case: &Case,
    skipped: Option<String>,
    session: &mut CaseRunner,
    is_ours: bool,
) {
    let started = Instant::now();
    let outcome = match skipped {
        Some(why) => CaseOutcome::Skipped(why),
        None => CaseOutcome::of(session.run(case).await, case, is_ours),
    };
    let lines = report.add(case, &outcome, started.elapsed());
    if format == Format::Text {
        println!("{lines}");
    }
}

/// Starts the local mode once for each set of parameters, and runs the cases that need it.
async fn run_locally(
    arguments: &Arguments,
    cases: &[Case],
    report: &mut ConformanceReport,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut groups: BTreeMap<(bool, &BTreeMap<String, String>), Vec<&Case>> = BTreeMap::new();
    for case in cases {
        groups.entry((case.slow, &case.parameters)).or_default().push(case);
    }
    for ((slow, parameters), cases) in groups {
        let mut all = parameters.clone();
        all.insert("Token".to_owned(), LOCAL_TOKEN.to_owned());
        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("template.yaml");
        let options = Options {
            parameters: all,
            time_scale: if slow { LOCAL_TIME_SCALE } else { 1.0 },
            gateway: GatewayOptions { check_signatures: true, throttles: true, ..Default::default() },
            ..Options::on_free_ports(template)
        };
        let stack = Stack::start(&options).await?;
        let variable = |name: &str| stack.aws_variables.get(name).cloned().unwrap_or_default();
        let address = Address {
            socket: format!("http://{}/{}", stack.ws_addr, stack.stage).parse()?,
            management: variable("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI").parse()?,
            region: variable("AWS_REGION"),
            token: LOCAL_TOKEN.to_owned(),
            parameters: parameters.clone(),
        };
        let credentials = Credentials::new(
            variable("AWS_ACCESS_KEY_ID"),
            variable("AWS_SECRET_ACCESS_KEY"),
            None,
            None,
            "local mode",
        );
        let gateway = GatewayClient::new(address, Some(credentials), Duration::from_secs(arguments.wait)).await?;
        let mut session = CaseRunner::new(gateway);
        for case in cases {
            look(report, arguments.format, case, None, &mut session, true).await;
        }
        drop(session);
        stack.stop().await;
    }
    Ok(())
}

/// The address of a WebSocket as the HTTP client takes it.
fn http_scheme(url: &Uri) -> Result<Uri, Box<dyn std::error::Error>> {
    let scheme = match url.scheme_str() {
        Some("ws" | "http") => "http",
        Some("wss" | "https") => "https",
        _ => return Err(format!("{url} is not the address of a WebSocket: ws:// or wss://").into()),
    };
    let mut parts = url.clone().into_parts();
    parts.scheme = Some(scheme.parse()?);
    Ok(Uri::from_parts(parts)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
