//! Chapter: random. Proofs of the random numbers.

use super::parity::{Pair, report};
use super::tools::{Check, check, formula};
use crate::gradcheck::Report;
use crate::kernel::normal::fill_normal_with;
use crate::kernel::simd::Isa;
use crate::rng::Rng;

pub(super) const CHECKS: &[Check] =
    &[check("prng-lcg", lcg), check("gaussian-box-muller", box_muller)];

fn lcg() -> Report {
    // In whole numbers of arbitrary size, then mod 2⁶⁴; the output permuted
    // as O'Neill writes it.
    let (a, c) = (6_364_136_223_846_793_005u128, 54 * 2 + 1);
    let next = |s: u128| (s * a + c) % (1 << 64);
    let mut s = next(next(0) + 42);
    let mut rng = Rng::new(42, 54);
    let (mut got, mut want) = (vec![], vec![]);
    for _ in 0..100 {
        let x = ((s >> 18 ^ s) >> 27) as u32;
        let turn = (s >> 59) as u32;
        want.push((x >> turn | x << (turn.wrapping_neg() & 31)) as f64);
        got.push(rng.bits() as f64);
        s = next(s);
    }
    formula("s ← a·s + c mod 2⁶⁴, permuted", &got, &want)
}
fn box_muller() -> Report {
    let (mut rng, mut raw) = (Rng::new(7, 1), Rng::new(7, 1));
    let unit = 2f64.powi(-32);
    let u1 = (raw.bits() as f64 + 1.0) * unit;
    let angle = std::f64::consts::TAU * (raw.bits() as f64 * unit);
    let r = (-2.0 * u1.ln()).sqrt();
    let want = [r * angle.cos(), r * angle.sin()];
    // Mean and variance of n numbers are within five of their own standard
    // deviations: √(1/n) and √(2/n).
    let n = 100_000;
    let mut z = vec![0.0; n];
    rng.clone().fill_normal(&mut z, 1.0);
    let mean = z.iter().sum::<f64>() / n as f64;
    let var = z.iter().map(|z| z * z).sum::<f64>() / n as f64;
    let n = n as f64;
    formula("√(−2 ln u₁)·(cos, sin)(2πu₂)", &rng.normals(), &want)
        .with("mean 0", mean.abs(), 5.0 / n.sqrt())
        .with("variance 1", (var - 1.0).abs(), 5.0 * (2.0 / n).sqrt())
        .and(report([parity(Isa::current(), 1000, 1.0, &Rng::new(7, 1))]))
}

/// T5 of n normal numbers of standard deviation σ: within 2⁻¹⁷·σ, as derived at
/// [`fill_normal_with`].
pub fn parity(isa: Isa, n: usize, sigma: f64, rng: &Rng) -> Pair {
    let (mut got, mut want) = (vec![f32::NAN; n], vec![0.0; n]);
    fill_normal_with(isa, &mut got, rng, sigma);
    rng.clone().fill_normal(&mut want, sigma);
    let bound = 2f64.powi(-17) * sigma;
    Pair::new(isa, "normal numbers", got, want, |_| bound)
}
