//! Runs the cases of `cases/` against a WebSocket API, an HTTP API and a REST API: in this emulator, in another one, or
//! in an AWS account.

mod case;
mod client;
mod gateway;
mod load;
mod observer;
mod pattern;
mod report;
mod runner;

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use apigw_local::{ErrorChain, GatewayOptions, Options, Stack};
use aws_credential_types::Credentials;
use clap::{Parser, ValueEnum};
use hyper::Uri;

use crate::{
    case::{Api, Case},
    gateway::{Address, GatewayClient},
    report::{CaseOutcome, ConformanceReport},
    runner::CaseRunner,
};

/// Token of the API in the emulator, which only this machine reaches.
const EMULATOR_TOKEN: &str = "conformance-on-this-machine";

/// Time scale of slow cases in the emulator: limits of ten minutes pass in two seconds.
const EMULATOR_TIME_SCALE: f64 = 300.0;

/// Tests whether WebSocket, HTTP and REST APIs behave as in API Gateway
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
struct Arguments {
    /// Address of the WebSocket API, with its stage; without one, the emulator is started and tested
    #[arg(long, value_name = "URL", requires = "management", requires = "token")]
    url: Option<Uri>,

    /// Address of its management API, to which /@connections is appended
    #[arg(long, value_name = "URL", requires = "url")]
    management: Option<Uri>,

    /// Address of the HTTP API; without one, its cases are skipped
    #[arg(long, value_name = "URL", requires = "url")]
    http_api: Option<Uri>,

    /// Address of the REST API, with its stage; without one, its cases are skipped
    #[arg(long, value_name = "URL", requires = "url")]
    rest_api: Option<Uri>,

    /// Token that the template was deployed with
    #[arg(long, env = "CONFORMANCE_TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// Region in signatures
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    region: String,

    /// Parameter that the template was deployed with, unless it is the default; may be repeated
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parameter, requires = "url")]
    parameters: Vec<(String, String)>,

    /// Run only cases whose name or file contains TEXT; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,

    /// Leave out cases whose name or file contains this, such as those that a gateway's templates cannot express; may
    /// be repeated
    #[arg(long, value_name = "TEXT")]
    skip: Vec<String>,

    /// Also run cases that take ten minutes; in the emulator they always run, with shorter limits
    #[arg(long)]
    slow: bool,

    /// Measure instead of testing: connect N clients, post alerts to all of them, and print the figures as JSON
    #[arg(long, value_name = "N", requires = "url", conflicts_with_all = ["only", "skip", "slow"])]
    load: Option<NonZeroUsize>,

    /// Longest wait for anything that the gateway should do; more than the 10 seconds of the $connect integration
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    wait: u64,

    /// Format of the results
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
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
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

/// Runs the cases. Returns whether none failed.
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
                http_api: arguments.http_api.clone(),
                rest_api: arguments.rest_api.clone(),
                region: arguments.region.clone(),
                token: token.clone(),
                parameters: arguments.parameters.iter().cloned().collect(),
            };
            let deployed = address.clone();
            let wait = Duration::from_secs(arguments.wait);
            if let Some(count) = arguments.load {
                let gateway = GatewayClient::new(address, None, wait, load::POSTS_MAX).await?;
                println!("{:#}", load::measure(&gateway, count.get()).await?);
                return Ok(true);
            }
            let gateway = GatewayClient::new(address, None, wait, 0).await?;
            // Fails early if the gateway does not respond.
            gateway.call(gateway.handshake()).await?;
            let mut runner = CaseRunner::new(gateway);
            for case in &cases {
                let skipped = skip_reason(case, &deployed, arguments.slow);
                run_case(&mut report, arguments.format, case, skipped, &mut runner, false).await;
            }
            url.to_string()
        }
        _ => {
            run_in_emulator(arguments, &cases, &mut report).await?;
            "the emulator".to_owned()
        }
    };
    match arguments.format {
        Format::Text => println!("{gateway}: {}", report.summary()),
        Format::Json => println!("{:#}", report.json(&gateway)),
    }
    Ok(report.is_success())
}

