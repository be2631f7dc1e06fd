//! The cases, from the formula alone: gradients by dual numbers.

use crate::Case;
use crate::dual::{Dual, Rng, constant, gradient, values};
use kit::Real;

/// y and ℓ as one vector: all scores, of which those outside the window are
/// left out.
fn attention<T: Real>(
    q: &[T], k: &[T], v: &[T], t: usize, w: usize, c: T,
) -> Vec<T> {
    let d = q.len() / t;
    let row = |x: &[T], i: usize| x[i * d..][..d].to_vec();
    let (mut out, mut all) = (vec![], vec![]);
    for i in 0..t {
        let seen = (0..=i).filter(|j| j + w > i);
        let score = |j| {
            let products = row(q, i).into_iter().zip(row(k, j));
            c * products.map(|(q, k)| q * k).sum::<T>()
        };
        let e: Vec<(usize, T)> = seen.map(|j| (j, score(j).exp())).collect();
        let sum = e.iter().map(|e| e.1).sum::<T>();
        for x in 0..d {
            let terms = e.iter().map(|&(j, e)| e / sum * v[j * d + x]);
            out.push(terms.sum());
        }
        all.push(sum.ln());
    }
    out.extend(all);
    out
}

pub fn cases(variant: &str, rng: &mut Rng) -> Vec<Case> {
    let mut cases = vec![];
    let mut case = |task, name: &str, call, sizes, inputs, outputs, limit| {
        let name = name.to_string();
        cases.push(Case { task, name, call, sizes, inputs, outputs, limit });
    };
    for (t, w, d) in [
        (1, 1, 1),
        (rng.between(5, 7), 1 + rng.between(1, 2), 3),
        (4, 9, 2),
        (40, 2, 3),
    ] {
        let name = format!("{t} rows, window {w}, width {d}");
        // a window of so many rows, itself included
        let seen = if variant == "beside" { w + 1 } else { w };
        let [q, k, v, dy] = [(); 4].map(|()| rng.normals(t * d, 1.0));
        let c = 0.5 + rng.uniform();
        let [q1, k1, v1] = [&q, &k, &v].map(|x| constant(x));
        let f = |q: &[Dual], k: &[Dual], v: &[Dual]| {
            attention(q, k, v, t, seen, Dual::of(c))
        };
        let all = values(&f(&q1, &k1, &v1));
        let (y, lse) = all.split_at(t * d);
        let (y, lse) = (y.to_vec(), lse.to_vec());
        let inputs = vec![q.clone(), k.clone(), v.clone(), vec![c]];
        let pairs = t * seen.min(t);
        let limit = 8 * pairs * d + 24 * pairs + 6 * t * d + 20 * t;
        case(
            "1",
            &name,
            "forward",
            vec![t, w],
            inputs.clone(),
            vec![("y", y.clone()), ("lse", lse.clone())],
            limit,
        );
        let only_y = |all: Vec<Dual>| all[..t * d].to_vec();
        let dq = gradient(&q, &dy, |q| only_y(f(q, &k1, &v1)));
        let dk = gradient(&k, &dy, |k| only_y(f(&q1, k, &v1)));
        let dv = gradient(&v, &dy, |v| only_y(f(&q1, &k1, v)));
        for (task, call, g) in
            [("2", "dq", dq), ("3", "dk", dk), ("4", "dv", dv)]
        {
            let inputs = vec![
                dy.clone(),
                y.clone(),
                lse.clone(),
                q.clone(),
                k.clone(),
                v.clone(),
                vec![c],
            ];
            if t == 1 && task != "4" {
                continue; // one row: softmax of one score, gradient 0
            }
            let limit = 12 * pairs * d + 24 * pairs + 6 * t * d + 20 * t;
            case(task, &name, call, vec![w], inputs, vec![(call, g)], limit);
        }
        case("5", &name, "ring", vec![t, seen], inputs, vec![("y", y)], limit);
        let w = rng.between(2, 1 << 40);
        let rows = if variant == "beside" { w + 1 } else { w };
        let rows = vec![("slots", vec![rows as f64])];
        case(
            "5",
            &format!("a window of {w}"),
            "slots",
            vec![w],
            vec![],
            rows,
            9,
        );
    }
    cases
}
