//! Whatever a chapter uses, it or an earlier one has introduced.
//!
//! `book/terms.toml` has a table for each chapter: the words, the letters and
//! the names in code that it introduces. A chapter that uses one before says
//! where it is to be found: with a link to that chapter in the same section,
//! in the same paragraph or above it.

use crate::chapters::{Chapter, Mark, chapters, marks};
use crate::markdown::{Lines, options};
use crate::quote::{self, Quote};
use crate::text::pattern;
use anyhow::{Context, Result, ensure};
use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};
use regex::Regex;
use registry::{Registry, Sources, Target, hint};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

const FILE: &str = "book/terms.toml";

/// `book/terms.toml`.
#[derive(Deserialize)]
struct File {
    /// Terms that mean something else in a chapter, and what.
    #[serde(default)]
    elsewhere: BTreeMap<String, BTreeMap<String, String>>,
    /// What each chapter introduces.
    #[serde(flatten)]
    chapters: BTreeMap<String, Introduced>,
}

/// What a chapter introduces.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Introduced {
    /// Technical words, in the singular; upper and lower case are the same.
    #[serde(default)]
    words: Vec<String>,
    /// Letters, as formulas write them.
    #[serde(default)]
    letters: Vec<String>,
    /// Types, traits and functions.
    #[serde(default)]
    code: Vec<String>,
}

/// What a term is, and so where it is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Word,
    Letter,
    Code,
}

/// A word, a letter or a name in code.
struct Term<'a> {
    text: &'a str,
    kind: Kind,
    /// The chapter that introduces it, by its turn.
    home: usize,
    find: Find,
}

/// How a term is found.
enum Find {
    Pattern(Regex),
    /// A letter: these tokens in a row.
    Tokens(Vec<String>),
}

/// Part of a chapter: prose, a formula, or code.
struct Piece {
    kind: Kind,
    line: usize,
    text: String,
    /// The parts of a formula.
    tokens: Vec<String>,
}

/// A chapter as it is read.
struct Page {
    pieces: Vec<Piece>,
    /// Where it points to other chapters: line and slug.
    links: Vec<(usize, String)>,
    /// The types of the library that examples import, each with its line.
    imports: Vec<(usize, String)>,
    /// Section and paragraph of each line, from line 1.
    places: Vec<(usize, usize)>,
}

/// Terms that a chapter uses before they are introduced, that are introduced
/// nowhere, or that nobody uses; one line each.
pub fn faults(root: &Path) -> Result<Vec<String>> {
    let text = registry::read(root, FILE).with_context(|| {
        format!("{FILE}: list what each chapter introduces")
    })?;
    let file: File = toml::from_str(&text).with_context(|| FILE.to_string())?;
    let mut chapters = chapters(root)?;
    chapters.retain(|c| c.number.is_some());
    // What cannot be read, the registry says.
    let (Ok(registry), Ok(sources)) =
        (Registry::load(root), Sources::load(root))
    else {
        return Ok(Vec::new());
    };
    let pages = pages(&chapters, &registry, &sources)?;
    let mut faults = Vec::new();
    let terms = terms(&file, &chapters, &mut faults)?;
    for term in &terms {
        judge(term, &file, &chapters, &pages, &mut faults);
    }
    for (term, places) in &file.elsewhere {
        exceptions(term, places, &terms, &chapters, &pages, &mut faults);
    }
    for (chapter, page) in chapters.iter().zip(&pages) {
        for (line, name) in &page.imports {
            let listed = |t: &Term| t.kind == Kind::Code && t.text == name;
            if !terms.iter().any(listed) {
                faults.push(format!(
                    "book/src/{}:{line}: this example imports `{name}`, which \
                     {FILE} has in no chapter; list it under the chapter that \
                     explains it",
                    chapter.file
                ));
            }
        }
    }
    Ok(faults)
}

