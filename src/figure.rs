//! Chapter: training. Line charts as SVG, for `loss.svg` and `experts.svg`.
//!
//! Our own writer, because a figure that stands in a book and in a README has
//! to follow the reader's light or dark theme, bring no fonts, say in words
//! what it shows, and be readable on a phone: a style sheet, two scales and
//! a few paths.

use std::fmt::Write;

/// Panels one above the other, with common axes' names.
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
    /// How x and y become places.
    pub scale: [Scale; 2],
    /// The c-th has the c-th color.
    pub lines: Vec<Line>,
    /// What to compare with: dashed.
    pub guides: Vec<Guide>,
    /// Points of interest.
    pub marks: Vec<Mark>,
}
/// Equal distances are equal differences, or equal ratios.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Scale {
    #[default]
    Linear,
    Log,
}
/// A line through points (x, y).
#[derive(Clone, Debug)]
pub struct Line {
    /// Stands at its right end; may be empty.
    pub name: String,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}
/// A straight line between two points; infinite is as far as the panel goes.
#[derive(Clone, Debug)]
pub struct Guide {
    /// Both ends, as (x, y).
    pub ends: [(f64, f64); 2],
    /// What it says at its second end, on which side of it.
    pub text: (Side, String),
}
/// A dot, and what it says.
#[derive(Clone, Debug)]
pub struct Mark {
    /// The line whose color it has.
    pub line: usize,
    /// (x, y)
    pub at: (f64, f64),
    /// On which side of the dot.
    pub text: (Side, String),
}
/// Where a text stands seen from its point: right, below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side(pub i8, pub i8);

impl Guide {
    /// Across the whole panel at this height, named above its right end.
    pub fn level(y: f64, name: &str) -> Self {
        let ends = [(f64::NEG_INFINITY, y), (f64::INFINITY, y)];
        Self { ends, text: (Side(-1, -1), name.into()) }
    }
}
impl Side {
    /// From a point of the compass, north being above: `ne`, `s`; nothing is
    /// the middle.
    ///
    /// ```
    /// use moe_by_hand::figure::Side;
    /// assert_eq!(Side::of("ne"), Some(Side(1, -1)));
    /// assert_eq!(Side::of("up"), None);
    /// ```
    pub fn of(compass: &str) -> Option<Self> {
        let row = |rest: &str| match rest {
            "" => Some(0),
            "e" => Some(1),
            "w" => Some(-1),
            _ => None,
        };
        let (below, rest) = match compass.as_bytes().first() {
            Some(b'n') => (-1, &compass[1..]),
            Some(b's') => (1, &compass[1..]),
            _ => (0, compass),
        };
        Some(Self(row(rest)?, below))
    }
    /// The text so many units from (x, y), of these classes.
    pub fn text(
        self, (x, y): (f64, f64), gap: f64, class: &str, text: &str,
    ) -> String {
        let (right, below) = (f64::from(self.0), f64::from(self.1));
        let anchor = ["end", "middle", "start"][(self.0 + 1) as usize];
        // A corner is nearer than it would be by both distances.
        let near = if right * below == 0.0 { gap } else { 0.7 * gap };
        let x = x + right * near;
        // A letter is 9 high from its foot.
        let y = y + 4.5 + below * (near + 5.0);
        let (class, text) = (format!("{anchor} {class}"), escape(text));
        let class = class.trim_end();
        format!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}\
             </text>\n"
        )
    }
}

