//! Chapter: router. Proofs of the division by the sum of absolute values.

use super::tools::{
    Check, N, added, check, formula, invariant, proof, random, rows, scores,
    sum,
};
use crate::gradcheck::{Function, Report};
use crate::kernel::l1::{l1_normalize_backward, l1_normalize_forward};
use crate::kernel::vector::dot;
use crate::nn::router::{renormalize_backward, renormalize_forward};
use crate::real::Real;

pub(super) const CHECKS: &[Check] =
    &[check("l1-normalize", forward), check("l1-normalize-backward", backward)];

fn normalized(x: &[f64]) -> Vec<f64> {
    let mut y = vec![f64::NAN; x.len()];
    l1_normalize_forward(&mut y, x);
    y
}
fn gradient<T: Real>(dy: &[T], x: &[T]) -> Vec<T> {
    let [mut y, mut dx] = [(); 2].map(|()| vec![T::of(f64::NAN); x.len()]);
    l1_normalize_forward(&mut y, x);
    l1_normalize_backward(&mut dx, dy, x, &y);
    dx
}
/// Rows of N numbers, both signs among them.
struct Rows;
impl Function for Rows {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut y = x[0].clone();
        let each = y.chunks_mut(N).zip(x[0].chunks(N));
        each.for_each(|(y, x)| l1_normalize_forward(y, x));
        (y, vec![])
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        let each = dy.chunks(N).zip(x[0].chunks(N));
        vec![each.flat_map(|(dy, x)| gradient(dy, x)).collect()]
    }
}
/// All N are chosen.
const ALL: [usize; N] = [0, 1, 2, 3, 4];
/// One row of numbers above 0.
fn positive() -> Vec<f64> {
    random("positive", N).iter().map(|x| x.abs()).collect()
}

fn forward() -> Report {
    let x = scores();
    let y = rows(&x, normalized);
    let want = rows(&x, |x| {
        let s: f64 = x.iter().map(|x| x.abs()).sum();
        x.iter().map(|x| x / s).collect()
    });
    let size = rows(&y, |y| vec![sum(y.iter().map(|y| y.abs()))]);
    let scaled: Vec<f64> = x.iter().map(|x| -300.0 * x).collect();
    let turned: Vec<f64> = y.iter().map(|y| -y).collect();
    let (p, mut w) = (positive(), [f64::NAN; N]);
    renormalize_forward(&mut w, &p, &ALL);
    formula("y = x / Σ |x|", &y, &want)
        .and(formula("Σ |y| = 1", &size, &[1.0; 3]))
        .and(formula("y(−300·x) = −y(x)", &rows(&scaled, normalized), &turned))
        .and(formula("renormalize, of x > 0", &normalized(&p), &w))
        .and(formula("a row of zeros", &normalized(&[0.0; N]), &[0.0; N]))
}
fn backward() -> Report {
    let (x, dy) = (scores(), random("dy", 3 * N));
    let dx = Rows.backward(std::slice::from_ref(&x), &dy).remove(0);
    let along = x.chunks(N).zip(dx.chunks(N)).map(|(x, dx)| dot(x, dx).abs());
    let (p, dw) = (positive(), &dy[..N]);
    let w = normalized(&p);
    let want = added(N, |dp| renormalize_backward(dp, dw, &w, &p, &ALL));
    proof(&Rows, &[("x", x.clone())])
        .and(invariant("⟨x, x̄⟩ = 0", along.fold(0.0, f64::max), 1e-12))
        .and(formula("renormalize, of x > 0", &gradient(dw, &p), &want))
        .and(formula("a row of zeros", &gradient(dw, &[0.0; N]), &[0.0; N]))
        // the other elements see the sum, and that of 0 does not move it
        .and(formula(
            "an element of 0",
            &gradient(&[1.0, 2.0, 0.0, 0.0, 0.0], &[0.0, 2.0, -2.0, 0.0, 0.0]),
            &[0.25, 0.25, 0.25, 0.0, 0.0],
        ))
}
