//! An alert, its position in its region's log, and the two forms in which browsers receive it; and what is left of one
//! that was taken back.

use std::{fmt, str::FromStr};

use clock::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::model::{
    audience::Region,
    direction::{self, Direction},
};

/// Where an alert stands in the log of its region, or how far a client knows that log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Identifies the log: another epoch means that sequence numbers started anew. Milliseconds since the Unix epoch.
    pub epoch: i64,
    /// Number of the alert within the epoch, from 1, without gaps.
    pub seq: u64,
}

impl Position {
    /// Before any log: the position of a region that never had an alert. No log has this epoch.
    pub const START: Self = Self { epoch: 0, seq: 0 };
}

/// A video as its publisher described it: the named fields and any others, in the publisher's order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Video(Map<String, Value>);

impl Video {
    /// Takes fields that publication has checked: `id` is a non-empty string, `title` a string.
    pub(crate) fn from_checked_fields(fields: Map<String, Value>) -> Self {
        Self(fields)
    }

    /// Id of the video on its platform.
    pub fn id(&self) -> &str {
        self.text("id")
    }

    /// Title in its own script, as published.
    pub fn title(&self) -> &str {
        self.text("title")
    }

    fn text(&self, field: &str) -> &str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// Which way the title runs: as the publisher says (`rtl`), else by its characters and the region.
    fn direction(&self, region: &Region) -> Direction {
        match self.get("rtl").and_then(Value::as_bool) {
            Some(true) => Direction::Rtl,
            Some(false) => Direction::Ltr,
            None => direction::of_title(self.title(), region),
        }
    }

    fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub id: String,
    /// The region it was published for.
    pub region: Region,
    /// Its place in the region's log.
    #[serde(flatten)]
    pub position: Position,
    pub video: Video,
    /// When it was published.
    pub at: Timestamp,
}

/// What is left of an alert that was taken back: its number stays, and the log has no gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    pub id: String,
    /// The region it was published for.
    pub region: Region,
    /// Its place in the region's log.
    #[serde(flatten)]
    pub position: Position,
    /// When it was published.
    pub at: Timestamp,
}

/// What a log has at a number.
#[derive(Clone, Debug, PartialEq)]
pub enum Logged {
    Alert(Alert),
    /// What is left of one that was taken back.
    Removed(Removal),
}

/// The form in which a subscriber receives alerts; it belongs to the way of subscribing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `{"type":"viral_alert",…}`: for those who subscribe by message.
    ViralAlert,
    /// `{"event":"new_trending",…}`: for those who subscribe at connect.
    NewTrending,
}

impl Format {
    /// The name on the wire and in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ViralAlert => "viral_alert",
            Self::NewTrending => "new_trending",
        }
    }
}

/// The text is not the name of a format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("format is viral_alert or new_trending")]
pub struct InvalidFormat;

impl FromStr for Format {
    type Err = InvalidFormat;

    fn from_str(text: &str) -> Result<Self, InvalidFormat> {
        [Self::ViralAlert, Self::NewTrending].into_iter().find(|format| format.as_str() == text).ok_or(InvalidFormat)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Alert {
    /// The frame that a subscriber with `format` receives, as UTF-8 without `\u` escapes.
    pub fn frame(&self, format: Format) -> String {
        self.pushed(format, false)
    }

    /// The same of an alert that may go to `everyone` because nobody watches its region, which the frame then says.
    pub fn pushed(&self, format: Format, everyone: bool) -> String {
        serde_json::to_string(&Wire { everyone, ..self.wire(format) })
            .expect("strings, numbers and JSON values with text keys always serialise")
    }

    /// The frame as a part of something larger.
    pub fn wire(&self, format: Format) -> Wire<'_> {
        Wire { alert: self, format, everyone: false }
    }
}

impl Removal {
    /// The frame `alert_removed`, which takes the place of the alert for those who know it.
    pub fn frame(&self) -> String {
        serde_json::to_string(&self.wire()).expect("strings and numbers always serialise")
    }

