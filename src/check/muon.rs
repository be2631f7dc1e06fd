//! Chapter: optimizer. Proofs of Muon.

use super::tools::{Check, check, fact, formula, product, random, sum};
use crate::gradcheck::Report;
use crate::params::{Layout, Role};
use crate::train::muon::{self, Muon, Scratch};
use crate::train::optimizer::{AdamW, Decay, Optimizer, Step};

pub(super) const CHECKS: &[Check] = &[
    check("muon-momentum", momentum),
    check("newton-schulz", newton_schulz),
    check("muon-update", update),
];

fn momentum() -> Report {
    let (mut u, mut m) = ([0.0; 2], [0.0; 2]);
    let (mut got, mut want) = (vec![], vec![]);
    let g = [[1.0, -0.5], [0.25, 3.0], [-2.0, 0.125]];
    for t in 0..3 {
        muon::momentum(&mut u, &mut m, &g[t], 2.0);
        got.extend(m.iter().chain(&u).copied());
        for ahead in [0, 1] {
            // m unrolled; one step more, of the same gradient's share, is u.
            let mean = |j: usize| {
                let old = |s: usize| 0.95f64.powi((t - s + ahead) as i32);
                let now = if ahead == 1 { 2.0 * g[t][j] } else { 0.0 };
                now + sum((0..=t).map(|s| old(s) * 2.0 * g[s][j]))
            };
            want.extend([mean(0), mean(1)]);
        }
    }
    formula("m and u of three gradients", &got, &want)
}

/// Rows that are orthogonal and of length 1: [n, width], n ≤ width.
fn orthogonal(name: &str, n: usize, width: usize) -> Vec<f64> {
    let mut rows = random(name, n * width);
    for i in 0..n {
        let (before, rest) = rows.split_at_mut(i * width);
        let row = &mut rest[..width];
        for _ in 0..2 {
            // Gram and Schmidt; twice, for the digits.
            for b in before.chunks(width) {
                let along = sum(b.iter().zip(&*row).map(|(b, r)| b * r));
                row.iter_mut().zip(b).for_each(|(r, b)| *r -= along * b);
            }
            let length = sum(row.iter().map(|r| r * r)).sqrt();
            row.iter_mut().for_each(|r| *r /= length);
        }
    }
    rows
}
fn transposed(x: &[f64], cols: usize) -> Vec<f64> {
    let column = |j| x.iter().skip(j).step_by(cols).copied();
    (0..cols).flat_map(column).collect()
}
/// U·diag(σ)·Vᵀ; the rows of `u` and `v` are the singular vectors.
fn composed(u: &[f64], sigma: &[f64], v: &[f64]) -> Vec<f64> {
    let width = v.len() / sigma.len();
    let scaled = v.chunks(width).zip(sigma);
    let scaled: Vec<f64> =
        scaled.flat_map(|(v, s)| v.iter().map(move |v| s * v)).collect();
    product(&transposed(u, u.len() / sigma.len()), &scaled, sigma.len())
}
/// What five steps make of one singular value, as the formula says it.
fn quintic(mut s: f64) -> f64 {
    for _ in 0..5 {
        s = 3.4445 * s - 4.7750 * s.powi(3) + 2.0315 * s.powi(5);
    }
    s
}
fn orthogonalized(mut x: Vec<f64>, cols: usize) -> Vec<f64> {
    let n = cols.min(x.len() / cols);
    let mut s = Scratch::new(x.len(), n);
    muon::newton_schulz(&mut x, cols, &mut s);
    x
}
fn newton_schulz() -> Report {
    let mut report = Report::default();
    for (name, rows, cols) in
        [("wide", 5, 9), ("tall", 9, 5), ("square", 6, 6), ("row", 1, 4)]
    {
        let n = rows.min(cols);
        let (u, v) = (orthogonal("u", n, rows), orthogonal("v", n, cols));
        let sigma: Vec<f64> = (1..=n).map(|i| 3.0 / (i * i) as f64).collect();
        let norm = sum(sigma.iter().map(|s| s * s)).sqrt() + 1e-7;
        let after: Vec<f64> = sigma.iter().map(|s| quintic(s / norm)).collect();
        let got = orthogonalized(composed(&u, &sigma, &v), cols);
        let what = format!("U f⁵(Σ/‖M‖) Vᵀ, {name}");
        report = report.and(formula(&what, &got, &composed(&u, &after, &v)));
    }
    // 240 singular values from 1 to 10⁻⁷ of the norm, 12 in each matrix.
    let (u, v) = (orthogonal("u", 12, 12), orthogonal("v", 12, 20));
    let mut all: Vec<[f64; 2]> = vec![];
    for shift in 0..20 {
        let rest = |i: usize| {
            let tenth = (i * 20 + shift) as f64 / 240.0;
            if i == 0 { 1.0 } else { 10f64.powf(-7.0 * tenth) }
        };
        let sigma: Vec<f64> = (0..12).map(rest).collect();
        let norm = sum(sigma.iter().map(|s| s * s)).sqrt();
        let o = orthogonalized(composed(&u, &sigma, &v), 20);
        // uᵢᵀ·O·vᵢ
        let uo = product(&u, &o, 12);
        for i in 0..12 {
            let (uo, v) = (&uo[i * 20..][..20], &v[i * 20..][..20]);
            let after = sum(uo.iter().zip(v).map(|(a, b)| a * b));
            all.push([sigma[i] / norm, after]);
        }
    }
    all.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let large = all.iter().filter(|s| s[0] >= 0.002);
    let band = |s: &[f64; 2]| (0.68..=1.21).contains(&s[1]);
    let below: Vec<_> = all.iter().filter(|s| s[0] < 0.002).collect();
    // Below 10⁻¹² of one another they are one.
    let rises = |w: &[&[f64; 2]]| w[1][1] > w[0][1] - 1e-12;
    let none = orthogonalized(vec![0.0; 6], 3);
    report
        .and(fact("0.68 to 1.21 from 0.002 on", large.clone().all(band)))
        .and(fact("many of them", large.count() > 80 && below.len() > 100))
        .and(fact("rising below", below.windows(2).all(rises)))
        .and(formula("no gradient, no update", &none, &[0.0; 6]))
}

