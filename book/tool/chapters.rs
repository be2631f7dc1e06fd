//! What a chapter is: its name, its number, its exercises, its length; and how
//! many exercises it must have.
//!
//! A chapter is named by its slug, the name of its file. Its number is its turn
//! in `SUMMARY.md` and stands nowhere else: to insert or to move a chapter is
//! to edit that one file.

use crate::markdown::prose;
use crate::quote::{self, Quote};
use crate::text::pattern;
use anyhow::{Context, Result};
use registry::{Listed, Source, Sources, Target};
use serde::Deserialize;
use std::path::Path;

/// A chapter or an appendix.
#[derive(Clone, Debug)]
pub struct Chapter {
    /// Its file under `book/src`: `rmsnorm.md`.
    pub file: String,
    /// Its turn in `SUMMARY.md`; an appendix has none.
    pub number: Option<u32>,
    /// Its title, as `SUMMARY.md` has it.
    pub title: String,
    /// Its text, as written.
    pub text: String,
}

/// All chapters that `SUMMARY.md` lists, in its order.
pub fn chapters(root: &Path) -> Result<Vec<Chapter>> {
    let listed = registry::summary(root)
        .context("book/src/SUMMARY.md: list the chapters")?;
    let chapter = |Listed { file, title, number }: Listed| {
        let text = registry::read(root, &format!("book/src/{file}"));
        let text = text.with_context(|| {
            format!(
                "book/src/SUMMARY.md: lists {file}; write it, or take its \
                 line out"
            )
        })?;
        Ok(Chapter { file, number, title, text })
    };
    listed.into_iter().map(chapter).collect()
}

impl Chapter {
    /// The name by which all others refer to it: `rmsnorm`.
    pub fn slug(&self) -> &str {
        self.file.trim_end_matches(".md")
    }
}

/// The numbered chapter of this slug and its number, or what is wrong with it.
pub fn numbered<'a>(
    chapters: &'a [Chapter], slug: &str,
) -> Result<(&'a Chapter, u32)> {
    let chapter = chapters.iter().find(|c| c.slug() == slug);
    let chapter = chapter.with_context(|| {
        let slugs = chapters.iter().filter(|c| c.number.is_some());
        let slugs = slugs.map(Chapter::slug);
        let near = registry::hint(
            slug,
            slugs,
            "write the name of a chapter's file, without .md",
        );
        format!("SUMMARY.md lists no chapter `{slug}`; {near}")
    })?;
    let number = chapter.number.with_context(|| {
        format!("`{slug}` has no number; write its name as a link")
    })?;
    Ok((chapter, number))
}

/// What an exercise asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A derivation, a proof, a count.
    Paper,
    /// A program.
    Code,
    /// A measurement.
    Measure,
}
/// All kinds, each with the word for it.
pub const KINDS: [(Kind, &str); 3] =
    [(Kind::Paper, "paper"), (Kind::Code, "code"), (Kind::Measure, "measure")];

/// An exercise: its number in the chapter, its stars, and what it asks for, if
/// it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exercise {
    pub(crate) number: u32,
    pub(crate) stars: usize,
    pub(crate) kind: Option<Kind>,
}

/// What an exercise is written as, and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Exercise(Exercise),
    Broken,
    Solution,
    Heading,
}

/// The directive of an exercise, its number, its stars, and its kind.
const EXERCISE: &str =
    r"\*\*(\{\{#exercise (\d+)\}\} (★{1,3}))(?: (paper|code|measure))?\*\*";

/// The text with the kind of each exercise behind its stars, as a word of its
/// own.
pub(crate) fn set_off_kinds(text: &str) -> Result<String> {
    let exercise = pattern(EXERCISE)?;
    let set = |c: &regex::Captures| match c.get(4) {
        Some(kind) => format!(
            "**{}** <span class=\"kind\">{}</span>",
            &c[1],
            kind.as_str()
        ),
        None => c[0].to_string(),
    };
    Ok(exercise.replace_all(text, set).into_owned())
}

