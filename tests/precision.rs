//! T5. The f32 kernels on every instruction set that this CPU has against the
//! plain kernels in f64, and the gradient of whole models.
//!
//! Each bound is derived where it is asserted, from the number of roundings
//! and from the data. Every operation of f32 is exact but for a factor 1 + δ,
//! |δ| ≤ u = 2⁻²⁴, and r factors in a row differ from 1 by γᵣ = r·u/(1 − r·u)
//! at most (Higham 2002, lemma 3.1). A sum of n products in any order puts n
//! roundings on each term with FMA, n + 1 without: |error| ≤ γₙ₊₁·Σ|terms|. A
//! result below 2⁻¹²⁶ is rounded to a multiple of 2⁻¹⁴⁹ besides.
//!
//! The reference has rounding errors as well, 2⁻²⁹ times as large; `within`
//! allows for a thousandth.
#![allow(missing_docs, reason = "a test is documented by its name")]

mod again;

use again::again;
use moe_by_hand::config::Config;
use moe_by_hand::kernel::activation::{glu_backward, glu_forward};
use moe_by_hand::kernel::fast;
use moe_by_hand::kernel::matrix::{Set, mat, mat_mut, matmul};
use moe_by_hand::kernel::product::matmul_with;
use moe_by_hand::kernel::simd::Isa;
use moe_by_hand::kernel::softmax::{
    causal_softmax_backward, causal_softmax_forward, softmax_forward,
};
use moe_by_hand::kernel::vector::dot;
use moe_by_hand::layer::Shape;
use moe_by_hand::model::{Batch, Model};
use moe_by_hand::nn::loss::{cross_entropy_backward, cross_entropy_forward};
use moe_by_hand::nn::moe::combine_backward;
use moe_by_hand::nn::rmsnorm::{rmsnorm_backward, rmsnorm_forward};
use moe_by_hand::params::Params;
use moe_by_hand::real::Real;
use moe_by_hand::rng::Rng;
use moe_by_hand::train::step::{Coefficients, Losses, Step};

/// The unit roundoff of f32.
const U: f64 = 1.0 / (1u64 << 24) as f64;
/// What `fast::exp` promises: relative error from −87 to 88, …
const EXP: f64 = 1.0 / (1u64 << 22) as f64;
/// … and absolute error below: 2⁻¹²⁶, the smallest normal number.
const TINY: f64 = f32::MIN_POSITIVE as f64;
/// The smallest number of all, 2⁻¹⁴⁹.
const ETA: f64 = TINY * f32::EPSILON as f64;

fn gamma(r: usize) -> f64 {
    let r = r as f64 * U;
    r / (1.0 - r)
}

/// Across the ends of vectors of 4, 8 and 16 lanes, four at a time; and the
/// model's own widths, keys and vocabularies. Miri, which is a thousand times
/// slower, sees a part: each kind of tail, and each accumulator once.
fn lengths() -> impl Iterator<Item = usize> {
    let miri = [1, 3, 7, 8, 9, 15, 16, 17, 37, 67];
    let all: Vec<usize> = (1..=67).chain([128, 256, 1000]).collect();
    if cfg!(miri) { miri.to_vec() } else { all }.into_iter()
}
/// So many rows go with a length.
fn rows(n: usize) -> usize {
    n % 5 + 1
}

/// The largest share of its bound that an error took up, for the report.
struct Worst {
    what: String,
    share: f64,
}
impl Worst {
    fn new(isa: Isa, what: &str) -> Self {
        Self { what: format!("{what} on {isa}"), share: 0.0 }
    }
    #[track_caller]
    fn within(&mut self, case: &str, got: f32, want: f64, bound: f64) {
        let off = (got as f64 - want).abs();
        assert!(
            off <= bound * 1.001,
            "{} {case}: {got:e} for {want:e}, off by {off:e} > {bound:e}",
            self.what
        );
        if off > 0.0 {
            self.share = self.share.max(off / bound);
        }
    }
    /// A bound that nothing comes near proves little.
    #[track_caller]
    fn done(self, least: f64) {
        println!("{}: {:.3} of the bound", self.what, self.share);
        assert!(self.share >= least, "{}: a loose bound", self.what);
    }
}

fn normals(n: usize, scale: f64, seed: usize) -> Vec<f32> {
    let mut x = vec![0.0; n];
    Rng::new(seed as u64, 5).fill_normal(&mut x, scale);
    x
}
fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x.into()).collect()
}

/// Rows of scores of all kinds: equal, tiny, usual, huge; one that stands out;
/// some of −∞, none left but one, none at all.
fn scores(n: usize, v: usize) -> Vec<(&'static str, Vec<f32>)> {
    let low = f32::NEG_INFINITY;
    let z = |scale: f64| normals(n * v, scale, n + 31 * v);
    let mut hot = z(1.0);
    hot.iter_mut().step_by(v + 1).for_each(|z| *z += 50.0);
    let (mut some, mut one) = (z(3.0), vec![low; n * v]);
    some.iter_mut().step_by(3).for_each(|z| *z = low);
    one.iter_mut().step_by(v + 1).for_each(|z| *z = 2.5);
    vec![
        ("equal", vec![0.75; n * v]),
        ("tiny", z(1e-30)),
        ("usual", z(2.0)),
        ("wide", z(40.0)),
        ("huge", z(1e4)),
        ("hot", hot),
        ("some", some),
        ("one", one),
        ("none", vec![low; n * v]),
    ]
}

