//! What the service answers, over a socket and over HTTP: from its log, late, in part or not at all.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, seq::IndexedRandom};
use serde_json::{Value, json};

use super::{Hostile, alert, removal};
use crate::clients::{
    order::Position,
    ours::{ALL, Input},
};

/// Alerts in an answer, and in a page over HTTP: few, so that answers are short and catching up takes several.
const ANSWER_MAX: usize = 8;
const PAGE_MAX: usize = 5;
const POSITIONS_MAX: usize = 300;

impl Hostile {
    // --- Messages ----------------------------------------------------------------------------------------------------

    pub(super) fn message(&mut self, socket: u32, text: &str) {
        if self.chance(self.mood.answer_lost) {
            return;
        }
        let message: Value = serde_json::from_str(text).expect("the client sends JSON");
        let answer = if message["type"] == "ping" { json!({"type": "pong"}) } else { self.answer(socket, &message) };
        let at = self.now + self.within(&self.mood.answer_ms.clone());
        self.later(at, Input::Frame { socket, text: answer.to_string() });
    }

    fn answer(&mut self, socket: u32, message: &Value) -> Value {
        if self.chance(self.mood.answer_error) {
            return match self.random.random_range(0..3) {
                0 => json!({"message": "Internal server error", "connectionId": "c", "requestId": "r"}),
                1 => error("unavailable", true),
                _ => {
                    let mut error = error("rate_limited", true);
                    error["retry_after_ms"] = json!(self.random.random_range(0..5_000));
                    error
                }
            };
        }
        let regions = strings(&message["regions"]);
        let Some(connection) = self.connections.get_mut(&socket) else { return error("connection_closed", true) };
        let kind = message["type"].as_str().unwrap_or_default();
        if kind == "unsubscribe_region" {
            connection.regions.retain(|region| !regions.contains(region));
            return json!({"type": "unsubscribed", "regions": regions});
        }
        if connection.is_marked_closed {
            return error("connection_closed", true);
        }
        if regions.iter().any(|region| self.forbidden.contains(region)) {
            return error("forbidden", false);
        }
        let is_own = regions.iter().any(|region| region == ALL || self.client.client().watched().contains(region));
        if !is_own && kind == "subscribe_region" && self.random.random_bool(self.mood.limit) {
            // The client asks again for a region that ALL covers, beyond the limit of regions.
            return error("limit_reached", false);
        }
        if kind == "keepalive" {
            return if self.knows_keepalive {
                self.kept(socket, &regions, &message["since"])
            } else {
                error("unknown_type", false)
            };
        }
        connection.regions.extend(regions.iter().cloned());
        let since = message.get("since");
        let names = self.meant(&regions, since.unwrap_or(&Value::Null));
        let mut heads = json!({});
        for name in &names {
            heads[name] = json!(self.end(name));
        }
        let mut answer = json!({
            "type": "subscribed",
            "regions": regions,
            "positions": heads,
            "reconnect_within_ms": self.advice(1_000),
            "rotate_after_ms": self.advice(300_000),
        });
        if let Some(since) = since {
            let mut lists = Lists::default();
            for name in &names {
                let from = since.get(name).map(position);
                let Some(from) = from.or_else(|| regions.contains(&ALL.to_owned()).then(Position::default)) else {
                    continue;
                };
                let full = self.chance(self.mood.answer_full) || lists.len() >= ANSWER_MAX;
                match self.after(name, from) {
                    Some(missed) if missed.is_empty() || !full => missed.into_iter().for_each(|one| lists.add(one)),
                    _ => lists.not_recovered.push(name.clone()),
                }
            }
            lists.write(&mut answer);
        }
        answer
    }

    /// A number of milliseconds, sometimes one that nobody can mean.
    fn advice(&mut self, ms: u64) -> Value {
        let wrong = [json!(0), json!(-1), json!(0.5), json!(1e15), Value::Null];
        if self.random.random_bool(0.05) {
            wrong.choose(&mut self.random).cloned().unwrap_or_default()
        } else {
            json!(ms)
        }
    }

    /// The end of a log, sometimes as it was one alert earlier.
    fn end(&mut self, region: &str) -> Position {
        let late = self.chance(self.mood.late_reads);
        let Some(log) = self.logs.get(region) else { return Position::default() };
        let mut head = log.head();
        head.seq = head.seq.saturating_sub(late.into());
        head
    }

    fn meant(&self, regions: &[String], since: &Value) -> Vec<String> {
        if !regions.contains(&ALL.to_owned()) {
            return regions.to_vec();
        }
        let named = since.as_object().into_iter().flatten().map(|(name, _)| name);
        let all: BTreeSet<&String> = regions.iter().chain(named).chain(self.logs.keys()).collect();
        all.into_iter().filter(|name| *name != ALL).take(POSITIONS_MAX).cloned().collect()
    }

