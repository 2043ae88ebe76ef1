//! Records of recent events, in a ring of bounded size.
//!
//! The gateway records everything that it does, so recording takes only a short lock and one or two small allocations.

use std::{
    borrow::Cow,
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use clock::{Clock, Timestamp};
use hyper::{Method, StatusCode, Uri, body::Bytes};
use serde::{Serialize, Serializer};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::invocation::InvokeError;

/// Records kept. Each post makes two, so this is one message to 5,000 connections.
const RECORDS_MAX: usize = 10_000;

/// Bytes kept of one payload: the size of the largest message, so that any message can be sent again.
const PAYLOAD_BYTES_MAX: usize = 128 * 1024;

/// Bytes of payloads kept in total. Payloads of more than 3 KB reach it before [`RECORDS_MAX`].
const KEPT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Records in one batch: the number of rows of the page.
const BATCH_RECORDS_MAX: usize = 500;

/// Bytes of payloads in one batch, not counting the newest record, which is always in it.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Keeps the latest records, numbered from 1 without gaps.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// When this run of the emulator began.
    run: Timestamp,
    clock: Clock,
    ring: Mutex<Ring>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Ring {
    records: VecDeque<Arc<Record>>,
    /// Number of the newest record, or 0.
    last: u64,
    /// Bytes of the payloads in `records`.
    bytes: usize,
}

impl Ring {
    fn push(&mut self, at: Timestamp, what: RecordKind, payload: Payload) -> u64 {
        self.last += 1;
        self.bytes += payload.kept.len();
        self.records.push_back(Arc::new(Record { number: self.last, at, what, payload }));
        while self.records.len() > RECORDS_MAX || self.bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= oldest.payload.kept.len();
        }
        self.last
    }
}

#[derive(Debug, Serialize)]
struct Record {
    number: u64,
    at: Timestamp,
    #[serde(flatten)]
    what: RecordKind,
    #[serde(flatten)]
    payload: Payload,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum RecordKind {
    /// A handshake ended. Its payload is the headers, as pairs.
    Handshake {
        /// `None` if it was refused before it got an id.
        connection_id: Option<Box<str>>,
        uri: Box<str>,
        source_ip: Box<str>,
        status: u16,
        message: Box<str>,
        ms: Millis,
    },
    /// A frame from a client.
    Received { connection_id: Box<str>, frame: &'static str, resent: bool },
    /// A text frame to a client.
    Sent { connection_id: Box<str> },
    /// A function was invoked. Its payload is the event.
    Invoked { function: Box<str>, request_id: Box<str> },
    /// An invocation ended. Its payload is the result, or the error as Lambda writes it.
    Answered { invoked: u64, function: Box<str>, request_id: Box<str>, error: Option<Box<str>>, ms: Millis },
    /// A call of the management API ended.
    Management { connection_id: Box<str>, method: Box<str>, status: u16, error: Option<Box<str>>, ms: Millis },
    /// A publish to an Event API over HTTP ended. Its payload is the body.
    Published { api: Box<str>, status: u16, error: Option<&'static str>, delivered: usize, ms: Millis },
    /// A connection ended, open for `ms`.
    Closed { connection_id: Box<str>, code: u16, reason: Box<str>, ms: Millis },
}

/// A duration, written as milliseconds with three decimals.
#[derive(Debug)]
struct Millis(Duration);

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_micros() as f64 / 1_000.0)
    }
}

/// The beginning of a payload, and its full length.
#[derive(Debug, Default, Serialize)]
struct Payload {
    #[serde(rename = "payload", serialize_with = "lossy")]
    kept: Bytes,
    bytes: usize,
}

fn lossy<S: Serializer>(kept: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(kept))
}

impl Payload {
    /// Shares the payload, unless it is too long.
    fn shared(payload: Bytes) -> Self {
        if payload.len() > PAYLOAD_BYTES_MAX {
            Self::copied(&payload)
        } else {
            Self { bytes: payload.len(), kept: payload }
        }
    }

