//! Runs a case, step by step, until a step fails.

use std::{collections::BTreeMap, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{
        CloseFrame,
        frame::{
            Frame,
            coding::{Data, OpCode},
        },
    },
};

use crate::{
    case::{
        ApiRequest, Call, Case, Connect, Endpoint, EventKind, Expect, ExpectEvent, ExpectedFrame, HeaderValues, Sdk,
        SendFrame, SentBody, SentMessage, Step,
    },
    client::Client,
    gateway::{GatewayClient, HttpRequest, HttpResponse, RequestError},
    observer::{ObservedEvent, Observer, ObserverError},
    pattern::{Difference, Pattern, Variables, placeholders},
};

/// Longest text in a message, in characters.
const SHOWN_CHARACTERS_MAX: usize = 600;

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StepFailure {
    /// Number of the step, from 1.
    pub(crate) step: usize,
    /// The kind of step.
    pub(crate) verb: &'static str,
    pub(crate) expected: String,
    pub(crate) got: String,
}

/// Runs cases against one gateway. They share the observer.
pub(crate) struct CaseRunner {
    pub(crate) gateway: GatewayClient,
    observer: Option<Observer>,
    cases: usize,
}

impl CaseRunner {
    pub(crate) fn new(gateway: GatewayClient) -> Self {
        Self { gateway, observer: None, cases: 0 }
    }

    /// Runs a case.
    pub(crate) async fn run(&mut self, case: &Case) -> Result<(), StepFailure> {
        self.cases += 1;
        let number = self.cases;
        let mut run = CaseRun { runner: self, number, clients: BTreeMap::new(), variables: Variables::default() };
        for (index, step) in case.steps.iter().enumerate() {
            let failure = |Difference { expected, got }: Difference| StepFailure {
                step: index + 1,
                verb: verb(step),
                expected,
                got: shortened(&got),
            };
            run.step(step).await.map_err(failure)?;
        }
        Ok(())
    }

    async fn observer(&mut self) -> Result<&mut Observer, ObserverError> {
        if self.observer.is_none() {
            self.observer = Some(Observer::start(&self.gateway).await?);
        }
        self.observer.as_mut().ok_or_else(|| ObserverError::NoId("nothing".to_owned()))
    }
}

const fn verb(step: &Step) -> &'static str {
    match step {
        Step::Connect(_) => "connect",
        Step::Send(_) => "send",
        Step::Close(_) => "close",
        Step::Drop(_) => "drop",
        Step::Expect(_) => "expect",
        Step::ExpectEvent(_) => "expect-event",
        Step::ExpectNoEvent(_) => "expect-no-event",
        Step::Call(_) => "call",
        Step::Sdk(_) => "sdk",
        Step::Request(_) => "request",
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

fn differs(expected: impl Into<String>, got: impl Into<String>) -> Difference {
    Difference { expected: expected.into(), got: got.into() }
}

fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    apigw_local::ErrorChain(error).to_string()
}

fn failed_request(expected: &str) -> impl Fn(RequestError) -> Difference {
    move |error| differs(expected, with_causes(&error))
}

fn expected_status(status: Option<u16>) -> String {
    status.map_or_else(|| "a response".to_owned(), |status| format!("status {status}"))
}

struct CaseRun<'a> {
    runner: &'a mut CaseRunner,
    number: usize,
    clients: BTreeMap<String, Client>,
    variables: Variables,
}

