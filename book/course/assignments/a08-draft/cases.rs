//! The cases, from the formulas alone.

use crate::Case;
use crate::dual::Rng;

/// v random probabilities.
fn shares(v: usize, rng: &mut Rng) -> Vec<f64> {
    let e: Vec<f64> = rng.normals(v, 1.0).iter().map(|z| z.exp()).collect();
    let sum = e.iter().sum::<f64>();
    e.iter().map(|e| e / sum).collect()
}
/// A token drawn from these probabilities: the first whose cumulated one is
/// larger than u.
fn draw(p: &[f64], u: f64) -> usize {
    let mut sum = 0.0;
    let larger = |p: &f64| {
        sum += p;
        sum > u
    };
    p.iter().position(larger).unwrap_or(p.len() - 1)
}
/// What is left to draw from after a rejection, before it is divided by its
/// sum: p less what was accepted.
fn left(p: &[f64], q: &[f64], part: f64) -> Vec<f64> {
    p.iter().zip(q).map(|(p, q)| p - q.min(p / part)).collect()
}

pub fn cases(variant: &str, rng: &mut Rng) -> Vec<Case> {
    let part = if variant == "strict" { 2.0 } else { 1.0 };
    let mut cases = vec![];
    let mut case = |task, name: &str, call, sizes, inputs, outputs, limit| {
        let name = name.to_string();
        cases.push(Case { task, name, call, sizes, inputs, outputs, limit });
    };
    let accepted = |p: f64, q: f64| (p / (part * q)).min(1.0);
    for v in [2, rng.between(3, 9), 40] {
        let name = format!("{v} tokens");
        let (p, q) = (shares(v, rng), shares(v, rng));
        let inputs = vec![p.clone(), q.clone()];
        let each = p.iter().zip(&q).map(|(&p, &q)| accepted(p, q));
        case(
            "1",
            &name,
            "acceptance",
            (0..v).collect(),
            inputs.clone(),
            vec![("acceptance", each.collect())],
            16 * v,
        );
        let rate = p.iter().zip(&q).map(|(p, q)| q.min(p / part)).sum();
        case(
            "1",
            &name,
            "rate",
            vec![],
            inputs.clone(),
            vec![("rate", vec![rate])],
            20 * v + 10,
        );
        let r = left(&p, &q, part);
        let sum = r.iter().sum::<f64>();
        let r = r.iter().map(|r| r / sum).collect();
        case(
            "2",
            &name,
            "residual",
            vec![],
            inputs,
            vec![("r", r)],
            24 * v + 10,
        );
    }
    // rounds that end by a rejection at once, later, and not at all
    for (drafts, v, end) in [
        (1, 3, 0),
        (rng.between(3, 5), rng.between(4, 8), 2),
        (4, 30, 4),
        (3, 5, 1),
        (1, 4, 1),
    ] {
        let mut p: Vec<f64> = vec![];
        let (mut q, mut u, mut drafted) = (vec![], vec![], vec![]);
        for i in 0..drafts {
            // drawn until the draft can be rejected, or accepted, as it has to
            loop {
                let (p1, q1) = (shares(v, rng), shares(v, rng));
                let x = draw(&q1, rng.uniform());
                let (a, u1) = (accepted(p1[x], q1[x]), rng.uniform());
                if (u1 < a) == (i != end) {
                    p.extend(p1);
                    q.extend(q1);
                    u.push(u1);
                    drafted.push(x);
                    break;
                }
            }
        }
        p.extend(shares(v, rng));
        u.push(rng.uniform());
        let mut tokens: Vec<f64> =
            drafted.iter().take(end).map(|&x| x as f64).collect();
        let from = if end < drafts {
            let r = left(&p[end * v..][..v], &q[end * v..][..v], part);
            let sum = r.iter().sum::<f64>();
            r.iter().map(|r| r / sum).collect()
        } else {
            p[drafts * v..].to_vec()
        };
        tokens.push(draw(&from, u[drafts]) as f64);
        let n = vec![tokens.len() as f64];
        case(
            "3",
            &format!("{drafts} drafts, {end} accepted, {v} tokens"),
            "round",
            drafted,
            vec![p, q, u],
            vec![("number", n), ("tokens", tokens)],
            24 * (drafts + 1) * v,
        );
    }
    for (drafts, a) in [
        (1, 0.5 * rng.uniform()),
        (rng.between(3, 9), rng.uniform()),
        (rng.between(2, 50_000), 1.0),
    ] {
        let powers = (0..=drafts).map(|i| f64::powi(a, i as i32));
        case(
            "4",
            &format!("{drafts} drafts, each accepted with {a:.3}"),
            "expected",
            vec![drafts],
            vec![vec![a]],
            vec![("tokens", vec![powers.sum()])],
            6 * drafts + 20,
        );
    }
    cases
}
