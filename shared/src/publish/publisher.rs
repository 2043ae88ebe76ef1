//! Publishing: commit to the log, start the fan-out, answer. Its time does not depend on how many listen.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_lambda::{Client, primitives::Blob, types::InvocationType};
use clock::{Clock, Timestamp};
use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    error::{Decision, ErrorChain, InternalError},
    fanout::{Content, FanoutTask},
    model::{
        audience::Region,
        publication::{Publication, PublisherId},
        rate_limit::RateLimit,
    },
    publish::{
        commit::{CommitOutcome, Committed, ReadPublications, StandingAlert},
        forecast::Forecast,
    },
    tables::alerts::Alerts,
};

/// The answer to a publisher.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum PublishOutcome {
    /// The alert is in the log and on its way.
    Published {
        id: String,
        region: String,
        /// Place of the alert in the region's log.
        seq: u64,
        /// The log that `seq` counts in.
        epoch: i64,
        /// Whether this repeats an earlier publication, whose result this is.
        duplicate: bool,
        /// Always true.
        published: bool,
        /// Whether it has been taken back since.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        removed: bool,
        /// The expected audience and duration, if an earlier fan-out of the region has told them.
        #[serde(flatten)]
        forecast: Option<Forecast>,
    },
    /// The alert is valid and deliberately not published.
    Withheld {
        /// Always false.
        published: bool,
        reason: Reason,
        /// The alert that stands, if the reason is one.
        #[serde(flatten)]
        standing: Option<StandingAlert>,
    },
}

/// Why a valid publication is not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The score is below the threshold of the deployment.
    BelowThreshold,
    /// The same video was alerted in the region within the window, and its score has not risen enough since.
    RecentlyAlerted,
}

impl PublishOutcome {
    fn withheld(reason: Reason, standing: Option<StandingAlert>) -> Self {
        Self::Withheld { published: false, reason, standing }
    }
}

/// Publishes alerts.
#[derive(Clone, Debug)]
pub struct Publisher {
    pub alerts: Alerts,
    /// Starts fan-outs.
    pub dispatcher: Dispatcher,
    /// Score from which an alert is published, 0 to 100.
    pub score_threshold: f64,
    /// Calls of the management API per second that a fan-out may make.
    pub push_rate: f64,
    /// How many alerts one publisher may have published. None for any number.
    pub rate_limit: Option<RateLimit>,
}

/// A publication has no result, which would be a fault of the program.
#[derive(Debug, thiserror::Error)]
#[error("the publication has no result")]
struct NoResult;

/// Makes the rate limit of a publisher: `count` alerts per minute, and as many at once. `None` if 0, which means no
/// limit.
pub fn alerts_per_minute(count: u32) -> Option<RateLimit> {
    RateLimit::new(count, Duration::from_secs(60))
}

/// The result of a publication: an outcome, a refusal, or a failure, after which nothing was published.
pub type Published = Decision<PublishOutcome>;

impl Publisher {
    /// Publishes one alert, see [`Self::publish_all`].
    pub async fn publish(&self, publication: Publication, publisher: &PublisherId, deadline: Instant) -> Published {
        let published = self.publish_all(vec![publication], publisher, deadline).await.pop();
        published.unwrap_or_else(|| Err(InternalError::new("publishing an alert", NoResult)))
    }

    /// Publishes each, unless its score is below the threshold, it was published before, its video was alerted within
    /// the window, or the publisher's rate limit is reached. Those of one region keep their order. The results are in
    /// the order of the publications. An alert in the log counts as published even if its fan-out cannot start now:
    /// recover or a repeat starts it. If that were reported as a failure, a publisher without a key would repeat it as
    /// another alert. The invocation ends at `deadline`.
    pub async fn publish_all(
        &self,
        publications: Vec<Publication>,
        publisher: &PublisherId,
        deadline: Instant,
    ) -> Vec<Published> {
        let is_withheld =
            |publication: &Publication| publication.score.is_some_and(|score| score < self.score_threshold);
        let (withheld, rest): (Vec<_>, Vec<_>) =
            publications.into_iter().enumerate().partition(|(_, publication)| is_withheld(publication));
        let below = PublishOutcome::withheld(Reason::BelowThreshold, None);
        let mut results: Vec<(usize, Published)> =
            withheld.into_iter().map(|(index, _)| (index, Ok(Ok(below.clone())))).collect();

        let mut by_region: BTreeMap<Region, Vec<(usize, usize)>> = BTreeMap::new();
        for (place, (index, publication)) in rest.iter().enumerate() {
            by_region.entry(publication.region.clone()).or_default().push((place, *index));
        }
        // The log is read while the rate limit is charged: everybody waits for the first post.
        let reads = join_all(by_region.iter().map(|(region, places)| {
            let publications: Vec<_> = places.iter().map(|(place, _)| rest[*place].1.clone()).collect();
            async move { self.alerts.read(region, &publications).await }
        }));
        let (allowed, reads) = tokio::join!(self.allow(publisher, rest.len()), reads);
        let mut of_regions = Vec::new();
        for ((region, places), mut read) in by_region.into_iter().zip(reads) {
            read.keep(|of_region| matches!(allowed[places[of_region].0], Ok(Ok(()))));
            let mut indices = Vec::new();
            for (place, index) in places {
                match &allowed[place] {
                    Ok(Ok(())) => indices.push(index),
                    Ok(Err(refusal)) => results.push((index, Ok(Err(refusal.clone())))),
                    Err(failure) => results.push((index, Err(failure.clone()))),
                }
            }
            if !indices.is_empty() {
                of_regions.push(self.publish_read(region, read, indices, deadline));
            }
        }
        results.extend(join_all(of_regions).await.into_iter().flatten());
        results.sort_by_key(|(index, _)| *index);
        results.into_iter().map(|(_, result)| result).collect()
    }

