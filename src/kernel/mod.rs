//! Kernels: pure functions over slices, forward and backward side by side.
//!
//! Outputs come first, then inputs, then scalars. The first line of a doc
//! says what is **set** and what is **added to**; every slice has its shape
//! in brackets. Gradients of activations are set, gradients of parameters
//! are added to. A kernel that walks several slices together asserts their
//! lengths first, because `zip` would stop silently at the shortest.
pub mod view;
pub mod simd;
pub mod half;
pub(crate) mod wide;
pub mod fast;
pub mod normal;
pub mod vector;
pub mod product;
pub mod matrix;
pub mod softmax;
pub mod activation;
pub mod l1;
