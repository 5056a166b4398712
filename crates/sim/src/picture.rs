//! The report as a picture: the frontier of cold starts against memory, and the reliability diagram, as SVG.

use crate::report::{PolicyResult, ReplayReport};
use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Colours that differ for the colour-blind too (Okabe and Ito).
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"];

/// A scale from values to pixels.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// A logarithmic axis around the values, which are positive.
    fn around(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::MAX, f64::MIN);
        for value in values {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (0.1, 1.0);
        }
        Self { low: (low * 0.9).ln(), high: (high * 1.1).ln(), from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.ln() - self.low) / (self.high - self.low).max(1e-9);
        self.from + share * (self.to - self.from)
    }

    /// Round values inside the axis.
    fn ticks(&self) -> Vec<f64> {
        let mut ticks = Vec::new();
        for power in -6..9 {
            for step in [1.0, 2.0, 5.0] {
                let value = step * 10f64.powi(power);
                if (self.low..=self.high).contains(&value.ln()) {
                    ticks.push(value);
                }
            }
        }
        ticks
    }
}

/// Cold starts against wasted memory, one curve a family. Both axes are logarithmic; lower left is better.
pub fn frontier(report: &ReplayReport) -> String {
    let shown: Vec<&PolicyResult> =
        report.policies.iter().filter(|p| p.whole.waste > 0.0 && p.whole.cold_percent > 0.0).collect();
    let x = Axis::around(shown.iter().map(|p| p.whole.waste), LEFT, WIDTH - RIGHT);
    let y = Axis::around(shown.iter().map(|p| p.whole.cold_percent), HEIGHT - BOTTOM, TOP);
    let mut families: Vec<&str> = Vec::new();
    for policy in &shown {
        if !families.contains(&policy.family.as_str()) {
            families.push(&policy.family);
        }
    }
    let mut svg = open("Cold starts against memory");
    axes(&mut svg, &x, &y, "memory wasted (fixed 10 min = 1)", "cold starts, % of calls");
    for (index, family) in families.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let mut points: Vec<(f64, f64)> = shown
            .iter()
            .filter(|policy| policy.family == **family)
            .map(|policy| (x.place(policy.whole.waste), y.place(policy.whole.cold_percent)))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        curve(&mut svg, &points, colour);
        legend(&mut svg, index, family, colour);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Stated probability against the share that was right, for all families together.
pub fn reliability(report: &ReplayReport) -> Option<String> {
    let score = report.which.last()?;
    let side = HEIGHT - TOP - BOTTOM;
    let place = |share: f64, from: f64, to: f64| from + share * (to - from);
    let mut svg = open("Reliability of the most probable next function");
    let (right, bottom) = (LEFT + side, HEIGHT - BOTTOM);
    let _ = write!(
        svg,
        r##"<rect x="{LEFT}" y="{TOP}" width="{side}" height="{side}" fill="none" stroke="#666"/>
<line x1="{LEFT}" y1="{bottom}" x2="{right}" y2="{TOP}" stroke="#bbb" stroke-dasharray="4"/>
<text x="{LEFT}" y="{}" font-size="12">stated probability, 0 to 1</text>
<text x="16" y="{bottom}" font-size="12" transform="rotate(-90 16 {bottom})">share that was right, 0 to 1</text>
"##,
        bottom + 32.0
    );
    let most = score.reliability.iter().map(|(calls, _, _)| *calls).max().unwrap_or(1).max(1) as f64;
    for (calls, stated, share) in score.reliability.iter().filter(|(calls, _, _)| *calls > 0) {
        let (cx, cy) = (place(*stated, LEFT, right), place(*share, bottom, TOP));
        let radius = 2.0 + 8.0 * (*calls as f64 / most).sqrt();
        let _ = writeln!(
            svg,
            r##"<circle cx="{cx:.1}" cy="{cy:.1}" r="{radius:.1}" fill="{}" fill-opacity="0.6"/>"##,
            COLOURS[0]
        );
    }
    let _ = writeln!(
        svg,
        r#"<text x="{}" y="{}" font-size="12">calibration error {:.4}</text>"#,
        right + 16.0,
        TOP + 16.0,
        score.calibration_error
    );
    svg.push_str("</svg>\n");
    Some(svg)
}

fn open(title: &str) -> String {
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">
<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>
<text x="{LEFT}" y="22" font-size="15">{title}</text>
"##
    )
}

fn axes(svg: &mut String, x: &Axis, y: &Axis, x_name: &str, y_name: &str) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for tick in x.ticks() {
        let at = x.place(tick);
        let _ = writeln!(
            svg,
            r##"<line x1="{at:.1}" y1="{TOP}" x2="{at:.1}" y2="{bottom}" stroke="#eee"/><text x="{at:.1}" y="{}" font-size="11" text-anchor="middle">{tick}</text>"##,
            bottom + 16.0
        );
    }
    for tick in y.ticks() {
        let at = y.place(tick);
        let _ = writeln!(
            svg,
            r##"<line x1="{LEFT}" y1="{at:.1}" x2="{right}" y2="{at:.1}" stroke="#eee"/><text x="{}" y="{:.1}" font-size="11" text-anchor="end">{tick}</text>"##,
            LEFT - 6.0,
            at + 4.0
        );
    }
    let _ = writeln!(
        svg,
        r#"<text x="{LEFT}" y="{}" font-size="12">{x_name}</text><text x="16" y="{bottom}" font-size="12" transform="rotate(-90 16 {bottom})">{y_name}</text>"#,
        bottom + 38.0
    );
}

fn curve(svg: &mut String, points: &[(f64, f64)], colour: &str) {
    let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ =
        writeln!(svg, r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="1.5"/>"#, path.join(" "));
    for (x, y) in points {
        let _ = writeln!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#);
    }
}

fn legend(svg: &mut String, index: usize, family: &str, colour: &str) {
    let y = TOP + 12.0 + 18.0 * index as f64;
    let x = WIDTH - RIGHT + 14.0;
    let _ = writeln!(
        svg,
        r#"<circle cx="{x}" cy="{}" r="4" fill="{colour}"/><text x="{}" y="{y}" font-size="12">{family}</text>"#,
        y - 4.0,
        x + 10.0
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_show_round_values_inside_only() {
        let axis = Axis::around([0.3, 4.0].into_iter(), 0.0, 100.0);
        assert_eq!(axis.ticks(), [0.5, 1.0, 2.0]);
        assert!(axis.place(0.3) > 0.0 && axis.place(4.0) < 100.0);
        assert!(Axis::around(std::iter::empty(), 0.0, 1.0).place(0.5).is_finite());
    }
}
