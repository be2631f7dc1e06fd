//! The cases, from the formula alone: gradients by dual numbers.

use crate::Case;
use crate::dual::{Dual, Rng, constant, gradient, values};
use kit::Real;

/// The scores of all rows, one after the other.
fn scores<T: Real>(q: &[T], k: &[T], d: usize, c: T, bent: bool) -> Vec<T> {
    let one = |q: &[T], k: &[T]| {
        let products = q.iter().zip(k).map(|(&q, &k)| q * k);
        let z = c * products.sum::<T>();
        if bent { z / (T::ONE + z * z).sqrt() } else { z }
    };
    let rows = q.chunks(d).flat_map(|q| k.chunks(d).map(move |k| (q, k)));
    rows.map(|(q, k)| one(q, k)).collect()
}
/// y, and the log-sum-exp of each row; `largest` is taken out of the
/// exponentials.
fn attention<T: Real>(s: &[T], v: &[T], d: usize) -> (Vec<T>, Vec<T>) {
    let (mut y, mut lse) = (vec![], vec![]);
    for s in s.chunks(v.len() / d) {
        let most = s.iter().fold(s[0], |a, &b| if b > a { b } else { a });
        let e: Vec<T> = s.iter().map(|&s| (s - most).exp()).collect();
        let sum = e.iter().sum::<T>();
        for x in 0..d {
            let terms = e.iter().enumerate();
            y.push(terms.map(|(j, &e)| e / sum * v[j * d + x]).sum());
        }
        lse.push(most + sum.ln());
    }
    (y, lse)
}

pub fn cases(variant: &str, rng: &mut Rng) -> Vec<Case> {
    let bent = variant == "bent";
    let mut cases = vec![];
    let mut case = |task, name: &str, call, sizes, inputs, outputs, limit| {
        let name = name.to_string();
        cases.push(Case { task, name, call, sizes, inputs, outputs, limit });
    };
    for (t, n, tile, d, scale) in [
        (2, 2, 2, 2, 1.0),
        (2, rng.between(7, 9), 3, 3, 1.0),
        (3, rng.between(5, 8), 1, 2, 1.0),
        (2, 6, 2, 2, 30.0), // scores of a thousand
        (2, 64, 8, 4, 1.0),
    ] {
        let large = if scale > 1.0 { ", large scores" } else { "" };
        let name =
            format!("{t} rows, {n} keys in tiles of {tile}, width {d}{large}");
        let [q, dy] = [(); 2].map(|()| rng.normals(t * d, scale));
        let [k, v] = [scale, 1.0].map(|s| rng.normals(n * d, s));
        let c = 0.5 + rng.uniform();
        // the tiles in another order than the rows
        let mut order = vec![d];
        let mut tiles: Vec<usize> = (0..n.div_ceil(tile)).collect();
        tiles.rotate_left(1);
        for i in tiles {
            order.extend([i * tile, ((i + 1) * tile).min(n)]);
        }
        let [q1, k1, v1] = [&q, &k, &v].map(|x| constant(x));
        let f = |q: &[Dual], k: &[Dual], v: &[Dual]| {
            attention(&scores(q, k, d, Dual::of(c), bent), v, d)
        };
        let (y, lse) = f(&q1, &k1, &v1);
        let (y, lse) = (values(&y), values(&lse));
        let inputs = vec![q.clone(), k.clone(), v.clone(), vec![c]];
        let pairs = t * n;
        let limit = 16 * pairs * d + 80 * pairs + 20 * t * d;
        let outputs = vec![("y", y.clone()), ("lse", lse.clone())];
        let task = if scale > 1.0 { "2" } else { "1" };
        case(
            task,
            &name,
            "forward",
            order.clone(),
            inputs.clone(),
            outputs,
            limit,
        );
        if scale > 1.0 {
            continue;
        }
        // what stands in the sums before the end
        let all = values(&scores(&q1, &k1, d, Dual::of(c), bent));
        let (mut sums, mut marks) = (vec![], vec![]);
        for (i, s) in all.chunks(n).enumerate() {
            let most = s.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let l = (lse[i] - most).exp();
            sums.extend(y[i * d..][..d].iter().map(|y| y * l));
            marks.extend([l, most]);
        }
        let (o, l, m) = (sums[..d].to_vec(), vec![marks[0]], vec![marks[1]]);
        let end = vec![("y", y[..d].to_vec()), ("lse", vec![lse[0]])];
        case("1", &name, "finish", vec![d], vec![o, l, m], end, 4 * d + 10);
        let outputs = vec![("o", sums), ("l and m", marks)];
        case("2", &name, "sums", order.clone(), inputs, outputs, limit);
        let inner = dy
            .chunks(d)
            .zip(y.chunks(d))
            .map(|(a, b)| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>());
        let common: Vec<f64> = inner.collect();
        case(
            "3",
            &name,
            "delta",
            vec![d],
            vec![dy.clone(), y],
            vec![("delta", common.clone())],
            8 * t * d,
        );
        let dq = gradient(&q, &dy, |q| f(q, &k1, &v1).0);
        let dk = gradient(&k, &dy, |k| f(&q1, k, &v1).0);
        let dv = gradient(&v, &dy, |v| f(&q1, &k1, v).0);
        for (task, call, g) in
            [("3", "dq", dq), ("4", "dk", dk), ("5", "dv", dv)]
        {
            let inputs = vec![
                dy.clone(),
                lse.clone(),
                common.clone(),
                q.clone(),
                k.clone(),
                v.clone(),
                vec![c],
            ];
            let limit = 30 * pairs * d + 80 * pairs + 20 * t * d;
            case(
                task,
                &name,
                call,
                order.clone(),
                inputs,
                vec![(call, g)],
                limit,
            );
        }
    }
    cases
}
