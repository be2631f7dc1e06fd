//! Chapter: measuring, memory. Nothing allocates in a steady training step, and
//! recomputing saves the memory it is for: by the allocator that counts.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::allocator::{alone, calls, count_this_thread, in_use};
use moe_by_hand::block::Block;
use moe_by_hand::config::Config;
use moe_by_hand::half::{Bf16, F16};
use moe_by_hand::kernel::simd::{self, Buffer};
use moe_by_hand::layer::{Decode, Shape};
use moe_by_hand::memory;
use moe_by_hand::model::Model;
use moe_by_hand::nn::loss::CrossEntropy;
use moe_by_hand::params::Layout;
use moe_by_hand::train::account::Account;
use moe_by_hand::train::data::Text;
use moe_by_hand::train::gradient::{Coefficients, Gradient, shards};
use moe_by_hand::train::muon::{Muon, hidden};
use moe_by_hand::train::optimizer::{AdamW, Decay, Norm, Optimizer, StepFrom};
use moe_by_hand::train::options::Options;
use moe_by_hand::train::precision::Stored;
use moe_by_hand::train::trainer::Trainer;
use moe_by_hand::train::validation::Validation;
use rayon::current_num_threads;
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::yield_now;

/// Bytes that `make` leaves in use: the middle one of five times, because
/// the harness frees what a test that has ended printed whenever it likes.
fn bytes<R>(make: impl Fn() -> R) -> (usize, R) {
    let one = || {
        let before = in_use();
        let made = make();
        (in_use().saturating_sub(before) as usize, made)
    };
    let mut taken = [(); 5].map(|()| one().0);
    taken.sort_unstable();
    (taken[2], one().1)
}
fn config() -> Config {
    Config {
        hidden: 16,
        layers: 4,
        kv_heads: 2,
        head: 4,
        experts: 4,
        intermediate: 8,
        context: 32,
        ..Config::preset("bytes").unwrap()
    }
}
fn options() -> Options {
    Options { batch: 40, seq: 16, steps: 20, ..Options::default() }
}
fn text() -> Text {
    Text::new(b"to be or not to be ".repeat(60))
}
fn trainer(o: Options) -> Trainer {
    Trainer::new(Model::new(config()).unwrap(), text(), o).unwrap()
}
type Run<O, T> = Trainer<Block, O, CrossEntropy, T>;
fn run<O: Optimizer<f32>, T: Stored>(
    o: Options, make: impl FnOnce(&Layout) -> O,
) -> Run<O, T> {
    let m = Model::new(config()).unwrap();
    let optimizer = make(&m.layout);
    Trainer::stored(m, text(), o, optimizer, CrossEntropy).unwrap()
}
fn with_adam<T: Stored>(o: Options) -> Run<AdamW<f32>, T> {
    let decay = o.decay;
    run(o, |layout| AdamW::new(layout, decay, Decay::Weights))
}
fn with_muon<T: Stored>(o: Options) -> Run<Muon<f32>, T> {
    run(o, muon)
}
fn muon(layout: &Layout) -> Muon<f32> {
    Muon::with(layout, 0.1, 20.0, current_num_threads(), hidden)
}
/// Also of one so long that it takes a page more.
#[test]
fn a_buffer_is_counted_as_it_is_allocated() {
    let _alone = alone();
    let part = [0u32; 256]; // 1 KiB
    for len in [0, 1, 1023, 1024, 1025, 2047, 2048, 5000] {
        let (taken, one) = bytes(|| Buffer::new(len, part));
        let (counted, _) = simd::bytes(|| Buffer::new(len, part));
        assert_eq!(taken as u64, counted, "{len} KiB");
        assert!(counted - one.len() as u64 * 1024 <= 4096, "{len} KiB");
        let (freed, _) = bytes(|| drop(Buffer::new(len, part)));
        assert_eq!(freed, 0, "{len} KiB");
    }
}
/// Goes on until each thread of the pool has taken work from another. The
/// first time it does, rayon allocates what it needs for that, and on a busy
/// machine that may be later than a whole step.
fn all_have_shared() {
    let threads = current_num_threads();
    let have: Vec<_> = (0..threads).map(|_| AtomicBool::new(false)).collect();
    while !have.iter().all(|one| one.load(Relaxed)) {
        (0..8 * threads).into_par_iter().for_each(|_| {
            let one = rayon::current_thread_index().and_then(|i| have.get(i));
            one.expect("in the pool").store(true, Relaxed);
            yield_now();
        });
    }
}
/// What four steps and a validation allocate, when they are not the first.
fn calls_of<O: StepFrom<T>, T: Stored>(mut t: Run<O, T>) -> u64 {
    assert!(calls() > 0, "it counts");
    all_have_shared();
    t.step().unwrap();
    t.validate();
    let before = calls();
    for _ in 0..4 {
        t.step().unwrap();
    }
    t.validate();
    calls() - before
}

