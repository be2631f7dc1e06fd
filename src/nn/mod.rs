//! Layers: one file a chapter, kernels first, the layer that composes them
//! below.
pub mod attention;
pub mod embedding;
pub mod linear;
pub mod loss;
pub mod moe;
pub mod rmsnorm;
pub mod rope;
pub mod router;
pub mod swiglu;