impl CaseRun<'_> {
    async fn step(&mut self, step: &Step) -> Result<(), Difference> {
        match step {
            Step::Connect(connect) => self.connect(connect).await,
            Step::Send(send) => self.send(send).await,
            Step::Close(close) => {
                let frame =
                    close.code.map(|code| CloseFrame { code: code.into(), reason: close.reason.clone().into() });
                let sent = self.client(&close.client)?.send(Message::Close(frame));
                sent.then_some(()).ok_or_else(|| differs("an open connection", "one that has ended"))
            }
            Step::Drop(drop) => {
                self.client(&drop.client)?;
                self.clients.remove(&drop.client);
                Ok(())
            }
            Step::Expect(expect) => self.expect(expect).await,
            Step::ExpectEvent(expect) => self.expect_event(expect).await,
            Step::ExpectNoEvent(expect) => match self.event(&expect.kind, Duration::ZERO).await? {
                None => Ok(()),
                Some(observed) => {
                    Err(differs(format!("no event {}", expect.kind.event_type), observed.event.to_string()))
                }
            },
            Step::Call(call) => self.call(call).await,
            Step::Sdk(sdk) => self.sdk(sdk).await,
            Step::Request(request) => self.request(request).await,
        }
    }

    /// The observer's name for a client of this case.
    fn label(&self, client: &str) -> String {
        format!("{}.{client}", self.number)
    }

    fn client(&mut self, client: &str) -> Result<&mut Client, Difference> {
        self.clients.get_mut(client).ok_or_else(|| differs(format!("{client} to be connected"), "no connection"))
    }

    /// Replaces the placeholders of a text. Ids of clients come from the observer.
    async fn fill(&mut self, text: &str) -> Result<String, Difference> {
        for name in placeholders(text) {
            if self.variables.knows(name) {
                continue;
            }
            let wait = self.runner.gateway.wait;
            let expected = || format!("an event with the value of {{{name}}}");
            let Some((client, "id" | "escaped")) = name.split_once('.') else {
                return Err(differs(format!("a value of {{{name}}} from an earlier step"), "nothing"));
            };
            let label = self.label(client);
            let observer = self.runner.observer().await.map_err(|error| differs(expected(), with_causes(&error)))?;
            let id = observer.id_of(&label, wait).await.ok_or_else(|| differs(expected(), "no event"))?;
            self.name(client, &id);
        }
        Ok(self.variables.fill_known(text))
    }

    /// Sets the placeholders for the id of a client, as it is and escaped for a path.
    fn name(&mut self, client: &str, id: &str) {
        self.variables.set(format!("{client}.id"), id);
        self.variables.set(format!("{client}.escaped"), utf8_percent_encode(id, NON_ALPHANUMERIC).to_string());
    }

    async fn connect(&mut self, connect: &Connect) -> Result<(), Difference> {
        let expected = format!("status {}", connect.status);
        let mut request = self.runner.gateway.handshake();
        if let Some(path) = &connect.path {
            request.uri = with_path(&request.uri, path);
        }
        let query = query(&connect.query);
        if !query.is_empty() {
            request.uri += &format!("?{query}");
        }
        request.signed = connect.signed.unwrap_or(request.signed);
        request.headers = self.runner.gateway.token(connect.token);
        request.headers.extend(connect.headers.clone());
        if connect.observed {
            let label = self.label(&connect.client);
            let observer = self.runner.observer().await.map_err(|error| differs(&expected, with_causes(&error)))?;
            request.headers.push(("X-Observer".to_owned(), observer.header(&label)));
        }
        if connect.abandon {
            return self.abandon(connect, request).await;
        }
        let (response, socket) = self.runner.gateway.connect(request).await.map_err(failed_request(&expected))?;
        // Replaces an earlier client of this name, which had another id.
        self.clients.remove(&connect.client);
        self.clients.extend(socket.map(|socket| (connect.client.clone(), Client::new(socket))));
        self.check(&response, Some(connect.status), connect.response_headers.as_ref(), connect.body.as_ref()).await
    }

    /// Closes the TCP connection as soon as the function of `$connect` runs.
    async fn abandon(&mut self, connect: &Connect, request: HttpRequest) -> Result<(), Difference> {
        let label = self.label(&connect.client);
        let CaseRunner { gateway, observer, .. } = &mut *self.runner;
        let expected = "the event CONNECT before the response to the handshake";
        let observer = observer.as_mut().ok_or_else(|| differs(expected, "a client that is not observed"))?;
        tokio::select! {
            response = gateway.connect(request) => Err(match response {
                Ok((response, _)) => differs(expected, format!("status {}", response.status)),
                Err(error) => failed_request(expected)(error),
            }),
            id = observer.handled(&label, gateway.wait) => id.ok_or_else(|| differs(expected, "no event")),
        }
    }

    async fn send(&mut self, send: &SendFrame) -> Result<(), Difference> {
        let messages = match &send.message {
            SentMessage::Text(text) => vec![Message::text(self.fill(text).await?)],
            SentMessage::Json(value) => vec![Message::text(self.fill(&value.to_string()).await?)],
            SentMessage::Binary(data) => vec![Message::binary(data.clone().into_bytes())],
            SentMessage::Ping(data) => vec![Message::Ping(data.clone().into())],
            SentMessage::Fragments(parts) => fragments(parts),
            SentMessage::Fill { bytes, frame } => {
                let part = |at: usize| "x".repeat((*frame).min(bytes - at));
                fragments(&(0..*bytes).step_by((*frame).max(1)).map(part).collect::<Vec<_>>())
            }
        };
        let client = self.client(&send.client)?;
        // The gateway may close before everything is sent; the next step checks how.
        let sent: Vec<bool> = messages.into_iter().map(|message| client.send(message)).collect();
        if sent.first() == Some(&true) { Ok(()) } else { Err(differs("an open connection", "one that has ended")) }
    }

    async fn expect(&mut self, expect: &Expect) -> Result<(), Difference> {
        let expected = match &expect.frame {
            ExpectedFrame::Text(Pattern::Text(text)) => format!("the text {}", self.variables.fill_known(text)),
            ExpectedFrame::Text(_) => "a text".to_owned(),
            ExpectedFrame::Json(_) => "a text with JSON".to_owned(),
            ExpectedFrame::Fill(bytes) => format!("a text of {bytes} bytes"),
            ExpectedFrame::Pong(data) => format!("a pong frame {data:?}"),
            ExpectedFrame::Close { code, .. } => format!("a close frame with {code}"),
        };
        if let ExpectedFrame::Text(Pattern::Text(text)) = &expect.frame {
            for name in placeholders(text).into_iter().filter(|name| name.ends_with(".id")) {
                self.fill(&format!("{{{name}}}")).await?;
            }
        }
        let wait = expect.within.map_or(self.runner.gateway.wait, Duration::from_secs);
        let received = self.client(&expect.client)?.receive(wait).await;
        let received = received.map_err(|instead| differs(&expected, instead))?;
        let variables = &mut self.variables;
        match (&expect.frame, received) {
            (ExpectedFrame::Text(pattern), Message::Text(text)) => {
                pattern.check(Some(&Value::from(text.as_str())), variables)
            }
            (ExpectedFrame::Json(pattern), Message::Text(text)) => {
                let value = serde_json::from_str(&text).map_err(|_| differs(&expected, text.to_string()))?;
                let whole =
                    |difference: Difference| differs(difference.expected, format!("{} in {text}", difference.got));
                pattern.check(Some(&value), variables).map_err(whole)
            }
            (ExpectedFrame::Fill(bytes), Message::Text(text))
                if text.len() == *bytes && text.bytes().all(|byte| byte == b'x') =>
            {
                Ok(())
            }
            (ExpectedFrame::Pong(data), Message::Pong(got)) if got == data.as_bytes() => Ok(()),
            (ExpectedFrame::Close { code, reason }, Message::Close(frame)) => {
                let (got_code, got_reason) =
                    frame.map_or((1005, String::new()), |frame| (u16::from(frame.code), frame.reason.to_string()));
                if got_code != *code {
                    return Err(differs(expected, format!("a close frame with {got_code} {got_reason:?}")));
                }
                let reason = reason.as_ref().map(|reason| reason.check(Some(&Value::from(got_reason)), variables));
                reason
                    .unwrap_or(Ok(()))
                    .map_err(|difference| differs(format!("the reason {}", difference.expected), difference.got))
            }
            (_, other) => Err(differs(expected, shown(&other))),
        }
    }

    async fn event(&mut self, kind: &EventKind, wait: Duration) -> Result<Option<ObservedEvent>, Difference> {
        let label = self.label(&kind.client);
        let failed = |error: ObserverError| differs("events of the functions", with_causes(&error));
        Ok(self.runner.observer().await.map_err(failed)?.take(&label, kind, wait).await)
    }

    async fn expect_event(&mut self, expect: &ExpectEvent) -> Result<(), Difference> {
        let ExpectEvent { kind, event, posted } = expect;
        let wait = self.runner.gateway.wait;
        let Some(observed) = self.event(kind, wait).await? else {
            let label = self.label(&kind.client);
            let others = self.runner.observer.as_ref().map(|observer| observer.untaken(&label)).unwrap_or_default();
            let expected = format!("the event {} of {} by the {}", kind.event_type, kind.client, kind.by);
            return Err(differs(expected, format!("none within {wait:?}; received: {others}")));
        };
        let id = observed.event["requestContext"]["connectionId"].as_str().unwrap_or_default();
        self.name(&kind.client, id);
        let checks = [(event, Some(&observed.event)), (posted, observed.posted.as_ref())];
        for (pattern, value) in checks {
            let Some(pattern) = pattern else { continue };
            let whole = |difference: Difference| {
                differs(difference.expected, format!("{} in {}", difference.got, value.unwrap_or(&Value::Null)))
            };
            pattern.check(value, &mut self.variables).map_err(whole)?;
        }
        Ok(())
    }

    async fn call(&mut self, call: &Call) -> Result<(), Difference> {
        let address = &self.runner.gateway.address;
        let base = match call.to {
            Endpoint::Management => address.management.to_string(),
            Endpoint::Socket => address.socket.to_string(),
        };
        let base = call.root.as_ref().map_or(base.clone(), |root| with_path(&base, root));
        let body = self.body(&call.sent).await?;
        let request = HttpRequest {
            method: call.method.clone(),
            uri: base.trim_end_matches('/').to_owned() + &self.fill(&call.path).await?,
            headers: Vec::new(),
            body,
            signed: call.signed,
        };
        let response = self.runner.gateway.call(request).await;
        let expected = expected_status(call.status);
        let response = response.map_err(failed_request(&expected))?;
        self.check(&response, call.status, call.response_headers.as_ref(), call.body.as_ref()).await
    }

    async fn body(&mut self, sent: &SentBody) -> Result<Vec<u8>, Difference> {
        Ok(match (sent.fill, sent.bytes.is_empty()) {
            (0, true) => self.fill(&sent.data).await?.into_bytes(),
            (0, false) => sent.bytes.clone(),
            (letters, _) => vec![b'x'; letters],
        })
    }

    async fn request(&mut self, wanted: &ApiRequest) -> Result<(), Difference> {
        let expected = expected_status(wanted.status);
        let body = self.body(&wanted.sent).await?;
        let gateway = &self.runner.gateway;
        let base = gateway.address.of_api(wanted.api).ok_or_else(|| differs(&expected, "no address of this API"))?;
        let mut uri = base.to_string().trim_end_matches('/').to_owned() + &wanted.path;
        let query = query(&wanted.query);
        if !query.is_empty() {
            uri += &format!("?{query}");
        }
        let mut headers = gateway.token(wanted.token);
        for (name, values) in &wanted.headers {
            let values = match values {
                HeaderValues::One(value) => std::slice::from_ref(value),
                HeaderValues::Several(values) => values,
            };
            headers.extend(values.iter().map(|value| (name.clone(), value.clone())));
        }
        let request = HttpRequest { method: wanted.method.clone(), uri, headers, body, signed: false };
        let response = gateway.call(request).await.map_err(failed_request(&expected))?;
        self.check(&response, wanted.status, wanted.response_headers.as_ref(), wanted.body.as_ref()).await
    }

    async fn sdk(&mut self, sdk: &Sdk) -> Result<(), Difference> {
        let (id, data) = (self.fill(&sdk.id).await?, self.fill(&sdk.data).await?);
        let result = self.runner.gateway.sdk(sdk.operation, &id, &data).await.map_err(failed_request(&sdk.result))?;
        if result == sdk.result { Ok(()) } else { Err(differs(&sdk.result, result)) }
    }

    async fn check(
        &mut self,
        response: &HttpResponse,
        status: Option<u16>,
        headers: Option<&Pattern>,
        body: Option<&Pattern>,
    ) -> Result<(), Difference> {
        if let Some(status) = status
            && response.status != status
        {
            return Err(differs(format!("status {status}"), format!("status {} {}", response.status, response.body)));
        }
        let variables = &mut self.variables;
        if let Some(pattern) = headers {
            let found = pattern.check(Some(&response.headers), variables);
            found.map_err(|difference| differs(format!("header {}", difference.expected), difference.got))?;
        }
        let in_body = |difference: Difference| differs(format!("body {}", difference.expected), difference.got);
        match body {
            None => Ok(()),
            Some(pattern @ (Pattern::Text(_) | Pattern::Regex(_))) => {
                pattern.check(Some(&Value::from(response.body.as_str())), variables).map_err(in_body)
            }
            Some(pattern) => {
                let value =
                    serde_json::from_str(&response.body).map_err(|_| differs("a body of JSON", &response.body))?;
                pattern.check(Some(&value), variables).map_err(in_body)
            }
        }
    }
}

