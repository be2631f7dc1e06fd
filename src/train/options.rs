//! Chapter 21. The settings of a run, and the memory it takes.

use crate::config::Config;
use crate::error::{Result, rule};
use crate::layer::Shape;
use crate::train::data::BYTES;
use crate::train::schedule::Schedule;
use crate::train::step::shards;
use crate::train::validation::{chunk, windows};
use serde::{Deserialize, Serialize};

/// The settings of a run: with the config and the text, they decide every
/// bit of it. The number of threads is not among them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Options {
    /// S, steps in all.
    pub steps: usize,
    /// B, sequences in a micro-batch.
    pub batch: usize,
    /// T, bytes in a sequence.
    pub seq: usize,
    /// η, the highest learning rate.
    pub lr: f64,
    /// Of the initial weights and of the batches.
    pub seed: u64,
    /// α, coefficient of the balance loss.
    pub aux: f64,
    /// β, coefficient of the router's z-loss.
    pub z_loss: f64,
    /// Micro-batches in a step.
    pub accumulate: usize,
    /// Whether backward runs each block's forward again, to save memory.
    pub recompute: bool,
    /// Steps between validations.
    pub eval_every: usize,
    /// Steps between checkpoints.
    pub save_every: usize,
}
impl Default for Options {
    fn default() -> Self {
        Self {
            steps: 2000,
            batch: 12,
            seq: 64,
            lr: 1e-3,
            seed: 0,
            aux: 0.01,
            z_loss: 0.0,
            accumulate: 1,
            recompute: false,
            eval_every: 200,
            save_every: 200,
        }
    }
}
impl Options {
    /// The learning rates: a tenth of the steps, but at most 100, go up.
    ///
    /// # Errors
    /// If the learning rate is not a positive number.
    pub fn schedule(&self) -> Result<Schedule> {
        Schedule::new(self.lr, 100.min(self.steps / 10), self.steps)
    }
    /// One micro-batch.
    pub fn shape(&self) -> Shape {
        Shape { batch: self.batch, time: self.seq }
    }
    /// Looks at each setting, and at whether the model allows it.
    ///
    /// # Errors
    /// Names the first that breaks a rule.
    pub fn validate(&self, config: &Config) -> Result<()> {
        let counts = [
            ("--steps", self.steps),
            ("--batch", self.batch),
            ("--seq", self.seq),
            ("--accumulate", self.accumulate),
            ("--eval-every", self.eval_every),
            ("--save-every", self.save_every),
        ];
        for (flag, n) in counts {
            let cure = "give a whole number from 1 to 2147483647";
            rule(n > 0, flag, n, "it counts from 1", cure)?;
            rule(n < 1 << 31, flag, n, "that is more than any run", cure)?;
        }
        self.schedule()?;
        for (flag, x) in [("--aux", self.aux), ("--z-loss", self.z_loss)] {
            let valid = x >= 0.0 && x.is_finite();
            let cure = "0 switches it off";
            rule(valid, flag, x, "a coefficient is a number from 0 on", cure)?;
        }
        let (v, context) = (config.vocab, config.context);
        let bytes = "a token is a byte, so there have to be at least 256";
        let cure = "take another config or preset";
        rule(v >= BYTES, "vocab_size", v, bytes, cure)?;
        let most = format!("the model's context is {context}");
        let cure = "take a shorter one";
        rule(self.seq <= context, "--seq", self.seq, most, cure)
    }
}

/// Bytes of memory that [`Trainer::new`] takes, within a few percent: to be
/// asked before a model is made that does not fit. Of a text of unknown
/// length, `usize::MAX` bytes are the worst case.
///
/// [`Trainer::new`]: crate::train::trainer::Trainer::new
///
/// θ, m and v, a gradient for each shard; for each row of a batch, what the
/// blocks keep and one block's gradients; and the same for validation.
pub fn memory(c: &Config, o: &Options, text: usize, threads: usize) -> u64 {
    let wide = |n: usize| n as u128;
    let [d, v, e, k] = [c.hidden, c.vocab, c.experts, c.top_k].map(wide);
    let [f, l, time] = [c.intermediate, c.layers, o.seq].map(wide);
    let q = wide(c.heads) * wide(c.head);
    let kv = wide(c.kv_heads) * wide(c.head);
    // What a block keeps of a row: norms and sums; attention; the experts;
    // the router, whose choices and slots are of eight bytes.
    let attention = d + 2 * q + 2 * kv + wide(c.heads) * time;
    let block = 4 * d + 2 + attention + d + k * (2 * d + 3 * f) + e + 5 * k + 1;
    let ends = d + 1 + v; // the last norm and the head
    let row = |blocks| blocks * block + (l + 1) * d + ends + 1;
    let kept = if o.recompute { 1 } else { l };
    let train = row(kept) + block + d + ends; // and their gradients
    let tokens = 4 * wide(o.accumulate);
    let rows = wide(o.batch) * wide(o.seq) * (train + tokens);
    let n = text.div_ceil(10);
    let chunk = chunk(n, o.seq);
    let chunks = windows(n, o.seq).div_ceil(chunk.batch);
    let validation = wide(threads.min(chunks) * chunk.rows()) * (row(1) + 4);
    let params = u128::from(c.total()) * wide(3 + shards(o.shape()));
    let rope = 2 * wide(c.context) * wide(c.head); // of eight bytes
    let all = 4 * (params + rows + validation + rope);
    all.try_into().unwrap_or(u64::MAX)
}
