//! The readers, and the check of completeness, on small trees of their own.

mod tree;
mod problems;
mod readers;
mod commands;
