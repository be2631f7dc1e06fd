//! The cases, from the formulas alone: gradients by dual numbers.

use crate::Case;
use crate::dual::{Dual, Rng, constant, gradient, values};
use kit::Real;

/// Who finds room: a queue for each expert, in the order of the variant.
fn kept(chosen: &[usize], k: usize, room: usize, tokens: bool) -> Vec<bool> {
    let n = chosen.len() / k;
    let mut order: Vec<(usize, usize)> =
        (0..n).flat_map(|t| (0..k).map(move |j| (t, j))).collect();
    if !tokens {
        order.sort_by_key(|&(t, j)| (j, t));
    }
    let mut kept = vec![false; chosen.len()];
    for (i, &(t, j)) in order.iter().enumerate() {
        let e = chosen[t * k + j];
        let before = order[..i].iter();
        let before = before.filter(|&&(t, j)| chosen[t * k + j] == e).count();
        kept[t * k + j] = before < room;
    }
    kept
}
/// k different experts for each token; low numbers more often, so that some
/// overflow.
fn choices(n: usize, k: usize, experts: usize, rng: &mut Rng) -> Vec<usize> {
    let mut chosen = vec![];
    for _ in 0..n {
        let mut all: Vec<(f64, usize)> =
            (0..experts).map(|e| (rng.uniform() + 0.1 * e as f64, e)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        chosen.extend(all[..k].iter().map(|c| c.1));
    }
    chosen
}
/// y, w as one vector.
fn combined<T: Real>(p: &[T], f: &[T], kept: &[bool], k: usize) -> Vec<T> {
    let n = p.len() / k;
    let d = f.len() / p.len();
    let weight =
        |at: usize| p[at] / p[at / k * k..][..k].iter().copied().sum::<T>();
    let mut out = vec![];
    for t in 0..n {
        for i in 0..d {
            let slots = (t * k..(t + 1) * k).filter(|&at| kept[at]);
            out.push(slots.map(|at| weight(at) * f[at * d + i]).sum());
        }
    }
    out.extend((0..n * k).map(weight));
    out
}

pub fn cases(variant: &str, rng: &mut Rng) -> Vec<Case> {
    let tokens = variant == "tokens";
    let mut cases = vec![];
    // room: exact, rounded up, more than there are tokens
    for (num, den) in [(1, 1), (5, 4), (9, 8), (20, 1)] {
        let (n, k) = (rng.between(5, 1 << 30), rng.between(1, 3));
        let experts = rng.between(k + 1, 9);
        let room = (num * n * k) as f64 / (den * experts) as f64;
        cases.push(Case {
            task: "1",
            name: format!("{num}/{den} of {n} tokens, {k} of {experts}"),
            call: "room",
            sizes: vec![num, den, n, k, experts],
            inputs: vec![],
            outputs: vec![("C", vec![room.ceil().min(n as f64)])],
            limit: 10,
        });
    }
    for (n, k, experts) in
        [(rng.between(9, 14), 1, 3), (rng.between(9, 14), 2, 4), (24, 3, 5)]
    {
        let chosen = choices(n, k, experts, rng);
        let room = (n * k / experts).max(1);
        let kept = kept(&chosen, k, room, tokens);
        let kept = kept.iter().map(|&b| f64::from(b)).collect();
        let mut sizes = vec![k, experts, room];
        sizes.extend(&chosen);
        cases.push(Case {
            task: "2",
            name: format!("{n} tokens, {k} of {experts}, room for {room}"),
            call: "fill",
            sizes,
            inputs: vec![],
            outputs: vec![("kept", kept)],
            limit: 2 * n * k,
        });
    }
    for (n, k, d) in [
        (1, 1, 1),
        (rng.between(4, 7), 2, rng.between(2, 4)),
        (5, 3, 2),
        (2, 16, 8),
    ] {
        let name = format!("{n} tokens of {k} choices, width {d}");
        let p: Vec<f64> = (0..n * k).map(|_| 0.05 + rng.uniform()).collect();
        let f = rng.normals(n * k * d, 1.0);
        let mut kept: Vec<bool> =
            (0..n * k).map(|_| rng.uniform() > 0.35).collect();
        kept[0] = true;
        kept[n * k - 1] = n * k == 1; // at least one dropped
        let marks: Vec<f64> = kept.iter().map(|&b| f64::from(b)).collect();
        let all = values(&combined(&constant(&p), &constant(&f), &kept, k));
        let (y, w) = all.split_at(n * d);
        let mut noise = f.clone();
        for at in (0..n * k).filter(|&at| !kept[at]) {
            noise[at * d..][..d].fill(f64::NAN);
        }
        cases.push(Case {
            task: "3",
            name: name.clone(),
            call: "combine",
            sizes: vec![k, d],
            inputs: vec![p.clone(), noise.clone(), marks.clone()],
            outputs: vec![("y", y.to_vec()), ("w", w.to_vec())],
            limit: 12 * n * k * d + 30 * n * k,
        });
        let dy = rng.normals(n * d, 1.0);
        let only_y =
            |p: &[Dual], f: &[Dual]| combined(p, f, &kept, k)[..n * d].to_vec();
        let dp = gradient(&p, &dy, |p| only_y(p, &constant(&f)));
        let df = gradient(&f, &dy, |f| only_y(&constant(&p), f));
        for (task, call, output) in
            [("4", "dp", ("dp", dp)), ("5", "df", ("df", df))]
        {
            cases.push(Case {
                task,
                name: name.clone(),
                call,
                sizes: vec![k],
                inputs: vec![
                    dy.clone(),
                    p.clone(),
                    w.to_vec(),
                    noise.clone(),
                    marks.clone(),
                ],
                outputs: vec![output],
                limit: 20 * n * k * d + 40 * n * k,
            });
        }
    }
    cases
}
