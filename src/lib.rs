//! Mixture of Experts, by hand.
pub mod kernel;
pub mod real;
pub mod rng;
