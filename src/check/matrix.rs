//! Chapter: matmul. Proofs of the matrix product.

use super::parity::{ETA, Pair, gamma, normals, report, wide};
use super::tools::{Check, check, formula, proof, random, sum};
use crate::gradcheck::{Function, Report};
use crate::kernel::matrix::{Add, Mat, Set, mat, mat_mut, matmul};
use crate::kernel::product::matmul_with;
use crate::kernel::simd::Isa;
use crate::kernel::vector::dot;
use crate::real::Real;

pub(super) const CHECKS: &[Check] = &[
    check("matmul", forward),
    check("matmul-transposed-b", transposed_b),
    check("matmul-backward", backward),
];

/// C = A·B with A [m, k], B [k, n].
struct Product {
    m: usize,
    k: usize,
    n: usize,
}
impl Product {
    const ODD: Self = Self { m: 3, k: 5, n: 4 };
    fn inputs(&self) -> [(&'static str, Vec<f64>); 2] {
        let Self { m, k, n } = *self;
        [("a", random("a", m * k)), ("b", random("b", k * n))]
    }
    fn literal(&self, a: impl Fn(usize, usize) -> f64, b: &[f64]) -> Vec<f64> {
        let Self { m, k, n } = *self;
        let at = |i, j| sum((0..k).map(|l| a(i, l) * b[l * n + j]));
        (0..m * n).map(|i| at(i / n, i % n)).collect()
    }
    /// C is added to a block of a wider matrix, the rest of which stays.
    fn added(&self, a: &[f64], b: &[f64], c: &[f64]) -> Report {
        let (n, width) = (self.n, self.n + 2);
        let mut got = random("c", self.m * width);
        let mut want = got.clone();
        for (want, c) in want.chunks_mut(width).zip(c.chunks(n)) {
            want[1..].iter_mut().zip(c).for_each(|(w, c)| *w += c);
        }
        let block = mat_mut(&mut got, width).block(0..self.m, 1..n + 1);
        matmul(block, Add, mat(a, self.k), mat(b, n));
        formula("a block of C + A·B", &got, &want)
    }
}
impl Function for Product {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut c = vec![T::ZERO; self.m * self.n];
        let (a, b) = (mat(&x[0], self.k), mat(&x[1], self.n));
        matmul(mat_mut(&mut c, self.n), Set, a, b);
        (c, vec![])
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dc: &[T]) -> Vec<Vec<T>> {
        let (a, b) = (mat(&x[0], self.k), mat(&x[1], self.n));
        let (mut da, mut db) = (x[0].clone(), x[1].clone());
        let dc = mat(dc, self.n);
        matmul(mat_mut(&mut da, self.k), Set, dc, b.t());
        matmul(mat_mut(&mut db, self.n), Set, a.t(), dc);
        vec![da, db]
    }
}
fn forward() -> Report {
    let f = Product::ODD;
    let [a, b] = f.inputs();
    let want = f.literal(|i, l| a.1[i * f.k + l], &b.1);
    let added = f.added(&a.1, &b.1, &want);
    let (c, _) = f.forward(&[a.1, b.1]);
    formula("cᵢⱼ = Σ aᵢₗbₗⱼ", &c, &want).and(added).and(fast())
}
fn transposed_b() -> Report {
    let Product { m, k, n } = Product::ODD;
    let (a, b) = (random("a", m * k), random("b", n * k));
    let mut c = vec![f64::NAN; m * n];
    let (am, bt) = (mat(&a, k), mat(&b, k).t());
    matmul(mat_mut(&mut c, n), Set, am, bt);
    let at = |i, j| sum((0..k).map(|l| a[i * k + l] * b[j * k + l]));
    let want: Vec<f64> = (0..m * n).map(|i| at(i / n, i % n)).collect();
    formula("cᵢⱼ = Σ aᵢₗbⱼₗ", &c, &want)
}
fn backward() -> Report {
    let f = Product::ODD;
    let (x, dc) = (f.inputs().map(|i| i.1), random("dc", f.m * f.n));
    let (c, _) = f.forward(&x);
    let [da, db] = &f.backward(&x, &dc)[..] else { unreachable!("Ā and B̄") };
    let both = [dot(da, &x[0]), dot(db, &x[1])];
    proof(&f, &f.inputs()).and(formula(
        "⟨Ā, A⟩ = ⟨B̄, B⟩ = ⟨C̄, C⟩",
        &both,
        &[dot(&dc, &c); 2],
    ))
}

/// T5 of C = A·B, A: [m, k], B: [k, n]: k roundings on a term with FMA, k + 1
/// without.
pub fn parity(isa: Isa, a: &[f32], b: &[f32], [m, k, n]: [usize; 3]) -> Pair {
    let mut c = vec![f32::NAN; m * n];
    matmul_with(isa, mat_mut(&mut c, n), Set, mat(a, k), mat(b, n));
    let in_f64 = |f: fn(f64) -> f64| {
        let [a, b] = [a, b].map(|x| wide(x).into_iter().map(f).collect());
        let (a, b): (Vec<f64>, Vec<f64>) = (a, b);
        let (a, b): (Mat<f64>, Mat<f64>) = (mat(&a, k), mat(&b, n));
        let mut c = vec![0.0; m * n];
        matmul(mat_mut(&mut c, n), Set, a, b);
        c
    };
    let (want, size) = (in_f64(|x| x), in_f64(f64::abs));
    Pair::new(isa, "product", c, want, |at| {
        gamma(k + 1) * size[at] + k as f64 * ETA
    })
}
fn fast() -> Report {
    let [m, k, n] = [13, 70, 67];
    let (a, b) = (normals(m * k, 1.0, 1), normals(k * n, 1.0, 2));
    report([parity(Isa::current(), &a, &b, [m, k, n])])
}