fn shown(message: &Message) -> String {
    match message {
        Message::Text(text) => format!("the text {text}"),
        Message::Binary(data) => format!("a binary frame {:?}", String::from_utf8_lossy(data)),
        Message::Pong(data) => format!("a pong frame {:?}", String::from_utf8_lossy(data)),
        Message::Close(Some(frame)) => {
            format!("a close frame with {} {:?}", u16::from(frame.code), frame.reason.as_str())
        }
        Message::Close(None) => "a close frame without a status".to_owned(),
        other => format!("{other:?}"),
    }
}

fn fragments(parts: &[String]) -> Vec<Message> {
    let last = parts.len().saturating_sub(1);
    let frame = |(index, part): (usize, &String)| {
        let kind = if index == 0 { Data::Text } else { Data::Continue };
        Message::Frame(Frame::message(part.clone(), OpCode::Data(kind), index == last))
    };
    parts.iter().enumerate().map(frame).collect()
}

/// Replaces the path of an address.
fn with_path(address: &str, path: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    format!("{scheme}://{}{path}", rest.split('/').next().unwrap_or_default())
}

/// A query, from a text or from names and values.
fn query(query: &Value) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    match query {
        Value::String(text) => text.clone(),
        Value::Object(map) => {
            let pair = |(name, value): (&String, &Value)| {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                format!("{}={}", encoded(name), encoded(&value))
            };
            map.iter().map(pair).collect::<Vec<_>>().join("&")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
