//! The timers of the client.

use std::collections::BTreeMap;

/// What a timer is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// The socket was silent for too long.
    Silence(u32),
    /// A keepalive is due on the socket.
    Keepalive(u32),
    /// The socket asks again after an error.
    Retry(u32),
    /// Another connection is to be opened.
    Connect,
    /// A region asks for what it misses.
    Heal(String),
    /// The request over HTTP took too long.
    Fetch(u32),
}

/// Timers by time; those of one time in the order in which they were set.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    set: BTreeMap<(u64, u64), Alarm>,
    count: u64,
}

impl Alarms {
    pub(super) fn add(&mut self, at: u64, alarm: Alarm) {
        self.count += 1;
        self.set.insert((at, self.count), alarm);
    }

    /// Sets an alarm that was due again, so much later and in its old place among those of one time.
    pub(super) fn repeat(&mut self, (at, place): (u64, u64), later: u64, alarm: Alarm) {
        self.set.insert((at + later, place), alarm);
    }

    pub(super) fn cancel(&mut self, alarm: &Alarm) {
        self.set.retain(|_, set| set != alarm);
    }

    pub(super) fn has(&self, alarm: &Alarm) -> bool {
        self.set.values().any(|set| set == alarm)
    }

    pub(super) fn next(&self) -> Option<u64> {
        self.set.keys().next().map(|(at, _)| *at)
    }

    pub(super) fn due(&mut self, now: u64) -> Option<((u64, u64), Alarm)> {
        if self.next()? > now { None } else { self.set.pop_first() }
    }
}
