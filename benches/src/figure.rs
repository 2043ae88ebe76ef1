//! A bar chart as SVG, without script, with colours for light and dark pages.

use std::{fmt::Write, time::Duration};

/// One bar.
#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) time: Duration,
}

const WIDTH: f64 = 720.0;
const LEFT: f64 = 240.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 44.0;
const ROW: f64 = 32.0;
const BAR: f64 = 18.0;

const STYLE: &str = "
    svg { font: 13px system-ui, sans-serif; }
    .page { fill: #ffffff; } text { fill: #24292f; } .bar { fill: #8c959f; } .own { fill: #0550ae; }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117; } text { fill: #e6edf3; } .bar { fill: #6e7681; } .own { fill: #79c0ff; }
    }
";

/// Draws bars below each other, the shortest first. Those of this project stand out.
pub(crate) fn draw(title: &str, own: &str, mut bars: Vec<Bar>) -> String {
    bars.sort_by_key(|bar| bar.time);
    let height = TOP + ROW * bars.len() as f64 + 12.0;
    let longest = bars.last().map_or(1.0, |bar| bar.time.as_secs_f64());
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"{title}\">\n\
         <style>{STYLE}</style>\n<rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text x=\"16\" y=\"24\">{title}</text>\n"
    );
    for (row, Bar { name, time }) in bars.iter().enumerate() {
        let (y, length) = (TOP + ROW * row as f64, time.as_secs_f64() / longest * (WIDTH - LEFT - RIGHT));
        let class = if name.starts_with(own) { "own" } else { "bar" };
        // Writing to a string does not fail.
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\"/>\
             <text x=\"{:.1}\" y=\"{}\">{:.0} ms</text>",
            LEFT - 10.0,
            y + BAR - 4.0,
            LEFT + length + 8.0,
            y + BAR - 4.0,
            time.as_secs_f64() * 1e3
        );
    }
    svg.push_str("</svg>\n");
    svg
}
