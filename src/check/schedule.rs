//! Chapter: optimizer. Proofs of the learning rate.

use super::tools::{Check, check, formula};
use crate::gradcheck::Report;
use crate::train::schedule::Schedule;

pub(super) const CHECKS: &[Check] = &[
    check("lr-warmup", warmup),
    check("lr-cosine", cosine),
    check("lr-wsd", wsd),
];

fn schedule(max: f64, warmup: usize, steps: usize) -> Schedule {
    Schedule::new(max, warmup, steps).unwrap_or_else(|e| panic!("{e}"))
}
fn warmup() -> Report {
    let s = schedule(0.3, 10, 100);
    let got: Vec<f64> = (1..=10).map(|n| s.rate(n)).collect();
    let want: Vec<f64> = (1..=10).map(|n| 0.03 * n as f64).collect();
    formula("η·n/W", &got, &want)
}
fn cosine() -> Report {
    let s = schedule(0.3, 10, 100);
    let literal = |n: usize| {
        let t = (n - 10) as f64 / 90.0 * std::f64::consts::PI;
        0.03 + 0.5 * 0.27 * (1.0 + t.cos())
    };
    let got: Vec<f64> = (10..=100).map(|n| s.rate(n)).collect();
    let want: Vec<f64> = (10..=100).map(literal).collect();
    formula("cosine from η to η/10", &got, &want).and(formula(
        "its ends",
        // 145 is half a turn of the cosine beyond, and 1000 a whole number
        &[s.rate(100), s.rate(145), s.rate(1000)],
        &[0.03; 3],
    ))
}
fn wsd() -> Report {
    let s = schedule(0.3, 10, 100).stable(20).unwrap_or_else(|e| panic!("{e}"));
    let literal = |n: usize| match n {
        ..10 => 0.03 * n as f64,
        10..=80 => 0.3,
        _ => 0.3 * (1.0 - ((n - 80) as f64 / 20.0).sqrt()),
    };
    let got: Vec<f64> = (1..=100).map(|n| s.rate(n)).collect();
    let want: Vec<f64> = (1..=100).map(literal).collect();
    formula("constant, then 1 − √ of the cooldown's share", &got, &want)
        .and(formula("past the end", &[s.rate(1000)], &[0.0]))
}
