//! What clients and publishers have seen: what guarantees are checked against.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use shared::model::audience::CANARY;

/// One connection, as its client saw it.
#[derive(Clone, Debug, Default)]
pub struct Visit {
    pub client: String,
    pub id: String,
    /// What its token allows; everything without it.
    pub allowed: Option<Vec<String>>,
    /// When it ended, in milliseconds, whoever ended it.
    pub closed_ms: Option<u64>,
    /// What it asked for, by region, in the order in which it was sent.
    pub wishes: BTreeMap<String, Vec<Wish>>,
    pub received: Vec<Received>,
    /// Whether it asks again until it is answered.
    pub asks_again: bool,
    /// Where it subscribes as it connects, it is not told what is taken back.
    pub is_of_first_format: bool,
    /// Whether it is one to the Event API, which may lose what it is sent.
    pub is_on_events: bool,
    /// When its token ends, in milliseconds, if that is within the life of a world.
    pub token_ends_ms: Option<u64>,
    /// Where the logs ended that it was told of when it joined, by region: the last answer counts.
    pub heads: BTreeMap<String, (i64, u64)>,
}

/// A request to join or to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    pub joins: bool,
    pub sent_ms: u64,
    /// When it was answered that it is so.
    pub granted_ms: Option<u64>,
}

/// An alert that a client was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    pub at_ms: u64,
    pub region: String,
    pub epoch: i64,
    pub seq: u64,
    pub id: String,
    /// The id of its video, which names the publication; none where it was taken back.
    pub video: Option<String>,
    pub is_for_everyone: bool,
    /// When the request was sent that it answers; none where it was pushed.
    pub answers_ms: Option<u64>,
}

/// A publication, and what its publisher was told.
#[derive(Clone, Debug, Default)]
pub struct Published {
    pub region: String,
    pub sent_ms: u64,
    /// Whether a repeat is told from another publication.
    pub has_key: bool,
    /// Each answer: published at a place, refused with a code, or none.
    pub answers: Vec<Told>,
    /// How often it was asked for, at least.
    pub attempts: u32,
    /// Whether it came by event or by invocation, so that nobody waited for the answer.
    pub is_queued: bool,
    /// Bytes that its video has beside its title.
    pub bytes: usize,
    /// Whether its key is that of another publication.
    pub reuses_key: bool,
    /// Seconds within which its video is not alerted again.
    pub window_s: Option<u64>,
}

/// A publication that was withheld, because an alert of its video stands.
#[derive(Clone, Debug)]
pub struct Withheld {
    pub video: String,
    pub region: String,
    pub score: f64,
    pub sent_ms: u64,
    /// The alert that stands.
    pub epoch: i64,
    pub seq: u64,
    pub id: String,
}

/// What a publisher was told.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Published { epoch: i64, seq: u64, id: String },
    Refused(String),
    Nothing,
}

impl Told {
    /// Whether asking again would change nothing.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Published { .. } => true,
            Self::Refused(code) => !matches!(code.as_str(), "unavailable" | "outcome_unknown" | "rate_limited"),
            Self::Nothing => false,
        }
    }
}

/// An alert that was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    pub video: String,
    pub region: String,
    pub epoch: i64,
    pub seq: u64,
    /// When it was asked for, and when the answer said so.
    pub sent_ms: u64,
    pub answered_ms: u64,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Journal {
    pub visits: Vec<Visit>,
    /// By the id of the video.
    pub publications: BTreeMap<String, Published>,
    pub removals: Vec<Removed>,
    pub withheld: Vec<Withheld>,
    /// What our clients told their applications: by client, in order.
    pub told: BTreeMap<String, Vec<Heard>>,
    /// What the applications watch in the end.
    pub watched: BTreeMap<String, Vec<String>>,
    /// Clients whose last handshake was refused because their user has all the connections that it may have.
    pub without_seat: BTreeSet<String>,
}

/// What one of our clients told its application.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    Subscribed { region: String, positions: BTreeMap<String, (i64, u64)> },
    Alert { region: String, epoch: i64, seq: u64, is_for_everyone: bool },
    Removed { region: String, epoch: i64, seq: u64 },
    Gap { region: String, from: u64, to: Option<u64> },
    Unwatched { region: String },
}

/// Where an answer to a subscription says that logs end.
pub fn heads(frame: &Value) -> impl Iterator<Item = (String, (i64, u64))> {
    frame["positions"].as_object().into_iter().flatten().map(|(region, position)| {
        let (epoch, seq) = (position["epoch"].as_i64(), position["seq"].as_u64());
        (region.clone(), (epoch.unwrap_or_default(), seq.unwrap_or_default()))
    })
}

/// Reads an alert of a frame or of an answer.
pub fn alert(frame: &Value, at_ms: u64, answers_ms: Option<u64>) -> Option<Received> {
    let is_alert = frame["type"] == "viral_alert" || frame["event"] == "new_trending";
    if !is_alert && frame["type"] != "alert_removed" {
        return None;
    }
    let video = frame["video"]["id"].as_str().or(frame["video_id"].as_str());
    Some(Received {
        at_ms,
        region: frame["region"].as_str()?.to_owned(),
        epoch: frame["epoch"].as_i64().unwrap_or_default(),
        seq: frame["seq"].as_u64().unwrap_or_default(),
        id: frame["id"].as_str().unwrap_or_default().to_owned(),
        video: if is_alert { video.map(str::to_owned) } else { None },
        is_for_everyone: frame["everyone"] == true,
        answers_ms,
    })
}

impl Visit {
    /// Whether it was told before `from_ms` that it is subscribed to a region, and has not asked to leave since.
    pub fn is_subscribed_since(&self, region: &str, from_ms: u64) -> bool {
        let is_granted_before = |wish: &Wish, ms: u64| wish.granted_ms.is_some_and(|at| at < ms);
        let is_so = |name: &str| {
            let wishes = self.wishes.get(name).map_or(&[][..], Vec::as_slice);
            let Some(at) = wishes.iter().rposition(|wish| wish.joins && is_granted_before(wish, from_ms)) else {
                return false;
            };
            // A request to leave that was sent before, and not answered, may be carried out after it.
            let mut before = wishes[..at].iter();
            let has_left = |wish: &Wish| wish.joins || is_granted_before(wish, wishes[at].sent_ms);
            before.all(has_left) && wishes[at..].iter().all(|wish| wish.joins)
        };
        is_so(region) || region != CANARY && is_so("ALL")
    }

    /// Whether it may be sent an alert of a region that was published at `published_ms`: it has asked to join, and has
    /// not left before.
    pub fn may_receive(&self, region: &str, published_ms: u64) -> bool {
        let may = |name: &str| {
            let wishes = self.wishes.get(name).map_or(&[][..], Vec::as_slice);
            let Some(at) = wishes.iter().rposition(|wish| wish.joins) else { return false };
            let has_left = |wish: &Wish| !wish.joins && wish.granted_ms.is_some_and(|at| at < published_ms);
            // A request to join that is not answered may be carried out later.
            let is_answered = wishes[..=at].iter().all(|wish| !wish.joins || wish.granted_ms.is_some());
            !(is_answered && wishes[at + 1..].iter().any(has_left))
        };
        may(region) || region != CANARY && may("ALL")
    }
}
