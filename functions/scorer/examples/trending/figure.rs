//! Scores over time, a band for each region, as SVG: no script, and colours for a light and for a dark page.

use std::fmt::Write;

use scorer::rises::RiseChange;
use shared::limits::{RISE_END_SHARE, SCORE_THRESHOLD_DEFAULT};

use crate::Replay;

const WIDTH: f64 = 720.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 44.0;
const BAND: f64 = 150.0;
const GAP: f64 = 28.0;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

const STYLE: &str = "
    svg { font: 13px system-ui, sans-serif; }
    .page { fill: #ffffff; } text { fill: #24292f; } .grid { stroke: #d0d7de; }
    .limit { stroke: #8c959f; stroke-dasharray: 4 4; }
    .count { fill: #8c959f; fill-opacity: 0.5; } .viral { fill: #b35900; }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117; } text { fill: #e6edf3; } .grid { stroke: #30363d; } .limit { stroke: #8b949e; }
      .count { fill: #6e7681; } .viral { fill: #ffa657; }
    }
";

/// Every score as a dot, those that began a rise larger. Regions without a score are left out.
pub(crate) fn draw(replay: &Replay) -> String {
    let bands: Vec<_> =
        replay.iter().filter(|(_, judged)| judged.iter().any(|judged| judged.score.is_some())).collect();
    let scored = || bands.iter().flat_map(|(_, judged)| judged.iter()).filter(|judged| judged.score.is_some());
    let days = || scored().map(|judged| judged.snapshot.at.millis().div_euclid(DAY_MS));
    let (first, last) = (days().min().unwrap_or_default(), days().max().unwrap_or_default() + 1);
    let height = TOP + (BAND + GAP) * bands.len() as f64 + 16.0;
    let title = "Scores of recorded counts, by region; a large dot is the beginning of a rise";
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\" aria-label=\"{title}\">\n\
         <style>{STYLE}</style>\n<rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>\n"
    );
    text(&mut svg, 16.0, 24.0, "start", title);
    let x = |at: i64| LEFT + (at - first * DAY_MS) as f64 / ((last - first) * DAY_MS) as f64 * (WIDTH - LEFT - RIGHT);
    for (band, (region, judged)) in bands.iter().enumerate() {
        let bottom = TOP + (BAND + GAP) * band as f64 + BAND;
        let y = |score: f64| bottom - score / 100.0 * BAND;
        for score in [0.0, 50.0, 100.0] {
            rule(&mut svg, "grid", y(score));
            text(&mut svg, LEFT - 8.0, y(score) + 4.0, "end", &score.to_string());
        }
        let limits = [(SCORE_THRESHOLD_DEFAULT, "begins"), (SCORE_THRESHOLD_DEFAULT * RISE_END_SHARE, "ends")];
        for (score, name) in limits {
            rule(&mut svg, "limit", y(score));
            text(&mut svg, WIDTH - RIGHT + 8.0, y(score) + 4.0, "start", &format!("{score} {name}"));
        }
        text(&mut svg, WIDTH - RIGHT + 8.0, bottom, "start", region.as_str());
        let begun = |begun: bool| judged.iter().filter(move |judged| (judged.change == RiseChange::Begun) == begun);
        for judged in begun(false).chain(begun(true)) {
            let Some(score) = judged.score else { continue };
            let (class, radius) = if judged.change == RiseChange::Begun { ("viral", 4.5) } else { ("count", 2.5) };
            let (x, y) = (x(judged.snapshot.at.millis()), y(score.get()));
            put(&mut svg, format_args!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"/>"));
        }
        text(&mut svg, LEFT, bottom + 16.0, "start", &date(first));
        text(&mut svg, WIDTH - RIGHT, bottom + 16.0, "end", &date(last - 1));
    }
    svg.push_str("</svg>\n");
    svg
}

fn date(day: i64) -> String {
    let at = clock::Timestamp::from_millis(day * DAY_MS).rfc3339();
    at.split('T').next().unwrap_or_default().to_owned()
}

fn rule(svg: &mut String, class: &str, y: f64) {
    put(
        svg,
        format_args!("<line class=\"{class}\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\"/>", WIDTH - RIGHT),
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    put(svg, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"));
}

fn put(svg: &mut String, element: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(svg, "{element}");
}