/// Exercises, solutions and headings, each with its line.
pub(crate) fn marks(text: &str) -> Result<Vec<(usize, Mark)>> {
    let exercise =
        pattern(&format!(r"^\s*(?:#+\s+|[-*+]\s+|\d+[.)]\s+)?{EXERCISE}"))?;
    let own = pattern(r"\*\*Exercise |\{\{#exercise\s*\d*\s*\}\}")?;
    let prose = prose(text);
    let mut marks = Vec::new();
    for (line, text) in (1..).zip(prose.lines()) {
        let bare = text.trim_start();
        let mark = if let Some(c) = exercise.captures(text) {
            let kind =
                |name: &str| KINDS.iter().find(|k| k.1 == name).map(|k| k.0);
            Mark::Exercise(Exercise {
                number: c[2].parse()?,
                stars: c[3].chars().count(),
                kind: c.get(4).and_then(|c| kind(c.as_str())),
            })
        } else if own.is_match(bare) {
            Mark::Broken
        } else if bare.contains("<summary>Solution</summary>") {
            Mark::Solution
        } else if bare.starts_with('#') {
            Mark::Heading
        } else {
            continue;
        };
        marks.push((line, mark));
    }
    Ok(marks)
}

/// The chapters that a comment `Chapter: attention, heads. Text` names.
pub(crate) fn named(line: &str) -> Vec<&str> {
    let comment = line.trim_start().trim_start_matches(['/', '!', '#']);
    let Some(rest) = comment.strip_prefix(" Chapter: ") else {
        return Vec::new();
    };
    let names = rest.split(". ").next().unwrap_or_default();
    let names = names.split(" --").next().unwrap_or_default();
    names.trim_end().trim_end_matches('.').split(',').map(str::trim).collect()
}

/// The chapters that the first line of a source names as its home.
pub fn homes_of(source: &Source) -> Vec<&str> {
    let first = source.text.lines().next().unwrap_or_default();
    if first.starts_with("//! ") { named(first) } else { Vec::new() }
}

/// How long a chapter is, and what it asks of its reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Minutes that reading it takes, without exercises.
    pub minutes: usize,
    /// Minutes that the exercises of the kinds code and measure take.
    pub keyboard: usize,
    /// Numbered equations.
    pub equations: usize,
    /// Exercises.
    pub exercises: usize,
    /// Those of each kind, in the order of [`KINDS`]; the others do not say.
    pub of_kind: [usize; 3],
    /// Solutions.
    pub solutions: usize,
}

/// Minutes at the keyboard for each star of an exercise.
const A_STAR: usize = 20;
/// Minutes for each line of a function that a reader writes.
const A_LINE: usize = 2;

/// The next multiple of five minutes, from five on.
fn five(minutes: usize) -> usize {
    minutes.div_ceil(5).max(1) * 5
}
/// Minutes, in steps of five, that writing this function yourself takes: an
/// estimate from how long it is, without what a page folds. What is hard about
/// it, the chapter derives, in the time that stands below its title.
pub(crate) fn writing(code: &str) -> usize {
    five(A_LINE * shown(code, Quote::CODE))
}

impl Tally {
    /// `25 minutes to read, 50 with a pencil, 60 at the keyboard`, in steps of
    /// five. Whoever derives along takes twice as long as a reader.
    pub fn times(&self) -> String {
        let read = five(self.minutes);
        let typed = match self.keyboard {
            0 => String::new(),
            minutes => format!(", {} at the keyboard", five(minutes)),
        };
        format!(
            "{read} minutes to read, {} with a pencil{typed}",
            five(2 * self.minutes)
        )
    }
}

/// The lines of quoted code that are not folded.
fn shown(code: &str, how: Quote) -> usize {
    let parts = quote::parts(code, how).into_iter();
    parts.filter(|p| p.folded.is_none()).map(|p| p.lines.len()).sum()
}

