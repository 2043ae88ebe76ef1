//! Messages between a client and the service, apart from the alerts themselves.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    alert::Format,
    audience::{Audience, InvalidRegion},
    error::{Code, Refusal, RefusalBody},
    limits::REGIONS_PER_MESSAGE_MAX,
    strict_json,
};

/// A message that a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `{"type":"subscribe_region",…}`
    Subscribe {
        /// What to subscribe to, without repetition, in the order of the message.
        audiences: Audiences,
        /// The form in which alerts shall arrive.
        format: Format,
    },
    /// `{"type":"unsubscribe_region",…}`
    Unsubscribe {
        /// What to leave.
        audiences: Audiences,
    },
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

/// Reads the body of a message.
pub fn parse(body: &str) -> Result<Request, Refusal> {
    let fields = strict_json::object(body.as_bytes())?;
    let known = "send subscribe_region, unsubscribe_region or ping";
    match fields.get("type").and_then(Value::as_str) {
        Some("subscribe_region") => Ok(Request::Subscribe {
            audiences: audiences(&fields)?,
            format: format(&fields)?.unwrap_or(Format::ViralAlert),
        }),
        Some("unsubscribe_region") => Ok(Request::Unsubscribe { audiences: audiences(&fields)? }),
        // The unknown type itself is not repeated: it may be long, and it is the client's own.
        Some(_) => {
            Err(Refusal::of_field(Code::UnknownType, "type", format!("this type of message does not exist: {known}")))
        }
        None if fields.contains_key("type") => {
            Err(Refusal::of_field(Code::UnknownType, "type", format!("type must be a string: {known}")))
        }
        None => Err(Refusal::of_field(Code::UnknownType, "type", format!("type is missing: {known}"))),
    }
}

fn audiences(fields: &Map<String, Value>) -> Result<Audiences, Refusal> {
    match (fields.get("region"), fields.get("regions")) {
        (Some(_), Some(_)) => {
            Err(Refusal::of_field(Code::InvalidField, "regions", "name either region or regions, not both"))
        }
        (Some(region), None) => audience(region, "region").map(Audiences::One),
        (None, Some(Value::Array(regions))) if regions.is_empty() => {
            Err(Refusal::of_field(Code::InvalidField, "regions", "regions must name at least one region"))
        }
        (None, Some(Value::Array(regions))) if regions.len() > REGIONS_PER_MESSAGE_MAX => Err(Refusal::of_field(
            Code::InvalidField,
            "regions",
            format!("regions may name at most {REGIONS_PER_MESSAGE_MAX} regions, send several messages"),
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
        (None, Some(_)) => Err(Refusal::of_field(Code::InvalidField, "regions", "regions must be an array of strings")),
        (None, None) => Err(Refusal::of_field(Code::MissingField, "region", "region is missing")),
    }
}

fn audience(value: &Value, field: &str) -> Result<Audience, Refusal> {
    let text = value
        .as_str()
        .ok_or_else(|| Refusal::of_field(Code::InvalidField, field, format!("{field} must be a string")))?;
    text.parse().map_err(|error: InvalidRegion| Refusal::of_field(Code::InvalidRegion, field, error.to_string()))
}

fn format(fields: &Map<String, Value>) -> Result<Option<Format>, Refusal> {
    let Some(value) = fields.get("format") else { return Ok(None) };
    let invalid = || Refusal::of_field(Code::InvalidField, "format", crate::alert::InvalidFormat.to_string());
    value.as_str().ok_or_else(invalid)?.parse().map(Some).map_err(|_| invalid())
}

/// What the service answers to a message.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply<'a> {
    /// The subscription stands.
    Subscribed(Named<'a>),
    /// The subscription is gone, or never was.
    Unsubscribed(Named<'a>),
    /// The message was refused; the socket stays open.
    Error(RefusalBody<'a>),
}

/// The audiences of a reply, named as the client named them.
#[derive(Debug, Serialize)]
pub struct Named<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    regions: Option<Vec<&'a str>>,
}

impl<'a> From<&'a Audiences> for Named<'a> {
    fn from(audiences: &'a Audiences) -> Self {
        match audiences {
            Audiences::One(audience) => Self { region: Some(audience.key()), regions: None },
            Audiences::Many(audiences) => {
                Self { region: None, regions: Some(audiences.iter().map(Audience::key).collect()) }
            }
        }
    }
}

impl Reply<'_> {
    /// The text of the frame.
    pub fn frame(&self) -> String {
        serde_json::to_string(self).expect("strings and booleans always serialise")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str) -> Audiences {
        Audiences::One(name.parse().expect("an audience"))
    }

    #[test]
    fn messages_of_the_reference_clients_are_understood() {
        let subscribe = Request::Subscribe { audiences: one("PL"), format: Format::ViralAlert };
        assert_eq!(parse(r#"{"type":"subscribe_region","region":"pl"}"#), Ok(subscribe.clone()));
        assert_eq!(parse(r#"{"region":" PL ","type":"subscribe_region","other":1}"#), Ok(subscribe));
        assert_eq!(
            parse(r#"{"type":"unsubscribe_region","region":"all"}"#),
            Ok(Request::Unsubscribe { audiences: Audiences::One(Audience::All) })
        );
        let many = Audiences::Many(vec!["PL".parse().expect("PL"), Audience::All]);
        assert_eq!(
            parse(r#"{"type":"subscribe_region","regions":["pl","ALL","PL"],"format":"new_trending"}"#),
            Ok(Request::Subscribe { audiences: many, format: Format::NewTrending })
        );
    }

    #[test]
    fn each_mistake_has_its_code_and_field() {
        let check = |body: &str, code: Code, field: Option<&str>| {
            let refusal = parse(body).expect_err(body);
            assert_eq!((refusal.code, refusal.field.as_deref()), (code, field), "{body}");
        };
        let too_many = format!(r#"{{"type":"subscribe_region","regions":[{}"PL"]}}"#, r#""PL","#.repeat(25));
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
        check(r#"{"type":"subscribe_region","region":"PL","region":"DE"}"#, Code::BadJson, None);
        check(&too_many, Code::InvalidField, Some("regions"));
    }

    #[test]
    fn replies_have_the_form_that_reference_clients_expect() {
        assert_eq!(Reply::Subscribed((&one("pl")).into()).frame(), r#"{"type":"subscribed","region":"PL"}"#);
        let many = Audiences::Many(vec!["PL".parse().expect("PL"), Audience::All]);
        assert_eq!(Reply::Unsubscribed((&many).into()).frame(), r#"{"type":"unsubscribed","regions":["PL","ALL"]}"#);
        assert_eq!(
            Reply::Error(Refusal::new(Code::BadJson, "no").body()).frame(),
            r#"{"type":"error","code":"bad_json","message":"no","retryable":false}"#
        );
    }
}
