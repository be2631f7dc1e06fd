//! The one reader of `equations.toml`, which binds every equation of the book
//! to the line of code that computes it and to the tests that prove it.
//!
//! In the order of reading:
//!
//! 1. `registry`: the entries of `equations.toml`;
//! 2. `source`: items, tests and `// eq: id` marks in the sources;
//!
//! Code is found by parsing, so a name that only a macro would produce is not
//! seen: write it out.

mod error;
mod registry;
mod source;

pub use error::Error;
pub use registry::{Equation, Kind, Registry, Target};
pub use source::{Item, Mark, Source, Sources};
