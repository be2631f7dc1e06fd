//! Chapter: training. The settings of a run.

use crate::config::{Config, in_f32};
use crate::error::{Result, rule};
use crate::layer::Shape;
use crate::tokens::BYTES;
use crate::train::precision::{LossScale, Precision};
use crate::train::schedule::{Kind, Schedule};
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
    /// Decides the initial weights and the batches.
    pub seed: u64,
    /// α, the coefficient of the balance loss.
    pub aux: f64,
    /// β, the coefficient of the router's z-loss.
    pub z_loss: f64,
    /// Micro-batches in a step.
    pub accumulate: usize,
    /// Whether backward runs each block's forward again, to save memory.
    pub recompute: bool,
    /// Steps between validations.
    pub eval_every: usize,
    /// Steps between checkpoints.
    pub save_every: usize,
    /// The norm to which a gradient is clipped.
    #[serde(default = "clip")]
    pub clip: f64,
    /// λ, the decay of the weights of linear maps.
    #[serde(default = "decay")]
    pub decay: f64,
    /// What the loss is multiplied by for backward.
    #[serde(default = "unscaled")]
    pub loss_scale: LossScale,
    /// What `model.safetensors` stores θ in; the checkpoint has f32.
    #[serde(default)]
    pub save_precision: Precision,
    /// How the learning rate falls.
    #[serde(default = "schedule")]
    pub schedule: Kind,
    /// The share of the steps in which it falls, if it is constant before.
    #[serde(default = "cooldown")]
    pub cooldown: f64,
    /// The highest learning rate of the matrices that
    /// [`Muon`](crate::train::muon::Muon) moves, if it does.
    #[serde(default = "muon_lr")]
    pub muon_lr: f64,
}
// What runs had before these could be set.
fn clip() -> f64 {
    1.0
}
fn decay() -> f64 {
    0.1
}
fn unscaled() -> LossScale {
    LossScale::Fixed(1.0)
}
fn schedule() -> Kind {
    Kind::Cosine
}
// The usual values.
fn cooldown() -> f64 {
    0.2
}
fn muon_lr() -> f64 {
    0.02
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
            clip: clip(),
            decay: decay(),
            loss_scale: unscaled(),
            save_precision: Precision::F32,
            schedule: schedule(),
            cooldown: cooldown(),
            muon_lr: muon_lr(),
        }
    }
}
impl Options {
    /// The learning rates: a tenth of the steps, but at most 100, go up.
    ///
    /// # Errors
    /// If the learning rate is not a positive number, or the cooldown begins in
    /// the warm-up.
    pub fn schedule(&self) -> Result<Schedule> {
        let s = Schedule::new(self.lr, 100.min(self.steps / 10), self.steps)?;
        match self.schedule {
            Kind::Cosine => Ok(s),
            Kind::Wsd => {
                let steps = self.cooldown * self.steps as f64;
                s.stable(steps.round().max(1.0) as usize)
            }
        }
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
        let valid = self.cooldown > 0.0 && self.cooldown <= 1.0;
        let share = "it is a share of the steps, more than 0 and at most 1";
        let cure = "try 0.2";
        rule(valid, "--cooldown", self.cooldown, share, cure)?;
        self.schedule()?;
        let (valid, cure) = (self.muon_lr > 0.0, "try 0.02");
        let valid = valid && self.muon_lr.is_finite();
        let rate = "a learning rate is a positive number";
        rule(valid, "--muon-lr", self.muon_lr, rate, cure)?;
        for (flag, x) in [("--aux", self.aux), ("--z-loss", self.z_loss)] {
            let (valid, cure) = (in_f32(x), "0 switches it off");
            let coefficient = "a coefficient is a number from 0 on, in f32";
            rule(valid, flag, x, coefficient, cure)?;
        }
        let valid = self.clip > 0.0 && self.clip.is_finite();
        let cure = "try 1, or a large number to clip nothing";
        rule(valid, "--clip", self.clip, "a norm is a positive number", cure)?;
        let valid = self.decay >= 0.0 && self.decay.is_finite();
        let cure = "try 0.1; 0 switches it off";
        rule(valid, "--decay", self.decay, "it is a number from 0 on", cure)?;
        let most = self.decay <= 1.0 || self.lr * self.decay <= 1.0;
        let (valid, cure) = (most, "lower one of them");
        let shrinks = format!(
            "a step shrinks weights by --lr times it, {}, which is at most 1",
            self.lr * self.decay
        );
        rule(valid, "--decay", self.decay, shrinks, cure)?;
        if let LossScale::Fixed(scale) = self.loss_scale {
            let valid = scale > 0.0 && in_f32(scale) && scale as f32 > 0.0;
            let positive = "a scale is a positive number, in f32";
            let cure = "give a power of 2, or dynamic";
            rule(valid, "--loss-scale", scale, positive, cure)?;
        }
        let valid = self.save_precision != Precision::F16;
        let cure = "give f32 or bf16";
        let range = "a weight may be beyond its range";
        rule(valid, "--save-precision", self.save_precision, range, cure)?;
        let (v, context) = (config.vocab, config.context);
        let bytes = "a token is a byte, so there have to be at least 256";
        let cure = "take another config or preset";
        rule(v >= BYTES, "vocab_size", v, bytes, cure)?;
        let most = format!("the model's context is {context}");
        let cure = "take a shorter one";
        rule(self.seq <= context, "--seq", self.seq, most, cure)
    }
}
