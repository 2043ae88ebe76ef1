//! What a publisher sends, checked field by field before anything is stored.

use std::time::Duration;

use clock::Timestamp;
use serde_json::{Map, Value};

use crate::{
    error::{ApiError, Code},
    limits::{
        FRAME_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, NESTING_MAX, PUBLISH_BODY_BYTES_MAX, REGION_DEFAULT,
        REPEAT_WINDOW_MAX, TITLE_CHARS_MAX,
    },
    model::{
        alert::{Alert, Format, Position, Video},
        audience::{InvalidRegion, Region, short_digest},
        strict_json,
    },
};

/// Field of a publication: its own window, in seconds.
const REPEAT_WINDOW: &str = "repeat_window";

/// A request to publish, valid in itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    pub region: Region,
    pub video: Video,
    /// The publisher's score, 0 to 100. Publishers of the flat form send none.
    pub score: Option<f64>,
    /// A repeat with the same key and region changes nothing.
    pub idempotency_key: Option<IdempotencyKey>,
    /// When it happened, where the publisher says so (`ts` of the flat form).
    pub at: Option<Timestamp>,
    /// How long after an alert of the same video this is not to become another one: at most [`REPEAT_WINDOW_MAX`]. None
    /// for what the deployment has.
    pub repeat_window: Option<Duration>,
}

/// Names one publication of a region: 1 to 255 bytes of any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Checks a key that stood in `field`.
    pub fn parse(text: &str, field: &str) -> Result<Self, ApiError> {
        if (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            let message = format!("an idempotency key has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes");
            Err(ApiError::of_field(Code::InvalidField, field, message))
        }
    }

    /// The key of one of several publications that come under this key.
    pub(crate) fn of_part(&self, index: usize) -> Self {
        Self(format!("{}/{index}", self.0))
    }

    /// The key as the publisher wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Publication {
    /// The publication of the synthetic canary, whose alert carries `run` as the id of its video. No other publication
    /// has its region.
    pub fn of_canary(run: &str) -> Self {
        let video = [("id", run), ("title", "Canary")].map(|(name, value)| (name.to_owned(), value.into()));
        let video = Video::from_checked_fields(Map::from_iter(video));
        Self { region: Region::canary(), video, score: None, idempotency_key: None, at: None, repeat_window: None }
    }

    /// Reads the body of an HTTP request.
    ///
    /// # Errors
    ///
    /// `too_large` above [`PUBLISH_BODY_BYTES_MAX`]; otherwise the code and the field of the first thing that is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.len() > PUBLISH_BODY_BYTES_MAX {
            let message = format!("the body has {} bytes, at most {PUBLISH_BODY_BYTES_MAX} are taken", bytes.len());
            return Err(ApiError::new(Code::TooLarge, message));
        }
        Self::from_fields(strict_json::object(bytes)?)
    }

    /// Reads an alert in either form: `{"region","video":{…}}`, or flat as `new_trending`.
    pub fn from_fields(fields: Map<String, Value>) -> Result<Self, ApiError> {
        if let Some(deep) = fields.iter().find_map(|(name, value)| (depth(value) >= NESTING_MAX).then_some(name)) {
            let message = format!("{deep} nests deeper than {NESTING_MAX}");
            return Err(ApiError::of_field(Code::InvalidField, deep, message));
        }
        if let Some(path) = strict_json::oversized_number(&fields) {
            let message = format!("{path} has more than 64 bits, send it as a string");
            return Err(ApiError::of_field(Code::InvalidField, path, message));
        }
        let region = region(&fields)?;
        let idempotency_key = match fields.get("id") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) => Some(IdempotencyKey::parse(id, "id")?),
            Some(_) => return Err(wrong_type("id", "a string")),
        };
        event(&fields)?;
        let repeat_window = repeat_window(&fields)?;
        let (video, score, at) = if is_flat(&fields) { flat_form(fields)? } else { nested_form(fields)? };
        let publication = Self { region, video, score, idempotency_key, at, repeat_window };
        publication.fits_in_a_frame()?;
        Ok(publication)
    }

    /// Checks the size of both frames with the longest position there can be.
    fn fits_in_a_frame(&self) -> Result<(), ApiError> {
        let largest = Alert {
            id: uuid::Uuid::nil().to_string(),
            region: self.region.clone(),
            position: Position { epoch: i64::MAX, seq: u64::MAX },
            video: self.video.clone(),
            at: Timestamp::from_millis(TS_MAX * 1_000),
        };
        let bytes = [Format::ViralAlert, Format::NewTrending]
            .map(|format| largest.pushed(format, true).len())
            .into_iter()
            .max();
        match bytes {
            Some(bytes) if bytes > FRAME_BYTES_MAX => {
                let message = format!("the alert would have {bytes} bytes, one frame holds {FRAME_BYTES_MAX}");
                Err(ApiError::new(Code::TooLarge, message))
            }
            _ => Ok(()),
        }
    }
}

