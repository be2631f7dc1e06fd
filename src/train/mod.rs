//! Training: the gradient of a batch, the optimizer, the schedule, the data,
//! the checkpoints, and the loop that joins them; in reading order.
pub mod gradient;

pub mod optimizer;

pub mod schedule;

pub mod data;

pub mod options;

pub mod validation;

pub mod metrics;

pub mod charts;

pub mod checkpoint;

pub mod trainer;

pub mod account;
