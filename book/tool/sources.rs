//! Pages of the sources: each line has an anchor, so that an equation's code
//! and its tests are one click away, without a network. They lie in the folder
//! `source` of the built book.
//!
//! A renderer of its own, so that plain `mdbook` makes them too. It comes when
//! the book's pages are written, and puts into these what mdBook need not see:
//! the formulas, and where lines end within names in tables.

use crate::chapters::{Chapter, chapters, homes_of, numbered};
use crate::ends;
use crate::paint::{self, Kind};
use crate::text::{escape, html};
use crate::typeset::Formulas;
use anyhow::{Context, Result};
use mdbook_renderer::{RenderContext, Renderer};
use registry::{Source, Sources};
use std::collections::BTreeMap;
use std::fs;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

/// Writes a page for each file of `src/` and `tests/`, and finishes the others.
pub struct SourcePages;

impl Renderer for SourcePages {
    fn name(&self) -> &str {
        "sources"
    }

    fn render(&self, ctx: &RenderContext) -> Result<()> {
        let root = ctx.root.parent().context("the book lies at no project")?;
        let built = ctx.destination.parent().context("no build folder")?;
        let html = built.join("html");
        let folder = html.join("source");
        let (written, finished) = thread::scope(|scope| {
            let written = scope.spawn(|| write(root, &folder));
            let finished = finish(root, &html);
            (written.join(), finished)
        });
        written.unwrap_or_else(|panic| resume_unwind(panic))?;
        finished?;
        // mdBook gives every renderer a folder; this one needs none.
        let _ = fs::remove_dir(&ctx.destination);
        Ok(())
    }
}

/// Completes the pages that mdBook wrote.
fn finish(root: &Path, html: &Path) -> Result<()> {
    let formulas = Formulas::load(root);
    for entry in fs::read_dir(html)? {
        let page = entry?.path();
        if page.extension().is_some_and(|e| e == "html") {
            let text = formulas.put_into(&fs::read_to_string(&page)?)?;
            fs::write(page, ends::mark(&text)?)?;
        }
    }
    Ok(())
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
    let files = Sources::load(root)?.files;
    for (i, source) in files.iter().enumerate() {
        let file = folder.join(format!("{}.html", source.file));
        fs::create_dir_all(file.parent().unwrap_or(folder))?;
        let before = i.checked_sub(1).and_then(|i| files.get(i));
        let neighbors = [before, files.get(i + 1)];
        fs::write(file, page(source, neighbors, &shown, &chapters))?;
    }
    fs::create_dir_all(folder)?;
    fs::write(folder.join("source.css"), include_str!("source.css"))?;
    fs::write(folder.join("source.js"), include_str!("source.js"))?;
    Ok(())
}

/// One file: what it has, and its lines, with marks linked to equations.
fn page(
    source: &Source, neighbors: [Option<&Source>; 2],
    shown: &BTreeMap<String, String>, chapters: &[Chapter],
) -> String {
    let file = &source.file;
    let up = "../".repeat(file.matches('/').count());
    let homes = homes_of(source).into_iter().filter_map(|slug| {
        let (chapter, number) = numbered(chapters, slug).ok()?;
        let (page, title) = (html(&chapter.file), escape(&chapter.title));
        Some(format!(
            " · <a href=\"{up}../{page}\">Chapter {number}, {title}</a>"
        ))
    });
    let home: String = homes.collect();
    let ways = neighbors.into_iter().zip([("prev", "←"), ("next", "→")]);
    let ways = ways.filter_map(|(source, (rel, arrow))| {
        let file = &source?.file;
        Some(format!(
            " · <a rel=\"{rel}\" href=\"{up}{file}.html\">{arrow} {file}</a>"
        ))
    });
    let ways: String = ways.collect();
    let list = list(source);
    let lines = lines(source, shown, &up);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{file}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <link rel=\"stylesheet\" href=\"{up}source.css\">\n\
         <script src=\"{up}source.js\"></script>\n</head>\n<body>\n\
         <header><h1>{file}</h1>\n\
         <nav aria-label=\"Pages\"><a href=\"{up}../index.html\">The book</a>\
         {home}{ways}</nav>\n{list}</header>\n\
         <main><pre tabindex=\"0\">{lines}</pre></main>\n</body>\n</html>\n"
    )
}

/// The functions of a file, folded.
fn list(source: &Source) -> String {
    let functions = source.items.iter().filter(|i| i.is_function());
    let functions: Vec<String> = functions
        .map(|i| {
            let (line, path) = (i.line, escape(&i.path));
            format!("<li><a href=\"#L{line}\"><code>{path}</code></a></li>\n")
        })
        .collect();
    match functions.len() {
        0 => String::new(),
        count => format!(
            "<details><summary>{count} function{}</summary>\n<ul>\n{}</ul>\n\
             </details>\n",
            if count == 1 { "" } else { "s" },
            functions.concat()
        ),
    }
}

/// The lines of a file, each with its anchor.
fn lines(
    source: &Source, shown: &BTreeMap<String, String>, up: &str,
) -> String {
    let file = &source.file;
    let proves = file.starts_with("tests/") || file.starts_with("src/check/");
    let link = |id: &str| {
        let page = shown.get(id)?;
        Some(format!("<a href=\"{up}../{page}#eq-{id}\">{id}</a>"))
    };
    let words = |kind: Kind, text: &str| match kind {
        Kind::Comment => {
            let (mark, ids) = ["// eq: ", "// wrong: "]
                .into_iter()
                .find_map(|mark| Some((mark, text.strip_prefix(mark)?)))?;
            let ids = ids
                .split(", ")
                .map(|id| link(id).unwrap_or_else(|| escape(id)));
            Some(format!("{mark}{}", ids.collect::<Vec<_>>().join(", ")))
        }
        Kind::Text if proves => {
            let id = text.strip_prefix('"')?.strip_suffix('"')?;
            Some(format!("\"{}\"", link(id)?))
        }
        _ => None,
    };
    let lines = (1..).zip(paint::lines(&source.text, words));
    let lines = lines.map(|(n, line)| {
        format!(
            "<span id=\"L{n}\"><a class=\"n\" href=\"#L{n}\">{n}</a>{line}\n\
             </span>"
        )
    });
    lines.collect()
}