/// The terms of the file; what is wrong with the file itself is a fault.
fn terms<'a>(
    file: &'a File, chapters: &[Chapter], faults: &mut Vec<String>,
) -> Result<Vec<Term<'a>>> {
    let mut terms: Vec<Term> = Vec::new();
    for (slug, introduced) in &file.chapters {
        let home = chapters.iter().position(|c| c.slug() == slug);
        let Some(home) = home else {
            let slugs = chapters.iter().map(Chapter::slug);
            let near = hint(slug, slugs, "name one that SUMMARY.md numbers");
            faults.push(format!("{FILE}: [{slug}] is no chapter; {near}"));
            continue;
        };
        for (kind, list) in [
            (Kind::Word, &introduced.words),
            (Kind::Letter, &introduced.letters),
            (Kind::Code, &introduced.code),
        ] {
            for text in list {
                let twice = |t: &&Term| t.kind == kind && t.text == text;
                if let Some(other) = terms.iter().find(twice) {
                    faults.push(format!(
                        "{FILE}: `{text}` is introduced in [{slug}] and in \
                         [{}]; leave it in the first that explains it",
                        chapters[other.home].slug()
                    ));
                    continue;
                }
                let find = find(kind, text)?;
                terms.push(Term { text, kind, home, find });
            }
        }
    }
    Ok(terms)
}

fn find(kind: Kind, text: &str) -> Result<Find> {
    let pattern = match kind {
        Kind::Letter => {
            let tokens = tokens(text);
            ensure!(!tokens.is_empty(), "{FILE}: `{text}` has no letter");
            return Ok(Find::Tokens(tokens));
        }
        Kind::Code => format!(r"(?-u:\b){}(?-u:\b)", regex::escape(text)),
        // Also in the plural, and with a hyphen for a blank.
        Kind::Word => {
            let words = text.split([' ', '-']).map(regex::escape);
            let words = words.collect::<Vec<_>>().join(r"[ \n\u{a0}-]+");
            format!(r"(?i)(?-u:\b){words}(?:e?s)?(?-u:\b)")
        }
    };
    Ok(Find::Pattern(Regex::new(&pattern)?))
}

/// The lines of the page on which the term stands.
fn lines<'a>(
    term: &'a Term, page: &'a Page,
) -> impl Iterator<Item = usize> + 'a {
    let pieces = page.pieces.iter().filter(|p| p.kind == term.kind);
    pieces.flat_map(|piece| -> Vec<usize> {
        match &term.find {
            Find::Pattern(pattern) if pattern.is_match(&piece.text) => {
                let lines = Lines::of(&piece.text);
                let found = pattern.find_iter(&piece.text);
                found.map(|m| piece.line - 1 + lines.at(m.start())).collect()
            }
            Find::Pattern(_) => vec![],
            Find::Tokens(letter) => match has(&piece.tokens, letter) {
                true => vec![piece.line],
                false => vec![],
            },
        }
    })
}

/// Whether these tokens stand in the formula in a row, and are no script L, no
/// bold u, where a plain one is meant.
fn has(formula: &[String], letter: &[String]) -> bool {
    let font = |t: &String| t.starts_with("\\math");
    formula.windows(letter.len()).enumerate().any(|(at, part)| {
        part == letter && (at == 0 || !font(&formula[at - 1]))
    })
}

/// One term against all chapters.
fn judge(
    term: &Term, file: &File, chapters: &[Chapter], pages: &[Page],
    faults: &mut Vec<String>,
) {
    let (text, home) = (term.text, chapters[term.home].slug());
    let other = file.elsewhere.get(text);
    let meant = |c: &Chapter| other.is_none_or(|o| !o.contains_key(c.slug()));
    let uses: Vec<Vec<usize>> = chapters
        .iter()
        .zip(pages)
        .map(|(c, page)| match meant(c) {
            true => lines(term, page).collect(),
            false => Vec::new(),
        })
        .collect();
    if uses.iter().all(Vec::is_empty) {
        faults.push(format!(
            "{FILE}: no chapter uses `{text}` of [{home}]; take it out"
        ));
    } else if uses[term.home].is_empty() {
        faults.push(format!(
            "{FILE}: [{home}] introduces `{text}`, but {home}.md does not \
             contain it; write it there, or list it under the chapter that does"
        ));
    }
    let before = chapters.iter().zip(pages).zip(&uses).take(term.home);
    for ((chapter, page), lines) in before {
        let mut early = lines.iter().filter(|&&l| !page.points(l, home));
        if let Some(line) = early.next() {
            faults.push(format!(
                "book/src/{}:{line}: uses `{text}`, which the later chapter \
                 {home} introduces ({FILE}); introduce it before, or look \
                 ahead with {{{{#chapter {home}}}}}, here or above in this \
                 section",
                chapter.file
            ));
        }
    }
}

