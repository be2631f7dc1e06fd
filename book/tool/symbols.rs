//! The letters of the equations, and what each of them means.

use crate::chapters::Chapter;
use anyhow::{Context, Result};
use registry::Registry;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What a letter means, in some chapters or equations, or in all.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Meaning {
    /// The meaning, with formulas between dollars.
    pub(crate) is: String,
    /// Its shape.
    pub(crate) shape: String,
    /// Where it has this meaning: slugs of chapters, ids of equations.
    #[serde(rename = "in")]
    places: Option<Vec<String>>,
}
impl Meaning {
    /// Whether the letter means this in that equation of that chapter.
    pub(crate) fn fits(&self, chapter: &str, id: &str) -> bool {
        let here = |p: &String| p == chapter || p == id;
        self.places.as_ref().is_none_or(|places| places.iter().any(here))
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    One(Meaning),
    Several(Vec<Meaning>),
}

const FILE: &str = "book/symbols.toml";

/// The meanings of each letter.
pub(crate) fn meanings(root: &Path) -> Result<BTreeMap<String, Vec<Meaning>>> {
    let entries: BTreeMap<String, Entry> =
        toml::from_str(&registry::read(root, FILE)?).context(FILE)?;
    let all = entries.into_iter().map(|(letter, entry)| match entry {
        Entry::One(meaning) => (letter, vec![meaning]),
        Entry::Several(meanings) => (letter, meanings),
    });
    Ok(all.collect())
}

/// The letter under a bar, and whether there is one.
pub(crate) fn base(symbol: &str) -> (&str, bool) {
    let inside = symbol.strip_prefix("\\bar{");
    match inside.and_then(|s| s.strip_suffix('}')) {
        Some(inside) => (inside, true),
        None => (symbol, false),
    }
}

/// Where a letter stands in an alphabet: accents and case do not count.
pub(crate) fn order(letter: &str) -> String {
    let bare = letter.rsplit('{').next().unwrap_or_default();
    bare.trim_end_matches('}').trim_start_matches('\\').to_lowercase()
}

/// Letters without a meaning, or with two in one equation, and meanings that
/// no equation uses; one line each.
pub(crate) fn faults(root: &Path, chapters: &[Chapter]) -> Result<Vec<String>> {
    let meanings = meanings(root)?;
    let Ok(registry) = Registry::load(root) else { return Ok(Vec::new()) };
    let shows =
        |c: &Chapter, id: &str| c.text.contains(&format!("{{{{#eq {id}}}}}"));
    let (mut faults, mut used) = (Vec::new(), BTreeSet::new());
    for e in &registry.equations {
        let chapter = chapters.iter().find(|c| shows(c, &e.id));
        let Some(chapter) = chapter.map(Chapter::slug) else { continue };
        for symbol in symbols(&e.tex) {
            let (letter, _) = base(&symbol);
            let of = meanings.get(letter).map_or(&[][..], Vec::as_slice);
            let fit: Vec<usize> =
                (0..of.len()).filter(|&i| of[i].fits(chapter, &e.id)).collect();
            let id = &e.id;
            match fit[..] {
                [one] => drop(used.insert((letter.to_string(), one))),
                [] => faults.push(format!(
                    "{FILE}: says nothing of `{letter}` in [{id}] of the \
                     chapter {chapter}; add what it means there"
                )),
                _ => faults.push(format!(
                    "{FILE}: says two things of `{letter}` in [{id}] of the \
                     chapter {chapter}; leave one"
                )),
            }
        }
    }
    for (letter, of) in &meanings {
        for (i, meaning) in of.iter().enumerate() {
            if !used.contains(&(letter.clone(), i)) {
                let is = &meaning.is;
                faults.push(format!(
                    "{FILE}: no equation uses `{letter}` as {is}; take it out"
                ));
            }
        }
    }
    Ok(faults)
}

/// Commands that put something over the letter that follows.
const ACCENTS: &[&str] =
    &["bar", "hat", "dot", "tilde", "mathcal", "mathbb", "mathbf"];
/// Commands whose argument is words.
const WORDS: &[&str] =
    &["text", "operatorname", "mathrm", "texttt", "begin", "end", "textbf"];
/// Greek letters and what else is a symbol.
const LETTERS: &[&str] = &[
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "varepsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "pi",
    "rho",
    "sigma",
    "tau",
    "phi",
    "varphi",
    "chi",
    "psi",
    "omega",
    "Gamma",
    "Delta",
    "Theta",
    "Lambda",
    "Sigma",
    "Phi",
    "Psi",
    "Omega",
    "ell",
    "nabla",
];

/// The letters of a formula, with their accents, without subscripts.
pub(crate) fn symbols(tex: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut accent = String::new();
    let mut rest = tex;
    while let Some(c) = rest.chars().next() {
        let token = if c == '\\' {
            let name = &rest[1..];
            let end = name.find(|c: char| !c.is_ascii_alphabetic());
            let name = &name[..end.unwrap_or(name.len())];
            rest = &rest[1 + name.len()..];
            if name.is_empty() {
                let skip = rest.chars().next().map_or(0, char::len_utf8);
                rest = &rest[skip..]; // `\,`
                continue;
            }
            if WORDS.contains(&name) {
                rest = after_group(rest);
                continue;
            }
            if ACCENTS.contains(&name) {
                accent += &format!("\\{name}{{");
                rest = rest.trim_start_matches([' ', '{']);
                continue;
            }
            match LETTERS.contains(&name) {
                true => format!("\\{name}"),
                false => continue,
            }
        } else {
            rest = &rest[c.len_utf8()..];
            if c == '_' {
                rest = after_group(rest);
                continue;
            }
            if c.is_whitespace() {
                continue;
            }
            match c.is_ascii_alphabetic() {
                true => c.to_string(),
                false => {
                    accent.clear();
                    continue;
                }
            }
        };
        let close = "}".repeat(accent.matches('{').count());
        let symbol = format!("{accent}{token}{close}");
        accent.clear();
        if !found.contains(&symbol) {
            found.push(symbol);
        }
    }
    found
}

/// What follows a group `{…}`, a command, or a single character.
fn after_group(text: &str) -> &str {
    let text = text.trim_start();
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            '\\' if depth == 0 => {
                let name = &text[at + 1..];
                return name
                    .trim_start_matches(|c: char| c.is_ascii_alphabetic());
            }
            _ => {}
        }
        if depth == 0 {
            return &text[at + c.len_utf8()..];
        }
    }
    ""
}
