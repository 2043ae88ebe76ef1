//! Guarantee 5 of what is written: each item says when it may be removed, not later than the documents promise and not
//! earlier.
//!
//! Source: docs/operations.md, "Upgrading", which says of each form how long it is kept.

use serde_json::Value;

use crate::cloud::Cloud;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Life of what there is of a connection, in seconds.
pub(crate) const OF_CONNECTIONS_S: i64 = 2 * HOUR + 10 * MINUTE;

/// Time after its last alert at which a region's log ends, in seconds.
pub(crate) const OF_LOGS_S: i64 = 2 * DAY;

/// Life of an alert in the log, in seconds.
const OF_ALERTS_S: i64 = DAY;

/// Seconds by which the clocks of functions and rounding may be off.
pub(crate) const CLOCKS_S: i64 = 2;

fn number(attribute: &Value) -> Option<i64> {
    attribute["N"].as_str()?.parse().ok()
}

/// The times from which and until which an item is kept, in seconds since the Unix epoch. None where it is kept until
/// the log ends that it is of.
fn kept(table: &str, item: &Value, now_s: i64) -> Option<(i64, i64)> {
    let text = |name: &str| item[name]["S"].as_str().unwrap_or_default();
    match table {
        "ScoresTable" => return Some((now_s, now_s + 14 * DAY)),
        "SubscriptionsTable" => {
            if item["closed"].is_object() {
                return Some((now_s, now_s + 10 * MINUTE));
            }
            let began_s = number(&item["since"]).map(|ms| ms / 1_000);
            return Some(match began_s {
                // A live connection never loses a subscription.
                Some(began_s) => (began_s + 2 * HOUR, began_s + OF_CONNECTIONS_S),
                None => (now_s, now_s + OF_CONNECTIONS_S),
            });
        }
        _ => {}
    }
    let partition = text("region");
    if let Some(rest) = partition.strip_prefix('@') {
        return match rest.split('#').next().unwrap_or_default() {
            "head" if item["leased_until"].is_null() => None,
            "regions" | "heads" => None,
            "key" | "receipt" | "video" => Some((now_s + OF_ALERTS_S - MINUTE, now_s + OF_ALERTS_S)),
            _ => Some((now_s, now_s + HOUR)),
        };
    }
    let committed_s = number(&item["committed_at"]).unwrap_or_default() / 1_000;
    Some((committed_s + OF_ALERTS_S, committed_s + OF_ALERTS_S))
}

impl Cloud {
    /// Looks at an item that was written now.
    pub(super) fn check_lifetime(&self, table: &str, item: &Value) {
        if item.is_null() {
            return;
        }
        let Some((from_s, to_s)) = kept(table, item, self.now_ms() / 1_000) else { return };
        let is_kept_so = |expires_s| (from_s - CLOCKS_S..=to_s + CLOCKS_S).contains(&expires_s);
        if !number(&item["expires_at"]).is_some_and(is_kept_so) {
            let message = format!("an item of {table} is to be kept from {from_s} s to {to_s} s, and is not: {item}");
            self.breaks(5, message);
        }
    }
}
