//! Reads `equations.toml`.
