//! Chapter: optimizer. What must hold of Muon beside its equations: three steps
//! by NumPy, transposition, threads, what is saved, what it moves.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use moe_by_hand::config::Config;
use moe_by_hand::model::Model;
use moe_by_hand::nn::loss::CrossEntropy;
use moe_by_hand::params::{Layout, Role};
use moe_by_hand::real::Real;
use moe_by_hand::rng::Rng;
use moe_by_hand::train::checkpoint::{self, Checkpoint};
use moe_by_hand::train::data::Text;
use moe_by_hand::train::muon::{Muon, Scratch, hidden, newton_schulz};
use moe_by_hand::train::optimizer::{Optimizer, Step};
use moe_by_hand::train::options::Options;
use moe_by_hand::train::trainer::Trainer;
use serde::Deserialize;
use std::fs;
use std::path::Path;

/// What `tests/oracle/make_muon.py` wrote.
#[derive(Deserialize)]
struct Reference {
    lr: f64,
    decay: f64,
    matrices: Vec<Matrix>,
}
#[derive(Deserialize)]
struct Matrix {
    name: String,
    shape: [usize; 2],
    /// Before the first step, and after each.
    theta: Vec<Vec<f64>>,
    grads: Vec<Vec<f64>>,
    /// At the end.
    momentum: Vec<f64>,
}
/// The largest differences of θ after three steps and of the momentum.
fn off_reference<T: Real>() -> [f64; 2] {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/muon.json");
    let text = fs::read_to_string(file).unwrap();
    let r: Reference = serde_json::from_str(&text).unwrap();
    let mut layout = Layout::default();
    let mut b = layout.builder();
    let all: Vec<_> = (r.matrices.iter())
        .map(|m| b.param(&m.name, m.shape, Role::Weight))
        .collect();
    let mut p = layout.zeros::<T>();
    let mut dp = layout.grads::<T>();
    // The rate of hidden matrices is twice that of the others.
    let mut muon = Muon::with(&layout, r.decay, 2.0, 2, hidden);
    let set = |to: &mut [T], from: &[f64]| {
        to.iter_mut().zip(from).for_each(|(t, &f)| *t = T::of(f));
    };
    let (mut worst, mut of_m) = (0f64, 0f64);
    let off = |a: &[T], b: &[f64]| {
        let off = a.iter().zip(b).map(|(a, b)| (a.f64() - b).abs());
        off.fold(0.0, f64::max)
    };
    for (&e, m) in all.iter().zip(&r.matrices) {
        set(&mut p[e], &m.theta[0]);
    }
    for t in 1..=3 {
        for (&e, m) in all.iter().zip(&r.matrices) {
            set(dp.write(e), &m.grads[t - 1]);
        }
        muon.step(&mut p, &dp, Step { t, lr: r.lr / 2.0, scale: 1.0 });
        for (&e, m) in all.iter().zip(&r.matrices) {
            let moved = off(&p[e], &m.theta[0]);
            assert!(moved > 0.01, "{} moved by {moved}", m.name);
            worst = worst.max(off(&p[e], &m.theta[t]));
        }
    }
    for (&e, m) in all.iter().zip(&r.matrices) {
        of_m = of_m.max(off(&muon.m[e.range()], &m.momentum));
    }
    [worst, of_m]
}
#[test]
fn three_steps_are_those_of_numpy() {
    let [theta, m] = off_reference::<f64>();
    println!("f64: θ {theta:e}, m {m:e}");
    assert!(theta < 1e-14 && m < 1e-14, "θ {theta:e}, m {m:e}");
    let [theta, m] = off_reference::<f32>();
    println!("f32: θ {theta:e}, m {m:e}");
    // Half a unit in the last place of a number from 2 to 4 is 1.2·10⁻⁷; three
    // steps round a few times, and were measured at 5·10⁻⁷.
    assert!(theta < 1e-6 && m < 1e-6, "θ {theta:e}, m {m:e}");
}

fn orthogonalized<T: Real>(m: &[i64], cols: usize) -> Vec<T> {
    let mut x: Vec<T> = m.iter().map(|&m| T::of(m as f64)).collect();
    let n = cols.min(m.len() / cols);
    newton_schulz(&mut x, cols, &mut Scratch::new(m.len(), n));
    x
}
/// To the bit: whole numbers have a norm without rounding, A is symmetric, and
/// each element of a product is one chain of sums. A square matrix and its
/// transpose are both multiplied from the left, so these two differ by rounding.
#[test]
fn the_transposed_matrix_has_the_transposed_result() {
    fn same<T: Real>(rows: usize, cols: usize, rounding: f64) {
        let mut rng = Rng::named(rows as u64, "whole numbers");
        let mut one = || rng.below(17) as i64 - 8;
        let m: Vec<i64> = (0..rows * cols).map(|_| one()).collect();
        let t: Vec<i64> =
            (0..m.len()).map(|i| m[i % rows * cols + i / rows]).collect();
        let (x, y) = (orthogonalized::<T>(&m, cols), orthogonalized(&t, rows));
        for (i, &y) in y.iter().enumerate() {
            let x: T = x[i % rows * cols + i / rows];
            let most = if rows == cols { rounding } else { 0.0 };
            let off = (x - y).f64().abs();
            assert!(off <= most, "{rows} × {cols}, [{i}]: {x:?} {y:?}");
        }
        let none: Vec<T> = orthogonalized(&vec![0; m.len()], cols);
        assert!(none.iter().all(|&x| x == T::ZERO), "no gradient, no update");
    }
    for (rows, cols) in [(1, 1), (1, 9), (3, 8), (7, 7), (20, 33), (64, 129)] {
        for (rows, cols) in [(rows, cols), (cols, rows)] {
            same::<f32>(rows, cols, 1e-5);
            same::<f64>(rows, cols, 1e-14);
        }
    }
}
#[test]
fn the_smallest_gradients_are_no_nan() {
    let mut layout = Layout::default();
    let w = layout.builder().param("w", [3, 5], Role::Weight);
    for g in [0.0f32, 1e-45, 1e-30, 1e-20, 1e18] {
        let mut muon = Muon::<f32>::new(&layout, 0.0, 1.0);
        let (mut p, mut dp) = (layout.zeros(), layout.grads());
        dp.write(w).fill(g);
        muon.step(&mut p, &dp, Step { t: 1, lr: 1.0, scale: 1.0 });
        assert!(p.data.iter().all(|p| p.is_finite()), "{g:e}: {p:?}");
        assert_eq!(p.data[0] == 0.0, g == 0.0, "{g:e}: {p:?}");
    }
}

