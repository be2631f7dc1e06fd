//! Directives in the book's chapters.

use crate::error::{Error, files, read};
use std::path::Path;

/// A directive in a chapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// What it does with the equation.
    pub verb: Verb,
    /// The equation's id.
    pub id: String,
    /// The chapter's file, relative to the top.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

/// What a directive does with an equation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `{{#eq id}}` shows it.
    Eq,
    /// `{{#ref id}}` cites it.
    Ref,
}

/// All `{{#eq id}}` and `{{#ref id}}` in `book/src/**/*.md`, outside fenced
/// and inline code; `None` as long as there is no `book/src/SUMMARY.md`.
pub fn directives(root: &Path) -> Result<Option<Vec<Directive>>, Error> {
    if !root.join("book/src/SUMMARY.md").exists() {
        return Ok(None);
    }
    let mut found = Vec::new();
    for file in files(root, "book/src", "md")? {
        in_chapter(&file, &read(root, &file)?, &mut found);
    }
    Ok(Some(found))
}

fn in_chapter(file: &str, text: &str, found: &mut Vec<Directive>) {
    let mut open: Option<&str> = None; // the fence we are in
    for (line, text) in (1..).zip(text.lines()) {
        match (open, fence(text)) {
            (None, Some((ticks, _))) => open = Some(ticks),
            (Some(begin), Some((ticks, ""))) if ticks.starts_with(begin) => {
                open = None;
            }
            (Some(_), _) => {}
            (None, None) => {
                for (verb, id) in in_line(&without_code(text)) {
                    let (id, file) = (id.to_string(), file.to_string());
                    found.push(Directive { verb, id, file, line });
                }
            }
        }
    }
}

/// The ticks or tildes that open or close fenced code, also in a list or a
/// quotation, and what follows them.
fn fence(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start_matches(|c: char| {
        c.is_ascii_digit() || " \t>-*+.".contains(c)
    });
    let tick = line.chars().next().filter(|c| "`~".contains(*c))?;
    let (ticks, info) =
        line.split_at(line.len() - line.trim_start_matches(tick).len());
    let inline = tick == '`' && info.contains('`');
    (ticks.len() >= 3 && !inline).then_some((ticks, info.trim()))
}

/// The line without its inline code.
fn without_code(line: &str) -> String {
    let mut kept = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('`') {
        let (before, code) = rest.split_at(at);
        kept.push_str(before);
        let after = code.trim_start_matches('`');
        let ticks = code.len() - after.len();
        rest = after_ticks(after, ticks).unwrap_or(after);
    }
    kept + rest
}

/// What follows the first run of exactly so many ticks.
fn after_ticks(mut text: &str, ticks: usize) -> Option<&str> {
    loop {
        let run = &text[text.find('`')?..];
        text = run.trim_start_matches('`');
        if run.len() - text.len() == ticks {
            return Some(text);
        }
    }
}

/// The directives of a line; `\{{#eq id}}` shows itself and is none.
fn in_line(line: &str) -> Vec<(Verb, &str)> {
    let mut found = Vec::new();
    let mut parts = line.split("{{#");
    let mut before = parts.next().unwrap_or_default();
    for part in parts {
        let escaped = before.ends_with('\\');
        before = part;
        let Some((inside, _)) = part.split_once("}}") else { continue };
        let words = inside.split_once(char::is_whitespace);
        let (verb, id) = words.unwrap_or((inside, ""));
        let verb = match verb {
            "eq" => Verb::Eq,
            "ref" => Verb::Ref,
            _ => continue,
        };
        if !escaped {
            found.push((verb, id.trim()));
        }
    }
    found
}