    /// The frame as a part of something larger.
    pub fn wire(&self) -> WireRemoval<'_> {
        let Self { id, region, position: Position { epoch, seq }, at: _ } = self;
        WireRemoval { r#type: "alert_removed", region, seq: *seq, epoch: *epoch, id }
    }
}

impl Logged {
    /// Its place in the region's log.
    pub fn position(&self) -> Position {
        match self {
            Self::Alert(alert) => alert.position,
            Self::Removed(removal) => removal.position,
        }
    }

    /// The region whose log it is in.
    pub fn region(&self) -> &Region {
        match self {
            Self::Alert(alert) => &alert.region,
            Self::Removed(removal) => &removal.region,
        }
    }

    pub fn id(&self) -> &str {
        match self {
            Self::Alert(alert) => &alert.id,
            Self::Removed(removal) => &removal.id,
        }
    }

    /// When the alert was published.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Alert(alert) => alert.at,
            Self::Removed(removal) => removal.at,
        }
    }

    /// The alert, unless it was taken back.
    pub fn alert(&self) -> Option<&Alert> {
        match self {
            Self::Alert(alert) => Some(alert),
            Self::Removed(_) => None,
        }
    }

    /// What is left of it, if it was taken back.
    pub fn removal(&self) -> Option<&Removal> {
        match self {
            Self::Alert(_) => None,
            Self::Removed(removal) => Some(removal),
        }
    }

    /// The frame for those who receive `viral_alert`.
    pub fn frame(&self) -> String {
        match self {
            Self::Alert(alert) => alert.frame(Format::ViralAlert),
            Self::Removed(removal) => removal.frame(),
        }
    }
}

/// The removal of an alert as it goes over the wire.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct WireRemoval<'a> {
    r#type: &'static str,
    region: &'a Region,
    seq: u64,
    epoch: i64,
    id: &'a str,
}

/// An alert in the form in which a subscriber receives it.
#[derive(Clone, Copy, Debug)]
pub struct Wire<'a> {
    alert: &'a Alert,
    format: Format,
    everyone: bool,
}

impl Serialize for Wire<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Alert { id, region, position: Position { epoch, seq }, video, at } = self.alert;
        let (seq, epoch) = (*seq, *epoch);
        let dir = video.direction(region);
        let everyone = self.everyone.then_some(true);
        match self.format {
            Format::ViralAlert => {
                let timestamp = at.rfc3339();
                ViralAlert { r#type: self.format, region, seq, epoch, id, dir, everyone, video, timestamp }
                    .serialize(serializer)
            }
            Format::NewTrending => NewTrending {
                event: self.format,
                region,
                seq,
                epoch,
                id,
                video_id: video.id(),
                title: video.title(),
                thumbnail: video.get("thumbnail"),
                channel: video.get("channel"),
                rtl: dir == Direction::Rtl,
                everyone,
                ts: at.secs(),
                others: Others(video),
            }
            .serialize(serializer),
        }
    }
}

#[derive(Serialize)]
struct ViralAlert<'a> {
    r#type: Format,
    region: &'a Region,
    seq: u64,
    epoch: i64,
    id: &'a str,
    dir: Direction,
    #[serde(skip_serializing_if = "Option::is_none")]
    everyone: Option<bool>,
    video: &'a Video,
    timestamp: String,
}

#[derive(Serialize)]
struct NewTrending<'a> {
    event: Format,
    region: &'a Region,
    seq: u64,
    epoch: i64,
    id: &'a str,
    video_id: &'a str,
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thumbnail: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a Value>,
    rtl: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    everyone: Option<bool>,
    ts: i64,
    #[serde(flatten)]
    others: Others<'a>,
}

/// Names that the frames themselves use. A field of a video with one of these is in `viral_alert` alone.
const FRAME_FIELDS: [&str; 16] = [
    "channel",
    "dir",
    "epoch",
    "event",
    "everyone",
    "id",
    "region",
    "rtl",
    "seq",
    "thumbnail",
    "timestamp",
    "title",
    "ts",
    "type",
    "video",
    "video_id",
];

/// Whatever else the publisher said of a video, as it was published.
struct Others<'a>(&'a Video);

