//! The flags of a program that runs the emulator, and the run itself until Ctrl-C.

mod hints;
mod logs;

use std::{
    ffi::OsString,
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use http_body_util::{BodyExt, Empty};
use hyper::{StatusCode, Uri, body::Bytes};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::signal::unix::{SignalKind, signal};

pub use self::hints::parse;
use crate::{
    dynamodb::TableCapacity,
    embedding::Embedding,
    error::ErrorChain,
    event_api::EventApiAddress,
    exec,
    faults::{Fault, FaultOptions},
    gateway::GatewayOptions,
    http,
    http_api::HttpApiAddress,
    init,
    rate::Rate,
    stack::{Options, Stack},
    template::TemplateSource,
    tls::TlsFiles,
    variables,
};

/// The emulator's flags, for `#[command(flatten)]`.
#[derive(Debug, Args)]
pub struct Flags {
    /// Address of the WebSocket gateway and the management API (@connections): HOST:PORT, or a port of 127.0.0.1;
    /// port 0 takes any free port [default: 8765; with exec: 0]
    #[arg(
        long,
        value_name = "ADDR",
        value_parser = address,
        env = "APIGW_LOCAL_WS_ADDR",
        hide_env_values = true,
        help_heading = "Addresses"
    )]
    ws_addr: Option<SocketAddr>,

    /// Address of the HTTP API and the inspector, in the same form [default: 8766; with exec: 0]
    #[arg(
        long,
        value_name = "ADDR",
        value_parser = address,
        env = "APIGW_LOCAL_HTTP_ADDR",
        hide_env_values = true,
        help_heading = "Addresses"
    )]
    http_addr: Option<SocketAddr>,

    /// Address of all AWS services that are here, in the same form, which AWS_ENDPOINT_URL then names. Containers reach
    /// 0.0.0.0:4566 as host.docker.internal:4566 [default: a free port, and no AWS_ENDPOINT_URL]
    #[arg(
        long,
        value_name = "ADDR",
        value_parser = address,
        env = "APIGW_LOCAL_AWS_ADDR",
        hide_env_values = true,
        help_heading = "Addresses"
    )]
    aws_addr: Option<SocketAddr>,

    /// Write the variables that lead AWS clients and functions here to this file: for a shell (. FILE) and tools that
    /// read .env files, or for `sam local --env-vars` if its name ends with .json. A file that apigw-local did not
    /// write is left alone
    #[arg(long, value_name = "FILE", help_heading = "Addresses")]
    env_file: Option<PathBuf>,

    /// Also accept requests with this host name, such as my-laptop.local; may be repeated. Other names than localhost,
    /// host.docker.internal and this machine's addresses are refused, because a web page can point its own name here
    #[arg(long = "allow-host", value_name = "NAME", help_heading = "Addresses")]
    hosts: Vec<String>,

    /// A certificate in PEM, followed by those of its issuers, for wss:// and https:// at --ws-addr and --http-addr,
    /// such as one of mkcert. Without it only --ws-addr speaks TLS, with a certificate that functions alone trust
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "Addresses")]
    tls_cert: Option<PathBuf>,

    /// The private key of that certificate in PEM, without a passphrase
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "Addresses")]
    tls_key: Option<PathBuf>,

    /// Set a parameter of the template; may be repeated
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parameter, help_heading = "Template")]
    parameters: Vec<(String, String)>,

    /// Set what only a deployed stack knows, such as Pool.ProviderURL=…, Bucket=… for what !Ref returns, or an imported
    /// value by the name of its export; may be repeated
    #[arg(long = "value", value_name = "NAME=VALUE", value_parser = parameter, help_heading = "Template")]
    values: Vec<(String, String)>,

    /// Set a secret parameter of Systems Manager, such as /my-app/token=…, or a secret of Secrets Manager that the
    /// template refers to with {{resolve:…}}; may be repeated
    #[arg(long = "secret", value_name = "NAME=VALUE", value_parser = parameter, help_heading = "Template")]
    secrets: Vec<(String, String)>,

    /// Keep the tables in this directory instead of in memory; only one process at a time can use it
    #[arg(long, value_name = "DIR", help_heading = "Tables")]
    data_dir: Option<PathBuf>,

    /// Throttle each partition key of a table or index above this many units per second; the service has 3000:1000
    #[arg(long, value_name = "READS:WRITES", help_heading = "Tables")]
    table_capacity: Option<TableCapacity>,

    /// Take the layer with this ARN, of any version or of this one, from a directory or zip file; may be repeated
    #[arg(long = "layer", value_name = "ARN=PATH", value_parser = layer, help_heading = "Functions")]
    layers: Vec<(String, PathBuf)>,

    /// Invoke the functions at this Lambda Invoke API, such as that of cargo lambda watch, instead of running them
    #[arg(long, value_name = "URL", help_heading = "Functions")]
    lambda_endpoint: Option<Uri>,

    #[command(flatten)]
    clocks: ClockFlags,

    #[command(flatten)]
    quotas: QuotaFlags,

    #[command(flatten)]
    signatures: SignatureFlags,

    #[command(flatten)]
    faults: FaultFlags,

    /// Log filter in the syntax of tracing: a level, or target=level pairs
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "RUST_LOG",
        value_parser = logs::filter,
        help_heading = "Logs"
    )]
    log: String,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Clocks")]
