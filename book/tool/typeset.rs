//! KaTeX typesets the formulas that `formula` marked. A book has thousands, and
//! most of them are as they were at the last build: what was made of them is
//! kept.

use crate::formula::{AT, DISPLAY, FROM, INLINE, TO};
use crate::text::{PICTURE, escape, hex};
use anyhow::{Context, Result, ensure};
use katex::{Opts, OutputType};
use mdbook_preprocessor::PreprocessorContext;
use mdbook_preprocessor::book::Book;
use regex::{Captures, Regex};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;

/// What became of a formula, by its key: HTML, or KaTeX's words on why not.
type Made = BTreeMap<String, Result<String, String>>;
/// HTML by key.
type Kept = BTreeMap<String, String>;

/// Formulas that are worth a thread of their own, which has to start KaTeX.
const MANY: usize = 64;

/// Whether the stylesheet is of the KaTeX that typesets.
pub(crate) fn has_its_stylesheet(ctx: &PreprocessorContext) -> Result<()> {
    let file = "katex/katex.min.css";
    let path = ctx.root.join(&ctx.config.book.src).join(file);
    let css = fs::read_to_string(path).context(file)?;
    let version = katex::KATEX_VERSION.trim();
    ensure!(
        css.contains(&format!("\"{version}\"")),
        "{file} is not of KaTeX {version}, which typesets; take that of its \
         release"
    );
    Ok(())
}

/// Puts the HTML of each marked formula in its place, in which Markdown has
/// nothing to act on. What KaTeX rejects goes to `faults`.
pub(crate) fn all(
    root: &Path, book: &mut Book, faults: &mut Vec<String>,
) -> Result<()> {
    let marked = format!("(?s){FROM}(.*?){AT}([{INLINE}{DISPLAY}])(.*?){TO}");
    let marked = Regex::new(&marked)?;
    let known = load(root);
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
    let made = make(new.into_iter().collect());
    let (mut rejected, mut used) = (Vec::new(), Kept::new());
    book.for_each_chapter_mut(|chapter| {
        let text = marked.replace_all(&chapter.content, |c: &Captures| {
            let (display, tex) = read(c);
            let key = key(tex, display);
            let html = match (known.get(&key), made.get(&key)) {
                (Some(html), _) | (None, Some(Ok(html))) => html,
                (None, Some(Err(why))) => {
                    rejected.push(format!("{}: {why}", &c[1]));
                    let tex = seal(&escape(tex));
                    return format!("<span class=\"problem\">{tex}</span>");
                }
                (None, None) => return String::new(), // all were made
            };
            let shown = mark_picture(&whole(html));
            used.insert(key, html.clone());
            shown
        });
        chapter.content = text.into_owned();
    });
    // A chapter and the equation map show the same formula.
    rejected.sort();
    rejected.dedup();
    faults.extend(rejected);
    keep(root, &used)
}

/// Whether a marked formula is a display, and its TeX.
fn read<'a>(c: &Captures<'a>) -> (bool, &'a str) {
    let is_display = c[2].starts_with(DISPLAY);
    (is_display, c.get(3).map_or("", |tex| tex.as_str()))
}

/// The key of a formula: it depends on all that its HTML depends on.
fn key(tex: &str, display: bool) -> String {
    let version = katex::KATEX_VERSION.trim();
    let tool = env!("CARGO_PKG_VERSION");
    let hash = Sha256::digest(format!("{version} {tool} {display} {tex}"));
    hex(&hash[..16])
}

/// Typesets formulas on all processors.
fn make(formulas: Vec<(String, (String, bool))>) -> Made {
    let most = thread::available_parallelism().map_or(1, usize::from);
    let threads = formulas.len().div_ceil(MANY).clamp(1, most);
    let each = formulas.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let parts = formulas.chunks(each).map(|part| {
            scope.spawn(|| {
                let made = part.iter().map(|(key, (tex, display))| {
                    (key.clone(), one(tex, *display))
                });
                made.collect::<Vec<_>>()
            })
        });
        let parts: Vec<_> = parts.collect();
        parts
            .into_iter()
            .flat_map(|part| part.join().unwrap_or_default())
            .collect()
    })
}

/// The HTML of a formula, or KaTeX's words on why there is none.
fn one(tex: &str, display: bool) -> Result<String, String> {
    let opts = Opts::builder()
        .display_mode(display)
        .output_type(OutputType::HtmlAndMathml)
        .build()
        .map_err(|e| e.to_string())?;
    let html = katex::render_with_opts(tex, opts)
        .map_err(|e| format!("{}; correct the formula", message(&e)))?;
    // MathML repeats the TeX, for programs that do not read formulas.
    let html = match (html.find("<annotation "), html.find("</annotation>")) {
        (Some(from), Some(to)) => {
            format!("{}{}", &html[..from], &html[to + 13..])
        }
        _ => html,
    };
    Ok(seal(&html))
}

/// KaTeX's own words, out of the quotes of the script engine.
fn message(error: &katex::Error) -> String {
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

/// A formula of so many letters is not parted at the end of a line.
const SHORT: usize = 24;

/// Marks a formula that is to stay in one piece.
fn whole(html: &str) -> String {
    let begin = "<span class=\"katex\">";
    let picture = html.split_once("<span class=\"katex-html\"");
    let (mut letters, mut inside) = (0, true);
    for c in picture.map_or("", |(_, p)| p).chars() {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            // An entity counts once, by its `;`.
            '&' | '#' | '0'..='9' | '\u{200b}' if inside => {}
            _ => letters += usize::from(!inside),
        }
    }
    match html.strip_prefix(begin) {
        Some(rest) if letters <= SHORT => {
            format!("<span class=\"katex whole\">{rest}")
        }
        _ => html.to_string(),
    }
}

/// Marks what the search shall not find: see [`PICTURE`].
fn mark_picture(html: &str) -> String {
    match html.split_once("<span class=\"katex-html\"") {
        Some((words, picture)) => {
            let class = "<span class=\"katex-html\"";
            format!("{words}{PICTURE}{class}{picture}{PICTURE}")
        }
        None => html.to_string(),
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
    use super::one;

    /// KaTeX's engine has a stack of its own, and how much of it a call takes
    /// depends on how it was compiled.
    #[test]
    fn fractions_in_fractions_are_typeset() {
        let (open, close) = ("\\frac{1}{1+\\sqrt{".repeat(6), "}}".repeat(6));
        let made = one(&format!("{open}x{close}"), true);
        assert!(made.is_ok(), "{made:?}");
        let why = one("\\lvret x", false).expect_err("no such command");
        assert!(why.contains("\\lvret"), "{why}");
    }
}