    /// What follows a position. Nothing if the log cannot tell.
    fn after(&self, region: &str, from: Position) -> Option<Vec<Value>> {
        let Some(log) = self.logs.get(region) else { return (from.epoch == 0).then(Vec::new) };
        let from_seq = usize::try_from(from.seq).ok()?;
        if (from.epoch != 0 && from.epoch != log.epoch) || from_seq < log.forgotten {
            return None;
        }
        let missed = log.removed.iter().enumerate().skip(from_seq).map(|(number, removed)| {
            let seq = number as u64 + 1;
            if *removed { removal(region, log.epoch, seq) } else { alert(region, log.epoch, seq) }
        });
        Some(missed.collect())
    }

    fn kept(&mut self, socket: u32, regions: &[String], since: &Value) -> Value {
        let names = self.meant(regions, since);
        let behind: Vec<String> = names
            .into_iter()
            .filter(|name| self.end(name) != since.get(name).map(position).unwrap_or_default())
            .collect();
        let subscribed = &self.connections[&socket].regions;
        let missing: Vec<&String> = regions.iter().filter(|region| !subscribed.contains(*region)).collect();
        let mut kept = json!({"type": "kept"});
        if !behind.is_empty() {
            kept["behind"] = json!(behind);
        }
        if !missing.is_empty() {
            kept["missing"] = json!(missing);
        }
        kept
    }

    // --- Over HTTP ---------------------------------------------------------------------------------------------------

    pub(super) fn request(&mut self, id: u32, query: &str) {
        let at = self.now + self.within(&self.mood.answer_ms.clone());
        if self.chance(self.mood.http_fails) {
            let input = match self.random.random_range(0..20) {
                0 => Input::Http { id, status: 401, body: r#"{"error":{"code":"unauthorized"}}"#.to_owned() },
                1 => Input::Http { id, status: 403, body: r#"{"error":{"code":"forbidden"}}"#.to_owned() },
                2..6 => Input::HttpFailed { id },
                6..11 => Input::Http { id, status: 503, body: r#"{"error":{"code":"unavailable"}}"#.to_owned() },
                11..16 => Input::Http { id, status: 200, body: "<html>".to_owned() },
                // No answer at all.
                _ => return,
            };
            return self.later(at, input);
        }
        let body = self.page(query).to_string();
        self.later(at, Input::Http { id, status: 200, body });
    }

    fn page(&mut self, query: &str) -> Value {
        let field = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)).unwrap_or_default();
        let regions: Vec<String> = field("region=").split(',').map(str::to_owned).collect();
        let cursor: BTreeMap<String, Position> = field("after=")
            .split('_')
            .filter_map(|one| {
                let mut parts = one.split('.');
                let region = parts.next()?.to_owned();
                let mut number = || u64::from_str_radix(parts.next()?, 36).ok();
                Some((region, Position { epoch: number()?, seq: number()? }))
            })
            .collect();
        let mut lists = Lists::default();
        let mut positions = json!({});
        let mut more = false;
        for region in &regions {
            let end = self.end(region);
            let missed = cursor.get(region).map(|from| (*from, self.after(region, *from)));
            let mut at = end;
            match missed {
                Some((from, Some(missed))) => {
                    let count = missed.len();
                    let room = PAGE_MAX.saturating_sub(lists.len());
                    missed.into_iter().take(room).for_each(|one| lists.add(one));
                    if count > room {
                        more = true;
                        at = Position { seq: from.seq + room as u64, ..end };
                    }
                }
                Some((_, None)) => lists.not_recovered.push(region.clone()),
                None => {}
            }
            positions[region] = json!(at);
        }
        let mut answer = json!({"positions": positions, "more": more});
        lists.write(&mut answer);
        answer
    }
}

/// The alerts of an answer.
#[derive(Debug, Default)]
struct Lists {
    alerts: Vec<Value>,
    removed: Vec<Value>,
    not_recovered: Vec<String>,
}

impl Lists {
    fn len(&self) -> usize {
        self.alerts.len() + self.removed.len()
    }

    fn add(&mut self, one: Value) {
        if one["type"] == "viral_alert" { self.alerts.push(one) } else { self.removed.push(one) }
    }

    fn write(self, answer: &mut Value) {
        answer["alerts"] = json!(self.alerts);
        answer["recovered"] = json!(self.not_recovered.is_empty());
        if !self.removed.is_empty() {
            answer["removed"] = json!(self.removed);
        }
        if !self.not_recovered.is_empty() {
            answer["not_recovered"] = json!(self.not_recovered);
        }
    }
}

fn error(code: &str, retryable: bool) -> Value {
    json!({"type": "error", "code": code, "message": "no", "retryable": retryable})
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

pub(super) fn position(value: &Value) -> Position {
    Position { epoch: value["epoch"].as_u64().unwrap_or_default(), seq: value["seq"].as_u64().unwrap_or_default() }
}
