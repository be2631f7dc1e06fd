//! The cases, from the formula alone: gradients by dual numbers.

use crate::Case;
use crate::dual::{Dual, Rng, constant, gradient, values};
use kit::Real;

/// The formula, literally, except for the largest term that is taken out.
fn shares<T: Real>(
    z: &[T], sink: &[T], c: T, n: usize, scaled: bool,
) -> (Vec<T>, Vec<T>) {
    let m = z.len() / n;
    let (mut p, mut rest) = (vec![], vec![]);
    for i in 0..n {
        let s = sink[i % sink.len()];
        let s = if scaled { s * c } else { s };
        let row: Vec<T> = z[i * m..][..m].iter().map(|&z| z * c).collect();
        let most = row.iter().fold(s, |a, &b| if b > a { b } else { a });
        let sum = row.iter().map(|&z| (z - most).exp()).sum::<T>();
        let sum = sum + (s - most).exp();
        p.extend(row.iter().map(|&z| (z - most).exp() / sum));
        rest.push((s - most).exp() / sum);
    }
    (p, rest)
}

pub fn cases(variant: &str, rng: &mut Rng) -> Vec<Case> {
    let scaled = variant == "both";
    let mut cases = vec![];
    // rows, scores, heads: one of each, odd sizes, and one that is large enough
    // for a wrong number of operations to show
    let sizes = [
        (1, 1, 1),
        (2, 1 + rng.between(1, 3), 1),
        (3, rng.between(3, 7), 3),
        (rng.between(4, 6), rng.between(2, 5), 2),
        (4, 40, 2),
    ];
    for (n, m, heads) in sizes {
        let name = format!("{n} rows of {m}, {heads} heads");
        let z = rng.normals(n * m, 1.5);
        let sink = rng.normals(heads, 1.0);
        let c = 0.3 + rng.uniform();
        let f =
            |z: &[Dual], sink: &[Dual]| shares(z, sink, Dual::of(c), n, scaled);
        let (p, rest) = f(&constant(&z), &constant(&sink));
        let (p, rest) = (values(&p), values(&rest));
        cases.push(Case {
            task: "1",
            name: name.clone(),
            call: "forward",
            sizes: vec![n],
            inputs: vec![z.clone(), sink.clone(), vec![c]],
            outputs: vec![("p", p.clone()), ("rest", rest.clone())],
            limit: 30 * n * m + 60 * n,
        });
        let dp = rng.normals(n * m, 1.0);
        let dz = gradient(&z, &dp, |z| f(z, &constant(&sink)).0);
        cases.push(Case {
            task: "3",
            name: name.clone(),
            call: "scores",
            sizes: vec![m],
            inputs: vec![dp.clone(), p.clone(), vec![c]],
            outputs: vec![("dz", dz)],
            limit: 20 * n * m + 30 * n,
        });
        // 0 in the first case, so that its ratio tells something
        let there = if n == 1 { 0.0 } else { 1.0 };
        let before = rng.normals(heads, there);
        let mut dsink = gradient(&sink, &dp, |sink| f(&constant(&z), sink).0);
        dsink.iter_mut().zip(&before).for_each(|(d, before)| *d += before);
        cases.push(Case {
            task: "4",
            name,
            call: "sink",
            sizes: vec![],
            inputs: vec![before, dp, p, rest, vec![c]],
            outputs: vec![("dsink", dsink)],
            limit: 12 * n * m + 40 * n,
        });
    }
    // what overflows, one after the other: scores, the sink, all of both far
    // below 0
    for (name, at, sink) in [
        ("large scores", 800.0, 0.0),
        ("a large sink", 0.0, 900.0),
        ("both far below 0", -2000.0, -2000.0),
    ] {
        let (n, m) = (2, rng.between(2, 5));
        let c = 0.9 + 0.2 * rng.uniform();
        let z: Vec<f64> =
            rng.normals(n * m, 1.5).iter().map(|z| z + at / c).collect();
        let sink = sink / if scaled { c } else { 1.0 };
        let sink: Vec<f64> =
            rng.normals(2, 1.0).iter().map(|s| s + sink).collect();
        let (p, rest) =
            shares(&constant(&z), &constant(&sink), Dual::of(c), n, scaled);
        cases.push(Case {
            task: "2",
            name: name.into(),
            call: "forward",
            sizes: vec![n],
            inputs: vec![z, sink, vec![c]],
            outputs: vec![("p", values(&p)), ("rest", values(&rest))],
            limit: 30 * n * m + 60 * n,
        });
    }
    cases
}
