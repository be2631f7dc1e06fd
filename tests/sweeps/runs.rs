//! Chapter: training. One run of a sweep, and what comes of it.

use crate::momentum::Momentum;
use moe_by_hand::config::Config;
use moe_by_hand::error::{Error, Result};
use moe_by_hand::model::Model;
use moe_by_hand::nn::loss::CrossEntropy;
use moe_by_hand::train::data::Text;
use moe_by_hand::train::optimizer::{AdamW, Decay, StepFrom};
use moe_by_hand::train::options::Options;
use moe_by_hand::train::trainer::Trainer;
use moe_by_hand::train::validation::{Validation, windows};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Seeds of each setting.
pub(crate) const SEEDS: u64 = 3;
/// Bytes that a run reads, however they are cut into batches.
const BYTES: usize = 400 * 12 * 64;

/// The model of all sweeps, where nothing else is said.
pub(crate) fn config() -> Config {
    Config {
        vocab: 256,
        hidden: 64,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head: 16,
        experts: 8,
        top_k: 2,
        intermediate: 64,
        context: 64,
        ..Config::preset("tiny").unwrap()
    }
}
/// The settings, where nothing else is said.
pub(crate) fn options() -> Options {
    Options { lr: 3e-3, ..sequences(12) }
}
/// Batches of so many sequences, and as many steps as the bytes suffice for.
pub(crate) fn sequences(batch: usize) -> Options {
    let seq = 64;
    let steps = BYTES / (batch * seq);
    Options { batch, seq, steps, ..Options::default() }
}

/// What moves θ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    AdamW,
    /// Plain descent with a momentum of 0.9.
    Momentum,
}
/// A run before its first step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) config: Config,
    pub(crate) options: Options,
    pub(crate) rule: Rule,
}
/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Validation loss, in nats per byte; infinite if the run diverged.
    pub(crate) loss: f64,
    /// That of each window.
    pub(crate) windows: Vec<f64>,
    /// The training loss of each step.
    pub(crate) curve: Vec<f64>,
    /// The shares of the last layer's experts in the choices: [e][steps]
    pub(crate) load: Vec<Vec<f64>>,
}
impl Run {
    pub(crate) fn new(config: Config, options: Options) -> Self {
        Self { config, options, rule: Rule::AdamW }
    }
    /// The same run from another seed.
    fn seeded(&self, seed: u64) -> Self {
        let options = Options { seed, ..self.options.clone() };
        Self { options, ..self.clone() }
    }
    fn train(&self, text: &Text) -> Result<Outcome> {
        let out = self.steps(text)?;
        let Options { lr, batch, aux, seed, .. } = self.options;
        let Config { experts, top_k, .. } = self.config;
        eprintln!(
            "{:?}, {top_k} of {experts} experts, rate {lr}, batch {batch}, \
             α {aux}, seed {seed}: {:.4} nats",
            self.rule, out.loss
        );
        Ok(out)
    }
    fn steps(&self, text: &Text) -> Result<Outcome> {
        let (model, o) = (Model::new(self.config.clone())?, &self.options);
        let rule: Box<dyn StepFrom<f32>> = match self.rule {
            Rule::AdamW => {
                Box::new(AdamW::new(&model.layout, o.decay, Decay::Weights))
            }
            Rule::Momentum => {
                Box::new(Momentum::new(&model.layout, 0.9, o.decay))
            }
        };
        let mut t =
            Trainer::with(model, text.clone(), o.clone(), rule, CrossEntropy)?;
        let c = &self.config;
        let mut out =
            Outcome { load: vec![vec![]; c.experts], ..Outcome::default() };
        while !t.done() {
            match t.step() {
                Ok(m) => out.curve.push(m.ce),
                Err(Error::Diverged { .. }) => {
                    out.loss = f64::INFINITY;
                    return Ok(out);
                }
                Err(e) => return Err(e),
            }
            let shares = t.load().last().unwrap();
            for (kept, &share) in out.load.iter_mut().zip(shares) {
                kept.push(share);
            }
        }
        // One window at a time, so that each loss is known.
        let (text, time) = (text.validation(), o.seq);
        let mut one = Validation::new(&t.model, time + 1, time);
        for i in 0..windows(text.len(), time) {
            let text = &text[i * time..][..time + 1];
            let loss = one.loss(&t.model, &t.params, text, |_| true);
            out.windows.push(loss.unwrap());
        }
        out.loss = mean(&out.windows);
        Ok(out)
    }
}

