//! Counting how posts ended.

use std::{collections::BTreeMap, time::Duration};

use clock::{Clock, Timestamp};

use crate::{
    fanout::{
        latencies::Latencies,
        post::{End, Post},
        report::FanoutReport,
        suspect::Suspect,
    },
    limits::{GONE_REMOVED_MAX, SUSPECT_FROM},
    model::connection::ConnectionId,
    push::Cause,
};

/// The ends of posts, counted in a report.
pub(super) struct Tally<'a> {
    report: &'a mut FanoutReport,
    latencies: Latencies,
    to_remove: Vec<ConnectionId>,
    clock: &'a Clock,
    dispatched_at: Timestamp,
}

impl<'a> Tally<'a> {
    pub(super) fn of(report: &'a mut FanoutReport, clock: &'a Clock, dispatched_at: Timestamp) -> Self {
        let mut tally = Self { report, latencies: Latencies::default(), to_remove: Vec::new(), clock, dispatched_at };
        tally.note_lag();
        tally
    }

    /// Counts a post. Returns the suspect, where it has no end yet.
    pub(super) fn add(&mut self, post: Post) -> Option<Suspect> {
        if let Some(latency) = post.latency {
            self.latencies.record(latency);
        }
        self.report.throttled += post.throttled;
        self.report.retried += post.retried;
        match post.end {
            End::Sent => {
                self.report.sent += 1;
                self.note_lag();
            }
            End::Suspected(suspect) => return Some(*suspect),
            End::Gone(connection) => self.add_gone(connection),
            End::Closed(connection) => {
                self.report.closed += 1;
                self.add_gone(connection);
            }
            End::Undelivered(cause) => {
                *self.report.undelivered.entry(cause).or_default() += 1;
                self.note_lag();
            }
        }
        None
    }

    fn add_gone(&mut self, connection: ConnectionId) {
        self.report.gone += 1;
        if self.to_remove.len() < GONE_REMOVED_MAX {
            self.to_remove.push(connection);
        }
    }

    fn note_lag(&mut self) {
        self.report.lag_ms = millis(self.clock.now().since(self.dispatched_at));
    }

    /// Completes the report with the times of posts. Returns what is gone.
    pub(super) fn end(self) -> Vec<ConnectionId> {
        let quantile_ms = |share| self.latencies.quantile(share).unwrap_or_default().as_secs_f64() * 1e3;
        self.report.post_p50_ms = quantile_ms(0.5);
        self.report.post_p99_ms = quantile_ms(0.99);
        self.to_remove
    }
}

/// Returns whether the part must fail, so that Lambda retries it: more posts failed because of the gateway than
/// succeeded. If clients may be the cause, there must also be more than a few.
pub(super) fn is_of_the_gateway(undelivered: &BTreeMap<Cause, u64>, sent: u64) -> bool {
    let of_the_gateway = || undelivered.iter().filter(|(cause, _)| cause.is_of_the_gateway());
    let count: u64 = of_the_gateway().map(|(_, count)| count).sum();
    let is_certain = of_the_gateway().any(|(cause, _)| !cause.may_be_of_the_client());
    count > sent && (is_certain || count >= SUSPECT_FROM)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
