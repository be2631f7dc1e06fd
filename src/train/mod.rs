//! Chapter: training. Training: the gradient of a batch, the optimizer, the
//! schedule, the data, the checkpoints, and the loop that joins them.
pub mod metrics;
pub mod charts;
pub mod data;
pub mod schedule;
pub mod optimizer;
pub mod step;
pub mod validation;
pub mod options;
pub mod checkpoint;
pub mod trainer;