/// e^{x̂} by `fast::exp` with |x̂ − x| ≤ slip: a bound of its distance from eˣ.
///
/// e^{x̂} is off by a factor e^{slip}, the kernel's result by 1 + 2⁻²²; where
/// little is left of it, both numbers are below 2⁻¹²⁶.
fn exp_bound(x: f64, slip: f64) -> f64 {
    if x < -90.0 && x + slip < -87.0 {
        return 2.0 * TINY;
    }
    x.exp() * ((1.0 + EXP) * slip.exp() - 1.0) + TINY
}

/// Softmax of one row of scores c·z and its log-sum-exp, with their bounds.
struct Row {
    p: Vec<[f64; 2]>,
    lse: [f64; 2],
}
fn softmax_bounds(z: &[f32], c: f32) -> Row {
    let c = c as f64;
    let m = z.iter().fold(f32::NEG_INFINITY, |m, &z| m.max(z)) as f64;
    if m == f64::NEG_INFINITY {
        return Row { p: vec![[0.0; 2]; z.len()], lse: [m, 0.0] };
    }
    // z − m and c times it are rounded: x̂ = x·(1 + δ)(1 + δ′).
    let x = |z: f32| c * (z as f64 - m);
    let slip = |x: f64| if x.is_finite() { gamma(2) * -x } else { 0.0 };
    let e: Vec<[f64; 2]> =
        z.iter().map(|&z| [x(z).exp(), exp_bound(x(z), slip(x(z)))]).collect();
    // The sum: each term's own error, and n roundings of what is summed.
    let n = z.len();
    let sum: f64 = e.iter().map(|e| e[0]).sum();
    let each: f64 = e.iter().map(|e| e[1]).sum();
    let off = each + gamma(n) * (sum + each);
    let (low, high) = (sum - off, sum + off);
    // p̂ = fl(ê·fl(1/ŝ)): two roundings, and the smallest number if it is
    // below what a number can be.
    let p = e.iter().map(|&[e, off]| {
        let p = e / sum;
        let most = (e + off) / low * (1.0 + gamma(2)) - p;
        let least = p - (e - off) / high * (1.0 - gamma(2));
        [p, most.max(least) + ETA]
    });
    // ℓ = fl(fl(c·m) + ln ŝ): the sum's error, relative; ln to one unit in the
    // last place, 2u; the product and the sum.
    let (relative, ln) = (-(1.0 - off / sum).ln(), sum.ln());
    let parts = U * (c * m).abs() + relative + 2.0 * U * (ln + relative);
    let lse = c * m + ln;
    let off = parts + U * (lse.abs() + parts);
    Row { p: p.collect(), lse: [lse, off] }
}

