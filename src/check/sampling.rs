//! Chapter: sampling. Proofs of what chooses the next token.

use super::tools::{Check, check, fact, formula, random};
use crate::generate::{
    rank, sample_inverse_cdf, sample_temperature, sample_top_k, sample_top_p,
};
use crate::gradcheck::{Report, gap};

pub(super) const CHECKS: &[Check] = &[
    check("sample-temperature", temperature),
    check("sample-top-k", top_k),
    check("sample-top-p", top_p),
    check("sample-inverse-cdf", inverse_cdf),
];

/// The worked example of the book, five tokens in falling order.
const P: [f64; 5] = [0.5, 0.25, 0.15, 0.07, 0.03];

fn at_temperature(z: &[f64], tau: f64) -> Vec<f64> {
    let mut p = vec![f64::NAN; z.len()];
    sample_temperature(&mut p, z, tau);
    p
}
/// `p` after it was cut by its own order.
fn cut(p: &[f64], f: impl Fn(&mut [f64], &[usize])) -> Vec<f64> {
    let (mut p, mut order) = (p.to_vec(), vec![usize::MAX; p.len()]);
    rank(&mut order, &p);
    f(&mut p, &order);
    p
}
/// Numbers of six digits, as they are printed.
fn printed(what: &str, got: &[f64], want: &[f64]) -> Report {
    Report::default().with(what, gap(got, want), 5e-7)
}
/// `p` where `kept`, divided by what is left.
fn literal(p: &[f64], kept: impl Fn(usize) -> bool) -> Vec<f64> {
    let only = |i: usize| if kept(i) { p[i] } else { 0.0 };
    let sum: f64 = (0..p.len()).map(only).sum();
    (0..p.len()).map(|i| only(i) / sum).collect()
}
fn probabilities() -> Vec<f64> {
    at_temperature(&random("logits", 9), 1.0)
}
/// The numbers that are larger than the i-th.
fn larger(p: &[f64], i: usize) -> impl Iterator<Item = &f64> {
    let own = p[i];
    p.iter().filter(move |&&p| p > own)
}

fn temperature() -> Report {
    let (z, tau) = (random("logits", 9), 0.7);
    let sum: f64 = z.iter().map(|z| (z / tau).exp()).sum();
    let want: Vec<f64> = z.iter().map(|z| (z / tau).exp() / sum).collect();
    let half = at_temperature(&P.map(f64::ln), 0.5);
    // e^{z/τ} itself would overflow
    let cold = at_temperature(&[3.0, 2.0, 1.0], 1e-4);
    formula("exp(z/τ) / Σ exp(z/τ)", &at_temperature(&z, tau), &want)
        .and(printed(
            "the worked numbers, τ = ½",
            &half,
            &[0.733568, 0.183392, 0.066021, 0.014378, 0.002641],
        ))
        .and(formula("τ → 0: the largest", &cold, &[1.0, 0.0, 0.0]))
}
fn top_k() -> Report {
    let p = probabilities();
    let want = literal(&p, |i| larger(&p, i).count() < 4);
    let got = cut(&p, |p, order| sample_top_k(p, order, 4));
    let ties = cut(&[0.25, 0.5, 0.25], |p, o| sample_top_k(p, o, 2));
    formula("the 4 largest, renormalized", &got, &want).and(formula(
        "of equals, the lowest index",
        &ties,
        &[0.25 / 0.75, 0.5 / 0.75, 0.0],
    ))
}
fn top_p() -> Report {
    let p = probabilities();
    // Kept is what has less than the mass before it, in falling order.
    let want = literal(&p, |i| larger(&p, i).sum::<f64>() < 0.8);
    let got = cut(&p, |p, order| sample_top_p(p, order, 0.8));
    let worked = cut(&P, |p, order| sample_top_p(p, order, 0.8));
    let one = cut(&P, |p, order| sample_top_p(p, order, 1e-9));
    formula("the smallest set of mass 0.8", &got, &want)
        .and(printed(
            "the worked numbers, π = 0.8",
            &worked,
            &[0.555556, 0.277778, 0.166667, 0.0, 0.0],
        ))
        .and(formula("one token at least", &one, &[1.0, 0.0, 0.0, 0.0, 0.0]))
}
fn inverse_cdf() -> Report {
    let p = probabilities();
    // Each token gets its share of n numbers in even steps, to within 1.
    let n = 10_000;
    let mut share = vec![0.0; p.len()];
    for j in 0..n {
        let u = (j as f64 + 0.5) / n as f64;
        share[sample_inverse_cdf(&p, u)] += 1.0 / n as f64;
    }
    let ends = [0.0, 0.5, 0.0, 0.25, 0.25, 0.0];
    let draw = |u| sample_inverse_cdf(&ends, u);
    let tokens = [0.0, 0.49, 0.5, 0.74, 0.75, 1.0 - f64::EPSILON];
    Report::default()
        .with("each as often as p says", gap(&share, &p), 1.01 / n as f64)
        .and(fact("its ends", tokens.map(draw) == [1, 1, 3, 3, 4, 4]))
}
