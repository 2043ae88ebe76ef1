//! Keeps many connections open while some come and go, and watches memory, closes and alerts.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use crate::{
    ALERT, Outcome, WAIT_MAX,
    client::{Subscriber, connect_all, post},
    process::Server,
};

/// Interval of alerts. Connections come and go in between.
const ROUND: Duration = Duration::from_secs(10);

/// Connections replaced in each round, half with a close frame and half without.
const REPLACED: usize = 400;

/// A subscriber that counts its alerts in the background.
struct Counting {
    received: Arc<AtomicU64>,
    reader: JoinHandle<Outcome<()>>,
    /// Tells it to close: with a close frame, or without.
    close: tokio::sync::oneshot::Sender<bool>,
    /// Alerts that it should receive.
    expected: u64,
}

impl Counting {
    fn of(mut subscriber: Subscriber) -> Self {
        let received = Arc::new(AtomicU64::new(0));
        let (close, mut closing) = tokio::sync::oneshot::channel();
        let count = Arc::clone(&received);
        let reader = tokio::spawn(async move {
            loop {
                tokio::select! {
                    frame = subscriber.any_frame() => {
                        frame?;
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    politely = &mut closing => {
                        // Without a close frame, the socket is dropped.
                        return if politely.unwrap_or(false) { subscriber.close().await } else { Ok(()) };
                    }
                }
            }
        });
        Self { received, reader, close, expected: 0 }
    }

    async fn close(self, politely: bool) -> Outcome<()> {
        // The reader ends only with the connection, and then reports that.
        let _ = self.close.send(politely);
        self.reader.await?
    }
}

/// Runs for `minutes` with `connections`, and prints one line for each minute.
pub(crate) async fn run(minutes: u64, connections: usize) -> Outcome<()> {
    let local = Server::local().await?;
    let idle_kb = local.resident_kb()?;
    let began = Instant::now();
    let mut open: VecDeque<Counting> =
        connect_all(&local.ws, "?region=PL", connections).await?.into_iter().map(Counting::of).collect();
    println!("| minute | connections | closed so far | alerts | frames | resident | per connection | CPU |");
    println!("|---|---|---|---|---|---|---|---|");
    let (mut closed, mut alerts, mut printed) = (0_u64, 0_u64, 0);
    let frames = |open: &VecDeque<Counting>| open.iter().map(|one| one.received.load(Ordering::Relaxed)).sum::<u64>();
    let mut frames_of_closed = 0;
    while began.elapsed() < Duration::from_secs(minutes * 60) {
        let round = Instant::now();
        let mut closing = JoinSet::new();
        for number in 0..REPLACED.min(connections) {
            let Some(one) = open.pop_front() else { break };
            frames_of_closed += one.received.load(Ordering::Relaxed);
            closing.spawn(one.close(number % 2 == 0));
        }
        while let Some(ended) = closing.join_next().await {
            ended??;
            closed += 1;
        }
        open.extend(
            connect_all(&local.ws, "?region=PL", connections - open.len()).await?.into_iter().map(Counting::of),
        );
        until("every close has been seen", async || Ok(connected(&local).await? == connections)).await?;

        alerts += 1;
        post(&local.http, ALERT).await?;
        open.iter_mut().for_each(|one| one.expected += 1);
        let arrived = async || Ok(open.iter().all(|one| one.received.load(Ordering::Relaxed) == one.expected));
        until("every connection has every alert once", arrived).await?;

        let minute = began.elapsed().as_secs() / 60;
        if minute > printed {
            printed = minute;
            let resident_kb = local.resident_kb()?;
            println!(
                "| {minute} | {connections} | {closed} | {alerts} | {} | {:.0} MB | {:.1} KB | {:.0} s |",
                frames_of_closed + frames(&open),
                resident_kb as f64 / 1024.0,
                (resident_kb - idle_kb) as f64 / connections as f64,
                local.cpu()?.as_secs_f64(),
            );
        }
        sleep(ROUND.saturating_sub(round.elapsed())).await;
    }
    let mut closing = JoinSet::new();
    open.into_iter().enumerate().for_each(|(number, one)| drop(closing.spawn(one.close(number % 2 == 0))));
    while let Some(ended) = closing.join_next().await {
        ended??;
    }
    until("no connection is left", async || Ok(connected(&local).await? == 0)).await?;
    until("no subscription is left", async || Ok(items(&local, "SubscriptionsTable").await? == 0)).await?;
    println!(
        "\nAll closed: no connection and no subscription is left, {:.0} MB resident.",
        local.resident_kb()? as f64 / 1024.0
    );
    local.stop().await
}

/// Waits until a condition is true.
async fn until(what: &str, is_so: impl AsyncFn() -> Outcome<bool>) -> Outcome<()> {
    let began = Instant::now();
    while !is_so().await? {
        if began.elapsed() > WAIT_MAX {
            return Err(format!("not within {} s: {what}", WAIT_MAX.as_secs()).into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Returns the number of sockets of the gateway.
async fn connected(local: &Server) -> Outcome<usize> {
    let body = exchange(&local.http, "GET /local.json", "", "").await?;
    let body: Value = serde_json::from_str(&body)?;
    Ok(body["connected"].as_u64().ok_or("no count of connections")?.try_into()?)
}

/// Returns the number of items of a table.
async fn items(local: &Server, table: &str) -> Outcome<u64> {
    let headers = "X-Amz-Target: DynamoDB_20120810.Scan\r\nContent-Type: application/x-amz-json-1.0\r\n\
        Authorization: AWS4-HMAC-SHA256 Credential=local/20260101/eu-central-1/dynamodb/aws4_request, \
        SignedHeaders=host, Signature=0\r\n\
        X-Amz-Date: 20260101T000000Z\r\n";
    let body = format!(r#"{{"TableName":"{table}","Select":"COUNT"}}"#);
    let variables = exchange(&local.http, "GET /inspector/env", "", "").await?;
    let address = variables.lines().find_map(|line| line.strip_prefix("export AWS_ENDPOINT_URL_DYNAMODB="));
    let address = address.ok_or("no address of DynamoDB")?;
    let answer: Value = serde_json::from_str(&exchange(address, "POST /", headers, &body).await?)?;
    answer["Count"].as_u64().ok_or_else(|| answer.to_string().into())
}

async fn exchange(url: &str, request: &str, headers: &str, body: &str) -> Outcome<String> {
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    let mut socket = TcpStream::connect(host).await?;
    let length = body.len();
    let request = format!(
        "{request} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    socket.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    socket.read_to_string(&mut response).await?;
    let (_, body) = response.split_once("\r\n\r\n").ok_or("no answer")?;
    Ok(body.to_owned())
}