#[test]
fn exp_over_its_whole_domain() {
    // With ℓ = 0 and dsum = 1 the backward of cross-entropy is exp(z), but
    // for the target. Every 3001st number of the bits: 1.4 million, of all
    // signs and sizes, NaN and infinities among them; and where most lies.
    let (step, n) = if cfg!(miri) { (30_000_001, 99) } else { (3001, 600_000) };
    let mut x: Vec<f32> =
        (0..=u32::MAX).step_by(step).map(f32::from_bits).collect();
    x.extend((0..n).map(|i| -105.0 + i as f32 * (195.0 / n as f32)));
    x.extend([-0.0, 0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
    x.extend([-87.0, 88.0, -88.0, 89.0]);
    x.push(0.0); // the target
    for isa in Isa::here() {
        let mut y = vec![f32::NAN; x.len()];
        isa.run(fast::CrossEntropyBackward {
            dz: &mut y,
            z: &x,
            lse: &[0.0],
            target: &[x.len() - 1],
            dsum: 1.0,
        });
        let mut worst = (0.0, 0.0);
        for (&x, &y) in x.iter().zip(&y[..y.len() - 1]) {
            let want = (x as f64).exp();
            match x {
                _ if x.is_nan() => assert!(y.is_nan(), "{isa} e^NaN = {y}"),
                ..=-88.0 => assert_eq!(y, 0.0, "{isa} e^{x}"),
                89.0.. => assert_eq!(y, f32::INFINITY, "{isa} e^{x}"),
                -87.0..=88.0 => {
                    let off = (y as f64 / want - 1.0).abs();
                    assert!(off < EXP, "{isa} e^{x}: {y:e}, off by {off:e}");
                    worst = if off > worst.0 { (off, x) } else { worst };
                }
                ..-87.0 => {
                    let off = (y as f64 - want).abs();
                    assert!(off < TINY, "{isa} e^{x}: {y:e}, off by {off:e}");
                }
                _ => {
                    let most = want * (1.0 + EXP);
                    let fits = y as f64 >= want * (1.0 - EXP)
                        && (y as f64 <= most || y == f32::INFINITY);
                    assert!(fits, "{isa} e^{x}: {y:e} for {want:e}");
                }
            }
        }
        let (off, at) = worst;
        println!("exp on {isa}: {:.3} u, at {at}", off / U);
    }
}

#[test]
fn softmax() {
    for isa in Isa::here() {
        let mut worst = Worst::new(isa, "softmax_forward");
        for n in lengths() {
            for (kind, z) in scores(1, n) {
                let case = format!("{kind} {n}");
                let (row, mut p) = (softmax_bounds(&z, 1.0), z.clone());
                let mut want = wide(&z);
                let want_lse = softmax_forward(&mut want);
                let lse = isa.run(fast::SoftmaxForward { z: &mut p });
                for i in 0..n {
                    worst.within(&case, p[i], want[i], row.p[i][1]);
                    if z[i] == f32::NEG_INFINITY {
                        assert_eq!(p[i], 0.0, "{isa} {case} at {i}");
                    }
                }
                if want_lse == f64::NEG_INFINITY {
                    assert_eq!(lse, f32::NEG_INFINITY, "{isa} {case}");
                } else {
                    worst.within(&case, lse, want_lse, row.lse[1]);
                }
            }
        }
        worst.done(0.1);
    }
}

/// Queries and group for so many keys: one, all, cached ones before, groups.
fn causal_shapes(keys: usize) -> Vec<[usize; 2]> {
    let mut shapes = vec![[1, 1], [1, 4]];
    if keys <= 67 {
        shapes.extend([[keys, 1], [keys.min(5), 2], [keys.div_ceil(2), 3]]);
    }
    shapes
}

#[test]
fn causal_softmax() {
    for isa in Isa::here() {
        let mut worst = Worst::new(isa, "causal_softmax_forward");
        for keys in lengths() {
            for [t, group] in causal_shapes(keys) {
                // 1/√d for a head of 32; a scale of 1; a large one
                let scale = [0.176_776_7f32, 1.0, 3.3][(keys + t) % 3];
                for (kind, z) in scores(t * group, keys) {
                    let case = format!("{kind} {keys} {t} {group}");
                    let (mut p, mut want) = (z.clone(), wide(&z));
                    isa.run(fast::CausalSoftmaxForward {
                        z: &mut p,
                        keys,
                        group,
                        scale,
                    });
                    causal_softmax_forward(
                        &mut want,
                        keys,
                        group,
                        scale.into(),
                    );
                    for (r, z) in z.chunks(keys).enumerate() {
                        let seen = keys - t + r / group + 1;
                        let row = softmax_bounds(&z[..seen], scale);
                        for j in 0..seen {
                            let at = r * keys + j;
                            worst.within(&case, p[at], want[at], row.p[j][1]);
                        }
                        let future = &p[r * keys + seen..(r + 1) * keys];
                        let none = future.iter().all(|&p| p == 0.0);
                        assert!(none, "{isa} {case}: row {r} sees the future");
                    }
                }
            }
        }
        worst.done(0.1);
    }
}

#[test]
fn causal_softmax_gradient() {
    for isa in Isa::here() {
        let mut worst = Worst::new(isa, "causal_softmax_backward");
        for keys in lengths() {
            for scale_of_d in [1e-20, 1.0, 1e15] {
                let n = rows(keys);
                let mut p = normals(n * keys, 2.0, keys);
                p.chunks_mut(keys).for_each(|p| {
                    isa.run(fast::SoftmaxForward { z: p });
                });
                let d = normals(n * keys, scale_of_d, keys + 7);
                let scale = 0.353_553_4f32;
                let (mut got, mut want) = (d.clone(), wide(&d));
                isa.run(fast::CausalSoftmaxBackward {
                    d: &mut got,
                    p: &p,
                    keys,
                    scale,
                });
                let p = wide(&p);
                causal_softmax_backward(&mut want, &p, keys, scale.into());
                for at in 0..n * keys {
                    let row = at / keys * keys..(at / keys + 1) * keys;
                    let (d64, pr) = (wide(&d[row.clone()]), &p[row]);
                    // d·p summed: n + 1 roundings a term. Then d − ⟨d, p⟩,
                    // p·c and their product: one rounding each.
                    let mean = dot(&d64, pr);
                    let size: f64 =
                        d64.iter().zip(pr).map(|(d, p)| (d * p).abs()).sum();
                    let off = gamma(keys + 1) * size + keys as f64 * ETA;
                    let gap = (d[at] as f64 - mean).abs();
                    let c = p[at] * scale as f64;
                    let bound = c * ((gap + off) * (1.0 + gamma(3)) - gap);
                    let bound = bound + ETA * (1.0 + gap + off);
                    let case = format!("{keys} {scale_of_d:e}");
                    worst.within(&case, got[at], want[at], bound);
                }
            }
        }
        worst.done(0.1);
    }
}

#[test]
fn cross_entropy() {
    for isa in Isa::here() {
        let mut worst = Worst::new(isa, "cross_entropy_forward");
        let mut worst_back = Worst::new(isa, "cross_entropy_backward");
        for v in lengths() {
            let n = rows(v);
            for (kind, mut z) in scores(n, v) {
                if kind == "none" {
                    continue; // no target can be right: the loss is NaN
                }
                let target: Vec<usize> = (0..n).map(|i| i * 5 % v).collect();
                for (i, &t) in target.iter().enumerate() {
                    let z = &mut z[i * v + t];
                    *z = z.max(-1e6); // a finite loss
                }
                let case = format!("{kind} {n} {v}");
                let (mut lse, mut lse64) = (vec![0.0; n], vec![0.0; n]);
                let z64 = wide(&z);
                let loss = isa.run(fast::CrossEntropyForward {
                    lse: &mut lse,
                    z: &z,
                    target: &target,
                    v,
                });
                let want = cross_entropy_forward(&mut lse64, &z64, &target);
                // Each ℓ by its own bound; ℓ − z is rounded, and so are the n
                // sums.
                let (mut off, mut size) = (0.0, 0.0);
                for i in 0..n {
                    let row = softmax_bounds(&z[i * v..][..v], 1.0);
                    worst.within(&case, lse[i], lse64[i], row.lse[1]);
                    let term = (row.lse[0] - z64[i * v + target[i]]).abs();
                    let each = row.lse[1] + U * (term + row.lse[1]);
                    (off, size) = (off + each, size + term + each);
                }
                worst.within(&case, loss, want, off + gamma(n) * size);

                // The gradient, from the ℓ that f32 has.
                let dsum = 1.0 / n as f32;
                let (mut dz, mut want) =
                    (vec![f32::NAN; n * v], vec![0.0; n * v]);
                isa.run(fast::CrossEntropyBackward {
                    dz: &mut dz,
                    z: &z,
                    lse: &lse,
                    target: &target,
                    dsum,
                });
                let lse = wide(&lse);
                cross_entropy_backward(
                    &mut want,
                    &z64,
                    &lse,
                    &target,
                    dsum.into(),
                );
                let c = dsum as f64;
                for at in 0..n * v {
                    let x = z64[at] - lse[at / v];
                    let slip = if x.is_finite() { U * x.abs() } else { 0.0 };
                    let (p, off) = (x.exp(), exp_bound(x, slip));
                    // times dsum, and at the target less dsum: one rounding
                    // each
                    let mut bound = c * (off + U * (p + off)) + ETA;
                    if at % v == target[at / v] {
                        bound += U * (want[at].abs() + bound);
                    }
                    worst_back.within(&case, dz[at], want[at], bound);
                }
            }
        }
        worst.done(0.1);
        worst_back.done(0.1);
    }
}

/// σ(z) and its bound: 1 + e and 1/(1 + e) are rounded; of e's relative error
/// 2⁻²² the quotient has e/(1 + e) < 1 times as much. e^88.4 counts as ∞ and
/// its quotient as 0, which is below 2⁻¹²⁶.
fn sigmoid_bound(z: f64) -> [f64; 2] {
    let sigma = 1.0 / (1.0 + (-z).exp());
    let relative = 1.0 / ((1.0 - EXP) * (1.0 - gamma(2))) - 1.0;
    [sigma, relative * sigma + TINY]
}

#[test]
fn glu() {
    for isa in Isa::here() {
        let mut worst = Worst::new(isa, "glu_forward");
        let mut worst_back = Worst::new(isa, "glu_backward");
        for len in lengths() {
            for scale in [1e-20, 0.1, 3.0, 40.0, 1e4] {
                let n = len * rows(len);
                let case = format!("{len} {scale:e}");
                let gate = normals(n, scale, len);
                let (up, dh) =
                    (normals(n, 2.0, len + 1), normals(n, 0.5, len + 2));
                let mut h = vec![f32::NAN; n];
                let (mut dgate, mut dup) = (h.clone(), h.clone());
                isa.run(fast::GluForward { h: &mut h, gate: &gate, up: &up });
                isa.run(fast::GluBackward {
                    dgate: &mut dgate,
                    dup: &mut dup,
                    dh: &dh,
                    gate: &gate,
                    up: &up,
                });
                let [gate, up, dh] = [gate, up, dh].map(|x| wide(&x));
                let mut want = vec![0.0; n];
                let (mut want_gate, mut want_up) = (want.clone(), want.clone());
                glu_forward(&mut want, &gate, &up);
                glu_backward(&mut want_gate, &mut want_up, &dh, &gate, &up);
                for i in 0..n {
                    let (z, u, d) = (gate[i], up[i].abs(), dh[i].abs());
                    let [sigma, off] = sigmoid_bound(z);
                    // s = fl(z·σ̂), and its product with u or dh
                    let s = z.abs() * sigma;
                    let most = z.abs() * (sigma + off);
                    let ds = most * (1.0 + U) - s + ETA;
                    let dsu = most * (1.0 + gamma(2)) - s + ETA;
                    let bound = u * dsu + ETA;
                    worst.within(&case, h[i], want[i], bound);
                    let bound = d * dsu + ETA;
                    worst_back.within(&case, dup[i], want_up[i], bound);
                    // slope = s·a + σ, a = fl(1 − σ̂), the product and the sum
                    // rounded; then dh·u and the product with it.
                    let (a, slope) = (1.0 - sigma, want_gate[i] / (d * u));
                    let da = off + U * (a + off);
                    let off = (s + ds) * (a + da) * (1.0 + gamma(2)) - s * a
                        + (sigma + off) * (1.0 + U)
                        - sigma;
                    let slope = slope.abs();
                    let rel = (slope + off) * (1.0 + gamma(2)) - slope;
                    let bound = d * u * rel + ETA * (2.0 + slope + off);
                    worst_back.within(&case, dgate[i], want_gate[i], bound);
                }
            }
        }
        worst.done(0.1);
        worst_back.done(0.1);
    }
}

#[test]
fn rmsnorm() {
    const EPS: f32 = 1e-5;
    for isa in Isa::here() {
        let mut worst = Worst::new(isa, "rmsnorm_forward");
        let mut worst_back = Worst::new(isa, "rmsnorm_backward");
        for d in lengths() {
            for scale in [0.0, 1e-20, 1e-3, 1.5, 1e4, 1e15] {
                let (n, case) = (rows(d), format!("{d} {scale:e}"));
                let x = normals(n * d, scale, d);
                let gain: Vec<f32> =
                    normals(d, 0.3, d + 1).iter().map(|g| 1.0 + g).collect();
                let (mut y, mut r) = (vec![f32::NAN; n * d], vec![0.0; n]);
                isa.run(fast::RmsnormForward {
                    y: &mut y,
                    r: &mut r,
                    x: &x,
                    gain: &gain,
                    eps: EPS,
                });
                let (x64, gain64) = (wide(&x), wide(&gain));
                let (mut want, mut r64) = (vec![0.0; n * d], vec![0.0; n]);
                rmsnorm_forward(&mut want, &mut r64, &x64, &gain64, EPS.into());
                // ⟨x, x⟩: d + 1 roundings, none negative; then by d, plus ε:
                // d + 3. The root halves it; root and 1/root are rounded.
                let rho = 1.0 / (1.0 - gamma(d + 3)).sqrt();
                let rho = rho / ((1.0 - U) * (1.0 - U)) - 1.0;
                for i in 0..n {
                    // x² below 2⁻¹⁴⁹ is lost beside ε
                    let bound = r64[i] * (rho + ETA / EPS as f64);
                    worst.within(&case, r[i], r64[i], bound);
                }
                for at in 0..n * d {
                    // γ·x and its product with r̂
                    let rel = (1.0 + rho) * (1.0 + gamma(2)) - 1.0;
                    let bound = want[at].abs() * rel + ETA * 400.0;
                    worst.within(&case, y[at], want[at], bound);
                }

                // The gradient, from the r that f32 has.
                let dy = normals(n * d, 0.7, d + 2);
                let dgain = normals(d, 0.1, d + 3);
                let mut dx = vec![f32::NAN; n * d];
                let (mut dg, mut want_dg) = (dgain.clone(), wide(&dgain));
                isa.run(fast::RmsnormBackward {
                    dx: &mut dx,
                    dgain: &mut dg,
                    dy: &dy,
                    x: &x,
                    gain: &gain,
                    r: &r,
                });
                let (dy, r) = (wide(&dy), wide(&r));
                let mut want = vec![0.0; n * d];
                rmsnorm_backward(
                    &mut want,
                    &mut want_dg,
                    &dy,
                    &x64,
                    &gain64,
                    &r,
                );
                for at in 0..n * d {
                    let (i, j) = (at / d, at % d);
                    let term = |k: usize| dy[i * d + k] * gain64[k];
                    let uxs = (0..d).map(|k| term(k) * x64[i * d + k]);
                    let c = r[i] * r[i] / d as f64;
                    let (mean, size) = uxs.fold((0.0, 0.0), |(m, s), t| {
                        (m + t * c, s + t.abs() * c)
                    });
                    // u = dy·γ is rounded and summed with x, d + 2; then by
                    // r, r and d: d + 5. u and x·mean reach dx by three more.
                    let off = gamma(d + 5) * size;
                    let parts = x64[at].abs() * mean.abs() + term(j).abs();
                    let lost = x64[at].abs() * off * (1.0 + gamma(3));
                    let bound = r[i] * (gamma(3) * parts + lost);
                    let bound = bound + ETA * 400.0;
                    worst_back.within(&case, dx[at], want[at], bound);
                }
                for j in 0..d {
                    // dy·x·r: two roundings and n sums
                    let terms = (0..n)
                        .map(|i| (dy[i * d + j] * x64[i * d + j] * r[i]).abs());
                    let size = terms.sum::<f64>() + dgain[j].abs() as f64;
                    let bound = gamma(n + 2) * size + ETA * 400.0;
                    worst_back.within(&case, dg[j], want_dg[j], bound);
                }
            }
        }
        worst.done(0.1);
        worst_back.done(0.1);
    }
}

#[test]
fn combine() {
    for isa in Isa::here() {
        let mut worst = Worst::new(isa, "combine_backward");
        for d in lengths() {
            let (n, k) = (rows(d), d % 3 + 1);
            let m = n * k;
            for scale in [1e-10, 1.0, 1e10] {
                let case = format!("{n} {k} {d} {scale:e}");
                let (dy, o) =
                    (normals(n * d, scale, d), normals(m * d, 1.0, d + 1));
                let w = normals(m, 0.4, d + 2);
                // any permutation
                let slot: Vec<usize> = (0..m).rev().collect();
                let (mut d_o, mut dw) =
                    (vec![f32::NAN; m * d], vec![f32::NAN; m]);
                isa.run(fast::CombineBackward {
                    d_o: &mut d_o,
                    dw: &mut dw,
                    dy: &dy,
                    o: &o,
                    w: &w,
                    slot: &slot,
                });
                let [dy, o, w] = [dy, o, w].map(|x| wide(&x));
                let (mut want_o, mut want_w) = (vec![0.0; m * d], vec![0.0; m]);
                combine_backward(&mut want_o, &mut want_w, &dy, &o, &w, &slot);
                for i in 0..m {
                    let (dy, o) = (&dy[i / k * d..][..d], &o[slot[i] * d..]);
                    let size: f64 =
                        dy.iter().zip(o).map(|(a, b)| (a * b).abs()).sum();
                    let bound = gamma(d + 1) * size;
                    worst.within(&case, dw[i], want_w[i], bound);
                }
                for at in 0..m * d {
                    let bound = U * want_o[at].abs();
                    worst.within(&case, d_o[at], want_o[at], bound);
                }
            }
        }
        worst.done(0.1);
    }
}

#[test]
fn sum_of_squares() {
    for isa in Isa::here() {
        let mut worst = Worst::new(isa, "sum_of_squares");
        for n in lengths().chain([0, 4096]) {
            for scale in [1e-15, 1.0, 1e15] {
                let x = normals(n, scale, n);
                let got = isa.run(fast::SumOfSquares { x: &x });
                let want = dot(&wide(&x), &wide(&x));
                let bound = gamma(n + 1) * want + n as f64 * ETA;
                worst.within(&format!("{n} {scale:e}"), got, want, bound);
            }
        }
        worst.done(0.01);
    }
}

/// NaN, an infinity of its sign, or a number.
fn class(x: f64) -> &'static str {
    match x {
        _ if x.is_nan() => "NaN",
        f64::INFINITY => "∞",
        f64::NEG_INFINITY => "−∞",
        _ => "a number",
    }
}
#[track_caller]
fn same_classes(what: &str, got: &[f32], want: &[f64]) {
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let (got, want) = (class(got.into()), class(want));
        assert_eq!(got, want, "{what} at {i}");
    }
}

