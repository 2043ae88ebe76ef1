//! What the service answers to messages, apart from the alerts themselves.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    error::{ApiError, ApiErrorBody, Code},
    limits::{FRAME_BYTES_MAX, ROTATE_AFTER},
    model::{
        alert::{Format, Logged, Removal, Wire, WireRemoval},
        audience::{Audience, Region},
        position::Positions,
    },
    protocol::{leg::EventsLeg, request::Audiences},
    publish::publisher::PublishOutcome,
    replay::resumption::{MissedAlerts, Resumption},
    tables::subscriptions::Counted,
};

/// What the service answers to a message.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply<'a> {
    Subscribed(Subscribed<'a>),
    /// The subscription is gone, or never was.
    Unsubscribed(Named<'a>),
    /// Whether the subscriptions stand and nothing was missed.
    Kept(Kept<'a>),
    /// The connection is in the room.
    Joined(InRoom<'a>),
    /// It is not in the room any more, or never was.
    Left(InRoom<'a>),
    /// How many there are.
    Count(Count<'a>),
    /// What was sent, unchanged.
    Response {
        data: &'a Map<String, Value>,
    },
    /// The alert that the client asked to publish, or why it is withheld.
    Published(&'a PublishOutcome),
    /// The message was refused; the socket stays open.
    Error(ApiErrorBody<'a>),
}

/// The room of a reply.
#[derive(Debug, Serialize)]
pub struct InRoom<'a> {
    pub room: &'a str,
}

/// How many connections there are, named as the client named them.
#[derive(Debug, Serialize)]
pub struct Count<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a str>,
    count: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    approximate: bool,
}

impl<'a> Count<'a> {
    /// So many connections are in `audience`.
    pub fn of(audience: &'a Audience, counted: Counted) -> Self {
        let (region, room) = match audience {
            Audience::Room(room) => (None, Some(room.name())),
            Audience::Region(_) | Audience::All => (Some(audience.key()), None),
            Audience::Everyone => (None, None),
        };
        Self { region, room, count: counted.count, approximate: counted.is_approximate }
    }
}

/// The audiences of a reply, named as the client named them.
#[derive(Debug, Serialize)]
pub struct Named<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    regions: Option<Vec<&'a str>>,
}

/// What a client is told when its subscription stands.
#[derive(Debug, Serialize)]
pub struct Subscribed<'a> {
    #[serde(flatten)]
    named: Named<'a>,
    positions: &'a Positions,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovered: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alerts: Option<Vec<Wire<'a>>>,
    /// What is left of alerts that were taken back: clients that know of none would take it for an alert among these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    removed: Vec<WireRemoval<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_recovered: Vec<&'a Region>,
    reconnect_within_ms: u64,
    rotate_after_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<&'a EventsLeg>,
}

impl<'a> Subscribed<'a> {
    /// The answer to a subscription that begins with `resumption`. What was missed in a region is in it as a whole or
    /// not at all; [`crate::replay::resumption`] has seen to it that the answer fits in a frame.
    pub fn new(audiences: &'a Audiences, resumption: &'a Resumption, format: Format) -> Self {
        let mut answer = Self {
            named: audiences.into(),
            positions: &resumption.positions,
            recovered: None,
            alerts: None,
            removed: Vec::new(),
            not_recovered: Vec::new(),
            reconnect_within_ms: millis(resumption.reconnect_within),
            rotate_after_ms: millis(ROTATE_AFTER),
            events: None,
        };
        if let Some(recovery) = &resumption.recovery {
            answer.fill(recovery, format);
        }
        answer
    }

    /// The same with what clients are told of the Event API, where there is one.
    pub fn with_events(self, events: Option<&'a EventsLeg>) -> Self {
        Self { events, ..self }
    }

    fn fill(&mut self, recovery: &'a MissedAlerts, format: Format) {
        let mut alerts = Vec::new();
        for (region, recovered) in &recovery.regions {
            match recovered {
                Some(recovered) => {
                    alerts.extend(recovered.iter().filter_map(Logged::alert).map(|alert| alert.wire(format)));
                    self.removed.extend(recovered.iter().filter_map(Logged::removal).map(Removal::wire));
                }
                None => self.not_recovered.push(region),
            }
        }
        self.alerts = Some(alerts);
        self.recovered = Some(self.not_recovered.is_empty() && recovery.covers_all);
    }
}

/// What a client is told that asks whether all is as it believes.
#[derive(Debug, Serialize)]
pub struct Kept<'a> {
    /// Regions whose log is elsewhere than the client says.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub behind: &'a [Region],
    /// What of the regions the connection is not subscribed to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<&'a str>,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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

/// Makes the frame that returns a message to its sender.
///
/// # Errors
///
/// `too_large` if the frame, which has more around the message than the request had, is above [`FRAME_BYTES_MAX`].
pub fn echo(data: &Map<String, Value>) -> Result<String, ApiError> {
    let frame = Reply::Response { data }.frame();
    if frame.len() <= FRAME_BYTES_MAX {
        return Ok(frame);
    }
    let message = format!("the answer would have {} bytes, a frame has {FRAME_BYTES_MAX}", frame.len());
    Err(ApiError::new(Code::TooLarge, message))
}

impl Reply<'_> {
    /// The text of the frame.
    pub fn frame(&self) -> String {
        serde_json::to_string(self).expect("strings and booleans always serialise")
    }
}

#[cfg(test)]
mod tests {
    use clock::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::{
        model::{
            alert::{Alert, Position},
            audience::Room,
        },
        protocol::request::{ClientRequest, parse},
    };

    #[test]
    fn an_echo_is_the_whole_message_where_that_fits() {
        let echoed = |body: &str| match parse(body) {
            Ok(ClientRequest::Echo(data)) => echo(&data),
            other => panic!("no echo: {other:?}"),
        };
        assert_eq!(
            echoed(r#"{"type":"echo","b":[1,{"a":null}],"a":"ż"}"#).expect("short"),
            r#"{"type":"response","data":{"type":"echo","b":[1,{"a":null}],"a":"ż"}}"#
        );
        let long = format!(r#"{{"type":"echo","data":"{}"}}"#, "x".repeat(FRAME_BYTES_MAX - 40));
        assert_eq!(echoed(&long).expect_err("too long").code, Code::TooLarge);
    }

    fn one(name: &str) -> Audiences {
        Audiences::One(name.parse().expect("an audience"))
    }

    /// A resumption at `{epoch: 9, seq: last}` of each region, with `missed` alerts.
    fn resumption(regions: &[(&str, u64, Option<u64>)]) -> Resumption {
        let region = |name: &str| name.parse::<Region>().expect(name);
        let alert = |name: &str, seq| {
            Logged::Alert(Alert {
                id: "a".to_owned(),
                region: region(name),
                position: Position { epoch: 9, seq },
                video: serde_json::from_value(json!({"id": "v", "title": "t"})).expect("a video"),
                at: Timestamp::from_millis(0),
            })
        };
        let missed = regions.iter().map(|(name, last, missed)| {
            (region(name), missed.map(|missed| (last - missed + 1..=*last).map(|seq| alert(name, seq)).collect()))
        });
        Resumption {
            positions: regions.iter().map(|(name, seq, _)| (region(name), Position { epoch: 9, seq: *seq })).collect(),
            recovery: Some(MissedAlerts { regions: missed.collect(), covers_all: true }),
            reconnect_within: Duration::from_secs(5),
        }
    }

    fn frame(audiences: &Audiences, resumption: &Resumption) -> String {
        Reply::Subscribed(Subscribed::new(audiences, resumption, Format::ViralAlert)).frame()
    }

    #[test]
    fn replies_have_the_form_that_reference_clients_expect() {
        let without_since = Resumption { recovery: None, ..resumption(&[("PL", 43, None)]) };
        assert_eq!(
            frame(&one("pl"), &without_since),
            concat!(
                r#"{"type":"subscribed","region":"PL","positions":{"PL":{"epoch":9,"seq":43}},"#,
                r#""reconnect_within_ms":5000,"rotate_after_ms":6600000}"#,
            )
        );
        let alert = concat!(
            r#"{"type":"viral_alert","region":"PL","seq":43,"epoch":9,"id":"a","dir":"ltr","#,
            r#""video":{"id":"v","title":"t"},"timestamp":"1970-01-01T00:00:00.000Z"}"#,
        );
        assert_eq!(
            frame(&one("pl"), &resumption(&[("PL", 43, Some(1))])),
            format!(
                concat!(
                    r#"{{"type":"subscribed","region":"PL","positions":{{"PL":{{"epoch":9,"seq":43}}}},"#,
                    r#""recovered":true,"alerts":[{alert}],"reconnect_within_ms":5000,"rotate_after_ms":6600000}}"#,
                ),
                alert = alert
            )
        );
        let mut taken_back = resumption(&[("PL", 43, Some(2))]);
        let recovered = taken_back.recovery.as_mut().and_then(|recovery| recovery.regions.values_mut().next());
        let at_42 = &mut recovered.and_then(Option::as_mut).expect("two alerts")[0];
        let Logged::Alert(Alert { id, region, position, at, .. }) = at_42.clone() else { panic!("{at_42:?}") };
        *at_42 = Logged::Removed(Removal { id, region, position, at });
        assert_eq!(
            frame(&one("pl"), &taken_back),
            format!(
                concat!(
                    r#"{{"type":"subscribed","region":"PL","positions":{{"PL":{{"epoch":9,"seq":43}}}},"#,
                    r#""recovered":true,"alerts":[{alert}],"removed":[{{"type":"alert_removed","region":"PL","#,
                    r#""seq":42,"epoch":9,"id":"a"}}],"#,
                    r#""reconnect_within_ms":5000,"rotate_after_ms":6600000}}"#,
                ),
                alert = alert
            )
        );
        let many = Audiences::Many(vec!["PL".parse().expect("PL"), Audience::All]);
        assert_eq!(
            frame(&many, &resumption(&[("DE", 7, None), ("PL", 43, Some(0))])),
            concat!(
                r#"{"type":"subscribed","regions":["PL","ALL"],"positions":{"DE":{"epoch":9,"seq":7},"#,
                r#""PL":{"epoch":9,"seq":43}},"recovered":false,"alerts":[],"not_recovered":["DE"],"#,
                r#""reconnect_within_ms":5000,"rotate_after_ms":6600000}"#,
            )
        );
        let (everyone, room) = (Audience::Everyone, Audience::Room(Room::default()));
        let [exactly, about] = [false, true].map(|is_approximate| Counted { count: 3, is_approximate });
        for (reply, frame) in [
            (Reply::Joined(InRoom { room: "general" }), r#"{"type":"joined","room":"general"}"#),
            (Reply::Kept(Kept { behind: &[], missing: Vec::new() }), r#"{"type":"kept"}"#),
            (
                Reply::Kept(Kept { behind: &["PL".parse().expect("PL")], missing: vec!["ALL"] }),
                r#"{"type":"kept","behind":["PL"],"missing":["ALL"]}"#,
            ),
            (Reply::Count(Count::of(&everyone, exactly)), r#"{"type":"count","count":3}"#),
            (Reply::Count(Count::of(&Audience::All, exactly)), r#"{"type":"count","region":"ALL","count":3}"#),
            (Reply::Count(Count::of(&room, about)), r#"{"type":"count","room":"global","count":3,"approximate":true}"#),
        ] {
            assert_eq!(reply.frame(), frame);
        }
        assert_eq!(Reply::Unsubscribed((&many).into()).frame(), r#"{"type":"unsubscribed","regions":["PL","ALL"]}"#);
        assert_eq!(
            Reply::Error(ApiError::new(Code::BadJson, "no").body()).frame(),
            r#"{"type":"error","code":"bad_json","message":"no","retryable":false}"#
        );
    }
}