    /// Copies the payload.
    fn copied(payload: &[u8]) -> Self {
        let kept = &payload[..payload.len().min(PAYLOAD_BYTES_MAX)];
        Self { kept: Bytes::copy_from_slice(kept), bytes: payload.len() }
    }
}

/// A batch of records for the page, in their order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecordBatch {
    /// Start of this run of the emulator. Every run has numbers of its own.
    run: Timestamp,
    /// Number of the newest record.
    last: u64,
    /// Number of records that the batch skips: they were dropped, or do not fit.
    missed: u64,
    #[serde(serialize_with = "in_order")]
    records: Vec<Arc<Record>>,
}

fn in_order<S: Serializer>(records: &[Arc<Record>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(records.iter().map(AsRef::as_ref))
}

impl Recorder {
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { run: clock.now(), clock, ring: Mutex::default(), arrived: Notify::new() })
    }

    /// Returns the newest records after a number, and waits for one if there is none. A request that names another run
    /// or none gets all records of this one at once.
    pub(super) async fn next(&self, run: Option<Timestamp>, after: u64) -> RecordBatch {
        if run != Some(self.run) {
            return self.after(0);
        }
        loop {
            // Made before the check, so that no arrival in between is missed.
            let arrived = self.arrived.notified();
            let batch = self.after(after);
            if !batch.records.is_empty() {
                return batch;
            }
            arrived.await;
        }
    }

    /// Returns the newest records after a number.
    pub(super) fn after(&self, number: u64) -> RecordBatch {
        let ring = self.lock();
        let wanted = usize::try_from(ring.last.saturating_sub(number)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let newest = ring.records.iter().rev().take(wanted.min(BATCH_RECORDS_MAX)).enumerate();
        let newest = newest.take_while(|(index, record)| {
            bytes += record.payload.kept.len();
            *index == 0 || bytes <= BATCH_BYTES_MAX
        });
        let mut records: Vec<_> = newest.map(|(_, record)| Arc::clone(record)).collect();
        records.reverse();
        RecordBatch { run: self.run, last: ring.last, missed: (wanted - records.len()) as u64, records }
    }

    /// Begins the record of a handshake.
    pub(crate) fn handshake(
        &self,
        connection_id: Option<&str>,
        uri: &Uri,
        headers: &[(String, String)],
        peer: SocketAddr,
    ) -> HandshakeRecord<'_> {
        HandshakeRecord {
            recorder: self,
            connection_id: connection_id.map(Into::into),
            uri: uri.to_string().into(),
            // Serializing texts cannot fail.
            headers: serde_json::to_vec(headers).unwrap_or_default().into(),
            peer,
            began: Instant::now(),
        }
    }

    /// Records a frame from a client. A close frame is recorded with the end of the connection instead.
    pub(crate) fn received(&self, connection_id: &str, message: &Message) {
        let (frame, payload) = match message {
            Message::Text(text) => ("text", text.as_bytes()),
            Message::Binary(data) => ("binary", &data[..]),
            Message::Ping(data) => ("ping", &data[..]),
            Message::Pong(data) => ("pong", &data[..]),
            Message::Close(_) | Message::Frame(_) => return,
        };
        // Copied, because the original would keep the whole read buffer of the socket alive.
        let what = RecordKind::Received { connection_id: connection_id.into(), frame, resent: false };
        self.record(what, Payload::copied(payload));
    }

    /// Records a text that the inspector sends in place of a client.
    pub(crate) fn resent(&self, connection_id: &str, text: &Utf8Bytes) {
        let what = RecordKind::Received { connection_id: connection_id.into(), frame: "text", resent: true };
        self.record(what, Payload::shared(text.clone().into()));
    }

    /// Records a text frame to a client.
    pub(crate) fn sent(&self, connection_id: &str, text: &Utf8Bytes) {
        self.record(RecordKind::Sent { connection_id: connection_id.into() }, Payload::shared(text.clone().into()));
    }

    /// Records the start of an invocation. The returned value records its end.
    pub(crate) fn invoked(self: &Arc<Self>, function: &str, request_id: &str, event: &Bytes) -> InvocationRecord {
        let (function, request_id): (Box<str>, Box<str>) = (function.into(), request_id.into());
        let what = RecordKind::Invoked { function: function.clone(), request_id: request_id.clone() };
        let number = self.record(what, Payload::shared(event.clone()));
        InvocationRecord { recorder: Arc::clone(self), number, function, request_id, began: Instant::now() }
    }

    /// Records a call of the management API, with the type of its error if it failed.
    pub(crate) fn management(
        &self,
        connection_id: &str,
        method: &Method,
        status: StatusCode,
        error: Option<&str>,
        took: Duration,
    ) {
        let what = RecordKind::Management {
            connection_id: connection_id.into(),
            method: method.as_str().into(),
            status: status.as_u16(),
            error: error.map(Into::into),
            ms: Millis(took),
        };
        self.record(what, Payload::default());
    }

    /// Records a publish to an Event API, with the type of its error if it was refused, and the number of deliveries.
    pub(crate) fn published(
        &self,
        api: &str,
        status: StatusCode,
        error: Option<&'static str>,
        delivered: usize,
        body: Bytes,
        took: Duration,
    ) {
        let ms = Millis(took);
        let what = RecordKind::Published { api: api.into(), status: status.as_u16(), error, delivered, ms };
        self.record(what, Payload::shared(body));
    }

    /// Records the end of a connection.
    pub(crate) fn closed(&self, connection_id: &str, code: u16, reason: &str, lived: Duration) {
        let what =
            RecordKind::Closed { connection_id: connection_id.into(), code, reason: reason.into(), ms: Millis(lived) };
        self.record(what, Payload::default());
    }

    fn record(&self, what: RecordKind, payload: Payload) -> u64 {
        let at = self.clock.now();
        let number = self.lock().push(at, what, payload);
        self.arrived.notify_waiters();
        number
    }

    /// Ignores poisoning: a panic loses at most one record.
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handshake in progress.
#[derive(Debug)]
pub(crate) struct HandshakeRecord<'a> {
    recorder: &'a Recorder,
    connection_id: Option<Box<str>>,
    uri: Box<str>,
    headers: Bytes,
    peer: SocketAddr,
    began: Instant,
}

