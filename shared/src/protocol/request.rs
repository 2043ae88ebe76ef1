//! Messages that a client sends.

use std::str::FromStr;

use serde_json::{Map, Value};

use crate::{
    auth::access::Regions,
    error::{ApiError, Code},
    limits::{
        CHAT_BYTES_MAX, FRAME_BYTES_MAX, REGIONS_PER_MESSAGE_MAX, SUBSCRIPTIONS_PER_CONNECTION_MAX, USER_BYTES_MAX,
    },
    model::{
        alert::Format,
        audience::{Audience, InvalidRegion, InvalidRoom, Room},
        position::Positions,
        room::RoomRequest,
        strict_json,
    },
};

/// A message that a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientRequest {
    /// `{"type":"subscribe_region",…}`
    Subscribe {
        /// What to subscribe to, without repetition, in the order of the message.
        audiences: Audiences,
        /// The form in which alerts shall arrive.
        format: Format,
        /// Where the client was, if it wants what it has missed.
        since: Option<Positions>,
    },
    /// `{"type":"unsubscribe_region",…}`
    Unsubscribe { audiences: Audiences },
    /// `{"type":"keepalive",…}`: asks whether the subscriptions stand and nothing was missed. The fields are those of
    /// `Subscribe`.
    Keepalive {
        /// What the client believes to be subscribed to.
        audiences: Audiences,
        since: Option<Positions>,
    },
    /// `{"type":"join",…}`: enters a room.
    Join(Room),
    /// `{"type":"leave",…}`: leaves a room. None for the one that was joined first.
    Leave(Option<Room>),
    /// `{"type":"chat",…}` or `{"type":"typing",…}`
    Say(RoomRequest),
    /// `{"type":"count",…}`: how many are in an audience.
    Count(Audience),
    /// `{"type":"echo",…}`: the whole message comes back.
    Echo(Map<String, Value>),
}

/// One or more audiences, and whether the client named them in `region` or in `regions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audiences {
    /// `"region":"PL"`
    One(Audience),
    /// `"regions":["PL","DE"]`
    Many(Vec<Audience>),
}

impl Audiences {
    /// The audiences as a slice.
    pub fn as_slice(&self) -> &[Audience] {
        match self {
            Self::One(audience) => std::slice::from_ref(audience),
            Self::Many(audiences) => audiences,
        }
    }
}

impl ClientRequest {
    /// Checks a request against the regions of the sender's token. Leaving is always allowed. Rooms, and the number of
    /// all connections, need any one region.
    ///
    /// # Errors
    ///
    /// `forbidden` with the field that names what is not allowed. The request is refused as a whole.
    pub fn authorize(self, regions: &Regions) -> Result<Self, ApiError> {
        match &self {
            Self::Subscribe { audiences, .. } | Self::Keepalive { audiences, .. } => {
                let field = if matches!(audiences, Audiences::One(_)) { "region" } else { "regions" };
                regions.check(audiences.as_slice(), field)?;
            }
            Self::Count(audience @ (Audience::Region(_) | Audience::All)) => {
                regions.check(std::slice::from_ref(audience), "region")?;
            }
            Self::Count(_) | Self::Join(_) | Self::Say(_) if !regions.allow_any() => {
                return Err(ApiError::of_field(Code::Forbidden, "type", "the token allows no region, and so no rooms"));
            }
            Self::Count(_)
            | Self::Unsubscribe { .. }
            | Self::Join(_)
            | Self::Leave(_)
            | Self::Say(_)
            | Self::Echo(_) => {}
        }
        Ok(self)
    }

    /// The request where there are rooms; where there are none, those that need one are refused.
    pub fn require_rooms(self, rooms: Rooms) -> Result<Self, ApiError> {
        let needs_one = matches!(self, Self::Join(_) | Self::Leave(_) | Self::Say(_) | Self::Count(Audience::Room(_)));
        if needs_one && rooms == Rooms::Off {
            return Err(ApiError::of_field(Code::Forbidden, "type", "there are no rooms in this deployment"));
        }
        Ok(self)
    }

    /// The same request with what is said under the name that the token gives, where it gives one. Otherwise the
    /// message has to say it.
    pub fn with_display_name(self, name: Option<&str>) -> Result<Self, ApiError> {
        match (self, name) {
            (Self::Say(request), Some(name)) => Ok(Self::Say(RoomRequest { user: Some(name.to_owned()), ..request })),
            (Self::Say(RoomRequest { user: None, .. }), None) => Err(missing("user")),
            (request, _) => Ok(request),
        }
    }
}

/// Whether clients may join rooms and speak to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rooms {
    #[default]
    Off,
    On,
}

