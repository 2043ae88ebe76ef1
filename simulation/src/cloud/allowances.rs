//! Guarantee 7 of alerts: a publisher has so many admitted in a minute and as many at once, and whose alert is refused
//! has used them up.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cloud::{Cloud, InvocationError, Situation, lock};

/// The refusal of an alert over the limit.
const OVER_LIMIT: &str = "rate_limited";

/// Milliseconds after its end at which nothing of an invocation that died takes effect any more.
const DYING_MS: u64 = 10_000;

/// An invocation of publish, and what it has taken of an allowance. Times are in milliseconds since the world began.
#[derive(Clone, Debug)]
pub(super) struct Charge {
    publisher: String,
    began_ms: u64,
    ended_ms: u64,
    /// Alerts that were admitted for certain, and those that may have been.
    least: usize,
    most: usize,
    is_refused: bool,
}

/// Whose allowance an event takes from, and how many alerts of it. None where it takes from none.
fn charged(event: &Value) -> Option<(String, usize)> {
    let context = &event["requestContext"];
    if context["connectionId"].is_string() {
        return None;
    }
    let count = |publications: &Value| publications["publications"].as_array().map_or(1, Vec::len);
    if context["http"].is_object() {
        let signer = context["authorizer"]["iam"]["userId"].as_str().unwrap_or_default();
        let body = event["body"].as_str().and_then(|body| serde_json::from_str::<Value>(body).ok());
        return Some((format!("signer {signer}"), body.as_ref().map_or(1, count)));
    }
    if event["detail-type"].is_string() {
        return Some((format!("source {}", event["source"]), count(&event["detail"])));
    }
    let publisher = if event["canary"].is_string() { "the canary" } else { "invocations" };
    Some((publisher.to_owned(), count(event)))
}

impl Charge {
    fn of(event: &[u8], began_ms: u64, ended_ms: u64, result: &Result<Vec<u8>, InvocationError>) -> Option<Self> {
        let event: Value = serde_json::from_slice(event).ok()?;
        let (publisher, count) = charged(&event)?;
        let mut charge = Self { publisher, began_ms, ended_ms, least: 0, most: count, is_refused: false };
        match result {
            Ok(answer) => {
                let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
                let body = answer["body"].as_str().and_then(|body| serde_json::from_str(body).ok()).unwrap_or(answer);
                let answers = body["results"].as_array().map_or(std::slice::from_ref(&body), Vec::as_slice);
                let is_admitted = |answer: &&Value| answer["published"] == true || answer["removed"] == true;
                let refused = answers.iter().filter(|answer| answer["error"]["code"] == OVER_LIMIT).count();
                charge.least = answers.iter().filter(is_admitted).count();
                charge.most = count.saturating_sub(refused);
                charge.is_refused = refused > 0;
            }
            Err(InvocationError::Failed(failure)) => {
                charge.is_refused = failure.contains("RateLimited");
                charge.most -= usize::from(charge.is_refused);
            }
            Err(InvocationError::Died | InvocationError::TimedOut) => charge.ended_ms += DYING_MS,
        }
        Some(charge)
    }
}

impl Cloud {
    /// Notes what an invocation of publish has taken that began at `began_ms` and has ended now.
    pub(super) fn charges(&self, event: &[u8], began_ms: u64, result: &Result<Vec<u8>, InvocationError>) {
        let Some(charge) = Charge::of(event, began_ms, self.elapsed_ms(), result) else { return };
        if charge.is_refused {
            self.reaches(Situation::AlertLimited);
        }
        lock(&self.charges).push(charge);
    }

    /// Looks whether each publisher had as many alerts admitted as the limit says. Between two moments these are those
    /// at once and those of the time between, at most. Who is refused has used up all at once, and since some moment as
    /// many more as the time has given back. A write that is lost, and repeated, takes from the allowance twice.
    pub(crate) fn check_allowances(&self) {
        let limit = f64::from(self.settings.alerts_per_minute);
        let each_ms = 60_000.0 / limit;
        // Clocks that differ are rounded to milliseconds on top.
        let skew_ms = if self.weather.skew_ms > 0.0 { self.weather.skew_ms + 1.0 } else { 0.0 };
        let mut publishers: BTreeMap<String, Vec<Charge>> = BTreeMap::new();
        for charge in lock(&self.charges).iter() {
            publishers.entry(charge.publisher.clone()).or_default().push(charge.clone());
        }
        for (publisher, charges) in &publishers {
            let least: usize = charges.iter().map(|charge| charge.least).sum();
            for from in charges.iter().filter(|_| least as f64 > limit) {
                let from_ms = from.began_ms;
                for to in charges.iter().filter(|to| to.ended_ms > from_ms) {
                    let within = charges.iter().filter(|it| it.began_ms >= from_ms && it.ended_ms <= to.ended_ms);
                    let admitted: usize = within.map(|charge| charge.least).sum();
                    let time_ms = (to.ended_ms - from_ms) as f64 + skew_ms + 1.0;
                    if admitted as f64 > limit + time_ms / each_ms {
                        let message = format!(
                            "{publisher} has {admitted} alerts admitted within {time_ms} ms, and {limit} a minute may"
                        );
                        return self.breaks(7, message);
                    }
                }
            }
            for refused in charges.iter().filter(|it| it.is_refused && self.weather.has_sound_functions()) {
                let has_used_up = |from: &Charge| {
                    let met = charges
                        .iter()
                        .filter(|it| it.ended_ms >= from.began_ms && it.began_ms <= refused.ended_ms)
                        .map(|charge| charge.most)
                        .sum::<usize>();
                    let time_ms = refused.began_ms as f64 - from.began_ms as f64 - skew_ms;
                    // One that came later may be ahead, and then it seems to be of the future.
                    met as f64 > limit - 1.0 + time_ms / each_ms
                };
                if !charges.iter().filter(|from| from.began_ms <= refused.ended_ms).any(has_used_up) {
                    let at_ms = refused.began_ms;
                    let message = format!("{publisher} is refused at {at_ms} ms, and has not used up {limit} a minute");
                    return self.breaks(7, message);
                }
            }
        }
    }
}
