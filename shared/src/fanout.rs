//! Delivering one alert to everyone who shall have it.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_apigatewaymanagement::primitives::Blob;
use futures_util::{Stream, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::{
    alert::{Alert, Format},
    audience::Audience,
    clock::{Clock, Timestamp},
    connection::SlotRange,
    error::{Chain, Failure},
    limits::{GONE_GRACE, POSTS_IN_FLIGHT},
    push::{Cause, Delivery, Pusher},
    subscriptions::{Member, Subscriptions},
    union,
};

/// What one invocation of deliver does: an alert, and the share of the ring of slots that it goes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The alert, already in the log.
    pub alert: Alert,
    /// Which connections of the audience.
    pub range: SlotRange,
    /// When the fan-out was started, right after the commit.
    pub dispatched_at: Timestamp,
}

/// How a fan-out ended, in numbers of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The gateway took the alert.
    pub sent: u64,
    /// The connection did not exist any more; its items were removed unless it was only just opening.
    pub gone: u64,
    /// The alert did not arrive, by cause. These clients find the gap by its position.
    pub undelivered: BTreeMap<Cause, u64>,
    /// Whether the alert went to everyone, because nobody watched its region.
    pub fell_back: bool,
}

/// Delivers alerts.
#[derive(Clone, Debug)]
pub struct Fanout {
    /// Who listens.
    pub subscriptions: Subscriptions,
    /// How they are reached.
    pub pusher: Pusher,
    /// Whether an alert that nobody watches goes to everyone.
    pub fallback_to_everyone: bool,
    /// Tells the age of subscriptions.
    pub clock: Clock,
}

impl Fanout {
    /// Delivers to the region and to those who watch all regions, each connection once; to everyone where that reaches
    /// nobody and the fallback is on. Fails only when the audience cannot be read.
    pub async fn deliver(&self, task: &Task) -> Result<Report, Failure> {
        let Task { alert, range, dispatched_at } = task;
        let frames = Frames::of(alert);
        let region = self.subscriptions.members(&Audience::Region(alert.region.clone()), *range);
        let all = self.subscriptions.members(&Audience::All, *range);
        let mut report = self.push(&frames, union::of(region, all)).await?;
        // Items that are left of connections long gone are no audience.
        let reached_nobody = report.sent == 0 && report.undelivered.is_empty();
        if reached_nobody && self.fallback_to_everyone {
            let everyone = self.push(&frames, self.subscriptions.members(&Audience::Everyone, *range)).await?;
            report = Report { gone: report.gone + everyone.gone, fell_back: true, ..everyone };
        }
        tracing::info!(
            alert = alert.id,
            region = %alert.region,
            seq = alert.position.seq,
            sent = report.sent,
            gone = report.gone,
            undelivered = report.undelivered.values().sum::<u64>(),
            fell_back = report.fell_back,
            lag_ms = millis(self.clock.now().since(*dispatched_at)),
            "alert delivered"
        );
        Ok(report)
    }

    async fn push(
        &self,
        frames: &Frames,
        members: impl Stream<Item = Result<Member, Failure>> + Send,
    ) -> Result<Report, Failure> {
        members
            .map_ok(|member| async move {
                let delivery = self.pusher.post(&member.connection, frames.of_format(member.format)).await;
                if delivery == Delivery::Gone {
                    self.forget(&member).await;
                }
                Ok(delivery)
            })
            .try_buffer_unordered(POSTS_IN_FLIGHT)
            .try_fold(Report::default(), |mut report, delivery| async move {
                match delivery {
                    Delivery::Sent => report.sent += 1,
                    Delivery::Gone => report.gone += 1,
                    Delivery::Undelivered(cause) => *report.undelivered.entry(cause).or_default() += 1,
                }
                Ok(report)
            })
            .await
    }

    /// Removes what is left of a connection that is gone, unless it may only be opening.
    async fn forget(&self, member: &Member) {
        if self.clock.now().since(member.since) < GONE_GRACE {
            return;
        }
        // What stays behind is found by the next alert, and expires in any case.
        if let Err(failure) = self.subscriptions.close(&member.connection).await {
            tracing::warn!(connection = %member.connection, error = %Chain(&failure), "gone connection not removed");
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Both forms of an alert, encoded once.
struct Frames {
    viral_alert: Blob,
    new_trending: Blob,
}

impl Frames {
    fn of(alert: &Alert) -> Self {
        Self {
            viral_alert: Blob::new(alert.frame(Format::ViralAlert)),
            new_trending: Blob::new(alert.frame(Format::NewTrending)),
        }
    }

    fn of_format(&self, format: Format) -> Blob {
        match format {
            Format::ViralAlert => self.viral_alert.clone(),
            Format::NewTrending => self.new_trending.clone(),
        }
    }
}
