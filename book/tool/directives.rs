//! The directives of a chapter become Markdown and HTML: numbered equations
//! with links to code and proof, quoted source, figures, generated pages.

use crate::measure::{self, Measured};
use crate::{chapters, figures, guard, pages, typeset};
use anyhow::{Context, Result, bail};
use mdbook_preprocessor::book::{Book, BookItem, SectionNumber};
use mdbook_preprocessor::{Preprocessor, PreprocessorContext};
use registry::{Equation, Place, Places, Registry, Sources, Target};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The step that comes before mdbook-katex.
#[derive(Clone, Copy, Debug, Default)]
pub struct Directives {
    /// Print what is wrong, and go on.
    pub draft: bool,
}

/// All that pages are made of.
pub struct Facts {
    /// The top of the project.
    pub root: PathBuf,
    /// The equations.
    pub registry: Registry,
    /// The code.
    pub sources: Sources,
    /// Where each equation is computed and proven, by id.
    pub places: BTreeMap<String, Places>,
    /// Where each equation is shown, by id.
    pub shown: BTreeMap<String, Shown>,
    /// Pages that quote an item, by `file.rs::item`.
    pub quoted: BTreeMap<String, Vec<String>>,
    /// The page of the equation map, if there is one.
    pub map: Option<String>,
    /// What was measured.
    pub measured: Measured,
}

/// Where an equation is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Chapter and place in it.
    pub number: (u32, u32),
    /// The file of the chapter: `09-rmsnorm.md`.
    pub file: String,
    /// The name of the chapter.
    pub chapter: String,
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
        guard::config(ctx)?;
        typeset::load(root);
        let problems = faults(root)?;
        if !self.draft {
            all_well(&problems)?;
        }
        let facts = Facts::gather(root, &book)?;
        let src = ctx.root.join(&ctx.config.book.src);
        let mut faults = Vec::new();
        book.for_each_chapter_mut(|chapter| {
            let file = chapter.source_path.clone().unwrap_or_default();
            let number = chapters::number(&file.display().to_string());
            chapter.number = number.map(|n| SectionNumber::new([n]));
            guard::mark(chapter, &src, &mut faults);
            let text = facts.expand(&chapter.content);
            chapter.content = guard::hide_backticks(&text);
        });
        if !self.draft {
            all_well(&faults)?;
        }
        for problem in problems.iter().chain(&faults) {
            eprintln!("draft: {problem}");
        }
        Ok(book)
    }
}

/// Whatever does not fit together in equations, code, tests and chapters.
pub(crate) fn faults(root: &Path) -> Result<Vec<String>> {
    let problems = registry::problems(root).into_iter();
    let mut problems: Vec<_> = problems.map(|p| p.to_string()).collect();
    for fault in chapters::faults(root)? {
        if !problems.contains(&fault) {
            problems.push(fault);
        }
    }
    Ok(problems)
}

/// An error that says all of them, if there are any.
pub(crate) fn all_well(problems: &[String]) -> Result<()> {
    match problems {
        [] => Ok(()),
        [one] => bail!("{one}"),
        many => bail!("{} faults\n  {}", many.len(), many.join("\n  ")),
    }
}

impl Facts {
    /// Reads registry, sources and measurements, and finds what is shown where.
    fn gather(root: &Path, book: &Book) -> Result<Facts> {
        let mut facts = Facts {
            root: root.to_path_buf(),
            registry: Registry::load(root)?,
            sources: Sources::load(root)?,
            places: BTreeMap::new(),
            shown: BTreeMap::new(),
            quoted: BTreeMap::new(),
            map: None,
            measured: measure::last(root),
        };
        // In a draft some code may be missing: its equations have no places.
        let places = registry::places(root).unwrap_or_default();
        facts.places = places.into_iter().map(|p| (p.id.clone(), p)).collect();
        for item in book.iter() {
            let BookItem::Chapter(chapter) = item else { continue };
            let path = chapter.source_path.clone().unwrap_or_default();
            let file = path.display().to_string();
            let mut count = 0;
            registry::rewrite(&chapter.content, |call| {
                let argument = call.argument.to_string();
                match (call.verb, chapters::number(&file)) {
                    ("eq", Some(of)) => {
                        count += 1;
                        let shown = Shown {
                            number: (of, count),
                            file: file.clone(),
                            chapter: chapter.name.clone(),
                        };
                        facts.shown.entry(argument).or_insert(shown);
                    }
                    ("code", _) => {
                        let pages = facts.quoted.entry(argument).or_default();
                        if !pages.contains(&file) {
                            pages.push(file.clone());
                        }
                    }
                    ("equation-map", _) => facts.map = Some(file.clone()),
                    _ => {}
                }
                None
            });
        }
        Ok(facts)
    }

