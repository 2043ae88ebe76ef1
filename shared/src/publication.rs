//! What a publisher sends, checked field by field before anything is stored.

use serde_json::{Map, Value};

use crate::{
    alert::{Alert, Format, Position, Video},
    audience::{InvalidRegion, Region},
    clock::Timestamp,
    error::{Code, Refusal},
    limits::{FRAME_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, NESTING_MAX, PUBLISH_BODY_BYTES_MAX, REGION_DEFAULT},
    strict_json,
};

/// A request to publish, valid in itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// Where it goes.
    pub region: Region,
    /// What went viral.
    pub video: Video,
    /// The publisher's score, 0 to 100. Publishers of the flat form send none.
    pub score: Option<f64>,
    /// A repeat with the same key and region changes nothing.
    pub idempotency_key: Option<IdempotencyKey>,
    /// When it happened, where the publisher says so (`ts` of the flat form).
    pub at: Option<Timestamp>,
}

/// Names one publication of a region: 1 to 255 bytes of any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Checks a key that stood in `field`.
    pub fn parse(text: &str, field: &str) -> Result<Self, Refusal> {
        if (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            let message = format!("an idempotency key has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes");
            Err(Refusal::of_field(Code::InvalidField, field, message))
        }
    }

    /// The key as the publisher wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Publication {
    /// Reads the body of an HTTP request.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() > PUBLISH_BODY_BYTES_MAX {
            let message = format!("the body has {} bytes, at most {PUBLISH_BODY_BYTES_MAX} are taken", bytes.len());
            return Err(Refusal::new(Code::TooLarge, message));
        }
        Self::from_fields(strict_json::object(bytes)?)
    }

    /// Reads an alert in either form: `{"region","video":{…}}`, or flat as `new_trending`.
    pub fn from_fields(fields: Map<String, Value>) -> Result<Self, Refusal> {
        if let Some(deep) = fields.iter().find_map(|(name, value)| (depth(value) >= NESTING_MAX).then_some(name)) {
            let message = format!("{deep} nests deeper than {NESTING_MAX}");
            return Err(Refusal::of_field(Code::InvalidField, deep, message));
        }
        if let Some(path) = strict_json::oversized_number(&fields) {
            let message = format!("{path} has more than 64 bits, send it as a string");
            return Err(Refusal::of_field(Code::InvalidField, path, message));
        }
        let region = region(&fields)?;
        let idempotency_key = match fields.get("id") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) => Some(IdempotencyKey::parse(id, "id")?),
            Some(_) => return Err(wrong_type("id", "a string")),
        };
        let flat = !fields.contains_key("video")
            && (fields.contains_key("video_id")
                || fields.get("event").is_some_and(|event| event == Format::NewTrending.as_str()));
        let (video, score, at) = if flat { flat_form(&fields)? } else { nested_form(fields)? };
        let publication = Self { region, video, score, idempotency_key, at };
        publication.fits_in_a_frame()?;
        Ok(publication)
    }

    /// Checks the size of both frames with the longest position there can be.
    fn fits_in_a_frame(&self) -> Result<(), Refusal> {
        let largest = Alert {
            id: uuid::Uuid::nil().to_string(),
            region: self.region.clone(),
            position: Position { epoch: i64::MAX, seq: u64::MAX },
            video: self.video.clone(),
            at: Timestamp::from_millis(i64::from(u32::MAX)),
        };
        let bytes =
            [Format::ViralAlert, Format::NewTrending].map(|format| largest.frame(format).len()).into_iter().max();
        match bytes {
            Some(bytes) if bytes > FRAME_BYTES_MAX => {
                let message = format!("the alert would have {bytes} bytes, one frame holds {FRAME_BYTES_MAX}");
                Err(Refusal::new(Code::TooLarge, message))
            }
            _ => Ok(()),
        }
    }
}

/// How many objects and arrays lie within each other. What was read as JSON is at most 127 deep, so recursion ends in time.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

