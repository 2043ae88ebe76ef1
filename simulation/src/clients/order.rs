//! The order of one region's alerts as `docs/protocol.md` ("Positions") and `client/README.md` ("What it guarantees")
//! promise it: each alert once and in order, or as part of a gap.

use std::collections::{
    BTreeMap,
    btree_map::Entry::{Occupied, Vacant},
};

use serde::{Deserialize, Serialize};

/// Alerts that are held until a missing one arrives. Source: `EARLY_MAX` in `client/src/limits.ts`.
const HELD_MAX: usize = 500;
/// Requests for missing alerts without progress before these count as lost. Source: `client/README.md`.
const TRIES_MAX: u32 = 5;

/// A place in a region's log. A later place, or any place in a later log, is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The log; 0 is before any.
    pub epoch: u64,
    /// The alert, counted from 1; 0 is before the first.
    pub seq: u64,
}

/// An alert, or the removal of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub at: Position,
    /// Its id; empty if the frame had none.
    pub id: String,
    /// It is a removal.
    pub removed: bool,
    /// It went to every connection.
    pub everyone: bool,
}

/// What the application is told about a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// An alert, or a removal.
    Entry(Entry),
    /// The alerts `from` to `to`, both included, are lost; without `to`, all that followed in a log that has ended.
    Lost {
        /// The first.
        from: u64,
        /// The last.
        to: Option<u64>,
    },
}

/// How a region stands after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is missing, as far as is known.
    Complete,
    /// Alerts are missing, and the answer should have had them.
    Behind,
    /// The service refused to recover what is missing; another request may.
    Refused,
}

/// A region as its follower sees it.
#[derive(Debug, Default)]
pub struct Order {
    at: Option<Position>,
    head: u64,
    tries: u32,
    held: BTreeMap<Position, Entry>,
}

impl Order {
    /// The place of the last alert that was told, or lost. Nothing before the first answer.
    pub fn at(&self) -> Option<Position> {
        self.at
    }

    /// Whether alerts are missing.
    pub fn is_behind(&self) -> bool {
        self.at.is_some_and(|at| self.head > at.seq)
    }

    /// Requests for missing alerts without progress.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// Gives the region its beginning, unless it has one. What is held is told by the next [`Order::settle`].
    pub fn begin(&mut self, at: Position) {
        self.at.get_or_insert(at);
    }

    /// Takes an alert or a removal, in any order and any number of times.
    pub fn take(&mut self, entry: Entry, news: &mut Vec<News>) {
        let next = self.at.map(|at| Position { seq: at.seq + 1, ..at });
        let place = entry.at;
        if self.at.is_some_and(|at| place.epoch == at.epoch) {
            self.head = self.head.max(place.seq);
        }
        if self.at.is_none() {
            // Alerts of several logs may come before the first answer. The latest log is the present one.
            if self.held.keys().any(|held| held.epoch > place.epoch) {
                return;
            }
            self.held.retain(|held, _| held.epoch == place.epoch);
        }
        // What has its turn, or is of another log, is not held for long.
        let passes = next.is_some_and(|next| next == place || next.epoch != place.epoch);
        let room = self.held.len() < HELD_MAX || passes;
        match self.held.entry(place) {
            // A removal takes the place of its alert.
            Occupied(mut held) if entry.removed => drop(held.insert(entry)),
            Vacant(free) if room => drop(free.insert(entry)),
            _ => {}
        }
        self.settle(news);
    }

    /// Takes the end of the log that an answer names. `asked`: the answer was for this region. `refused`: the service
    /// did not recover it; `elsewhere`: then another request may.
    pub fn ends(
        &mut self,
        end: Position,
        asked: bool,
        refused: bool,
        elsewhere: bool,
        news: &mut Vec<News>,
    ) -> Standing {
        let Some(at) = self.at else { return Standing::Complete };
        let another = at.epoch != end.epoch && (refused || at.epoch < end.epoch);
        if another {
            self.jump(Position { seq: 0, ..end }, news);
        }
        // Of a new log nothing was asked for yet.
        let given_up = refused && !another && !elsewhere;
        let refused = refused && elsewhere;
        // A push may have shown a later log than the answer knew.
        if self.at.is_none_or(|at| at.epoch != end.epoch) {
            return Standing::Complete;
        }
        self.head = self.head.max(end.seq);
        if !self.is_behind() {
            return Standing::Complete;
        }
        if refused {
            return Standing::Refused;
        }
        if given_up {
            self.give_up(news);
        } else if asked {
            self.fail(news);
        }
        if self.is_behind() { Standing::Behind } else { Standing::Complete }
    }

    /// Counts a request for what is missing that brought nothing. After several, that counts as lost.
    pub fn fail(&mut self, news: &mut Vec<News>) {
        self.tries += 1;
        if self.tries >= TRIES_MAX {
            self.give_up(news);
        }
    }

    /// Counts what is missing as lost, and tells what is held.
    pub fn give_up(&mut self, news: &mut Vec<News>) {
        while self.is_behind() {
            let Some(at) = self.at else { return };
            let last = self.held.keys().next().map_or(self.head, |held| held.seq - 1);
            self.jump(Position { seq: last, ..at }, news);
        }
    }

    fn jump(&mut self, to: Position, news: &mut Vec<News>) {
        if let Some(at) = self.at {
            // Before any log there was nothing to lose.
            if at.epoch > 0 {
                news.push(News::Lost { from: at.seq + 1, to: (at.epoch == to.epoch).then_some(to.seq) });
            }
            if at.epoch != to.epoch {
                self.head = 0;
            }
        }
        self.at = Some(to);
        self.settle(news);
    }