/// A text that is neither.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {0:?}: expected on or off")]
pub struct InvalidRooms(String);

impl FromStr for Rooms {
    type Err = InvalidRooms;

    fn from_str(text: &str) -> Result<Self, InvalidRooms> {
        match text {
            "off" => Ok(Self::Off),
            "on" => Ok(Self::On),
            other => Err(InvalidRooms(other.to_owned())),
        }
    }
}

/// Reads the body of a message.
///
/// # Errors
///
/// `too_large` above [`FRAME_BYTES_MAX`]; otherwise the code and the field of the first thing that is wrong.
pub fn parse(body: &str) -> Result<ClientRequest, ApiError> {
    if body.len() > FRAME_BYTES_MAX {
        let message = format!("the message has {} bytes, at most {FRAME_BYTES_MAX} are read", body.len());
        return Err(ApiError::new(Code::TooLarge, message));
    }
    let fields = strict_json::object(body.as_bytes())?;
    let known =
        "send subscribe_region, unsubscribe_region, keepalive, ping, count, echo, join, leave, chat, typing or publish";
    match fields.get("type").and_then(Value::as_str) {
        Some("subscribe_region") => {
            let audiences = audiences(&fields, REGIONS_PER_MESSAGE_MAX)?;
            let format = format(&fields)?.unwrap_or(Format::ViralAlert);
            let since = since(&fields, &audiences)?;
            Ok(ClientRequest::Subscribe { audiences, format, since })
        }
        Some("keepalive") => {
            // All that a connection can be in: it takes no more to compare than 25.
            let audiences = audiences(&fields, SUBSCRIPTIONS_PER_CONNECTION_MAX)?;
            let since = since(&fields, &audiences)?;
            Ok(ClientRequest::Keepalive { audiences, since })
        }
        Some("unsubscribe_region") => {
            Ok(ClientRequest::Unsubscribe { audiences: audiences(&fields, REGIONS_PER_MESSAGE_MAX)? })
        }
        Some("join") => Ok(ClientRequest::Join(room(&fields)?.unwrap_or_default())),
        Some("leave") => room(&fields).map(ClientRequest::Leave),
        Some("chat") => {
            let message = bounded(&fields, "message", CHAT_BYTES_MAX)?;
            Ok(ClientRequest::Say(RoomRequest { room: room(&fields)?, user: user(&fields)?, message: Some(message) }))
        }
        Some("typing") => {
            Ok(ClientRequest::Say(RoomRequest { room: room(&fields)?, user: user(&fields)?, message: None }))
        }
        Some("count") => counted(&fields).map(ClientRequest::Count),
        Some("echo") => match strict_json::oversized_number(&fields) {
            Some(path) => {
                let message = format!("{path} has more than 64 bits, send it as a string");
                Err(ApiError::of_field(Code::InvalidField, path, message))
            }
            None => Ok(ClientRequest::Echo(fields)),
        },
        // Where tokens are asked for, this type has a route and a function of its own.
        Some("publish") => {
            let message = "publishing over a socket takes a token that allows it, and none is asked for here";
            Err(ApiError::of_field(Code::Forbidden, "type", message))
        }
        // The unknown type itself is not repeated: it may be long, and it is the client's own.
        Some(_) => {
            Err(ApiError::of_field(Code::UnknownType, "type", format!("this type of message does not exist: {known}")))
        }
        None if fields.contains_key("type") => {
            Err(ApiError::of_field(Code::UnknownType, "type", format!("type must be a string: {known}")))
        }
        None => Err(ApiError::of_field(Code::UnknownType, "type", format!("type is missing: {known}"))),
    }
}

fn since(fields: &Map<String, Value>, audiences: &Audiences) -> Result<Option<Positions>, ApiError> {
    fields.get("since").map(|since| Positions::of_message(since, audiences.as_slice())).transpose()
}

fn room(fields: &Map<String, Value>) -> Result<Option<Room>, ApiError> {
    let Some(value) = fields.get("room") else { return Ok(None) };
    let text = value.as_str().ok_or_else(|| ApiError::of_field(Code::InvalidField, "room", "room must be a string"))?;
    let room =
        text.parse().map_err(|error: InvalidRoom| ApiError::of_field(Code::InvalidField, "room", error.to_string()));
    room.map(Some)
}

/// Under which name somebody speaks. A token may say it instead.
fn user(fields: &Map<String, Value>) -> Result<Option<String>, ApiError> {
    fields.contains_key("user").then(|| bounded(fields, "user", USER_BYTES_MAX)).transpose()
}

fn missing(field: &'static str) -> ApiError {
    ApiError::of_field(Code::MissingField, field, format!("{field} is missing"))
}

