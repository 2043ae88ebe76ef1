//! What goes wrong in a world, and how often.

use std::{collections::BTreeSet, fmt, ops::RangeInclusive};

use rand::{RngExt, rngs::SmallRng};
use serde::{Deserialize, Serialize};

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_zero(force: &f64) -> bool {
    *force == 0.0
}

/// Declares the weather with the greatest share or size that a seed gives each part of it.
macro_rules! weather {
    (
        every world { $($(#[$meaning:meta])* $name:ident: $range:expr,)* }
        second leg { $($(#[$leg_meaning:meta])* $leg:ident: $leg_range:expr,)* }
    ) => {
        /// Shares of 1, and times in milliseconds where the name says so. Zero is calm.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Weather {
            $($(#[$meaning])* #[serde(skip_serializing_if = "is_zero")] pub $name: f64,)*
            $($(#[$leg_meaning])* #[serde(skip_serializing_if = "is_zero")] pub $leg: f64,)*
        }

        impl Weather {
            /// The names of all parts.
            pub const PARTS: &[&str] = &[$(stringify!($name),)* $(stringify!($leg)),*];

            /// The weather of a seed: about half of the parts are calm, and one world in ten is altogether.
            fn drawn(random: &mut SmallRng) -> Self {
                let is_calm = random.random_bool(0.1);
                let mut draw = |range: RangeInclusive<f64>| {
                    let (blows, force) = (random.random_bool(0.5), random.random_range(range));
                    if blows && !is_calm { force } else { 0.0 }
                };
                Self { $($name: draw($range),)* ..Self::default() }
            }

            /// Adds what goes wrong with a second leg, where anything does.
            pub fn draw_leg(&mut self, random: &mut SmallRng) {
                let is_calm = self.is_calm();
                $(let (blows, force) = (random.random_bool(0.7), random.random_range($leg_range));
                self.$leg = if blows && !is_calm { force } else { 0.0 };)*
            }

            /// Calms the parts that are named.
            pub fn calm(&mut self, parts: &BTreeSet<String>) {
                $(if parts.contains(stringify!($name)) { self.$name = 0.0; })*
                $(if parts.contains(stringify!($leg)) { self.$leg = 0.0; })*
            }

            /// The parts that are not calm.
            pub fn blowing(&self) -> Vec<&'static str> {
                let parts = [$((stringify!($name), self.$name),)* $((stringify!($leg), self.$leg)),*];
                parts.iter().filter(|(_, force)| *force > 0.0).map(|(name, _)| *name).collect()
            }
        }
    };
}

weather! {
    every world {
        /// Requests that never arrive.
        lost_requests: 0.001..=0.05,
        /// Requests that take effect, and whose answers never arrive.
        lost_answers: 0.001..=0.05,
        /// Requests that take seconds.
        slow_requests: 0.001..=0.03,
        /// Requests that the database throttles.
        throttled_requests: 0.001..=0.08,
        /// Requests that the database fails, half of them after they took effect.
        failed_requests: 0.001..=0.03,
        /// Writes of a batch that are left to the caller.
        unprocessed_writes: 0.01..=0.2,
        /// Milliseconds that indexes and eventually consistent reads are behind, at most.
        lag_ms: 50.0..=3_000.0,
        /// Seconds after its time that an item is removed, at most.
        late_expiry_s: 60.0..=3_600.0,
        /// Invocations that die at some await.
        deaths: 0.005..=0.08,
        /// Invocations of deliver that die, beside those.
        bad_deliveries: 0.1..=0.9,
        /// Requests for keys and secrets that fail.
        failed_secrets: 0.1..=0.9,
        /// Requests for the feed that fail, take seconds, or are answered with rubbish or old counts.
        bad_feeds: 0.05..=0.7,
        /// Events that the bus does not take.
        refused_events: 0.05..=0.9,
        /// Asynchronous invocations that run twice.
        repeats: 0.01..=0.2,
        /// Asynchronous invocations that wait for seconds.
        waits: 0.01..=0.3,
        /// Environments that are not kept for the next invocation.
        cold_starts: 0.05..=0.8,
        /// Milliseconds that a message takes to its function, at most, so that others overtake it.
        message_delay_ms: 20.0..=1_500.0,
        /// Milliseconds that `$disconnect` takes to its function, at most.
        disconnect_delay_ms: 20.0..=3_000.0,
        /// Closed connections whose `$disconnect` never runs.
        lost_disconnects: 0.02..=0.4,
        /// Posts to live connections that are answered with Gone.
        post_lies: 0.02..=0.4,
        /// Questions after live connections that are answered with Gone.
        look_lies: 0.02..=0.5,
        /// Calls of the management API that are throttled.
        throttled_posts: 0.005..=0.1,
        /// Calls of the management API that fail.
        failed_posts: 0.005..=0.08,
        /// Posts that arrive, and whose answers do not.
        hung_posts: 0.002..=0.02,
        /// Sockets that break within any second.
        broken_sockets: 0.002..=0.05,
        /// Sockets that break without a word, of those that break.
        silent_breaks: 0.1..=0.6,
        /// Milliseconds by which the clocks of processes differ, at most.
        skew_ms: 20.0..=1_000.0,
    }
    second leg {
        /// Publications on the Event API that are refused, fail in an answer with status 200, or are not answered; and,
        /// half as often, connections that it refuses.
        failed_events: 0.05..=0.95,
    }
}

impl Weather {
    /// The weather of a seed, with the parts of `calmed` left out.
    pub fn of(random: &mut SmallRng, calmed: &BTreeSet<String>) -> Self {
        let mut weather = Self::drawn(random);
        // In some worlds all that goes wrong is outside of the functions, so that more can be asked of them.
        if random.random_bool(0.3) {
            weather.calm(&Self::OF_FUNCTIONS.iter().map(|part| (*part).to_owned()).collect());
        }
        weather.calm(calmed);
        weather
    }

    /// What goes wrong between functions and database, and with functions.
    const OF_FUNCTIONS: [&str; 8] = [
        "lost_requests",
        "lost_answers",
        "slow_requests",
        "throttled_requests",
        "failed_requests",
        "unprocessed_writes",
        "deaths",
        "failed_secrets",
    ];

    /// Whether nothing goes wrong between functions and database, and with functions.
    pub fn has_sound_functions(&self) -> bool {
        !self.blowing().iter().any(|part| Self::OF_FUNCTIONS.contains(part))
    }

    /// Whether the end of each connection is noticed when it ends.
    pub fn ends_connections(&self) -> bool {
        self.has_sound_functions() && self.lost_disconnects == 0.0
    }

    /// Whether all is calm.
    pub fn is_calm(&self) -> bool {
        self.blowing().is_empty()
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&if self.is_calm() { "calm".to_owned() } else { self.blowing().join(" ") })
    }
}
