//! Chapter 21. The loop: draw a batch, forward, backward, step.

use crate::block::Block;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::file::write_atomic;
use crate::layer::{Layer, Shape};
use crate::model::{Batch, Model};
use crate::params::Params;
use crate::train::checkpoint::{self, Checkpoint, State};
use crate::train::data::{BYTES, Text, draw};
use crate::train::metrics::Metrics;
use crate::train::optimizer::{AdamW, Decay};
use crate::train::schedule::Schedule;
use crate::train::step::{Coefficients, Step, shards};
use crate::train::validation::{Validation, chunk, windows};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Instant;

/// The norm to which a gradient is clipped.
pub const CLIP: f64 = 1.0;
/// λ of AdamW, on the weights of linear maps.
pub const DECAY: f64 = 0.1;

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
    /// An error if a setting is not what a checkpoint says.
    fn check_same(&self, saved: &Self) -> Result<()> {
        let [given, saved] = [self, saved].map(|o| {
            serde_json::to_value(o).expect("numbers and names are JSON")
        });
        let fields = saved.as_object().into_iter().flatten();
        for (name, saved) in fields {
            let same = given[name] == *saved;
            let of_run = format!("the checkpoint has {saved}");
            let cure = "leave the option out, or begin a new run";
            rule(same, &format!("--{name}"), &given[name], of_run, cure)?;
        }
        Ok(())
    }
}
fn rule(
    holds: bool, what: &str, value: impl std::fmt::Display,
    rule: impl std::fmt::Display, cure: &str,
) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::input(what, value, rule, cure)) }
}

/// Trains a model on a text.
///
/// From drawing the batch to writing θ, [`Trainer::step`] allocates nothing.
/// It uses the threads of the rayon pool it is called in, and its bits do not
/// depend on how many those are.
///
/// ```no_run
/// use moe_by_hand::config::Config;
/// use moe_by_hand::model::Model;
/// use moe_by_hand::train::data::Text;
/// use moe_by_hand::train::trainer::{Options, Trainer};
/// let model = Model::new(Config::preset("bytes")?)?;
/// let text = Text::read("shakespeare.txt".as_ref())?;
/// let mut trainer = Trainer::new(model, text, Options::default())?;
/// while !trainer.done() {
///     println!("{}", trainer.step()?.ce);
/// }
/// println!("{}", trainer.validate());
/// # moe_by_hand::error::Result::Ok(())
/// ```
pub struct Trainer<B: Layer = Block> {
    /// What is trained.
    pub model: Model<B>,
    /// θ
    pub params: Params<f32>,
    options: Options,
    text: Text,
    schedule: Schedule,
    optimizer: AdamW<f32>,
    gradient: Step<f32, B>,
    shards: usize,
    /// Of all micro-batches of a step.
    tokens: Vec<usize>,
    targets: Vec<usize>,
    validation: Validation<B>,
}
impl<B: Layer> Trainer<B> {
    /// Before the first step. The coefficient of the balance loss goes into
    /// the model's config.
    ///
    /// # Errors
    /// If a setting breaks a rule.
    pub fn new(model: Model<B>, text: Text, options: Options) -> Result<Self> {
        let shards = shards(options.shape());
        Self::with_shards(model, text, options, shards)
    }
    fn with_shards(
        mut model: Model<B>, text: Text, options: Options, shards: usize,
    ) -> Result<Self> {
        options.validate(&model.config)?;
        text.check(options.seq)?;
        model.config.aux = options.aux;
        let shape = options.shape();
        let coef =
            Coefficients { ce: 1.0, aux: options.aux, z: options.z_loss };
        let rows = shape.rows() * options.accumulate;
        let n = text.validation().len();
        Ok(Self {
            params: model.init(options.seed),
            schedule: options.schedule()?,
            optimizer: AdamW::new(&model.layout, DECAY, Decay::Weights),
            gradient: Step::new(&model, shape, shards, coef, options.recompute),
            shards,
            tokens: vec![0; rows],
            targets: vec![0; rows],
            validation: Validation::new(&model, n, shape.time),
            model,
            options,
            text,
        })
    }
    /// Where a checkpoint was saved: what follows has the same bits as if the
    /// run had never stopped.
    ///
    /// # Errors
    /// If a setting breaks a rule, or model, text or settings are not those
    /// of the checkpoint; the message names what differs.
    pub fn resume(
        model: Model<B>, text: Text, options: Options, saved: Checkpoint,
    ) -> Result<Self> {
        let Checkpoint { state, config, tensors: [theta, m, v] } = saved;
        options.check_same(&state.options)?;
        let given = Config { aux: options.aux, ..model.config.clone() };
        check_config(&given, &config)?;
        check_text(&text, &state)?;
        let mut t = Self::with_shards(model, text, options, state.shards)?;
        let n = t.params.data.len();
        let rule_n = format!("the model has {n} parameters");
        let cure = "take the model that was saved";
        rule(theta.len() == n, "the checkpoint", theta.len(), rule_n, cure)?;
        t.params.data = theta;
        t.optimizer.m.data = m;
        t.optimizer.v.data = v;
        t.optimizer.t = state.step;
        Ok(t)
    }
    /// Saves a checkpoint: a file that is whole or not there.
    ///
    /// # Errors
    /// If it cannot be written, or a number in it is not finite: then the
    /// last one is kept.
    pub fn save(&self, path: &Path) -> Result<()> {
        let AdamW { m, v, t, .. } = &self.optimizer;
        let tensors = [&self.params, m, v].map(|p| p.data.as_slice());
        let mut all = tensors.into_iter().flatten();
        if let Some(&bad) = all.find(|x| !x.is_finite()) {
            return Err(Error::Diverged { step: *t, loss: bad.into() });
        }
        let config = self.model.config.to_json();
        let state = State {
            step: *t,
            shards: self.shards,
            options: self.options.clone(),
            config: serde_json::from_str(&config).expect("our own JSON"),
            text: self.text.id.clone(),
        };
        write_atomic(path, |w| checkpoint::write(w, &state, tensors))
    }