/// A text that must be there, of 1 to `max` bytes.
fn bounded(fields: &Map<String, Value>, field: &'static str, max: usize) -> Result<String, ApiError> {
    let value = fields.get(field).ok_or_else(|| missing(field))?;
    match value.as_str() {
        Some(text) if (1..=max).contains(&text.len()) => Ok(text.to_owned()),
        _ => {
            Err(ApiError::of_field(Code::InvalidField, field, format!("{field} must be a string of 1 to {max} bytes")))
        }
    }
}

/// Whose number is asked for: those of a room, of a region, or all.
fn counted(fields: &Map<String, Value>) -> Result<Audience, ApiError> {
    match (room(fields)?, fields.get("region")) {
        (Some(_), Some(_)) => {
            Err(ApiError::of_field(Code::InvalidField, "room", "name either region or room, not both"))
        }
        (Some(room), None) => Ok(Audience::Room(room)),
        (None, Some(region)) => audience(region, "region"),
        (None, None) => Ok(Audience::Everyone),
    }
}

/// What the message names, `max` regions at most.
fn audiences(fields: &Map<String, Value>, max: usize) -> Result<Audiences, ApiError> {
    match (fields.get("region"), fields.get("regions")) {
        (Some(_), Some(_)) => {
            Err(ApiError::of_field(Code::InvalidField, "regions", "name either region or regions, not both"))
        }
        (Some(region), None) => audience(region, "region").map(Audiences::One),
        (None, Some(Value::Array(regions))) if regions.is_empty() => {
            Err(ApiError::of_field(Code::InvalidField, "regions", "regions must name at least one region"))
        }
        (None, Some(Value::Array(regions))) if regions.len() > max => Err(ApiError::of_field(
            Code::InvalidField,
            "regions",
            format!("regions may name at most {max} regions, send several messages"),
        )),
        (None, Some(Value::Array(regions))) => {
            let mut audiences = Vec::with_capacity(regions.len());
            for (index, region) in regions.iter().enumerate() {
                let audience = audience(region, &format!("regions[{index}]"))?;
                if !audiences.contains(&audience) {
                    audiences.push(audience);
                }
            }
            Ok(Audiences::Many(audiences))
        }
        (None, Some(_)) => {
            Err(ApiError::of_field(Code::InvalidField, "regions", "regions must be an array of strings"))
        }
        (None, None) => Err(ApiError::of_field(Code::MissingField, "region", "region is missing")),
    }
}

fn audience(value: &Value, field: &str) -> Result<Audience, ApiError> {
    let text = value
        .as_str()
        .ok_or_else(|| ApiError::of_field(Code::InvalidField, field, format!("{field} must be a string")))?;
    text.parse().map_err(|error: InvalidRegion| ApiError::of_field(Code::InvalidRegion, field, error.to_string()))
}

