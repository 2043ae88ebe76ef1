//! Turns a message of Redis into the publication that publish takes. Pure.

use hyper::body::Bytes;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use shared::{
    error::{ApiError, Code},
    limits::PUBLISH_BODY_BYTES_MAX,
    model::{audience::Region, publication::Publication, strict_json},
};
use uuid::Uuid;

/// Where a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source<'a> {
    /// A channel subscribed to by name.
    Channel(&'a str),
    /// A channel that a pattern matched. The part after its last colon is a region.
    Matched(&'a str),
    /// An entry of a stream.
    Entry {
        /// The name of the stream.
        stream: &'a str,
        /// The id of the entry.
        id: &'a str,
    },
}

/// A message that can be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The region that it is published to.
    pub(crate) region: Region,
    /// The idempotency key: the same for every attempt.
    pub(crate) key: String,
    /// The publication: the message as read, with `id`, and with `region` where it had none.
    pub(crate) body: Bytes,
    /// Whether it names another region than its channel.
    pub(crate) contradicts_channel: bool,
}

impl Message {
    /// Parses a message. `unique` becomes its key where nothing else tells it from others.
    ///
    /// # Errors
    ///
    /// Why the message can never be published.
    pub(crate) fn read(source: Source<'_>, bytes: &[u8], unique: Uuid) -> Result<Self, ApiError> {
        if bytes.len() > PUBLISH_BODY_BYTES_MAX {
            let message =
                format!("the message has {} bytes: at most {PUBLISH_BODY_BYTES_MAX} are allowed", bytes.len());
            return Err(ApiError::new(Code::TooLarge, message));
        }
        let mut fields = strict_json::object(bytes)?;
        let channel_region = match source {
            Source::Matched(channel) => Some(channel.rsplit_once(':').map_or("", |(_, region)| region)),
            Source::Channel(_) | Source::Entry { .. } => None,
        };
        if let Some(region) = channel_region
            && fields.get("region").is_none_or(Value::is_null)
        {
            fields.insert("region".to_owned(), region.into());
        }
        let key = match fields.get("id") {
            None | Some(Value::Null) => key(source, &fields, bytes, unique),
            Some(Value::String(id)) => id.clone(),
            Some(_) => return Err(ApiError::of_field(Code::InvalidField, "id", "id must be a string")),
        };
        fields.insert("id".to_owned(), key.clone().into());
        // Publish would take an invocation with one of these for an HTTP request or an event. No publication has them.
        for of_lambda in ["requestContext", "detail-type"] {
            fields.remove(of_lambda);
        }
        let body = Value::Object(fields.clone()).to_string();
        let Publication { region, .. } = Publication::from_fields(fields)?;
        let contradicts_channel =
            channel_region.and_then(|region| region.parse::<Region>().ok()).is_some_and(|named| named != region);
        Ok(Self { region, key, body: body.into(), contradicts_channel })
    }

    /// The key for a header, or its digest if it has characters that a header cannot carry.
    pub(crate) fn header_key(&self) -> String {
        if self.key.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.key.clone()
        } else {
            digest(&[self.key.as_bytes()])
        }
    }
}

/// Makes the idempotency key of a message that has none of its own.
///
/// A stream entry has an id. A message of a channel has none, but with `ts` (when it happened) its content is unique:
/// it is published once, however many bridges and subscriptions read it. Without `ts`, two messages of the same bytes
/// may be two alerts.
fn key(source: Source<'_>, fields: &Map<String, Value>, bytes: &[u8], unique: Uuid) -> String {
    match source {
        Source::Entry { stream, id } => digest(&[stream.as_bytes(), id.as_bytes(), bytes]),
        Source::Channel(channel) | Source::Matched(channel) if fields.get("ts").is_some_and(|ts| !ts.is_null()) => {
            digest(&[channel.as_bytes(), bytes])
        }
        Source::Channel(_) | Source::Matched(_) => format!("redis-{unique}"),
    }
}