struct ClockFlags {
    /// Divide time limits of connections (10 minutes idle, 2 hours in total; of Event APIs 24 hours, and a ka each
    /// minute) and pauses before retries by this factor
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = time_scale)]
    time_scale: f64,

    /// Close a connection that is idle for this long, such as 2s or 500ms, instead of 10 minutes
    #[arg(long, value_name = "TIME", value_parser = at_most(GatewayOptions::IDLE_TIMEOUT_MAX))]
    idle_timeout: Option<Duration>,

    /// Close a connection after this long, instead of 2 hours
    #[arg(long, value_name = "TIME", value_parser = at_most(GatewayOptions::CONNECTION_DURATION_MAX))]
    connection_duration: Option<Duration>,

    /// Limit integrations to this time; a shorter timeout in the template still applies
    #[arg(long, value_name = "TIME", value_parser = at_most(GatewayOptions::INTEGRATION_TIMEOUT_MAX))]
    integration_timeout: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Quotas")]
struct QuotaFlags {
    /// Apply the service's quotas and the template's throttles:
    /// --connect-rate 500 --request-rate 10000:5000 --throttles, and those of Event APIs
    #[arg(long)]
    quotas: bool,

    /// Throttle routes as DefaultRouteSettings and RouteSettings of the template say; without this, they have no effect
    #[arg(long)]
    throttles: bool,

    /// Accept N clients per second, with bursts of BURST (default: N); refuse others with 429
    #[arg(long, value_name = "N[:BURST]")]
    connect_rate: Option<Rate>,

    /// Accept N messages, @connections calls and HTTP API requests per second in total, with bursts of BURST (default:
    /// half of N)
    #[arg(long, value_name = "N[:BURST]")]
    request_rate: Option<Rate>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Signatures")]
struct SignatureFlags {
    /// Verify the signatures of @connections calls, and of AWS_IAM handshakes, routes and Event APIs; without this,
    /// those of routes of HTTP and REST APIs may be missing, and all others only have to be present
    #[arg(long)]
    check_signatures: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Faults")]
struct FaultFlags {
    /// Inject a fault with this probability, from 0 to 1, such as false-gone=0.01; may be repeated. Kinds:
    /// lost-disconnect: $disconnect does not run
    /// false-gone: @connections returns 410 for a client that is connected
    /// throttled-post: a POST returns 429 and delivers nothing
    /// slow-post (slow-post=0.1:2s): a POST delivers, and returns after that time
    /// hung-post: a POST delivers, and does not return
    /// dropped-connection: a message is lost, and the connection ends without a close frame
    /// failed-invocation: an invocation fails before the function runs
    /// failed-after-run: an invocation fails after the function has run
    /// lost-event, doubled-event: an event of an Event API reaches a subscription never, or twice
    /// late-event (late-event=0.1:2s): it reaches a subscription after that time
    /// reordered-event: it reaches a subscription after the next one
    /// late-subscription (late-subscription=0.1:2s): events come only that time after subscribe_success
    /// failed-event: an event of a publish is among the failed ones
    /// throttled-publish: a publish is refused with 429 and delivers nothing
    #[arg(long = "fault", value_name = "KIND=PROBABILITY", verbatim_doc_comment)]
    faults: Vec<Fault>,

