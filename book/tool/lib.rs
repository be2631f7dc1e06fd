//! The book's builder: chapters in Markdown become pages in which every
//! equation leads to its line of code and to its proof.
//!
//! In the order of reading; each module uses those above it only:
//!
//! 1. `chart`, `text`, `markdown`: line charts, HTML, and Markdown's parts;
//!    `columns`: numbers in tables; `paint`: Rust in color; `quote`: which lines of quoted code are folded;
//! 2. `measure`: the errors that `moe check` last measured;
//! 3. `drawing`, `heat`: pictures that are not charts; `figures`: all of them,
//!    from data; `ladder`: the model that grows with the book;
//! 4. `chapters`: what a chapter is, and its number;
//! 5. `terms`: what each chapter introduces, and that none uses it before;
//!    `symbols`: what each letter means;
//! 6. `formula`: formulas are marked; `typeset`: what KaTeX makes of them;
//! 7. `commands`: what texts tell to type; `rules`: whatever breaks one, in
//!    chapters, equations and sources;
//! 8. `facts`: all that pages are made of;
//! 9. `pages`: the generated pages: map, notation, indexes;
//! 10. `ends`: where lines end within names in tables; `sources`: pages of the
//!     sources, to link to; `epub`: the built pages as an EPUB;
//! 11. `directives`: `{{#eq id}}` and its like become Markdown;
//! 12. `links`: nothing leads nowhere, nothing comes from the network;
//! 13. `make`: all of these in turn;
//! 14. `http`: requests and answers; `serve`, `browser`: the book on
//!     localhost, and in a real browser.

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
mod drawing;
mod heat;
pub mod figures;
mod ladder;
pub mod chapters;
pub mod terms;
mod symbols;
mod formula;
mod typeset;
mod commands;
mod names;
pub mod rules;
pub mod facts;
pub mod pages;
mod ends;
pub mod sources;
pub mod epub;
pub mod directives;
pub mod links;
pub mod make;
mod http;
pub mod serve;
pub mod browser;
