//! Chapter: training. The loop: draw a batch, forward, backward, step.

use crate::block::Block;
use crate::config::Config;
use crate::error::{Error, Result, rule};
use crate::file::write_atomic;
use crate::kernel::simd::Buffer;
use crate::layer::{Context, Layer, Totals};
use crate::model::{Acts, Batch, Model};
use crate::nn::loss::{CrossEntropy, Loss};
use crate::params::{Layout, ParamGrads, Params};
use crate::train::checkpoint::{self, Checkpoint, State, THETA, check_same};
use crate::train::data::{Text, draw};
use crate::train::gradient::{Coefficients, Gradient, shards};
use crate::train::metrics::Metrics;
use crate::train::optimizer::{AdamW, Decay, Norm, Optimizer, Step, clip};
use crate::train::options::Options;
use crate::train::schedule::Schedule;
use crate::train::validation::Validation;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::Instant;

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
pub struct Trainer<
    B: Layer = Block,
    O: Optimizer<f32> = AdamW<f32>,
    L: Loss = CrossEntropy,
> {
    /// What is trained.
    pub model: Model<B>,
    /// θ
    pub params: Params<f32>,
    options: Options,
    text: Text,
    schedule: Schedule,
    optimizer: O,
    norm: Norm<f32>,
    gradient: Gradient<f32, B, L>,
    shards: usize,
    /// Steps done.
    done: usize,
    /// The tokens of all micro-batches of a step, and what follows each.
    tokens: Buffer<usize>,
    targets: Buffer<usize>,
    validation: Validation<B>,
    hook: Option<Hook<B, L>>,
}
/// What runs after each step: see [`Trainer::after_step`].
type Hook<B, L> = Box<dyn FnMut(AfterStep<B, L>) + Send>;
/// What can be seen, and changed, after a step.
pub struct AfterStep<'a, B: Layer, L: Loss> {
    /// The number of the step, counted from 1.
    pub step: usize,
    /// What is trained.
    pub model: &'a Model<B>,
    /// θ, already moved; what is written here is trained, and saved.
    pub params: &'a mut Params<f32>,
    gradient: &'a Gradient<f32, B, L>,
}
impl<B: Layer, L: Loss> AfterStep<'_, B, L> {
    /// The share of each expert in the choices of the step, layer by layer:
    /// E numbers for each that sum to 1.
    pub fn load(&self) -> impl Iterator<Item = &[f64]> {
        self.gradient.share.iter().map(|share| &**share)
    }
    /// The second output of each block over the step's last micro-batch.
    pub fn totals(&self) -> &[Totals<f32>] {
        &self.gradient.totals
    }
    /// The activations of the step's last micro-batch, shard by shard.
    pub fn acts(&self) -> impl Iterator<Item = &Acts<f32, B>> {
        self.gradient.acts()
    }
    /// The gradient that moved θ, before it was clipped.
    pub fn grads(&self) -> &ParamGrads<f32> {
        self.gradient.grads()
    }
}

