//! Chapter 21. The loop: draw a batch, forward, backward, step.

use crate::block::Block;
use crate::config::Config;
use crate::error::{Error, Result, rule};
use crate::file::write_atomic;
use crate::layer::Layer;
use crate::model::{Batch, Model};
use crate::params::Params;
use crate::train::checkpoint::{self, Checkpoint, State, check_same};
use crate::train::data::{Text, draw};
use crate::train::metrics::Metrics;
use crate::train::optimizer::{AdamW, Decay};
use crate::train::options::Options;
use crate::train::schedule::Schedule;
use crate::train::step::{Coefficients, Step, shards};
use crate::train::validation::Validation;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

/// The norm to which a gradient is clipped.
pub const CLIP: f64 = 1.0;
/// λ, the decay of the weights of linear maps.
pub const DECAY: f64 = 0.1;

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
/// use moe_by_hand::train::{options::Options, trainer::Trainer};
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
        let [given, of_run] = [&options, &state.options].map(|o| json!(o));
        let cure = "leave the option out, or begin a new run";
        check_same("--", &given, &of_run, cure)?;
        let given = Config { aux: options.aux, ..model.config.clone() };
        let cure = "leave --preset and --config out, or begin a new run";
        check_same("", &as_json(&given), &as_json(&config), cure)?;
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
        let state = State {
            step: *t,
            shards: self.shards,
            options: self.options.clone(),
            config: as_json(&self.model.config),
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
/// The sizes as a checkpoint holds them.
fn as_json(config: &Config) -> Value {
    serde_json::from_str(&config.to_json()).expect("our own JSON")
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
