//! Leads mdbook-katex to the formulas of the book, and only there, and looks
//! after it: `mark` runs before it, the preprocessor `katex-guard` after it.

use crate::directives::all_well;
use crate::typeset::{self, Typeset};
use anyhow::{Context, Result, ensure};
use mdbook_katex::cfg::KatexConfig;
use mdbook_katex::preprocess::KATEX_HEADER;
use mdbook_preprocessor::book::{Book, Chapter};
use mdbook_preprocessor::{Preprocessor, PreprocessorContext};
use pulldown_cmark::{Event, Parser, Tag, TagEnd};
use regex::{Captures, Regex};
use std::path::Path;

// Characters for private use, of which a text has none. mdbook-katex knows
// the first three as its delimiters and takes them away with the formula.
const INLINE: char = '\u{E000}';
const DISPLAY: char = '\u{E001}';
const END: char = '\u{E002}';
// These stay around its HTML until the guard has read it: FROM place, AT html, TO.
const FROM: char = '\u{E003}';
const AT: char = '\u{E004}';
const TO: char = '\u{E005}';
/// Stands for a backtick, which mdbook-katex pairs by rules of its own.
const TICK: char = '\u{E006}';
/// Before the key of a formula: one to be typeset, or one that was before.
const KEY: char = '\u{E007}';

/// A formula as mdbook-katex will find it, or the key of one that it has typeset
/// before; `place` is for messages.
pub fn formula(place: &str, tex: &str, display: bool) -> String {
    let (tex, key) = (tex.trim(), typeset::key(tex, display));
    if typeset::find(&key).is_some() {
        return format!("{FROM}{place}{KEY}{key}{AT}{KEY}{key}{TO}");
    }
    let start = if display { DISPLAY } else { INLINE };
    // The blank: no `\` may touch END.
    format!("{FROM}{place}{KEY}{key}{AT}{start}{tex} {END}{TO}")
}

/// Hides the backticks outside formulas; the last thing before mdbook-katex.
pub fn hide_backticks(text: &str) -> String {
    let mut inside = false;
    let hide = |c| {
        inside = (inside || c == INLINE || c == DISPLAY) && c != END;
        if c == '`' && !inside { TICK } else { c }
    };
    text.chars().map(hide).collect()
}

/// mdbook-katex takes its defaults, a stylesheet from the network among them,
/// when one value of its table has a wrong type. So the table is read first.
pub fn config(ctx: &PreprocessorContext) -> Result<KatexConfig> {
    let table = "book.toml: [preprocessor.katex]";
    let katex: KatexConfig =
        ctx.config.get("preprocessor.katex").context(table)?.context(table)?;
    ensure!(
        katex.no_css && katex.pre_render && katex.throw_on_error,
        "{table}: no-css must be true; pre-render and throw-on-error too (their default)"
    );
    ensure!(
        katex.output == "htmlAndMathml"
            && !katex.include_src
            && katex.macros.is_none(),
        "{table}: write output = \"htmlAndMathml\", and neither include-src \
         nor macros"
    );
    let (i, b) = (&katex.inline_delimiter, &katex.block_delimiter);
    let delimiters = [&i.left, &i.right, &b.left, &b.right];
    ensure!(
        delimiters
            .into_iter()
            .eq(&[INLINE, END, DISPLAY, END].map(String::from)),
        "{table}: the delimiters are not those of book/tool/guard.rs"
    );
    let css = std::fs::read_to_string(
        ctx.root.join(&ctx.config.book.src).join("katex/katex.min.css"),
    )
    .context("katex/katex.min.css")?;
    let version = katex::KATEX_VERSION.trim();
    ensure!(
        css.contains(&format!("\"{version}\"")),
        "katex/katex.min.css is not of KaTeX {version}, which mdbook-katex runs"
    );
    for (step, key) in [("directives", "before"), ("katex-guard", "after")] {
        let others: Vec<String> = ctx
            .config
            .get(&format!("preprocessor.{step}.{key}"))?
            .unwrap_or_default();
        ensure!(
            others.iter().any(|name| name == "katex"),
            "book.toml: [preprocessor.{step}] needs {key} = [\"katex\"]"
        );
    }
    Ok(katex)
}

