//! KaTeX typesets the formulas that `formula` marked. A book has thousands, and
//! most of them are as they were at the last build: what was made of them is
//! kept.
//!
//! The formulas come into the pages when these are done: KaTeX makes hundreds
//! of elements of one, MathML and a picture, and mdBook would go through them
//! all. It gets the words, for its search.

use crate::formula::{AT, DISPLAY, FROM, INLINE, TO};
use crate::text::{escape, hex};
use anyhow::{Context, Result, ensure};
use mdbook_preprocessor::PreprocessorContext;
use mdbook_preprocessor::book::Book;
use quick_js::{Context as Engine, ExecutionError, JsValue};
use regex::{Captures, Regex};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

/// A formula that KaTeX typeset.
#[derive(Debug, Serialize, Deserialize)]
struct Typeset {
    html: String,
    /// What the search finds, which Markdown leaves as it is.
    words: String,
}
/// What became of a formula, by its key; or KaTeX's words on why nothing did.
type Made = BTreeMap<String, Result<Typeset, String>>;
/// Formulas by key.
type Kept = BTreeMap<String, Typeset>;

/// KaTeX as it was released.
const KATEX: &str = include_str!("katex/katex.min.js");
const VERSION: &str = "0.16.4";
/// What we call of it.
const TYPESET: &str = "function typeset(tex, displayMode) {
    return katex.renderToString(tex, { displayMode, output: 'htmlAndMathml' })
}";

/// Formulas that are worth a thread of their own, which has to start KaTeX.
const MANY: usize = 64;

/// Whether the stylesheet is of the KaTeX that typesets.
pub(crate) fn has_its_stylesheet(ctx: &PreprocessorContext) -> Result<()> {
    let file = "katex/katex.min.css";
    let path = ctx.root.join(&ctx.config.book.src).join(file);
    let css = fs::read_to_string(path).context(file)?;
    ensure!(
        css.contains(&format!("\"{VERSION}\"")),
        "{file} is not of KaTeX {VERSION}, which typesets; take that of its \
         release"
    );
    Ok(())
}

/// Typesets each marked formula and puts its words in its place. What KaTeX
/// rejects goes to `faults`.
pub(crate) fn all(
    root: &Path, book: &mut Book, faults: &mut Vec<String>,
) -> Result<()> {
    let marked = format!("(?s){FROM}(.*?){AT}([{INLINE}{DISPLAY}])(.*?){TO}");
    let marked = Regex::new(&marked)?;
    let mut known = load(root);
    let mut new = BTreeMap::new();
    book.for_each_chapter_mut(|chapter| {
        for c in marked.captures_iter(&chapter.content) {
            let (display, tex) = read(&c);
            let key = key(tex, display);
            if !known.contains_key(&key) {
                new.insert(key, (tex.to_string(), display));
            }
        }
    });
    let (before, mut wrong) = (known.len(), BTreeMap::new());
    let is_new = !new.is_empty();
    for (key, made) in make(new.into_iter().collect())? {
        match made {
            Ok(made) => drop(known.insert(key, made)),
            Err(why) => drop(wrong.insert(key, why)),
        }
    }
    let (mut rejected, mut used) = (Vec::new(), BTreeSet::new());
    book.for_each_chapter_mut(|chapter| {
        let text = marked.replace_all(&chapter.content, |c: &Captures| {
            let (display, tex) = read(c);
            let key = key(tex, display);
            if let Some(why) = wrong.get(&key) {
                rejected.push(format!("{}: {why}", &c[1]));
                let tex = seal(&escape(tex));
                return format!("<span class=\"problem\">{tex}</span>");
            }
            let words = known.get(&key).map_or("", |made| &made.words);
            let words = format!("{PLACE}{key}{BEGIN}{words}{END}");
            used.insert(key);
            words
        });
        chapter.content = text.into_owned();
    });
    // A chapter and the equation map show the same formula.
    rejected.sort();
    rejected.dedup();
    faults.extend(rejected);
    known.retain(|key, _| used.contains(key));
    match is_new || known.len() < before {
        true => keep(root, &known),
        false => Ok(()),
    }
}

/// Whether a marked formula is a display, and its TeX.
fn read<'a>(c: &Captures<'a>) -> (bool, &'a str) {
    let is_display = c[2].starts_with(DISPLAY);
    (is_display, c.get(3).map_or("", |tex| tex.as_str()))
}

/// The key of a formula: it depends on all that its HTML depends on.
fn key(tex: &str, display: bool) -> String {
    let tool = env!("CARGO_PKG_VERSION");
    let hash = Sha256::digest(format!("{VERSION} {tool} {display} {tex}"));
    hex(&hash[..16])
}

/// Typesets formulas on all processors.
fn make(formulas: Vec<(String, (String, bool))>) -> Result<Made> {
    let most = thread::available_parallelism().map_or(1, usize::from);
    let threads = formulas.len().div_ceil(MANY).clamp(1, most);
    let each = formulas.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let parts = formulas.chunks(each).map(|part| {
            scope.spawn(|| -> Result<Vec<_>> {
                let katex = katex()?;
                let made = part.iter().map(|(key, (tex, display))| {
                    (key.clone(), one(&katex, tex, *display))
                });
                Ok(made.collect())
            })
        });
        let parts: Vec<_> = parts.collect();
        let mut made = Made::new();
        for part in parts {
            let part = part.join().unwrap_or_else(|e| resume_unwind(e));
            made.extend(part?);
        }
        Ok(made)
    })
}

