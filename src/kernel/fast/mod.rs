//! Chapter: simd. The f32 twins of kernels that a compiler does not vectorize
//! by itself, because they sum or because they call `exp`.
//!
//! Each computes what the plain kernel of the same name computes, whole rows
//! at a time, so that the instruction set is entered once for many rows; its
//! file has the name of the plain kernel's. Sums run in lanes: another order
//! than the plain form's, hence other last bits. `tests/precision.rs` holds
//! each to its plain twin.
//!
//! A plain kernel reaches its twin by one line, `twin!` (`gate.rs`). To add a
//! twin, write its file, and below add its `mod` and its names.

#![expect(missing_docs, reason = "fields are named as in the plain kernel")]

pub(crate) mod gate;

mod exp;
mod lanes;

mod activation;
mod softmax;
mod loss;
mod moe;
mod rmsnorm;
mod vector;

pub(crate) use gate::twin;

gate::twins! {
    activation: GluForward, GluBackward;
    loss: CrossEntropyForward, CrossEntropyBackward;
    moe: CombineBackward;
    rmsnorm: RmsnormForward, RmsnormBackward;
    softmax: SoftmaxForward, CausalSoftmaxForward, CausalSoftmaxBackward;
    vector: SumOfSquares;
}