    /// Repeat the faults of the run that printed this seed
    #[arg(long, value_name = "N", requires = "faults")]
    fault_seed: Option<u64>,
}

/// Reads `HOST:PORT`, or a port of this machine's loopback address. Of several addresses of a host, IPv4 comes first:
/// clients that are told `localhost` try that.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let expected = "expected HOST:PORT, such as 127.0.0.1:8765 or localhost:8765, or a port";
    let found = text.to_socket_addrs().map_err(|error| format!("{error}; {expected}"))?;
    let found: Vec<SocketAddr> = found.collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| expected.to_owned())
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn layer(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("expected ARN=PATH")?;
    Ok((name.to_owned(), PathBuf::from(path)))
}

/// Largest time scale: two hours become 72 ms. Beyond it, a handshake may take longer than the connection may live.
const TIME_SCALE_MAX: f64 = 100_000.0;

fn time_scale(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|error| format!("{error}"))?;
    let acceptable = (1.0..=TIME_SCALE_MAX).contains(&factor);
    acceptable.then_some(factor).ok_or_else(|| format!("expected a factor from 1 to {TIME_SCALE_MAX}"))
}

/// Shortest limit of the gateway: with less, a connection ends before it can be used.
const DURATION_MIN: Duration = Duration::from_millis(1);

fn at_most(max: Duration) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| {
        let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
        let acceptable = (DURATION_MIN..=max).contains(&duration);
        acceptable
            .then_some(duration)
            .ok_or_else(|| format!("expected {DURATION_MIN:?} to {max:?}, which is the limit of the service"))
    }
}

/// Ports of the WebSocket gateway and the HTTP API without flags.
const PORTS: [u16; 2] = [8765, 8766];

impl Flags {
    /// Sets a parameter of the template, unless the command line sets it too.
    #[must_use]
    pub fn with_parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.insert(0, (name.to_owned(), value.to_owned()));
        self
    }
}

/// Runs the emulator until Ctrl-C, SIGTERM, SIGHUP or SIGQUIT, and returns the exit code of the process. Prints the
/// addresses to standard output, and logs to standard error.
pub async fn run(arguments: Flags, template: TemplateSource, program: &dyn Embedding) -> ExitCode {
    let env_file = arguments.env_file.clone();
    let options = options(arguments, template, PORTS);
    ended(run_until_signal(&options, program, env_file.as_deref()).await)
}

/// Runs a command beside the emulator, with variables that lead it here, and returns the exit code of the command.
/// Standard output is the command's: notes and logs go to standard error. Without addresses the ports are free ones.
pub async fn exec(
    arguments: Flags,
    template: TemplateSource,
    program: &dyn Embedding,
    command: &[OsString],
) -> ExitCode {
    let env_file = arguments.env_file.clone();
    let options = options(arguments, template, [0, 0]);
    let stack = match start(&options, program, env_file.as_deref()).await {
        Ok(stack) => stack,
        Err(error) => return ended(Err(error)),
    };
    stack.notes.iter().for_each(|note| eprintln!("# note: {note}"));
    let code = exec::run(&stack, command).await.unwrap_or_else(|error| {
        eprintln!("error: {}", ErrorChain(&error));
        error.exit_code()
    });
    stack.stop().await;
    code
}

