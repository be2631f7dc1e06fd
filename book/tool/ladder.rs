//! The model that grows with the book: what the example `ladder` measured, and
//! what its models wrote, from `book/ladder.json`.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct Ladder {
    rungs: Vec<Rung>,
    steps: Vec<Moment>,
    temperatures: Vec<Heat>,
}
#[derive(Deserialize)]
struct Rung {
    name: String,
    added: String,
    parameters: usize,
    active: usize,
    loss: f64,
    sample: String,
}
#[derive(Deserialize)]
struct Moment {
    step: usize,
    loss: f64,
    sample: String,
}
#[derive(Deserialize)]
struct Heat {
    temperature: f64,
    sample: String,
}

/// `{{#ladder first last}}`: the table of all rungs up to the last, and what
/// those from the first on wrote; `{{#ladder steps}}` and
/// `{{#ladder temperatures}}`: what the highest one wrote.
pub(crate) fn ladder(root: &Path, argument: &str) -> Result<String> {
    let text = registry::read(root, "book/ladder.json")?;
    let all: Ladder =
        serde_json::from_str(&text).context("book/ladder.json")?;
    let made = match argument {
        "steps" => {
            let each = all.steps.iter().map(|m| {
                let what = format!("After step {}, {:.3} nats", m.step, m.loss);
                sample(&what, &m.sample)
            });
            each.collect()
        }
        "temperatures" => {
            let each = all.temperatures.iter().map(|h| {
                let what = format!("At temperature {}", h.temperature);
                sample(&what, &h.sample)
            });
            each.collect()
        }
        names => rungs(&all.rungs, names)?,
    };
    Ok(format!("\n{made}"))
}
fn rungs(all: &[Rung], names: &str) -> Result<String> {
    let find = |name: &str| {
        all.iter().position(|r| r.name == name).with_context(|| {
            let names: Vec<_> = all.iter().map(|r| &*r.name).collect();
            format!("no rung is `{name}`; take {}", names.join(", "))
        })
    };
    let words: Vec<&str> = names.split_whitespace().collect();
    let (first, last) = match words[..] {
        [one] => (find(one)?, find(one)?),
        [first, last] => (find(first)?, find(last)?),
        _ => bail!("write one rung, or the first and the last that are new"),
    };
    ensure!(first <= last, "{} comes after {}", words[0], words[1]);
    let mut out = String::from(
        "| model | parameters | nats | bits |\n|---|---:|---:|---:|\n",
    );
    for (i, r) in all[..=last].iter().enumerate() {
        let bold = if i >= first { "**" } else { "" };
        let used = match r.active == r.parameters {
            true => String::new(),
            false => format!(" ({} at a time)", thousands(r.active)),
        };
        out += &format!(
            "| {bold}{}{bold} | {}{used} | {:.3} | {:.3} |\n",
            r.added,
            thousands(r.parameters),
            r.loss,
            r.loss / std::f64::consts::LN_2
        );
    }
    let new = all[first..=last].iter();
    Ok(new.fold(out + "\n", |out, r| out + &sample(&r.added, &r.sample)))
}
/// A text that a model wrote, below what it is.
fn sample(what: &str, text: &str) -> String {
    let ends = format!("(nothing but {} ends of lines)", text.len());
    let text = if text.trim().is_empty() { &ends } else { text };
    format!("*{what}:*\n\n`````text\n{text}\n`````\n\n")
}
/// `12345` as `12,345`.
fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
