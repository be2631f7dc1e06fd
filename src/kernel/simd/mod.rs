//! Vectors of numbers on four instruction sets, and the only `unsafe` of the
//! library.
//!
//! A fast kernel is written once, in safe code, as a [`Kernel`] over any
//! [`Simd`]; [`Isa::run`] compiles it for each instruction set and enters the
//! one asked for. What the `unsafe` in this folder relies on:
//!
//! - *The CPU has the instruction.* The token of a set (`Avx2`, …) is made in
//!   the `enter` of its file alone. [`Isa::run`] calls that after it asked the
//!   CPU, and every method takes the token.
//!   Test: `each_set_runs_where_the_cpu_has_it` (`tests/simd.rs`).
//! - *A load or store stays inside its slice.* Full ones look at the length
//!   first; parts touch as many lanes as there are numbers, by a mask. Tests:
//!   `methods_of_a_vector`, `nothing_beyond_a_slice`; and `tests/precision.rs`
//!   for every tail.
//! - *A buffer has the memory that its length says.* It is made in one place,
//!   and nobody can change its length. Tests: `buffers_are_aligned` and the
//!   allocator of `tests/memory.rs`.
//! - *A tile stays inside its matrices.* `tile`, `turned_tiles` and `turn` look
//!   at their largest indices first. Tests: `all_sizes`, `shapes_of_the_model`
//!   and `parts_that_are_laid_out_anew`, amid NaN and guards; `hostile_views`;
//!   and a debug build looks at every index again.
//!
//! With AVX2 and on the portable path, Miri looks at every access for itself
//! in `tests/simd.rs`; README has the command.
//!
//! `#[inline(always)]` is necessary here: a method that is not inlined into the
//! entry of its set is compiled without that set.
#![expect(unsafe_code, reason = "std::arch, and entering a set of the CPU")]

mod buffer;
mod vector;
mod portable;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod isa;
pub(crate) mod tile;

pub(crate) use buffer::asked;
pub use buffer::{ALIGN, Buffer, bytes};
pub use isa::{Isa, IsaError};
pub use vector::{Kernel, Simd};
