//! The scenarios: what each is called, and what it runs.
//!
//! Ids, sizes and inputs of the first five groups are the prior art's; its
//! experts, however, are twice as wide (256, and 1024 where the width is
//! 256), so its published times are of more work.

use moe_by_hand::config::Config;
use moe_by_hand::layer::Shape;
use serde_json::{Value, json};

/// One line of the list.
#[derive(Clone)]
pub(crate) struct Scenario {
    /// Its axis, as the prior art calls it, and criterion's group.
    pub(crate) group: &'static str,
    /// Its name there.
    pub(crate) id: String,
    /// What is done.
    pub(crate) kind: Kind,
    /// How many threads do it, each with a model of its own; or, of one
    /// shared model, all together.
    pub(crate) threads: usize,
}
/// What is done.
#[derive(Clone)]
pub(crate) enum Kind {
    /// One step: forward, backward, clipping, AdamW.
    Train(Size),
    /// The logits of every position.
    Forward(Size),
    /// The same, from a seed: build, draw, allocate, compute.
    Cold(Size),
    /// One step of one model that all threads work on.
    Shared(Size),
    /// So many tokens, one after another.
    Decode(Size),
    /// A product of squares of this size.
    MatMul(usize),
    /// A softmax of so many numbers, copied first.
    Softmax(usize),
    /// An RMSNorm of so many rows and columns.
    RmsNorm([usize; 2]),
}
/// A model and a batch.
#[derive(Clone)]
pub(crate) struct Size {
    pub(crate) config: Config,
    pub(crate) shape: Shape,
}

fn size(preset: &str, batch: usize, time: usize) -> Size {
    let config = Config::preset(preset).unwrap();
    Size { config, shape: Shape { batch, time } }
}

/// All of them, in the prior art's order; then the extra ones.
pub(crate) fn all() -> Vec<Scenario> {
    use Kind::*;
    let tiny = |b, t| size("tiny", b, t);
    let small = |b, t| size("small", b, t);
    let bytes = |b, t| size("bytes", b, t);
    let mut list = vec![
        ("memory", "mem_train_step", Train(tiny(2, 8)), 1),
        ("memory", "mem_scale_batch_1", Forward(tiny(1, 32)), 1),
        ("memory", "mem_scale_batch_2", Forward(tiny(2, 32)), 1),
        ("memory", "mem_scale_batch_4", Forward(tiny(4, 32)), 1),
        ("memory", "mem_scale_batch_8", Forward(tiny(8, 32)), 1),
        ("memory", "mem_scale_seq_8", Forward(tiny(2, 8)), 1),
        ("memory", "mem_scale_seq_16", Forward(tiny(2, 16)), 1),
        ("memory", "mem_scale_seq_32", Forward(tiny(2, 32)), 1),
        ("memory", "mem_scale_seq_64", Forward(tiny(2, 64)), 1),
        ("compiler", "kernel_matmul", MatMul(64), 1),
        ("compiler", "kernel_softmax", Softmax(1000), 1),
        ("compiler", "kernel_rmsnorm", RmsNorm([2 * 32, 64]), 1),
        ("type_system", "dispatch_warm", Forward(tiny(2, 32)), 1),
        ("type_system", "dispatch_cold", Cold(tiny(1, 8)), 1),
        ("parallel", "parallel_T1", Forward(tiny(2, 32)), 1),
        ("parallel", "parallel_T2", Forward(tiny(2, 32)), 2),
        ("parallel", "parallel_T4", Forward(tiny(2, 32)), 4),
        ("parallel", "parallel_train_T1", Train(tiny(2, 8)), 1),
        ("parallel", "parallel_train_T2", Train(tiny(2, 8)), 2),
        ("parallel", "parallel_train_T4", Train(tiny(2, 8)), 4),
        ("scale", "scale_forward_256", Forward(small(2, 32)), 1),
        ("scale", "scale_train_256", Train(small(2, 8)), 1),
        ("extra", "train64", Train(tiny(8, 64)), 1),
        ("extra", "bytes_train", Train(bytes(12, 64)), 1),
        ("extra", "decode", Decode(bytes(1, 128)), 1),
    ]
    .into_iter()
    .map(|(group, id, kind, threads)| {
        let id = id.to_string();
        Scenario { group, id, kind, threads }
    })
    .collect::<Vec<_>>();
    let mut extra = |id: String, kind, threads| {
        list.push(Scenario { group: "extra", id, kind, threads });
    };
    for experts in [4, 8, 16, 32, 64] {
        let mut s = tiny(8, 64);
        s.config.experts = experts;
        extra(format!("experts_{experts}"), Forward(s), 1);
    }
    for time in [64, 128, 256, 512, 1024, 2048] {
        let mut s = tiny(1, time);
        s.config.context = s.config.context.max(time);
        extra(format!("seq_{time}"), Forward(s), 1);
    }
    for threads in 1..=4 {
        extra(format!("train64_T{threads}"), Shared(tiny(8, 64)), threads);
        extra(format!("bytes_T{threads}"), Shared(bytes(12, 64)), threads);
    }
    list
}

impl Scenario {
    /// Tokens that one run takes, or makes; none for a kernel.
    pub(crate) fn tokens(&self) -> Option<usize> {
        let many = |s: &Size| self.threads * s.shape.rows();
        match &self.kind {
            Kind::Train(s) | Kind::Forward(s) => Some(many(s)),
            Kind::Cold(s) | Kind::Shared(s) | Kind::Decode(s) => {
                Some(s.shape.rows())
            }
            _ => None,
        }
    }
    /// Operations of a kernel, counted as the prior art counts them.
    pub(crate) fn flops(&self) -> Option<usize> {
        match self.kind {
            Kind::MatMul(n) => Some(2 * n * n * n),
            Kind::Softmax(n) => Some(4 * n),
            Kind::RmsNorm([n, d]) => Some(3 * n * d),
            _ => None,
        }
    }
    /// What the file says of the sizes.
    pub(crate) fn params(&self) -> Value {
        let mut params = match &self.kind {
            Kind::MatMul(n) => return json!({ "M": n, "K": n, "N": n }),
            Kind::Softmax(n) => return json!({ "n": n }),
            Kind::RmsNorm([n, d]) => {
                return json!({ "shape": [2, n / 2, d] });
            }
            Kind::Train(s)
            | Kind::Forward(s)
            | Kind::Cold(s)
            | Kind::Shared(s)
            | Kind::Decode(s) => json!({
                "batch": s.shape.batch,
                "seq_len": s.shape.time,
                "hidden_dim": s.config.hidden,
                "intermediate_dim": s.config.intermediate,
                "experts": s.config.experts,
            }),
        };
        if self.group == "parallel" || matches!(self.kind, Kind::Shared(_)) {
            params["thread_count"] = self.threads.into();
        }
        if matches!(self.kind, Kind::Train(_) | Kind::Shared(_)) {
            params["workload"] = "train_step".into();
        }
        params
    }
}
