//! Chapter 21. Line charts as SVG, for `loss.svg` and `experts.svg`.
//!
//! Our own writer, because a figure that stands in a book and in a README has
//! to follow the reader's light or dark theme, bring no fonts, say in words
//! what it shows, and be readable on a phone: a style sheet, two scales and
//! a few paths.

use std::fmt::Write;

/// Panels one above the other, with common axes' names and one legend.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What it is.
    pub title: String,
    /// What it shows, in a sentence, for who cannot see it.
    pub about: String,
    /// Name of the horizontal axis.
    pub x: String,
    /// Name of the vertical axis.
    pub y: String,
    /// From top to bottom.
    pub panels: Vec<Panel>,
}
/// Lines over common axes.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    /// Stands above it; may be empty.
    pub title: String,
    /// In the order of the legend, which is that of the first panel.
    pub lines: Vec<Line>,
    /// A height to compare with, and its name.
    pub mark: Option<(f64, String)>,
}
/// A line through points (x, y).
#[derive(Clone, Debug)]
pub struct Line {
    /// In the legend.
    pub name: String,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

/// Round numbers 1, 2 or 5 times a power of ten apart, from at or below `low`
/// to at or above `high`, about `count` of them.
///
/// ```
/// use moe_by_hand::figure::ticks;
/// assert_eq!(ticks(0.3, 5.4, 5), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// assert_eq!(ticks(1.0, 2000.0, 4), [0.0, 500.0, 1000.0, 1500.0, 2000.0]);
/// ```
pub fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let span = if high > low { high - low } else { low.abs().max(1.0) };
    let rough = span / count as f64;
    let power = 10f64.powf(rough.log10().floor());
    let nice = [1.0, 2.0, 5.0, 10.0].map(|n| n * power);
    let near = |s: &f64| (span / s - count as f64).abs();
    let step = nice.into_iter().min_by(|a, b| near(a).total_cmp(&near(b)));
    let step = step.unwrap_or(power);
    let from = (low / step + 1e-9).floor();
    let to = ((low + span) / step - 1e-9).ceil();
    let n = (to - from) as usize;
    (0..=n).map(|i| (from + i as f64) * step).collect()
}
/// At most `most` points: means of groups of neighbours.
///
/// ```
/// let points = [(1.0, 5.0), (2.0, 3.0), (3.0, 2.0)];
/// let thin = moe_by_hand::figure::thin(&points, 2);
/// assert_eq!(thin, [(1.5, 4.0), (3.0, 2.0)]);
/// ```
pub fn thin(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let groups = points.chunks(points.len().div_ceil(most).max(1));
    let mean = |g: &[(f64, f64)]| {
        let (x, y) = g.iter().fold((0.0, 0.0), |s, p| (s.0 + p.0, s.1 + p.1));
        (x / g.len() as f64, y / g.len() as f64)
    };
    groups.map(mean).collect()
}

/// Width of the drawing and of its margins, in the units of its viewBox: a
/// letter is 14 high, which a phone 360 wide still shows at 10.
const WIDTH: f64 = 480.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 14.0;
/// Colours of the lines, on light and on dark; after eight come dashes.
/// Source: Okabe & Ito 2008, adapted for contrast.
const COLOURS: [[&str; 2]; 8] = [
    ["#0072b2", "#56b4e9"],
    ["#c04f00", "#ff9248"],
    ["#00795a", "#2fc79b"],
    ["#b0508c", "#e79ac6"],
    ["#8a6d00", "#e6c229"],
    ["#5b4bb5", "#a99cf5"],
    ["#a3212e", "#ff7b84"],
    ["#4d4d4d", "#bdbdbd"],
];

