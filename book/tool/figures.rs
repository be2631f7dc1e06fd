//! Figures, drawn from data that the project's own programs wrote.
//!
//! `book/figures/NAME.csv` begins with lines `# key: value` that say which
//! command made it, the hash of the rest, and what it shows;
//! `cargo book figures` draws `book/src/figures/NAME.svg` from it. Its kind is
//! `chart`, lines over axes, `drawing`, boxes and arrows, or `heat`, squares
//! that are the stronger in color the larger their number.

use crate::chart::{self, Figure, Guide, Line, Mark, Panel, Scale, Side, thin};
use crate::drawing;
use crate::heat;
use crate::text::{escape, hex};
use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Points of a line, at most: more than a page shows are averaged.
const POINTS: usize = 240;

/// The keys of the header; all are needed, and for a chart or a heat map these
/// too. A chart may say `log: x`, `y` or `xy`.
const KEYS: [&str; 5] = ["command", "sha256", "kind", "title", "alt"];
const AXES: [&str; 2] = ["x", "y"];

/// A drawing, and what made its data.
pub struct Drawing {
    /// The picture.
    pub svg: String,
    /// What it shows.
    pub title: String,
    /// The command that wrote the data.
    pub command: String,
}

/// `{{#figure name}}`: the drawing in the page itself, so that it follows the
/// page's theme.
pub fn figure(root: &Path, name: &str) -> Result<String> {
    let Drawing { svg, title, command } = load(root, name)?;
    // A blank line would end the HTML.
    let svg = svg.lines().filter(|l| !l.trim().is_empty());
    let svg = svg.collect::<Vec<_>>().join("\n");
    let (title, command) = (escape(&title), escape(&command));
    Ok(format!(
        "\n<figure class=\"drawing\" id=\"fig-{name}\">\n{svg}\n\
         <figcaption>{title}. <details class=\"origin\"><summary>Data\
         </summary> <code>{command}</code></details></figcaption>\n\
         </figure>\n"
    ))
}

/// Reads data and drawing of `name`; they have to be of each other.
pub fn load(root: &Path, name: &str) -> Result<Drawing> {
    let drawing = draw(root, name)?;
    let file = format!("book/src/figures/{name}.svg");
    let drawn = registry::read(root, &file).unwrap_or_default();
    ensure!(
        drawn == drawing.svg,
        "{file} is not drawn from book/figures/{name}.csv; run \
         `cargo book figures`"
    );
    Ok(drawing)
}

/// Draws every figure, and says which.
pub fn draw_all(root: &Path) -> Result<Vec<String>> {
    let mut drawn = Vec::new();
    for name in names(root, "book/figures", "csv")? {
        let svg = draw(root, &name)?.svg;
        fs::create_dir_all(root.join("book/src/figures"))?;
        let file = format!("book/src/figures/{name}.svg");
        fs::write(root.join(&file), svg)?;
        drawn.push(file);
    }
    Ok(drawn)
}

/// Every drawing has its data, and all data its drawing.
pub fn faults(root: &Path) -> Result<Vec<String>> {
    let data = names(root, "book/figures", "csv")?;
    let drawings = names(root, "book/src/figures", "svg")?;
    let unfit = data.iter().filter_map(|name| load(root, name).err());
    let mut faults: Vec<_> = unfit.map(|e| format!("{e:#}")).collect();
    for name in drawings.iter().filter(|n| !data.contains(n)) {
        faults.push(format!(
            "book/src/figures/{name}.svg: no program makes it; write its data \
             to book/figures/{name}.csv and run `cargo book figures`"
        ));
    }
    faults.sort();
    Ok(faults)
}

/// The files of a folder that end in `.ext`, without that end, sorted.
fn names(root: &Path, folder: &str, ext: &str) -> Result<Vec<String>> {
    let mut names = registry::files(root, folder, ext)?;
    for name in &mut names {
        *name = name[folder.len() + 1..name.len() - ext.len() - 1].into();
    }
    Ok(names)
}

/// Draws `book/figures/NAME.csv`.
fn draw(root: &Path, name: &str) -> Result<Drawing> {
    let file = format!("book/figures/{name}.csv");
    let text = registry::read(root, &file)
        .with_context(|| format!("{file}: have a program write it"))?;
    let (keys, data) = header(&text).with_context(|| file.clone())?;
    let hash = hex(&Sha256::digest(data.as_bytes()));
    ensure!(
        keys["sha256"] == hash,
        "{file}: the data is not what `{}` wrote (its hash is {hash}); run \
         that command again",
        keys["command"]
    );
    program(root, keys["command"]).with_context(|| file.clone())?;
    let body = match keys["kind"] {
        "chart" => chart(&keys, data).map(|chart| chart.body()),
        "drawing" => drawing::draw(data),
        "heat" => heat::draw([keys["x"], keys["y"]], data),
        other => {
            bail!("{file}: `{other}` is no kind; write chart, drawing or heat")
        }
    };
    let (body, height) = body.with_context(|| file.clone())?;
    Ok(Drawing {
        svg: chart::document(keys["title"], keys["alt"], &body, height),
        title: keys["title"].into(),
        command: keys["command"].into(),
    })
}