/// One step as its authors write it, but for [in, out] as here: B·X apart from
/// aX, and a tall matrix as its transpose.
fn literal(p: &mut [f64], m: &mut [f64], g: &[f64], cols: usize, lr: f64) {
    for (m, g) in m.iter_mut().zip(g) {
        *m = 0.95 * *m + g;
    }
    let u = m.iter().zip(g).map(|(m, g)| g + 0.95 * m);
    let mut x: Vec<f64> = u.collect();
    let rows = x.len() / cols;
    let tall = rows > cols;
    let width = if tall { rows } else { cols };
    if tall {
        x = transposed(&x, cols);
    }
    let norm = sum(x.iter().map(|x| x * x)).sqrt() + 1e-7;
    x.iter_mut().for_each(|x| *x /= norm);
    for _ in 0..5 {
        let n = x.len() / width;
        let a = product(&x, &transposed(&x, width), width);
        let aa = product(&a, &a, n);
        let b: Vec<f64> =
            a.iter().zip(aa).map(|(a, aa)| -4.7750 * a + 2.0315 * aa).collect();
        let bx = product(&b, &x, n);
        x = x.iter().zip(bx).map(|(x, bx)| 3.4445 * x + bx).collect();
    }
    if tall {
        x = transposed(&x, width);
    }
    let scale = if tall { 1.0 } else { (cols as f64 / rows as f64).sqrt() };
    for (p, x) in p.iter_mut().zip(x) {
        *p -= lr * (scale * x + 0.2 * *p);
    }
}
fn update() -> Report {
    let mut layout = Layout::default();
    let mut b = layout.builder();
    let hidden = [
        b.param("wide", [3, 7], Role::Weight),
        b.param("tall", [6, 2], Role::Residual),
        b.at("moe").at("experts").param("square", [4, 4], Role::Weight),
    ];
    let rest = [
        b.param("embed", [5, 3], Role::Embedding),
        b.at("moe").at("router").param("w", [3, 2], Role::Weight),
        b.at("norm").param("gain", [3], Role::Gain),
        b.at("head").param("w", [3, 5], Role::Weight),
    ];
    let mut p = layout.zeros::<f64>();
    p.data.copy_from_slice(&random("θ", layout.len));
    let (mut q, mut want) = (p.clone(), p.clone());
    let mut m = layout.zeros::<f64>();
    // Twenty times the rate where AdamW has 0.01, in three parts.
    let mut muon = Muon::with(&layout, 0.2, 20.0, 3, muon::hidden);
    let mut adam = AdamW::new(&layout, 0.2, Decay::Weights);
    let mut dp = layout.grads();
    for t in 1..=3 {
        dp.data.copy_from_slice(&random(&format!("g{t}"), layout.len));
        let step = Step { t, lr: 0.01, scale: 1.0 };
        muon.step(&mut p, &dp, step);
        adam.step(&mut q, &dp, step);
        for e in hidden {
            literal(&mut want[e], &mut m[e], &dp[e], e.cols, 0.2);
        }
    }
    let of = |p: &crate::params::Params<f64>, all: &[_]| -> Vec<f64> {
        all.iter().flat_map(|&e| p[e].to_vec()).collect()
    };
    formula(
        "three steps of three matrices",
        &of(&p, &hidden),
        &of(&want, &hidden),
    )
    .and(formula("all others by AdamW", &of(&p, &rest), &of(&q, &rest)))
}
