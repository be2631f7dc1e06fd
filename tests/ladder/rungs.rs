//! Chapter: training. The rungs: what each one is, trains and writes.

use crate::alone::Alone;
use crate::counts::Counts;
use crate::data::{Climb, Heat, Moment, Rung};
use moe_by_hand::block::{Block, heads};
use moe_by_hand::config::Config;
use moe_by_hand::error::Result;
use moe_by_hand::generate::{Decoder, Sampler, generate};
use moe_by_hand::layer::Decode;
use moe_by_hand::model::Model;
use moe_by_hand::nn::attention::Attention;
use moe_by_hand::nn::rope::Rope;
use moe_by_hand::nn::swiglu::SwiGlu;
use moe_by_hand::params::Builder;
use moe_by_hand::rng::Rng;
use moe_by_hand::tokens::{Characters, harmless};
use moe_by_hand::train::data::Text;
use moe_by_hand::train::options::Options;
use moe_by_hand::train::trainer::Trainer;
use moe_by_hand::train::validation::windows;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// How long the runs are that the chapters show.
pub(crate) const STEPS: usize = 2000;
pub(crate) fn options(steps: usize) -> Options {
    Options { steps, lr: 3e-3, ..Options::default() }
}

/// Each rung's name, and what it adds to the one before.
pub(crate) const RUNGS: [(&str, &str); 9] = [
    ("bytes", "counted bytes"),
    ("pairs", "counted pairs"),
    ("bigram", "embedding and head, trained"),
    ("expert", "+ an expert"),
    ("attention", "+ attention: one head, no positions"),
    ("heads", "+ four heads, two of keys"),
    ("rotations", "+ rotations"),
    ("mixture", "+ mixture: eight experts, two at a time"),
    ("blocks", "+ three more blocks"),
];
/// When the last rung is looked at, in steps, and how it is drawn from in the
/// end.
pub(crate) const MOMENTS: [usize; 4] = [0, 100, 500, 2000];
pub(crate) const TEMPERATURES: [f64; 5] = [0.0, 0.5, 0.8, 1.0, 1.5];
/// Bytes that each one writes.
pub(crate) const WRITTEN: usize = 200;

/// The sizes of the trained rungs.
pub(crate) fn config(name: &str) -> Config {
    let one = Config {
        vocab: 256,
        hidden: 64,
        layers: 1,
        heads: 1,
        kv_heads: 1,
        head: 64,
        experts: 1,
        top_k: 1,
        intermediate: 128,
        context: 256,
        ..Config::preset("tiny").unwrap()
    };
    let four = Config { heads: 4, kv_heads: 2, head: 16, ..one.clone() };
    let mixture =
        Config { experts: 8, top_k: 2, intermediate: 64, ..four.clone() };
    match name {
        "heads" | "rotations" => four,
        "mixture" => mixture,
        "blocks" => Config { layers: 4, ..mixture },
        _ => one,
    }
}

