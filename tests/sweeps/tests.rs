//! Chapter: training. What the sweeps hold fixed is fixed.

use crate::csv::Csv;
use crate::plots::{Series, choosing, draw};
use crate::runs::{Lab, Run, options};
use moe_by_hand::config::Config;
use moe_by_hand::train::data::Text;
use moe_by_hand::train::options::Options;

#[test]
fn mixtures_differ_by_their_routers_alone() {
    let size = |k| {
        let c = choosing(k);
        let router = (c.layers * c.experts * c.hidden) as u64;
        [c.total() - router, c.active() - router]
    };
    assert_eq!([2, 4, 8].map(size), [size(1); 3], "as many parameters");
    // What is counted as active is a dense model with one expert of 128.
    let one = Config { experts: 1, top_k: 1, ..choosing(1) };
    let router = (one.layers * one.hidden) as u64;
    assert_eq!(one.total() - router, size(1)[1], "dense");
}

#[test]
fn a_run_is_made_once_and_a_seed_matters() {
    let text = Text::new(b"to be, or not to be, that is it. ".repeat(99));
    let mut lab = Lab::new(&text, 2);
    let o = Options { steps: 2, batch: 1, seq: 8, ..options() };
    let run = Run::new(choosing(2), o);
    let first = lab.seeds(&run).unwrap();
    let again = lab.seeds(&run).unwrap();
    assert_eq!(lab.runs(), 3, "three seeds, each once");
    let loss = [&first, &again].map(|o| o.iter().map(|o| o.loss));
    assert!(loss[0].clone().eq(loss[1].clone()), "the same");
    assert_ne!(first[0].loss, first[1].loss, "another seed");
    for o in &first {
        assert_eq!(o.curve.len(), 2, "steps");
        assert_eq!(o.load.len(), 8, "experts");
        let sum: f64 = o.load.iter().map(|s| s[1]).sum();
        assert!((sum - 1.0).abs() < 1e-12, "shares of a step: {sum}");
    }
}

#[test]
fn a_sweep_shows_means_ranges_and_the_best() {
    let mut csv = Csv::chart("none", "t", "a", ["x", "y"]);
    let diverged = vec![2.0, f64::INFINITY, 2.0];
    let points = vec![
        (1.0, vec![2.0, 2.1, 2.2]),
        (2.0, vec![1.9, 2.0, 2.1]),
        (3.0, diverged),
    ];
    draw(&mut csv, "x", &[Series { name: "s", points }], 2.0, 1.0, "s");
    let text = csv.text("none");
    let rows: Vec<_> = text.lines().filter(|l| !l.starts_with('#')).collect();
    let want = [
        "x,s",
        "1,0.1000",
        "2,0.0000",
        "guide,1,0.0000,1,0.2000,,",
        "mark,0,1,0.1000,,",
        "guide,2,-0.1000,2,0.1000,,",
        "mark,0,2,0.0000,s,2.000",
    ];
    assert_eq!(rows, want, "rows");
}