#[test]
fn what_is_no_number_comes_through() {
    let strange = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    for isa in Isa::here() {
        for n in (1..=20).chain([33, 67]).filter(|n| !cfg!(miri) || *n < 4) {
            for at in 0..n {
                for odd in strange {
                    no_number(isa, n, at, odd);
                }
            }
            // Nothing but NaN: there is no largest among them. And NaN amid
            // −∞, which is not nothing.
            for rest in [f32::NAN, f32::NEG_INFINITY] {
                let mut z = vec![rest; n];
                z[n / 2] = f32::NAN;
                let lse = isa.run(fast::SoftmaxForward { z: &mut z });
                let all = z.iter().all(|z| z.is_nan());
                assert!(all && lse.is_nan(), "{isa} {n} {rest}: {z:?} {lse}");
            }
        }
    }
}
/// Every kernel with one strange number among n.
fn no_number(isa: Isa, n: usize, at: usize, odd: f32) {
    let what = |kernel| format!("{isa} {kernel} {n}, {odd} at {at}");
    let with = |seed: usize| {
        let mut x = normals(n, 1.0, seed);
        x[at] = odd;
        x
    };
    let z = with(1);
    let (mut p, mut p64) = (z.clone(), wide(&z));
    let lse = isa.run(fast::SoftmaxForward { z: &mut p });
    let want = softmax_forward(&mut p64);
    same_classes(&what("softmax"), &p, &p64);
    same_classes(&what("its lse"), &[lse], &[want]);

    // three queries on n keys, if there are as many
    let t = n.min(3);
    let (mut p, mut p64) = (z.repeat(t), wide(&z.repeat(t)));
    let scale = 0.5;
    isa.run(fast::CausalSoftmaxForward { z: &mut p, keys: n, group: 1, scale });
    causal_softmax_forward(&mut p64, n, 1, scale.into());
    same_classes(&what("causal softmax"), &p, &p64);
    let (p, d) = (normals(n, 0.1, 2), &z);
    let (mut got, mut want) = (d.clone(), wide(d));
    isa.run(fast::CausalSoftmaxBackward { d: &mut got, p: &p, keys: n, scale });
    causal_softmax_backward(&mut want, &wide(&p), n, scale.into());
    same_classes(&what("causal softmax backward"), &got, &want);

    let (mut lse, mut lse64, target) = ([0.0], [0.0], [n / 2]);
    let sum = isa.run(fast::CrossEntropyForward {
        lse: &mut lse,
        z: &z,
        target: &target,
        v: n,
    });
    let want = cross_entropy_forward(&mut lse64, &wide(&z), &target);
    same_classes(&what("cross-entropy"), &[sum, lse[0]], &[want, lse64[0]]);
    if odd.is_nan() {
        assert!(sum.is_nan(), "{}: the loss is {sum}", what("cross-entropy"));
    }
    let (mut dz, mut dz64) = (vec![0.0; n], vec![0.0; n]);
    isa.run(fast::CrossEntropyBackward {
        dz: &mut dz,
        z: &z,
        lse: &lse,
        target: &target,
        dsum: 1.0,
    });
    cross_entropy_backward(&mut dz64, &wide(&z), &lse64, &target, 1.0);
    same_classes(&what("cross-entropy backward"), &dz, &dz64);

    // each of gate, up and dh in turn
    let usual = normals(n, 1.0, 3);
    for turn in 0..3 {
        let of = |i| if i == turn { &z } else { &usual };
        let (gate, up, dh) = (of(0), of(1), of(2));
        let (mut h, mut h64) = (vec![0.0; n], vec![0.0; n]);
        isa.run(fast::GluForward { h: &mut h, gate, up });
        glu_forward(&mut h64, &wide(gate), &wide(up));
        same_classes(&what("glu"), &h, &h64);
        let (mut a, mut b) = (h.clone(), h.clone());
        let (dgate, dup) = (&mut a, &mut b);
        isa.run(fast::GluBackward { dgate, dup, dh, gate, up });
        let (mut a64, mut b64) = (h64.clone(), h64.clone());
        let (gate, up, dh) = (wide(gate), wide(up), wide(dh));
        glu_backward(&mut a64, &mut b64, &dh, &gate, &up);
        same_classes(&what("glu backward, gate"), &a, &a64);
        same_classes(&what("glu backward, up"), &b, &b64);
    }

    let (mut y, mut r, gain, eps) = (vec![0.0; n], [0.0], &usual, 1e-5);
    let (mut y64, mut r64) = (vec![0.0; n], [0.0]);
    isa.run(fast::RmsnormForward { y: &mut y, r: &mut r, x: &z, gain, eps });
    rmsnorm_forward(&mut y64, &mut r64, &wide(&z), &wide(gain), eps.into());
    same_classes(&what("rmsnorm"), &y, &y64);
    let (mut dx, mut dgain) = (vec![0.0; n], vec![0.0; n]);
    let (mut dx64, mut dgain64) = (vec![0.0; n], vec![0.0; n]);
    isa.run(fast::RmsnormBackward {
        dx: &mut dx,
        dgain: &mut dgain,
        dy: &z,
        x: &usual,
        gain,
        r: &[0.5],
    });
    let [dy, x] = [&z, &usual].map(|x| wide(x));
    rmsnorm_backward(&mut dx64, &mut dgain64, &dy, &x, &wide(gain), &[0.5]);
    same_classes(&what("rmsnorm backward"), &dx, &dx64);
    same_classes(&what("rmsnorm backward, gain"), &dgain, &dgain64);

    let (mut d_o, mut dw) = (vec![0.0; n], [0.0]);
    let (mut d_o64, mut dw64) = (vec![0.0; n], [0.0]);
    isa.run(fast::CombineBackward {
        d_o: &mut d_o,
        dw: &mut dw,
        dy: &z,
        o: &usual,
        w: &[0.5],
        slot: &[0],
    });
    combine_backward(&mut d_o64, &mut dw64, &dy, &x, &[0.5], &[0]);
    same_classes(&what("combine backward"), &d_o, &d_o64);
    same_classes(&what("combine backward, weight"), &dw, &dw64);
    let sum = isa.run(fast::SumOfSquares { x: &z });
    same_classes(&what("sum of squares"), &[sum], &[dot(&dy, &dy)]);
}

