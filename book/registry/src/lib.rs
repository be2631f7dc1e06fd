//! The one reader of `equations.toml`, which binds every equation of the book
//! to the line of code that computes it and to the tests that prove it.
//!
//! In the order of reading:
//!
//! 1. `error`: what went wrong, in one line; files read and folders walked;
//! 2. `registry`: the entries of `equations.toml`;
//! 3. `source`: items, tests and `// eq: id` marks in the sources;
//! 4. `book`: `{{#eq id}}`, `{{#ref id}}` and their like in the chapters;
//! 5. `commands`: what chapters and other texts print to be typed;
//! 6. `places`: for each equation, where its code and its tests stand;
//! 7. `problems`: whatever among these does not fit together.
//!
//! Code is found by parsing, so a name that only a macro would produce is not
//! seen: write it out.

mod error;
mod registry;
mod source;
mod book;
mod commands;
mod places;
mod problems;

pub use book::{Call, Directive, Listed, Verb, directives, rewrite, summary};
pub use commands::{Printed, ask_for_help, commands, refused};
pub use error::{Error, end_with_the_reader, files, hint, read};
pub use places::{Place, Places, places};
pub use problems::{Problem, problems};
pub use registry::{Equation, Kind, Registry, Target};
pub use source::{Item, Mark, Planted, STORED, Source, Sources};
