//! Chapter: mutants. Rung T8, the tester is tested: every planted mistake has
//! to be caught, and the same code without a mistake has to pass.
//!
//! `cargo test --test proofs mutants:: -- --nocapture` prints the table.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::caught::caught;
use crate::wrong::judged::{
    ALL, Library, Row, of_bias, of_block, of_l1, of_model, of_muon,
    of_optimizer, of_shards, others, rows, table,
};
use crate::wrong::muon;
use crate::wrong::net::{BATCH, Net, SHAPE, Slip, config};
use crate::wrong::optimizer::{Fault, library};
use crate::wrong::twin::Mistake::{self, *};
use moe_by_hand::gradcheck::{Function, Plan, Report, Rung, gap, measure};
use moe_by_hand::model::Model;
use moe_by_hand::real::Real;
use moe_by_hand::train::gradient::{Coefficients, Gradient};
use registry::{Source, Target};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[test]
fn every_mistake_is_caught() {
    let rows = rows();
    println!("{}", table(&rows));
    let missed = rows.iter().filter(|r| r.report.holds());
    let missed: Vec<_> = missed.map(|r| r.name).collect();
    assert!(missed.is_empty(), "not caught: {missed:?}");
    // All but the optimizers' by T10 alone.
    let alone = |r: &&Row| r.cell(Rung::T10) == "≠";
    let faults = rows.len() - Fault::ALL.len() - muon::Fault::ALL.len();
    let missed = rows[..faults].iter().filter(|r| !alone(r));
    let missed: Vec<_> = missed.map(|r| r.name).collect();
    assert!(missed.is_empty(), "not caught by T10: {missed:?}");
    // What the book shows of it.
    let csv = caught(&rows);
    let kept = fs::read_to_string(csv.path()).unwrap_or_default();
    let again = "cargo example figures -- caught";
    assert!(kept == csv.text(again), "the figure has changed: {again}");
}

#[test]
fn without_a_mistake_all_holds() {
    let report = of_block(&[]);
    let e = config().experts;
    let idle = (0..e).any(|e| !report.choices.contains(&e));
    assert!(idle, "an expert has to be idle: choose another seed");
    report.and(of_model(&[], &[])).assert("the twin");
    of_bias(None).assert("a bias");
    of_l1(None).assert("rows divided by their sums");
    of_optimizer(&library()).assert("the library's optimizer");
    of_muon(&muon::library()).assert("the library's Muon");
    let o = others(&[], &[]);
    assert!(o.r1 == 1.0 && o.r3 && o.r4 && o.relative == 0.0, "the others");
}

#[test]
fn the_twin_is_the_library() {
    let twin = Net::new(ALL, &[], &[]);
    let (model, p) = (Model::new(config()).unwrap(), twin.params());
    let names = |m: &moe_by_hand::params::Layout| {
        let named = m.entries.iter().map(|e| (e.name.clone(), e.param));
        named.collect::<Vec<_>>()
    };
    assert_eq!(names(&model.layout), names(&twin.model.layout), "θ");
    let mut gradient = Gradient::new(&model, SHAPE, 1, ALL, false);
    let (losses, dp) = gradient.compute(&model, &p, BATCH);
    assert!((losses.total - twin.loss(&p).0).abs() < 1e-13, "loss");
    let off = gap(&dp.data, &twin.gradient(&p, 1.0).data);
    assert!(off < 1e-13, "gradient: {off:e}");
    // In two shards, too.
    of_shards(Library(2)).assert("the library's shards");
}

// What a failure says --------------------------------------------------------

/// Right, but so steep that a difference is off by its h².
struct Steep;
impl Function for Steep {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        (vec![(T::of(1000.0) * x[0][0]).exp()], vec![])
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        let c = T::of(1000.0);
        vec![vec![c * (c * x[0][0]).exp() * dy[0]]]
    }
}
/// The lines of what is broken of a tensor.
fn lines(report: &Report, tensor: &str) -> String {
    let of = report.clone().only(tensor).measures.into_iter();
    of.filter(|m| !m.holds()).map(|m| format!("{m}\n")).collect()
}

#[test]
fn a_failure_says_what_it_usually_means() {
    let alone = |ce, aux, z, wrong: &[Mistake], slips: &[Slip]| {
        let net = Net::new(Coefficients { ce, aux, z }, wrong, slips);
        let x = net.split(&net.params().data);
        measure(&net, &net.names(), x, Plan::MODEL)
    };
    let says = |report: Report, tensor: &str, words: &str| {
        let text = lines(&report, tensor);
        assert!(text.contains(words), "`{words}` in: {text}");
    };
    let sum = alone(1.0, 0.0, 0.0, &[], &[Slip::MeanLost]);
    says(sum, "head.w", "ratio 8.0000 (n or 1/n: a sum for a mean");
    let sign = alone(0.0, 0.0, 1.0, &[ZSign], &[]);
    says(sign, "layers.1.moe.router.w", "ratio -1.0000 (−1: a sign)");
    let twice = alone(0.0, 1.0, 0.0, &[AuxTimesK], &[]);
    says(twice, "layers.1.moe.router.w", "ratio 2.0000 (2: counted twice)");
    let cut = of_block(&[RouterCut]);
    says(cut, "moe.router.w", "ratio 0.0000 (0: a path is missing)");
    let names = ["x".to_string()];
    let steep = measure(&Steep, &names, vec![vec![0.0]], Plan::LAYER);
    says(steep, "x", "the difference is inexact, choose another seed");
}

#[test]
fn a_failing_report_lists_the_other_tensors_and_cases_that_have_a_name() {
    let all = ["whole: a", "b", "parts: a", "whole: c", "d", "parts: e"];
    let report = all
        .iter()
        .fold(Report::default(), |report, what| report.with(what, 2.0, 1.0));
    let said = report.broken();
    let rest: Vec<_> = said.lines().rev().take(2).collect();
    assert_eq!(rest, ["  also in parts", "  and c, d, e"], "{said}");
    let said = Report::default().with("whole: a", 2.0, 1.0);
    let said = said.with("b", 2.0, 1.0).broken();
    assert_eq!(said.lines().count(), 3, "{said}");
}

// `cargo mutants` ------------------------------------------------------------

/// A mutant that computes the same.
#[derive(Deserialize)]
struct Equivalent {
    /// As `cargo mutants` names it: "replace > with >= in max".
    mutant: String,
    code: Target,
    line: String,
    /// The algebra.
    why: String,
}

#[test]
fn equivalent_mutants_are_of_code_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("tests/mutants.toml")).unwrap();
    let mut lists: BTreeMap<String, Vec<Equivalent>> =
        toml::from_str(&text).unwrap();
    for e in lists.remove("equivalent").unwrap() {
        let (mutant, Target { file, item }) = (e.mutant, e.code);
        let text = fs::read_to_string(root.join(&file)).unwrap();
        let source = Source::parse(&file, &text).unwrap();
        let has = |i| source.text_of(i).lines().any(|l| l.trim() == e.line);
        assert!(source.named(&item).any(has), "{mutant}: stale, no {}", e.line);
        let name = item.rsplit("::").next().unwrap();
        assert!(mutant.ends_with(name), "{mutant}: not in {item}");
        assert!(!name.contains("backward"), "{mutant}: kill it by a test");
        assert!(!e.why.is_empty(), "{mutant}: say why it computes the same");
    }
}
