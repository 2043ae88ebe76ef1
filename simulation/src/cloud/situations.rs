//! Situations in which a check can fail. A check of what never occurs would hold whatever the service did, so worlds
//! count how often each of them has occurred.

use std::{collections::BTreeMap, fmt};

use crate::cloud::{Cloud, lock};

/// Declares situations with their names.
macro_rules! situations {
    ($($situation:ident: $name:literal,)*) => {
        /// A situation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Situation {
            $(#[doc = $name] $situation,)*
        }

        impl Situation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$situation),*];
        }

        impl fmt::Display for Situation {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$situation => $name,)*
                })
            }
        }
    };
}

situations! {
    LeftOut: "answers without all that was missed",
    Paged: "pages with more behind them",
    GapTold: "gaps told to applications",
    ReadWithToken: "reads with a token",
    ReadWithoutToken: "reads without one",
    ReadRefused: "reads refused",
    AlertLimited: "alerts over the limit of their publisher",
    EventAnswered: "events answered",
    EventRefused: "events refused",
    KeyReused: "keys used for something else",
    ToldOfRemoval: "connections told of a removal",
    TokenEnded: "handshakes with a token that has ended",
    TokenOutlived: "frames after the end of a token",
    Divided: "fan-outs by several workers",
    RedrivenEarly: "dead letters driven again during faults",
    LargeAlert: "frames of more than 24 KB",
    BegunAgain: "logs that began again",
    RecentlyAlerted: "videos withheld because of their alert",
    AlertedAgain: "videos alerted again",
    LimitReached: "messages of one moment that are just within the limit",
    EventLost: "events lost on the way to a subscriber",
    EventDoubled: "events that a subscriber gets twice",
    EventOvertaken: "events that a later one has overtaken",
    EventNotTaken: "events that the Event API does not take",
    EventFailed: "answers with status 200 for an event that failed",
    EventUnanswered: "publications on the Event API without an answer",
    EventTakenLater: "events taken after they were refused",
    EventHandedOver: "events handed over to another invocation",
    FoundByNumber: "alerts found because a number is missing",
    FoundByLook: "alerts found by a look at the log",
    LegChanged: "connections left for the other leg",
    LegAvoided: "connections that the Event API has not served",
    ChannelRefused: "channels refused",
}

/// How often each situation has occurred.
pub type Reached = BTreeMap<Situation, u64>;

impl Cloud {
    /// Notes that a situation has occurred.
    pub(crate) fn reaches(&self, situation: Situation) {
        *lock(&self.reached).entry(situation).or_default() += 1;
    }

    /// How often each situation has occurred.
    pub fn reached(&self) -> Reached {
        lock(&self.reached).clone()
    }
}
