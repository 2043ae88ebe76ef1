//! The feed: a JSON list of counts, read over HTTP. Its form is in `docs/scoring.md`.

use std::collections::BTreeMap;

use crate::{
    rises::{FeedVideo, Observation},
    score::Snapshot,
};
use clock::{Clock, Timestamp};
use http_body_util::Full;
use hyper::{
    Request, Uri,
    header::{ACCEPT, USER_AGENT},
};
use serde::Deserialize;
use serde_json::Value;
use shared::{
    error::InternalError,
    limits::{
        FEED_AHEAD_MAX, FEED_BYTES_MAX, FEED_ID_BYTES_MAX, FEED_REGIONS_MAX, FEED_TEXT_BYTES_MAX, FEED_TIMEOUT,
        FEED_URL_BYTES_MAX, TITLE_CHARS_MAX,
    },
    model::{audience::Region, publication::is_https, strict_json::whole_characters},
    runtime::{https::Https, network::Network, tls::NoCertificates},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Reads the feed at one address.
#[derive(Debug)]
pub(crate) struct FeedReader {
    http: Https,
    address: Uri,
    clock: Clock,
}

/// What a feed says.
#[derive(Debug, Default)]
pub struct Feed {
    /// Counts by region.
    pub regions: BTreeMap<Region, Vec<Observation>>,
    /// Entries that cannot be used.
    pub skipped: u64,
}

/// One entry of the feed.
#[derive(Debug, Deserialize)]
pub struct FeedEntry {
    region: String,
    video: FeedVideo,
    views: u64,
    /// RFC 3339.
    at: String,
}

/// What is wrong with one entry.
#[derive(Debug, thiserror::Error)]
enum EntryError {
    #[error("it has not the form of an entry")]
    Form(#[source] serde_json::Error),
    #[error("its region cannot be used")]
    Region(#[source] shared::model::audience::InvalidRegion),
    #[error("its time is not one of RFC 3339")]
    Time(#[source] time::error::Parse),
    #[error("its time lies in the future")]
    Future,
    #[error("{0} is empty or too long")]
    Text(&'static str),
    #[error("its video.url is too long, or does not begin with https://")]
    Url,
    #[error("the feed has too many regions")]
    Regions,
}

impl FeedReader {
    /// Reads the feed at `address`. The clock tells what lies in the future.
    pub(crate) fn new(network: &Network, address: Uri, clock: Clock) -> Result<Self, NoCertificates> {
        Ok(Self { http: Https::seldom(network, &address)?, address, clock })
    }

    /// Reads it once.
    pub(crate) async fn read(&self) -> Result<Feed, InternalError> {
        let doing = "reading the feed";
        let request = Request::get(self.address.clone())
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, "viral-alerts")
            .body(Full::default())
            .map_err(|error| InternalError::new(doing, error))?;
        let body = self.http.exchange(request, FEED_TIMEOUT, FEED_BYTES_MAX).await;
        let body = body.map_err(|error| InternalError::new(doing, error))?;
        let entries = entries(&body).map_err(|error| InternalError::new(doing, error))?;
        Ok(Feed::of_entries(entries, self.clock.now()))
    }
}

/// The entries of a feed. A title that was cut within a character must not cost all the others.
fn entries(body: &[u8]) -> Result<Vec<Value>, Box<dyn std::error::Error + Send + Sync>> {
    Ok(serde_json::from_str(&whole_characters(str::from_utf8(body)?))?)
}

impl Feed {
    /// Reads entries one by one: those that cannot be used are counted and logged, and cost the others nothing.
    pub fn of_entries(entries: Vec<Value>, now: Timestamp) -> Self {
        let mut feed = Self::default();
        for (number, entry) in entries.into_iter().enumerate() {
            if let Err(error) = feed.add(entry, now) {
                feed.skipped += 1;
                tracing::warn!(number, error = %shared::error::ErrorChain(&error), "entry of the feed skipped");
            }
        }
        feed
    }

    fn add(&mut self, entry: Value, now: Timestamp) -> Result<(), EntryError> {
        let FeedEntry { region, mut video, views, at } = serde_json::from_value(entry).map_err(EntryError::Form)?;
        let region: Region = region.parse().map_err(EntryError::Region)?;
        let at = OffsetDateTime::parse(&at, &Rfc3339).map_err(EntryError::Time)?;
        let at = Timestamp::from_millis(at.unix_timestamp().saturating_mul(1_000));
        if at > now.after(FEED_AHEAD_MAX) {
            return Err(EntryError::Future);
        }
        let within = |text: &str, max: usize, name| {
            if (1..=max).contains(&text.len()) { Ok(()) } else { Err(EntryError::Text(name)) }
        };
        within(&video.id, FEED_ID_BYTES_MAX, "its video.id")?;
        video.title = cut(&video.title);
        within(&video.title, FEED_TEXT_BYTES_MAX, "its video.title")?;
        for (text, name) in [(&video.thumbnail, "its video.thumbnail"), (&video.channel, "its video.channel")] {
            if text.as_ref().is_some_and(|text| text.len() > FEED_TEXT_BYTES_MAX) {
                return Err(EntryError::Text(name));
            }
        }
        if video.url.as_ref().is_some_and(|url| url.len() > FEED_URL_BYTES_MAX || !is_https(url)) {
            return Err(EntryError::Url);
        }
        if self.regions.len() >= FEED_REGIONS_MAX && !self.regions.contains_key(&region) {
            return Err(EntryError::Regions);
        }
        self.regions.entry(region).or_default().push(Observation { video, snapshot: Snapshot { at, views } });
        Ok(())
    }
}

/// A title as long as publish takes it: the beginning of a longer one, with an ellipsis.
fn cut(title: &str) -> String {
    const ELLIPSIS: &str = "…";
    if title.chars().count() <= TITLE_CHARS_MAX && title.len() <= FEED_TEXT_BYTES_MAX {
        return title.to_owned();
    }
    let ends = title.char_indices().map(|(start, char)| start + char.len_utf8()).take(TITLE_CHARS_MAX - 1);
    let end = ends.take_while(|end| end + ELLIPSIS.len() <= FEED_TEXT_BYTES_MAX).last().unwrap_or_default();
    title[..end].trim_end().to_owned() + ELLIPSIS
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_millis(1_795_000_000_000)
    }

    fn entry() -> Value {
        json!({
            "region": "pl", "views": 12, "at": "2026-11-18T12:00:00+01:00",
            "video": {"id": "v", "title": "t", "thumbnail": null, "url": "https://v.example/1"},
        })
    }

    #[test]
    fn an_entry_is_read_with_its_region_in_normal_form_and_its_time_in_utc() {
        let feed = Feed::of_entries(vec![entry()], now());
        let (region, observations) = feed.regions.first_key_value().expect("one region");
        assert_eq!((region.as_str(), feed.skipped), ("PL", 0));
        assert_eq!(observations[0].snapshot, Snapshot { at: Timestamp::from_millis(1_794_999_600_000), views: 12 });
    }

    #[test]
    fn half_a_character_in_one_title_costs_no_entry() {
        let body = format!(r#"[{}, {}]"#, entry(), entry().to_string().replace(r#""t""#, r#""t\ud83d""#));
        let feed = Feed::of_entries(entries(body.as_bytes()).expect("a list"), now());
        let titles: Vec<_> = feed.regions.values().flatten().map(|seen| seen.video.title.as_str()).collect();
        assert_eq!((titles, feed.skipped), (vec!["t", "t\u{fffd}"], 0));
        assert!(entries(b"[\xff]").is_err());
    }

    #[test]
    fn a_title_that_publish_would_refuse_is_cut() {
        for character in ["x", "é", "新", "😑"] {
            let titled = |count: usize| {
                let mut entry = entry();
                entry["video"]["title"] = json!(character.repeat(count));
                let feed = Feed::of_entries(vec![entry], now());
                let seen = feed.regions.values().flatten().next().expect("a video");
                seen.video.title.clone()
            };
            assert_eq!(titled(250), character.repeat(250), "it fits");
            for count in [TITLE_CHARS_MAX + 1, 5_000] {
                let title = titled(count);
                assert!(title.chars().count() <= TITLE_CHARS_MAX && title.len() <= FEED_TEXT_BYTES_MAX, "{title}");
                assert!(title.chars().count() > 250 && title.starts_with(character) && title.ends_with('…'), "{title}");
            }
        }
        assert_eq!(cut(&format!("{} tail", "x".repeat(TITLE_CHARS_MAX - 2))), "x".repeat(TITLE_CHARS_MAX - 2) + "…");
    }

    #[test]
    fn entries_that_cannot_be_used_are_skipped_and_the_others_are_not() {
        let with = |pointer: &str, value: Value| {
            let mut entry = entry();
            *entry.pointer_mut(pointer).expect("a field") = value;
            entry
        };
        let bad = [
            json!(7),
            with("/region", json!("P")),
            with("/region", json!("ALL")),
            with("/views", json!(-1)),
            with("/views", json!(1.5)),
            with("/at", json!(1_795_000_000)),
            with("/at", json!("yesterday")),
            with("/at", json!("2026-11-18T12:00:00Z")),
            with("/video/id", json!("")),
            with("/video/id", json!("x".repeat(FEED_ID_BYTES_MAX + 1))),
            with("/video/title", json!("")),
            with("/video/thumbnail", json!("x".repeat(FEED_TEXT_BYTES_MAX + 1))),
            with("/video/url", json!("http://v.example/1")),
            with("/video/url", json!(format!("https://v.example/{}", "x".repeat(FEED_URL_BYTES_MAX)))),
        ];
        for entry in &bad {
            assert_eq!(Feed::of_entries(vec![entry.clone()], now()).skipped, 1, "{entry}");
        }
        let feed = Feed::of_entries(bad.iter().cloned().chain([entry()]).collect(), now());
        assert_eq!((feed.skipped as usize, feed.regions.len()), (bad.len(), 1));
    }
}
