//! The answer as JSON, or as a stream of events that ends at once.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use shared::{
    error::ApiError,
    limits::{EVENT_STREAM_NEXT, EVENT_STREAM_RETRY, PAGE_AGE_MAX},
    model::{
        alert::{Format, Logged, Removal, Wire, WireRemoval},
        audience::Region,
        position::Positions,
    },
    protocol::leg::EventsLeg,
    replay::paging::LogPage,
};

use crate::request::{AlertsRequest, Form};

/// The type of an event stream.
const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

/// A response in the form that an HTTP API expects (payload version 2.0).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    status_code: u16,
    headers: BTreeMap<&'static str, String>,
    body: String,
}

/// The JSON form.
#[derive(Serialize)]
struct AlertsPage<'a> {
    alerts: Vec<Wire<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    removed: Vec<WireRemoval<'a>>,
    positions: &'a Positions,
    after: String,
    more: bool,
    recovered: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_recovered: Vec<&'a Region>,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<&'a EventsLeg>,
}

/// Who may keep an answer for a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CachedBy {
    /// Caches between here and the client too: everybody gets the same.
    Anybody,
    /// The client alone: what it gets depends on its token.
    Client,
}

/// The answer to a request that was carried out.
pub(crate) fn of(request: &AlertsRequest, batch: &LogPage, leg: Option<&EventsLeg>, by: CachedBy) -> Response {
    match request.form {
        Form::Json => page(request, batch, leg, by),
        Form::EventStream => stream(events(batch)),
    }
}

/// A stream, which no cache may keep: what it is depends on headers, `Last-Event-ID` above all, and a cache that knows
/// a request by its address would give a client what comes after the position of another one.
fn stream(body: String) -> Response {
    let headers = [("content-type", EVENT_STREAM.to_owned()), ("cache-control", "no-store".to_owned())];
    Response { status_code: 200, headers: headers.into(), body }
}

/// The answer when the log could not be read. A browser gives an event stream up for ever on any status but 200, so it
/// is told to come back, with the id that it has.
pub(crate) fn unavailable(form: Form) -> Response {
    match form {
        Form::Json => refused(&ApiError::unavailable()),
        Form::EventStream => stream(retry(EVENT_STREAM_RETRY)),
    }
}

/// The answer to one that was not.
pub(crate) fn refused(refusal: &ApiError) -> Response {
    Response {
        status_code: refusal.code.http_status(),
        headers: BTreeMap::from([
            ("content-type", "application/json; charset=utf-8".to_owned()),
            ("cache-control", "no-store".to_owned()),
        ]),
        body: json!({"error": refusal.body()}).to_string(),
    }
}

fn page(request: &AlertsRequest, batch: &LogPage, leg: Option<&EventsLeg>, by: CachedBy) -> Response {
    let page = AlertsPage {
        alerts: batch.alerts.iter().filter_map(Logged::alert).map(|alert| alert.wire(Format::ViralAlert)).collect(),
        removed: batch.alerts.iter().filter_map(Logged::removal).map(Removal::wire).collect(),
        positions: &batch.positions,
        after: batch.positions.to_string(),
        more: batch.more,
        recovered: batch.recovered(),
        not_recovered: batch.not_recovered.iter().collect(),
        events: leg,
    };
    let body = serde_json::to_string(&page).expect("strings, numbers and JSON values with text keys always serialise");
    let etag = etag(&body);
    if request.if_none_match.as_deref().is_some_and(|tags| matches(tags, &etag)) {
        return Response { status_code: 304, headers: cached(by, [("etag", etag)]), body: String::new() };
    }
    let content_type = ("content-type", "application/json; charset=utf-8".to_owned());
    Response { status_code: 200, headers: cached(by, [content_type, ("etag", etag)]), body }
}

