//! Chapter: simd. T5: each f32 kernel against its plain twin in f64, on one
//! instruction set, every element within a bound of its own.
//!
//! Each bound is derived where it is computed, from the number of roundings
//! and from the data. Every operation of f32 is exact but for a factor 1 + δ,
//! |δ| ≤ u = 2⁻²⁴, and r factors in a row differ from 1 by γᵣ = r·u/(1 − r·u)
//! at most (Higham 2002, lemma 3.1). A sum of n products in any order puts n
//! roundings on each term with FMA, n + 1 without: |error| ≤ γₙ₊₁·Σ|terms|. A
//! result below 2⁻¹²⁶ is rounded to a multiple of 2⁻¹⁴⁹ besides.
//!
//! `tests/precision.rs` and `tests/simd.rs` call these on every set, at many
//! sizes and scales; `moe check` on the set that is used, at one. Products
//! have sharper bounds, and guards, in `tests/simd.rs`.

use crate::gradcheck::{Measure, Report, Rung, nan_max};
use crate::kernel::activation::{glu_backward, glu_forward};
use crate::kernel::fast;
use crate::kernel::matrix::{Mat, Set, mat, mat_mut, matmul};
use crate::kernel::normal::fill_normal_with;
use crate::kernel::product::matmul_with;
use crate::kernel::simd::Isa;
use crate::kernel::softmax as soft;
use crate::kernel::vector::dot;
use crate::nn::{loss, moe, rmsnorm as norm};
use crate::rng::Rng;
use std::cmp::Ordering;

/// The unit roundoff of f32.
pub const U: f64 = 1.0 / (1u64 << 24) as f64;
/// What `fast::exp` promises: relative error from −87 to 88, …
pub const EXP: f64 = 1.0 / (1u64 << 22) as f64;
/// … and absolute error below: 2⁻¹²⁶, the smallest normal number.
pub const TINY: f64 = f32::MIN_POSITIVE as f64;
/// The smallest number of all, 2⁻¹⁴⁹.
pub const ETA: f64 = TINY * f32::EPSILON as f64;

/// γᵣ: how far r factors 1 + δ in a row are from 1.
pub fn gamma(r: usize) -> f64 {
    let r = r as f64 * U;
    r / (1.0 - r)
}
/// The same numbers as f64.
pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x.into()).collect()
}
/// Normal numbers in f32 with standard deviation `scale`.
pub fn normals(n: usize, scale: f64, seed: usize) -> Vec<f32> {
    let mut x = vec![0.0; n];
    Rng::new(seed as u64, 5).fill_normal(&mut x, scale);
    x
}

/// What a kernel computed in f32, its twin in f64, and how far apart they may
/// be, element by element.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Of which output, on which set.
    pub what: String,
    /// In f32.
    pub got: Vec<f32>,
    /// In f64, from the same numbers.
    pub want: Vec<f64>,
    /// Of |got − want|. The reference has rounding errors as well, 2⁻²⁹ times
    /// as large: a thousandth is allowed for them.
    pub bound: Vec<f64>,
}
impl Pair {
    fn new(
        isa: Isa, what: &str, got: Vec<f32>, want: Vec<f64>,
        bound: impl FnMut(usize) -> f64,
    ) -> Self {
        assert_eq!(got.len(), want.len(), "{what}: f32 against f64");
        let each = (0..got.len()).map(bound);
        let bound = each.map(|bound| 1.001 * bound).collect();
        Self { what: format!("{what} on {isa}"), got, want, bound }
    }
    /// |got − want|, element by element; 0 where both are the same infinity.
    fn errors(&self) -> impl Iterator<Item = f64> {
        self.got.iter().zip(&self.want).map(|(&got, &want)| {
            let got = f64::from(got);
            if got == want { 0.0 } else { (got - want).abs() }
        })
    }
    /// The largest share of its bound that an error takes up.
    pub fn share(&self) -> f64 {
        let shares = self.errors().zip(&self.bound);
        let shares = shares.filter(|(e, _)| *e != 0.0).map(|(e, b)| e / b);
        shares.fold(0.0, nan_max)
    }
    /// The largest error and its bound, both relative to the largest of the
    /// results; where a bound is broken, of those errors alone that do.
    pub fn measure(&self) -> Measure {
        // An error or a bound that is NaN is broken, too.
        let broken = |i: usize, e: f64| {
            e.partial_cmp(&self.bound[i]).is_none_or(Ordering::is_gt)
        };
        let any = self.errors().enumerate().any(|(i, e)| broken(i, e));
        let errors = self.errors().enumerate();
        let errors = errors.filter(|&(i, e)| !any || broken(i, e));
        let (at, error) = errors
            .reduce(|m, e| if e.1 > m.1 || e.1.is_nan() { e } else { m })
            .expect("a kernel has a result");
        let sizes = self.want.iter().map(|w| w.abs());
        let size = sizes.filter(|w| w.is_finite()).fold(0.0, f64::max);
        let size = if size > 0.0 { size } else { 1.0 };
        let (got, want) = (self.got[at], self.want[at]);
        let detail = format!("worst at [{at}]: f32 {got:e}, f64 {want:e}");
        let (error, bound) = (error / size, self.bound[at] / size);
        Measure {
            rung: Rung::T5,
            what: self.what.clone(),
            error,
            bound,
            detail,
        }
    }
}

