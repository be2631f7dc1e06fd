//! Chapter: training. Training: the gradient of a batch, the optimizer, the
//! schedule, the data, the checkpoints, and the loop that joins them.
pub mod charts;
pub mod checkpoint;
pub mod data;
pub mod metrics;
pub mod optimizer;
pub mod options;
pub mod schedule;
pub mod step;
pub mod trainer;
pub mod validation;