    /// A chapter's text with its directives carried out.
    fn expand(&self, text: &str) -> String {
        registry::rewrite(text, |call| {
            let argument = call.argument;
            let made = match call.verb {
                "eq" => self.equation(argument),
                "ref" => self.reference(argument),
                "code" => self.code(argument),
                "figure" => figures::figure(&self.root, argument),
                "equation-map" => Ok(pages::equation_map(self)),
                "notation" => pages::notation(self),
                "symbol-index" => Ok(pages::symbol_index(self)),
                "code-index" => Ok(pages::code_index(self)),
                _ => return None,
            };
            // Only a draft comes this far with something missing.
            Some(made.unwrap_or_else(|e| {
                let verb = call.verb;
                let e = escape(&format!("{verb} {argument}: {e:#}"));
                format!("<span class=\"problem\">{e}</span>")
            }))
        })
    }

    fn shown(&self, id: &str) -> Result<(&Equation, &Shown)> {
        let equation = self.registry.get(id).context("no such equation")?;
        let shown = self.shown.get(id).context("is shown in no chapter")?;
        Ok((equation, shown))
    }

    /// `{{#eq id}}`
    fn equation(&self, id: &str) -> Result<String> {
        let (equation, shown) = self.shown(id)?;
        let name = escape(&equation.name);
        let mut caption = vec![format!("<b>{name}</b>")];
        if let Some(places) = self.places.get(id) {
            let code = equation.code.iter().zip(&places.code);
            caption.extend(code.map(|(t, p)| format!("code {}", link(t, p))));
            let tests = equation.tests.iter().zip(&places.tests);
            let tests: Vec<_> = tests.map(|(t, p)| link(t, p)).collect();
            if !tests.is_empty() {
                caption.push(format!("proven by {}", tests.join(", ")));
            }
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
        let tex = guard::formula(&place, &equation.tex, true);
        let number = shown.number();
        Ok(format!(
            "\n<figure class=\"equation\" id=\"eq-{id}\">\n\
             <div class=\"formula\" tabindex=\"0\">{tex}</div>\n\
             <a class=\"number\" href=\"#eq-{id}\" \
             aria-label=\"Equation {number}\">({number})</a>\n\
             <figcaption>{caption}</figcaption>\n</figure>\n"
        ))
    }

    /// `{{#ref id}}`
    pub(crate) fn reference(&self, id: &str) -> Result<String> {
        let (equation, shown) = self.shown(id)?;
        let (name, page) = (escape(&equation.name), html(&shown.file));
        let number = shown.number();
        Ok(format!(
            "<a href=\"{page}#eq-{id}\" title=\"{name}\">({number})</a>"
        ))
    }

    /// `{{#code file.rs::item}}`
    fn code(&self, argument: &str) -> Result<String> {
        let target: Target = argument.parse()?;
        let (source, item) = self.sources.find(&target)?;
        let (file, first) = (&source.file, item.first);
        let text = source.text_of(item);
        Ok(format!(
            "\n<p class=\"source\"><a href=\"{}\">{file}:{first}</a></p>\n\n\
             `````rs\n{text}\n`````\n",
            page_of(file, first)
        ))
    }
}

impl Shown {
    /// `9.4`
    pub fn number(&self) -> String {
        format!("{}.{}", self.number.0, self.number.1)
    }
}

/// The page of a chapter's file.
pub(crate) fn html(file: &str) -> String {
    format!("{}.html", file.trim_end_matches(".md"))
}

/// A line of a source page; all chapters lie beside the folder `source`.
pub(crate) fn page_of(file: &str, line: usize) -> String {
    format!("source/{file}.html#L{line}")
}

/// The item, linked to its line.
pub(crate) fn link(target: &Target, place: &Place) -> String {
    let page = page_of(&place.file, place.line);
    let item = escape(&target.item);
    format!("<a href=\"{page}\" title=\"{place}\"><code>{item}</code></a>")
}

/// Text as HTML.
pub(crate) fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}
