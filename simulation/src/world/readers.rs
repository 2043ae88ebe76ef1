//! Those who read the log over HTTP.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rand::RngExt;
use serde_json::{Value, json};
use shared::model::audience::CANARY;
use tokio::time::sleep;

use crate::{
    cloud::{Forgery, FunctionName, TOKEN_END_S, lock, token},
    world::{
        Run,
        items::Pass,
        journal::{self, Told, Visit, Wish},
    },
};

/// Seconds by which an issuer's clock may differ. Source: docs/protocol.md, "Tokens".
pub(super) const LEEWAY_S: i64 = 60;

/// Requests of one reader at most.
const REQUESTS_MAX: usize = 300;

/// Time after the last fault for which it may be felt still: a secret that could not be fetched is not fetched again at
/// once.
const FAULTS_FELT: Duration = Duration::from_secs(10);

/// What somebody has read so far: by region, log and number of the last alert.
type ReadSoFar = BTreeMap<String, (i64, u64)>;

impl Run {
    /// Notes that somebody reads a region, as a visit that ends at once. Its index in the journal.
    pub(super) fn visit_of_reader(&self, lane: &str, region: &str, allowed: Option<Vec<String>>) -> usize {
        let wish = Wish { joins: true, sent_ms: self.cloud.elapsed_ms(), granted_ms: None };
        let mut visit = Visit { client: lane.to_owned(), closed_ms: Some(0), allowed, ..Visit::default() };
        visit.wishes.insert(region.to_owned(), vec![wish]);
        let mut journal = lock(&self.journal);
        journal.visits.push(visit);
        journal.visits.len() - 1
    }

    fn note_alerts(&self, visit: usize, answer: &Value, sent_ms: u64) {
        let at_ms = self.cloud.elapsed_ms();
        for alert in answer["alerts"].as_array().into_iter().flatten() {
            if let Some(received) = journal::alert(alert, at_ms, Some(sent_ms)) {
                lock(&self.journal).visits[visit].received.push(received);
            }
        }
    }

    /// Reads the newest alerts, as somebody without a token.
    pub(super) async fn read(self: &Arc<Self>, number: usize, region: &str) {
        let lane = format!("reader-{number}");
        let visit = self.visit_of_reader(&lane, region, None);
        for _ in 0..3 {
            let sent_ms = self.cloud.elapsed_ms();
            let request = json!({"headers": {}, "queryStringParameters": {"region": region}});
            let (_, answer) = self.cloud.request(FunctionName::Alerts, &lane, "GET /alerts", request).await;
            self.note_alerts(visit, &answer, sent_ms);
            sleep(Duration::from_millis(700)).await;
        }
    }

    /// A token of a kind, and the regions that it allows.
    pub(super) fn pass(&self, pass: Pass, lane: &str) -> (Option<String>, Option<Vec<String>>) {
        let now_s = self.cloud.now_ms() / 1_000;
        let of = |claims: &Value, forgery| Some(token(claims, self.cloud.settings.has_issuer, forgery));
        match pass {
            Pass::None => (None, None),
            Pass::Valid => (of(&json!({"exp": TOKEN_END_S, "sub": lane}), Forgery::None), None),
            // It has ended, and nothing of the leeway and of what clocks differ is left.
            Pass::Ended => (of(&json!({"exp": now_s - LEEWAY_S - 3, "sub": lane}), Forgery::None), Some(Vec::new())),
            Pass::Forged => (of(&json!({"exp": TOKEN_END_S, "sub": lane}), Forgery::Signature), Some(Vec::new())),
            Pass::OfAnother => (
                of(&json!({"exp": TOKEN_END_S, "sub": lane, "regions": ["X9"]}), Forgery::None),
                Some(vec!["X9".to_owned()]),
            ),
        }
    }

    /// With which status somebody is refused.
    pub(super) fn refusal_of(&self, pass: Pass) -> Option<u16> {
        match (self.cloud.settings.authorization.as_str(), pass) {
            ("off", _) | (_, Pass::Valid) | ("optional", Pass::None) => None,
            (_, Pass::OfAnother) => Some(403),
            _ => Some(401),
        }
    }

