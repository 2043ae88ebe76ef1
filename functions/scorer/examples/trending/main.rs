//! Replays recorded series of counts through the scorer's own code: what goes viral, when, and how often.
//!
//! Usage: `trending FILE [--figure FILE]`. Each line of the file is a series as JSON: `region`, `video_id`, `title`,
//! and `snapshots` of `at` (RFC 3339) and `views`.

mod figure;

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    process::ExitCode,
};

use clock::Timestamp;
use scorer::{
    rises::{FeedVideo, Judged, Observation, RiseChange, Rises},
    score::Snapshot,
};
use serde::Deserialize;
use shared::{limits::SCORE_THRESHOLD_DEFAULT, model::audience::Region};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// One line of the file.
#[derive(Deserialize)]
struct Series {
    region: String,
    video_id: String,
    title: String,
    snapshots: Vec<Counted>,
}

#[derive(Deserialize)]
struct Counted {
    at: String,
    views: u64,
}

/// What was judged of one region, in the order of time.
type Replay = BTreeMap<Region, Vec<Judged>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (file, figure) = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [file] => ((*file).to_owned(), None),
        [file, "--figure", figure] => ((*file).to_owned(), Some((*figure).to_owned())),
        _ => return Err("usage: trending FILE [--figure FILE]".into()),
    };
    let text = std::fs::read_to_string(&file).map_err(|error| format!("cannot read {file}: {error}"))?;
    let series = text.lines().map(serde_json::from_str).collect::<Result<Vec<Series>, _>>()?;
    let titles = series.iter().map(|series| (series.video_id.clone(), series.title.clone())).collect();
    let replay = replay(&series, SCORE_THRESHOLD_DEFAULT)?;
    report(&replay, &titles);
    sensitivity(&series)?;
    if let Some(path) = figure {
        std::fs::write(&path, figure::draw(&replay)).map_err(|error| format!("cannot write {path}: {error}"))?;
    }
    Ok(())
}

/// Feeds the counts day by day: one reading of the feed for each calendar day of a region, as the records were made.
fn replay(series: &[Series], threshold: f64) -> Result<Replay, Box<dyn Error>> {
    let mut readings: BTreeMap<(Region, i64), Vec<Observation>> = BTreeMap::new();
    for Series { region, video_id, title, snapshots } in series {
        let region: Region = region.parse()?;
        for Counted { at, views } in snapshots {
            let secs = OffsetDateTime::parse(at, &Rfc3339)?.unix_timestamp();
            let video =
                FeedVideo { id: video_id.clone(), title: title.clone(), thumbnail: None, channel: None, url: None };
            let snapshot = Snapshot { at: Timestamp::from_millis(secs * 1_000), views: *views };
            let day = secs.div_euclid(24 * 60 * 60);
            readings.entry((region.clone(), day)).or_default().push(Observation { video, snapshot });
        }
    }
    let mut rises: BTreeMap<Region, Rises> = BTreeMap::new();
    let mut replay = Replay::new();
    for ((region, _), observations) in readings {
        let rises = rises.entry(region.clone()).or_default();
        let judged = rises.observe(&region, observations, threshold);
        // Taken by the bus at once.
        let ids: Vec<_> = rises.outbox().iter().map(|announcement| announcement.id.clone()).collect();
        rises.announced(&ids);
        replay.entry(region).or_default().extend(judged);
    }
    Ok(replay)
}

fn report(replay: &Replay, titles: &BTreeMap<String, String>) {
    println!("| region | videos | counts | scored | falling or unknown | median score | rises | videos that rose |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut unscored = Vec::new();
    for (region, judged) in replay {
        let videos: BTreeSet<_> = judged.iter().map(|judged| &judged.video).collect();
        let mut scores: Vec<_> = judged.iter().filter_map(|judged| judged.score).map(|score| score.get()).collect();
        scores.sort_by(f64::total_cmp);
        if scores.is_empty() {
            unscored.push(format!("{region} ({})", judged.len()));
            continue;
        }
        let begun: Vec<_> = judged.iter().filter(|judged| judged.change == RiseChange::Begun).collect();
        let rose: BTreeSet<_> = begun.iter().map(|judged| &judged.video).collect();
        let median = scores[scores.len() / 2];
        println!(
            "| {region} | {} | {} | {} | {} | {median} | {} | {} |",
            videos.len(),
            judged.len(),
            scores.len(),
            judged.len() - scores.len(),
            begun.len(),
            rose.len()
        );
    }
    println!("\nnothing scored, counts in brackets: {}", unscored.join(", "));
    println!("\n| region | time | video | title | views before | views | score |\n|---|---|---|---|---|---|---|");
    for (region, judged) in replay {
        let mut before: BTreeMap<&str, u64> = BTreeMap::new();
        for Judged { video, snapshot, score, change } in judged {
            let views = before.insert(video, snapshot.views);
            if *change == RiseChange::Begun {
                println!(
                    "| {region} | {} | `{video}` | {} | {} | {} | {} |",
                    snapshot.at.rfc3339_secs(),
                    titles.get(video).map_or("", String::as_str).replace('|', "/"),
                    views.unwrap_or_default(),
                    snapshot.views,
                    score.map_or(0.0, |score| score.get())
                );
            }
        }
    }
}

/// How often a rise begins at other thresholds.
fn sensitivity(series: &[Series]) -> Result<(), Box<dyn Error>> {
    println!("\n| threshold | rises | videos that rose | rose twice |\n|---|---|---|---|");
    for threshold in [60.0, 70.0, 75.0, 80.0, 85.0, 90.0, 95.0] {
        let mut rises: BTreeMap<(Region, String), u32> = BTreeMap::new();
        for (region, judged) in replay(series, threshold)? {
            for judged in judged.into_iter().filter(|judged| judged.change == RiseChange::Begun) {
                *rises.entry((region.clone(), judged.video)).or_default() += 1;
            }
        }
        let twice = rises.values().filter(|times| **times > 1).count();
        println!("| {threshold} | {} | {} | {twice} |", rises.values().sum::<u32>(), rises.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 30 videos that grow alike day by day, and one that takes off on the third day.
    fn series() -> Vec<Series> {
        let day = |day: u64| format!("2026-11-{:02}T12:00:00Z", 10 + day);
        let of = |id: String, views: &dyn Fn(u64) -> u64| Series {
            region: "PL".to_owned(),
            title: id.clone(),
            video_id: id,
            snapshots: (0..5).map(|n| Counted { at: day(n), views: views(n) }).collect(),
        };
        let others = (0..30_u64).map(|n| of(format!("other-{n}"), &move |day| (1_000 + 100 * n) * (10 + day)));
        let viral = of("viral".to_owned(), &|day| if day < 2 { 100_000 + day } else { 9_000_000 + day });
        others.chain([viral]).collect()
    }

    #[test]
    fn one_series_that_takes_off_is_reported_once_at_its_snapshot() {
        let replay = replay(&series(), SCORE_THRESHOLD_DEFAULT).expect("valid");
        let judged: Vec<_> = replay.values().flatten().filter(|judged| judged.change == RiseChange::Begun).collect();
        let [judged] = judged.as_slice() else { panic!("{judged:?}") };
        assert_eq!((judged.video.as_str(), judged.snapshot.views), ("viral", 9_000_002));
        let svg = figure::draw(&replay);
        assert_eq!(svg.matches("class=\"viral\"").count(), 1, "{svg}");
    }
}