fn ended(result: Result<(), Box<dyn std::error::Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", ErrorChain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Begins to log, and reads the options from the flags.
fn options(arguments: Flags, template: TemplateSource, ports: [u16; 2]) -> Options {
    logs::start(&arguments.log);
    let [ws_addr, http_addr] = ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    Options {
        ws_addr: arguments.ws_addr.unwrap_or(ws_addr),
        http_addr: arguments.http_addr.unwrap_or(http_addr),
        aws_addr: arguments.aws_addr,
        template,
        parameters: arguments.parameters.into_iter().collect(),
        values: arguments.values.into_iter().collect(),
        secrets: arguments.secrets.into_iter().collect(),
        data_dir: arguments.data_dir,
        dynamodb: None,
        table_capacity: arguments.table_capacity,
        hosts: arguments.hosts,
        tls: arguments.tls_cert.zip(arguments.tls_key).map(|(certificate, key)| TlsFiles { certificate, key }),
        layers: arguments.layers.into_iter().collect(),
        lambda_endpoint: arguments.lambda_endpoint,
        time_scale: arguments.clocks.time_scale,
        gateway: gateway_options(&arguments.clocks, &arguments.quotas, &arguments.signatures),
        faults: FaultOptions { faults: arguments.faults.faults, seed: arguments.faults.fault_seed },
    }
}

fn gateway_options(clocks: &ClockFlags, quotas: &QuotaFlags, signatures: &SignatureFlags) -> GatewayOptions {
    let or_of_service = |rate: Option<Rate>, service: Rate| rate.or(quotas.quotas.then_some(service));
    GatewayOptions {
        idle_timeout: clocks.idle_timeout,
        connection_duration: clocks.connection_duration,
        integration_timeout: clocks.integration_timeout,
        connect_rate: or_of_service(quotas.connect_rate, Rate::SERVICE_CONNECTS),
        request_rate: or_of_service(quotas.request_rate, Rate::SERVICE_REQUESTS),
        throttles: quotas.throttles || quotas.quotas,
        event_quotas: quotas.quotas,
        check_signatures: signatures.check_signatures,
    }
}

/// Starts everything, and writes the file with the variables if there is to be one.
async fn start(
    options: &Options,
    program: &dyn Embedding,
    env_file: Option<&Path>,
) -> Result<Stack, Box<dyn std::error::Error>> {
    env_file.map(variables::check_file).transpose()?;
    let stack = Stack::embedded(options, program).await?;
    env_file.map(|file| stack.variables.write(file)).transpose()?;
    Ok(stack)
}

async fn run_until_signal(
    options: &Options,
    program: &dyn Embedding,
    env_file: Option<&Path>,
) -> Result<(), Box<dyn std::error::Error>> {
    // Registered before `ready` is printed: a script that waits for that line may send a signal at once.
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    // A terminal that is closed, and Ctrl-\ in one.
    let mut hung_up = signal(SignalKind::hangup())?;
    let mut quit = signal(SignalKind::quit())?;
    let stack = start(options, program, env_file).await?;
    std::io::stdout().lock().write_all(announcement(&stack).as_bytes())?;
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
        _ = hung_up.recv() => {}
        _ = quit.recv() => {}
    }
    eprintln!("stopping: closing sockets, finishing invocations");
    stack.stop().await;
    Ok(())
}

