//! Guarantee 10 of those who had an alert: they are told that it was taken back.

use crate::{
    cloud::{Situation, lock},
    world::{Run, end::PROBE_WITHIN, journal::Visit},
};

impl Run {
    /// Who had an alert when it was taken back, and has stayed subscribed since, was told.
    pub(super) fn check_removals(&self) {
        let cloud = &self.cloud;
        let journal = lock(&self.journal);
        let within_ms = u64::try_from(PROBE_WITHIN.as_millis()).unwrap_or(u64::MAX);
        for removed in &journal.removals {
            let place = (&removed.region, removed.epoch, removed.seq);
            let entry = (removed.region.clone(), removed.epoch, removed.seq, true);
            let is_open = |visit: &&Visit| visit.closed_ms.is_none() && cloud.is_open(&visit.id);
            for visit in journal.visits.iter().filter(is_open).filter(|visit| !visit.is_of_first_format) {
                let mut frames = visit.received.iter().filter(|it| (&it.region, it.epoch, it.seq) == place);
                let had_it = frames.clone().any(|it| it.video.is_some() && it.at_ms <= removed.sent_ms);
                if !had_it || !visit.is_subscribed_since(&removed.region, removed.sent_ms) {
                    continue;
                }
                let was_lost = visit.is_on_events && cloud.has_lost_event(&visit.id, &entry)
                    || cloud.was_over_quota(&visit.id)
                    || !cloud.settings.has_operator && cloud.was_undelivered(&removed.region, removed.seq);
                let told = frames.find(|it| it.video.is_none());
                if told.is_some() {
                    cloud.reaches(Situation::ToldOfRemoval);
                }
                let is_late = |at_ms| cloud.planned().is_calm() && at_ms > removed.answered_ms + within_ms;
                if told.is_none_or(|told| is_late(told.at_ms)) && !was_lost {
                    let Visit { client, id, .. } = visit;
                    let at_ms = told.map(|told| told.at_ms);
                    let message =
                        format!("{client} as {id} had {} and is told at {at_ms:?} of {removed:?}", removed.video);
                    cloud.breaks(10, message);
                }
            }
        }
    }
}
