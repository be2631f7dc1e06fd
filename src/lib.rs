//! **Mixture of Experts, by Hand**: a decoder-only Mixture-of-Experts
//! Transformer on the CPU, forward and backward, with no autograd.
//!
//! Every gradient is derived on paper, in the book, and proven by tests:
//! against central differences, against dual numbers, against PyTorch.
//!
//! # Letters
//!
//! The same in a formula and in code, there in lower case.
//!
//! | letter | meaning |
//! |---|---|
//! | B `batch`, T `time`, N = B·T `n` | sequences, their length, rows |
//! | D `d` | width |
//! | H `heads`, K `kv`, dₕ `head` | query heads, key/value heads, their size |
//! | F `f`, E `e`, k `top_k` | expert width, experts, experts for each token |
//! | V `v`, L `layers` | vocabulary, blocks |
//! | `a`, `g` | activations, and their gradients |
//! | x̄ = ∂L/∂x `dx` | a single gradient, of the same shape |
//!
//! # In reading order
//!
//! A module uses only those above it, and those beside it; a test holds it
//! to that.
pub mod error;
pub mod file;
pub mod real;
pub mod rng;
pub mod tensors;

pub mod kernel;

pub mod layer;
pub mod params;

pub mod gradcheck;

pub mod nn;

pub mod config;
pub mod memory;

pub mod block;

pub mod model;

pub mod figure;
pub mod generate;
pub mod hf;

pub mod train;

pub mod check;
pub mod oracle;

#[cfg(doctest)]
mod book;