impl Serialize for Others<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.0.iter().filter(|(name, _)| !FRAME_FIELDS.contains(&name.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn alert(region: &str, video: Value) -> Alert {
        let Value::Object(fields) = video else { panic!("a video is an object") };
        Alert {
            id: "a-1".to_owned(),
            region: region.parse().expect("a region"),
            position: Position { epoch: 1_794_000_000_000, seq: 42 },
            video: Video::from_checked_fields(fields),
            at: Timestamp::from_millis(1_795_000_000_000),
        }
    }

    #[test]
    fn each_format_has_exactly_its_fields() {
        let alert = alert(
            "AE",
            json!({
                "id": "v1",
                "title": "😑 مرحبا \"x\"",
                "thumbnail": "https://t/1.jpg",
                "score": 97,
                "channel": "ق",
                "extra": [1],
            }),
        );
        assert_eq!(
            alert.frame(Format::ViralAlert),
            concat!(
                r#"{"type":"viral_alert","region":"AE","seq":42,"epoch":1794000000000,"id":"a-1","#,
                r#""dir":"rtl","video":{"id":"v1","title":"😑 مرحبا \"x\"","thumbnail":"https://t/1.jpg","#,
                r#""score":97,"channel":"ق","extra":[1]},"timestamp":"2026-11-18T11:06:40.000Z"}"#,
            )
        );
        assert_eq!(
            alert.frame(Format::NewTrending),
            concat!(
                r#"{"event":"new_trending","region":"AE","seq":42,"epoch":1794000000000,"id":"a-1","#,
                r#""video_id":"v1","title":"😑 مرحبا \"x\"","thumbnail":"https://t/1.jpg","channel":"ق","#,
                r#""rtl":true,"ts":1795000000,"score":97,"extra":[1]}"#,
            )
        );
    }

    #[test]
    fn no_field_of_a_video_takes_the_place_of_one_of_the_frame() {
        let video: Map<String, Value> =
            FRAME_FIELDS.iter().map(|name| ((*name).to_owned(), json!("published"))).collect();
        let alert = alert("PL", Value::Object(video.clone()));
        let frame: Value = serde_json::from_str(&alert.frame(Format::NewTrending)).expect("JSON");
        assert_eq!((&frame["seq"], &frame["event"]), (&json!(42), &json!("new_trending")));
        for absent in ["dir", "everyone", "timestamp", "type", "video"] {
            assert!(frame.get(absent).is_none(), "{absent}");
        }
        let frame: Value = serde_json::from_str(&alert.frame(Format::ViralAlert)).expect("JSON");
        assert_eq!(frame["video"], Value::Object(video));
    }

    #[test]
    fn an_alert_to_everyone_says_so_in_both_forms_and_is_the_same_otherwise() {
        let alert = alert("PL", json!({"id": "v1", "title": "t", "thumbnail": "", "score": 97}));
        for format in [Format::ViralAlert, Format::NewTrending] {
            let mut frame: Value = serde_json::from_str(&alert.pushed(format, true)).expect("JSON");
            assert_eq!(frame.as_object_mut().and_then(|fields| fields.remove("everyone")), Some(json!(true)));
            assert_eq!(frame, serde_json::from_str::<Value>(&alert.frame(format)).expect("JSON"));
            assert_eq!(alert.pushed(format, false), alert.frame(format));
        }
    }

    #[test]
    fn what_is_left_of_an_alert_names_it_and_says_nothing_of_its_content() {
        let Alert { id, region, position, at, .. } = alert("PL", json!({"id": "v1", "title": "t"}));
        let removal = Removal { id, region, position, at };
        let frame = r#"{"type":"alert_removed","region":"PL","seq":42,"epoch":1794000000000,"id":"a-1"}"#;
        assert_eq!(removal.frame(), frame);
        let text = serde_json::to_string(&removal).expect("serialisable");
        assert_eq!(serde_json::from_str::<Removal>(&text).expect("its own form"), removal);
    }

    #[test]
    fn an_alert_survives_the_way_to_deliver() {
        let alert = alert("PL", json!({"id": "v1", "title": "t", "z": 1, "a": 2}));
        let text = serde_json::to_string(&alert).expect("serialisable");
        let back: Alert = serde_json::from_str(&text).expect("its own form");
        assert_eq!(back.frame(Format::ViralAlert), alert.frame(Format::ViralAlert));
    }
}