    /// Commits and dispatches publications of one region, which have these places among the results.
    async fn publish_read(
        &self,
        region: Region,
        read: ReadPublications,
        indices: Vec<usize>,
        deadline: Instant,
    ) -> Vec<(usize, Published)> {
        let commits = self.alerts.commit_read(&region, read, deadline).await;
        join_all(indices.into_iter().zip(commits).map(|(index, commit)| async move {
            let result = match commit {
                Ok(Ok(CommitOutcome::Committed(committed))) => Ok(Ok(self.dispatched(committed).await)),
                Ok(Ok(CommitOutcome::RecentlyAlerted(standing))) => {
                    let StandingAlert { id, region, seq, .. } = &standing;
                    tracing::info!(alert = id, region, seq, "video alerted recently, not published again");
                    Ok(Ok(PublishOutcome::withheld(Reason::RecentlyAlerted, Some(standing))))
                }
                Ok(Err(refusal)) => Ok(Err(refusal)),
                Err(failure) => Err(failure),
            };
            (index, result)
        }))
        .await
    }

    /// Charges `count` alerts to the publisher's rate limit. If that allows fewer, the first ones pass.
    async fn allow(&self, publisher: &PublisherId, count: usize) -> Vec<Decision<()>> {
        let Some(rate_limit) = self.rate_limit.filter(|_| count > 0) else { return vec![Ok(Ok(())); count] };
        let mut allowed = Vec::new();
        let events = u32::try_from(count).unwrap_or(u32::MAX);
        // Tried only if they fit at all: a larger charge would pass after a rest.
        if events <= rate_limit.count() {
            let all = self.alerts.allow(publisher, rate_limit, events).await;
            if count == 1 || !matches!(all, Ok(Err(_))) {
                return vec![all; count];
            }
        }
        while allowed.len() < count && allowed.last().is_none_or(|last| matches!(last, Ok(Ok(())))) {
            allowed.push(self.alerts.allow(publisher, rate_limit, 1).await);
        }
        let last = allowed.last().cloned().unwrap_or(Ok(Ok(())));
        allowed.resize(count, last);
        allowed
    }

    /// Starts the fan-out of an alert that is in the log, unless that was done before.
    async fn dispatched(&self, committed: Committed) -> PublishOutcome {
        let Committed { logged, duplicate, dispatched, is_shown, audience } = committed;
        let (id, region, position) = (logged.id().to_owned(), logged.region().clone(), logged.position());
        if !dispatched && is_shown {
            match self.dispatcher.deliver(logged.clone().into()).await {
                Err(failure) => tracing::error!(error = %ErrorChain(&failure), alert = id, "alert not dispatched yet"),
                // If only the mark fails, recover sends it twice and clients drop the copy.
                Ok(()) => {
                    if let Err(failure) = self.alerts.mark_dispatched(&logged).await {
                        tracing::warn!(error = %ErrorChain(&failure), alert = id, "dispatched alert not marked");
                    }
                }
            }
        }
        tracing::info!(alert = id, %region, seq = position.seq, duplicate, "alert published");
        PublishOutcome::Published {
            id,
            region: region.into(),
            seq: position.seq,
            epoch: position.epoch,
            duplicate,
            published: true,
            removed: logged.removal().is_some(),
            forecast: audience.map(|audience| Forecast::of(audience, self.push_rate)),
        }
    }
}

/// Invokes a function asynchronously: deliver, as a rule.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    client: Client,
    function: String,
    clock: Clock,
}

impl Dispatcher {
    /// Invokes `function`, given by name or ARN.
    pub fn new(client: Client, function: String, clock: Clock) -> Self {
        Self { client, function, clock }
    }

    /// The present.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Starts the fan-out of an alert, a removal or a message of a room.
    ///
    /// # Errors
    ///
    /// If Lambda does not accept the invocation of deliver.
    pub async fn deliver(&self, content: Content) -> Result<(), InternalError> {
        self.start(&FanoutTask { content, dispatched_at: self.clock.now(), part: None, depth: 0, redriven_at: None })
            .await
    }

    /// Starts a part of a fan-out, and does not wait for it.
    pub async fn start(&self, task: &FanoutTask) -> Result<(), InternalError> {
        self.invoke(task, "starting a fan-out").await
    }

    /// Starts an invocation with any event.
    pub(crate) async fn invoke(&self, event: &impl Serialize, doing: &'static str) -> Result<(), InternalError> {
        let payload = serde_json::to_vec(event).map_err(|error| InternalError::new(doing, error))?;
        self.client
            .invoke()
            .function_name(&self.function)
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(payload))
            .send()
            .await
            .map_err(|error| InternalError::new(doing, error))?;
        Ok(())
    }
}
