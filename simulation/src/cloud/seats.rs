//! Guarantee 7 of connections: a user has at most so many, and who is refused was one too many.

use crate::cloud::{Cloud, lock};

/// A handshake of a user that came as far as `$connect`. Times are in milliseconds since the world began.
#[derive(Clone, Debug)]
pub(super) struct Handshake {
    pub(super) id: String,
    pub(super) user: String,
    pub(super) began_ms: u64,
    /// When it ended, and with which status.
    pub(super) ended: Option<(u64, u64)>,
    /// When its `$disconnect` had run.
    pub(super) left_ms: Option<u64>,
}

/// What a connection too many is answered.
const TOO_MANY: u64 = 429;

impl Handshake {
    fn has_status(&self, is_so: impl Fn(u64) -> bool) -> bool {
        self.ended.is_some_and(|(_, status)| is_so(status))
    }

    /// Whether it may have held a seat at some time of that span.
    fn may_have_held_a_seat(&self, from_ms: u64, to_ms: u64) -> bool {
        // One that failed may have left something.
        let is_refused = self.has_status(|status| (400..500).contains(&status));
        !is_refused && self.began_ms <= to_ms && self.left_ms.is_none_or(|left_ms| left_ms >= from_ms)
    }
}

impl Cloud {
    /// Notes that `$connect` of a user's connection begins.
    pub(super) fn comes(&self, id: &str, user: &str) {
        let (id, user, began_ms) = (id.to_owned(), user.to_owned(), self.elapsed_ms());
        let handshake = Handshake { id, user, began_ms, ended: None, left_ms: None };
        lock(&self.gateway).handshakes.push(handshake);
    }

    /// Notes with which status it has ended, and looks whether the user has too many connections now.
    pub(super) fn has_come(&self, id: &str, status: u64) {
        let ended_ms = self.elapsed_ms();
        let most = self.settings.connections_per_user as usize;
        let mut gateway = lock(&self.gateway);
        let Some(at) = gateway.handshakes.iter().position(|handshake| handshake.id == id) else { return };
        gateway.handshakes[at].ended = Some((ended_ms, status));
        let user = &gateway.handshakes[at].user;
        let of_user = gateway.handshakes.iter().filter(|handshake| handshake.user == *user);
        let is_open = |id: &str| gateway.connections.get(id).is_some_and(|connection| connection.is_open);
        let open = of_user.filter(|handshake| is_open(&handshake.id)).count();
        let user = user.clone();
        drop(gateway);
        if open > most {
            self.breaks(7, format!("{user} has {open} connections open, and {most} are allowed"));
        }
    }

    /// How many other handshakes of its user met that of a connection. None where it has no user.
    pub(super) fn rivals(&self, id: &str) -> Option<usize> {
        let gateway = lock(&self.gateway);
        let own = gateway.handshakes.iter().find(|handshake| handshake.id == id)?;
        let has_met = |other: &&Handshake| {
            other.user == own.user && other.id != id && other.ended.is_none_or(|(ended_ms, _)| ended_ms >= own.began_ms)
        };
        Some(gateway.handshakes.iter().filter(has_met).count())
    }

    /// Notes that `$disconnect` of a connection has run.
    pub(super) fn has_left(&self, id: &str) {
        let left_ms = self.elapsed_ms();
        if let Some(handshake) = lock(&self.gateway).handshakes.iter_mut().find(|handshake| handshake.id == id) {
            handshake.left_ms = Some(left_ms);
        }
    }

    /// Looks whether each connection that was refused found all seats taken by others that were not refused. A write
    /// that is lost, and repeated, may take two.
    pub(crate) fn check_seats(&self) {
        if !self.weather.has_sound_functions() {
            return;
        }
        let most = self.settings.connections_per_user as usize;
        let handshakes = lock(&self.gateway).handshakes.clone();
        for refused in handshakes.iter().filter(|handshake| handshake.has_status(|status| status == TOO_MANY)) {
            let Handshake { id, user, began_ms, .. } = refused;
            let to_ms = refused.ended.map_or(u64::MAX, |(at_ms, _)| at_ms);
            let others = handshakes.iter().filter(|handshake| handshake.user == *user);
            let seated = others.filter(|handshake| handshake.may_have_held_a_seat(*began_ms, to_ms)).count();
            if seated < most {
                self.breaks(7, format!("{user} is refused as {id} beside {seated} others, and may have {most}"));
            }
        }
    }
}