impl Figure {
    /// The figure as an SVG document.
    pub fn svg(&self) -> String {
        let legend = self.legend();
        let single = self.panels.len() == 1;
        let (inner, gap) = if single { (220.0, 0.0) } else { (110.0, 44.0) };
        let top = 51.0 + legend.1;
        let first = top + if single { 0.0 } else { 20.0 };
        let count = self.panels.len() as f64;
        let bottom = first + count * inner + (count - 1.0).max(0.0) * gap;
        let height = bottom + 46.0;
        let mut body = String::new();
        for (i, panel) in self.panels.iter().enumerate() {
            let at = first + i as f64 * (inner + gap);
            panel.draw(&mut body, at, inner);
        }
        let (title, about) = (escape(&self.title), escape(&self.about));
        let (x, y) = (escape(&self.x), escape(&self.y));
        let style = style();
        let (middle, low) = ((LEFT + WIDTH - RIGHT) / 2.0, bottom + 40.0);
        let names = legend.0;
        let above = first - 13.0 - if single { 0.0 } else { 18.0 };
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"moe-figure\" \
             viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-label=\"{title}\">\n<title>{title}</title>\n\
             <desc>{about}</desc>\n<style>{style}</style>\n\
             <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
             <text class=\"title\" x=\"8\" y=\"20\">{title}</text>\n{names}\
             <text x=\"8\" y=\"{above}\">{y}</text>\n{body}\
             <text class=\"middle\" x=\"{middle}\" y=\"{low}\">{x}</text>\n\
             </svg>\n"
        )
    }
    /// The names of the first panel's lines, and the height of their rows.
    fn legend(&self) -> (String, f64) {
        let (mut out, mut x, mut y) = (String::new(), 8.0, 40.0);
        let lines = self.panels.first().map_or(&[][..], |p| &p.lines);
        for (i, line) in lines.iter().enumerate() {
            let width = 34.0 + 7.5 * line.name.chars().count() as f64;
            if x + width > WIDTH {
                (x, y) = (8.0, y + 18.0);
            }
            let (class, to, at) = (class(i), x + 18.0, y - 5.0);
            let (from, name) = (x + 23.0, escape(&line.name));
            let _ = writeln!(
                out,
                "<path class=\"{class}\" d=\"M{x} {at}H{to}\"/>\
                 <text x=\"{from}\" y=\"{y}\">{name}</text>"
            );
            x += width;
        }
        (out, y - 20.0)
    }
}
impl Panel {
    /// Draws the panel from `top` on, `inner` high.
    fn draw(&self, out: &mut String, top: f64, inner: f64) {
        let points = || self.lines.iter().flat_map(|l| &l.points);
        let range = |values: &mut dyn Iterator<Item = f64>| {
            let finite = values.filter(|v| v.is_finite());
            finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
                (v.min(low), v.max(high))
            })
        };
        let marks = self.mark.iter().map(|m| m.0);
        let (_, high) = range(&mut points().map(|p| p.1).chain(marks));
        let (low_x, high_x) = range(&mut points().map(|p| p.0));
        if !(high.is_finite() && high_x.is_finite()) {
            return; // no points yet
        }
        // Heights are losses and shares: they are compared from 0 on.
        let ys = ticks(0.0, high, if inner < 200.0 { 3 } else { 5 });
        let xs = ticks(low_x - 1.0, high_x, 5);
        let (end_x, end_y) = (xs[xs.len() - 1], ys[ys.len() - 1]);
        let x = |v: f64| {
            LEFT + (v - xs[0]) / (end_x - xs[0]) * (WIDTH - LEFT - RIGHT)
        };
        let y = |v: f64| top + inner - v / end_y * inner;
        let (right, bottom) = (WIDTH - RIGHT, top + inner);
        let title = escape(&self.title);
        let above = top - 8.0;
        let _ = writeln!(
            out,
            "<text class=\"middle\" x=\"{}\" y=\"{above}\">{title}</text>",
            (LEFT + right) / 2.0
        );
        for &v in &ys {
            let (at, text) = (y(v), label(v, ys[1]));
            let _ = writeln!(
                out,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>\
                 <text class=\"end\" x=\"{}\" y=\"{:.1}\">{text}</text>",
                LEFT - 6.0,
                at + 5.0
            );
        }
        for &v in &xs {
            let (at, text) = (x(v), label(v, xs[1] - xs[0]));
            let class = if v == end_x { "end" } else { "middle" };
            let under = bottom + 18.0;
            let _ = writeln!(
                out,
                "<path class=\"axis\" d=\"M{at:.1} {bottom}v4\"/>\
                 <text class=\"{class}\" x=\"{at:.1}\" y=\"{under}\">{text}\
                 </text>"
            );
        }
        let _ = writeln!(
            out,
            "<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/>"
        );
        for (i, line) in self.lines.iter().enumerate() {
            let finite = |p: &&(f64, f64)| p.0.is_finite() && p.1.is_finite();
            let mut path = String::new();
            for (j, p) in line.points.iter().filter(finite).enumerate() {
                let to = if j == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{to}{:.1} {:.1}", x(p.0), y(p.1));
            }
            if !path.is_empty() {
                path += "h0"; // a lone point is a dot
            }
            let class = class(i);
            let _ = writeln!(out, "<path class=\"{class}\" d=\"{path}\"/>");
        }
        if let Some((v, name)) = &self.mark {
            let (at, name) = (y(*v), escape(name));
            let (x, above) = (right - 2.0, at - 4.0);
            let _ = writeln!(
                out,
                "<path class=\"mark\" d=\"M{LEFT} {at:.1}H{right}\"/>\
                 <text class=\"end halo\" x=\"{x}\" y=\"{above:.1}\">{name}\
                 </text>"
            );
        }
    }
}
fn class(line: usize) -> String {
    let dashed = if line / COLOURS.len() % 2 == 1 { " dashed" } else { "" };
    format!("line c{}{dashed}", line % COLOURS.len())
}
/// A number with as many digits as steps of this size need.
fn label(v: f64, step: f64) -> String {
    let digits = (-step.log10().floor()).max(0.0) as usize;
    format!("{v:.digits$}")
}
fn style() -> String {
    let of = |theme: usize| {
        let rule = |(i, c): (usize, &[&str; 2])| {
            format!(".moe-figure .c{i}{{stroke:{}}}", c[theme])
        };
        COLOURS.iter().enumerate().map(rule).collect::<String>()
    };
    let theme = |ink, grid, paper| {
        format!(".moe-figure{{--ink:{ink};--grid:{grid};--paper:{paper}}}")
    };
    let (light, dark) = (of(0), of(1));
    let day = theme("#222", "#ddd", "#fff");
    let night = theme("#ddd", "#444", "#181a1f");
    format!(
        "{day}{light}\
         @media(prefers-color-scheme:dark){{{night}{dark}}}\
         .moe-figure text{{fill:var(--ink);font:14px sans-serif}}\
         .moe-figure .title{{font-weight:bold;font-size:16px}}\
         .moe-figure .middle{{text-anchor:middle}}\
         .moe-figure .end{{text-anchor:end}}\
         .moe-figure .paper{{fill:var(--paper)}}\
         .moe-figure .halo{{stroke:var(--paper);stroke-width:4px;\
         paint-order:stroke}}\
         .moe-figure path{{fill:none;stroke:var(--ink)}}\
         .moe-figure .grid{{stroke:var(--grid)}}\
         .moe-figure .mark{{stroke-width:1.5;stroke-dasharray:2 3}}\
         .moe-figure .line{{stroke-width:1.8;stroke-linejoin:round;\
         stroke-linecap:round}}\
         .moe-figure .dashed{{stroke-dasharray:6 3}}"
    )
}
fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}
