//! What a chapter is, and the rules that each keeps.

use anyhow::{Context, Result};
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use regex::Regex;
use registry::{Source, Sources, Target};
use std::fs;
use std::path::Path;

/// A chapter or an appendix, in the order of `SUMMARY.md`.
#[derive(Clone, Debug)]
pub struct Chapter {
    /// Its file under `book/src`: `09-rmsnorm.md`.
    pub file: String,
    /// The number that its file name begins with; an appendix has none.
    pub number: Option<u32>,
    /// Its text, as written.
    pub text: String,
}

/// The directives there are; those that stand alone on their line.
const ALONE: &[&str] = &[
    "eq",
    "code",
    "figure",
    "equation-map",
    "notation",
    "symbol-index",
    "code-index",
];
/// The rest, the last four being mdBook's.
const INLINE: &[&str] =
    &["ref", "include", "rustdoc_include", "playground", "title"];

/// The number of a chapter's file: 9 for `09-rmsnorm.md`.
pub fn number(file: &str) -> Option<u32> {
    let (digits, _) = file.split_once('-')?;
    digits.parse().ok()
}

/// All chapters that `SUMMARY.md` lists, in its order.
pub fn chapters(root: &Path) -> Result<Vec<Chapter>> {
    let folder = root.join("book/src");
    let summary = fs::read_to_string(folder.join("SUMMARY.md"))
        .context("book/src/SUMMARY.md: cannot be read; list the chapters")?;
    let link = Regex::new(r"\]\((?:\./)?([^)]+\.md)\)")?;
    let chapter = |file: &str| {
        let text =
            fs::read_to_string(folder.join(file)).with_context(|| {
                format!(
                    "book/src/SUMMARY.md: {file} cannot be read; write it, or \
                 take its line out"
                )
            })?;
        let text = text.replace("\r\n", "\n");
        Ok(Chapter { file: file.to_string(), number: number(file), text })
    };
    link.captures_iter(&summary).map(|c| chapter(&c[1])).collect()
}

/// Whatever breaks a rule, in the order of the chapters; one line each.
pub fn faults(root: &Path) -> Result<Vec<String>> {
    let chapters = chapters(root)?;
    let mut faults = Vec::new();
    once(&chapters, &mut faults);
    let sources = Sources::load(root).ok(); // else the registry says why
    for chapter in &chapters {
        let say = &mut |line: usize, what: String| {
            faults.push(format!("book/src/{}:{line}: {what}", chapter.file));
        };
        directives(root, chapter, say);
        markdown(&chapter.text, say);
        exercises(chapter, say)?;
    }
    examples(root, &chapters, &mut faults);
    homes(&chapters, sources.as_ref(), &mut faults)?;
    Ok(faults)
}

/// No file is in `SUMMARY.md` twice, and no number stands for two. That every
/// file is there, the registry checks.
fn once(chapters: &[Chapter], faults: &mut Vec<String>) {
    for (i, chapter) in chapters.iter().enumerate() {
        let same = |c: &&Chapter| {
            c.file == chapter.file
                || c.number.is_some() && c.number == chapter.number
        };
        if let Some(first) = chapters[..i].iter().find(same) {
            faults.push(format!(
                "book/src/SUMMARY.md: {} after {}: each chapter and each \
                 number stands once; rename or remove one",
                chapter.file, first.file
            ));
        }
    }
}

type Say<'a> = &'a mut dyn FnMut(usize, String);

/// Every directive exists, stands where it may, and finds its figure. Equations
/// and items are the registry's to check.
fn directives(root: &Path, chapter: &Chapter, say: Say) {
    registry::rewrite(&chapter.text, |call| {
        let verb = call.verb;
        let written = format!("{{{{#{verb} {}}}}}", call.argument);
        let mut fault =
            |what: String| say(call.line, format!("{written}: {what}"));
        if !ALONE.contains(&verb) && !INLINE.contains(&verb) {
            let all = [ALONE, INLINE].concat().join(", ");
            fault(format!("there is no such directive; write one of {all}"));
        } else if ALONE.contains(&verb) && !call.alone {
            fault("stands alone on its line; give it one".into());
        }
        match verb {
            "eq" if chapter.number.is_none() => fault(
                "this page has no number for it; show it in a chapter, and \
                 cite it here with {{#ref …}}"
                    .into(),
            ),
            "figure" => {
                if let Err(e) = crate::figures::load(root, call.argument) {
                    fault(format!("{e:#}"));
                }
            }
            _ => {}
        }
        None
    });
}

