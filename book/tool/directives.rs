//! The directives of a chapter become Markdown and HTML: numbered equations
//! with links to code and proof, quoted source, figures, numbers of chapters
//! and exercises, generated pages.

use crate::chapters::{Chapter, numbered, set_off_kinds, tally, writing};
use crate::facts::Facts;
use crate::formula::{self, Written};
use crate::pages::{code_of, planted_in, proof_of, tests_of};
use crate::quote::{self, Quote};
use crate::text::{all_well, escape, html, page_of};
use crate::{columns, figures, ladder, pages, typeset};
use anyhow::{Context, Result};
use mdbook_preprocessor::book::{Book, SectionNumber};
use mdbook_preprocessor::{Preprocessor, PreprocessorContext};
use registry::{Call, Target};

/// The page that says how a reader writes what computes an equation.
const BUILD_IT: &str = "build-it.md";

/// The step that comes before Markdown is read. That the rules are kept is
/// checked beside it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Directives {
    /// Print what is wrong, and go on.
    pub draft: bool,
}

impl Preprocessor for Directives {
    fn name(&self) -> &str {
        "directives"
    }

    fn supports_renderer(&self, renderer: &str) -> Result<bool> {
        Ok(renderer == "html")
    }

    fn run(&self, ctx: &PreprocessorContext, mut book: Book) -> Result<Book> {
        let root = ctx.root.parent().context("the book lies at no project")?;
        typeset::has_its_stylesheet(ctx)?;
        book.for_each_chapter_mut(|chapter| {
            chapter.content = chapter.content.replace("\r\n", "\n");
        });
        let facts = Facts::gather(root, &book)?;
        let mut faults = Vec::new();
        book.for_each_chapter_mut(|chapter| {
            let path = chapter.source_path.clone().unwrap_or_default();
            let file = path.display().to_string();
            let number = facts.number(&file);
            let chapter_here = facts.chapters.iter().find(|c| c.file == file);
            let text = chapter_here.map_or("", |c| &c.text);
            let written = Written { file: &file, text };
            let text = formula::mark(&chapter.content, &written, &mut faults);
            let text = columns::align(&text);
            let times = chapter_here.map(|c| tally(c, &facts.sources).times());
            let times = times.unwrap_or_default();
            chapter.content = facts.expand(&text, number, &times);
            chapter.number = number.map(|n| SectionNumber::new([n]));
        });
        typeset::all(root, &mut book, &mut faults)?;
        if !self.draft {
            all_well(&faults)?;
        }
        for fault in &faults {
            eprintln!("draft: {fault}");
        }
        Ok(book)
    }
}

impl Facts {
    /// The text of the chapter of this number, with its directives carried
    /// out, the number before its title, and below it the times it takes.
    fn expand(&self, text: &str, number: Option<u32>, times: &str) -> String {
        let text = set_off_kinds(text).unwrap_or_else(|_| text.to_string());
        let text = registry::rewrite(&text, |call| {
            let made = self.made(call, number).transpose()?;
            // Only a draft comes this far with something missing.
            Some(made.unwrap_or_else(|e| {
                let (verb, argument) = (call.verb, call.argument);
                let e = escape(&format!("{verb} {argument}: {e:#}"));
                format!("<span class=\"problem\">{e}</span>")
            }))
        });
        match (number, text.strip_prefix("# ")) {
            (Some(number), Some(text)) => {
                let (title, text) = text.split_once('\n').unwrap_or((text, ""));
                format!(
                    "# {number}. {title}\n\n<p class=\"times\">{times}</p>\n\
                     {text}"
                )
            }
            _ => text,
        }
    }

    /// What a directive becomes; `None` is for mdBook's own.
    fn made(&self, call: &Call, of: Option<u32>) -> Result<Option<String>> {
        let argument = call.argument;
        Ok(Some(match call.verb {
            "eq" => self.equation(argument)?,
            "ref" => self.reference(argument)?,
            "chapter" => self.chapter("Chapter ", argument)?,
            "number" => self.chapter("", argument)?,
            "exercise" => self.exercise(argument, of)?,
            "code" => self.code(argument, of)?,
            "figure" => figures::figure(&self.root, argument)?,
            "ladder" => ladder::ladder(&self.root, argument)?,
            "equation-map" => pages::equation_map(self),
            "notation" => pages::notation(self)?,
            "symbol-index" => pages::symbol_index(self)?,
            "code-index" => pages::code_index(self),
            _ => return Ok(None),
        }))
    }

