//! Guarantee 2 of what is asked for: in the end everybody has been answered.

use crate::{
    cloud::lock,
    world::{
        Run,
        journal::{Heard, Visit},
    },
};

/// Milliseconds within which a request to join or leave is answered: that of an integration of API Gateway, and the
/// way.
const ANSWERED_MS: u64 = 30_000;

impl Run {
    /// Who has asked to join or leave last, and is connected still, was told that it is so.
    pub(super) fn check_grants(&self) {
        let now_ms = self.cloud.elapsed_ms();
        let journal = lock(&self.journal);
        let is_open = |visit: &&Visit| visit.closed_ms.is_none() && self.cloud.is_open(&visit.id);
        for Visit { client, id, wishes, .. } in journal.visits.iter().filter(is_open).filter(|visit| visit.asks_again) {
            // An application that no longer watches what was never granted does not ask again.
            let has_left = |region: &str| {
                let mut told = journal.told.get(client).into_iter().flatten();
                told.any(|heard| matches!(heard, Heard::Unwatched { region: of } if of == region))
            };
            for (region, wishes) in wishes.iter().filter(|(region, _)| !has_left(region)) {
                let unanswered = wishes.last().filter(|wish| wish.granted_ms.is_none());
                if let Some(wish) = unanswered.filter(|wish| wish.sent_ms + ANSWERED_MS < now_ms) {
                    let message = format!("{client} as {id} asked for {region}, and was never answered: {wish:?}");
                    self.cloud.breaks(2, message);
                }
            }
        }
    }
}
