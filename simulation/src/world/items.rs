//! What may happen in a world.

use serde::{Deserialize, Serialize};

/// The way in which a publication comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Via {
    Http,
    Event,
    Invocation,
}

/// What a hostile client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mischief {
    /// Sends subscriptions and hangs up at once.
    Ghost,
    /// Joins and leaves the same regions at the same moment.
    Change,
    /// Sends as many messages at once as it can.
    Flood,
    /// Opens more connections at once than one user may have.
    Crowd,
    /// Asks for what its token does not allow, and sends what is no message.
    Trespass,
}

/// The token of somebody who reads over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pass {
    None,
    Valid,
    /// It has ended.
    Ended,
    /// Somebody else has signed it.
    Forged,
    /// It allows another region.
    OfAnother,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum What {
    /// A client of the systems that this one replaces: it subscribes at connect and pings.
    Reference { region: String },
    /// A client that subscribes by message, and later leaves a region and comes back.
    Plain { regions: Vec<String>, leaves_after_ms: Option<u64> },
    /// Our client. `on_events`: a page that also knows the Event API.
    Ours {
        regions: Vec<String>,
        changes: Vec<(u64, bool, String)>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        on_events: bool,
    },
    /// Somebody connects to the Event API, and asks for everything there.
    Intrude { region: String, pass: Pass },
    /// Somebody who means harm.
    Hostile { mischief: Mischief, regions: Vec<String> },
    /// A publication.
    Publish { publisher: usize, region: String, via: Via, has_key: bool, count: usize },
    /// The alert of a publication is taken back.
    Remove { of: usize },
    /// Somebody reads the log over HTTP.
    Read { region: String },
    /// The functions are deployed anew.
    Redeploy,
    /// All sockets break.
    Cut,
    /// Regions that nobody has heard of are published to, many at once.
    Born { count: usize },
    /// The scorer runs regularly, on a feed of these regions.
    Score { regions: Vec<String>, pause_ms: u64 },
    /// The canary runs regularly.
    Watch { pause_ms: u64 },
    /// Many publications in one document, of so many bytes each.
    Burst { publisher: usize, region: String, count: usize, bytes: usize },
    /// Somebody reads the log over HTTP from its beginning on, so many alerts in each page.
    Page { region: String, limit: usize, pass: Pass },
    /// The key of a publication is used for another one.
    Conflict { of: usize },
    /// Somebody drives dead letters again.
    Redrive,
    /// A client keeps its token, which ends so many seconds after it was made.
    Holder { region: String, life_s: u64, stays: bool },
    /// A video that stays viral is published again and again, each time with this window: when, in milliseconds after
    /// the first time, and with which score.
    Viral { region: String, window_s: u64, times: Vec<(u64, u32)> },
    /// Two days later, when all logs have ended, one begins again.
    Again,
}

/// Something that happens at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Its number, which it keeps where others are left out.
    pub number: usize,
    /// Milliseconds after the beginning.
    pub at_ms: u64,
    pub what: What,
}
