//! Chapter: linear. Proofs of the embedding.

use super::tools::{Check, added, check, formula, proof, random, sum};
use crate::gradcheck::{Function, Report};
use crate::nn::embedding;
use crate::real::Real;

pub(super) const CHECKS: &[Check] = &[
    check("embedding-forward", forward),
    check("embedding-backward", backward),
];

/// Width 3; the row 2 is read three times, the rows 1, 3, 4 never.
struct Lookup;
const TOKENS: [usize; 6] = [2, 5, 2, 0, 6, 2];
impl Function for Lookup {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut y = vec![T::ZERO; TOKENS.len() * 3];
        embedding::embedding_forward(&mut y, &x[0], &TOKENS);
        (y, vec![])
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        vec![added(x[0].len(), |dtable| {
            embedding::embedding_backward(dtable, dy, &TOKENS);
        })]
    }
}
fn forward() -> Report {
    let table = random("table", 7 * 3);
    let want: Vec<f64> =
        (0..18).map(|i| table[TOKENS[i / 3] * 3 + i % 3]).collect();
    formula("xₜ = E[iₜ]", &Lookup.forward(&[table]).0, &want)
}
fn backward() -> Report {
    let dy = random("dx", 18);
    let got = &Lookup.backward(&[vec![0.0; 21]], &dy)[0];
    // Ē = OᵀX̄ with O the one-hot rows
    let at = |v: usize, j: usize| {
        sum((0..6).filter(|&t| TOKENS[t] == v).map(|t| dy[t * 3 + j]))
    };
    let want: Vec<f64> = (0..21).map(|i| at(i / 3, i % 3)).collect();
    proof(&Lookup, &[("table", random("table", 21))]).and(formula(
        "Oᵀ·X̄",
        got,
        &want,
    ))
}
