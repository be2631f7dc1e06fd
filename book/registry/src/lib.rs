//! The one reader of `equations.toml`, which binds every equation of the book
//! to the line of code that computes it and to the tests that prove it.
//!
//! In the order of reading:
//!
//! 1. `registry`: the entries of `equations.toml`;
//! 2. `source`: items, tests and `// eq: id` marks in the sources;
//! 3. `book`: `{{#eq id}}`, `{{#ref id}}` and their like in the chapters;
//! 4. `places`: for each equation, where its code and its tests stand;
//! 5. `problems`: whatever among these does not fit together.
//!
//! Code is found by parsing, so a name that only a macro would produce is not
//! seen: write it out.

mod book;
mod error;
mod places;
mod problems;
mod registry;
mod source;

pub use book::{Call, Directive, Verb, directives, rewrite};
pub use error::Error;
pub use places::{Place, Places, places};
pub use problems::{Problem, problems};
pub use registry::{Equation, Kind, Registry, Target};
pub use source::{Item, Mark, Source, Sources};
