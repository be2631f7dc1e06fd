//! Training: the gradient of a batch, the optimizer, the schedule, the data,
//! the checkpoints, and the loop that joins them.
pub mod optimizer;
pub mod schedule;
pub mod step;