// The whole model ----------------------------------------------------------

/// Sizes, batch and time; some of the tokens are equal.
fn models() -> Vec<(&'static str, Config, Shape)> {
    let base = Config {
        vocab: 19,
        hidden: 12,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head: 6,
        experts: 5,
        top_k: 2,
        intermediate: 10,
        context: 16,
        rms_eps: 1e-5,
        rope_theta: 1e4,
        aux: 0.01,
        init: 0.2,
    };
    let shape = |batch, time| Shape { batch, time };
    let of = |f: fn(&mut Config)| {
        let mut c = base.clone();
        f(&mut c);
        c
    };
    vec![
        ("usual", base.clone(), shape(2, 7)),
        ("one token", base.clone(), shape(1, 1)),
        ("T = 1", base.clone(), shape(5, 1)),
        ("one expert", of(|c| (c.experts, c.top_k) = (1, 1)), shape(2, 3)),
        ("k = 1", of(|c| c.top_k = 1), shape(2, 5)),
        ("k = E", of(|c| c.top_k = 5), shape(2, 5)),
        ("K = H", of(|c| c.kv_heads = 4), shape(2, 5)),
        ("K = 1", of(|c| c.kv_heads = 1), shape(1, 16)),
        ("an idle expert", of(|c| c.experts = 16), shape(1, 3)),
        (
            "smallest",
            of(|c| {
                (c.vocab, c.hidden, c.layers, c.heads) = (2, 1, 1, 1);
                (c.kv_heads, c.head, c.experts) = (1, 2, 1);
                (c.top_k, c.intermediate, c.context) = (1, 1, 1);
            }),
            shape(1, 1),
        ),
        (
            "wide",
            of(|c| {
                (c.vocab, c.hidden, c.head) = (131, 64, 16);
                (c.intermediate, c.init) = (128, 0.1);
            }),
            shape(2, 16),
        ),
    ]
}
fn tokens(n: usize, v: usize, seed: u64) -> Vec<usize> {
    let mut rng = Rng::new(seed, 9);
    (0..n).map(|_| rng.below(v)).collect()
}
/// Losses, gradient and choices of one batch.
fn gradient<T: Real>(
    m: &Model, p: &Params<T>, s: Shape, b: Batch,
) -> (Losses<T>, Params<T>, Vec<usize>) {
    let coef = Coefficients { ce: 1.0, aux: 0.1, z: 0.01 };
    let mut step = Step::<T>::new(m, s, 1, coef, false);
    let losses = step.accumulate(m, p, b);
    let choices: Vec<usize> = step
        .acts()
        .flat_map(|a| &a.blocks)
        .flat_map(|b| b.moe.router.choice.clone())
        .collect();
    (losses, step.finish(m).clone(), choices)
}

