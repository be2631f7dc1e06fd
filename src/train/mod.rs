//! Training: the gradient of a batch, the optimizer, the schedule, the data,
//! the checkpoints, and the loop that joins them; in reading order.
pub mod metrics;
pub mod charts;
pub mod data;
pub mod schedule;
pub mod gradient;
pub mod optimizer;
pub mod precision;
pub mod muon;
pub mod validation;
pub mod options;
pub mod account;
pub mod checkpoint;
pub mod trainer;
