//! Chapter: half. Proofs of rounding to 16 bits, and of the loss scale.

use super::tools::{Check, check, fact, formula};
use crate::gradcheck::Report;
use crate::half::{Bf16, F16};
use crate::train::precision::Scaler;

pub(super) const CHECKS: &[Check] =
    &[check("round-to-nearest-even", round), check("loss-scale-update", scale)];

/// Between each two neighbors a and b: a quarter, the middle and three quarters
/// of the way.
fn nearest(
    finite: u16, number: impl Fn(u16) -> f64, round: impl Fn(f32) -> u16,
) -> bool {
    (0..finite).all(|a| {
        let (b, even) = (a + 1, a + a % 2);
        let [x, y] = [a, b].map(&number);
        let at = |part: f64| (x + part * (y - x)) as f32;
        let want = [(0.0, a), (0.25, a), (0.5, even), (0.75, b), (1.0, b)];
        want.into_iter().all(|(part, want)| {
            let x = at(part);
            round(x) == want && round(-x) == want | 0x8000
        })
    })
}
fn round() -> Report {
    let bf16 = nearest(
        Bf16::LARGEST.to_bits(),
        |b| Bf16::from_bits(b).f32().into(),
        |x| Bf16::from_f32(x).to_bits(),
    );
    let f16 = nearest(
        F16::LARGEST.to_bits(),
        |b| F16::from_bits(b).f32().into(),
        |x| F16::from_f32(x).to_bits(),
    );
    fact("bf16, between all neighbors", bf16)
        .and(fact("f16, between all neighbors", f16))
}
/// 3 steps too large, 2000 good ones, one too large, 4001 good ones.
fn scale() -> Report {
    let mut s = Scaler::default();
    let mut scales = vec![];
    for (n, finite) in [(3, false), (2000, true), (1, false), (4001, true)] {
        (0..n).for_each(|_| s.update(finite));
        scales.push(s.scale);
    }
    let want = [13.0, 14.0, 13.0, 15.0].map(f64::exp2);
    formula("S after each run of steps", &scales, &want).and(formula(
        "clean and skipped steps",
        &[s.clean as f64, s.skipped as f64],
        &[1.0, 4.0],
    ))
}