#[test]
fn a_steady_step_allocates_nothing() {
    steady::<f32>();
}
#[test]
fn a_steady_step_in_16_bits_allocates_nothing() {
    steady::<Bf16>();
    steady::<F16>();
}
fn steady<T: Stored>()
where
    AdamW<f32>: StepFrom<T>,
    Muon<f32>: StepFrom<T>,
{
    let _one = alone();
    let each = [
        options(),
        Options { accumulate: 2, ..options() },
        Options { recompute: true, ..options() },
    ];
    for o in each {
        for threads in [1, 2, 4] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let count = pool.build().unwrap().install(|| {
                rayon::broadcast(|_| count_this_thread());
                let adam = calls_of(with_adam::<T>(o.clone()));
                [adam, calls_of(with_muon::<T>(o.clone()))]
            });
            assert_eq!(count, [0; 2], "allocations, {threads} threads, {o:?}");
        }
    }
}

/// The copy of the weights, the activations, their gradients and those of the
/// weights lie in 16 bits; what is not halved are indices, and sums.
#[test]
fn half_the_bits_are_half_the_bytes() {
    let _one = alone();
    fn of<T: Stored>(c: &Config, shape: Shape) -> usize {
        let m = Model::new(c.clone()).unwrap();
        let coef = Coefficients { ce: 1.0, aux: 0.01, z: 0.0 };
        let n = shards(shape);
        let make = || {
            let weights = m.layout.zeros::<T>();
            (weights, Gradient::<T>::new(&m, shape, n, coef, false))
        };
        bytes(make).0
    }
    for (preset, batch, time) in
        [("tiny", 8, 64), ("small", 12, 64), ("bytes", 12, 64)]
    {
        let c = Config::preset(preset).unwrap();
        let shape = Shape { batch, time };
        let full = of::<f32>(&c, shape);
        for half in [of::<Bf16>(&c, shape), of::<F16>(&c, shape)] {
            let share = half as f64 / full as f64;
            println!("{preset}: {half} of {full} bytes, {share:.4}");
            assert!(share <= 0.55, "{preset}: {half} of {full} bytes");
        }
    }
}

#[test]
fn recompute_halves_the_activations() {
    let _one = alone();
    let m = Model::new(Config::preset("bytes").unwrap()).unwrap();
    let shape = Shape { batch: 12, time: 64 };
    let of = |recompute| {
        let both = || (m.acts::<f32>(shape, recompute), m.grads::<f32>(shape));
        bytes(both).0
    };
    let (kept, again) = (of(false), of(true));
    println!("activations: {kept} bytes, recomputed {again}");
    assert!(again * 2 <= kept, "{kept} bytes, and still {again}");
}

