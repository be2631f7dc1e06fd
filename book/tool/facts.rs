//! All that pages are made of, and references to it.

use crate::chapters::{self, Chapter, numbered};
use crate::measure::{self, Measured};
use crate::text::{escape, html};
use anyhow::{Context, Result};
use mdbook_preprocessor::book::{Book, BookItem};
use registry::{Equation, Places, Registry, Sources};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// All that pages are made of.
pub struct Facts {
    /// The top of the project.
    pub root: PathBuf,
    /// The chapters, in the order of `SUMMARY.md`.
    pub chapters: Vec<Chapter>,
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
    /// The file of the chapter: `rmsnorm.md`.
    pub file: String,
    /// The name of the chapter.
    pub chapter: String,
}

impl Facts {
    /// Reads registry, sources and measurements, and finds what is shown where.
    pub(crate) fn gather(root: &Path, book: &Book) -> Result<Facts> {
        let mut facts = Facts {
            root: root.to_path_buf(),
            chapters: chapters::chapters(root)?,
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
            let (of, mut count) = (facts.number(&file), 0);
            registry::rewrite(&chapter.content, |call| {
                let argument = call.argument.to_string();
                match (call.verb, of) {
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

    /// The number of the chapter in this file.
    pub(crate) fn number(&self, file: &str) -> Option<u32> {
        self.chapters.iter().find(|c| c.file == file)?.number
    }

    /// An equation, and where it is shown.
    pub(crate) fn shown(&self, id: &str) -> Result<(&Equation, &Shown)> {
        let equation = self.registry.get(id).context("no such equation")?;
        let shown = self.shown.get(id).context("is shown in no chapter")?;
        Ok((equation, shown))
    }

    /// `{{#ref id}}`: a link to an equation, by its number.
    pub(crate) fn reference(&self, id: &str) -> Result<String> {
        let (equation, shown) = self.shown(id)?;
        let (name, page) = (escape(&equation.name), html(&shown.file));
        let number = shown.number();
        Ok(format!(
            "<a href=\"{page}#eq-{id}\" title=\"{name}\">({number})</a>"
        ))
    }

    /// `{{#chapter slug}}` and `{{#number slug}}`: a link to a chapter, by its
    /// number behind `word`. The slug may end in the `#anchor` of a section.
    pub(crate) fn chapter(&self, word: &str, target: &str) -> Result<String> {
        let (slug, anchor) = match target.find('#') {
            Some(at) => target.split_at(at),
            None => (target, ""),
        };
        let (chapter, number) = numbered(&self.chapters, slug)?;
        let (page, title) = (html(&chapter.file), escape(&chapter.title));
        Ok(format!(
            "<a href=\"{page}{anchor}\" title=\"{title}\">{word}{number}</a>"
        ))
    }
}

impl Shown {
    /// `9.4`
    pub fn number(&self) -> String {
        format!("{}.{}", self.number.0, self.number.1)
    }
}
