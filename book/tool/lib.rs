//! The book's builder: chapters in Markdown become pages in which every
//! equation leads to its line of code and to its proof.
//!
//! In the order of reading; each module uses those above it only:
//!
//! 1. `chart`, `text`, `markdown`: line charts, HTML, and Markdown's parts;
//!    `columns`: numbers in tables; `paint`: Rust in color; `quote`: which lines of quoted code are folded;
//! 2. `measure`: the errors that `moe check` last measured;
//! 3. `typeset`: formulas that were typeset before;
//! 4. `drawing`, `heat`: pictures that are not charts; `figures`: all of them,
//!    from data; `ladder`: the model that grows with the book;
//! 5. `chapters`: what a chapter is, and its number;
//! 6. `terms`: what each chapter introduces, and that none uses it before;
//!    `symbols`: what each letter means;
//! 7. `formula`: formulas are marked for mdbook-katex;
//! 8. `commands`: what texts tell to type; `rules`: whatever breaks one, in
//!    chapters, equations and sources;
//! 9. `facts`: all that pages are made of;
//! 10. `guard`: what mdbook-katex made of the formulas, and nothing else;
//! 11. `pages`: the generated pages: map, notation, indexes;
//! 12. `sources`: pages of the sources, to link to; `epub`: the built pages as
//!     an EPUB;
//! 13. `directives`: `{{#eq id}}` and its like become Markdown;
//! 14. `ends`: where lines end within names in tables; `index`: what the search
//!     finds; `links`: nothing leads nowhere, nothing comes from the network;
//! 15. `make`: all of these in turn;
//! 16. `serve`, `browser`: the book on localhost, and in a real browser.

/// Line charts, of the library: the file itself, so that a changed kernel does
/// not have the tool compiled anew.
#[path = "../../src/figure.rs"]
#[allow(dead_code, unreachable_pub, reason = "the library uses the rest")]
mod chart;

mod text;
mod paint;
mod markdown;
mod columns;
mod quote;
pub mod measure;
mod typeset;
mod drawing;
mod heat;
pub mod figures;
mod ladder;
pub mod chapters;
pub mod terms;
mod symbols;
mod formula;
mod commands;
pub mod rules;
pub mod facts;
pub mod guard;
pub mod pages;
pub mod sources;
pub mod epub;
pub mod directives;
mod ends;
mod index;
pub mod links;
pub mod make;
pub mod serve;
pub mod browser;