/// An exception is of a term that there is, and needed.
fn exceptions(
    text: &str, places: &BTreeMap<String, String>, terms: &[Term],
    chapters: &[Chapter], pages: &[Page], faults: &mut Vec<String>,
) {
    let Some(term) = terms.iter().find(|t| t.text == text) else {
        faults.push(format!(
            "{FILE}: [elsewhere] `{text}` is no term of this file; correct it"
        ));
        return;
    };
    for slug in places.keys() {
        let early = chapters[..term.home].iter();
        let turn = early.clone().position(|c| c.slug() == slug);
        let needed =
            turn.is_some_and(|turn| lines(term, &pages[turn]).next().is_some());
        if !needed {
            faults.push(format!(
                "{FILE}: [elsewhere] `{text}`: the chapter {slug} does not use \
                 it before it is introduced; take the exception out"
            ));
        }
    }
}

impl Page {
    /// Whether this line looks ahead to a chapter: a link to it stands in the
    /// same paragraph, or above in the same section.
    fn points(&self, line: usize, slug: &str) -> bool {
        let (section, paragraph) = self.places[line - 1];
        self.links.iter().any(|(at, to)| {
            let (s, p) = self.places[at - 1];
            to == slug && s == section && (*at <= line || p == paragraph)
        })
    }
}

/// All chapters, read.
fn pages(
    chapters: &[Chapter], registry: &Registry, sources: &Sources,
) -> Result<Vec<Page>> {
    let mut shown = BTreeMap::new();
    for chapter in chapters {
        registry::rewrite(&chapter.text, |call| {
            if call.verb == "eq" {
                let slug = chapter.slug().to_string();
                shown.entry(call.argument.to_string()).or_insert(slug);
            }
            None
        });
    }
    let page = |c| page(c, &shown, registry, sources);
    chapters.iter().map(page).collect()
}

fn page(
    chapter: &Chapter, shown: &BTreeMap<String, String>, registry: &Registry,
    sources: &Sources,
) -> Result<Page> {
    let text = chapter.text.replace("\r\n", "\n");
    // Titles of papers use no term.
    let text = text.split("\n## Sources\n").next().unwrap_or_default();
    let (mut links, mut pieces) = (Vec::new(), Vec::new());
    // Directives become what they show, on their own line.
    let text = registry::rewrite(text, |call| {
        let (line, argument) = (call.line, call.argument);
        let first = argument.split([' ', '#']).next().unwrap_or_default();
        match call.verb {
            "chapter" | "number" => links.push((line, first.to_string())),
            "exercise" if argument.contains(' ') => {
                links.push((line, first.to_string()));
            }
            "ref" => links.extend(Some((line, shown.get(argument)?.clone()))),
            "eq" => {
                let tex = registry.get(argument)?.tex.replace('\n', " ");
                return Some(format!("$${tex}$$"));
            }
            "code" => {
                let target = argument.parse::<Target>().ok();
                let found = target.as_ref().and_then(|t| sources.find(t).ok());
                if let Some((source, item)) = found {
                    let text = source.text_of(item);
                    let how = Quote::new(&source.file, chapter.slug());
                    let parts = quote::parts(&text, how).into_iter();
                    let open = parts.filter(|p| p.folded.is_none());
                    let lines = open.flat_map(|p| p.lines);
                    let code: Vec<_> = lines.filter(|l| !comment(l)).collect();
                    let code = format!("{} {}", item.path, code.join(" "));
                    pieces.push(piece(Kind::Code, line, &code));
                }
            }
            _ => {}
        }
        Some(String::new())
    });
    let mut imports = Vec::new();
    read(&text, &mut pieces, &mut imports)?;
    let places = places(&chapter.text)?;
    Ok(Page { pieces, links, imports, places })
}

fn comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn piece(kind: Kind, line: usize, text: &str) -> Piece {
    let formula = kind == Kind::Letter;
    let tokens = if formula { tokens(text) } else { Vec::new() };
    Piece { kind, line, text: text.into(), tokens }
}

