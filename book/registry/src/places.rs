//! For each equation, where its code and its tests stand.

use crate::error::Error;
use crate::registry::{Registry, Target};
use crate::source::{Source, Sources};
use std::fmt;
use std::path::Path;

/// A line of a file; prints as `file:line`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, relative to the top.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

/// Where one equation is computed and proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The equation.
    pub id: String,
    /// The mark in the item that computes it.
    pub code: Option<Place>,
    /// The other marks in that item, one for each further line of the formula.
    pub lines: Vec<Place>,
    /// The mark in its faster twin.
    pub fast: Option<Place>,
    /// Its tests.
    pub tests: Vec<Place>,
    /// The function that measures it: `router::backward`.
    pub proof: Option<(String, Place)>,
    /// The mistakes that a test plants in it, in words.
    pub planted: Vec<(String, Place)>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Finds the places of every equation, in the order of `equations.toml`; an
/// item without its mark stands at the line of its name.
pub fn places(root: &Path) -> Result<Vec<Places>, Error> {
    let registry = Registry::load(root)?;
    let sources = Sources::load(root)?;
    let place = |id: &str, target: &Target| {
        let fail = |e| Error(format!("equations.toml: [{id}] {e}"));
        let (source, item) = sources.find(target).map_err(fail)?;
        let mark = source.mark(id, &target.item);
        let line = mark.map_or(item.line, |m| m.line);
        Ok(Place { file: source.file.clone(), line })
    };
    let at = |source: &Source, line| Place { file: source.file.clone(), line };
    let places = registry.equations.iter().map(|e| {
        let find = |t| place(&e.id, t);
        let marks = e.code.iter().filter_map(|target| {
            let (source, _) = sources.find(target).ok()?;
            Some((source, source.all_marks(&e.id, &target.item)))
        });
        let marks = marks.flat_map(|(s, marks)| marks.map(|m| at(s, m.line)));
        let proof = sources.proof(&e.id);
        let planted = sources.planted(&e.id).into_iter();
        Ok(Places {
            id: e.id.clone(),
            code: e.code.as_ref().map(find).transpose()?,
            lines: marks.skip(1).collect(),
            fast: e.fast.as_ref().map(find).transpose()?,
            tests: e.tests.iter().map(find).collect::<Result<_, _>>()?,
            proof: proof.map(|(name, s, line)| (name, at(s, line))),
            planted: planted
                .map(|(words, s, line)| (words.to_string(), at(s, line)))
                .collect(),
        })
    });
    places.collect()
}