    /// Guarantees 2 and 3: reads a region from its beginning on, or all, page by page, and gets everything, or nothing
    /// where its token does not allow it.
    pub(super) async fn page(self: &Arc<Self>, number: usize, region: &str, limit: usize, pass: Pass) {
        let cloud = &self.cloud;
        let lane = format!("reader-{number}");
        let expected = self.refusal_of(pass);
        let mut after = if region == "ALL" { "_" } else { "0" }.to_owned();
        let mut read = ReadSoFar::new();
        let mut visit = None;
        let mut pages = 0;
        while pages < REQUESTS_MAX {
            let (token, allowed) = self.pass(pass, &lane);
            let headers = token.map_or(json!({}), |token| json!({"authorization": format!("Bearer {token}")}));
            let allowed = allowed.filter(|_| expected.is_some());
            let visit = *visit.get_or_insert_with(|| self.visit_of_reader(&lane, region, allowed));
            let (sent_ms, published) = (cloud.elapsed_ms(), self.published(region));
            let query = json!({"region": region, "limit": limit.to_string(), "after": after});
            let request = json!({"headers": headers, "queryStringParameters": query});
            let (status, answer) = cloud.request(FunctionName::Alerts, &lane, "GET /alerts", request).await;
            match (status, expected) {
                (500 | 503, _) if !cloud.planned().is_calm() && !cloud.is_calm_for(FAULTS_FELT) => {
                    let pause = cloud.draw(&lane, |random| random.random_range(100..2_000_u64));
                    sleep(Duration::from_millis(pause)).await;
                    continue;
                }
                (status, Some(refusal)) if status == refusal => return,
                (200, None) => pages += 1,
                _ => {
                    let message = format!("{lane} reads {region} with {pass:?} and gets {status}, not {expected:?}");
                    return cloud.breaks(3, message);
                }
            }
            self.note_alerts(visit, &answer, sent_ms);
            self.check_page(&lane, &answer, &mut read);
            answer["after"].as_str().unwrap_or_default().clone_into(&mut after);
            if answer["more"] != true {
                return self.check_last_page(&lane, &published, &read);
            }
        }
        cloud.breaks(8, format!("{lane} has not come to the end of {region} after {REQUESTS_MAX} pages"));
    }

    /// Each page goes on where the one before has ended.
    fn check_page(&self, lane: &str, answer: &Value, read: &mut ReadSoFar) {
        let mut numbers: BTreeMap<&str, Vec<(i64, u64)>> = BTreeMap::new();
        for entry in ["alerts", "removed"].iter().flat_map(|list| answer[*list].as_array().into_iter().flatten()) {
            let place = (entry["epoch"].as_i64().unwrap_or_default(), entry["seq"].as_u64().unwrap_or_default());
            numbers.entry(entry["region"].as_str().unwrap_or_default()).or_default().push(place);
        }
        let left_out = answer["not_recovered"].as_array();
        for (region, mut places) in numbers {
            places.sort_unstable();
            for (epoch, seq) in places {
                let (log, last) = *read.get(region).unwrap_or(&(epoch, 0));
                if (log, last + 1) != (epoch, seq) {
                    self.cloud.breaks(2, format!("{lane} reads {seq} of {region} of {epoch} after {last} of {log}"));
                }
                read.insert(region.to_owned(), (epoch, seq));
            }
        }
        // Nothing of a world is so old that it may be left out.
        if left_out.is_some_and(|regions| !regions.is_empty()) {
            self.cloud.breaks(2, format!("{lane} is not told what there is of {left_out:?}"));
        }
    }

    /// Where the logs of regions end at least, by what publishers were told.
    fn published(&self, region: &str) -> BTreeMap<String, u64> {
        let mut ends = BTreeMap::<String, u64>::new();
        let journal = lock(&self.journal);
        let is_read = |of: &str| of == region || region == "ALL" && of != CANARY;
        for published in journal.publications.values().filter(|it| is_read(&it.region)) {
            let seq_of = |told: &Told| if let Told::Published { seq, .. } = told { Some(*seq) } else { None };
            if let Some(last) = published.answers.iter().filter_map(seq_of).max() {
                let end = ends.entry(published.region.clone()).or_default();
                *end = last.max(*end);
            }
        }
        ends
    }

    /// Behind the last page is nothing that was published before it was asked for.
    fn check_last_page(&self, lane: &str, published: &BTreeMap<String, u64>, read: &ReadSoFar) {
        for (region, end) in published {
            let last = read.get(region).map_or(0, |(_, seq)| *seq);
            if last < *end {
                self.cloud
                    .breaks(2, format!("{lane} has read {region} up to {last}, and is not told that there is {end}"));
            }
        }
    }
}
