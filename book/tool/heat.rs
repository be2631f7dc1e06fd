//! Heat maps: how much each row of a text reads of each, as squares that are
//! the stronger in color the more it is.
//!
//! A row is `label,share,share,…`, one share for each label from the first on:
//! fewer where the rest is masked. The labels stand at the rows and, in the
//! same order, at the columns. `panel,title` begins another map below.

use crate::chart::{Side, WIDTH};
use anyhow::{Context, Result, ensure};
use std::fmt::Write;

const STYLE: &str = "<style>\
    .moe-figure .cell{fill:var(--c);stroke:var(--grid);stroke-width:.5}\
    .moe-figure .label{font-family:monospace}</style>\n";
/// Where the squares begin, and how large one is at most.
const LEFT: f64 = 52.0;
const CELL: f64 = 13.0;

/// The title of a map, and its rows.
type Map<'a> = (&'a str, Vec<(&'a str, Vec<f64>)>);

/// The maps of these rows, one below the other, and their height; columns and
/// rows are named `x` and `y`.
pub(crate) fn draw([x, y]: [&str; 2], data: &str) -> Result<(String, f64)> {
    let mut maps: Vec<Map> = vec![("", vec![])];
    for line in data.lines() {
        let (label, rest) = line.split_once(',').unwrap_or((line, ""));
        match maps.last_mut() {
            Some((_, rows)) if label != "panel" => {
                let row = shares(rest).with_context(|| format!("`{line}`"))?;
                rows.push((label, row));
            }
            _ => maps.push((rest, vec![])),
        }
    }
    maps.retain(|m| !m.1.is_empty());
    ensure!(!maps.is_empty(), "there is no row; write label, share, …");
    let (mut out, mut top) = (STYLE.to_string(), 8.0);
    for map in &maps {
        top = one(&mut out, [x, y], map, top)?;
    }
    Ok((out, top))
}

/// The numbers of a row, each from 0 to 1.
fn shares(cells: &str) -> Result<Vec<f64>> {
    let share = |cell: &str| {
        let v: Option<f64> = cell.trim().parse().ok();
        v.filter(|v| (0.0..=1.0).contains(v)).with_context(|| {
            format!("`{cell}` is no share; write a number from 0 to 1")
        })
    };
    cells.split(',').map(share).collect()
}

/// Draws a map from `top` on, and says where it ends.
fn one(
    out: &mut String, [x, y]: [&str; 2], (title, rows): &Map, top: f64,
) -> Result<f64> {
    let n = rows.len();
    let size = ((WIDTH - LEFT - 8.0) / n as f64).min(CELL);
    let middle = LEFT + size * n as f64 / 2.0;
    let mut top = top;
    if !title.is_empty() {
        *out += &Side(0, 0).text((middle, top + 8.0), 0.0, "bold", title);
        top += 20.0;
    }
    *out += &Side(0, 0).text((middle, top + 6.0), 0.0, "", x);
    *out += &Side(1, 0).text((4.0, top + 20.0), 0.0, "", y);
    top += 28.0;
    for (i, (label, row)) in rows.iter().enumerate() {
        let place = size * (i as f64 + 0.5);
        ensure!(
            row.len() <= n,
            "`{label}` has more shares than there are rows"
        );
        let at = (LEFT + place, top - 7.0);
        *out += &Side(0, 0).text(at, 0.0, "label", label);
        let at = (LEFT - 8.0, top + place);
        *out += &Side(0, 0).text(at, 0.0, "label", label);
        for (j, share) in row.iter().enumerate() {
            let (x, y) = (LEFT + size * j as f64, top + size * i as f64);
            writeln!(
                out,
                "<rect class=\"cell c0\" x=\"{x:.1}\" y=\"{y:.1}\" \
                 width=\"{size:.1}\" height=\"{size:.1}\" \
                 fill-opacity=\"{share}\"/>"
            )?;
        }
    }
    Ok(top + size * n as f64 + 12.0)
}
