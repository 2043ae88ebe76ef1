//! Scores a feed of video counts, and sends what goes viral to the event bus, from where publish gets it.
//!
//! What is known of a region is stored before anything is announced, with the announcements in it: whoever comes later
//! sends what an earlier invocation could not, with the same ids, by which publish knows a repeat.

mod announcer;
mod feed;
pub mod rises;
pub mod score;
mod states;

use crate::rises::Observation;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::Value;
use shared::{
    error::{ErrorChain, InternalError},
    limits::{REGIONS_IN_FLIGHT, SCORE_MAX, SCORE_THRESHOLD_DEFAULT},
    model::audience::Region,
    runtime::{
        environment::InvalidEnvironment,
        function::{Function, Invocation, StartContext},
    },
};

pub use crate::feed::{Feed, FeedEntry};
use crate::{announcer::Announcer, feed::FeedReader, states::States};

#[derive(Debug)]
pub struct Scorer {
    feed: FeedReader,
    states: States,
    announcer: Announcer,
    score_threshold: f64,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ScorerResponse {
    /// Regions that were scored.
    regions: u64,
    /// Counts that were read.
    counts: u64,
    /// Entries of the feed that could not be used.
    skipped: u64,
    /// Rises that were handed to the event bus.
    announced: u64,
}

impl Function for Scorer {
    type Event = Value;
    type Response = ScorerResponse;

    fn start(start: &StartContext) -> Result<Self, InvalidEnvironment> {
        let mut environment = start.environment.reader();
        let feed = environment.required_parsed("FEED_URL");
        let states = States::new(
            aws_sdk_dynamodb::Client::new(&start.sdk),
            environment.required("SCORES_TABLE"),
            start.clock.clone(),
        );
        let source = environment.required("SCORER_SOURCE");
        let announcer = Announcer::new(aws_sdk_eventbridge::Client::new(&start.sdk), source);
        let score_threshold = environment.decimal_number("SCORE_THRESHOLD", SCORE_THRESHOLD_DEFAULT, 0.0..=SCORE_MAX);
        let feed = environment.finish_whole(feed)?;
        let feed = FeedReader::new(&start.network, feed, start.clock.clone()).map_err(InvalidEnvironment::because)?;
        Ok(Self { feed, states, announcer, score_threshold })
    }

    /// The event does not matter: it is that of a schedule.
    async fn handle(&self, _event: Value, _invocation: Invocation) -> Result<ScorerResponse, InternalError> {
        let Feed { regions, skipped } = self.feed.read().await?;
        let mut answer = ScorerResponse { skipped, ..ScorerResponse::default() };
        let mut failure = None;
        let scored = regions.into_iter().map(|(region, observations)| self.score(region, observations));
        let mut scored = stream::iter(scored).buffer_unordered(REGIONS_IN_FLIGHT);
        while let Some((region, counts, result)) = scored.next().await {
            answer.regions += 1;
            answer.counts += counts;
            match result {
                Ok(announced) => answer.announced += announced,
                Err(error) => {
                    tracing::error!(error = %ErrorChain(&error), %region, "region not scored");
                    failure.get_or_insert(error);
                }
            }
        }
        let ScorerResponse { regions, counts, skipped, announced } = answer;
        tracing::info!(regions, counts, skipped, announced, "feed scored");
        failure.map_or(Ok(answer), Err)
    }
}

impl Scorer {
    async fn score(&self, region: Region, observations: Vec<Observation>) -> (Region, u64, Result<u64, InternalError>) {
        let counts = observations.len() as u64;
        let result = self.observe(&region, observations).await;
        (region, counts, result)
    }

    /// Stores what the counts say, announces what has to be, and stores that it was. Returns how many were announced.
    async fn observe(&self, region: &Region, observations: Vec<Observation>) -> Result<u64, InternalError> {
        let mut state = self.states.get(region).await?;
        for judged in state.rises.observe(region, observations, self.score_threshold) {
            tracing::debug!(%region, ?judged, "count judged");
        }
        self.states.put(region, &mut state).await?;
        if state.rises.outbox().is_empty() {
            return Ok(0);
        }
        let report = self.announcer.announce(state.rises.outbox()).await;
        state.rises.announced(&report.announced);
        self.states.put(region, &mut state).await?;
        report.failure.map_or(Ok(report.announced.len() as u64), Err)
    }
}
