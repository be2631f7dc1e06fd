//! Looks after mdbook-katex: its table in `book.toml` is what the book needs, and
//! every formula that `formula` marked was typeset.

use crate::formula::{AT, DISPLAY, END, FROM, INLINE, KEY, TICK, TO};
use crate::text::{PICTURE, all_well};
use crate::typeset::{self, Typeset};
use anyhow::{Context, Result, ensure};
use katex::Opts;
use mdbook_katex::cfg::KatexConfig;
use mdbook_katex::preprocess::KATEX_HEADER;
use mdbook_preprocessor::book::Book;
use mdbook_preprocessor::{Preprocessor, PreprocessorContext};
use regex::{Captures, Regex};

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
        "{table}: the delimiters are not those of book/tool/formula.rs"
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
                    Some(tex) => {
                        let why = left_alone(tex, &inline, &display);
                        errors.push(format!("{place}: {why}"));
                        None
                    }
                };
                let html = html.unwrap_or_default();
                let shown = mark_picture(&whole(&html));
                used.insert(key.to_string(), html);
                shown
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
            // Of an entity, the `;` counts.
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

/// Why mdbook-katex left this formula alone.
fn left_alone(tex: &str, inline: &Opts, display: &Opts) -> String {
    let made = match tex.strip_prefix(DISPLAY) {
        Some(tex) => katex::render_with_opts(tex, display),
        None => katex::render_with_opts(tex.trim_start_matches(INLINE), inline),
    };
    match made {
        Err(e) => format!("{}; correct the formula", message(&e)),
        Ok(_) => "left alone by mdbook-katex: does it run before katex-guard?"
            .to_string(),
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