fn format(fields: &Map<String, Value>) -> Result<Option<Format>, ApiError> {
    let Some(value) = fields.get("format") else { return Ok(None) };
    let invalid = || ApiError::of_field(Code::InvalidField, "format", crate::model::alert::InvalidFormat.to_string());
    value.as_str().ok_or_else(invalid)?.parse().map(Some).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::model::alert::Position;

    fn one(name: &str) -> Audiences {
        Audiences::One(name.parse().expect("an audience"))
    }

    #[test]
    fn messages_of_the_reference_clients_are_understood() {
        let subscribe = ClientRequest::Subscribe { audiences: one("PL"), format: Format::ViralAlert, since: None };
        assert_eq!(parse(r#"{"type":"subscribe_region","region":"pl"}"#), Ok(subscribe.clone()));
        assert_eq!(parse(r#"{"region":" PL ","type":"subscribe_region","other":1}"#), Ok(subscribe));
        assert_eq!(
            parse(r#"{"type":"unsubscribe_region","region":"all"}"#),
            Ok(ClientRequest::Unsubscribe { audiences: Audiences::One(Audience::All) })
        );
        let many = Audiences::Many(vec!["PL".parse().expect("PL"), Audience::All]);
        assert_eq!(
            parse(r#"{"type":"subscribe_region","regions":["pl","ALL","PL"],"format":"new_trending"}"#),
            Ok(ClientRequest::Subscribe { audiences: many, format: Format::NewTrending, since: None })
        );
        let since = Positions::from_iter([("PL".parse().expect("PL"), Position { epoch: 9, seq: 41 })]);
        assert_eq!(
            parse(r#"{"type":"subscribe_region","region":"pl","since":{"epoch":9,"seq":41}}"#),
            Ok(ClientRequest::Subscribe {
                audiences: one("PL"),
                format: Format::ViralAlert,
                since: Some(since.clone())
            })
        );
        assert_eq!(
            parse(r#"{"type":"keepalive","regions":["pl"],"since":{"PL":{"epoch":9,"seq":41}}}"#),
            Ok(ClientRequest::Keepalive {
                audiences: Audiences::Many(vec!["PL".parse().expect("PL")]),
                since: Some(since)
            })
        );
        assert_eq!(
            parse(r#"{"type":"keepalive","region":"ALL"}"#),
            Ok(ClientRequest::Keepalive { audiences: Audiences::One(Audience::All), since: None })
        );
    }

    #[test]
    fn what_is_said_in_rooms_is_understood() {
        let general: Room = "general".parse().expect("a room");
        let say = |room, message: Option<&str>| {
            ClientRequest::Say(RoomRequest { room, user: Some("Ola".to_owned()), message: message.map(str::to_owned) })
        };
        for (body, request) in [
            (r#"{"type":"join","room":" general "}"#, ClientRequest::Join(general.clone())),
            (r#"{"type":"join"}"#, ClientRequest::Join(Room::default())),
            (r#"{"type":"leave","room":"general"}"#, ClientRequest::Leave(Some(general.clone()))),
            (r#"{"type":"leave"}"#, ClientRequest::Leave(None)),
            (r#"{"type":"chat","user":"Ola","message":"hej","timestamp":1}"#, say(None, Some("hej"))),
            (
                r#"{"type":"chat","room":"general","user":"Ola","message":"hej"}"#,
                say(Some(general.clone()), Some("hej")),
            ),
            (r#"{"type":"typing","user":"Ola"}"#, say(None, None)),
            (r#"{"type":"count","room":"general"}"#, ClientRequest::Count(Audience::Room(general.clone()))),
            (r#"{"type":"count","region":"pl"}"#, ClientRequest::Count("PL".parse().expect("PL"))),
            (r#"{"type":"count"}"#, ClientRequest::Count(Audience::Everyone)),
        ] {
            assert_eq!(parse(body), Ok(request), "{body}");
        }
        let chat = parse(r#"{"type":"chat","user":"Ola","message":"hej"}"#).expect("a chat");
        assert_eq!(chat.require_rooms(Rooms::Off).expect_err("no rooms").code, Code::Forbidden);
        let count = parse(r#"{"type":"count","region":"DE"}"#).expect("a count");
        assert!(count.clone().require_rooms(Rooms::Off).is_ok());
        assert_eq!(count.authorize(&"PL".parse().expect("patterns")).expect_err("not allowed").code, Code::Forbidden);
    }

    #[test]
    fn each_mistake_has_its_code_and_field() {
        let check = |body: &str, code: Code, field: Option<&str>| {
            let refusal = parse(body).expect_err(body);
            assert_eq!((refusal.code, refusal.field.as_deref()), (code, field), "{body}");
        };
        let too_many = format!(r#"{{"type":"subscribe_region","regions":[{}"PL"]}}"#, r#""PL","#.repeat(25));
        check(&format!(r#"{{"type":"ping","text":"{}"}}"#, "x".repeat(FRAME_BYTES_MAX)), Code::TooLarge, None);
        check("ping", Code::BadJson, None);
        check("[]", Code::NotAnObject, None);
        check("{}", Code::UnknownType, Some("type"));
        check(r#"{"type":7}"#, Code::UnknownType, Some("type"));
        check(r#"{"type":"$connect"}"#, Code::UnknownType, Some("type"));
        check(r#"{"type":"subscribe_region"}"#, Code::MissingField, Some("region"));
        check(r#"{"type":"subscribe_region","region":""}"#, Code::InvalidRegion, Some("region"));
        check(r#"{"type":"subscribe_region","region":"@everyone"}"#, Code::InvalidRegion, Some("region"));
        check(r#"{"type":"subscribe_region","region":null}"#, Code::InvalidField, Some("region"));
        check(r#"{"type":"subscribe_region","region":["PL"]}"#, Code::InvalidField, Some("region"));
        check(r#"{"type":"subscribe_region","regions":[]}"#, Code::InvalidField, Some("regions"));
        check(r#"{"type":"subscribe_region","regions":"PL"}"#, Code::InvalidField, Some("regions"));
        check(r#"{"type":"subscribe_region","regions":["PL","P"]}"#, Code::InvalidRegion, Some("regions[1]"));
        check(r#"{"type":"subscribe_region","region":"PL","regions":["PL"]}"#, Code::InvalidField, Some("regions"));
        check(r#"{"type":"subscribe_region","region":"PL","format":"xml"}"#, Code::InvalidField, Some("format"));
        check(r#"{"type":"echo","n":[12345678901234567890123]}"#, Code::InvalidField, Some("n.0"));
        check(r#"{"type":"publish","region":"PL"}"#, Code::Forbidden, Some("type"));
        check(r#"{"type":"join","room":""}"#, Code::InvalidField, Some("room"));
        check(r#"{"type":"leave","room":7}"#, Code::InvalidField, Some("room"));
        check(r#"{"type":"chat","user":"Ola"}"#, Code::MissingField, Some("message"));
        check(r#"{"type":"chat","user":"","message":"hej"}"#, Code::InvalidField, Some("user"));
        check(r#"{"type":"typing","user":["Ola"]}"#, Code::InvalidField, Some("user"));
        check(r#"{"type":"count","region":"PL","room":"general"}"#, Code::InvalidField, Some("room"));
        let long = "x".repeat(CHAT_BYTES_MAX + 1);
        check(&format!(r#"{{"type":"chat","user":"Ola","message":"{long}"}}"#), Code::InvalidField, Some("message"));
        check(r#"{"type":"subscribe_region","region":"PL","region":"DE"}"#, Code::BadJson, None);
        check(&too_many, Code::InvalidField, Some("regions"));
        assert!(parse(&too_many.replace("subscribe_region", "keepalive")).is_ok(), "a keepalive names all at once");
        check(r#"{"type":"subscribe_region","region":"PL","since":null}"#, Code::InvalidField, Some("since"));
    }

    #[test]
    fn only_what_is_allowed_is_subscribed_to_and_anything_can_be_left() {
        let regions: Regions = "PL".parse().expect("patterns");
        let asked =
            |body: &str| parse(body).expect(body).authorize(&regions).map_err(|refusal| (refusal.code, refusal.field));
        let forbidden = |field: &str| Err((Code::Forbidden, Some(field.to_owned())));
        assert!(asked(r#"{"type":"subscribe_region","region":"pl"}"#).is_ok());
        assert_eq!(asked(r#"{"type":"subscribe_region","region":"DE"}"#), forbidden("region"));
        assert_eq!(asked(r#"{"type":"subscribe_region","region":"ALL"}"#), forbidden("region"));
        assert_eq!(asked(r#"{"type":"subscribe_region","regions":["PL","DE"]}"#), forbidden("regions"));
        assert_eq!(asked(r#"{"type":"keepalive","regions":["PL","DE"]}"#), forbidden("regions"));
        assert!(asked(r#"{"type":"unsubscribe_region","region":"DE"}"#).is_ok());
        assert!(asked(r#"{"type":"count"}"#).is_ok() && asked(r#"{"type":"join"}"#).is_ok());
    }

    #[test]
    fn a_token_that_allows_no_region_joins_no_room_and_counts_nobody() {
        let asked = |body: &str| parse(body).expect(body).authorize(&Regions::none()).map_err(|refusal| refusal.code);
        for body in [
            r#"{"type":"join","room":"general"}"#,
            r#"{"type":"chat","user":"Ola","message":"hej"}"#,
            r#"{"type":"typing","user":"Ola"}"#,
            r#"{"type":"count"}"#,
            r#"{"type":"count","room":"general"}"#,
            r#"{"type":"count","region":"PL"}"#,
        ] {
            assert_eq!(asked(body), Err(Code::Forbidden), "{body}");
        }
        for body in [r#"{"type":"leave"}"#, r#"{"type":"unsubscribe_region","region":"PL"}"#, r#"{"type":"echo"}"#] {
            assert!(asked(body).is_ok(), "{body}");
        }
    }

    #[test]
    fn a_name_is_that_of_the_token_or_else_that_of_the_message_and_one_has_to_be_there() {
        let user = |body: &str, name| match parse(body).expect(body).with_display_name(name) {
            Ok(ClientRequest::Say(request)) => Ok(request.user.expect("a name")),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err((refusal.code, refusal.field.expect("a field"))),
        };
        let (named, nameless) =
            (r#"{"type":"chat","user":"Jan","message":"hej"}"#, r#"{"type":"chat","message":"hej"}"#);
        assert_eq!(user(named, None), Ok("Jan".to_owned()));
        assert_eq!(user(named, Some("Ola")), Ok("Ola".to_owned()));
        assert_eq!(user(nameless, Some("Ola")), Ok("Ola".to_owned()));
        assert_eq!(user(r#"{"type":"typing"}"#, Some("Ola")), Ok("Ola".to_owned()));
        assert_eq!(user(nameless, None), Err((Code::MissingField, "user".to_owned())));
    }
}