#[test]
fn matmul_takes_the_chosen_set() {
    let isa = Isa::chosen().expect("MOE_SIMD names a set of this CPU");
    let (a, b) = (normals(20 * 30, 1.0, 1), normals(30 * 40, 1.0, 2));
    let [mut c, mut want] = [vec![0.0; 800], vec![0.0; 800]];
    matmul(mat_mut(&mut c, 40), Set, mat(&a, 30), mat(&b, 40));
    matmul_with(isa, mat_mut(&mut want, 40), Set, mat(&a, 30), mat(&b, 40));
    assert_eq!(c, want); // to the bit: the plain form rounds otherwise
}

/// For [`model_in_every_set`], which reads the last line; by itself, on the
/// set that `MOE_SIMD` chooses.
#[test]
fn model_in_the_chosen_set() {
    let isa = Isa::chosen().expect("MOE_SIMD names a set of this CPU");
    let norm = |x: &[f64]| dot(x, x).sqrt();
    let mut worst = (0.0, String::new());
    for (name, config, s) in models() {
        let m = Model::new(config).expect("sizes that fit");
        let (n, v) = (s.rows(), m.config.vocab);
        let (x, y) = (tokens(n, v, 1), tokens(n, v, 2));
        let b = Batch { tokens: &x, targets: &y };
        let mut p: Params<f32> = m.init(3);
        // no gain of exactly 1
        let shake = normals(p.data.len(), 0.02, 4);
        p.data.iter_mut().zip(shake).for_each(|(p, s)| *p += s);
        let p64 = p.like(wide(&p.data));
        let (loss, g, choices) = gradient(&m, &p, s, b);
        let (loss64, g64, choices64) = gradient(&m, &p64, s, b);
        assert_eq!(
            choices, choices64,
            "{name}: margin too small, choose another seed"
        );
        // No theory here: a bound of the worst case grows by the condition
        // number of each layer in turn and says nothing. Measured, over all
        // these models and sets: ‖g − g64‖ ≤ MEASURED·u·scale for each tensor
        // and loss. The scale of a tensor is its norm, or its share of
        // the whole gradient's, where it is a small difference of large terms
        // (the router's, whose row sums vanish). Four times that is asserted.
        let all = norm(&g64.data);
        for e in &m.layout.entries {
            let (a, b) = (wide(&g[e.param]), &g64[e.param]);
            let off: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
            if b.iter().all(|&b| b == 0.0) {
                let none = a.iter().all(|&a| a == 0.0);
                assert!(none, "{name} {}: nothing flows there", e.name);
                continue;
            }
            let share = (b.len() as f64 / g64.data.len() as f64).sqrt();
            let error = norm(&off) / (norm(b) + 0.1 * share * all) / U;
            let what = format!("{name} {}", e.name);
            assert!(error <= 4.0 * MEASURED, "{what} on {isa}: {error:.2} u");
            worst = if error > worst.0 { (error, what) } else { worst };
        }
        let both = [
            ("ce", loss.ce, loss64.ce),
            ("aux", loss.aux, loss64.aux),
            ("z", loss.z, loss64.z),
            ("total", loss.total, loss64.total),
        ];
        for (what, a, b) in both {
            let error = (a as f64 - b).abs() / b.abs().max(1.0) / U;
            let what = format!("{name} {what}");
            assert!(error <= 4.0 * MEASURED, "{what} on {isa}: {error:.2} u");
            worst = if error > worst.0 { (error, what) } else { worst };
        }
        if name == "an idle expert" {
            let idle = (0..16).filter(|e| !choices.contains(e)).count();
            assert!(idle > 0, "{name}: none is idle");
        }

        // A NaN anywhere in what the batch reads reaches the loss.
        for e in &m.layout.entries {
            let expert = e.name.contains(".experts.");
            if expert && g64[e.param].iter().all(|&g| g == 0.0) {
                continue; // nobody reads an idle expert
            }
            let mut p = p.clone();
            p[e.param].fill(f32::NAN);
            let ce = loss_of(&m, &p, s, b);
            assert!(ce.is_nan(), "{name} {} NaN on {isa}: {ce}", e.name);
        }
    }
    let (error, what) = worst;
    println!("\nran on {isa}; the largest error: {error:.2} u in {what}");
}
/// The largest error of a model, in u: of the norms' gains at the bottom of
/// the widest one, on the portable set; 13 on the others.
const MEASURED: f64 = 15.0;
/// The cross-entropy alone.
fn loss_of(m: &Model, p: &Params<f32>, s: Shape, b: Batch) -> f32 {
    let mut a = m.acts::<f32>(s, false);
    m.forward(p, b.tokens, &mut a);
    m.loss(b.targets, &mut a)
}

#[test]
fn model_in_every_set() {
    for isa in Isa::here() {
        let word = isa.to_string();
        let said = again("model_in_the_chosen_set", &word, "ran on ");
        assert!(said.starts_with(&format!("{isa};")), "{isa}: {said}");
        println!("ran on {said}");
    }
}
