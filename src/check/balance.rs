//! Chapter: balance. Proofs of the router's losses: balance and z-loss.

use super::model;
use super::tools::{
    Check, N, added, check, composed, formula, proof, random, scores, sum,
};
use crate::gradcheck::{Function, Report};
use crate::kernel::softmax as soft;
use crate::kernel::vector::add_to;
use crate::nn::balance as losses;
use crate::real::Real;

pub(super) const CHECKS: &[Check] = &[
    check("aux-load-balance", forward),
    check("aux-backward", backward),
    composed(
        "aux-scores-backward",
        scores_backward,
        &["aux-backward", "softmax-backward"],
    ),
    check("z-loss", model::z_loss),
    composed("z-loss-backward", z_loss_backward, &["softmax-forward"]),
];

/// The balance loss of N rows that chose k = 2 of four experts each, from their
/// probabilities or, with `scores`, from their scores. N, E and k differ, and
/// none is 1: a factor that is 1 in a test is not tested.
struct Balance {
    scores: bool,
}
impl Balance {
    const COUNT: [usize; 4] = [5, 3, 2, 0];
    const E: usize = 4;
    const K: usize = 2;
    /// fₑ = count/(N·k).
    fn share() -> [f64; 4] {
        Self::COUNT.map(|c| c as f64 / (N * Self::K) as f64)
    }
    fn load<T: Real>(&self, x: &[T]) -> (Vec<T>, Vec<T>) {
        let (mut p, mut load) = (x.to_vec(), vec![T::ZERO; Self::E]);
        for p in p.chunks_mut(Self::E) {
            if self.scores {
                soft::softmax_forward(p);
            }
            add_to(&mut load, p);
        }
        (p, load)
    }
}
impl Function for Balance {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let (_, load) = self.load(&x[0]);
        (vec![losses::balance_forward(&Self::COUNT, &load, N, Self::K)], vec![])
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        let mut dload = [T::of(f64::NAN); Self::E];
        losses::balance_backward(&mut dload, &Self::COUNT, N, Self::K, dy[0]);
        let (p, mut d) = (self.load(&x[0]).0, dload.repeat(N));
        for (d, p) in d.chunks_mut(Self::E).zip(p.chunks(Self::E)) {
            if self.scores {
                soft::softmax_backward(d, p);
            }
        }
        vec![d]
    }
}
fn probabilities() -> Vec<f64> {
    random("p", N * Balance::E).iter().map(|p| p.abs()).collect()
}
fn forward() -> Report {
    const E: usize = Balance::E;
    let (p, f) = (probabilities(), Balance::share());
    let mean = |e: usize| sum((0..N).map(|t| p[t * E + e])) / N as f64;
    let want = E as f64 * sum((0..E).map(|e| f[e] * mean(e)));
    let got = Balance { scores: false }.forward(std::slice::from_ref(&p)).0;
    let load = [0.1, 0.2, 0.3, 3.4];
    let uniform = losses::balance_forward(&[2; 4], &load, 4, 2);
    formula("E·Σ f·P", &got, &[want]).and(formula(
        "1 where f is uniform",
        &[uniform],
        &[1.0],
    ))
}
fn backward() -> Report {
    proof(&Balance { scores: false }, &[("p", probabilities())])
}
fn scores_backward() -> Report {
    const E: usize = Balance::E;
    let z = random("z", N * E);
    let f = Balance { scores: true };
    let (p, d) = (f.load(&z).0, f.backward(std::slice::from_ref(&z), &[1.0]));
    let share = Balance::share();
    let want = (0..N * E).map(|i| {
        let p = |e: usize| p[i / E * E + e];
        let expected = sum((0..E).map(|j| share[j] * p(j)));
        E as f64 / N as f64 * p(i % E) * (share[i % E] - expected)
    });
    proof(&f, &[("z", z.clone())]).and(formula(
        "z̄ = E/N·p·(f − Σ f·p)",
        &d[0],
        &want.collect::<Vec<_>>(),
    ))
}
struct Squares;
impl Function for Squares {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let square = |z: &[T]| soft::lse_forward(z) * soft::lse_forward(z);
        (vec![x[0].chunks(N).map(square).sum()], vec![])
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        vec![added(x[0].len(), |dz| {
            for (dz, z) in dz.chunks_mut(N).zip(x[0].chunks(N)) {
                let mut p = z.to_vec();
                let lse = soft::softmax_forward(&mut p);
                losses::z_loss_backward(dz, dy[0], lse, &p);
            }
        })]
    }
}
fn z_loss_backward() -> Report {
    proof(&Squares, &[("z", scores())])
}