impl<B: Layer> Trainer<B> {
    /// Before the first step, with AdamW and the cross-entropy.
    ///
    /// The coefficient of the balance loss goes into the model's config.
    ///
    /// # Errors
    /// If a setting breaks a rule.
    pub fn new(model: Model<B>, text: Text, options: Options) -> Result<Self> {
        let adam = AdamW::new(&model.layout, options.decay, Decay::Weights);
        Self::with(model, text, options, adam, CrossEntropy)
    }
    /// Where a checkpoint was saved: what follows has the same bits as if the
    /// run had never stopped.
    ///
    /// # Errors
    /// As [`Trainer::new`] and [`Trainer::restore`].
    pub fn resume(
        model: Model<B>, text: Text, options: Options, saved: Checkpoint,
    ) -> Result<Self> {
        let mut trainer = Self::new(model, text, options)?;
        trainer.restore(saved)?;
        Ok(trainer)
    }
}
impl<B: Layer, O: Optimizer<f32>, L: Loss> Trainer<B, O, L> {
    /// [`Trainer::new`] with another optimizer or loss.
    ///
    /// ```no_run
    /// # use moe_by_hand::{config::Config, model::Model};
    /// # use moe_by_hand::train::optimizer::{AdamW, Decay};
    /// # use moe_by_hand::train::{data::Text, options::Options};
    /// use moe_by_hand::nn::loss::CrossEntropy;
    /// use moe_by_hand::train::trainer::Trainer;
    /// # let model = Model::new(Config::preset("bytes")?)?;
    /// # let (text, options) = (Text::new(vec![]), Options::default());
    /// let all = AdamW::new(&model.layout, 0.1, Decay::All);
    /// let t = Trainer::with(model, text, options, all, CrossEntropy)?;
    /// # moe_by_hand::error::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// If a setting breaks a rule.
    pub fn with(
        mut model: Model<B>, text: Text, options: Options, optimizer: O,
        loss: L,
    ) -> Result<Self> {
        options.validate(&model.config)?;
        text.check(options.seq)?;
        model.config.aux = options.aux;
        let shape = options.shape();
        let coef =
            Coefficients { ce: 1.0, aux: options.aux, z: options.z_loss };
        let rows = shape.rows() * options.accumulate;
        let n = text.validation().len();
        let (shards, recompute) = (shards(shape), options.recompute);
        let gradient =
            Gradient::with_loss(&model, shape, shards, coef, recompute, loss);
        Ok(Self {
            params: model.init(options.seed),
            schedule: options.schedule()?,
            optimizer,
            norm: Norm::new(&model.layout),
            gradient,
            shards,
            done: 0,
            tokens: Buffer::new(rows, 0),
            targets: Buffer::new(rows, 0),
            validation: Validation::new(&model, n, shape.time),
            hook: None,
            model,
            options,
            text,
        })
    }
    /// Goes to where a checkpoint was saved: what follows has the same bits
    /// as if that run had never stopped.
    ///
    /// # Errors
    /// If model, text, settings or optimizer are not those of the checkpoint;
    /// the message names what differs.
    pub fn restore(&mut self, saved: Checkpoint) -> Result<()> {
        let Checkpoint { state, config, mut tensors } = saved;
        let of_run = [&self.options, &state.options].map(|o| json!(o));
        let cure = "leave the option out, or begin a new run";
        check_same("--", &of_run[0], &of_run[1], cure)?;
        let (aux, c) = (self.options.aux, &self.model.config);
        let given = as_json(&Config { aux, ..c.clone() });
        let cure = "leave --preset and --config out, or begin a new run";
        check_same("", &given, &as_json(&config), cure)?;
        check_text(&self.text, &state)?;
        let name = self.optimizer.name();
        let saved_with = format!("the run was begun with {}", state.optimizer);
        let cure = "continue with that one, or begin a new run";
        let same = name == state.optimizer;
        rule(same, "the optimizer", name, saved_with, cure)?;
        let layout = layout_id(&self.model.layout);
        if let Some(saved) = state.layout {
            let names = format!("the model has others ({})", &layout[..8]);
            let cure = "take the model that was saved";
            let what = "the table of the checkpoint's parameters";
            rule(
                saved == layout,
                what,
                &saved[..8.min(saved.len())],
                names,
                cure,
            )?;
        }
        let mut take = |name: &str, to: &mut [f32]| {
            let saved = tensors.remove(name).unwrap_or_default();
            let needed = format!("this model needs {}", to.len());
            let cure = "take the model and the optimizer that were saved";
            let what = format!("the length of `{name}` in the checkpoint");
            rule(saved.len() == to.len(), &what, saved.len(), needed, cure)?;
            to.copy_from_slice(&saved);
            Ok(())
        };
        take(THETA, &mut self.params.data)?;
        for (name, to) in self.optimizer.states() {
            take(name, to)?;
        }
        let damaged = |what: &str, value: String| {
            let cure = "restore it from a copy, or begin anew";
            let rule = "a checkpoint has to be whole";
            Err(Error::input(what, value, rule, cure))
        };
        if let Some(name) = tensors.keys().next() {
            return damaged("the checkpoint's tensor", format!("{name:?}"));
        }
        if let Err(why) = self.optimizer.check() {
            return damaged("the checkpoint", format!("damaged ({why})"));
        }
        if state.shards != self.shards {
            // As many as the run began with: they decide the last bits.
            self.shards = state.shards;
            self.gradient.cut(&self.model, self.shards, self.options.recompute);
        }
        self.done = state.step;
        Ok(())
    }
    /// Runs `hook` after each step, when θ has moved: to see activations,
    /// loads and gradients, or to move parameters by a rule of their own.
    ///
    /// Parameters that a gradient shall not move, such as a bias that keeps
    /// experts busy, are frozen by [`Layout::freeze`]; a checkpoint holds them
    /// with the rest of θ, so they are resumed to the bit.
    ///
    /// ```no_run
    /// # use moe_by_hand::{config::Config, model::Model};
    /// # use moe_by_hand::train::{data::Text, options::Options};
    /// # use moe_by_hand::train::trainer::Trainer;
    /// # let model = Model::new(Config::preset("bytes")?)?;
    /// # let (text, options) = (Text::new(vec![]), Options::default());
    /// let mut trainer = Trainer::new(model, text, options)?;
    /// trainer.after_step(|s| {
    ///     for (l, share) in s.load().enumerate() {
    ///         println!("step {}, layer {l}: {share:.2?}", s.step);
    ///     }
    /// });
    /// # moe_by_hand::error::Result::Ok(())
    /// ```
    pub fn after_step(
        &mut self, hook: impl FnMut(AfterStep<B, L>) + Send + 'static,
    ) {
        self.hook = Some(Box::new(hook));
    }
    /// Saves a checkpoint: a file that is whole or not there.
    ///
    /// # Errors
    /// If it cannot be written, or a number in it is not finite: then the
    /// last one is kept.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        let state = State {
            step: self.done,
            shards: self.shards,
            options: self.options.clone(),
            config: as_json(&self.model.config),
            text: self.text.id.clone(),
            optimizer: self.optimizer.name().into(),
            layout: Some(layout_id(&self.model.layout)),
        };
        let states = self.optimizer.states();
        let states = states.iter().map(|(name, x)| (*name, &**x));
        let mut tensors = vec![(THETA, &*self.params.data)];
        tensors.extend(states);
        let mut all = tensors.iter().flat_map(|(_, x)| *x);
        if let Some(&bad) = all.find(|x| !x.is_finite()) {
            return Err(Error::Diverged { step: self.done, loss: bad.into() });
        }
        write_atomic(path, |w| checkpoint::write(w, &state, &tensors))
    }

    /// One step: draws its micro-batches, computes the gradient of their mean
    /// loss, and moves θ.
    ///
    /// # Errors
    /// If the loss or the gradient is not finite; θ is then as it was. If all
    /// steps are done.
    pub fn step(&mut self) -> Result<Metrics> {
        // A page's target has no clock: asking it would panic.
        let page = cfg!(all(target_arch = "wasm32", target_os = "unknown"));
        let start = (!page).then(Instant::now);
        let (step, steps) = (self.done + 1, self.options.steps);
        if step > steps {
            let most = format!("the run has {steps}; the schedule ends there");
            let cure = "begin a new run with more steps";
            return Err(Error::input("the step", step, most, cure));
        }
        self.draw(step);
        let batch = Batch { tokens: &self.tokens, targets: &self.targets };
        let seed = self.options.seed;
        self.gradient.context =
            Context { training: true, seed, step, ..Context::default() };
        let (model, params) = (&self.model, &mut self.params);
        let (l, dp) = self.gradient.compute(model, params, batch);
        let diverged = |loss| Err(Error::Diverged { step, loss });
        let total = l.total.into();
        if !f64::is_finite(total) {
            return diverged(total);
        }
        let grad_norm = self.norm.norm(dp);
        if !grad_norm.is_finite() {
            return diverged(grad_norm);
        }
        let (lr, scale) =
            (self.schedule.rate(step), clip(grad_norm, self.options.clip));
        self.optimizer.step(params, dp, Step { t: step, lr, scale });
        self.done = step;
        if let Some(hook) = &mut self.hook {
            hook(AfterStep { step, model, params, gradient: &self.gradient });
        }
        let seconds = start.map(|s| s.elapsed().as_secs_f64());
        let tokens = self.tokens.len() as f64;
        let tokens_per_second = seconds.map_or(0.0, |s| tokens / s);
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
        self.gradient.share.iter().map(|share| &**share)
    }
    /// Steps done.
    pub fn steps_done(&self) -> usize {
        self.done
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
/// The names and shapes of all parameters, as one hash.
fn layout_id(layout: &Layout) -> String {
    let mut hash = Sha256::new();
    for e in &layout.entries {
        hash.update(format!("{} {:?}\n", e.name, e.shape));
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
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