/// Hashes parts, each with its length before it, so that `a`, `bc` and `ab`, `c` differ.
fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().fold("redis-".to_owned(), |key, byte| key + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::limits::TITLE_CHARS_MAX;

    use super::*;

    const JP: &str = concat!(
        r#"{"event":"new_trending","region":"JP","video_id":"v1","title":"新しい","#,
        r#""thumbnail":"","channel":"c","ts":1795000000}"#
    );
    const NO_REGION: &str = r#"{"event":"new_trending","video_id":"v1","title":"t","thumbnail":"","ts":1795000000}"#;

    fn read(source: Source<'_>, text: &str) -> Result<Message, ApiError> {
        Message::read(source, text.as_bytes(), Uuid::from_u128(7))
    }

    fn key_of(source: Source<'_>, text: &str) -> String {
        read(source, text).expect(text).key
    }

    #[test]
    fn a_message_is_published_as_it_was_read_with_its_key() {
        let message = read(Source::Channel("c"), JP).expect("valid");
        let expected = format!("{},\"id\":\"{}\"}}", JP.strip_suffix('}').expect("an object"), message.key);
        assert_eq!(str::from_utf8(&message.body), Ok(expected.as_str()));
        assert_eq!((message.region.as_str(), message.contradicts_channel), ("JP", false));
    }

    #[test]
    fn the_region_is_that_of_the_message_and_else_that_of_a_matched_channel() {
        let region = |source, text: &str| {
            read(source, text)
                .map(|message| (message.region.as_str().to_owned(), message.contradicts_channel))
                .map_err(|refusal| refusal.field.unwrap_or_default())
        };
        let is = |region: &str, contradicts| Ok((region.to_owned(), contradicts));
        assert_eq!(region(Source::Matched("tvs:AE"), NO_REGION), is("AE", false));
        assert_eq!(region(Source::Matched("a:b:gb"), NO_REGION), is("GB", false));
        assert_eq!(region(Source::Matched("tvs:jp"), JP), is("JP", false));
        assert_eq!(region(Source::Matched("tvs:AE"), JP), is("JP", true));
        // A pattern may match channels that are not named after regions.
        assert_eq!(region(Source::Matched("tvs:"), JP), is("JP", false));
        assert_eq!(region(Source::Matched("tvs:a.b"), JP), is("JP", false));
        assert_eq!(region(Source::Matched("tvs:"), NO_REGION), Err("region".to_owned()));
        assert_eq!(region(Source::Matched("tvs"), NO_REGION), Err("region".to_owned()));
        assert_eq!(region(Source::Matched("tvs:ALL"), NO_REGION), Err("region".to_owned()));
        assert_eq!(region(Source::Matched("tvs:AE"), &JP.replace("\"JP\"", "null")), is("AE", false));
        // As publish has it.
        assert_eq!(region(Source::Channel("tvs:AE"), NO_REGION), is("EU", false));
        assert_eq!(region(Source::Entry { stream: "tvs:AE", id: "1-0" }, NO_REGION), is("EU", false));
    }

    #[test]
    fn bridges_that_read_the_same_message_have_the_same_key() {
        let of_second_bridge = Message::read(Source::Matched("c"), JP.as_bytes(), Uuid::from_u128(8)).expect("valid");
        assert_eq!(key_of(Source::Channel("c"), JP), of_second_bridge.key);
        assert_ne!(key_of(Source::Channel("c"), JP), key_of(Source::Channel("d"), JP));
        assert_ne!(key_of(Source::Channel("c"), JP), key_of(Source::Channel("c"), &JP.replace("1795", "1796")));
        // They may be two alerts.
        let timeless = JP.replace(r#","ts":1795000000"#, "");
        assert_eq!(key_of(Source::Channel("c"), &timeless), format!("redis-{}", Uuid::from_u128(7)));
        assert_eq!(
            key_of(Source::Channel("c"), &JP.replace("1795000000", "null")),
            key_of(Source::Channel("c"), &timeless)
        );
    }

    #[test]
    fn the_key_of_an_entry_is_made_of_stream_id_and_content() {
        let key = |stream, id, text| key_of(Source::Entry { stream, id }, text);
        assert_eq!(key("s", "1-0", JP), key("s", "1-0", JP));
        for other in [key("s", "1-1", JP), key("t", "1-0", JP), key("s", "1-0", NO_REGION), key("s1", "-0", JP)] {
            assert_ne!(key("s", "1-0", JP), other);
        }
    }

    #[test]
    fn a_key_of_the_publisher_stays() {
        let named = JP.replacen('{', r#"{"id":"mine","#, 1);
        assert_eq!(key_of(Source::Channel("c"), &named), "mine");
        assert_eq!(key_of(Source::Entry { stream: "s", id: "1-0" }, &named), "mine");
        assert!(key_of(Source::Channel("c"), &JP.replacen('{', r#"{"id":null,"#, 1)).starts_with("redis-"));
        let header = |id: &str| {
            let named = JP.replacen('{', &format!(r#"{{"id":"{id}","#), 1);
            read(Source::Channel("c"), &named).expect("valid").header_key()
        };
        assert_eq!(header("mine"), "mine");
        assert_eq!(header("ключ"), header("ключ"));
        assert_ne!(header("ключ"), header("other key"));
        assert!(http::HeaderValue::try_from(header("ключ")).is_ok());
    }

    #[test]
    fn what_can_never_be_published_is_refused_with_the_reason() {
        let code = |text: &str| read(Source::Channel("c"), text).expect_err(text).code;
        assert_eq!(code("{"), Code::BadJson);
        assert_eq!(code("7"), Code::NotAnObject);
        assert_eq!(code(r#"{"event":"new_trending","region":"JP"}"#), Code::MissingField);
        assert_eq!(code(&JP.replace("JP", "J")), Code::InvalidRegion);
        // Other events of a channel are not published.
        let other = read(Source::Matched("tvs:JP"), &JP.replace("new_trending", "video_removed")).expect_err("another");
        assert_eq!((other.code, other.field.as_deref()), (Code::InvalidField, Some("event")));
        assert_eq!(code(&JP.replacen('{', r#"{"id":7,"#, 1)), Code::InvalidField);
        assert_eq!(code(&JP.replace("新", &"新".repeat(PUBLISH_BODY_BYTES_MAX / 2))), Code::TooLarge);
        assert_eq!(code(&JP.replace("新", &"新".repeat(TITLE_CHARS_MAX + 1))), Code::TitleTooLong);
        let binary = Message::read(Source::Channel("c"), b"\xff{}", Uuid::nil());
        assert_eq!(binary.expect_err("no text").code, Code::BadJson);
    }

    #[test]
    fn half_an_emoji_is_published_as_a_replacement_character_with_the_key_of_what_was_read() {
        let cut = JP.replace("新しい", r"cut \ud83d");
        let message = read(Source::Channel("c"), &cut).expect("valid");
        assert_eq!(Publication::from_bytes(&message.body).expect("valid").video.title(), "cut \u{fffd}");
        assert_ne!(message.key, key_of(Source::Channel("c"), &JP.replace("新しい", r"cut \ud83e")));
    }

    proptest! {
        #[test]
        fn anything_may_be_read_and_what_is_taken_publish_takes_too(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            title in ".{1,50}",
            region in "[ a-zA-Z]{2,4}",
        ) {
            let _ = Message::read(Source::Matched("tvs:AE"), &bytes, Uuid::nil());
            let flat = serde_json::json!({"region": region, "video_id": "v", "title": title, "thumbnail": null});
            if let Ok(message) = read(Source::Matched("tvs:AE"), &flat.to_string()) {
                let published = Publication::from_bytes(&message.body).expect("what publish takes");
                prop_assert_eq!(published.video.title(), title);
                prop_assert_eq!(published.region, message.region);
                prop_assert_eq!(published.idempotency_key.map(|key| key.as_str().to_owned()), Some(message.key));
            }
        }
    }
}