    /// `{{#exercise 5}}` begins an exercise of this chapter, and
    /// `{{#exercise slug 5}}` is a link to one.
    fn exercise(&self, argument: &str, of: Option<u32>) -> Result<String> {
        let Some((slug, n)) = argument.split_once(' ') else {
            let of = of.context("this page has no number for it")?;
            let n = argument;
            return Ok(format!(
                "<span id=\"exercise-{n}\">Exercise {of}.{n}</span>"
            ));
        };
        let (chapter, number) = numbered(&self.chapters, slug)?;
        let page = html(&chapter.file);
        Ok(format!("<a href=\"{page}#exercise-{n}\">Exercise {number}.{n}</a>"))
    }

    /// `{{#eq id}}`
    fn equation(&self, id: &str) -> Result<String> {
        let (equation, shown) = self.shown(id)?;
        let name = escape(&equation.name);
        let mut caption = vec![format!("<b>{name}</b>")];
        if let Some(places) = self.places.get(id) {
            let code = code_of(equation, places);
            caption.extend(code.map(|code| format!("code {code}")));
            let built = |c: &Chapter| c.file == BUILD_IT;
            if let Some(target) = &equation.code
                && self.chapters.iter().any(built)
            {
                let (source, item) = self.sources.find(target)?;
                caption.push(format!(
                    "<a href=\"{}\">write it yourself</a>, {} minutes, \
                     <code>cargo course hint {id}</code>",
                    html(BUILD_IT),
                    writing(&source.text_of(item))
                ));
            }
            let tests = tests_of(equation, places).join(", ");
            match proof_of(places) {
                Some(proof) => caption
                    .push(format!("proven by {proof}\u{a0}· test {tests}")),
                None if !tests.is_empty() => {
                    caption.push(format!("proven by {tests}"));
                }
                None => {}
            }
            let planted = planted_in(places);
            if !planted.is_empty() {
                caption.push(format!("catches {}", planted.join("; ")));
            }
        }
        if let Some(why) = &equation.no_code {
            caption.push(format!("no code: {}", escape(why)));
        }
        if let (Some(map), true) =
            (&self.map, self.measured.rungs.contains_key(id))
        {
            let map = html(map);
            caption.push(format!("<a href=\"{map}#proof-{id}\">measured</a>"));
        }
        // The last part stays with the one before it, which is a name.
        let last = caption.pop().unwrap_or_default();
        let caption = match caption.join(" · ") {
            before if before.is_empty() => last,
            before => format!("{before}\u{a0}·\u{a0}{last}"),
        };
        let place = format!("equations.toml: [{id}]");
        let tex = formula::formula(&place, &equation.tex, true);
        let number = shown.number();
        Ok(format!(
            "\n<figure class=\"equation\" id=\"eq-{id}\">\n\
             <div class=\"formula\" tabindex=\"0\">{tex}</div>\n\
             <a class=\"number\" href=\"#eq-{id}\" \
             aria-label=\"Equation {number}\">({number})</a>\n\
             <figcaption>{caption}</figcaption>\n</figure>\n"
        ))
    }

    /// `{{#code file.rs::item}}`
    fn code(&self, argument: &str, of: Option<u32>) -> Result<String> {
        let target: Target = argument.parse()?;
        let (source, item) = self.sources.find(&target)?;
        let (file, first) = (&source.file, item.first);
        let here = |c: &&Chapter| c.number.is_some() && c.number == of;
        let here = self.chapters.iter().find(here);
        let how = Quote::new(file, here.map_or("", Chapter::slug));
        let text = source.text_of(item);
        let mut out = format!(
            "\n<p class=\"source\"><a href=\"{}\">{file}:{first}</a></p>\n\n\
             <div class=\"quoted\">\n\n",
            page_of(file, first)
        );
        for part in quote::parts(&text, how) {
            let (count, lines) = (part.lines.len(), part.lines.join("\n"));
            let code = format!("`````rs\n{lines}\n`````\n\n");
            out += &match part.folded {
                Some(what) => format!(
                    "<details class=\"folded\"><summary>… {what}: {count} \
                     {}</summary>\n\n{code}</details>\n\n",
                    if count == 1 { "line" } else { "lines" }
                ),
                None => code,
            };
        }
        Ok(out + "</div>\n")
    }
}