/// C = A·B, A: [m, k], B: [k, n]: k roundings on a term with FMA, k + 1
/// without.
pub fn product(isa: Isa, a: &[f32], b: &[f32], [m, k, n]: [usize; 3]) -> Pair {
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

/// n normal numbers of standard deviation σ: within 2⁻¹⁷·σ, as derived at
/// [`fill_normal_with`].
pub fn normal(isa: Isa, n: usize, sigma: f64, rng: &Rng) -> Pair {
    let (mut got, mut want) = (vec![f32::NAN; n], vec![0.0; n]);
    fill_normal_with(isa, &mut got, rng, sigma);
    rng.clone().fill_normal(&mut want, sigma);
    let bound = 2f64.powi(-17) * sigma;
    Pair::new(isa, "normal numbers", got, want, |_| bound)
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

/// The bounds of softmax of one row of scores c·z; its log-sum-exp, and the
/// bound of that.
struct Row {
    p: Vec<f64>,
    lse: [f64; 2],
}
fn softmax_bounds(z: &[f32], c: f32) -> Row {
    let c = c as f64;
    let m = z.iter().fold(f32::NEG_INFINITY, |m, &z| m.max(z)) as f64;
    if m == f64::NEG_INFINITY {
        return Row { p: vec![0.0; z.len()], lse: [m, 0.0] };
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
        most.max(least) + ETA
    });
    // ℓ = fl(fl(c·m) + ln ŝ): the sum's error, relative; ln to one unit in the
    // last place, 2u; the product and the sum.
    let (relative, ln) = (-(1.0 - off / sum).ln(), sum.ln());
    let parts = U * (c * m).abs() + relative + 2.0 * U * (ln + relative);
    let lse = c * m + ln;
    let off = parts + U * (lse.abs() + parts);
    Row { p: p.collect(), lse: [lse, off] }
}

/// Softmax of one row and its log-sum-exp.
pub fn softmax(isa: Isa, z: &[f32]) -> [Pair; 2] {
    let (row, mut p) = (softmax_bounds(z, 1.0), z.to_vec());
    let mut want = wide(z);
    let want_lse = soft::softmax_forward(&mut want);
    let lse = isa.run(fast::SoftmaxForward { z: &mut p });
    [
        Pair::new(isa, "softmax", p, want, |i| row.p[i]),
        Pair::new(isa, "lse", vec![lse], vec![want_lse], |_| row.lse[1]),
    ]
}

/// Causal softmax of z: [t·g, s], s = `keys`, g = `group`. The future is 0,
/// exactly.
pub fn causal_softmax(
    isa: Isa, z: &[f32], keys: usize, group: usize, scale: f32,
) -> Pair {
    let (mut p, mut want) = (z.to_vec(), wide(z));
    let kernel = fast::CausalSoftmaxForward { z: &mut p, keys, group, scale };
    isa.run(kernel);
    soft::causal_softmax_forward(&mut want, keys, group, scale.into());
    let earlier = keys - z.len() / keys / group;
    let mut bound = vec![];
    for (r, z) in z.chunks(keys).enumerate() {
        let seen = earlier + r / group + 1;
        bound.extend(softmax_bounds(&z[..seen], scale).p);
        bound.resize((r + 1) * keys, 0.0);
    }
    Pair::new(isa, "causal softmax", p, want, |i| bound[i])
}

/// Causal softmax, backward, from P: [n, s].
pub fn causal_softmax_gradient(
    isa: Isa, d: &[f32], p: &[f32], keys: usize, scale: f32,
) -> Pair {
    let (mut got, mut want) = (d.to_vec(), wide(d));
    let kernel = fast::CausalSoftmaxBackward { d: &mut got, p, keys, scale };
    isa.run(kernel);
    let (d, p) = (wide(d), wide(p));
    soft::causal_softmax_backward(&mut want, &p, keys, scale.into());
    Pair::new(isa, "causal softmax, backward", got, want, |at| {
        let row = at / keys * keys..(at / keys + 1) * keys;
        let terms = d[row.clone()].iter().zip(&p[row]);
        let (mean, size) = terms.fold((0.0, 0.0), |(mean, size), (d, p)| {
            (mean + d * p, size + (d * p).abs())
        });
        // d·p summed: n + 1 roundings a term. Then d − ⟨d, p⟩, p·c and their
        // product: one rounding each.
        let off = gamma(keys + 1) * size + keys as f64 * ETA;
        let gap = (d[at] - mean).abs();
        let c = p[at] * scale as f64;
        let bound = c * ((gap + off) * (1.0 + gamma(3)) - gap);
        bound + ETA * (1.0 + gap + off)
    })
}

/// The log-sum-exp of each row z: [n, v], and the cross-entropy summed.
pub fn cross_entropy(isa: Isa, z: &[f32], target: &[usize]) -> [Pair; 2] {
    let n = target.len();
    let v = z.len() / n;
    let (mut lse, mut lse64) = (vec![0.0; n], vec![0.0; n]);
    let kernel = fast::CrossEntropyForward { lse: &mut lse, z, target, v };
    let (ce, z64) = (isa.run(kernel), wide(z));
    let want = loss::cross_entropy_forward(&mut lse64, &z64, target);
    // Each ℓ by its own bound; ℓ − z is rounded, and so are the n sums.
    let (mut off, mut size, mut bounds) = (0.0, 0.0, vec![]);
    for (i, z) in z.chunks(v).enumerate() {
        let [lse, bound] = softmax_bounds(z, 1.0).lse;
        bounds.push(bound);
        let term = (lse - f64::from(z[target[i]])).abs();
        let each = bound + U * (term + bound);
        (off, size) = (off + each, size + term + each);
    }
    [
        Pair::new(isa, "lse", lse, lse64, |i| bounds[i]),
        Pair::new(isa, "cross-entropy", vec![ce], vec![want], |_| {
            off + gamma(n) * size
        }),
    ]
}

/// Cross-entropy, backward, from the log-sum-exp of each row in f32.
pub fn cross_entropy_gradient(
    isa: Isa, z: &[f32], lse: &[f32], target: &[usize], dsum: f32,
) -> Pair {
    let v = z.len() / target.len();
    let (mut got, mut want) = (vec![f32::NAN; z.len()], vec![0.0; z.len()]);
    let dz = &mut got;
    isa.run(fast::CrossEntropyBackward { dz, z, lse, target, dsum });
    let (z, lse, c) = (wide(z), wide(lse), f64::from(dsum));
    loss::cross_entropy_backward(&mut want, &z, &lse, target, c);
    let size = want.clone();
    Pair::new(isa, "cross-entropy, backward", got, want, |at| {
        let x = z[at] - lse[at / v];
        let slip = if x.is_finite() { U * x.abs() } else { 0.0 };
        let (p, off) = (x.exp(), exp_bound(x, slip));
        // times dsum, and at the target less dsum: one rounding each
        let bound = c * (off + U * (p + off)) + ETA;
        let target = at % v == target[at / v];
        bound + if target { U * (size[at].abs() + bound) } else { 0.0 }
    })
}

/// σ(z) and its bound: 1 + e and 1/(1 + e) are rounded; of e's relative error
/// 2⁻²² the quotient has e/(1 + e) < 1 times as much. e^88.4 counts as ∞ and
/// its quotient as 0, which is below 2⁻¹²⁶.
fn sigmoid_bound(z: f64) -> [f64; 2] {
    let sigma = 1.0 / (1.0 + (-z).exp());
    let relative = 1.0 / ((1.0 - EXP) * (1.0 - gamma(2))) - 1.0;
    [sigma, relative * sigma + TINY]
}
/// |z·σ(z)| and a bound of the error of its product with one number more,
/// for a factor 1 of that.
fn silu_bound(z: f64) -> [f64; 2] {
    let [sigma, off] = sigmoid_bound(z);
    let s = z.abs() * sigma;
    [s, z.abs() * (sigma + off) * (1.0 + gamma(2)) - s + ETA]
}

/// silu(gate)·up.
pub fn glu(isa: Isa, gate: &[f32], up: &[f32]) -> Pair {
    let (mut h, mut want) = (vec![f32::NAN; up.len()], vec![0.0; up.len()]);
    isa.run(fast::GluForward { h: &mut h, gate, up });
    let (gate, up) = (wide(gate), wide(up));
    glu_forward(&mut want, &gate, &up);
    Pair::new(isa, "glu", h, want, |i| {
        up[i].abs() * silu_bound(gate[i])[1] + ETA
    })
}

/// silu(gate)·up, backward: by gate, by up.
pub fn glu_gradient(
    isa: Isa, dh: &[f32], gate: &[f32], up: &[f32],
) -> [Pair; 2] {
    let (mut dgate, mut dup) = (vec![f32::NAN; up.len()], vec![0.0; up.len()]);
    let (to, too) = (&mut dgate, &mut dup);
    isa.run(fast::GluBackward { dgate: to, dup: too, dh, gate, up });
    let [gate, up, dh] = [gate, up, dh].map(wide);
    let mut want = vec![0.0; up.len()];
    let mut want_up = want.clone();
    glu_backward(&mut want, &mut want_up, &dh, &gate, &up);
    let of_gate = |i: usize| {
        let du = (dh[i] * up[i]).abs();
        let [sigma, off] = sigmoid_bound(gate[i]);
        let s = gate[i].abs() * sigma;
        let ds = gate[i].abs() * (sigma + off) * (1.0 + U) - s + ETA;
        // slope = s·a + σ, a = fl(1 − σ̂), the product and the sum rounded;
        // then dh·u and the product with it.
        let (a, z) = (1.0 - sigma, gate[i]);
        let slope = (sigma + z * sigma * a).abs();
        let da = off + U * (a + off);
        let off = (s + ds) * (a + da) * (1.0 + gamma(2)) - s * a
            + (sigma + off) * (1.0 + U)
            - sigma;
        let rel = (slope + off) * (1.0 + gamma(2)) - slope;
        du * rel + ETA * (2.0 + slope + off)
    };
    let of_up = |i: usize| dh[i].abs() * silu_bound(gate[i])[1] + ETA;
    [
        Pair::new(isa, "glu, backward, gate", dgate, want, of_gate),
        Pair::new(isa, "glu, backward, up", dup, want_up, of_up),
    ]
}

/// What the model adds to the mean square. So r ≤ 1/√ε < 317, and what is lost
/// below 2⁻¹²⁶ comes to 400·2⁻¹⁴⁹ at most.
const EPS: f32 = 1e-5;
const LOST: f64 = 400.0 * ETA;

/// r of each row x: [n, d], and y = γ·x·r.
pub fn rmsnorm(isa: Isa, x: &[f32], gain: &[f32]) -> [Pair; 2] {
    let (d, eps) = (gain.len(), EPS);
    let (mut y, mut r) = (vec![f32::NAN; x.len()], vec![0.0; x.len() / d]);
    let (mut want, mut r64) = (vec![0.0; x.len()], vec![0.0; r.len()]);
    let (to, too) = (&mut y, &mut r);
    isa.run(fast::RmsnormForward { y: to, r: too, x, gain, eps });
    let eps = f64::from(eps);
    norm::rmsnorm_forward(&mut want, &mut r64, &wide(x), &wide(gain), eps);
    // ⟨x, x⟩: d + 1 roundings, none negative; then by d, plus ε: d + 3. The
    // root halves it; root and 1/root are rounded.
    let rho = 1.0 / (1.0 - gamma(d + 3)).sqrt();
    let rho = rho / ((1.0 - U) * (1.0 - U)) - 1.0;
    // x² below 2⁻¹⁴⁹ is lost beside ε
    let of_r: Vec<f64> = r64.iter().map(|r| r * (rho + ETA / eps)).collect();
    // γ·x and its product with r̂
    let rel = (1.0 + rho) * (1.0 + gamma(2)) - 1.0;
    let of_y: Vec<f64> = want.iter().map(|y| y.abs() * rel + LOST).collect();
    [
        Pair::new(isa, "rmsnorm, r", r, r64, |i| of_r[i]),
        Pair::new(isa, "rmsnorm", y, want, |i| of_y[i]),
    ]
}

/// RMSNorm, backward, from the r of each row in f32: by x, and by the gain,
/// where it is added to `dgain`.
pub fn rmsnorm_gradient(
    isa: Isa, dy: &[f32], x: &[f32], gain: &[f32], r: &[f32], dgain: &[f32],
) -> [Pair; 2] {
    let (n, d) = (r.len(), gain.len());
    let (mut dx, mut dg) = (vec![f32::NAN; n * d], dgain.to_vec());
    let (to, too) = (&mut dx, &mut dg);
    isa.run(fast::RmsnormBackward { dx: to, dgain: too, dy, x, gain, r });
    let (mut want, mut want_dg) = (vec![0.0; n * d], wide(dgain));
    let [dy, x, gain, r, dgain] = [dy, x, gain, r, dgain].map(wide);
    norm::rmsnorm_backward(&mut want, &mut want_dg, &dy, &x, &gain, &r);
    let of_x = |at: usize| {
        let (i, j) = (at / d, at % d);
        let term = |k: usize| dy[i * d + k] * gain[k];
        let c = r[i] * r[i] / d as f64;
        let uxs = (0..d).map(|k| term(k) * x[i * d + k] * c);
        let (mean, size) =
            uxs.fold((0.0, 0.0), |(m, s), t| (m + t, s + t.abs()));
        // u = dy·γ is rounded and summed with x, d + 2; then by r, r and d:
        // d + 5. u and x·mean reach dx by three more.
        let off = gamma(d + 5) * size;
        let parts = x[at].abs() * mean.abs() + term(j).abs();
        let lost = x[at].abs() * off * (1.0 + gamma(3));
        r[i] * (gamma(3) * parts + lost) + LOST
    };
    let of_gain = |j: usize| {
        // dy·x·r: two roundings and n sums
        let terms = (0..n).map(|i| (dy[i * d + j] * x[i * d + j] * r[i]).abs());
        let size = terms.sum::<f64>() + dgain[j].abs();
        gamma(n + 2) * size + n as f64 * LOST
    };
    [
        Pair::new(isa, "rmsnorm, backward", dx, want, of_x),
        Pair::new(isa, "rmsnorm, backward, gain", dg, want_dg, of_gain),
    ]
}

/// The experts' weighted sum, backward: by their outputs o, by the weights.
pub fn combine_gradient(
    isa: Isa, dy: &[f32], o: &[f32], w: &[f32], slot: &[usize],
) -> [Pair; 2] {
    let (m, d) = (w.len(), o.len() / w.len());
    let k = o.len() / dy.len();
    let (mut d_o, mut dw) = (vec![f32::NAN; m * d], vec![f32::NAN; m]);
    let (to, too) = (&mut d_o, &mut dw);
    isa.run(fast::CombineBackward { d_o: to, dw: too, dy, o, w, slot });
    let (mut want_o, mut want_w) = (vec![0.0; m * d], vec![0.0; m]);
    let [dy, o, w] = [dy, o, w].map(wide);
    moe::combine_backward(&mut want_o, &mut want_w, &dy, &o, &w, slot);
    let size = want_o.clone();
    let of_w = |i: usize| {
        let [dy, o] = [&dy[i / k * d..][..d], &o[slot[i] * d..][..d]]
            .map(|x| x.iter().map(|x| x.abs()).collect::<Vec<_>>());
        gamma(d + 1) * dot(&dy, &o) + d as f64 * ETA
    };
    [
        Pair::new(isa, "combine, backward, o", d_o, want_o, |at| {
            U * size[at].abs() + ETA
        }),
        Pair::new(isa, "combine, backward, w", dw, want_w, of_w),
    ]
}

/// ⟨x, x⟩.
pub fn sum_of_squares(isa: Isa, x: &[f32]) -> Pair {
    let (got, x) = (isa.run(fast::SumOfSquares { x }), wide(x));
    let (want, n) = (dot(&x, &x), x.len());
    let bound = gamma(n + 1) * want + n as f64 * ETA;
    Pair::new(isa, "sum of squares", vec![got], vec![want], |_| bound)
}

// What `moe check` measures ------------------------------------------------

/// Rows and their length: several times four vectors of the widest set, some
/// vectors more, and a part of one.
const ROWS: usize = 3;
const LENGTH: usize = 165;

fn report(pairs: impl IntoIterator<Item = Pair>) -> Report {
    let measures = pairs.into_iter().map(|p| p.measure()).collect();
    Report { measures, choices: vec![] }
}
fn random(seed: usize) -> Vec<f32> {
    normals(ROWS * LENGTH, 1.5, seed)
}
fn gain() -> Vec<f32> {
    normals(LENGTH, 0.3, 9).iter().map(|g| 1.0 + g).collect()
}
const TARGETS: [usize; ROWS] = [0, 77, 164];
const SCALE: f32 = 0.353_553_4; // 1/√8

pub(super) fn of_matmul() -> Report {
    let [m, k, n] = [13, 70, 67];
    let (a, b) = (normals(m * k, 1.0, 1), normals(k * n, 1.0, 2));
    report([product(Isa::current(), &a, &b, [m, k, n])])
}
pub(super) fn of_normals() -> Report {
    report([normal(Isa::current(), 1000, 1.0, &Rng::new(7, 1))])
}
pub(super) fn of_softmax() -> Report {
    report(softmax(Isa::current(), &random(1)))
}
pub(super) fn of_causal_softmax() -> Report {
    report([causal_softmax(Isa::current(), &random(1), LENGTH, 1, SCALE)])
}
pub(super) fn of_causal_softmax_gradient() -> Report {
    let (isa, mut p) = (Isa::current(), random(1));
    let z = &mut p;
    let kernel =
        fast::CausalSoftmaxForward { z, keys: LENGTH, group: 1, scale: SCALE };
    isa.run(kernel);
    report([causal_softmax_gradient(isa, &random(2), &p, LENGTH, SCALE)])
}
pub(super) fn of_cross_entropy() -> Report {
    report(cross_entropy(Isa::current(), &random(1), &TARGETS))
}
pub(super) fn of_cross_entropy_gradient() -> Report {
    let (isa, z) = (Isa::current(), random(1));
    let [lse, _] = cross_entropy(isa, &z, &TARGETS);
    report([cross_entropy_gradient(isa, &z, &lse.got, &TARGETS, 0.7)])
}
pub(super) fn of_glu() -> Report {
    report([glu(Isa::current(), &random(1), &random(2))])
}
pub(super) fn of_glu_gradient() -> Report {
    report(glu_gradient(Isa::current(), &random(3), &random(1), &random(2)))
}
pub(super) fn of_rmsnorm() -> Report {
    report(rmsnorm(Isa::current(), &random(1), &gain()))
}
/// By x and by the gain.
pub(super) fn of_rmsnorm_gradient() -> [Report; 2] {
    let (isa, x, gain) = (Isa::current(), random(1), gain());
    let [r, _] = rmsnorm(isa, &x, &gain);
    let dgain = normals(LENGTH, 0.1, 4);
    rmsnorm_gradient(isa, &random(2), &x, &gain, &r.got, &dgain)
        .map(|pair| report([pair]))
}
/// By the experts' outputs and by their weights.
pub(super) fn of_combine_gradient() -> [Report; 2] {
    let slot: Vec<usize> = (0..2 * ROWS).rev().collect();
    let (o, w) =
        (normals(2 * ROWS * LENGTH, 1.0, 3), normals(2 * ROWS, 0.4, 4));
    combine_gradient(Isa::current(), &random(2), &o, &w, &slot)
        .map(|pair| report([pair]))
}
