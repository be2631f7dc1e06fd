//! The readers, and the check of completeness, on small trees of their own.

mod problems;
mod readers;
mod tree;
