//! Drawings: a row of data for each box, arrow, line, circle, dot and text.
//!
//! `shape,numbers…,classes,text`: `box,10,20,30,16,c0,3` is a box from
//! (10, 20) on, 30 wide and 16 high, of the first color, in which stands a 3.
//! The paper is [`WIDTH`] wide, and y runs downward.

use crate::chart::{Side, WIDTH};
use anyhow::{Context, Result, ensure};
use std::fmt::Write;

/// The shapes, and what their numbers are.
const SHAPES: [(&str, &[&str]); 6] = [
    ("box", &["x", "y", "width", "height"]),
    ("circle", &["x", "y", "radius"]),
    ("dot", &["x", "y"]),
    ("line", &["x1", "y1", "x2", "y2", "bend"]),
    ("arrow", &["x1", "y1", "x2", "y2", "bend"]),
    ("text", &["x", "y"]),
];
/// What a shape can be, beside `c0` to `c7` and the eight sides `n`, `ne`, …
/// on which a text stands of its point.
const CLASSES: [&str; 6] =
    ["bold", "dashed", "faint", "halo", "strong", "thin"];

const STYLE: &str = "<style>\
    .moe-figure .faint{--c:var(--grid)}\
    .moe-figure .box{fill:var(--c);fill-opacity:.14;stroke:var(--c)}\
    .moe-figure .box.strong{fill-opacity:.4}\
    .moe-figure .box.dashed{fill:none}\
    .moe-figure .way{stroke:var(--c);stroke-width:1.6;fill:none}\
    .moe-figure .thin{stroke-width:1}\
    .moe-figure .head{fill:var(--c);stroke:none}</style>\n";

/// The drawing of these rows, and its height.
pub(crate) fn draw(data: &str) -> Result<(String, f64)> {
    let (mut out, mut bottom) = (STYLE.to_string(), 0.0f64);
    for row in data.lines() {
        let low = shape(&mut out, row).with_context(|| format!("`{row}`"))?;
        bottom = bottom.max(low);
    }
    Ok((out, bottom + 8.0))
}

/// Draws a row, and says how far down it reaches.
fn shape(out: &mut String, row: &str) -> Result<f64> {
    let (name, rest) = row.split_once(',').unwrap_or((row, ""));
    let known = SHAPES.iter().find(|s| s.0 == name);
    let (_, keys) = known.with_context(|| {
        let names = SHAPES.map(|s| s.0).join(", ");
        format!("`{name}` is no shape; write one of {names}")
    })?;
    let needs = || format!("a {name} needs {}, classes, text", keys.join(", "));
    // What is left over is text, commas and all.
    let cells: Vec<&str> = rest.splitn(keys.len() + 2, ',').collect();
    ensure!(cells.len() == keys.len() + 2, needs());
    let (numbers, rest) = cells.split_at(keys.len());
    let numbers = numbers.iter().map(|c| c.parse::<f64>());
    let n: Vec<f64> = numbers.collect::<Result<_, _>>().with_context(needs)?;
    let (class, side) = classes(rest[0])?;
    let text = rest[1];
    let (x, y) = (n[0], n[1]);
    let (right, low, anchor) = match *keys {
        [_, _, "width", _] => {
            (x + n[2], y + n[3], (x + n[2] / 2.0, y + n[3] / 2.0))
        }
        [_, _, "radius"] => (x + n[2], y + n[2], (x, y)),
        [_, _, "x2", ..] => (x.max(n[2]), y.max(n[3]), (x, y)),
        _ => (x, y, (x, y)),
    };
    ensure!(
        x >= 0.0 && y >= 0.0 && right <= WIDTH,
        "reaches beyond the paper, which is {WIDTH} wide"
    );
    match name {
        "box" => writeln!(
            out,
            "<rect class=\"box {class}\" x=\"{x}\" y=\"{y}\" width=\"{}\" \
             height=\"{}\" rx=\"2\"/>",
            n[2], n[3]
        )?,
        "circle" => writeln!(
            out,
            "<circle class=\"way {class}\" cx=\"{x}\" cy=\"{y}\" r=\"{}\"/>",
            n[2]
        )?,
        "dot" => writeln!(
            out,
            "<circle class=\"dot {class}\" cx=\"{x}\" cy=\"{y}\" r=\"3.2\"/>"
        )?,
        "line" | "arrow" => way(out, &n, &class, name == "arrow")?,
        _ => {}
    }
    if !text.is_empty() {
        let gap = if name == "dot" { 6.0 } else { 0.0 };
        let class = match name {
            "box" => "",
            _ => &format!("named {class}"),
        };
        *out += &side.text(anchor, gap, class, text);
    }
    Ok(if name == "text" { low + 6.0 } else { low })
}

/// From (x1, y1) to (x2, y2), bent to the left of the way by so much, with a
/// head if it is an arrow.
fn way(out: &mut String, n: &[f64], class: &str, head: bool) -> Result<()> {
    let (x1, y1, x2, y2, bend) = (n[0], n[1], n[2], n[3], n[4]);
    let length = (x2 - x1).hypot(y2 - y1).max(1e-9);
    // A parabola goes half as far from its chord as its middle handle.
    let left = ((y2 - y1) / length, -(x2 - x1) / length);
    let cx = (x1 + x2) / 2.0 + 2.0 * bend * left.0;
    let cy = (y1 + y2) / 2.0 + 2.0 * bend * left.1;
    let last = (x2 - cx).hypot(y2 - cy).max(1e-9);
    let (ux, uy) = ((x2 - cx) / last, (y2 - cy) / last);
    // The line ends inside the head, which is 7 long and 6 wide, or smaller.
    let size = last.min(7.0) / 7.0;
    let back = if head { 5.0 * size } else { 0.0 };
    let (ex, ey) = (x2 - back * ux, y2 - back * uy);
    writeln!(
        out,
        "<path class=\"way {class}\" d=\"M{x1:.1} {y1:.1}Q{cx:.1} {cy:.1} \
         {ex:.1} {ey:.1}\"/>"
    )?;
    if head {
        let (bx, by) = (x2 - 7.0 * size * ux, y2 - 7.0 * size * uy);
        let (px, py) = (-3.0 * size * uy, 3.0 * size * ux);
        writeln!(
            out,
            "<path class=\"head {class}\" d=\"M{x2:.1} {y2:.1}L{:.1} {:.1} \
             {:.1} {:.1}Z\"/>",
            bx + px,
            by + py,
            bx - px,
            by - py
        )?;
    }
    Ok(())
}

/// The classes as they are, but for the side of the text.
fn classes(cell: &str) -> Result<(String, Side)> {
    let (mut class, mut side) = (Vec::new(), Side(0, 0));
    for word in cell.split_whitespace() {
        let color = |d: &str| d.parse().is_ok_and(|c: usize| c < 8);
        if let Some(s) = Side::of(word) {
            side = s;
        } else {
            ensure!(
                CLASSES.contains(&word)
                    || word.strip_prefix('c').is_some_and(color),
                "`{word}` is no class; write c0 to c7, a side, or one of {}",
                CLASSES.join(", ")
            );
            class.push(word);
        }
    }
    Ok((class.join(" "), side))
}
