//! The rules that chapters, equations and sources keep.

use crate::chapters::{
    Chapter, Exercise, Mark, chapters, homes_of, marks, named, numbered,
    too_few,
};
use crate::markdown::{Lines, cells, options};
use crate::text::pattern;
use crate::{commands, figures, ladder, names, symbols, terms};
use anyhow::{Context, Result, ensure};
use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};
use registry::{Call, Equation, Kind, Registry, Sources};
use std::path::Path;

/// The directives there are; those that stand alone on their line.
const ALONE: &[&str] = &[
    "eq",
    "code",
    "figure",
    "ladder",
    "equation-map",
    "notation",
    "symbol-index",
    "code-index",
];
/// The rest, the last four being mdBook's.
const INLINE: &[&str] = &[
    "ref",
    "chapter",
    "number",
    "exercise",
    "include",
    "rustdoc_include",
    "playground",
    "title",
];

type Say<'a> = &'a mut dyn FnMut(usize, String);

/// Whatever does not fit together in equations, code, tests and chapters; one
/// line each.
pub fn faults(root: &Path) -> Result<Vec<String>> {
    // Whatever else is wrong may follow from these.
    let unmerged = unmerged(root)?;
    if !unmerged.is_empty() {
        return Ok(unmerged);
    }
    let problems = registry::problems(root).into_iter();
    let mut faults: Vec<_> = problems.map(|p| p.to_string()).collect();
    for fault in of_chapters(root)? {
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    Ok(faults)
}

/// The marks that a merge left between two versions of some lines.
fn unmerged(root: &Path) -> Result<Vec<String>> {
    let mark = pattern(r"^(?:<{7}|\|{7}|={7}|>{7})(?: .*)?$")?;
    let mut files = vec!["equations.toml".to_string()];
    for folder in ["book", "src", "tests", "benches"] {
        for ext in ["md", "rs", "toml"] {
            files.extend(registry::files(root, folder, ext)?);
        }
    }
    let mut faults = Vec::new();
    for file in files {
        // What cannot be read, the registry says.
        let text = registry::read(root, &file).unwrap_or_default();
        let lines = (1..).zip(text.lines());
        faults
            .extend(lines.filter(|(_, l)| mark.is_match(l)).map(|(at, l)| {
            format!(
                "{file}:{at}: `{l}` is the mark of a merge that is not done; \
                 keep one of the versions, and take the marks away"
            )
        }));
    }
    Ok(faults)
}

fn of_chapters(root: &Path) -> Result<Vec<String>> {
    let chapters = chapters(root)?;
    let mut faults = once(&chapters);
    for chapter in &chapters {
        let say = &mut |line: usize, what: String| {
            faults.push(format!("book/src/{}:{line}: {what}", chapter.file));
        };
        directives(root, &chapters, chapter, say);
        literal_numbers(&chapter.text, say)?;
        markdown(&chapter.text, say);
        exercises(&chapter.text, say)?;
    }
    comments(root, &chapters, &mut faults)?;
    faults.extend(too_few(root, &chapters)?);
    faults.extend(symbols::faults(root, &chapters)?);
    faults.extend(without_code(root));
    faults.extend(terms::faults(root)?);
    faults.extend(commands::faults(root)?);
    faults.extend(names::faults(root, &chapters)?);
    Ok(faults)
}

/// An equation that no code computes says why, and no other does.
fn without_code(root: &Path) -> Vec<String> {
    // What cannot be read, the registry says.
    let equations = Registry::load(root).map_or(Vec::new(), |r| r.equations);
    let say = |e: Equation| {
        let id = e.id;
        match (e.code, e.no_code) {
            // Of the others, the registry says that they need code.
            (None, None)
                if matches!(e.kind, Kind::Definition | Kind::Identity) =>
            {
                Some(format!(
                    "equations.toml: [{id}] has no code and does not say why; \
                     add no_code = \"…\""
                ))
            }
            (Some(_), Some(_)) => Some(format!(
                "equations.toml: [{id}] has both code and no_code; remove one"
            )),
            _ => None,
        }
    };
    equations.into_iter().filter_map(say).collect()
}

/// No file is in `SUMMARY.md` twice. That every file is there, the registry
/// checks.
fn once(chapters: &[Chapter]) -> Vec<String> {
    let again = chapters.iter().enumerate().filter(|(i, chapter)| {
        chapters[..*i].iter().any(|c| c.file == chapter.file)
    });
    let say = |(_, chapter): (usize, &Chapter)| {
        format!("book/src/SUMMARY.md: lists {} twice; remove one", chapter.file)
    };
    again.map(say).collect()
}

/// Every directive exists, stands where it may, and finds its figure, chapter
/// or exercise. Equations and items are the registry's to check.
fn directives(root: &Path, chapters: &[Chapter], chapter: &Chapter, say: Say) {
    registry::rewrite(&chapter.text, |call| {
        let verb = call.verb;
        let written = match call.argument {
            "" => format!("{{{{#{verb}}}}}"),
            argument => format!("{{{{#{verb} {argument}}}}}"),
        };
        let mut fault =
            |what: String| say(call.line, format!("{written}: {what}"));
        if !ALONE.contains(&verb) && !INLINE.contains(&verb) {
            let all = [ALONE, INLINE].concat().join(", ");
            fault(format!("there is no such directive; write one of {all}"));
        } else if ALONE.contains(&verb) && !call.alone {
            fault("stands alone on its line; give it one".into());
        }
        if let Err(e) = target(root, chapters, chapter, call) {
            fault(format!("{e:#}"));
        }
        None
    });
}

/// What the directive is about is there.
fn target(
    root: &Path, chapters: &[Chapter], chapter: &Chapter, call: &Call,
) -> Result<()> {
    let argument = call.argument;
    match call.verb {
        "eq" => ensure!(
            chapter.number.is_some(),
            "this page has no number for it; show it in a chapter, and cite \
             it here with {{{{#ref …}}}}"
        ),
        "figure" => drop(figures::load(root, argument)?),
        "ladder" => drop(ladder::ladder(root, argument)?),
        "chapter" | "number" => {
            let slug = argument.split('#').next().unwrap_or_default();
            numbered(chapters, slug)?;
        }
        "exercise" => match argument.split_once(' ') {
            // One of this chapter; `exercises` looks at its number.
            None => ensure!(
                chapter.number.is_some() && argument.parse::<u32>().is_ok(),
                "write {{{{#exercise N}}}} where exercise N of a chapter \
                 begins, and {{{{#exercise name N}}}} to refer to one"
            ),
            Some((slug, n)) => {
                let (chapter, _) = numbered(chapters, slug)?;
                let n: u32 = n.parse().context("the number is none")?;
                let all = marks(&chapter.text)?;
                let is =
                    |m: Mark| matches!(m, Mark::Exercise(e) if e.number == n);
                ensure!(
                    all.iter().any(|(_, m)| is(*m)),
                    "{} has no exercise {n}; correct the number",
                    chapter.file
                );
            }
        },
        _ => {}
    }
    Ok(())
}

/// The number of a chapter stands in `SUMMARY.md` alone, as its turn.
fn literal_numbers(text: &str, say: Say) -> Result<()> {
    let number = pattern(
        r"(?im)(?-u:\b)chapters?\s+\d+|(?-u:\b)(?:exercise|equation)s?\s+\(?\d+(?:\.\d+)?|\[\d+\]\([\w./-]+\.md|^#\s+\d+\.",
    )?;
    let lines = Lines::of(text);
    for found in number.find_iter(text) {
        if text[..found.start()].ends_with("{{#") {
            continue;
        }
        let words: Vec<_> = found.as_str().split_whitespace().collect();
        say(
            lines.at(found.start()),
            format!(
                "`{}`: the tool numbers chapters, exercises and equations; \
                 write {{{{#chapter name}}}}, {{{{#number name}}}}, \
                 {{{{#exercise name N}}}} or {{{{#ref id}}}}, a title without \
                 a number, and `ch.` for another book's chapter",
                words.join(" ")
            ),
        );
    }
    Ok(())
}

/// Code names its language, and pictures say what they show.
fn markdown(text: &str, say: Say) {
    let lines = Lines::of(text);
    let mut picture = None; // where one begins, if nothing is said yet
    for (event, range) in Parser::new_ext(text, options()).into_offset_iter() {
        let line = lines.at(range.start);
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

fn no_alternative() -> String {
    "this picture has no alternative text; say in a sentence what it shows: \
     ![…](file)"
        .into()
}

/// Every exercise has its turn in the chapter, and a solution.
fn exercises(text: &str, say: Say) -> Result<()> {
    let mut open: Option<(usize, u32)> = None; // line and number, unsolved
    let mut last = 0;
    for (line, mark) in marks(text)? {
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
            Mark::Exercise(Exercise { number, .. }) => {
                if number != last + 1 {
                    let what = format!("number this exercise {}", last + 1);
                    say(line, what);
                }
                last = number;
                open = Some((line, number));
            }
            Mark::Broken => say(
                line,
                "an exercise begins its heading, list item or paragraph with \
                 `**{{#exercise N}} ★**`, of one to three stars; write it so"
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

/// Every kernel, layer and part of training has its home in the book, and
/// comments name chapters that there are, not their numbers.
fn comments(
    root: &Path, chapters: &[Chapter], faults: &mut Vec<String>,
) -> Result<()> {
    // What cannot be read, the registry says.
    let Ok(sources) = Sources::load(root) else { return Ok(()) };
    let taught = ["src/kernel/", "src/nn/", "src/train/"];
    for source in &sources.files {
        let file = &source.file;
        // A mod.rs is a list and teaches nothing.
        if taught.iter().any(|t| file.starts_with(t))
            && !file.ends_with("/mod.rs")
            && homes_of(source).is_empty()
        {
            faults.push(format!(
                "{file}:1: names no home chapter; begin the file with \
                 `//! Chapter: name. What the file is.`"
            ));
        }
    }
    let sources = sources.files.into_iter().map(|s| (s.file, s.text));
    let mut texts: Vec<(String, String)> = sources.collect();
    let mut others = registry::files(root, "benches", "rs")?;
    others.push("equations.toml".into());
    for file in others {
        let text = registry::read(root, &file)?;
        texts.push((file, text));
    }
    let literal = pattern(r"(?i)^\s*(?://|#).*(?-u:\b)chapters?\s+\d")?;
    for (file, text) in texts {
        for (line, text) in (1..).zip(text.lines()) {
            if literal.is_match(text) {
                faults.push(format!(
                    "{file}:{line}: names a chapter by its number; write \
                     `Chapter: name`, the name of its file"
                ));
            }
            let names = if line == 1 || file == "equations.toml" {
                named(text)
            } else {
                Vec::new()
            };
            for name in names {
                if let Err(e) = numbered(chapters, name) {
                    faults.push(format!("{file}:{line}: {e:#}"));
                }
            }
        }
    }
    Ok(())
}