/// These runs from each seed.
pub(crate) fn seeded(runs: &[Run]) -> Vec<Run> {
    let each = |seed| runs.iter().map(move |run| run.seeded(seed));
    (0..SEEDS).flat_map(each).collect()
}

pub(crate) fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

/// Trains runs on a text; what was trained once is not trained again.
pub(crate) struct Lab<'a> {
    pub(crate) text: &'a Text,
    /// Runs at a time.
    threads: usize,
    done: Vec<(Run, Outcome)>,
}
impl<'a> Lab<'a> {
    pub(crate) fn new(text: &'a Text, threads: usize) -> Self {
        Self { text, threads, done: vec![] }
    }
    /// How many were trained.
    #[cfg(test)]
    pub(crate) fn runs(&self) -> usize {
        self.done.len()
    }
    /// What came of this run, which was trained.
    fn find(&self, run: &Run) -> Option<&Outcome> {
        self.done.iter().find(|d| d.0 == *run).map(|d| &d.1)
    }
    /// Trains these runs, so many at a time.
    pub(crate) fn train(&mut self, runs: &[Run]) -> Result<()> {
        let mut new: Vec<&Run> = vec![];
        for run in runs {
            if self.find(run).is_none() && !new.contains(&run) {
                new.push(run);
            }
        }
        let done: Vec<Mutex<Option<Result<Outcome>>>> =
            new.iter().map(|_| Mutex::new(None)).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            // One thread for each run: the runs themselves are parallel.
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
            pool.unwrap().install(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(run) = new.get(i) else { break };
                    *done[i].lock().unwrap() = Some(run.train(self.text));
                }
            });
        };
        std::thread::scope(|s| {
            (0..self.threads.max(1)).for_each(|_| {
                s.spawn(work);
            });
        });
        for (run, outcome) in new.into_iter().zip(done) {
            let outcome = outcome.into_inner().unwrap().unwrap()?;
            self.done.push((run.clone(), outcome));
        }
        Ok(())
    }
    /// What comes of this run.
    pub(crate) fn one(&mut self, run: &Run) -> Result<Outcome> {
        self.train(std::slice::from_ref(run))?;
        Ok(self.find(run).unwrap().clone())
    }
    /// What comes of this run from each seed.
    pub(crate) fn seeds(&mut self, run: &Run) -> Result<Vec<Outcome>> {
        self.train(&seeded(std::slice::from_ref(run)))?;
        (0..SEEDS).map(|seed| self.one(&run.seeded(seed))).collect()
    }
    /// The command's default run: the training loss of each step, and the
    /// validation loss now and then.
    pub(crate) fn long(&self) -> Result<[Vec<(f64, f64)>; 2]> {
        let (o, every) = (Options::default(), Options::default().eval_every);
        let model = Model::new(Config::preset("bytes")?)?;
        let mut t = Trainer::new(model, self.text.clone(), o)?;
        let (mut curve, mut held) = (vec![], vec![]);
        while !t.done() {
            let m = t.step()?;
            curve.push((m.step as f64, m.ce));
            if m.step.is_multiple_of(every) {
                held.push((m.step as f64, t.validate()));
                eprintln!(
                    "step {}: {:.4} nats",
                    m.step,
                    held[held.len() - 1].1
                );
            }
        }
        Ok([curve, held])
    }
}
