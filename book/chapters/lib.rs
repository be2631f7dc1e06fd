//! The book's chapters, whose Rust examples are doc tests. The list is made of
//! `SUMMARY.md` when this is built.

#[cfg(doctest)]
include!(concat!(env!("OUT_DIR"), "/chapters.rs"));