/// What the first lines say, `# key: value`, and what stands below them.
fn header(text: &str) -> Result<(BTreeMap<&str, &str>, &str)> {
    let (mut data, mut keys) = (text, BTreeMap::new());
    for line in text.lines().take_while(|l| l.starts_with('#')) {
        data = &data[(line.len() + 1).min(data.len())..];
        let Some((key, value)) = line[1..].split_once(':') else {
            bail!("`{line}`: write `# key: value`");
        };
        keys.insert(key.trim(), value.trim());
    }
    let axes = match keys.get("kind") {
        Some(&("chart" | "heat")) => &AXES[..],
        _ => &[],
    };
    let needed = [&KEYS[..], axes].concat();
    for key in &needed {
        ensure!(
            keys.get(key).is_some_and(|v| !v.is_empty()),
            "the header lacks `# {key}: …`; it needs {}",
            needed.join(", ")
        );
    }
    ensure!(
        !keys["title"].ends_with('.'),
        "`# title: …` ends with a dot, and the caption adds one; take it away"
    );
    Ok((keys, data))
}

/// The command runs a program of this project.
fn program(root: &Path, command: &str) -> Result<()> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let (kind, name, manifest) = match words[..] {
        ["cargo", "example", name, ..] => ("example", name, "tests/Cargo.toml"),
        ["cargo", "run", "--release", "--", ..] => {
            ("bin", "moe", "src/bin/moe/Cargo.toml")
        }
        _ => bail!(
            "`# command: {command}` runs no program of this project; write \
             `cargo run --release -- …` or `cargo example NAME …`"
        ),
    };
    let name = regex::escape(name);
    let entry = format!(r#"\[\[{kind}\]\][^\[]*\bname = "{name}""#);
    ensure!(
        Regex::new(&entry)?.is_match(&registry::read(root, manifest)?),
        "`# command: {command}`: {manifest} names no such {kind}; correct the \
         command, or take the figure away"
    );
    Ok(())
}

/// Panels of lines. The first cell of a row says what it is: a number begins
/// a point of each line, `panel` a panel, `guide` and `mark` what these are in
/// `chart`; any other begins the names of the lines.
fn chart(keys: &BTreeMap<&str, &str>, data: &str) -> Result<Figure> {
    let log = keys.get("log").copied().unwrap_or_default();
    let scale = ["x", "y"].map(|axis| match log.contains(axis) {
        true => Scale::Log,
        false => Scale::Linear,
    });
    let mut panels = vec![Panel { scale, ..Panel::default() }];
    for row in data.lines() {
        let panel = panels.last_mut().context("there is one")?;
        read(panel, row).with_context(|| format!("`{row}`"))?;
        if let Some(title) = row.strip_prefix("panel,") {
            let panel =
                Panel { title: title.into(), scale, ..Panel::default() };
            panels.push(panel);
        }
    }
    panels.retain(|p| !p.lines.is_empty());
    ensure!(!panels.is_empty(), "there is no line of names");
    for line in panels.iter_mut().flat_map(|p| &mut p.lines) {
        line.points = thin(&line.points, POINTS);
    }
    Ok(Figure {
        title: keys["title"].into(),
        about: keys["alt"].into(),
        x: keys["x"].into(),
        y: keys["y"].into(),
        panels,
    })
}

/// Adds what the row says to the panel; an empty cell is no point.
fn read(panel: &mut Panel, row: &str) -> Result<()> {
    let cells: Vec<&str> = row.split(',').map(str::trim).collect();
    let number = |cell: &str| {
        cell.parse::<f64>()
            .with_context(|| format!("`{cell}` is no number; correct it"))
    };
    // The side, and the text with its commas.
    let text = |from: usize| -> Result<(Side, String)> {
        let (side, text) = match cells.get(from..) {
            Some([side, text @ ..]) => (*side, text.join(", ")),
            _ => bail!("there are too few cells; write side and text"),
        };
        let side = Side::of(side).with_context(|| {
            format!("`{side}` is no side; write n, ne, e, … or nothing")
        })?;
        Ok((side, text))
    };
    match cells[..] {
        ["panel", ..] => {}
        ["guide", x1, y1, x2, y2, ..] => panel.guides.push(Guide {
            ends: [(number(x1)?, number(y1)?), (number(x2)?, number(y2)?)],
            text: text(5)?,
        }),
        ["mark", line, x, y, ..] => panel.marks.push(Mark {
            line: number(line)? as usize,
            at: (number(x)?, number(y)?),
            text: text(4)?,
        }),
        [_, ref names @ ..] if panel.lines.is_empty() => {
            let line = |name: &&str| Line {
                name: name.to_string(),
                points: Vec::new(),
            };
            panel.lines = names.iter().map(line).collect();
        }
        [x, ref ys @ ..] => {
            let x = number(x)?;
            for (line, y) in panel.lines.iter_mut().zip(ys) {
                if !y.is_empty() {
                    line.points.push((x, number(y)?));
                }
            }
        }
        [] => {}
    }
    Ok(())
}