fn region(fields: &Map<String, Value>) -> Result<Region, Refusal> {
    let text = match fields.get("region") {
        None => REGION_DEFAULT,
        Some(Value::String(region)) => region,
        Some(_) => return Err(wrong_type("region", "a string")),
    };
    text.parse().map_err(|error: InvalidRegion| Refusal::of_field(Code::InvalidRegion, "region", error.to_string()))
}

type Content = (Video, Option<f64>, Option<Timestamp>);

fn nested_form(mut fields: Map<String, Value>) -> Result<Content, Refusal> {
    let video = match fields.remove("video") {
        Some(Value::Object(video)) => video,
        Some(_) => return Err(wrong_type("video", "an object")),
        None => return Err(missing("video")),
    };
    non_empty_string(&video, "id", "video.id")?;
    non_empty_string(&video, "title", "video.title")?;
    thumbnail(&video, "video.thumbnail")?;
    let score = score(&video, "video.score")?.ok_or_else(|| missing("video.score"))?;
    optional_string(&video, "channel", "video.channel")?;
    optional_bool(&video, "rtl", "video.rtl")?;
    Ok((Video::from_checked_fields(video), Some(score), None))
}

fn flat_form(fields: &Map<String, Value>) -> Result<Content, Refusal> {
    let mut video = Map::new();
    video.insert("id".to_owned(), non_empty_string(fields, "video_id", "video_id")?.into());
    video.insert("title".to_owned(), non_empty_string(fields, "title", "title")?.into());
    video.insert("thumbnail".to_owned(), thumbnail(fields, "thumbnail")?.clone());
    let score = score(fields, "score")?;
    if let Some(score) = fields.get("score").filter(|_| score.is_some()) {
        video.insert("score".to_owned(), score.clone());
    }
    if let Some(channel) = optional_string(fields, "channel", "channel")? {
        video.insert("channel".to_owned(), channel.into());
    }
    if let Some(rtl) = optional_bool(fields, "rtl", "rtl")? {
        video.insert("rtl".to_owned(), rtl.into());
    }
    let at = match fields.get("ts") {
        None | Some(Value::Null) => None,
        Some(ts) => Some(unix_seconds(ts)?),
    };
    Ok((Video::from_checked_fields(video), score, at))
}

fn non_empty_string<'a>(fields: &'a Map<String, Value>, name: &str, path: &str) -> Result<&'a str, Refusal> {
    match fields.get(name) {
        Some(Value::String(text)) if text.is_empty() => {
            Err(Refusal::of_field(Code::InvalidField, path, format!("{path} must not be empty")))
        }
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(wrong_type(path, "a string")),
        None => Err(missing(path)),
    }
}

fn optional_string<'a>(fields: &'a Map<String, Value>, name: &str, path: &str) -> Result<Option<&'a str>, Refusal> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong_type(path, "a string")),
    }
}

fn optional_bool(fields: &Map<String, Value>, name: &str, path: &str) -> Result<Option<bool>, Refusal> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(_) => Err(wrong_type(path, "true or false")),
    }
}

/// A thumbnail has to be named, but a video may have none: `null` or an empty string.
fn thumbnail<'a>(fields: &'a Map<String, Value>, path: &str) -> Result<&'a Value, Refusal> {
    match fields.get("thumbnail") {
        Some(value @ (Value::String(_) | Value::Null)) => Ok(value),
        Some(_) => Err(wrong_type(path, "a string or null")),
        None => Err(missing(path)),
    }
}

fn score(fields: &Map<String, Value>, path: &str) -> Result<Option<f64>, Refusal> {
    match fields.get("score") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => match number.as_f64() {
            Some(score) if (0.0..=100.0).contains(&score) => Ok(Some(score)),
            _ => Err(Refusal::of_field(Code::InvalidField, path, format!("{path} must lie between 0 and 100"))),
        },
        Some(_) => Err(wrong_type(path, "a number")),
    }
}

/// Latest `ts` that is taken, in seconds since the Unix epoch: the end of the year 9999, the last that RFC 3339 writes.
const TS_MAX: i64 = 253_402_300_799;

