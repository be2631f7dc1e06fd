//! Chapter: training. Numbers that chapters state in words: each beside the line
//! of code that makes it true, so that neither changes alone. What an equation
//! or an example of a chapter computes needs no line here.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(missing_docs, reason = "a test is documented by its name")]

use moe_by_hand::config::Config;
use moe_by_hand::half::Bf16;
use moe_by_hand::model::Model;
use moe_by_hand::ratio::hint;
use moe_by_hand::train::account::Account;
use moe_by_hand::train::optimizer::{AdamW, Decay};
use moe_by_hand::train::options::Options;
use std::fs;
use std::path::Path;

/// A chapter and words of it; a file and code of it. In both, a blank is any
/// white space.
type Stated = [&'static str; 4];
const STATED: &[Stated] = &[
    // The judge.
    [
        "gradcheck",
        "with $h = 10^{-5}$ each element",
        "src/gradcheck.rs",
        "STEP: f64 = 1e-5;",
    ],
    [
        "gradcheck",
        "$p = 2^{61} - 1$",
        "src/field.rs",
        "P: u64 = (1 << 61) - 1;",
    ],
    [
        "model",
        "at 24 places of each tensor",
        "src/gradcheck.rs",
        "coordinates: 24,",
    ],
    // Kernels and parameters.
    [
        "elementary",
        "between $-87$ and $89$",
        "src/elementary.rs",
        "EXP_LOW: f32 = -87.0;",
    ],
    [
        "elementary",
        "between $-87$ and $89$",
        "src/elementary.rs",
        "EXP_HIGH: f32 = 89.0;",
    ],
    [
        "elementary",
        "this library stops at $2^{17}$",
        "src/elementary.rs",
        "SIN_COS_LIMIT: f32 = 131_072.0;",
    ],
    [
        "random",
        "a plain $0.02$, which is the default here",
        "src/config.rs",
        "init: 0.02,",
    ],
    [
        "parallel",
        "in chunks of 4096",
        "src/kernel/vector.rs",
        "CHUNK: usize = 4096;",
    ],
    [
        "memory",
        "a `Buffer` of at least 1 MiB",
        "src/kernel/simd/buffer.rs",
        "LONG: usize = 1 << 20;",
    ],
    [
        "memory",
        "begins 17 lines further in its page",
        "src/kernel/simd/buffer.rs",
        "STEP: usize = 17 * ALIGN;",
    ],
    // The optimizers and the schedule.
    [
        "optimizer",
        "$\\beta_1 = 0.9$, $\\beta_2 = 0.95$",
        "src/train/optimizer.rs",
        "BETA1: f64 = 0.9;",
    ],
    [
        "optimizer",
        "$\\beta_1 = 0.9$, $\\beta_2 = 0.95$",
        "src/train/optimizer.rs",
        "BETA2: f64 = 0.95;",
    ],
    [
        "optimizer",
        "$\\epsilon = 10^{-8}$. PyTorch's",
        "src/train/optimizer.rs",
        "EPS: f64 = 1e-8;",
    ],
    [
        "optimizer",
        "each chunk of 4096 is summed by itself",
        "src/kernel/vector.rs",
        "CHUNK: usize = 4096;",
    ],
    [
        "optimizer",
        "chunks of four times that length",
        "src/train/optimizer.rs",
        "PASS: usize = 4 * CHUNK;",
    ],
    [
        "optimizer",
        "a tenth of all steps for this, and at most 100",
        "src/train/options.rs",
        "100.min(self.steps / 10)",
    ],
    [
        "optimizer",
        "by default a fifth of them",
        "src/train/options.rs",
        "fn cooldown() -> f64 { 0.2 }",
    ],
    [
        "optimizer",
        "$\\mu = 0.95$, five steps with",
        "src/train/muon.rs",
        "MOMENTUM: f64 = 0.95;",
    ],
    [
        "optimizer",
        "$\\mu = 0.95$, five steps with",
        "src/train/muon.rs",
        "STEPS: usize = 5;",
    ],
    [
        "optimizer",
        "$a = 3.4445$, $b = -4.7750$, $c = 2.0315$",
        "src/train/muon.rs",
        "QUINTIC: [f64; 3] = [3.4445, -4.7750, 2.0315];",
    ],
    [
        "optimizer",
        "rate $0.02$, and an $\\epsilon$ of its own, $10^{-7}$",
        "src/train/muon.rs",
        "EPS: f64 = 1e-7;",
    ],
    [
        "optimizer",
        "rate $0.02$, and an $\\epsilon$ of its own, $10^{-7}$",
        "src/train/options.rs",
        "fn muon_lr() -> f64 { 0.02 }",
    ],
    [
        "optimizer",
        "With $\\eta = 10^{-3}$ and $\\lambda = 0.1$",
        "src/train/options.rs",
        "fn decay() -> f64 { 0.1 }",
    ],
    [
        "rmsnorm",
        "With $\\epsilon = 10^{-5}$ and rows",
        "src/config.rs",
        "rms_eps: 1e-5,",
    ],
    // A run.
    [
        "training",
        "the default run, 2000 steps of 768 bytes",
        "src/train/options.rs",
        "steps: 2000, batch: 12, seq: 64,",
    ],
    [
        "model",
        "the default coefficients $\\alpha = 0.01$ and $\\beta = 0$",
        "src/train/options.rs",
        "aux: 0.01, z_loss: 0.0,",
    ],
    [
        "model",
        "the default coefficients $\\alpha = 0.01$ and $\\beta = 0$",
        "src/config.rs",
        "aux: 0.01,",
    ],
    [
        "half",
        "A step of AdamW is about $\\eta = 10^{-3}$",
        "src/train/options.rs",
        "lr: 1e-3,",
    ],
    [
        "half",
        "Begin with ${S = 65536}$",
        "src/train/precision.rs",
        "FIRST: f64 = 65_536.0;",
    ],
    [
        "half",
        "If 2000 steps in a row were good",
        "src/train/precision.rs",
        "CLEAN: usize = 2000;",
    ],
    [
        "half",
        "the run ends after a hundred such steps",
        "src/train/precision.rs",
        "LOW: usize = 100;",
    ],
    // What is counted of the planted mistakes.
    [
        "mutants",
        "sure to find 30 of the 45",
        "book/figures/caught.csv",
        "a 30 of 45 for certain",
    ],
    [
        "mutants",
        "Rung T10, which compares over a finite field and tolerates nothing, \
         misses none",
        "book/figures/caught.csv",
        "T10 45 of 45;",
    ],
    [
        "mutants",
        "Beyond them PyTorch's rule misses none",
        "book/figures/caught.csv",
        "c 43 of 45.",
    ],
    // What the judge says.
    [
        "router",
        "margin too small, choose another seed",
        "src/gradcheck.rs",
        "margin too small, choose another seed",
    ],
    [
        "symptoms",
        "but dual numbers agree with the analytic one",
        "src/gradcheck.rs",
        "but dual numbers agree with the analytic one",
    ],
    [
        "symptoms",
        "margin too small, choose another seed",
        "src/gradcheck.rs",
        "margin too small, choose another seed",
    ],
    [
        "symptoms",
        "T10: not measured: `f64()` was called",
        "src/gradcheck.rs",
        "T10: not measured: `f64()` was called",
    ],
    [
        "symptoms",
        "none of 1000 draws … had",
        "src/gradcheck.rs",
        "DRAWS: usize = 1000;",
    ],
    [
        "symptoms",
        "backward again on used buffers",
        "src/gradcheck.rs",
        "backward again on used buffers",
    ],
    // Generation.
    [
        "kv-cache",
        "through the blocks 32 rows at a time",
        "src/generate/decode.rs",
        "ROWS: usize = 32;",
    ],
];

/// The file with one blank for all white space, as one line.
fn flat(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = fs::read_to_string(&path);
    let text = text.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_a_chapter_states_is_what_the_code_has() {
    for [chapter, words, file, code] in STATED {
        let page = format!("book/src/{chapter}.md");
        let (states, has) =
            (flat(&page).contains(words), flat(file).contains(code));
        assert!(has, "{file} no longer has `{code}`: mend {page}, “{words}”");
        assert!(states, "{page} no longer has “{words}”: mend this list");
    }
}

/// The appendix has the words of each ratio.
#[test]
fn the_symptoms_are_those_of_the_report() {
    let page = flat("book/src/symptoms.md");
    for ratio in [-1.0, 0.0, 2.0, 0.5, 8.0, 5f64.sqrt(), 1.0, f64::NAN, -23.7] {
        let (_, means) = hint(ratio).split_once(": ").unwrap();
        assert!(page.contains(&format!("| {means} |")), "{ratio}: {means}");
    }
}

/// The table of what a default run takes, in 32 bits and in 16.
#[test]
fn the_bytes_of_a_run_are_those_that_are_counted() {
    let page = flat("book/src/half.md");
    let (o, text) = (Options::default(), 1_115_394);
    let model = Model::new(Config::preset("bytes").unwrap()).unwrap();
    let adam = |l: &_| AdamW::<f32>::new(l, o.decay, Decay::Weights);
    let whole = Account::new(&model, &o, text, 1, adam);
    let half = Account::stored::<Bf16, _, _>(&model, &o, text, 1, adam);
    let states = |bytes: u64| {
        let mut shown = bytes.to_string();
        for at in (1..shown.len()).rev().step_by(3).filter(|at| *at > 2) {
            shown.insert(at - 2, ',');
        }
        assert!(page.contains(&shown), "half.md has no {shown}");
    };
    for (whole, half) in [
        (whole.weights, half.working),
        (whole.gradients, half.gradients),
        (whole.activations, half.activations),
        (whole.total(), half.total()),
    ] {
        states(whole);
        states(half);
    }
}