    /// Tells what has its turn, and drops what is past.
    pub fn settle(&mut self, news: &mut Vec<News>) {
        let Some(at) = self.at else { return };
        // A later log ends this one.
        if let Some((last, _)) = self.held.last_key_value()
            && last.epoch > at.epoch
        {
            let to = Position { seq: 0, ..*last };
            return self.jump(to, news);
        }
        while let (Some(at), Some(first)) = (self.at, self.held.first_entry()) {
            let place = *first.key();
            if place <= at {
                let past = first.remove();
                if past.removed {
                    news.push(News::Entry(past));
                }
            } else if place.seq == at.seq + 1 {
                self.at = Some(place);
                self.tries = 0;
                news.push(News::Entry(first.remove()));
            } else {
                break;
            }
        }
        if let Some((last, _)) = self.held.last_key_value() {
            self.head = self.head.max(last.seq);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: u64 = 7;

    fn entry(epoch: u64, seq: u64) -> Entry {
        Entry { at: Position { epoch, seq }, id: String::new(), removed: false, everyone: false }
    }

    fn at(seq: u64) -> Position {
        Position { epoch: EPOCH, seq }
    }

    fn from(seq: u64) -> Order {
        let mut order = Order::default();
        order.begin(at(seq));
        order
    }

    /// What is told about alerts that come in this order: their numbers, and gaps as `from..to`.
    fn told(order: &mut Order, entries: impl IntoIterator<Item = Entry>) -> Vec<String> {
        let mut news = Vec::new();
        for entry in entries {
            order.take(entry, &mut news);
        }
        news.iter().map(text).collect()
    }

    fn text(news: &News) -> String {
        match news {
            News::Entry(Entry { at, removed: false, .. }) => at.seq.to_string(),
            News::Entry(Entry { at, .. }) => format!("-{}", at.seq),
            News::Lost { from, to: Some(to) } => format!("{from}..{to}"),
            News::Lost { from, to: None } => format!("{from}.."),
        }
    }

    #[test]
    fn alerts_are_told_once_and_in_order_however_they_come() {
        let mut order = from(1);
        assert_eq!(told(&mut order, [4, 1, 3, 3, 2, 4, 2].map(|seq| entry(EPOCH, seq))), ["2", "3", "4"]);
        assert_eq!((order.at(), order.is_behind()), (Some(at(4)), false));
    }

    #[test]
    fn alerts_before_the_first_answer_are_told_after_it_without_those_that_it_has_counted() {
        let mut order = Order::default();
        assert_eq!(told(&mut order, [3, 2].map(|seq| entry(EPOCH, seq))), [""; 0]);
        order.begin(at(2));
        assert_eq!(told(&mut order, [entry(EPOCH, 4)]), ["3", "4"]);
    }

    #[test]
    fn a_removal_takes_the_place_of_its_alert_whichever_comes_first() {
        let removal = |seq| Entry { removed: true, ..entry(EPOCH, seq) };
        assert_eq!(told(&mut from(0), [removal(2), entry(EPOCH, 2), entry(EPOCH, 1)]), ["1", "-2"]);
        assert_eq!(told(&mut from(0), [entry(EPOCH, 2), removal(2), entry(EPOCH, 1)]), ["1", "-2"]);
        assert_eq!(told(&mut from(0), [entry(EPOCH, 1), removal(1), removal(1)]), ["1", "-1", "-1"]);
    }

    #[test]
    fn another_log_is_followed_from_its_beginning_and_what_was_left_of_the_old_one_is_lost() {
        let mut order = from(3);
        assert_eq!(told(&mut order, [entry(EPOCH, 5), entry(EPOCH + 1, 2), entry(EPOCH + 1, 1)]), ["4..", "1", "2"]);
        // Nothing of the old one is told any more.
        assert_eq!(told(&mut order, [entry(EPOCH, 4), entry(EPOCH, 6)]), [""; 0]);
        let mut new = Order::default();
        new.begin(Position::default());
        assert_eq!(told(&mut new, [entry(EPOCH, 1)]), ["1"], "before any log there is nothing to lose");
    }

    #[test]
    fn what_stays_missing_is_lost_after_five_requests_and_what_is_held_is_told() {
        let mut order = from(1);
        assert_eq!(told(&mut order, [3, 6].map(|seq| entry(EPOCH, seq))), [""; 0]);
        let mut news = Vec::new();
        for _ in 0..4 {
            assert_eq!(order.ends(at(7), true, false, true, &mut news), Standing::Behind);
        }
        assert_eq!(news, []);
        assert_eq!(order.ends(at(7), true, false, true, &mut news), Standing::Complete);
        assert_eq!(news.iter().map(text).collect::<Vec<_>>(), ["2..2", "3", "4..5", "6", "7..7"]);
    }

    #[test]
    fn what_the_service_refuses_is_lost_only_if_nothing_else_can_recover_it() {
        let mut news = Vec::new();
        assert_eq!(from(1).ends(at(4), true, true, true, &mut news), Standing::Refused);
        assert_eq!(news, []);
        assert_eq!(from(1).ends(at(4), true, true, false, &mut news), Standing::Complete);
        assert_eq!(news.iter().map(text).collect::<Vec<_>>(), ["2..4"]);
    }

    #[test]
    fn a_bounded_number_of_alerts_is_held_and_the_next_one_always_passes() {
        let mut order = from(0);
        let last = HELD_MAX as u64 + 10;
        assert_eq!(told(&mut order, (2..=last).map(|seq| entry(EPOCH, seq))), [""; 0]);
        assert_eq!(told(&mut order, [entry(EPOCH, 1)]).len(), HELD_MAX + 1);
        assert!(order.is_behind(), "the rest is known to exist");
    }
}