/// How many objects and arrays lie within each other. What was read as JSON is at most 127 deep, so recursion ends in
/// time.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

fn region(fields: &Map<String, Value>) -> Result<Region, ApiError> {
    let text = match fields.get("region") {
        None => REGION_DEFAULT,
        Some(Value::String(region)) => region,
        Some(_) => return Err(wrong_type("region", "a string")),
    };
    let region: Region = text
        .parse()
        .map_err(|error: InvalidRegion| ApiError::of_field(Code::InvalidRegion, "region", error.to_string()))?;
    if region.is_canary() {
        let message = format!("{region} is reserved for the synthetic canary, publish to another region");
        return Err(ApiError::of_field(Code::InvalidRegion, "region", message));
    }
    Ok(region)
}

/// Publishers say more on their channels than what went viral. A browser must not show that as an alert.
fn event(fields: &Map<String, Value>) -> Result<(), ApiError> {
    match fields.get("event") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(event)) if event == Format::NewTrending.as_str() => Ok(()),
        Some(Value::String(_)) => {
            let message = "event must be new_trending: a message of another event is not an alert";
            Err(ApiError::of_field(Code::InvalidField, "event", message))
        }
        Some(_) => Err(wrong_type("event", "a string")),
    }
}

fn repeat_window(fields: &Map<String, Value>) -> Result<Option<Duration>, ApiError> {
    let secs_max = REPEAT_WINDOW_MAX.as_secs();
    match fields.get(REPEAT_WINDOW) {
        None | Some(Value::Null) => Ok(None),
        Some(secs) => match secs.as_u64().filter(|secs| *secs <= secs_max) {
            Some(secs) => Ok(Some(Duration::from_secs(secs))),
            None => Err(wrong_type(REPEAT_WINDOW, &format!("a whole number of seconds from 0 to {secs_max}"))),
        },
    }
}

fn is_flat(fields: &Map<String, Value>) -> bool {
    let has = |name| fields.get(name).is_some_and(|value| !value.is_null());
    !has("video") && (has("video_id") || has("event"))
}

type Content = (Video, Option<f64>, Option<Timestamp>);

fn nested_form(mut fields: Map<String, Value>) -> Result<Content, ApiError> {
    let video = match fields.remove("video") {
        Some(Value::Object(video)) => video,
        None | Some(Value::Null) => return Err(missing("video")),
        Some(_) => return Err(wrong_type("video", "an object")),
    };
    let (video, score) = checked(video, |name| format!("video.{name}"))?;
    let score = score.ok_or_else(|| missing("video.score"))?;
    Ok((video, Some(score), None))
}

/// The video of a flat publication is all of it but what is about the publication itself.
fn flat_form(fields: Map<String, Value>) -> Result<Content, ApiError> {
    let mut at = None;
    let mut video = Map::new();
    for (name, value) in fields {
        match name.as_str() {
            "event" | "id" | "region" | REPEAT_WINDOW | "type" | "video" => {}
            "ts" => at = unix_seconds(&value)?,
            "video_id" => {
                video.insert("id".to_owned(), value);
            }
            _ => {
                video.insert(name, value);
            }
        }
    }
    let path = |name: &str| if name == "id" { "video_id".to_owned() } else { name.to_owned() };
    let (video, score) = checked(video, path)?;
    Ok((video, score, at))
}

