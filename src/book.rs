//! Chapter 1. The chapters, whose Rust examples are doc tests; `cargo book
//! check` finds those that are missing here.
