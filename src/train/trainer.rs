//! Chapter: training. The loop: draw a batch, forward, backward, step.

use crate::block::Block;
use crate::config::Config;
use crate::error::{Error, Result, rule};
use crate::file::write_atomic;
use crate::kernel::simd::{Buffer, Isa};
use crate::layer::{Context, Layer, Totals};
use crate::model::{Acts, Batch, Model};
use crate::nn::loss::{CrossEntropy, Loss};
use crate::params::{Layout, ParamGrads, Params};
use crate::tensors::hex;
use crate::train::checkpoint::{
    self, ARITHMETIC, Checkpoint, State, THETA, check_same,
};
use crate::train::data::{Text, draw};
use crate::train::gradient::{Coefficients, Gradient, shards};
use crate::train::metrics::{Logged, Metrics};
use crate::train::optimizer::{
    AdamW, Decay, Norm, Optimizer, Step, StepFrom, clip,
};
use crate::train::options::Options;
use crate::train::precision::{
    LOW, LossScale, Precision, Scaler, Stored, round, working,
};
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
    T: Stored = f32,
> {
    /// What is trained.
    pub model: Model<B>,
    /// θ
    pub params: Params<f32>,
    /// θ as the passes read it, rounded anew for each; empty where that is θ.
    working: Params<T>,
    options: Options,
    text: Text,
    schedule: Schedule,
    optimizer: O,
    norm: Norm<T>,
    gradient: Gradient<T, B, L>,
    /// The scale of the loss, if the run finds it by itself.
    scaler: Option<Scaler>,
    shards: usize,
    /// Steps done.
    done: usize,
    /// The tokens of all micro-batches of a step, and what follows each.
    tokens: Buffer<usize>,
    targets: Buffer<usize>,
    validation: Validation<B, T>,
    /// What checkpoints say of `metrics.jsonl`: set by who writes it, and
    /// restored with the rest.
    pub log: Option<Logged>,
    hook: Option<Hook<B, L, T>>,
}
/// What runs after each step: see [`Trainer::after_step`].
type Hook<B, L, T> = Box<dyn FnMut(AfterStep<B, L, T>) + Send>;
/// What can be seen, and changed, after a step.
pub struct AfterStep<'a, B: Layer, L: Loss, T: Stored = f32> {
    /// The number of the step, counted from 1.
    pub step: usize,
    /// What is trained.
    pub model: &'a Model<B>,
    /// θ, already moved; what is written here is trained, and saved.
    pub params: &'a mut Params<f32>,
    gradient: &'a Gradient<T, B, L>,
}
impl<B: Layer, L: Loss, T: Stored> AfterStep<'_, B, L, T> {
    /// The share of each expert in the choices of the step, layer by layer:
    /// E numbers for each that sum to 1.
    pub fn load(&self) -> impl Iterator<Item = &[f64]> {
        self.gradient.share.iter().map(|share| &**share)
    }
    /// The second output of each block over the step's last micro-batch.
    pub fn totals(&self) -> &[Totals<T>] {
        &self.gradient.totals
    }
    /// The activations of the step's last micro-batch, shard by shard.
    pub fn acts(&self) -> impl Iterator<Item = &Acts<T, B>> {
        self.gradient.acts()
    }
    /// The gradient that moved θ, before it was clipped; times the loss scale.
    pub fn grads(&self) -> &ParamGrads<T> {
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
        model: Model<B>, text: Text, options: Options, optimizer: O, loss: L,
    ) -> Result<Self> {
        Self::stored(model, text, options, optimizer, loss)
    }
}
impl<B: Layer, O: Optimizer<f32>, L: Loss, T: Stored> Trainer<B, O, L, T> {
    /// [`Trainer::with`] that stores weights, activations and gradients in
    /// numbers of type `T`.
    ///
    /// ```no_run
    /// # use moe_by_hand::{config::Config, model::Model};
    /// # use moe_by_hand::train::optimizer::{AdamW, Decay};
    /// # use moe_by_hand::train::{data::Text, options::Options};
    /// use moe_by_hand::{half::F16, nn::loss::CrossEntropy};
    /// use moe_by_hand::train::{precision::LossScale, trainer::Trainer};
    /// # let model = Model::new(Config::preset("bytes")?)?;
    /// # let text = Text::new(vec![]);
    /// let loss_scale = LossScale::Dynamic;
    /// let options = Options { loss_scale, ..Options::default() };
    /// let adam = AdamW::new(&model.layout, 0.1, Decay::Weights);
    /// let mut t = Trainer::<_, _, _, F16>::stored(
    ///     model, text, options, adam, CrossEntropy)?;
    /// # moe_by_hand::error::Result::Ok(())
    /// ```
    ///
    /// # Errors
    /// If a setting breaks a rule.
    pub fn stored(
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
            working: working(&model.layout),
            norm: Norm::new(&model.layout),
            gradient,
            scaler: match options.loss_scale {
                LossScale::Dynamic => Some(Scaler::default()),
                LossScale::Fixed(_) => None,
            },
            shards,
            done: 0,
            tokens: Buffer::new(rows, 0),
            targets: Buffer::new(rows, 0),
            validation: Validation::for_threads(
                &model,
                n,
                shape.time,
                rayon::current_num_threads(),
            ),
            log: None,
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
    /// If model, text, settings, optimizer or arithmetic are not those of the
    /// checkpoint; the message names what differs.
    pub fn restore(&mut self, saved: Checkpoint) -> Result<()> {
        let Checkpoint { state, mut tensors, .. } = saved;
        self.adopt(&state)?;
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
        (self.done, self.log) = (state.step, state.log);
        self.scaler = state.scaler;
        Ok(())
    }
    /// Becomes the run that a [`State`] describes, before its first step.
    ///
    /// # Errors
    /// As [`Trainer::restore`].
    pub fn adopt(&mut self, state: &State) -> Result<()> {
        let of_run = [&self.options, &state.options].map(|o| json!(o));
        let cure = "leave the option out, or begin a new run";
        let (precision, saved) = (T::PRECISION, state.precision()?);
        let begun = format!("the run was begun with {saved}");
        rule(precision == saved, "--precision", precision, begun, cure)?;
        check_same("--", &of_run[0], &of_run[1], cure)?;
        let given = as_json(&self.model.config);
        let cure = "leave --preset and --config out, or begin a new run";
        check_same("", &given, &as_json(&state.config()?), cure)?;
        check_text(&self.text, state)?;
        state.check_arithmetic()?;
        let name = self.optimizer.name();
        let saved_with = format!("the run was begun with {}", state.optimizer);
        let cure = "continue with that one, or begin a new run";
        let same = name == state.optimizer;
        rule(same, "the optimizer", name, saved_with, cure)?;
        let layout = layout_id(&self.model.layout);
        if let Some(saved) = &state.layout {
            let names = format!("the model has others ({})", &layout[..8]);
            let cure = "take the model that was saved";
            let what = "the table of the checkpoint's parameters";
            let shown = saved.get(..8).unwrap_or(saved);
            rule(*saved == layout, what, shown, names, cure)?;
        }
        if state.shards != self.shards {
            // As many as the run began with: they decide the last bits.
            self.shards = state.shards;
            self.gradient.cut(&self.model, self.shards, self.options.recompute);
        }
        Ok(())
    }
    /// Runs `hook` after each step, when θ has moved: to see activations,
    /// loads and gradients, or to move parameters by a rule of their own. It
    /// does not run after a step that a loss scale skips. It is no part of a
    /// checkpoint: a resumed run sets it anew, before or after
    /// [`restore`](Self::restore).
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
        &mut self, hook: impl FnMut(AfterStep<B, L, T>) + Send + 'static,
    ) {
        self.hook = Some(Box::new(hook));
    }
    /// What the run is, and how far it has come.
    pub fn state(&self) -> State {
        State {
            step: self.done,
            shards: self.shards,
            options: self.options.clone(),
            config: as_json(&self.model.config),
            text: self.text.id.clone(),
            optimizer: self.optimizer.name().into(),
            layout: Some(layout_id(&self.model.layout)),
            isa: Some(Isa::current().to_string()),
            arithmetic: ARITHMETIC,
            precision: T::PRECISION.to_string(),
            scaler: self.scaler,
            log: self.log.clone(),
            begun: None,
        }
    }
    /// Saves a checkpoint: a file that is whole or not there.
    ///
    /// # Errors
    /// If it cannot be written, or a number in it is not finite: then the
    /// last one is kept.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        let state = self.state();
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
    /// With a dynamic loss scale, a step whose gradient is not finite is
    /// skipped: it counts as a step of the run, with its batch and its place in
    /// the schedule, and moves neither θ nor anything of the optimizer's.
    ///
    /// # Errors
    /// If the loss or the gradient is not finite; θ is then as it was. If the
    /// loss scale stays below 1. If all steps are done.
    pub fn step(&mut self) -> Result<Metrics>
    where
        O: StepFrom<T>,
    {
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
        let loss_scale = self.loss_scale();
        self.gradient.scale = loss_scale;
        let (model, params) = (&self.model, &mut self.params);
        round(&mut self.working, params);
        let working = T::working(params, &self.working);
        let (l, dp) = self.gradient.compute(model, working, batch);
        let diverged = |loss| Err(Error::Diverged { step, loss });
        let total = l.total.into();
        if !f64::is_finite(total) {
            return diverged(total);
        }
        let grad_norm = self.norm.norm(dp) / loss_scale;
        let finite = grad_norm.is_finite();
        let stored = T::PRECISION != Precision::F32;
        let scale = loss_scale;
        match &mut self.scaler {
            None if !finite && !stored => return diverged(grad_norm),
            None if !finite => {
                return Err(Error::Overflow { step, scale, low: 0 });
            }
            None => {}
            Some(scaler) => scaler.update(finite),
        }
        let lr = self.schedule.rate(step);
        let (skipped, low) =
            self.scaler.map_or((0, 0), |scaler| (scaler.skipped, scaler.low));
        if finite {
            // The gradient is that of the scaled loss, its norm is not.
            let scale = clip(grad_norm, self.options.clip) / loss_scale;
            let t = step - skipped;
            self.optimizer.step_from(params, dp, Step { t, lr, scale });
        }
        self.done = step;
        if let (true, Some(hook)) = (finite, &mut self.hook) {
            hook(AfterStep { step, model, params, gradient: &self.gradient });
        }
        if low >= LOW {
            return Err(Error::Overflow { step, scale, low });
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
            grad_norm: if finite { grad_norm } else { f64::NAN },
            tokens_per_second,
            scale: stored.then_some(loss_scale),
            skipped: stored.then_some(skipped),
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
    /// What the next step multiplies the loss by for backward.
    pub fn loss_scale(&self) -> f64 {
        match self.options.loss_scale {
            LossScale::Fixed(scale) => scale,
            LossScale::Dynamic => self.scaler.unwrap_or_default().scale,
        }
    }
    /// Mean cross-entropy on the validation text, in nats per byte, in
    /// the precision of the run.
    pub fn validate(&mut self) -> f64 {
        self.validate_while(|_| true).expect("it was not stopped")
    }
    /// [`Trainer::validate`], as long as `go_on` says so; it is told how many
    /// windows are done.
    pub fn validate_while(
        &mut self, go_on: impl Fn(usize) -> bool + Sync,
    ) -> Option<f64> {
        let text = self.text.validation();
        round(&mut self.working, &self.params);
        let working = T::working(&self.params, &self.working);
        self.validation.loss(&self.model, working, text, go_on)
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
    hex(&hash.finalize())
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