/// Round numbers 1, 2 or 5 times a power of ten apart, from `low` to `high`,
/// about `count` of them.
///
/// ```
/// use moe_by_hand::figure::ticks;
/// assert_eq!(ticks(0.3, 5.4, 5), [1.0, 2.0, 3.0, 4.0, 5.0]);
/// assert_eq!(ticks(0.0, 20.0, 5), [0.0, 5.0, 10.0, 15.0, 20.0]);
/// ```
pub fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let span = if high > low { high - low } else { low.abs().max(1.0) };
    let rough = span / count as f64;
    let power = 10f64.powf(rough.log10().floor());
    let nice = [1.0, 2.0, 5.0, 10.0].map(|n| n * power);
    let near = |s: &f64| (span / s - count as f64).abs();
    let step = nice.into_iter().min_by(|a, b| near(a).total_cmp(&near(b)));
    let step = step.unwrap_or(power);
    let from = (low / step - 1e-9).ceil();
    let to = ((low + span) / step + 1e-9).floor();
    let n = (to - from).max(0.0) as usize;
    (0..=n).map(|i| (from + i as f64) * step).collect()
}
/// The numbers m·10ⁿ that a logarithmic axis from 10^`low` to 10^`high` shows,
/// as (m, n): about `count` whole powers of ten; or, where fewer than three of
/// these lie on it, 1, 2 and 5 times each.
///
/// ```
/// use moe_by_hand::figure::log_ticks;
/// assert_eq!(log_ticks(-2.0, 0.5, 5), [(1, -2), (1, -1), (1, 0)]);
/// let ends = [192f64, 3072.0].map(f64::log10);
/// let ticks = log_ticks(ends[0], ends[1], 5);
/// assert_eq!(ticks, [(2, 2), (5, 2), (1, 3), (2, 3)]);
/// ```
pub fn log_ticks(low: f64, high: f64, count: usize) -> Vec<(u8, i32)> {
    let whole = ticks(low, high, count).into_iter();
    let whole = whole.filter(|v| (v - v.round()).abs() < 1e-9);
    let powers: Vec<_> = whole.map(|v| (1, v.round() as i32)).collect();
    if powers.len() >= 3 {
        return powers;
    }
    let decades = low.floor() as i32..=high.floor() as i32;
    let finer = decades.flat_map(|n| [1, 2, 5].map(|m| (m, n)));
    let place = |(m, n): (u8, i32)| f64::from(m).log10() + f64::from(n);
    let within = low - 1e-9..=high + 1e-9;
    finer.filter(|&tick| within.contains(&place(tick))).collect()
}
/// At most `most` points: means of groups of neighbors.
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

/// Width of a drawing and of its left margin, in the units of its viewBox: a
/// letter is 12.5 high, which a phone 360 wide still shows at 11.
pub const WIDTH: f64 = 360.0;
const LEFT: f64 = 46.0;
/// Height of a row of text, and width of a letter at most.
const ROW: f64 = 13.0;
const LETTER: f64 = 6.9;
/// Colors of the lines, on light and on dark; after eight come dashes.
/// Source: Okabe & Ito 2008, adapted for contrast.
const COLORS: [[&str; 2]; 8] = [
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
    /// The figure as an SVG document, under its title.
    pub fn svg(&self) -> String {
        let (body, height) = self.body();
        let title = escape(&self.title);
        let body = format!(
            "<text class=\"title\" x=\"8\" y=\"18\">{title}</text>\n\
             <g transform=\"translate(0 24)\">\n{body}</g>\n"
        );
        document(&self.title, &self.about, &body, height + 24.0)
    }
    /// The figure without its title, and its height.
    pub fn body(&self) -> (String, f64) {
        let single = self.panels.len() == 1;
        let most = self.panels.iter().map(|p| p.lines.len()).max();
        let rows = ROW * (most.unwrap_or(0) + 2) as f64;
        let inner = rows.max(if single { 190.0 } else { 110.0 });
        let right =
            WIDTH - self.panels.iter().map(Panel::margin).fold(14.0, f64::max);
        let mut body =
            format!("<text x=\"8\" y=\"14\">{}</text>\n", escape(&self.y));
        let mut bottom = 10.0;
        for panel in &self.panels {
            let title = if panel.title.is_empty() { 18.0 } else { 40.0 };
            let frame = Frame::of(panel, bottom + title, inner, right);
            panel.draw(&mut body, &frame);
            bottom += title + inner + 18.0;
        }
        let middle = ((LEFT + right) / 2.0, bottom + 14.0);
        body += &Side(0, 0).text(middle, 0.0, "", &self.x);
        (body, bottom + 26.0)
    }
}
/// A picture of this height, [`WIDTH`] wide, with the style of them all.
pub fn document(title: &str, about: &str, body: &str, height: f64) -> String {
    let (title, about, style) = (escape(title), escape(about), style());
    // As an image of its own it is half as large again.
    let (wide, high) = (1.5 * WIDTH, 1.5 * height);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"moe-figure\" \
         width=\"{wide}\" height=\"{high}\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\" aria-label=\"{title}\">\n<title>{title}</title>\n\
         <desc>{about}</desc>\n<style>{style}</style>\n\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         {body}</svg>\n"
    )
}