/// Markdown as all pages use it.
pub(crate) fn options() -> Options {
    Options::ENABLE_MATH
        | Options::ENABLE_TABLES
        | Options::ENABLE_GFM
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_HEADING_ATTRIBUTES
        | Options::ENABLE_DEFINITION_LIST
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
}

/// The line on which this byte stands, from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Code names its language, and pictures say what they show.
fn markdown(text: &str, say: Say) {
    let mut picture = None; // where one begins, if nothing is said yet
    for (event, range) in Parser::new_ext(text, options()).into_offset_iter() {
        let line = line_of(text, range.start);
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Indented)) => say(
                line,
                "code set off by four blanks would be run as Rust; fence it \
                 and name its language, or take the blanks away"
                    .into(),
            ),
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language)))
                if language.is_empty() =>
            {
                say(
                    line,
                    "this fence names no language and would be run as Rust; \
                     write one behind the ticks: ```text, ```rs, ```rust"
                        .into(),
                )
            }
            // What does not fit the head, Markdown drops or leaves empty.
            Event::Start(Tag::Table(columns)) => {
                for (line, row) in (line..).zip(text[range].lines()) {
                    let (has, head) = (cells(row), columns.len());
                    if has != head {
                        say(
                            line,
                            format!(
                                "this row has {has} cells, its table {head} \
                                 columns; write as many, and `\\|` for a bar \
                                 that parts none"
                            ),
                        );
                    }
                }
            }
            Event::Start(Tag::Image { .. }) => picture = Some(line),
            Event::Text(_) | Event::Code(_) => picture = None,
            Event::End(TagEnd::Image) => {
                if let Some(line) = picture.take() {
                    say(line, no_alternative());
                }
            }
            Event::Html(html) | Event::InlineHtml(html)
                if html.contains("<img") && !html.contains("alt=\"")
                    || html.contains("<img") && html.contains("alt=\"\"") =>
            {
                say(line, no_alternative());
            }
            _ => {}
        }
    }
}

/// How many cells a row of a table has: bars part them, unless a backslash
/// stands before; the outer ones may be missing.
fn cells(row: &str) -> usize {
    let row = row.trim_start_matches([' ', '\t', '>']).trim_end();
    let row = row.strip_prefix('|').unwrap_or(row);
    let last = row.strip_suffix('|').filter(|r| !r.ends_with('\\'));
    let row = last.unwrap_or(row).replace("\\|", "");
    row.matches('|').count() + 1
}

fn no_alternative() -> String {
    "this picture has no alternative text; say in a sentence what it shows: \
     ![…](file)"
        .into()
}

/// What an exercise is written as, and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Exercise { chapter: u32, number: u32 },
    Broken,
    Solution,
    Heading,
}

