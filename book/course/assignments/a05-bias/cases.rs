//! The cases, from the formulas alone: gradients by dual numbers.

use crate::Case;
use crate::dual::{Dual, Rng, constant, gradient, values};
use kit::Real;

fn sigmoid<T: Real>(z: T) -> T {
    T::ONE / (T::ONE + (-z).exp())
}
/// The numbers of the k largest of a row, the largest first.
fn top(s: &[f64], k: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..s.len()).collect();
    all.sort_by(|&a, &b| s[b].total_cmp(&s[a]).then(a.cmp(&b)));
    all.truncate(k);
    all
}
fn weights<T: Real>(
    z: &[T], chosen: &[usize], k: usize, c: T, norm: bool,
) -> Vec<T> {
    let e = z.len() / (chosen.len() / k);
    let s = |at: usize| sigmoid(z[at / k * e + chosen[at]]);
    let one = |at: usize| {
        let row = at / k * k..(at / k + 1) * k;
        let squares = row.map(|at| s(at) * s(at)).sum::<T>();
        if norm { c * s(at) / squares.sqrt() } else { c * s(at) }
    };
    (0..chosen.len()).map(one).collect()
}
fn shared<T: Real>(a: &[T], f0: &[T], w: &[T], f: &[T]) -> Vec<T> {
    let (n, k) = (a.len(), w.len() / a.len());
    let d = f0.len() / n;
    let one = |at: usize| {
        let (t, i) = (at / d, at % d);
        let slots = (t * k..(t + 1) * k).map(|s| w[s] * f[s * d + i]);
        sigmoid(a[t]) * f0[at] + slots.sum::<T>()
    };
    (0..n * d).map(one).collect()
}

pub fn cases(variant: &str, rng: &mut Rng) -> Vec<Case> {
    let norm = variant == "norm";
    let mut cases = vec![];
    let mut case = |task, name: &str, call, sizes, inputs, outputs, limit| {
        let name = name.to_string();
        cases.push(Case { task, name, call, sizes, inputs, outputs, limit });
    };
    for (i, (n, e, k)) in
        [(2, 3, 2), (rng.between(3, 6), 5, 2), (4, 8, 3), (2, 32, 16)]
            .into_iter()
            .enumerate()
    {
        let name = format!("{n} tokens, {k} of {e} experts");
        let z = rng.normals(n * e, 1.5);
        let mut bias = rng.normals(e, 0.3);
        let mut z1 = z.clone();
        if i == 1 {
            // two that are equal, and the best
            (z1[1], z1[3], bias[1], bias[3]) = (3.0, 3.0, 0.5, 0.5);
        }
        let row = |z: &[f64]| {
            let s = z.iter().zip(&bias).map(|(&z, b)| sigmoid_of(z) + b);
            top(&s.collect::<Vec<_>>(), k)
        };
        let chosen: Vec<usize> = z1.chunks(e).flat_map(row).collect();
        let numbers = chosen.iter().map(|&c| c as f64).collect();
        case(
            "1",
            &name,
            "choose",
            vec![k],
            vec![z1, bias],
            vec![("chosen", numbers)],
            24 * n * e * k + 20,
        );
        let row = |z: &[f64]| top(z, k);
        let chosen: Vec<usize> = z.chunks(e).flat_map(row).collect();
        let c = 0.5 + 2.0 * rng.uniform();
        let f = |z: &[Dual]| weights(z, &chosen, k, Dual::of(c), norm);
        let mut sizes = vec![k];
        sizes.extend(&chosen);
        case(
            "2",
            &name,
            "weights",
            sizes.clone(),
            vec![z.clone(), vec![c]],
            vec![("w", values(&f(&constant(&z))))],
            25 * n * k + 20 * n,
        );
        let dw = rng.normals(n * k, 1.0);
        let dz = gradient(&z, &dw, f);
        case(
            "3",
            &name,
            "scores",
            sizes,
            vec![z, dw, vec![c]],
            vec![("dz", dz)],
            50 * n * k + 30 * n,
        );
    }
    for (n, k, d) in [(1, 1, 1), (rng.between(2, 5), 2, 3), (3, 4, 16)] {
        let name = format!("{n} tokens of {k} choices, width {d}");
        let (a, f0) = (rng.normals(n, 1.5), rng.normals(n * d, 1.0));
        let (w, f) = (rng.normals(n * k, 0.7), rng.normals(n * k * d, 1.0));
        let dy = rng.normals(n * d, 1.0);
        let [a1, f1, w1, g1] = [&a, &f0, &w, &f].map(|x| constant(x));
        let y = values(&shared(&a1, &f1, &w1, &g1));
        let da = gradient(&a, &dy, |a| shared(a, &f1, &w1, &g1));
        let dw = gradient(&w, &dy, |w| shared(&a1, &f1, w, &g1));
        let each = n * (k + 1) * d;
        case(
            "4",
            &name,
            "share",
            vec![],
            vec![a.clone(), f0.clone(), w, f.clone()],
            vec![("y", y)],
            8 * each + 20 * n,
        );
        case(
            "4",
            &name,
            "gates",
            vec![k],
            vec![dy, a, f0, f],
            vec![("da", da), ("dw", dw)],
            8 * each + 30 * n,
        );
    }
    for (e, each) in [(4, 2), (rng.between(3, 6), 3), (5, 8)] {
        // two experts have the mean, at the least one has more, one has less
        let mut chosen: Vec<usize> = (0..e * each).map(|i| i % e).collect();
        chosen[0] = 1;
        for i in (1..chosen.len()).rev() {
            chosen.swap(i, rng.between(0, i));
        }
        let (bias, u) = (rng.normals(e, 0.1), 1e-3 + 1e-2 * rng.uniform());
        let next = bias.iter().enumerate().map(|(i, b)| {
            let load = chosen.iter().filter(|&&c| c == i).count();
            b + u
                * (each as f64 - load as f64).signum()
                * f64::from(load != each)
        });
        let next = next.collect();
        case(
            "5",
            &format!("{e} experts, {} choices", e * each),
            "balance",
            chosen,
            vec![bias, vec![u]],
            vec![("bias", next)],
            8 * e * each + 20,
        );
    }
    cases
}
fn sigmoid_of(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}