/// Checks the fields of a video, which a refusal names by their `path`, and gives it a title if it has none.
fn checked(mut video: Map<String, Value>, path: impl Fn(&str) -> String) -> Result<(Video, Option<f64>), ApiError> {
    let id = path("id");
    match video.get("id") {
        None => return Err(missing(&id)),
        Some(Value::String(text)) if text.is_empty() => {
            return Err(ApiError::of_field(Code::InvalidField, &id, format!("{id} must not be empty")));
        }
        Some(Value::String(_)) => {}
        Some(_) => return Err(wrong_type(&id, "a string")),
    }
    let of_type = |name: &str, expected: &str, is: fn(&Value) -> bool| match video.get(name) {
        Some(value) if !value.is_null() && !is(value) => Err(wrong_type(&path(name), expected)),
        _ => Ok(()),
    };
    for name in ["title", "thumbnail", "channel"] {
        of_type(name, "a string", Value::is_string)?;
    }
    title_fits(&video, &path("title"))?;
    of_type("rtl", "true or false", Value::is_boolean)?;
    of_type("url", "an address that begins with https://", |value| value.as_str().is_some_and(is_https))?;
    let score = score(&video, &path("score"))?;
    if video.get("title").is_none_or(Value::is_null) {
        video.insert("title".to_owned(), "".into());
    }
    Ok((Video::from_checked_fields(video), score))
}

/// A title is shown in a corner of the page. The service does not cut it: its author knows where to.
fn title_fits(video: &Map<String, Value>, path: &str) -> Result<(), ApiError> {
    let chars = video.get("title").and_then(Value::as_str).unwrap_or_default().chars().count();
    if chars <= TITLE_CHARS_MAX {
        return Ok(());
    }
    let message = format!("{path} has {chars} characters, at most {TITLE_CHARS_MAX} are taken: cut it");
    Err(ApiError::of_field(Code::TitleTooLong, path, message))
}

/// Whether a text is an address that a page may link to.
pub fn is_https(text: &str) -> bool {
    let rest = text.split_at_checked("https://".len()).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("https://"));
    let is_host = |rest: &str| rest.starts_with(|first: char| first.is_alphanumeric() || first == '[');
    rest.is_some_and(|(_, rest)| is_host(rest)) && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn score(fields: &Map<String, Value>, path: &str) -> Result<Option<f64>, ApiError> {
    match fields.get("score") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => match number.as_f64() {
            Some(score) if (0.0..=100.0).contains(&score) => Ok(Some(score)),
            _ => Err(ApiError::of_field(Code::InvalidField, path, format!("{path} must lie between 0 and 100"))),
        },
        Some(Value::String(_)) => Err(wrong_type(path, NOT_TEXT)),
        Some(_) => Err(wrong_type(path, "a number")),
    }
}

/// What is expected where a publisher quotes a number.
const NOT_TEXT: &str = "a number and not text, without quotation marks";

/// Latest `ts` that is taken, in seconds since the Unix epoch: the end of the year 9999, the last that RFC 3339 writes.
const TS_MAX: i64 = 253_402_300_799;

fn unix_seconds(ts: &Value) -> Result<Option<Timestamp>, ApiError> {
    let invalid = |message: &str| Err(ApiError::of_field(Code::InvalidField, "ts", message));
    let secs = match ts {
        Value::Null => return Ok(None),
        Value::String(_) => return Err(wrong_type("ts", NOT_TEXT)),
        // Publishers in PHP and Python also send fractions; what lies outside is cut to the nearest bound and refused.
        ts => ts.as_i64().or_else(|| ts.as_f64().map(|secs| secs.floor() as i64)),
    };
    match secs {
        Some(secs) if (0..=TS_MAX).contains(&secs) => Ok(Some(Timestamp::from_millis(secs * 1_000))),
        Some(ms) if ms > TS_MAX && ms / 1_000 <= TS_MAX => {
            invalid("ts must be seconds since 1970: this seems to be milliseconds, divide it by 1000")
        }
        _ => invalid("ts must be seconds since 1970"),
    }
}