/// Headers with those that let a cache answer whoever polls the same at the same time. The gateway adds CORS headers
/// that differ by origin.
fn cached<const N: usize>(by: CachedBy, headers: [(&'static str, String); N]) -> BTreeMap<&'static str, String> {
    let mut headers = BTreeMap::from(headers);
    let (scope, vary) = match by {
        CachedBy::Anybody => ("public", "Accept, Origin"),
        CachedBy::Client => ("private", "Accept, Authorization, Origin"),
    };
    headers.insert("cache-control", format!("{scope}, max-age={}", PAGE_AGE_MAX.as_secs()));
    headers.insert("vary", vary.to_owned());
    headers
}

/// A strong validator: the first half of a hash of the body.
fn etag(body: &str) -> String {
    let digest = Sha256::digest(body);
    let mut tag = String::from('"');
    for byte in &digest[..16] {
        let _ = write!(tag, "{byte:02x}");
    }
    tag + "\""
}

/// Whether a list of validators names this one. A weak one of the same text means the same body.
fn matches(tags: &str, etag: &str) -> bool {
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// The events: each carries the cursor that is right once it has arrived, and the last moves the browser to the end.
fn events(batch: &LogPage) -> String {
    let mut text = retry(if batch.more { EVENT_STREAM_NEXT } else { EVENT_STREAM_RETRY });
    let mut reached = batch.from.clone();
    let mut block = |fields: String| text.push_str(&(fields + "\n"));
    for logged in &batch.alerts {
        reached.set(logged.region().clone(), logged.position());
        // An event of another kind: pages take every one without a kind for an alert.
        let kind = if logged.removal().is_some() { "event: alert_removed\n" } else { "" };
        block(format!("{kind}id: {reached}\ndata: {}\n", logged.frame()));
    }
    if !batch.not_recovered.is_empty() {
        block(format!("event: not_recovered\ndata: {}\n", json!({"not_recovered": batch.not_recovered})));
    }
    if batch.truncated {
        block("event: truncated\ndata: {}\n".to_owned());
    }
    // An event of a kind that no page listens to: a browser would take an id alone, and other clients only take ids of
    // events.
    block(format!("event: position\nid: {}\ndata: {{}}\n", batch.positions));
    text
}

/// The field that says when the browser comes back.
fn retry(after: Duration) -> String {
    format!("retry: {}\n\n", after.as_millis())
}

#[cfg(test)]
mod tests {
    use shared::{replay::paging::Begin, runtime::environment::Environment};

    use super::*;

    #[test]
    fn an_event_stream_outlives_an_answer_that_could_not_be_given() {
        let stream = unavailable(Form::EventStream);
        assert_eq!((stream.status_code, stream.body.as_str()), (200, "retry: 3000\n\n"));
        assert_eq!(stream.headers["content-type"], "text/event-stream; charset=utf-8");
        assert_eq!(stream.headers["cache-control"], "no-store");
        let json = unavailable(Form::Json);
        assert_eq!((json.status_code, json.headers["cache-control"].as_str()), (503, "no-store"));
    }

    #[test]
    fn clients_are_told_of_the_event_api_and_a_change_of_its_share_is_another_page() {
        let leg = |share: &str| {
            let variables = [("EVENTS_URL", "wss://r/event/realtime"), ("EVENTS_HOST", "h"), ("EVENTS_SHARE", share)];
            let owned = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
            EventsLeg::from_env(&mut owned.into_iter().collect::<Environment>().reader()).expect("a leg")
        };
        let request = AlertsRequest {
            audiences: Vec::new(),
            begin: Begin::Newest,
            limit: 1,
            form: Form::Json,
            if_none_match: None,
        };
        let answer =
            |request: &AlertsRequest, leg: Option<&EventsLeg>| of(request, &LogPage::default(), leg, CachedBy::Anybody);
        let (all, half) = (answer(&request, Some(&leg("100"))), answer(&request, Some(&leg("50"))));
        let told = r#","events":{"url":"wss://r/event/realtime","host":"h","share":50}}"#;
        assert!(half.body.ends_with(told), "{}", half.body);
        assert_eq!(half.headers["cache-control"], "public, max-age=1");
        assert!(!answer(&request, None).body.contains("events"));
        // A client that has the page of before is told.
        let polls = AlertsRequest { if_none_match: Some(all.headers["etag"].clone()), ..request };
        assert_eq!(answer(&polls, Some(&leg("100"))).status_code, 304);
        assert_eq!(answer(&polls, Some(&leg("50"))).status_code, 200);
        let stream = AlertsRequest { form: Form::EventStream, ..polls };
        assert!(!answer(&stream, Some(&leg("50"))).body.contains("share"));
    }

    #[test]
    fn an_event_stream_says_that_there_are_more_regions_than_it_follows() {
        let truncated = LogPage { truncated: true, ..LogPage::default() };
        assert!(events(&truncated).contains("event: truncated\ndata: {}\n\n"));
        assert!(!events(&LogPage::default()).contains("truncated"));
    }

    #[test]
    fn a_validator_is_found_in_any_list() {
        let tag = etag("body");
        assert_eq!((tag.len(), tag.as_str() == etag("other")), (34, false));
        for list in [tag.clone(), format!("\"x\", {tag}"), format!("W/{tag}"), "*".to_owned()] {
            assert!(matches(&list, &tag), "{list}");
        }
        for list in ["", "\"x\"", tag.trim_matches('"')] {
            assert!(!matches(list, &tag), "{list}");
        }
    }
}