/// Returns what is printed once everything is ready. The line that starts with `ready` comes last.
fn announcement(stack: &Stack) -> String {
    let mut lines: Vec<String> = stack.notes.iter().map(|note| format!("# note: {note}")).collect();
    lines.push(format!(
        "# variables for another terminal: eval \"$(curl -s http://{}/inspector/env)\"",
        stack.http_addr
    ));
    if let Some(address) = stack.aws_variables.get("AWS_ENDPOINT_URL") {
        lines.push(format!("# all AWS services that are here: AWS_ENDPOINT_URL={address}"));
    }
    lines.push(format!("# every frame and invocation as it happens: http://{}/inspector", stack.http_addr));
    let (secure, [ws, http]) = match &stack.tls_host {
        None => ("", [stack.ws_addr, stack.http_addr].map(|address| address.to_string())),
        Some(host) => {
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            ("s", [stack.ws_addr, stack.http_addr].map(|address| format!("{host}:{}", address.port())))
        }
    };
    let (stage, http_host) = (&stack.stage, http.clone());
    lines.extend(stack.http_apis.iter().map(|HttpApiAddress { api, host, path }| match host {
        Some(host) => format!("# {api}: http://{host}:{}{path}", stack.http_addr.port()),
        None => format!("# {api}: http{secure}://{http}{path}"),
    }));
    lines.extend(stack.event_apis.iter().map(|EventApiAddress { api, http, realtime }| {
        let of_browser = |address: &str| address.replacen(&stack.http_addr.to_string(), &http_host, 1);
        let (http, realtime) = (of_browser(http), of_browser(realtime));
        format!("# the Event API {api}: http{secure}://{http}, ws{secure}://{realtime}")
    }));
    lines.push(format!(
        "ready ws{secure}://{ws}/{stage} http{secure}://{http}/ (open the second one in a browser; Ctrl-C stops)"
    ));
    lines.join("\n") + "\n"
}

/// Address of the HTTP API and the inspector without flags.
pub const HTTP_ADDR_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORTS[1]);

/// Why the variables of a running emulator cannot be printed.
#[derive(Debug, thiserror::Error)]
enum EnvError {
    #[error("no emulator answers at {0}: start it, or name its HTTP address with --http-addr")]
    Unreachable(SocketAddr, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{0} did not answer as an emulator does ({1}): name its HTTP address with --http-addr")]
    Other(SocketAddr, StatusCode),
}

/// Prints the variables that lead other programs to the emulator that runs at an address, as lines for a shell.
pub async fn env(http_addr: SocketAddr) -> ExitCode {
    let printed = async {
        let text = variables_of(http::reachable(http_addr)).await?;
        std::io::stdout().lock().write_all(&text)?;
        Ok(())
    };
    ended(printed.await)
}

async fn variables_of(http_addr: SocketAddr) -> Result<Bytes, EnvError> {
    let unreachable = |error: Box<dyn std::error::Error + Send + Sync>| EnvError::Unreachable(http_addr, error);
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let uri = format!("http://{http_addr}/inspector/env").parse().map_err(|error| unreachable(Box::new(error)))?;
    let answer = client.get(uri).await.map_err(|error| unreachable(error.into()))?;
    if answer.status() != StatusCode::OK {
        return Err(EnvError::Other(http_addr, answer.status()));
    }
    Ok(answer.into_body().collect().await.map_err(|error| unreachable(error.into()))?.to_bytes())
}

/// Writes the smallest project that works to a directory, and says the next command.
pub fn init(directory: &Path) -> ExitCode {
    let written = || -> Result<(), Box<dyn std::error::Error>> {
        let said = init::write(directory)?;
        Ok(std::io::stdout().lock().write_all(said.as_bytes())?)
    };
    ended(written())
}

/// Prints what makes a shell complete the arguments of a program.
pub fn completions<P: CommandFactory>(shell: Shell) -> ExitCode {
    let mut command = P::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    ended(std::io::stdout().lock().write_all(&script).map_err(Into::into))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_with_a_port_or_a_port() {
        let read = |text: &str| address(text).map(|address| address.to_string());
        assert_eq!(read("8765").as_deref(), Ok("127.0.0.1:8765"));
        assert_eq!(read("0.0.0.0:0").as_deref(), Ok("0.0.0.0:0"));
        assert_eq!(read("[::1]:9").as_deref(), Ok("[::1]:9"));
        assert_eq!(read("localhost:9").as_deref(), Ok("127.0.0.1:9"));
        for text in ["", "localhost", "99999", "127.0.0.1", ":", "no host:1"] {
            assert!(read(text).is_err_and(|error| error.contains("expected HOST:PORT")), "{text}");
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        Flags::augment_args(clap::Command::new("emulator")).debug_assert();
    }
}
