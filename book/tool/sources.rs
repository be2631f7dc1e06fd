//! Pages of the sources: each line has an anchor, so that an equation's code
//! and its tests are one click away, without a network.
//!
//! A renderer of its own, so that plain `mdbook` makes them too; they lie in
//! the folder `source` of the built book.

use crate::chapters::{Chapter, chapters, homes_of, numbered};
use crate::text::{escape, html};
use anyhow::{Context, Result};
use mdbook_renderer::{RenderContext, Renderer};
use registry::{Source, Sources};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Writes a page for each file of `src/` and `tests/`.
pub struct SourcePages;

impl Renderer for SourcePages {
    fn name(&self) -> &str {
        "sources"
    }

    fn render(&self, ctx: &RenderContext) -> Result<()> {
        let root = ctx.root.parent().context("the book lies at no project")?;
        let built = ctx.destination.parent().context("no build folder")?;
        write(root, &built.join("html/source"))?;
        // mdBook gives every renderer a folder; this one needs none.
        let _ = fs::remove_dir(&ctx.destination);
        Ok(())
    }
}

/// Where each equation is shown: the page of its chapter.
fn shown(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut shown = BTreeMap::new();
    for directive in registry::directives(root)?.unwrap_or_default() {
        if directive.verb == registry::Verb::Eq {
            let file = directive.file.trim_start_matches("book/src/");
            let page = html(file);
            shown.insert(directive.id, page);
        }
    }
    Ok(shown)
}

fn write(root: &Path, folder: &Path) -> Result<()> {
    let (shown, chapters) = (shown(root)?, chapters(root)?);
    for source in &Sources::load(root)?.files {
        let file = folder.join(format!("{}.html", source.file));
        fs::create_dir_all(file.parent().unwrap_or(folder))?;
        fs::write(file, page(source, &shown, &chapters))?;
    }
    fs::create_dir_all(folder)?;
    fs::write(folder.join("source.css"), include_str!("source.css"))?;
    fs::write(folder.join("source.js"), include_str!("source.js"))?;
    Ok(())
}

/// One file: numbered lines, comments set off, marks linked to equations.
fn page(
    source: &Source, shown: &BTreeMap<String, String>, chapters: &[Chapter],
) -> String {
    let file = &source.file;
    let up = "../".repeat(file.matches('/').count());
    let homes = homes_of(source).into_iter().filter_map(|slug| {
        let (chapter, number) = numbered(chapters, slug).ok()?;
        let page = html(&chapter.file);
        let link = format!("<a href=\"{up}../{page}\">Chapter {number}</a>");
        Some(format!(" · {link}"))
    });
    let home: String = homes.collect();
    let lines = lines(source, shown, &up);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{file}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <link rel=\"stylesheet\" href=\"{up}source.css\">\n\
         <script src=\"{up}source.js\"></script>\n</head>\n<body>\n\
         <header><a href=\"{up}../index.html\">The book</a>{home} · \
         <b>{file}</b></header>\n<main><pre tabindex=\"0\">{lines}</pre>\
         </main>\n</body>\n</html>\n"
    )
}

/// The lines of a file, each with its anchor.
fn lines(
    source: &Source, shown: &BTreeMap<String, String>, up: &str,
) -> String {
    let mut lines = String::new();
    for (number, line) in (1..).zip(source.text.lines()) {
        let marks = source.marks.iter().filter(|m| m.line == number);
        let mut text = escape(line);
        for mark in marks {
            if let Some(page) = shown.get(&mark.id) {
                let id = &mark.id;
                let link =
                    format!("<a href=\"{up}../{page}#eq-{id}\">{id}</a>");
                text = text.replacen(id, &link, 1);
            }
        }
        let bare = line.trim_start();
        let class = if bare.starts_with("///") || bare.starts_with("//!") {
            " class=\"doc\""
        } else if bare.starts_with("//") {
            " class=\"comment\""
        } else {
            ""
        };
        let _ = write!(
            lines,
            "<span id=\"L{number}\"><a class=\"n\" href=\"#L{number}\">\
             {number}</a><span{class}>{text}</span>\n</span>"
        );
    }
    lines
}
