//! A chart with logarithmic axes as SVG, without script, with colours for light and dark pages.

use std::fmt::Write;

use crate::report::grouped;

/// A line of the chart.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 100.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 56.0;

/// Decades of the horizontal axis: subscribers.
const X: (i32, i32) = (3, 7);

/// Decades of the vertical axis: seconds.
const Y: (i32, i32) = (-1, 4);

const STYLE: &str = "
    svg { font: 13px system-ui, sans-serif; }
    .page { fill: #ffffff; } text { fill: #24292f; } .grid { stroke: #d0d7de; }
    .limit { stroke: #8c959f; stroke-dasharray: 4 4; }
    .line { fill: none; stroke-width: 2.5; }
    .line-0 { stroke: #b35900; } .line-1 { stroke: #0550ae; } .line-2 { stroke: #1a7f37; }
    .dot-0 { fill: #b35900; } .dot-1 { fill: #0550ae; } .dot-2 { fill: #1a7f37; }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117; } text { fill: #e6edf3; } .grid { stroke: #30363d; } .limit { stroke: #8b949e; }
      .line-0 { stroke: #ffa657; } .line-1 { stroke: #79c0ff; } .line-2 { stroke: #7ee787; }
      .dot-0 { fill: #ffa657; } .dot-1 { fill: #79c0ff; } .dot-2 { fill: #7ee787; }
    }
";

/// Draws the time to the last push over the size of the audience.
pub(crate) fn draw(lines: &[Line]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"Time to the last push over the size of the audience\">\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n"
    );
    text(&mut svg, LEFT, 24.0, "start", "Time from the commit to the last push, by quota of the account (simulated)");
    for decade in X.0..=X.1 {
        let at = x(10_f64.powi(decade));
        rule(&mut svg, "grid", (at, TOP), (at, HEIGHT - BOTTOM));
        text(&mut svg, at, HEIGHT - BOTTOM + 20.0, "middle", &grouped(10_f64.powi(decade)));
    }
    text(&mut svg, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 12.0, "middle", "subscribers of one alert");
    for decade in Y.0..=Y.1 {
        let at = y(10_f64.powi(decade));
        rule(&mut svg, "grid", (LEFT, at), (WIDTH - RIGHT, at));
        let seconds = 10_f64.powi(decade);
        let name = if decade < 0 { format!("{seconds} s") } else { format!("{} s", grouped(seconds)) };
        text(&mut svg, LEFT - 8.0, at + 4.0, "end", &name);
    }
    let limit = y(crate::assumptions::INVOCATION_LIMIT.as_secs_f64());
    rule(&mut svg, "limit", (LEFT, limit), (WIDTH - RIGHT, limit));
    text(&mut svg, LEFT + 6.0, limit - 6.0, "start", "900 s: longest invocation, then work is handed over");
    for (number, line) in lines.iter().enumerate() {
        let points: Vec<_> = line.points.iter().map(|(size, seconds)| (x(*size), y(*seconds))).collect();
        let path: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        put(&mut svg, format_args!("<polyline class=\"line line-{number}\" points=\"{}\"/>", path.join(" ")));
        for (x, y) in &points {
            put(&mut svg, format_args!("<circle class=\"dot-{number}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>"));
        }
        if let Some((x, y)) = points.last() {
            text(&mut svg, x + 10.0, y + 4.0, "start", &line.name);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn x(size: f64) -> f64 {
    LEFT + (size.log10() - f64::from(X.0)) / f64::from(X.1 - X.0) * (WIDTH - LEFT - RIGHT)
}

fn y(seconds: f64) -> f64 {
    HEIGHT - BOTTOM - (seconds.log10() - f64::from(Y.0)) / f64::from(Y.1 - Y.0) * (HEIGHT - TOP - BOTTOM)
}

fn rule(svg: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    put(svg, format_args!("<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"));
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    put(svg, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"));
}

fn put(svg: &mut String, element: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(svg, "{element}");
}