/// Marks `$…$` and `$$…$$` of a chapter as Markdown understands them.
pub fn mark(chapter: &mut Chapter, src: &Path, errors: &mut Vec<String>) {
    let file = chapter.source_path.clone().unwrap_or_default();
    let source = format!(
        "\n{}\n",
        std::fs::read_to_string(src.join(&file)).unwrap_or_default()
    );
    let text = &chapter.content;
    // Other files are included in `text`: its lines are looked up in the source.
    let place = |lines: &str| match source
        .find(&format!("\n{}\n", lines.trim_end_matches('\n')))
    {
        Some(at) => format!(
            "{}:{}",
            file.display(),
            source[..at].matches('\n').count() + 1
        ),
        None => file.display().to_string(),
    };

    if text.contains(|c| (INLINE..=KEY).contains(&c)) {
        errors.push(format!("{}: has characters U+E000 to U+E007, which book/tool/guard.rs needs", file.display()));
    }

    let options = crate::chapters::options();
    // A `$$` at the end of a line opens a display, one alone on a line closes
    // it: inside, a line that begins with `+` is no list.
    let blocks = Parser::new_ext(text, options).into_offset_iter();
    let code: Vec<_> = blocks
        .filter(|(e, _)| matches!(e, Event::Start(Tag::CodeBlock(_))))
        .map(|(_, range)| range)
        .collect();
    let mut out = String::with_capacity(text.len());
    let mut open: Option<(usize, &str, String)> = None; // where, prefix, formula
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let body = line.trim_start_matches([' ', '\t', '>']);
        match (&mut open, line.trim_end().strip_suffix("$$")) {
            (Some((start, prefix, tex)), Some(_))
                if body.trim_end() == "$$" =>
            {
                out += &format!(
                    "{prefix}{}\n",
                    formula(&place(&text[*start..at]), tex, true)
                );
                open = None;
            }
            (Some((_, prefix, tex)), _) => {
                *tex += line.strip_prefix(*prefix).unwrap_or(body)
            }
            (None, Some(prefix))
                if is_closed(prefix)
                    && !code
                        .iter()
                        .any(|range| range.contains(&(at + prefix.len()))) =>
            {
                open = Some((at, prefix, String::new()));
            }
            _ => out += line,
        }
        at += line.len();
    }
    if let Some((start, ..)) = open {
        errors.push(format!("{}: `$$` is never closed", place(&text[start..])));
    }

    // The rest stands inside paragraphs, where the Markdown parser finds it.
    let mut found = Vec::new();
    let (mut verbatim, mut bare_heading) = (0, false);
    for (event, range) in Parser::new_ext(&out, options).into_offset_iter() {
        let begin = out[..range.start].rfind('\n').map_or(0, |at| at + 1);
        let place = || place(out[begin..].lines().next().unwrap_or_default());
        match event {
            Event::Start(Tag::CodeBlock(_) | Tag::Image { .. }) => {
                verbatim += 1
            }
            Event::End(TagEnd::CodeBlock | TagEnd::Image) => verbatim -= 1,
            Event::Start(Tag::Heading { id, .. }) => {
                bare_heading = id.is_none()
            }
            Event::End(TagEnd::Heading(_)) => bare_heading = false,
            Event::InlineMath(_) | Event::DisplayMath(_) if bare_heading => {
                errors.push(format!("{}: a heading with a formula needs an id, `{{#some-name}}` at its end", place()));
            }
            Event::InlineMath(tex) if verbatim == 0 => {
                found.push((formula(&place(), &tex, false), range))
            }
            Event::DisplayMath(tex) if verbatim == 0 => {
                found.push((formula(&place(), &tex, true), range))
            }
            Event::Text(text)
                if verbatim == 0
                    && text.contains('$')
                    && !out[..range.start].ends_with('\\') =>
            {
                errors.push(format!("{}: a lone `$`: write `\\$` for a dollar, `\\lvert` for a bar in a table", place()));
            }
            Event::Html(html) if html.matches('$').count() > 1 => {
                errors.push(format!("{}: no formula is read inside HTML: leave a blank line before it", place()));
            }
            _ => {}
        }
    }
    for (formula, range) in found.into_iter().rev() {
        out.replace_range(range, &formula);
    }
    chapter.content = out;
}

/// Whether every formula of this line's beginning ends in it.
fn is_closed(prefix: &str) -> bool {
    let bare = prefix.replace("\\$", "");
    !bare.contains("$$") && bare.matches('$').count().is_multiple_of(2)
}

/// Runs after mdbook-katex: no formula is left over, and Markdown has nothing
/// to act on in those that were typeset.
pub struct KatexGuard;

impl Preprocessor for KatexGuard {
    fn name(&self) -> &str {
        "katex-guard"
    }

    fn supports_renderer(&self, renderer: &str) -> Result<bool> {
        Ok(renderer == "html")
    }

    fn run(&self, ctx: &PreprocessorContext, mut book: Book) -> Result<Book> {
        let (inline, display) = config(ctx)?.build_opts(&ctx.root);
        let marked = Regex::new(&format!("(?s){FROM}(.*?){AT}(.*?){TO}"))?;
        let annotation = Regex::new("(?s)<annotation .*?</annotation>")?;
        let root = ctx.root.parent().context("the book lies at no project")?;
        typeset::load(root);
        let (mut errors, mut used) = (Vec::new(), Typeset::new());
        book.for_each_chapter_mut(|chapter| {
            let text = marked.replace_all(&chapter.content, |c: &Captures| {
                let (place, key) = c[1].split_once(KEY).unwrap_or_default();
                let html = match c[2].strip_suffix(END) {
                    None if c[2].starts_with(KEY) => typeset::find(key),
                    None => Some(seal(&annotation.replace_all(&c[2], ""))),
                    // Left alone by mdbook-katex.
                    Some(tex) => {
                        let made = match tex.strip_prefix(DISPLAY) {
                            Some(tex) => katex::render_with_opts(tex, &display),
                            None => katex::render_with_opts(
                                tex.trim_start_matches(INLINE),
                                &inline,
                            ),
                        };
                        errors.push(match made {
                            Err(e) => {
                                let words = message(&e);
                                format!("{place}: {words}; correct the formula")
                            }
                            Ok(_) => format!(
                                "{place}: left alone by mdbook-katex: does it \
                                 run before katex-guard?"
                            ),
                        });
                        None
                    }
                };
                let html = html.unwrap_or_default();
                used.insert(key.to_string(), html.clone());
                html
            });
            if text.contains(KATEX_HEADER.trim()) {
                errors.push(format!(
                    "{}: mdbook-katex wrote a link to the network",
                    chapter.name
                ));
            }
            chapter.content = text.replace(TICK, "`");
        });
        // A chapter and the equation map show the same formula.
        errors.sort();
        errors.dedup();
        all_well(&errors)?;
        typeset::keep(root, used)?;
        Ok(book)
    }
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