fn missing(path: &str) -> ApiError {
    ApiError::of_field(Code::MissingField, path, format!("{path} is missing"))
}

fn wrong_type(path: &str, expected: &str) -> ApiError {
    ApiError::of_field(Code::InvalidField, path, format!("{path} must be {expected}"))
}

/// Who publishes, as far as it is known: those who are the same share an allowance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherId(String);

impl PublisherId {
    /// The one that `name` stands for among those who publish in the same way: by HTTP, by event, over a socket.
    pub fn new(way: &str, name: &str) -> Self {
        Self(format!("{way}:{name}"))
    }

    /// The partition of the alerts table with its allowance.
    pub(crate) fn partition(&self) -> String {
        format!("@publisher#{}", short_digest(&self.0))
    }
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

        let flat = concat!(
            r#"{"event":"new_trending","region":"JP","video_id":"v2","title":"新","thumbnail":"","#,
            r#""channel":"c","ts":1795000000}"#,
        );
        let flat = Publication::from_bytes(flat.as_bytes()).expect("the flat form");
        assert_eq!((flat.region.as_str(), flat.score, flat.video.id()), ("JP", None, "v2"));
        assert_eq!(flat.at, Some(Timestamp::from_millis(1_795_000_000_000)));
    }

    #[test]
    fn what_a_flat_publication_says_beside_the_video_reaches_the_frame_as_it_was_sent() {
        let sent = |rtl: &str| {
            format!(
                concat!(
                    r#"{{"event":"new_trending","region":"AE","video_id":"v","title":"New song 100%","#,
                    r#""thumbnail":"","channel":"قناة"{rtl},"ts":1795000000}}"#,
                ),
                rtl = rtl
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
        check(r#""pl""#, r#"" x-canary""#, Code::InvalidRegion, "region");
        check(r#""pl""#, r#""""#, Code::InvalidRegion, "region");
        check(r#""pl""#, "7", Code::InvalidField, "region");
        check(r#""video":{"#, r#""vid":{"#, Code::MissingField, "video");
        check(r#""id":"v1","#, "", Code::MissingField, "video.id");
        check(r#""id":"v1""#, r#""id":"""#, Code::InvalidField, "video.id");
        check(r#""id":"v1""#, r#""id":1"#, Code::InvalidField, "video.id");
        check(r#""title":"Ż""#, r#""title":7"#, Code::InvalidField, "video.title");
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
        for url in
            [r#""http://t.example/""#, r#""https://""#, r#""https:///x""#, r#""javascript:alert(1)""#, r#""""#, "7"]
        {
            check(r#""score""#, &format!(r#""url":{url},"score""#), Code::InvalidField, "video.url");
        }
        for url in
            [r#""https://t.example/a b""#, r#""https://t.example/\n""#, r#""//t.example""#, r#""ftp://t.example""#]
        {
            check(r#""score""#, &format!(r#""url":{url},"score""#), Code::InvalidField, "video.url");
        }
        check(r#"{"region""#, r#"{"event":"video_removed","region""#, Code::InvalidField, "event");
        check(r#"{"region""#, r#"{"event":1,"region""#, Code::InvalidField, "event");
        check(r#"{"region""#, r#"{"id":7,"region""#, Code::InvalidField, "id");
        check(r#"{"region""#, r#"{"id":"","region""#, Code::InvalidField, "id");
    }

    const FLAT: &str =
        r#"{"event":"new_trending","region":"JP","video_id":"v2","title":"新","channel":"c","ts":1795000000}"#;

    fn refusal_of(body: &str) -> (Code, String, String) {
        let ApiError { code, field, message, .. } = Publication::from_bytes(body.as_bytes()).expect_err(body);
        (code, field.unwrap_or_default(), message)
    }

    /// Both frames of a publication.
    fn frames(body: &str) -> [Value; 2] {
        let Publication { region, video, at, .. } = Publication::from_bytes(body.as_bytes()).expect(body);
        let at = at.unwrap_or(Timestamp::from_millis(0));
        let alert = Alert { id: String::new(), region, position: Position::START, video, at };
        [Format::ViralAlert, Format::NewTrending]
            .map(|format| serde_json::from_str(&alert.frame(format)).expect("JSON"))
    }

    #[test]
    fn the_usual_mistakes_of_publishers_are_refused_with_what_to_do() {
        let invalid = |field: &str, message: &str| (Code::InvalidField, field.to_owned(), message.to_owned());
        let ts = |ts: &str| refusal_of(&FLAT.replace("1795000000", ts));
        let milliseconds = "ts must be seconds since 1970: this seems to be milliseconds, divide it by 1000";
        assert_eq!(ts("1795000000123"), invalid("ts", milliseconds));
        assert_eq!(ts("1795000000123.5"), invalid("ts", milliseconds));
        assert_eq!(ts("1795000000000000000"), invalid("ts", "ts must be seconds since 1970"));
        assert_eq!(ts("-1"), invalid("ts", "ts must be seconds since 1970"));
        assert_eq!(ts(r#""1795000000""#), invalid("ts", "ts must be a number and not text, without quotation marks"));
        assert_eq!(
            refusal_of(&NESTED.replace("97", r#""97""#)),
            invalid("video.score", "video.score must be a number and not text, without quotation marks")
        );
        let (code, field, _) = refusal_of(&FLAT.replace("new_trending", "video_removed"));
        assert_eq!((code, field.as_str()), (Code::InvalidField, "event"));
    }

    #[test]
    fn numbers_that_keep_their_digits_are_taken() {
        for number in ["18446744073709551615", "-9223372036854775808", "0.1", "1e15", "-0.0"] {
            let [alert, _] = frames(&NESTED.replace("97", &format!(r#"97,"views":{number}"#)));
            assert_eq!(alert["video"]["views"], serde_json::from_str::<Value>(number).expect("a number"), "{number}");
        }
    }

    #[test]
    fn a_title_that_is_missing_is_an_empty_one_and_a_thumbnail_may_be_missing() {
        for title in ["", r#""title":"","#, r#""title":null,"#] {
            for frame in frames(&NESTED.replace(r#""title":"Ż","thumbnail":"https://t/1.jpg","#, title)) {
                let video = frame.get("video").unwrap_or(&frame);
                assert_eq!((&video["title"], video.get("thumbnail")), (&"".into(), None), "{title}");
            }
            for frame in frames(&FLAT.replace(r#""title":"新","#, title)) {
                let video = frame.get("video").unwrap_or(&frame);
                assert_eq!((&video["title"], video.get("thumbnail")), (&"".into(), None), "{title}");
            }
        }
        assert_eq!(frames(&NESTED.replace(r#""Ż""#, "null"))[0]["dir"], "ltr");
    }

    #[test]
    fn whatever_else_a_publisher_says_of_a_video_is_in_both_frames() {
        let more = r#""url":"https://v.example/1","score":97,"tags":["a"],"views":{"jp":1}"#;
        let flat = FLAT.replacen('{', &format!("{{{more},"), 1);
        let nested = NESTED.replace(r#""score":97"#, more);
        for frame in frames(&flat).into_iter().chain(frames(&nested)) {
            let video = frame.get("video").unwrap_or(&frame);
            let expected: Value = serde_json::from_str(&format!("{{{more}}}")).expect("JSON");
            for (name, value) in expected.as_object().expect("an object") {
                assert_eq!(&video[name], value, "{name} in {frame}");
            }
        }
        let [alert, _] = frames(&flat);
        let names: Vec<_> = alert["video"].as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(names, ["url", "score", "tags", "views", "id", "title", "channel"], "in the publisher's order");
    }

    #[test]
    fn half_an_emoji_is_published_as_a_replacement_character() {
        for body in [NESTED.replace('Ż', r"cut \ud83d"), FLAT.replace('新', r"cut \ud83d")] {
            for frame in frames(&body) {
                assert_eq!(frame.get("video").unwrap_or(&frame)["title"], "cut \u{fffd}");
            }
        }
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
        let task = crate::fanout::FanoutTask {
            content: crate::fanout::Content::Alert(alert),
            dispatched_at: Timestamp::from_millis(0),
            part: None,
            depth: 0,
            redriven_at: None,
        };
        let event = serde_json::to_string(&task).expect("JSON");
        // As Lambda wraps it for the queue of what failed for good.
        let record = format!(r#"{{"requestPayload":{event}}}"#);
        assert!(serde_json::from_str::<crate::fanout::FanoutTask>(&event).is_ok());
        assert!(serde_json::from_str::<Value>(&record).is_ok());
        for depth in [NESTING_MAX - 1, NESTING_MAX, 120] {
            let refusal = Publication::from_bytes(nested(depth).as_bytes()).expect_err("too deep");
            assert_eq!((refusal.code, refusal.field.as_deref()), (Code::InvalidField, Some("video")), "{depth}");
        }
    }

    #[test]
    fn a_publication_that_does_not_fit_in_one_frame_is_refused() {
        let sized = |bytes: usize| NESTED.replacen("97", &format!("97,\"more\":\"{}\"", "x".repeat(bytes)), 1);
        assert!(Publication::from_bytes(sized(FRAME_BYTES_MAX - 600).as_bytes()).is_ok());
        let carried = FLAT.replacen('{', &format!(r#"{{"more":"{}","#, "x".repeat(FRAME_BYTES_MAX)), 1);
        assert_eq!(refusal_of(&carried).0, Code::TooLarge);
        for bytes in [FRAME_BYTES_MAX, PUBLISH_BODY_BYTES_MAX, 200_000] {
            let refusal = Publication::from_bytes(sized(bytes).as_bytes()).expect_err("too large");
            assert_eq!(refusal.code, Code::TooLarge);
        }
    }

    #[test]
    fn a_title_has_300_characters_at_most_in_both_forms() {
        // A character is a Unicode scalar value, of one byte or of four.
        for (in_form, field) in [(NESTED.replace('Ż', "TITLE"), "video.title"), (FLAT.replace('新', "TITLE"), "title")]
        {
            for character in ["x", "é", "新", "😑"] {
                let titled = |count: usize| in_form.replace("TITLE", &character.repeat(count));
                assert!(Publication::from_bytes(titled(TITLE_CHARS_MAX).as_bytes()).is_ok(), "{character}");
                let (code, named, message) = refusal_of(&titled(TITLE_CHARS_MAX + 1));
                assert_eq!((code, named.as_str()), (Code::TitleTooLong, field), "{character}");
                assert_eq!(message, format!("{field} has 301 characters, at most 300 are taken: cut it"));
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_fits_in_a_frame_wherever_and_whenever_it_is_published(
            bytes in FRAME_BYTES_MAX - 400..FRAME_BYTES_MAX,
        ) {
            let more = format!(r#"{{"more":"{}","#, "x".repeat(bytes));
            let body = FLAT.replacen('{', &more, 1).replace("1795000000", &TS_MAX.to_string());
            let publication = Publication::from_bytes(body.as_bytes());
            let Ok(Publication { region, video, at, .. }) = publication else { return Ok(()) };
            let id = uuid::Uuid::nil().to_string();
            let position = Position { epoch: i64::MAX, seq: u64::MAX };
            let alert = Alert { id, region, position, video, at: at.expect("a time") };
            for format in [Format::ViralAlert, Format::NewTrending] {
                prop_assert!(alert.frame(format).len() <= FRAME_BYTES_MAX);
            }
        }

        #[test]
        fn an_absurd_time_is_refused_or_taken_but_never_panics(ts in any::<f64>()) {
            let body = format!(r#"{{"video_id":"v","title":"t","thumbnail":"","ts":{ts:e}}}"#);
            let _ = Publication::from_bytes(body.as_bytes());
        }
    }
}