/// Reads a chapter as a reader would: 180 words a minute, 20 seconds for a
/// displayed formula, 3 for a line of code.
pub fn tally(chapter: &Chapter, sources: &Sources) -> Tally {
    let (mut equations, mut lines) = (0, 0);
    let text = registry::rewrite(&chapter.text, |call| {
        match call.verb {
            "eq" => equations += 1,
            "code" => {
                let target = call.argument.parse::<Target>().ok();
                let item = target.as_ref().and_then(|t| sources.find(t).ok());
                lines += item.map_or(0, |(s, i)| {
                    let how = Quote::new(&s.file, chapter.slug());
                    shown(&s.text_of(i), how)
                });
            }
            _ => {}
        }
        Some(String::new())
    });
    let mut words = 0;
    let (mut in_solution, mut in_formula, mut formulas) = (false, false, 0);
    let mut fence = false;
    for line in text.lines() {
        let bare = line.trim();
        if bare.starts_with("```") {
            fence = !fence;
        } else if bare.contains("<summary>Solution") {
            in_solution = true;
        } else if bare.contains("</details>") {
            in_solution = false;
        } else if in_solution {
        } else if fence {
            lines += 1;
        } else if bare.ends_with("$$") {
            formulas += usize::from(!in_formula);
            in_formula = !in_formula;
        } else if !in_formula {
            words += bare.split_whitespace().count();
        }
    }
    let marks = marks(&chapter.text).unwrap_or_default();
    let asked = exercises(&chapter.text).unwrap_or_default();
    let of_kind = KINDS
        .map(|(kind, _)| asked.iter().filter(|e| e.kind == Some(kind)).count());
    let seconds = words / 3 + 20 * (formulas + equations) + 3 * lines;
    let typed = asked
        .iter()
        .filter(|e| matches!(e.kind, Some(Kind::Code | Kind::Measure)));
    Tally {
        minutes: seconds.div_ceil(60),
        keyboard: typed.map(|e| e.stars * A_STAR).sum(),
        equations,
        exercises: asked.len(),
        of_kind,
        solutions: marks.iter().filter(|m| m.1 == Mark::Solution).count(),
    }
}

/// `book/exercises.toml`: how many exercises a chapter must have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Quota {
    /// In each chapter that has a number.
    least: usize,
    /// From this chapter on, one of each kind besides.
    each_kind_from: String,
    /// Chapters that need not keep this yet.
    not_yet: Vec<String>,
}

/// The chapters with too few exercises, or none of some kind; one line each.
pub(crate) fn too_few(
    root: &Path, chapters: &[Chapter],
) -> Result<Vec<String>> {
    const FILE: &str = "book/exercises.toml";
    let quota: Quota =
        toml::from_str(&registry::read(root, FILE)?).context(FILE)?;
    let mut faults = Vec::new();
    for slug in quota.not_yet.iter().chain([&quota.each_kind_from]) {
        if let Err(e) = numbered(chapters, slug) {
            faults.push(format!("{FILE}: {e:#}"));
        }
    }
    let mut each_kind = false;
    for chapter in chapters.iter().filter(|c| c.number.is_some()) {
        each_kind |= chapter.slug() == quota.each_kind_from;
        if quota.not_yet.iter().any(|slug| slug == chapter.slug()) {
            continue;
        }
        let (file, least) = (&chapter.file, quota.least);
        let has = exercises(&chapter.text)?;
        if has.len() < least {
            let has = has.len();
            faults.push(format!(
                "book/src/{file}: has {has} of the {least} exercises that \
                 {FILE} asks for; write more"
            ));
        }
        for (kind, name) in KINDS {
            if each_kind && !has.iter().any(|e| e.kind == Some(kind)) {
                faults.push(format!(
                    "book/src/{file}: has no exercise of the kind {name}, \
                     which {FILE} asks for; write one: \
                     `**{{{{#exercise N}}}} ★ {name}**`"
                ));
            }
        }
    }
    Ok(faults)
}

/// The exercises of a chapter, in order.
fn exercises(text: &str) -> Result<Vec<Exercise>> {
    let is_exercise = |(_, mark)| match mark {
        Mark::Exercise(exercise) => Some(exercise),
        _ => None,
    };
    Ok(marks(text)?.into_iter().filter_map(is_exercise).collect())
}

#[cfg(test)]
mod tests {
    use super::writing;

    #[test]
    fn a_longer_function_takes_longer() {
        let short = "/// z·σ(z).\n///\n/// Of any z.\nfn silu(z: f64) -> f64 {\n    z * sigmoid(z)\n}";
        assert_eq!(writing(short), 10, "three lines");
        let body = "    y[i] = x[i];\n".repeat(20);
        let long = format!("fn copy(y: &mut [f64], x: &[f64]) {{\n{body}}}");
        assert_eq!(writing(&long), 45, "22 lines");
    }
}
