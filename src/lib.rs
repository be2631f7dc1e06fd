//! Mixture of Experts, by hand.