/// KaTeX, ready to typeset.
fn katex() -> Result<Engine> {
    let engine = Engine::new()?;
    engine.eval(KATEX)?;
    engine.eval(TYPESET)?;
    Ok(engine)
}

/// A formula in HTML, or KaTeX's words on why there is none.
fn one(katex: &Engine, tex: &str, display: bool) -> Result<Typeset, String> {
    let (tex, display) = (JsValue::String(tex.into()), display.into());
    let html = katex
        .call_function("typeset", [tex, display])
        .map(|html| html.into_string().unwrap_or_default())
        .map_err(|e| format!("{}; correct the formula", message(&e)))?;
    let html = html.replace('\n', " ");
    // MathML repeats the TeX, for programs that do not read formulas.
    let html = match (html.find("<annotation "), html.find("</annotation>")) {
        (Some(from), Some(to)) => {
            format!("{}{}", &html[..from], &html[to + 13..])
        }
        _ => html,
    };
    let (mathml, picture) = html
        .split_once("<span class=\"katex-html\"")
        .ok_or("KaTeX has drawn no picture")?;
    Ok(Typeset { words: words(mathml), html: whole(&html, picture) })
}

/// The words of some HTML, as mdBook's search takes them: each element begins
/// one.
fn words(html: &str) -> String {
    let mut words = String::new();
    for part in html.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap_or_default();
        if !tag.starts_with('/') {
            words.push(' ');
        }
        words += text;
    }
    seal(&words) + " "
}

// What stands in the pages for a formula: PLACE key BEGIN words END.
const PLACE: &str = "<span data-formula=\"";
const BEGIN: &str = "\">";
const END: &str = "</span>";

/// Puts the formulas into pages.
pub(crate) struct Formulas(Kept);

impl Formulas {
    /// Those of the project at `root`, whose chapters were typeset.
    pub(crate) fn load(root: &Path) -> Formulas {
        Formulas(load(root))
    }

    /// The page with each formula in its place.
    pub(crate) fn put_into(&self, page: &str) -> Result<String> {
        let mut parts = page.split(PLACE);
        let mut out = parts.next().unwrap_or_default().to_string();
        for part in parts {
            let (key, rest) = part.split_once(BEGIN).unwrap_or_default();
            let (_, after) = rest.split_once(END).unwrap_or_default();
            let made = self.0.get(key).context(
                "target/book/formulas.json lacks a formula: another build has \
                 changed it; build again",
            )?;
            out += &made.html;
            out += after;
        }
        Ok(out)
    }
}

/// KaTeX's own words, out of the quotes of the script engine.
fn message(error: &ExecutionError) -> String {
    let text =
        error.to_string().replace(r"\\", r"\").replace(r"\u{332}", "\u{332}");
    let start = text.find("KaTeX parse error").unwrap_or(0);
    text[start..].trim_end_matches([')', '"', ' ']).to_string()
}

/// Writes the punctuation between tags as entities.
fn seal(html: &str) -> String {
    let mut sealed = String::with_capacity(2 * html.len());
    let mut in_tag = false;
    for c in html.chars() {
        in_tag = (in_tag || c == '<') && c != '>';
        if in_tag || "<>&;#\n".contains(c) || !c.is_ascii_punctuation() {
            sealed.push(if c == '\n' { ' ' } else { c });
        } else {
            sealed += &format!("&#{};", c as u32);
        }
    }
    sealed
}

/// A formula of so many letters is not parted at the end of a line. They are
/// counted after [`seal`], which writes `+` with five.
const SHORT: usize = 24;

/// Marks a formula that is to stay in one piece.
fn whole(html: &str, picture: &str) -> String {
    let (mut letters, mut inside) = (0, true);
    for c in seal(picture).chars() {
        inside = (inside || c == '<') && c != '>';
        letters += usize::from(!inside && c != '>');
    }
    let begin = "<span class=\"katex\">";
    match html.strip_prefix(begin) {
        Some(rest) if letters <= SHORT => {
            format!("<span class=\"katex whole\">{rest}")
        }
        _ => html.to_string(),
    }
}

/// What the last build kept; a folder without it has none.
fn load(root: &Path) -> Kept {
    let kept = fs::read_to_string(root.join("target/book/formulas.json"));
    let kept = kept.ok().and_then(|t| serde_json::from_str(&t).ok());
    kept.unwrap_or_default()
}

/// Keeps what this build used.
fn keep(root: &Path, used: &Kept) -> Result<()> {
    fs::create_dir_all(root.join("target/book"))?;
    let file = root.join("target/book/formulas.json");
    let new = file.with_extension("new");
    fs::write(&new, serde_json::to_string(used)?)?;
    Ok(fs::rename(new, file)?)
}

#[cfg(test)]
mod tests {
    use super::{katex, one};

    /// KaTeX's engine has a stack of its own, and how much of it a call takes
    /// depends on how it was compiled.
    #[test]
    fn fractions_in_fractions_are_typeset() {
        let (open, close) = ("\\frac{1}{1+\\sqrt{".repeat(6), "}}".repeat(6));
        let katex = katex().expect("KaTeX starts");
        let made = one(&katex, &format!("{open}x{close}"), true);
        assert!(made.is_ok(), "{made:?}");
        let why = one(&katex, "\\lvret x", false).expect_err("no such command");
        assert!(why.contains("\\lvret"), "{why}");
    }
}