fn skip_reason(case: &Case, deployed: &Address, slow: bool) -> Option<String> {
    if case.slow && !slow {
        return Some("takes minutes: run it with --slow".to_owned());
    }
    if let Some(api) = case.apis().find(|api| deployed.of_api(*api).is_none()) {
        let (kind, flag) = match api {
            Api::Http => ("an HTTP API", "--http-api"),
            Api::Rest => ("a REST API", "--rest-api"),
        };
        return Some(format!("needs {kind}: name its address with {flag}"));
    }
    if case.parameters == deployed.parameters {
        return None;
    }
    let wanted: Vec<_> = case.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Some(if wanted.is_empty() {
        "needs a deployment with the default parameters".to_owned()
    } else {
        format!("needs a deployment with {}", wanted.join(" "))
    })
}

async fn run_case(
    report: &mut ConformanceReport,
    format: Format,
    case: &Case,
    skipped: Option<String>,
    runner: &mut CaseRunner,
    is_emulator: bool,
) {
    let started = Instant::now();
    let outcome = match skipped {
        Some(why) => CaseOutcome::Skipped(why),
        None => CaseOutcome::of(runner.run(case).await, case, is_emulator),
    };
    let lines = report.add(case, &outcome, started.elapsed());
    if format == Format::Text {
        println!("{lines}");
    }
}

/// Starts the emulator once for each set of parameters, and runs the cases that need them.
async fn run_in_emulator(
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
        all.insert("Token".to_owned(), EMULATOR_TOKEN.to_owned());
        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("template.yaml");
        let options = Options {
            parameters: all,
            time_scale: if slow { EMULATOR_TIME_SCALE } else { 1.0 },
            gateway: GatewayOptions { check_signatures: true, throttles: true, ..Default::default() },
            ..Options::on_free_ports(template)
        };
        let stack = Stack::start(&options).await?;
        let variable = |name: &str| stack.aws_variables.get(name).cloned().unwrap_or_default();
        let of_kind = |kind: &str| {
            let address = stack.http_apis.iter().find(|address| address.api.starts_with(kind));
            address.map(|address| format!("http://{}{}", stack.http_addr, address.path).parse()).transpose()
        };
        let address = Address {
            http_api: of_kind("the HTTP API")?,
            rest_api: of_kind("the REST API")?,
            socket: format!("http://{}/{}", stack.ws_addr, stack.stage).parse()?,
            management: variable("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI").parse()?,
            region: variable("AWS_REGION"),
            token: EMULATOR_TOKEN.to_owned(),
            parameters: parameters.clone(),
        };
        let credentials = Credentials::new(
            variable("AWS_ACCESS_KEY_ID"),
            variable("AWS_SECRET_ACCESS_KEY"),
            None,
            None,
            "the emulator",
        );
        let gateway = GatewayClient::new(address, Some(credentials), Duration::from_secs(arguments.wait), 0).await?;
        let mut runner = CaseRunner::new(gateway);
        for case in cases {
            run_case(report, arguments.format, case, None, &mut runner, true).await;
        }
        drop(runner);
        stack.stop().await;
    }
    Ok(())
}

/// The address of a WebSocket with the scheme that the HTTP client takes.
fn http_scheme(url: &Uri) -> Result<Uri, Box<dyn std::error::Error>> {
    let scheme = match url.scheme_str() {
        Some("ws" | "http") => "http",
        Some("wss" | "https") => "https",
        _ => return Err(format!("invalid address {url}: expected ws:// or wss://").into()),
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

    #[test]
    fn a_case_is_skipped_where_its_api_or_its_deployment_is_missing() {
        let case = |more: &str| {
            let text = format!("- {{name: n, source: D, cite: c, {more}}}\n");
            case::parse(&text, Path::new("t.yaml")).expect("valid").remove(0)
        };
        let url = || Uri::from_static("http://127.0.0.1:1");
        let deployed = Address {
            socket: url(),
            management: url(),
            http_api: Some(url()),
            rest_api: None,
            region: "us-east-1".to_owned(),
            token: "t".to_owned(),
            parameters: BTreeMap::new(),
        };
        for (more, expected) in [
            ("steps: [{connect: {}}]", ""),
            ("steps: [{request: {api: http, path: /}}]", ""),
            ("steps: [{connect: {}}, {request: {api: rest, path: /}}]", "--rest-api"),
            ("parameters: {DefaultRoute: absent}, steps: []", "DefaultRoute=absent"),
            ("slow: true, steps: []", "--slow"),
        ] {
            let reason = skip_reason(&case(more), &deployed, false).unwrap_or_default();
            assert!(reason.contains(expected) && reason.is_empty() == expected.is_empty(), "{more}: {reason}");
        }
    }
}