pub(crate) type Say<'a> = &'a (dyn Fn(String) + Sync);
/// What is trained on, and how.
pub(crate) struct Task<'a> {
    pub(crate) text: &'a Text,
    pub(crate) options: Options,
    pub(crate) say: Say<'a>,
}
impl Task<'_> {
    fn climb(&self, name: &str) -> Result<Climb> {
        let c = config(name);
        let alone = |expert| {
            Model::with_blocks(c.clone(), |b, c| Alone::new(b, c, expert))
        };
        let dense = |rope: Rope| {
            let rope = Arc::new(rope);
            Model::with_blocks(c.clone(), |b, c| {
                let (d, f) = (c.hidden, c.intermediate);
                let attention =
                    |b: Builder| Attention::new(b, d, heads(c), rope.clone());
                let expert = |b: Builder| SwiGlu::new(b, d, f);
                Block::with(b, c, attention, expert)
            })
        };
        let still = || Rope::still(c.head, c.context);
        let turning = || Rope::new(c.head, c.context, c.rope_theta);
        match name {
            "bytes" | "pairs" => Ok(self.count(name)),
            "bigram" => self.train(name, alone(false)?, 0),
            "expert" => self.train(name, alone(true)?, 0),
            "attention" | "heads" => self.train(name, dense(still())?, 0),
            "rotations" => self.train(name, dense(turning())?, 0),
            _ => {
                let idle = (c.total() - c.active()) as usize;
                self.train(name, Model::new(c)?, idle)
            }
        }
    }
    fn count(&self, name: &str) -> Climb {
        let (train, test) = (self.text.train(), self.text.validation());
        let time = self.options.seq;
        let counts =
            Counts::new(train, &[train, test].concat(), name == "pairs");
        // What the trained rungs predict: the same windows.
        let test = &test[..windows(test.len(), time) * time + 1];
        let mut rng = Rng::named(self.options.seed, "sample");
        let written = counts.write(b'\n', WRITTEN, &mut rng);
        let n = counts.parameters();
        let rung = rung(name, [n, n], counts.loss(test), shown(&written));
        (self.say)(format!("{name}: counted, {:.3} nats", rung.loss));
        Climb { rung, ..Climb::default() }
    }
    /// Trains a model in which a byte leaves `idle` parameters alone.
    fn train<B: Decode>(
        &self, name: &str, model: Model<B>, idle: usize,
    ) -> Result<Climb> {
        let size = [model.layout.len, model.layout.len - idle];
        let (o, begin) = (self.options.clone(), Instant::now());
        let mut t = Trainer::new(model, self.text.clone(), o)?;
        let (mut moments, last) = (vec![], name == RUNGS[8].0);
        loop {
            let (step, steps) = (t.steps_done(), t.options().steps);
            if last && MOMENTS.contains(&step) {
                let sample = write(&t, 0.8)?;
                let loss = round(t.validate());
                moments.push(Moment { step, loss, sample });
            }
            if t.done() {
                break;
            }
            let m = t.step()?;
            if m.step.is_multiple_of(steps.div_ceil(4)) {
                let seconds = begin.elapsed().as_secs_f64();
                let left = seconds / m.step as f64 * (steps - m.step) as f64;
                (self.say)(format!(
                    "{name}: step {}/{steps}, loss {:.3}, {left:.0} s left",
                    m.step, m.ce
                ));
            }
        }
        let rung = rung(name, size, t.validate(), write(&t, 1.0)?);
        let hot = |&temperature: &f64| -> Result<Heat> {
            Ok(Heat { temperature, sample: write(&t, temperature)? })
        };
        let heats: &[f64] = if last { &TEMPERATURES } else { &[] };
        let heats = heats.iter().map(hot).collect::<Result<_>>()?;
        Ok(Climb { rung, moments, heats })
    }
}
fn rung(name: &str, size: [usize; 2], loss: f64, sample: String) -> Rung {
    let (name, added) = RUNGS.iter().find(|r| r.0 == name).unwrap();
    let [parameters, active] = size;
    let (name, added, loss) =
        (name.to_string(), added.to_string(), round(loss));
    Rung { name, added, parameters, active, loss, sample }
}
/// To four digits: as far as a loss on this much text says anything.
fn round(x: f64) -> f64 {
    (x * 1e4).round() / 1e4
}
/// What a model writes after the end of a line. It looks no farther back than
/// its training sequences reached.
fn write<B: Decode>(t: &Trainer<B>, temperature: f64) -> Result<String> {
    let mut sampler = Sampler::new(temperature, 0, 1.0)?;
    let mut rng = Rng::named(t.options().seed, "sample");
    let mut decoder = Decoder::with_window(&t.model, t.options().seq);
    let (first, mut all) = ([usize::from(b'\n')], vec![]);
    let take = |token| {
        all.push(token);
        true
    };
    let (s, r) = (&mut sampler, &mut rng);
    generate(&mut decoder, &t.params, &first, WRITTEN, s, r, take)?;
    Ok(shown(&all))
}
fn shown(tokens: &[usize]) -> String {
    let mut characters = Characters::default();
    let mut text = String::new();
    tokens.iter().for_each(|&t| text += characters.push(t));
    harmless(&(text + characters.finish()))
}

/// All of these rungs, so many at a time, the last and longest first.
pub(crate) fn climb(
    task: &Task, names: &[&str], threads: usize,
) -> Result<Vec<Climb>> {
    let done: Vec<Mutex<Option<Result<Climb>>>> =
        names.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(names.len());
    let less = |n: usize| n.checked_sub(1);
    let work = || {
        // One thread for each run: the runs themselves are parallel.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        pool.unwrap().install(|| {
            let order = Ordering::Relaxed;
            while let Ok(n) = next.fetch_update(order, order, less) {
                *done[n - 1].lock().unwrap() = Some(task.climb(names[n - 1]));
            }
        });
    };
    std::thread::scope(|s| {
        (0..threads.max(1)).for_each(|_| {
            s.spawn(work);
        });
    });
    let whole = |m: Mutex<Option<_>>| m.into_inner().unwrap().unwrap();
    done.into_iter().map(whole).collect()
}
