//! What has to hold of the library, in one program: a module for each subject.
//!
//! `cargo test --test proofs gradients::` runs one module,
//! `cargo test --test proofs gradients::rmsnorm` the tests of one subject.
#![allow(missing_docs, reason = "a test is documented by its name")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

// What several of them need.
mod again;
#[path = "figures/csv.rs"]
#[allow(dead_code, reason = "figures have more")]
mod csv;
#[path = "figures/paper.rs"]
#[allow(dead_code, reason = "figures have more")]
mod paper;
mod edit;
mod wrong;
#[path = "figures/caught.rs"]
mod caught;

mod arithmetic;
mod disk;
mod elementary;
mod equations;
mod exact;
mod files;
mod fuzz;
mod generation;
mod gradients;
mod half;
mod layering;
mod lengths;
mod muon;
mod mutants;
mod oracle;
mod outside;
mod precision;
mod properties;
mod simd;
mod stated;
mod student;
mod training;
