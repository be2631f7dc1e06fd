//! What is allocated, and when, by an allocator that counts.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod allocator;

mod allocation;
mod decode_allocation;
