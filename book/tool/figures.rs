//! Figures: line charts from data that the project's own programs wrote.
//!
//! `book/figures/NAME.csv` begins with lines `# key: value` that say which
//! command made it, the hash of the rest, and what it shows;
//! `cargo book figures` draws `book/src/figures/NAME.svg` from it.

use crate::chart::{Figure, Line, Panel, thin};
use crate::directives::escape;
use crate::measure::hex;
use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Points of a line, at most: more than a page shows are averaged.
const POINTS: usize = 240;

/// The keys of the header; all are needed.
const KEYS: [&str; 6] = ["command", "sha256", "title", "alt", "x", "y"];

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
         <figcaption>{title}. Data: <code>{command}</code></figcaption>\n\
         </figure>\n"
    ))
}

/// Reads data and drawing of `name`; they have to be of each other.
pub fn load(root: &Path, name: &str) -> Result<Drawing> {
    let drawing = draw(root, name)?;
    let file = format!("book/src/figures/{name}.svg");
    let drawn = fs::read_to_string(root.join(&file)).unwrap_or_default();
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
    let Ok(folder) = fs::read_dir(root.join("book/figures")) else {
        return Ok(drawn);
    };
    for entry in folder {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(name) = name.strip_suffix(".csv") else { continue };
        let svg = draw(root, name)?.svg;
        fs::create_dir_all(root.join("book/src/figures"))?;
        let file = format!("book/src/figures/{name}.svg");
        fs::write(root.join(&file), svg)?;
        drawn.push(file);
    }
    drawn.sort();
    Ok(drawn)
}

/// Every drawing has its data, and all data its drawing.
pub fn faults(root: &Path) -> Vec<String> {
    let names = |folder: &str, ext: &str| -> Vec<String> {
        let entries = fs::read_dir(root.join(folder)).into_iter().flatten();
        let names = entries.flatten().map(|e| e.file_name());
        let names = names
            .filter_map(|n| Some(n.to_str()?.strip_suffix(ext)?.to_string()));
        names.collect()
    };
    let mut faults: Vec<String> = names("book/figures", ".csv")
        .iter()
        .filter_map(|name| load(root, name).err())
        .map(|e| format!("{e:#}"))
        .collect();
    let data = names("book/figures", ".csv");
    let drawings = names("book/src/figures", ".svg");
    for name in drawings.iter().filter(|n| !data.contains(n)) {
        faults.push(format!(
            "book/src/figures/{name}.svg: no program makes it; write its data \
             to book/figures/{name}.csv and run `cargo book figures`"
        ));
    }
    faults.sort();
    faults
}

/// Draws `book/figures/NAME.csv`.
fn draw(root: &Path, name: &str) -> Result<Drawing> {
    let file = format!("book/figures/{name}.csv");
    let text = fs::read_to_string(root.join(&file)).with_context(|| {
        format!("{file} cannot be read; have a program write it")
    })?;
    let header = text.lines().take_while(|l| l.starts_with('#'));
    let mut data = text.as_str();
    let mut keys = BTreeMap::new();
    for line in header {
        data = &data[(line.len() + 1).min(data.len())..];
        let Some((key, value)) = line[1..].split_once(':') else {
            bail!("{file}: `{line}`: write `# key: value`");
        };
        keys.insert(key.trim(), value.trim());
    }
    for key in KEYS {
        ensure!(
            keys.get(key).is_some_and(|v| !v.is_empty()),
            "{file}: the header lacks `# {key}: …`; it needs {}",
            KEYS.join(", ")
        );
    }
    let hash = hex(&Sha256::digest(data.as_bytes()));
    ensure!(
        keys["sha256"] == hash,
        "{file}: the data is not what `{}` wrote (its hash is {hash}); run \
         that command again",
        keys["command"]
    );
    let lines = read(data).with_context(|| file.clone())?;
    let figure = Figure {
        title: keys["title"].into(),
        about: keys["alt"].into(),
        x: keys["x"].into(),
        y: keys["y"].into(),
        panels: vec![Panel { lines, ..Panel::default() }],
    };
    Ok(Drawing {
        svg: figure.svg(),
        title: keys["title"].into(),
        command: keys["command"].into(),
    })
}

/// A column of x, and a line for each further column; an empty cell is none.
fn read(data: &str) -> Result<Vec<Line>> {
    let mut rows = data.lines();
    let names = rows.next().context("there is no line of names")?;
    let mut lines: Vec<Line> = names
        .split(',')
        .skip(1)
        .map(|name| Line { name: name.trim().into(), points: Vec::new() })
        .collect();
    for row in rows {
        let mut cells = row.split(',').map(str::trim);
        let number = |cell: &str| {
            cell.parse::<f64>().with_context(|| {
                format!("`{cell}` in `{row}` is no number; correct it")
            })
        };
        let x = number(cells.next().unwrap_or_default())?;
        for (line, cell) in lines.iter_mut().zip(cells) {
            if !cell.is_empty() {
                line.points.push((x, number(cell)?));
            }
        }
    }
    for line in &mut lines {
        line.points = thin(&line.points, POINTS);
    }
    Ok(lines)
}
