//! Time from the start of each function's process to its first request for an event, and the size of its program.

use std::{process::Stdio, time::Instant};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::Command,
    time::timeout,
};

use crate::{Outcome, WAIT_MAX, figures::Figures, process::sibling};

/// Starts of each function per run.
const STARTS_PER_RUN: usize = 10;

const FUNCTIONS: [&str; 10] =
    ["alerts", "authorize", "canary", "connect", "disconnect", "subscribe", "publish", "deliver", "recover", "scorer"];

/// Measures start-up and size of every function.
pub(crate) async fn of_functions(runs: usize) -> Outcome<()> {
    for function in FUNCTIONS {
        let path = sibling(function)?;
        let mut figures = Figures::new();
        for _ in 0..runs * STARTS_PER_RUN {
            let runtime_api = TcpListener::bind("127.0.0.1:0").await?;
            let started = Instant::now();
            let _child = Command::new(&path)
                .stderr(Stdio::null())
                .env("AWS_LAMBDA_RUNTIME_API", runtime_api.local_addr()?.to_string())
                .env("AWS_LAMBDA_FUNCTION_NAME", function)
                .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
                .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
                .env("AWS_REGION", "eu-central-1")
                .env("SUBSCRIPTIONS_TABLE", "t")
                .env("ALERTS_TABLE", "t")
                .env("DELIVER_FUNCTION", "f")
                .env("PUBLISH_FUNCTION", "f")
                .env("UNDELIVERED_QUEUE", "q")
                .env("UNPUBLISHED_QUEUE", "q")
                .env("FEED_URL", "https://example.com/feed.json")
                .env("SCORES_TABLE", "t")
                .env("SOCKET_URL", "wss://abcdefghij.execute-api.eu-central-1.amazonaws.com/prod")
                .env("CANARY_TOKEN_PARAMETER", "/viral-alerts/canary")
                .env("AUTHORIZATION", "required")
                .env("TOKEN_ISSUER", "https://example.com/")
                .env("TOKEN_AUDIENCE", "a")
                .env("JWKS_URL", "https://example.com/keys.json")
                // TLS as in Lambda: certificates are read at the start.
                .env(
                    "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI",
                    "https://abcdefghij.execute-api.eu-central-1.amazonaws.com/prod",
                )
                .kill_on_drop(true)
                .spawn()?;
            let (socket, _) = timeout(WAIT_MAX, runtime_api.accept()).await??;
            let mut request = String::new();
            BufReader::new(socket).read_line(&mut request).await?;
            if !request.contains("/invocation/next") {
                return Err(format!("{function} asked for {request}").into());
            }
            figures.add(started.elapsed());
        }
        let kb = std::fs::metadata(&path)?.len() / 1024;
        figures.print(&format!("{function}: start of the process to its first `next` (binary of {kb} KB)"));
    }
    Ok(())
}