    /// One step: draws its micro-batches, sets the gradient of their mean
    /// loss, and moves θ.
    ///
    /// # Errors
    /// If the loss or the gradient is not finite; θ is then as it was.
    pub fn step(&mut self) -> Result<Metrics> {
        let start = Instant::now();
        let step = self.steps_done() + 1;
        self.draw(step);
        let batch = Batch { tokens: &self.tokens, targets: &self.targets };
        let (model, params) = (&self.model, &mut self.params);
        let l = self.gradient.accumulate(model, params, batch);
        let diverged = |loss| Err(Error::Diverged { step, loss });
        let total = l.total.into();
        if !f64::is_finite(total) {
            return diverged(total);
        }
        let lr = self.schedule.rate(step);
        let gradient = self.gradient.finish(model);
        let grad_norm = self.optimizer.step(params, gradient, lr, CLIP);
        if !grad_norm.is_finite() {
            return diverged(grad_norm);
        }
        let seconds = start.elapsed().as_secs_f64();
        let tokens_per_second = self.tokens.len() as f64 / seconds;
        let [ce, aux, z] = [l.ce, l.aux, l.z].map(f64::from);
        Ok(Metrics {
            step,
            ce,
            aux,
            z,
            total,
            lr,
            grad_norm,
            tokens_per_second,
        })
    }
    fn draw(&mut self, step: usize) {
        let (shape, seed) = (self.options.shape(), self.options.seed);
        let tokens = self.tokens.chunks_exact_mut(shape.rows());
        let both = tokens.zip(self.targets.chunks_exact_mut(shape.rows()));
        for (micro, (x, y)) in both.enumerate() {
            draw(x, y, self.text.train(), shape, seed, step, micro);
        }
    }
    /// Mean cross-entropy on the validation text, in nats for each byte.
    pub fn validate(&mut self) -> f64 {
        let text = self.text.validation();
        self.validation.loss(&self.model, &self.params, text)
    }
    /// The share of each expert in the choices of the last step, layer by
    /// layer: E numbers for each that sum to 1.
    pub fn load(&self) -> impl Iterator<Item = &[f64]> {
        self.gradient.share.chunks_exact(self.model.config.experts)
    }
    /// Steps done.
    pub fn steps_done(&self) -> usize {
        self.optimizer.t
    }
    /// Whether the last step is done.
    pub fn done(&self) -> bool {
        self.steps_done() >= self.options.steps
    }
    /// How many parts each micro-batch is cut into.
    pub fn shards(&self) -> usize {
        self.shards
    }
    /// The settings.
    pub fn options(&self) -> &Options {
        &self.options
    }
    /// The text.
    pub fn text(&self) -> &Text {
        &self.text
    }
}
/// An error that names the first size that is not the checkpoint's.
fn check_config(given: &Config, saved: &Config) -> Result<()> {
    let [given, saved] = [given, saved].map(|c| {
        let json = serde_json::from_str(&c.to_json());
        json.unwrap_or(serde_json::Value::Null)
    });
    let fields = saved.as_object().into_iter().flatten();
    for (name, saved) in fields {
        let same = given[name] == *saved;
        let of_run = format!("the checkpoint has {saved}");
        let cure = "leave --preset and --config out, or begin a new run";
        rule(same, name, &given[name], of_run, cure)?;
    }
    Ok(())
}
fn check_text(text: &Text, saved: &State) -> Result<()> {
    let (given, saved) = (&text.id, &saved.text);
    let value = format!("{} bytes, SHA-256 {}", given.bytes, given.sha256);
    let of_run = format!(
        "the run was trained on {} bytes, SHA-256 {}",
        saved.bytes, saved.sha256
    );
    let cure = "give that one with --text, or begin a new run";
    rule(given.sha256 == saved.sha256, "the text", value, of_run, cure)
}

/// Bytes of memory that [`Trainer::new`] takes, within a few per cent: to be
/// asked before a model is made that does not fit. Of a text of unknown
/// length, `usize::MAX` bytes are the worst case.
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
