//! Layers and the kernels they are made of, one file for each subject, in
//! reading order.
pub mod linear;
pub mod embedding;
pub mod rmsnorm;
pub mod swiglu;
pub mod rope;
pub mod attention;
pub mod balance;
pub mod score;
pub mod router;
pub mod moe;
pub mod loss;