/// Prose, formulas and code of a text.
fn read(
    text: &str, pieces: &mut Vec<Piece>, imports: &mut Vec<(usize, String)>,
) -> Result<()> {
    let tag = pattern("<[^>]*>")?;
    let uses = pattern(r"use moe_by_hand::[^;]*;")?;
    let name = pattern(r"\b[A-Z][A-Za-z0-9]*[a-z]\w*")?;
    let lines = Lines::of(text);
    let (mut fenced, mut rust) = (false, false);
    // A paragraph is one piece: a term may be broken between two lines.
    let (mut prose, mut from) = (String::new(), 1);
    for (event, range) in Parser::new_ext(text, options()).into_offset_iter() {
        let line = lines.at(range.start);
        let inline = matches!(
            event,
            Event::Text(_)
                | Event::SoftBreak
                | Event::Code(_)
                | Event::InlineMath(_)
                | Event::Start(Tag::Emphasis | Tag::Strong | Tag::Link { .. })
                | Event::End(TagEnd::Emphasis | TagEnd::Strong | TagEnd::Link)
        );
        if !inline && !prose.is_empty() {
            pieces.push(piece(Kind::Word, from, &prose));
            prose.clear();
        }
        if prose.is_empty() {
            from = line;
        }
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(language))) => {
                fenced = true;
                rust = language.starts_with("rust");
            }
            Event::End(TagEnd::CodeBlock) => (fenced, rust) = (false, false),
            Event::Text(code) if rust => {
                let lines = code.lines();
                let code: String = lines
                    .map(|l| {
                        if comment(l) { "\n".into() } else { format!("{l}\n") }
                    })
                    .collect();
                for found in uses.find_iter(&code) {
                    let line = line - 1 + Lines::of(&code).at(found.start());
                    let names = name.find_iter(found.as_str());
                    imports.extend(names.map(|n| (line, n.as_str().into())));
                }
                pieces.push(piece(Kind::Code, line, &code));
                prose.clear();
            }
            // A command, or what it prints.
            Event::Text(_) if fenced => {}
            Event::Text(words) => prose += &words,
            Event::SoftBreak => prose.push('\n'),
            Event::Code(code) => {
                pieces.push(piece(Kind::Code, line, &code));
                prose += " ` ";
            }
            Event::InlineMath(tex) | Event::DisplayMath(tex) => {
                pieces.push(piece(Kind::Letter, line, &tex));
                if inline {
                    prose += " $ ";
                }
            }
            Event::Html(html) | Event::InlineHtml(html) => {
                let words = tag.replace_all(&html, " ");
                pieces.push(piece(Kind::Word, line, &words));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The commands and letters of a formula, without blanks and braces; words are
/// one token.
fn tokens(tex: &str) -> Vec<String> {
    const WORDS: [&str; 4] = ["text", "operatorname", "mathrm", "texttt"];
    let (mut tokens, mut rest) = (Vec::new(), tex);
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let length = match c {
            '\\' => after.find(|c: char| !c.is_ascii_alphabetic()),
            _ => Some(0),
        };
        let (name, after) = after.split_at(length.unwrap_or(after.len()));
        let group = after.find('}').map_or(after.len(), |at| at + 1);
        rest = match c {
            '\\' if WORDS.contains(&name) => {
                tokens.push(format!("{c}{name}{}", &after[..group]));
                &after[group..]
            }
            '\\' if ["begin", "end"].contains(&name) => &after[group..],
            // `\,` and its like
            '\\' if name.is_empty() => after.get(1..).unwrap_or_default(),
            c if c.is_whitespace() || "{}&".contains(c) => after,
            c => {
                tokens.push(format!("{c}{name}"));
                after
            }
        };
    }
    tokens
}

/// Section and paragraph of each line. An exercise is a section, and an item of
/// a list a paragraph.
fn places(text: &str) -> Result<Vec<(usize, usize)>> {
    let item = pattern(r"^[\s>]*(?:[-*+]|\d+[.)])\s")?;
    let starts: Vec<usize> = marks(text)?
        .into_iter()
        .filter(|(_, m)| matches!(m, Mark::Heading | Mark::Exercise(_)))
        .map(|(line, _)| line)
        .collect();
    let mut paragraph = 0;
    let place = |(line, text): (usize, &str)| {
        let blank = text.trim_matches([' ', '>', '\r']).is_empty();
        paragraph += usize::from(blank || item.is_match(text));
        (starts.partition_point(|&s| s <= line), paragraph)
    };
    Ok((1..).zip(text.split('\n')).map(place).collect())
}
