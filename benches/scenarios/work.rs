//! What the scenarios run. Everything is allocated before; a run allocates
//! only where that is what is measured.

use crate::list::{Kind, Scenario, Size};
use moe_by_hand::generate::{Decoder, Sampler};
use moe_by_hand::kernel::matrix::{Set, mat, mat_mut, matmul};
use moe_by_hand::kernel::simd::Buffer;
use moe_by_hand::kernel::softmax::softmax_forward;
use moe_by_hand::model::{Acts, Batch, Model};
use moe_by_hand::nn::rmsnorm::rmsnorm_forward;
use moe_by_hand::params::Params;
use moe_by_hand::rng::Rng;
use moe_by_hand::train::gradient::{Coefficients, Gradient, shards};
use moe_by_hand::train::optimizer::{
    AdamW, Decay, Norm, Optimizer, Step, clip,
};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The seed of all weights.
pub(crate) const SEED: u64 = 42;
/// As in the prior art: the rate, the norm to clip to, the balance loss.
const RATE: f64 = 1e-4;
const CLIP: f64 = 1.0;
const AUX: f64 = 0.01;

/// Something that is run many times.
pub(crate) trait Work {
    /// How long n runs take.
    fn run(&mut self, n: u64) -> Duration;
    /// What came out of the last run, part by part.
    fn outputs(&mut self, look: &mut dyn FnMut(&[f32]));
}
/// Work that one thread does: a single run.
trait Once {
    fn once(&mut self);
    fn outputs(&mut self, look: &mut dyn FnMut(&[f32]));
}
impl<W: Once> Work for W {
    fn run(&mut self, n: u64) -> Duration {
        let start = Instant::now();
        for _ in 0..n {
            self.once();
        }
        start.elapsed()
    }
    fn outputs(&mut self, look: &mut dyn FnMut(&[f32])) {
        Once::outputs(self, look);
    }
}

fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}
/// Runs f on a pool of so many threads.
pub(crate) fn alone<R: Send>(
    threads: usize, f: impl FnOnce() -> R + Send,
) -> R {
    pool(threads).install(f)
}

/// ids and targets of row i: i and i + 1, modulo the vocabulary.
fn tokens(s: &Size) -> [Vec<usize>; 2] {
    let v = s.config.vocab;
    [0, 1].map(|by| (0..s.shape.rows()).map(|i| (i + by) % v).collect())
}
fn model(s: &Size) -> Model {
    Model::new(s.config.clone()).unwrap()
}
fn normal(n: usize, seed: u64) -> Vec<f32> {
    let mut x = vec![0.0; n];
    Rng::new(seed, 0).fill_normal(&mut x, 1.0);
    x
}

/// What one thread does for this kind.
fn single(kind: &Kind) -> Box<dyn Work> {
    match kind {
        Kind::Train(s) => Box::new(Train::new(s)),
        Kind::Forward(s) => Box::new(Forward::new(s)),
        Kind::Cold(s) => {
            Box::new(Cold { size: s.clone(), last: Buffer::default() })
        }
        Kind::Decode(s) => Box::new(Decode::new(s)),
        Kind::Shared(s) => Box::new(Shared::new(1, s)),
        &Kind::MatMul(n) => Box::new(MatMul {
            n,
            c: vec![0.0; n * n],
            a: normal(n * n, 42),
            b: normal(n * n, 43),
        }),
        &Kind::Softmax(n) => {
            Box::new(Softmax { p: vec![0.0; n], z: normal(n, 42) })
        }
        &Kind::RmsNorm([n, d]) => Box::new(RmsNorm {
            y: vec![0.0; n * d],
            r: vec![0.0; n],
            x: normal(n * d, 42),
            gain: vec![1.0; d],
        }),
    }
}

struct Forward {
    model: Model,
    p: Params<f32>,
    tokens: Vec<usize>,
    a: Acts<f32>,
}
impl Forward {
    fn new(s: &Size) -> Self {
        let [tokens, _] = tokens(s);
        let model = model(s);
        let (p, a) = (model.init(SEED), model.acts_forward(s.shape));
        Self { model, p, tokens, a }
    }
}
impl Once for Forward {
    fn once(&mut self) {
        self.model.forward(&self.p, &self.tokens, &mut self.a);
    }
    fn outputs(&mut self, look: &mut dyn FnMut(&[f32])) {
        look(&self.a.head.y);
    }
}

