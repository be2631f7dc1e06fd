//! Directives in the book's chapters.

use crate::error::{Error, files, read};
use std::fmt;
use std::path::Path;

/// A directive in a chapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// What it does.
    pub verb: Verb,
    /// With which equation, or with which item.
    pub id: String,
    /// The chapter's file, relative to the top.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

/// What a directive does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `{{#eq id}}` shows an equation.
    Eq,
    /// `{{#ref id}}` cites it.
    Ref,
    /// `{{#code file.rs::item}}` quotes an item.
    Code,
}
impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Verb::Eq => "eq",
            Verb::Ref => "ref",
            Verb::Code => "code",
        })
    }
}

/// A line of `SUMMARY.md`: a chapter or an appendix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its file under `book/src`: `rmsnorm.md`.
    pub file: String,
    /// Its title.
    pub title: String,
    /// Its turn among the chapters; an appendix has none.
    pub number: Option<u32>,
}

const FOLDER: &str = "book/src/";
const SUMMARY: &str = "book/src/SUMMARY.md";

/// What `book/src/SUMMARY.md` lists, in its order. Entries of a list are
/// numbered, up to the part `# Appendices`.
pub fn summary(root: &Path) -> Result<Vec<Listed>, Error> {
    let (mut listed, mut last, mut appendix) = (Vec::new(), 0, false);
    for line in read(root, SUMMARY)?.lines() {
        if let Some(part) = line.strip_prefix("# ") {
            appendix = part.trim() == "Appendices";
        }
        let line = line.trim_start();
        let item = line.strip_prefix(['-', '*', '+']);
        let entry = item.unwrap_or(line).trim_start().strip_prefix('[');
        let Some((title, link)) = entry.and_then(|e| e.split_once("](")) else {
            continue;
        };
        let Some((file, _)) = link.split_once(".md)") else { continue };
        let numbered = item.is_some() && !appendix;
        last += u32::from(numbered);
        listed.push(Listed {
            file: format!("{}.md", file.trim_start_matches("./")),
            title: title.to_string(),
            number: numbered.then_some(last),
        });
    }
    Ok(listed)
}

/// All directives with a [`Verb`] in `book/src/**/*.md`, outside fenced and
/// inline code, in the order of the chapters; `None` as long as there is no
/// `book/src/SUMMARY.md`.
pub fn directives(root: &Path) -> Result<Option<Vec<Directive>>, Error> {
    if !root.join(SUMMARY).exists() {
        return Ok(None);
    }
    let listed = summary(root)?;
    let turn = |file: &String| {
        listed.iter().position(|l| file.strip_prefix(FOLDER) == Some(&l.file))
    };
    let mut found = Vec::new();
    let mut chapters = files(root, "book/src", "md")?;
    chapters.sort_by_key(|file| turn(file).unwrap_or(listed.len()));
    for file in chapters {
        in_chapter(&file, &read(root, &file)?, &mut found);
    }
    Ok(Some(found))
}

/// The chapters that `book/src/SUMMARY.md` does not list, if there is one.
pub(crate) fn unlisted(root: &Path) -> Result<Vec<String>, Error> {
    if !root.join(SUMMARY).exists() {
        return Ok(Vec::new());
    }
    let listed = summary(root)?;
    let mut chapters = files(root, "book/src", "md")?;
    chapters.retain(|file| {
        let name = file.strip_prefix(FOLDER);
        file != SUMMARY && !listed.iter().any(|l| Some(&*l.file) == name)
    });
    Ok(chapters)
}

fn in_chapter(file: &str, text: &str, found: &mut Vec<Directive>) {
    rewrite(text, |call| {
        let verb = match call.verb {
            "eq" => Verb::Eq,
            "ref" => Verb::Ref,
            "code" => Verb::Code,
            _ => return None,
        };
        let (id, file) = (call.argument.to_string(), file.to_string());
        found.push(Directive { verb, id, file, line: call.line });
        None
    });
}

/// A directive `{{#verb argument}}` as it stands in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// What it asks for: `eq`.
    pub verb: &'a str,
    /// What it is about: the rest, without blanks around; may be empty.
    pub argument: &'a str,
    /// The line, from 1.
    pub line: usize,
    /// Whether nothing else stands on its line.
    pub alone: bool,
}

/// The text, in which each directive outside fenced and inline code is
/// replaced by what `f` makes of it, or stays where that is `None`. The escaped
/// `\{{#eq id}}` is none.
pub fn rewrite(
    text: &str, mut f: impl FnMut(&Call) -> Option<String>,
) -> String {
    let mut out = String::with_capacity(text.len());
    let mut open: Option<&str> = None; // the fence we are in
    for (line, text) in (1..).zip(text.split_inclusive('\n')) {
        match (open, fence(text)) {
            (None, Some((ticks, _))) => open = Some(ticks),
            (Some(begin), Some((ticks, ""))) if ticks.starts_with(begin) => {
                open = None;
            }
            (Some(_), _) => {}
            (None, None) => {
                in_line(text, line, &mut f, &mut out);
                continue;
            }
        }
        out.push_str(text);
    }
    out
}

fn in_line(
    text: &str, line: usize, f: &mut impl FnMut(&Call) -> Option<String>,
    out: &mut String,
) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|b| b"`{".contains(&b)) {
        let (before, here) = rest.split_at(at);
        out.push_str(before);
        let (length, new) = if here.starts_with('`') {
            let after = here.trim_start_matches('`');
            let ticks = here.len() - after.len();
            let end = after_ticks(after, ticks).unwrap_or(after);
            (here.len() - end.len(), None)
        } else if let Some((inside, _)) =
            here.strip_prefix("{{#").and_then(|h| h.split_once("}}"))
            && !before.ends_with('\\')
        {
            let words = inside.split_once(char::is_whitespace);
            let (verb, argument) = words.unwrap_or((inside, ""));
            let argument = argument.trim();
            let length = inside.len() + "{{#}}".len();
            let alone = text.trim().len() == length;
            (length, f(&Call { verb, argument, line, alone }))
        } else {
            (1, None)
        };
        out.push_str(new.as_deref().unwrap_or(&here[..length]));
        rest = &here[length..];
    }
    out.push_str(rest);
}

/// The ticks or tildes that open or close fenced code, also in a list or a
/// quotation, and what follows them.
pub(crate) fn fence(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start_matches(|c: char| {
        c.is_ascii_digit() || " \t>-*+.".contains(c)
    });
    let tick = line.chars().next().filter(|c| "`~".contains(*c))?;
    let (ticks, info) =
        line.split_at(line.len() - line.trim_start_matches(tick).len());
    let inline = tick == '`' && info.contains('`');
    (ticks.len() >= 3 && !inline).then_some((ticks, info.trim()))
}

/// What follows the first run of exactly so many ticks.
pub(crate) fn after_ticks(mut text: &str, ticks: usize) -> Option<&str> {
    loop {
        let run = &text[text.find('`')?..];
        text = run.trim_start_matches('`');
        if run.len() - text.len() == ticks {
            return Some(text);
        }
    }
}
