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

mod exp;
pub(crate) mod gate;
mod lanes;

mod vector;
mod softmax;
mod activation;
mod rmsnorm;
mod moe;
mod loss;

pub(crate) use gate::twin;

gate::twins! {
    vector: SumOfSquares;
    softmax: SoftmaxForward, CausalSoftmaxForward, CausalSoftmaxBackward;
    activation: GluForward, GluBackward;
    rmsnorm: RmsnormForward, RmsnormBackward;
    moe: CombineBackward;
    loss: CrossEntropyForward, CrossEntropyBackward;
}