struct Cold {
    size: Size,
    last: Buffer<f32>,
}
impl Once for Cold {
    fn once(&mut self) {
        let mut f = Forward::new(&self.size);
        f.once();
        self.last = f.a.head.y; // the rest is freed, in the same time
    }
    fn outputs(&mut self, look: &mut dyn FnMut(&[f32])) {
        look(&self.last);
    }
}

struct Train {
    model: Model,
    p: Params<f32>,
    tokens: Vec<usize>,
    targets: Vec<usize>,
    gradient: Gradient<f32>,
    norm: Norm<f32>,
    done: usize,
    adam: AdamW<f32>,
    loss: f32,
}
impl Train {
    fn new(s: &Size) -> Self {
        let [tokens, targets] = tokens(s);
        let model = model(s);
        let coef = Coefficients { ce: 1.0, aux: AUX, z: 0.0 };
        Self {
            p: model.init(SEED),
            tokens,
            targets,
            gradient: Gradient::new(
                &model,
                s.shape,
                shards(s.shape),
                coef,
                false,
            ),
            norm: Norm::new(&model.layout),
            done: 0,
            adam: AdamW::new(&model.layout, 0.1, Decay::Weights),
            loss: 0.0,
            model,
        }
    }
}
impl Once for Train {
    fn once(&mut self) {
        let b = Batch { tokens: &self.tokens, targets: &self.targets };
        let (loss, dp) = self.gradient.compute(&self.model, &self.p, b);
        self.done += 1;
        let (t, scale) = (self.done, clip(self.norm.norm(dp), CLIP));
        self.adam.step(&mut self.p, dp, Step { t, lr: RATE, scale });
        self.loss = loss.total;
    }
    fn outputs(&mut self, look: &mut dyn FnMut(&[f32])) {
        look(&self.p.data);
        look(&[self.loss]);
    }
}

/// A training step that several threads share.
struct Shared {
    pool: ThreadPool,
    train: Train,
}
impl Shared {
    fn new(threads: usize, s: &Size) -> Self {
        Self { pool: pool(threads), train: Train::new(s) }
    }
}
impl Work for Shared {
    fn run(&mut self, n: u64) -> Duration {
        let train = &mut self.train;
        self.pool.install(|| train.run(n))
    }
    fn outputs(&mut self, look: &mut dyn FnMut(&[f32])) {
        Once::outputs(&mut self.train, look);
    }
}

/// A whole sequence, greedily, with the key/value cache. The decoder borrows
/// the model, which therefore lives as long as the program.
struct Decode {
    decoder: Decoder<'static, f32>,
    p: Params<f32>,
    sampler: Sampler,
    rng: Rng,
    len: usize,
    last: Vec<f32>,
}
impl Decode {
    fn new(s: &Size) -> Self {
        let model: &'static Model = Box::leak(Box::new(model(s)));
        Self {
            decoder: Decoder::new(model),
            p: model.init(SEED),
            sampler: Sampler::greedy(),
            rng: Rng::new(SEED, 0),
            len: s.shape.time,
            last: vec![0.0; s.config.vocab],
        }
    }
}
impl Once for Decode {
    fn once(&mut self) {
        self.decoder.reset();
        let mut token = 0;
        for _ in 0..self.len {
            let z = self.decoder.step(&self.p, token).unwrap();
            token = self.sampler.sample(z, &mut self.rng).unwrap();
            self.last.copy_from_slice(z);
        }
    }
    fn outputs(&mut self, look: &mut dyn FnMut(&[f32])) {
        look(&self.last);
    }
}

