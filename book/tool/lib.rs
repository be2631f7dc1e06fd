//! The book's builder: chapters in Markdown become pages in which every
//! equation leads to its line of code and to its proof.
//!
//! In the order of reading:
//!
//! 1. `chapters`: what a chapter is, and the rules it keeps;
//! 2. `measure`: the errors that `moe check` last measured;
//! 3. `figures`: pictures from data, `drawing` those that are not charts;
//! 4. `directives`: `{{#eq id}}` and its like become Markdown;
//! 5. `pages`: the generated pages: map, notation, indexes;
//! 6. `guard`: formulas, to mdbook-katex and back, and nothing else;
//!    `typeset`: those that were typeset before;
//! 7. `sources`: pages of the sources, to link to;
//! 8. `links`: nothing leads nowhere, nothing comes from the network;
//! 9. `make`: all of these in turn;
//! 10. `serve`, `browser`: the book on localhost, and in a real browser.

pub mod browser;
pub mod chapters;
pub mod directives;
mod drawing;
pub mod figures;
pub mod guard;
pub mod links;
pub mod make;
pub mod measure;
pub mod pages;
pub mod serve;
pub mod sources;
mod typeset;

/// Line charts, of the library: the file itself, so that a changed kernel does
/// not have the tool compiled anew.
#[path = "../../src/figure.rs"]
#[allow(dead_code, unreachable_pub, reason = "the library uses the rest")]
mod chart;