/// Exercises, solutions and headings, each with its line.
fn marks(text: &str) -> Result<Vec<(usize, Mark)>> {
    let exercise = Regex::new(
        r"^\s*(?:#+\s+|[-*+]\s+|\d+[.)]\s+)?\*\*Exercise (\d+)\.(\d+) ★{1,3}\*\*",
    )?;
    let prose = prose(text);
    let mut marks = Vec::new();
    for (line, text) in (1..).zip(prose.lines()) {
        let bare = text.trim_start();
        let mark = if let Some(c) = exercise.captures(text) {
            Mark::Exercise { chapter: c[1].parse()?, number: c[2].parse()? }
        } else if bare.contains("**Exercise ") {
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

/// The text without its code blocks; lines stay where they are.
fn prose(text: &str) -> String {
    let mut out = text.to_string();
    let events = Parser::new_ext(text, options()).into_offset_iter();
    let code =
        events.filter(|(e, _)| matches!(e, Event::Start(Tag::CodeBlock(_))));
    let ranges: Vec<_> = code.map(|(_, range)| range).collect();
    for range in ranges.into_iter().rev() {
        let lines = "\n".repeat(text[range.clone()].matches('\n').count());
        out.replace_range(range, &lines);
    }
    out
}

/// Every exercise has the chapter's number, its turn, and a solution.
fn exercises(chapter: &Chapter, say: Say) -> Result<()> {
    let mut open: Option<(usize, u32)> = None; // line and number, unsolved
    let mut last = 0;
    for (line, mark) in marks(&chapter.text)? {
        if mark == Mark::Solution {
            if open.take().is_none() {
                say(
                    line,
                    "this solution follows no exercise; put it right after \
                     its own"
                        .into(),
                );
            }
            continue;
        }
        if let Some((line, number)) = open.take() {
            say(
                line,
                format!(
                    "exercise {number} has no solution; write right after it \
                     `<details><summary>Solution</summary>`, a blank line, \
                     the solution, a blank line, `</details>`"
                ),
            );
        }
        match mark {
            Mark::Exercise { chapter: of, number } => {
                let expected = (chapter.number, last + 1);
                if (Some(of), number) != expected {
                    let of =
                        chapter.number.map_or("?".into(), |n| n.to_string());
                    say(
                        line,
                        format!("number this exercise {of}.{}", last + 1),
                    );
                }
                last = number;
                open = Some((line, number));
            }
            Mark::Broken => say(
                line,
                "an exercise begins its heading, list item or paragraph with \
                 `**Exercise N.M ★**`, of one to three stars; write it so"
                    .into(),
            ),
            _ => {}
        }
    }
    if let Some((line, number)) = open {
        let what = format!("exercise {number} has no solution; write it below");
        say(line, what);
    }
    Ok(())
}

/// Every chapter is in `src/book.rs`, which makes doc tests of its examples.
fn examples(root: &Path, chapters: &[Chapter], faults: &mut Vec<String>) {
    let list = fs::read_to_string(root.join("src/book.rs"));
    let list = list.unwrap_or_default();
    for chapter in chapters {
        let path = format!("../book/src/{}", chapter.file);
        if !list.contains(&format!("include_str!(\"{path}\")")) {
            let name = chapter.file.trim_end_matches(".md").replace('-', "_");
            let name = match chapter.number {
                Some(_) => format!("ch{name}"),
                None => name,
            };
            faults.push(format!(
                "src/book.rs: does not test the examples of {}; add \
                 `#[doc = include_str!(\"{path}\")] mod {name} {{}}`",
                chapter.file
            ));
        }
    }
}

/// The chapters that the first line of a source names as its home.
pub fn homes_of(source: &Source) -> Vec<u32> {
    let first = source.text.lines().next().unwrap_or_default();
    let Some(rest) = first.strip_prefix("//! Chapter ") else {
        return Vec::new();
    };
    let sentence = rest.split(". ").next().unwrap_or_default();
    let words = sentence.split(|c: char| !c.is_ascii_digit());
    words.filter_map(|w| w.parse().ok()).collect()
}

/// Every kernel, layer and part of training has its home in the book.
fn homes(
    chapters: &[Chapter], sources: Option<&Sources>, faults: &mut Vec<String>,
) -> Result<()> {
    let taught = ["src/kernel/", "src/nn/", "src/train/"];
    let files = sources.map_or(&[][..], |s| &s.files);
    for source in files {
        if !taught.iter().any(|t| source.file.starts_with(t)) {
            continue;
        }
        let homes = homes_of(source);
        // A mod.rs is a list and teaches nothing.
        if homes.is_empty() && !source.file.ends_with("/mod.rs") {
            faults.push(format!(
                "{}:1: names no home chapter; begin the file with \
                 `//! Chapter N.`",
                source.file
            ));
        }
        for home in homes {
            if chapters.iter().all(|c| c.number != Some(home)) {
                faults.push(format!(
                    "{}:1: says that it belongs to chapter {home}, which \
                     SUMMARY.md does not list; write that chapter, or correct \
                     the number",
                    source.file
                ));
            }
        }
    }
    Ok(())
}

/// How long a chapter is, and what it asks of its reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Minutes that reading it takes, without exercises.
    pub minutes: usize,
    /// Numbered equations.
    pub equations: usize,
    /// Exercises.
    pub exercises: usize,
    /// Solutions.
    pub solutions: usize,
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
                lines += item.map_or(0, |(_, i)| i.last + 1 - i.first);
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
    let count = |f: fn(&Mark) -> bool| marks.iter().filter(|m| f(&m.1)).count();
    let seconds = words / 3 + 20 * (formulas + equations) + 3 * lines;
    Tally {
        minutes: seconds.div_ceil(60),
        equations,
        exercises: count(|m| matches!(m, Mark::Exercise { .. })),
        solutions: count(|m| *m == Mark::Solution),
    }
}