struct MatMul {
    n: usize,
    c: Vec<f32>,
    a: Vec<f32>,
    b: Vec<f32>,
}
impl Once for MatMul {
    fn once(&mut self) {
        let (n, [a, b]) = (self.n, black_box([&self.a, &self.b]));
        matmul(mat_mut(&mut self.c, n), Set, mat(a, n), mat(b, n));
        black_box(&mut self.c);
    }
    fn outputs(&mut self, look: &mut dyn FnMut(&[f32])) {
        look(&self.c);
    }
}
struct Softmax {
    p: Vec<f32>,
    z: Vec<f32>,
}
impl Once for Softmax {
    fn once(&mut self) {
        self.p.copy_from_slice(black_box(&self.z));
        softmax_forward(&mut self.p);
        black_box(&mut self.p);
    }
    fn outputs(&mut self, look: &mut dyn FnMut(&[f32])) {
        look(&self.p);
    }
}
struct RmsNorm {
    y: Vec<f32>,
    r: Vec<f32>,
    x: Vec<f32>,
    gain: Vec<f32>,
}
impl Once for RmsNorm {
    fn once(&mut self) {
        let x = black_box(&self.x);
        rmsnorm_forward(&mut self.y, &mut self.r, x, &self.gain, 1e-5);
        black_box(&mut self.y);
    }
    fn outputs(&mut self, look: &mut dyn FnMut(&[f32])) {
        look(&self.y);
        look(&self.r);
    }
}

/// What the threads of a team are asked to do with their own work.
type Job = Box<dyn FnOnce(&mut dyn Work) + Send>;

/// T threads that stay, each with a model of its own. A run lasts until all
/// have done one; the caller is one of them, and between runs all wait for
/// each other awake, for to wake a thread costs a third of a run.
struct Team {
    /// The caller's own.
    own: Box<dyn Work>,
    others: Vec<(Sender<Job>, JoinHandle<()>)>,
    /// T, and how many the machine runs at once.
    counts: [u64; 2],
}
impl Team {
    fn new(threads: usize, kind: &Kind) -> Self {
        let other = |_| {
            let (kind, (send, jobs)) = (kind.clone(), channel::<Job>());
            let body = move || {
                alone(1, move || {
                    let mut work = single(&kind);
                    jobs.into_iter().for_each(|job| job(&mut *work));
                });
            };
            (send, thread::spawn(body))
        };
        let others = (1..threads).map(other).collect();
        // Asked here, for it reads files.
        let cores = thread::available_parallelism().map_or(1, |n| n.get());
        let counts = [threads, cores].map(|n| n as u64);
        Self { own: single(kind), others, counts }
    }
}
/// Begins each of n runs together with all others.
fn together(
    work: &mut dyn Work, n: u64, [threads, cores]: [u64; 2], done: &AtomicU64,
) {
    for run in 0..=n {
        let all = (run + 1) * threads;
        done.fetch_add(1, AcqRel);
        while done.load(Acquire) < all {
            if threads > cores {
                thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        if run < n {
            work.run(1);
        }
    }
}
impl Work for Team {
    fn run(&mut self, n: u64) -> Duration {
        let (counts, done) = (self.counts, Arc::new(AtomicU64::new(0)));
        for (send, _) in &self.others {
            let done = done.clone();
            let job: Job = Box::new(move |w| together(w, n, counts, &done));
            send.send(job).unwrap();
        }
        // The first meeting is not timed: by then, all are awake.
        while done.load(Acquire) < counts[0] - 1 {
            thread::yield_now();
        }
        let start = Instant::now();
        together(&mut *self.own, n, counts, &done);
        start.elapsed()
    }
    fn outputs(&mut self, look: &mut dyn FnMut(&[f32])) {
        self.own.outputs(look);
        for (send, _) in &self.others {
            let (to, from) = channel();
            let job: Job = Box::new(move |w| {
                w.outputs(&mut |x| to.send(x.to_vec()).unwrap());
            });
            send.send(job).unwrap();
            from.into_iter().for_each(|x| look(&x));
        }
    }
}
impl Drop for Team {
    fn drop(&mut self) {
        for (send, thread) in self.others.drain(..) {
            drop(send); // no more jobs
            thread.join().unwrap();
        }
    }
}

impl Scenario {
    /// All its memory, and its inputs.
    pub(crate) fn make(&self) -> Box<dyn Work> {
        match (&self.kind, self.group) {
            (Kind::Shared(s), _) => Box::new(Shared::new(self.threads, s)),
            (kind, "parallel") => Box::new(Team::new(self.threads, kind)),
            (kind, _) => single(kind),
        }
    }
}