impl HandshakeRecord<'_> {
    /// Records the status, and the message of a refusal.
    pub(crate) fn answered(&self, status: StatusCode, message: &str) {
        let what = RecordKind::Handshake {
            connection_id: self.connection_id.clone(),
            uri: self.uri.clone(),
            source_ip: self.peer.ip().to_string().into(),
            status: status.as_u16(),
            message: message.into(),
            ms: Millis(self.began.elapsed()),
        };
        self.recorder.record(what, Payload::shared(self.headers.clone()));
    }
}

/// An invocation in progress.
#[derive(Debug)]
pub(crate) struct InvocationRecord {
    recorder: Arc<Recorder>,
    number: u64,
    function: Box<str>,
    request_id: Box<str>,
    began: Instant,
}

impl InvocationRecord {
    /// Records the result.
    pub(crate) fn answered(self, answer: &Result<Bytes, InvokeError>) {
        let Self { recorder, number, function, request_id, began } = self;
        let error = answer.as_ref().err().map(|error| error.to_string().into());
        let ms = Millis(began.elapsed());
        let answer = answer.as_ref().map_or_else(|error| Cow::Owned(error.payload()), Cow::Borrowed);
        let what = RecordKind::Answered { invoked: number, function, request_id, error, ms };
        recorder.record(what, Payload::shared(answer.into_owned()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "Gto47d9-DoECGqg=";

    fn recorder() -> Arc<Recorder> {
        Recorder::new(Clock::Manual(Arc::new(AtomicI64::new(1_795_000_000_120))))
    }

    fn numbers(batch: &RecordBatch) -> Vec<u64> {
        batch.records.iter().map(|record| record.number).collect()
    }

    fn seen(batch: &RecordBatch) -> Vec<Value> {
        serde_json::to_value(batch).expect("JSON")["records"].as_array().expect("records").clone()
    }

    #[test]
    fn records_are_numbered_from_one_and_returned_in_their_order() {
        let recorder = recorder();
        assert_eq!((numbers(&recorder.after(0)), recorder.after(0).last), (vec![], 0));
        for text in ["a", "b", "c"] {
            recorder.sent(ID, &text.into());
        }
        let batch = recorder.after(0);
        assert_eq!((numbers(&batch), batch.last, batch.missed), (vec![1, 2, 3], 3, 0));
        let batch = recorder.after(2);
        assert_eq!((numbers(&batch), batch.last, batch.missed), (vec![3], 3, 0));
        let expected = json!({
            "number": 3, "at": 1_795_000_000_120_i64, "kind": "sent", "connectionId": ID, "payload": "c", "bytes": 1,
        });
        assert_eq!(seen(&batch), [expected]);
        assert_eq!((numbers(&recorder.after(3)), numbers(&recorder.after(99))), (vec![], vec![]));
    }

    #[test]
    fn a_full_ring_drops_the_oldest_and_counts_what_was_missed() {
        let recorder = recorder();
        for _ in 0..RECORDS_MAX + 10 {
            recorder.sent(ID, &"x".into());
        }
        let last = (RECORDS_MAX + 10) as u64;
        assert_eq!(recorder.lock().records.len(), RECORDS_MAX);
        assert_eq!(recorder.lock().records.front().map(|record| record.number), Some(11));
        let batch = recorder.after(5);
        assert_eq!(batch.records.len(), BATCH_RECORDS_MAX);
        assert_eq!((batch.last, batch.missed), (last, last - 5 - BATCH_RECORDS_MAX as u64));
        assert_eq!(batch.records.last().map(|record| record.number), Some(last));
    }

    #[test]
    fn payloads_are_bounded_each_in_a_batch_and_in_total() {
        let recorder = recorder();
        let large = Bytes::from(vec![b'x'; PAYLOAD_BYTES_MAX + 1]);
        for _ in 0..1_000 {
            recorder.invoked("f", "id", &large);
        }
        let ring = recorder.lock();
        let kept: usize = ring.records.iter().map(|record| record.payload.kept.len()).sum();
        assert_eq!((kept, ring.bytes), (KEPT_BYTES_MAX, KEPT_BYTES_MAX));
        assert!(ring.records.iter().all(|record| record.payload.bytes == large.len()));
        drop(ring);
        let batch = recorder.after(0);
        assert_eq!((batch.records.len(), batch.missed), (BATCH_BYTES_MAX / PAYLOAD_BYTES_MAX, 992));
    }

    #[test]
    fn an_answer_names_its_invocation() {
        let recorder = recorder();
        let ok = recorder.invoked("f", "id", &Bytes::from_static(b"{}"));
        let bad = recorder.invoked("g", "id", &Bytes::from_static(b"\xff"));
        bad.answered(&Err(InvokeError::TimedOut(Duration::from_secs(3))));
        ok.answered(&Ok(Bytes::from_static(b"7")));
        let seen = seen(&recorder.after(0));
        let ends = |index: usize| [&seen[index]["invoked"], &seen[index]["error"], &seen[index]["payload"]];
        let timed_out = r#"{"errorType":"Sandbox.Timedout","errorMessage":"Task timed out after 3.00 seconds"}"#;
        assert_eq!(ends(2), [&json!(2), &json!("Task timed out after 3.00 seconds"), &json!(timed_out)]);
        assert_eq!(ends(3), [&json!(1), &json!(null), &json!("7")]);
        assert_eq!(seen[1]["payload"], "\u{fffd}");
    }

    #[tokio::test]
    async fn a_waiting_request_gets_the_next_record_and_one_of_another_run_all_at_once() {
        let recorder = recorder();
        assert!(recorder.next(None, 0).await.records.is_empty());
        recorder.sent(ID, &"a".into());
        let waiting = recorder.next(Some(recorder.run), 1);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        recorder.closed(ID, 1000, "", Duration::from_micros(1_500));
        let batch = waiting.await;
        assert_eq!((numbers(&batch), &seen(&batch)[0]["ms"]), (vec![2], &json!(1.5)));
        assert_eq!(numbers(&recorder.next(Some(Timestamp::from_millis(7)), 2).await), [1, 2]);
    }
}