fn model() -> Model {
    let config = Config {
        hidden: 16,
        layers: 2,
        kv_heads: 2,
        head: 4,
        experts: 4,
        intermediate: 24,
        context: 32,
        attention_bias: true,
        ..Config::preset("bytes").unwrap()
    };
    Model::new(config).unwrap()
}
fn options() -> Options {
    Options { batch: 4, seq: 16, steps: 30, lr: 1e-2, ..Options::default() }
}
type OfMuon = Trainer<moe_by_hand::block::Block, Muon<f32>>;
/// With memory for so many threads.
fn trainer(model: Model, o: Options, threads: usize) -> OfMuon {
    let text = Text::new(b"the gate chose an expert, not all. ".repeat(40));
    let muon = Muon::with(&model.layout, o.decay, 2.0, threads, hidden);
    Trainer::with(model, text, o, muon, CrossEntropy).unwrap()
}
fn theta(mut t: OfMuon, steps: usize) -> Vec<u32> {
    (0..steps).for_each(|_| {
        t.step().unwrap();
    });
    t.params.data.iter().map(|p| p.to_bits()).collect()
}

/// All matrices of attention and experts, and nothing else.
#[test]
fn hidden_matrices_are_those_of_attention_and_experts() {
    let m = model();
    for e in &m.layout.entries {
        let last = e.name.rsplit('.').next().unwrap();
        let names = ["wq", "wk", "wv", "wo", "w1", "w2", "w3"];
        assert_eq!(hidden(e), names.contains(&last), "{}", e.name);
    }
    let count = m.layout.entries.iter().filter(|e| hidden(e)).count();
    assert_eq!(count, 2 * (4 + 4 * 3), "each expert's matrices are its own");
    let muon = Muon::<f32>::new(&m.layout, 0.1, 2.0);
    let rest = m.layout.entries.iter().filter(|e| !hidden(e));
    let rest: usize = rest.map(|e| e.param.range().len()).sum();
    assert_eq!((muon.m.len(), muon.v.len()), (m.layout.len, rest));
}
#[test]
fn threads_and_parts_do_not_matter() {
    let one = theta(trainer(model(), options(), 1), 3);
    for (parts, threads) in [(1, 3), (2, 1), (2, 2), (3, 2), (4, 4), (100, 2)] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let run = || theta(trainer(model(), options(), parts), 3);
        let many = pool.build().unwrap().install(run);
        assert!(many == one, "{parts} parts on {threads} threads: other bits");
    }
}
#[test]
fn a_run_goes_on_with_the_same_bits() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("muon");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    let file = dir.join(checkpoint::FILE);
    let whole = theta(trainer(model(), options(), 1), 5);
    for saved in [0, 1, 3] {
        let mut t = trainer(model(), options(), 1);
        (0..saved).for_each(|_| {
            t.step().unwrap();
        });
        t.save(&file).unwrap();
        let read = || Checkpoint::read(&file).unwrap();
        assert_eq!(read().state.optimizer, "muon");
        let mut again = trainer(model(), options(), 3);
        again.restore(read()).unwrap();
        let rest = theta(again, 5 - saved);
        assert!(rest == whole, "other bits when resumed at step {saved}");
        // What is saved is what it needs.
        for name in ["m", "v"] {
            let mut lost = read();
            lost.tensors.get_mut(name).unwrap().fill(0.0);
            let mut again = trainer(model(), options(), 1);
            again.restore(lost).unwrap();
            let rest = theta(again, 5 - saved);
            assert_eq!(rest == whole, saved == 0, "{name}, step {saved}");
        }
        let mut bad = read();
        bad.tensors.get_mut("v").unwrap()[3] = -1.0;
        let error = trainer(model(), options(), 1).restore(bad);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("v[3]"), "{error}");
        let text = Text::new(b"the gate chose an expert, not all. ".repeat(40));
        let adam = Trainer::resume(model(), text, options(), read());
        let error = adam.err().unwrap().to_string();
        let words = "the optimizer is adamw, but the run was begun with muon";
        assert!(error.contains(words), "{error}");
    }
}
#[test]
fn what_is_frozen_stays_and_the_rest_learns() {
    let mut m = model();
    assert!(m.layout.freeze("layers.0.moe.experts.1") > 0, "an expert");
    assert!(m.layout.freeze("layers.1.norm1") > 0, "a norm");
    let first = m.init::<f32>(options().seed);
    let mut t = trainer(m, options(), 2);
    let before = t.validate();
    (0..30).for_each(|_| {
        t.step().unwrap();
    });
    for e in &t.model.layout.entries {
        let same = t.params[e.param] == first[e.param];
        assert_eq!(same, e.frozen, "{}", e.name);
    }
    let after = t.validate();
    assert!(after < before / 2.0, "from {before} to {after}");
}