/// Where a panel's values lie on the paper: lowest and highest of x and of y,
/// as the scale has them, and the places of these.
struct Frame {
    scale: [Scale; 2],
    low: [f64; 2],
    high: [f64; 2],
    from: [f64; 2],
    to: [f64; 2],
}
impl Frame {
    fn of(panel: &Panel, top: f64, inner: f64, right: f64) -> Self {
        let points = panel.lines.iter().flat_map(|l| l.points.iter().copied());
        let marks = panel.marks.iter().map(|m| m.at);
        let ends = panel.guides.iter().flat_map(|g| g.ends);
        let all: Vec<_> = points.chain(marks).chain(ends).collect();
        let (mut low, mut high) = ([0.0; 2], [1.0; 2]);
        for axis in 0..2 {
            let scale = panel.scale[axis];
            let values = all.iter().map(|p| scale.of([p.0, p.1][axis]));
            let (l, h) = values
                .filter(|v| v.is_finite())
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
                    (v.min(l), v.max(h))
                });
            if l > h {
                continue; // no points yet
            }
            // Steps are counted from 0, and losses and shares are compared
            // from there.
            let upright = axis == 1;
            let zero =
                scale == Scale::Linear && l >= 0.0 && (upright || l <= 0.1 * h);
            let room = if upright { h - l } else { 0.0 };
            low[axis] = if zero { 0.0 } else { l - 0.13 * room };
            high[axis] = h + 0.03 * room;
            if high[axis] <= low[axis] {
                high[axis] = low[axis] + 1.0; // all are equal
            }
        }
        let (from, to) = ([LEFT, top + inner], [right, top]);
        Self { scale: panel.scale, low, high, from, to }
    }
    fn place(&self, axis: usize, v: f64) -> f64 {
        let (low, high) = (self.low[axis], self.high[axis]);
        let share = (self.scale[axis].of(v) - low) / (high - low);
        let share = share.clamp(0.0, 1.0);
        self.from[axis] + share * (self.to[axis] - self.from[axis])
    }
    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.place(0, x), self.place(1, y))
    }
    /// Values to write at an axis, and how they are written.
    fn ticks(&self, axis: usize) -> Vec<(f64, String)> {
        let (low, high) = (self.low[axis], self.high[axis]);
        let length = (self.to[axis] - self.from[axis]).abs();
        let count = (length / if axis == 0 { 60.0 } else { 36.0 }) as usize;
        let values = ticks(low, high, count.max(2));
        let step = values.get(1).map_or(1.0, |v| v - values[0]);
        if self.scale[axis] == Scale::Linear {
            let digits = (-step.log10().floor()).max(0.0) as usize;
            let text = |v| format!("{v:.digits$}").replace('-', "−");
            return values.into_iter().map(|v| (v, text(v))).collect();
        }
        let ticks = log_ticks(low, high, count.max(2));
        let all_powers = ticks.iter().all(|&(m, _)| m == 1);
        let tick = |(m, n): (u8, i32)| {
            let value = f64::from(m) * 10f64.powi(n);
            let digits = (-n).max(0) as usize;
            let text = match n {
                _ if all_powers => power_of_ten(n),
                -4..=4 => format!("{value:.digits$}"),
                _ => format!("{m}·{}", power_of_ten(n)),
            };
            (value, text)
        };
        ticks.into_iter().map(tick).collect()
    }
}
impl Scale {
    fn of(self, v: f64) -> f64 {
        match self {
            Scale::Linear => v,
            Scale::Log => v.log10(),
        }
    }
}
impl Panel {
    /// Room at the right for what stands there.
    fn margin(&self) -> f64 {
        let lines = self.lines.iter().map(|l| &l.name);
        let guides = self.guides.iter().map(|g| &g.text);
        let guides = guides.filter(|t| t.0 == Side(1, 0)).map(|t| &t.1);
        let letters = lines.chain(guides).map(|text| text.chars().count());
        match letters.max() {
            None | Some(0) => 14.0,
            Some(most) => 12.0 + LETTER * most as f64,
        }
    }
    fn draw(&self, out: &mut String, frame: &Frame) {
        let ([left, bottom], [right, top]) = (frame.from, frame.to);
        let title = ((left + right) / 2.0, top - 12.0);
        if !self.title.is_empty() {
            *out += &Side(0, 0).text(title, 0.0, "bold", &self.title);
        }
        for (v, text) in frame.ticks(1) {
            let at = frame.place(1, v);
            let _ = writeln!(
                out,
                "<path class=\"grid\" d=\"M{left} {at:.1}H{right:.1}\"/>"
            );
            *out += &Side(-1, 0).text((left, at), 6.0, "", &text);
        }
        for (v, text) in frame.ticks(0) {
            let at = frame.place(0, v);
            let _ = writeln!(
                out,
                "<path class=\"axis\" d=\"M{at:.1} {bottom:.1}v4\"/>"
            );
            *out += &Side(0, 1).text((at, bottom), 6.0, "", &text);
        }
        let _ = writeln!(
            out,
            "<path class=\"axis\" d=\"M{left} {bottom:.1}H{right:.1}\"/>"
        );
        for guide in &self.guides {
            let [a, b] = guide.ends.map(|e| frame.at(e));
            let ((x0, y0), (x1, y1)) = (a, b);
            let _ = writeln!(
                out,
                "<path class=\"guide\" d=\"M{x0:.1} {y0:.1}L{x1:.1} {y1:.1}\"/>"
            );
            *out += &guide.text.0.text(b, 4.0, "halo", &guide.text.1);
        }
        for (i, line) in self.lines.iter().enumerate() {
            let finite = |p: &&(f64, f64)| p.0.is_finite() && p.1.is_finite();
            let mut path = String::new();
            for (j, p) in line.points.iter().filter(finite).enumerate() {
                let (to, (x, y)) =
                    (if j == 0 { 'M' } else { 'L' }, frame.at(*p));
                let _ = write!(path, "{to}{x:.1} {y:.1}");
            }
            if !path.is_empty() {
                path += "h0"; // a lone point is a dot
            }
            let class = class(i);
            let _ =
                writeln!(out, "<path class=\"line {class}\" d=\"{path}\"/>");
        }
        self.names(out, frame);
        for mark in &self.marks {
            let (class, (x, y)) = (class(mark.line), frame.at(mark.at));
            let _ = writeln!(
                out,
                "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" \
                 r=\"3.2\"/>"
            );
            let class = format!("named halo {class}");
            *out += &mark.text.0.text((x, y), 7.0, &class, &mark.text.1);
        }
    }
    /// The name of each line at its right end, or as near as there is room.
    fn names(&self, out: &mut String, frame: &Frame) {
        let last = |l: &Line| Some(frame.place(1, l.points.last()?.1));
        let named = self.lines.iter().enumerate();
        let named = named.filter(|(_, l)| !l.name.is_empty());
        let mut ends: Vec<_> =
            named.filter_map(|(i, l)| Some((last(l)?, i, l))).collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        // Down from the top as far as need be, then up from the axis.
        for i in 1..ends.len() {
            ends[i].0 = ends[i].0.max(ends[i - 1].0 + ROW);
        }
        let mut bottom = frame.from[1] - 3.0;
        for end in ends.iter_mut().rev() {
            end.0 = end.0.min(bottom);
            bottom = end.0 - ROW;
        }
        for (y, i, line) in ends {
            let class = format!("named {}", class(i));
            *out += &Side(1, 0).text((frame.to[0], y), 6.0, &class, &line.name);
        }
    }
}
/// 10 to a whole power, as it is written.
fn power_of_ten(n: i32) -> String {
    const DIGITS: [char; 10] =
        ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let digit = |c: char| match c.to_digit(10) {
        Some(d) => DIGITS[d as usize],
        None => '⁻',
    };
    match n {
        0 => "1".into(),
        1 => "10".into(),
        _ => format!(
            "10{}",
            n.to_string().chars().map(digit).collect::<String>()
        ),
    }
}
fn class(line: usize) -> String {
    let dashed = if line / COLORS.len() % 2 == 1 { " dashed" } else { "" };
    format!("c{}{dashed}", line % COLORS.len())
}
fn style() -> String {
    let theme = |i: usize, ink, grid, paper| {
        let color = |(c, of): (usize, &[&str; 2])| format!("--c{c}:{};", of[i]);
        let colors: String = COLORS.iter().enumerate().map(color).collect();
        format!(
            ".moe-figure{{--ink:{ink};--grid:{grid};--paper:{paper};{colors}}}"
        )
    };
    let class = |c: usize| format!(".moe-figure .c{c}{{--c:var(--c{c})}}");
    let classes: String = (0..COLORS.len()).map(class).collect();
    let day = theme(0, "#222", "#ddd", "#fff");
    let night = theme(1, "#ddd", "#444", "#181a1f");
    format!(
        "{day}@media(prefers-color-scheme:dark){{{night}}}\
         .moe-figure{{--c:var(--ink)}}{classes}\
         .moe-figure text{{fill:var(--ink);font:12.5px sans-serif}}\
         .moe-figure .title{{font-weight:bold;font-size:14px}}\
         .moe-figure .bold{{font-weight:bold}}\
         .moe-figure .middle{{text-anchor:middle}}\
         .moe-figure .end{{text-anchor:end}}\
         .moe-figure .named{{fill:var(--c)}}\
         .moe-figure .paper{{fill:var(--paper)}}\
         .moe-figure .halo{{stroke:var(--paper);stroke-width:4px;\
         paint-order:stroke}}\
         .moe-figure path{{fill:none;stroke:var(--ink)}}\
         .moe-figure .grid{{stroke:var(--grid)}}\
         .moe-figure .guide{{stroke-width:1.3;stroke-dasharray:2 3}}\
         .moe-figure .line{{stroke:var(--c);stroke-width:1.8;\
         stroke-linejoin:round;stroke-linecap:round}}\
         .moe-figure .dot{{fill:var(--c);stroke:var(--paper)}}\
         .moe-figure .dashed{{stroke-dasharray:6 3}}"
    )
}
pub(crate) fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}