fn unix_seconds(ts: &Value) -> Result<Timestamp, Refusal> {
    let secs = ts.as_i64().or_else(|| {
        // Publishers in PHP and Python also send fractions; what lies outside is cut to the nearest bound and refused.
        ts.as_f64().map(|secs| secs.floor() as i64)
    });
    match secs {
        Some(secs) if (0..=TS_MAX).contains(&secs) => Ok(Timestamp::from_millis(secs * 1_000)),
        _ => Err(Refusal::of_field(Code::InvalidField, "ts", "ts must be seconds since 1970")),
    }
}

fn missing(path: &str) -> Refusal {
    Refusal::of_field(Code::MissingField, path, format!("{path} is missing"))
}

fn wrong_type(path: &str, expected: &str) -> Refusal {
    Refusal::of_field(Code::InvalidField, path, format!("{path} must be {expected}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NESTED: &str = r#"{"region":"pl","video":{"id":"v1","title":"Ż","thumbnail":"https://t/1.jpg","score":97}}"#;

    #[test]
    fn both_forms_are_understood() {
        let nested = Publication::from_bytes(NESTED.as_bytes()).expect("the nested form");
        assert_eq!((nested.region.as_str(), nested.score, nested.video.title()), ("PL", Some(97.0), "Ż"));

        let flat = r#"{"event":"new_trending","region":"JP","video_id":"v2","title":"新","thumbnail":"","channel":"c","ts":1795000000}"#;
        let flat = Publication::from_bytes(flat.as_bytes()).expect("the flat form");
        assert_eq!((flat.region.as_str(), flat.score, flat.video.id()), ("JP", None, "v2"));
        assert_eq!(flat.at, Some(Timestamp::from_millis(1_795_000_000_000)));
    }

    #[test]
    fn what_a_flat_publication_says_beside_the_video_reaches_the_frame_as_it_was_sent() {
        let sent = |rtl: &str| {
            format!(
                r#"{{"event":"new_trending","region":"AE","video_id":"v","title":"New song 100%","thumbnail":"","channel":"قناة"{rtl},"ts":1795000000}}"#
            )
        };
        let frame = |body: &str| {
            let Publication { region, video, at, .. } = Publication::from_bytes(body.as_bytes()).expect(body);
            let alert = Alert { id: String::new(), region, position: Position::START, video, at: at.expect("a time") };
            serde_json::from_str::<Value>(&alert.frame(Format::NewTrending)).expect("JSON")
        };
        for (rtl, expected) in
            [(r#","rtl":true"#, true), (r#","rtl":false"#, false), (r#","rtl":null"#, false), ("", false)]
        {
            let frame = frame(&sent(rtl));
            assert_eq!(frame["rtl"], expected, "{rtl}");
            assert_eq!((&frame["channel"], &frame["ts"]), (&"قناة".into(), &1_795_000_000.into()));
        }
        let refusal = Publication::from_bytes(sent(r#","rtl":"yes""#).as_bytes()).expect_err("no boolean");
        assert_eq!((refusal.code, refusal.field.as_deref()), (Code::InvalidField, Some("rtl")));
    }

    #[test]
    fn a_publication_without_a_region_goes_to_the_default_one() {
        let body = r#"{"video":{"id":"v1","title":"t","thumbnail":null,"score":85}}"#;
        assert_eq!(Publication::from_bytes(body.as_bytes()).expect("valid").region.as_str(), REGION_DEFAULT);
    }

    #[test]
    fn each_mistake_names_its_field() {
        let check = |from: &str, to: &str, code: Code, field: &str| {
            assert!(NESTED.contains(from), "{from} must stand in the example");
            let body = NESTED.replacen(from, to, 1);
            let refusal = Publication::from_bytes(body.as_bytes()).expect_err(&body);
            assert_eq!((refusal.code, refusal.field.as_deref()), (code, Some(field)), "{body}");
        };
        check(r#""pl""#, r#""P""#, Code::InvalidRegion, "region");
        check(r#""pl""#, r#""ALL""#, Code::InvalidRegion, "region");
        check(r#""pl""#, r#""""#, Code::InvalidRegion, "region");
        check(r#""pl""#, "7", Code::InvalidField, "region");
        check(r#""video":{"#, r#""vid":{"#, Code::MissingField, "video");
        check(r#""id":"v1","#, "", Code::MissingField, "video.id");
        check(r#""id":"v1""#, r#""id":"""#, Code::InvalidField, "video.id");
        check(r#""id":"v1""#, r#""id":1"#, Code::InvalidField, "video.id");
        check(r#""title":"Ż","#, "", Code::MissingField, "video.title");
        check(r#""title":"Ż""#, r#""title":null"#, Code::InvalidField, "video.title");
        check(r#""thumbnail":"https://t/1.jpg","#, "", Code::MissingField, "video.thumbnail");
        check(r#""thumbnail":"https://t/1.jpg""#, r#""thumbnail":{}"#, Code::InvalidField, "video.thumbnail");
        check(r#","score":97"#, "", Code::MissingField, "video.score");
        check(
            r#","score":97"#,
            r#","score":97,"views":[12345678901234567890123]"#,
            Code::InvalidField,
            "video.views.0",
        );
        check("97", r#""97""#, Code::InvalidField, "video.score");
        check("97", "-1", Code::InvalidField, "video.score");
        check("97", "100.1", Code::InvalidField, "video.score");
        check(r#"{"region""#, r#"{"id":7,"region""#, Code::InvalidField, "id");
        check(r#"{"region""#, r#"{"id":"","region""#, Code::InvalidField, "id");
    }

    #[test]
    fn the_deepest_publication_reaches_deliver_and_comes_back_from_a_queue() {
        let nested =
            |depth: usize| NESTED.replacen("97", &format!("97,\"deep\":{}{}", "[".repeat(depth), "]".repeat(depth)), 1);
        let deepest = Publication::from_bytes(nested(NESTING_MAX - 2).as_bytes()).expect("deep enough");
        let alert = Alert {
            id: "a".to_owned(),
            region: deepest.region,
            position: Position { epoch: 1, seq: 1 },
            video: deepest.video,
            at: Timestamp::from_millis(0),
        };
        let task = crate::fanout::Task {
            content: crate::fanout::Content::Alert(alert),
            dispatched_at: Timestamp::from_millis(0),
            part: None,
            chain: 0,
        };
        let event = serde_json::to_string(&task).expect("JSON");
        // As Lambda wraps it for the queue of what failed for good.
        let record = format!(r#"{{"requestPayload":{event}}}"#);
        assert!(serde_json::from_str::<crate::fanout::Task>(&event).is_ok());
        assert!(serde_json::from_str::<Value>(&record).is_ok());
        for depth in [NESTING_MAX - 1, NESTING_MAX, 120] {
            let refusal = Publication::from_bytes(nested(depth).as_bytes()).expect_err("too deep");
            assert_eq!((refusal.code, refusal.field.as_deref()), (Code::InvalidField, Some("video")), "{depth}");
        }
    }

    #[test]
    fn a_publication_that_does_not_fit_in_one_frame_is_refused() {
        let sized = |bytes: usize| NESTED.replacen('Ż', &"x".repeat(bytes), 1);
        assert!(Publication::from_bytes(sized(FRAME_BYTES_MAX - 600).as_bytes()).is_ok());
        for bytes in [FRAME_BYTES_MAX, PUBLISH_BODY_BYTES_MAX, 200_000] {
            let refusal = Publication::from_bytes(sized(bytes).as_bytes()).expect_err("too large");
            assert_eq!(refusal.code, Code::TooLarge);
        }
    }

    proptest! {
        #[test]
        fn an_absurd_time_is_refused_or_taken_but_never_panics(ts in any::<f64>()) {
            let body = format!(r#"{{"video_id":"v","title":"t","thumbnail":"","ts":{ts:e}}}"#);
            let _ = Publication::from_bytes(body.as_bytes());
        }
    }
}
