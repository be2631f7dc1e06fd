//! For each equation, where its code and its tests stand.

use crate::error::Error;
use crate::registry::{Registry, Target};
use crate::source::Sources;
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
    /// The mark in its faster twin.
    pub fast: Option<Place>,
    /// Its tests.
    pub tests: Vec<Place>,
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
    let places = registry.equations.iter().map(|e| {
        let find = |t| place(&e.id, t);
        Ok(Places {
            id: e.id.clone(),
            code: e.code.as_ref().map(find).transpose()?,
            fast: e.fast.as_ref().map(find).transpose()?,
            tests: e.tests.iter().map(find).collect::<Result<_, _>>()?,
        })
    });
    places.collect()
}
