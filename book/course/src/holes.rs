//! The functions that `equations.toml` names, in the order of the book: what a
//! reader who builds the library writes.

use anyhow::{Context, Result, bail};
use registry::{Equation, Registry, Sources, Verb};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

/// What is added to the library: the judge and its numbers, hints, milestones.
pub(crate) const OURS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/build");

/// A function that is to be written.
pub(crate) struct Hole {
    /// The equations that it computes; the first names it.
    pub(crate) ids: Vec<String>,
    /// The chapter that shows the first of them: `softmax`.
    pub(crate) chapter: String,
    /// `src/kernel/softmax.rs`.
    pub(crate) file: String,
    /// `softmax_forward`, `Moe::backward`.
    pub(crate) item: String,
    /// The line of its name in the library.
    pub(crate) line: usize,
    /// The milestone that needs it, from 1.
    pub(crate) milestone: usize,
}
/// Something that runs once some chapters are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Milestone {
    pub(crate) name: String,
    chapters: Vec<String>,
}
/// `milestones.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Milestones {
    #[serde(rename = "milestone")]
    milestones: Vec<Milestone>,
}
impl Hole {
    pub(crate) fn id(&self) -> &str {
        self.ids.first().map_or("", |id| id)
    }
    /// Its equations, as a hole names them.
    pub(crate) fn names(&self) -> String {
        self.ids.join(", ")
    }
    /// How a hole begins in the source.
    pub(crate) fn mark(&self) -> String {
        format!("hole!(\"{}\"", self.names())
    }
}

/// The library, and all of its holes.
pub(crate) struct Track {
    /// The clone.
    pub(crate) root: PathBuf,
    pub(crate) registry: Registry,
    pub(crate) sources: Sources,
    pub(crate) milestones: Vec<Milestone>,
    /// In the order of the milestones, and in that of the book.
    pub(crate) holes: Vec<Hole>,
    /// The chapters that have some, with their numbers and titles.
    pub(crate) chapters: Vec<(String, String)>,
}
impl Track {
    pub(crate) fn open() -> Result<Self> {
        // not by `canonicalize`, whose paths cargo cannot read on Windows
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.ancestors().nth(2).context("the clone")?.to_path_buf();
        let registry = Registry::load(&root)?;
        let sources = Sources::load(&root)?;
        let shown = registry::directives(&root)?;
        let shown = shown.context("book/src/SUMMARY.md: is missing")?;
        let shown: Vec<_> =
            shown.iter().filter(|d| d.verb == Verb::Eq).collect();
        let file = Path::new(OURS).join("milestones.toml");
        let text = fs::read_to_string(file).context("milestones.toml")?;
        let Milestones { milestones } =
            toml::from_str(&text).context("milestones.toml")?;
        let mut holes: Vec<Hole> = vec![];
        for directive in &shown {
            let Some(equation) = registry.get(&directive.id) else { continue };
            let Some(target) = &equation.code else { continue };
            let same =
                |h: &&mut Hole| h.file == target.file && h.item == target.item;
            if let Some(hole) = holes.iter_mut().find(same) {
                hole.ids.push(equation.id.clone());
                continue;
            }
            let (_, item) = sources.find(target)?;
            let chapter = slug(&directive.file);
            let milestone = milestones
                .iter()
                .position(|m| m.chapters.contains(&chapter))
                .with_context(|| format!("milestones.toml: no {chapter}"))?;
            holes.push(Hole {
                ids: vec![equation.id.clone()],
                milestone: milestone + 1,
                chapter,
                file: target.file.clone(),
                item: target.item.clone(),
                line: item.line,
            });
        }
        holes.sort_by_key(|h| h.milestone); // stable
        let mut chapters = vec![];
        for listed in registry::summary(&root)? {
            let slug = slug(&listed.file);
            if holes.iter().any(|h| h.chapter == slug) {
                let number =
                    listed.number.map_or(String::new(), |n| format!("{n} "));
                chapters.push((slug, format!("{number}{}", listed.title)));
            }
        }
        Ok(Self { root, registry, sources, milestones, holes, chapters })
    }
    /// The hole of an equation.
    pub(crate) fn find(&self, id: &str) -> Option<&Hole> {
        self.holes.iter().find(|h| h.ids.iter().any(|i| i == id))
    }
    /// The same, or what was meant.
    pub(crate) fn named(&self, id: &str) -> Result<(&Hole, &Equation)> {
        if let (Some(hole), Some(equation)) =
            (self.find(id), self.registry.get(id))
        {
            return Ok((hole, equation));
        }
        let ids = self.holes.iter().flat_map(|h| &h.ids).map(|id| &id[..]);
        let all = "`cargo course next` shows those there are";
        let near = registry::hint(id, ids, all);
        bail!("{id}: no equation that you write; {near}")
    }
    /// The title of a chapter, with its number.
    pub(crate) fn title(&self, chapter: &str) -> &str {
        let found = self.chapters.iter().find(|(slug, _)| slug == chapter);
        found.map_or("", |(_, title)| title)
    }
}

/// `softmax` for `book/src/softmax.md`.
fn slug(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.trim_end_matches(".md").to_string()
}
