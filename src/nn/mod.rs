//! Layers: one file a chapter, kernels first, the layer that composes them
//! below.
pub mod linear;
pub mod embedding;
pub mod rmsnorm;
pub mod swiglu;
pub mod rope;
pub mod attention;
pub mod router;
pub mod moe;
pub mod loss;