fn account(c: &Config, o: &Options, text: usize) -> Account {
    let m = Model::new(c.clone()).unwrap();
    let adam = |layout: &_| AdamW::new(layout, o.decay, Decay::Weights);
    Account::new(&m, o, text, rayon::current_num_threads(), adam)
}
/// What `moe info` and `moe train` say a run takes, and what a trainer takes.
/// Beside buffers it holds names and structures, a few kilobytes.
#[test]
fn memory_is_known_before() {
    let _one = alone();
    let large = Options { batch: 100, seq: 32, ..options() };
    let again = Options { recompute: true, accumulate: 3, ..large.clone() };
    for o in [options(), large, again] {
        let said = account(&config(), &o, text().id.bytes).total() as usize;
        let (taken, _) = bytes(|| trainer(o.clone()));
        let (m, threads) = (trainer(o.clone()).model, current_num_threads());
        let n = text().id.bytes;
        let adam = |layout: &_| AdamW::new(layout, o.decay, Decay::Weights);
        let half = Account::stored::<Bf16, _, _>(&m, &o, n, threads, adam);
        assert_eq!(half.working, 2 * m.layout.len as u64);
        let of = Account::new(&m, &o, n, threads, muon).total() as usize;
        let (halved, _) = bytes(|| with_adam::<Bf16>(o.clone()));
        let (moved, _) = bytes(|| with_muon::<f32>(o.clone()));
        let half = half.total() as usize;
        for (said, taken) in [(said, taken), (half, halved), (of, moved)] {
            println!("{said} said, {taken} taken, {o:?}");
            let rest = taken.abs_diff(said);
            let what = format!("{said} for {taken}, {o:?}");
            assert!(taken >= said && rest < 40_000, "{what}");
        }
    }
}

/// A model whose buffers are long has a page for many of them, and these are
/// said to the byte, too.
#[test]
fn memory_of_long_buffers_is_known_before() {
    let _one = alone();
    let c = Config::preset("bytes").unwrap();
    let o = Options { batch: 12, seq: 64, steps: 20, ..Options::default() };
    let said = account(&c, &o, text().id.bytes);
    let model = || Model::new(c.clone()).unwrap();
    let make = || Trainer::new(model(), text(), o.clone()).unwrap();
    let (taken, _trainer) = bytes(make);
    println!(
        "{} said, {} of them pages, {taken} taken",
        said.total(),
        said.pages
    );
    assert!(said.pages > 4 * 4096, "few pages: {}", said.pages);
    // Names and structures are 45 kB; without the pages, 65 kB are unsaid.
    let rest = taken as i64 - said.total() as i64;
    assert!((0..60_000).contains(&rest), "{rest} bytes beside {said:?}");
}

/// Each part of it: a flag for each tensor, and structures, are not said.
#[test]
fn each_part_is_known_before() {
    let _one = alone();
    for (preset, batch, seq) in
        [("tiny", 2, 8), ("tiny", 8, 64), ("small", 2, 32), ("bytes", 12, 64)]
    {
        let c = Config::preset(preset).unwrap();
        let m = Model::new(c.clone()).unwrap();
        let o = Options { batch, seq, ..Options::default() };
        let said = account(&c, &o, 100_000);
        let what = format!("{preset} {batch} × {seq}");
        let pages = said.pages;
        let near = |part: &str, said: u64, taken: usize| {
            println!("{what}, {part}: {said} said, {taken} taken");
            let rest = taken.abs_diff(said as usize);
            // The pages of long buffers are a part of their own.
            let most = 5_000 + taken / 1000 + pages as usize;
            assert!(rest < most, "{what}, {part}: off by {rest}");
        };
        let (taken, _p) = bytes(|| m.init::<f32>(0));
        near("weights", said.weights, taken);
        let adam = || AdamW::<f32>::new(&m.layout, 0.1, Decay::Weights);
        let (taken, _adam) = bytes(adam);
        near("moments", said.moments, taken);
        let (taken, _muon) = bytes(|| muon(&m.layout));
        let threads = rayon::current_num_threads();
        let of_muon = Account::new(&m, &o, 100_000, threads, muon);
        near("Muon", of_muon.moments, taken);
        let coef = Coefficients { ce: 1.0, aux: 0.01, z: 0.0 };
        let (s, n) = (o.shape(), shards(o.shape()));
        let make = || {
            let gradient = Gradient::<f32>::new(&m, s, n, coef, false);
            (gradient, Norm::<f32>::new(&m.layout))
        };
        let (taken, _gradient) = bytes(make);
        // The rotary table lies in the model.
        let rotary = 8 * (c.context * c.head) as u64;
        let step = said.gradients + said.activations - rotary;
        near("gradients and activations", step, taken);
        let (taken, _validation) =
            bytes(|| Validation::new(&m, 10_000, s.time));
        near("validation", said.validation, taken);
        let attention = &m.blocks[0].attention;
        let (taken, _cache) = bytes(|| attention.cache::<f32>(usize::MAX));
        near("cache", memory::cache(&c), taken * c.layers);
    }
}
