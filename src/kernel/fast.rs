//! Chapter: simd. The f32 twins of kernels that a compiler does not vectorize
//! by itself, because they sum or because they call `exp`.
//!
//! Each computes what the plain kernel of the same name computes, whole rows
//! at a time, so that the instruction set is entered once for many rows.
//! Sums run in lanes: another order than the plain form's, hence other last
//! bits. `tests/precision.rs` holds each to its plain twin.

#![expect(missing_docs, reason = "fields are named as in the plain kernel")]

use crate::kernel::simd::{Kernel, Simd};
use std::f32::consts::LOG2_E;

/// eˣ, lane by lane, with a relative error below 2⁻²² from −87 to 88; NaN of
/// NaN. Below, it has an error below 2⁻¹²⁶, and from −88 on, −∞ included, it
/// is 0; above, it is as near or ∞, and ∞ from 89 on.
/// Test: `exp_over_its_whole_domain` (`tests/precision.rs`).
///
/// With n = round(x·log₂e) and r = x − n·ln 2: eˣ = 2ⁿ·eʳ, |r| ≤ ln 2/2, and
/// eʳ is a polynomial of degree 7. ln 2 is taken off in two parts, of which
/// the first has so few bits that n times it is exact. The smallest n, −127,
/// gives 0 and no subnormal number: to make one takes the CPU as long as all
/// the rest, and of masked scores there are many.
/// Source: Moshier 1989 (Cephes, expf).
#[inline(always)]
fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    const LN2_HIGH: f32 = 0.693_359_4; // 355/512
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // 1.5·2²³ + 127: adding it rounds to a whole, as `pow2` wants it.
    const MAGIC: f32 = 12_583_039.0;
    const C: [f32; 6] = [
        1.987_569_2e-4,
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_6e-1,
        0.5,
    ];
    let k = |x| s.splat(x);
    // In this order a NaN comes through.
    let x = s.min(k(89.0), s.max(k(-88.0), x));
    let t = s.fma(x, k(LOG2_E), k(MAGIC));
    let n = s.sub(t, k(MAGIC));
    let r = s.fma(n, k(-LN2_HIGH), x);
    let r = s.fma(n, k(-LN2_LOW), r);
    let mut p = k(C[0]);
    for c in &C[1..] {
        p = s.fma(p, r, k(*c));
    }
    let p = s.fma(p, s.mul(r, r), s.add(r, k(1.0)));
    s.mul(p, s.pow2(t))
}

// Loops over vectors are macros and no functions of closures: a closure that
// is not inlined is compiled without the instruction set, and then each of its
// instructions is a call.

/// Goes through n numbers: `full` at the place i of each whole vector, `part`
/// at that of a shorter last one. The accumulator takes turns with four, so
/// that none waits for the one before; all indices into them are constants,
/// without which they would lie in memory.
macro_rules! in_turn {
    ($acc:ident, $n:expr, |$i:ident, $a:ident| $full:expr, $part:expr) => {{
        let (n, mut $i) = ($n, 0);
        while $i + 4 * S::W <= n {
            for $a in &mut $acc {
                $full;
                $i += S::W;
            }
        }
        for $a in &mut $acc[..3] {
            if $i + S::W <= n {
                $full;
                $i += S::W;
            }
        }
        if $i < n {
            let $a = &mut $acc[3];
            $part;
        }
    }};
}
/// Folds the vectors of the slices that are named, from left to right; lanes
/// past the end are `or`.
macro_rules! fold {
    ($s:ident, or $or:expr, from $start:expr,
     |$a:ident, $x0:ident $(, $x:ident)*| $e:expr) => {{
        let (x0, mut acc): (&[f32], _) = ($x0, [$s.splat($start); 4]);
        $(assert_eq!(x0.len(), $x.len(), "fold: lengths");)*
        in_turn!(acc, x0.len(), |i, a| {
            let ($a, $x0) = (*a, $s.load(&x0[i..]));
            $(let $x = $s.load(&$x[i..]);)*
            *a = $e;
        }, {
            let ($a, $x0) = (*a, $s.load_or(&x0[i..], $or));
            $(let $x = $s.load_or(&$x[i..], $or);)*
            *a = $e;
        });
        acc
    }};
}
/// Sets y, vector by vector, from those of the slices that are named.
macro_rules! set {
    ($s:ident, $y:expr, |$($x:ident),+| $e:expr) => {{
        let y: &mut [f32] = $y;
        let n = y.len() / S::W * S::W;
        for i in (0..n).step_by(S::W) {
            $(let $x = $s.load(&$x[i..]);)+
            $s.store(&mut y[i..], $e);
        }
        if n < y.len() {
            $(let $x = $s.load_part(&$x[n..]);)+
            $s.store_part(&mut y[n..], $e);
        }
    }};
}
/// Replaces the vectors v of y, given those of the slices that are named.
macro_rules! update {
    ($s:ident, $y:expr, |$v:ident $(, $x:ident)*| $e:expr) => {{
        let y: &mut [f32] = $y;
        let n = y.len() / S::W * S::W;
        for i in (0..n).step_by(S::W) {
            let $v = $s.load(&y[i..]);
            $(let $x = $s.load(&$x[i..]);)*
            $s.store(&mut y[i..], $e);
        }
        if n < y.len() {
            let $v = $s.load_part(&y[n..]);
            $(let $x = $s.load_part(&$x[n..]);)*
            $s.store_part(&mut y[n..], $e);
        }
    }};
}

/// The sum of four accumulators.
#[inline(always)]
fn total<S: Simd>(s: S, a: [S::V; 4]) -> f32 {
    s.reduce_sum(s.add(s.add(a[0], a[1]), s.add(a[2], a[3])))
}
/// The largest number of x, −∞ if there is none: a NaN is passed over.
#[inline(always)]
fn max<S: Simd>(s: S, x: &[f32]) -> f32 {
    let low = f32::NEG_INFINITY;
    let a = fold!(s, or low, from low, |a, x| s.max(x, a));
    s.reduce_max(s.max(s.max(a[0], a[1]), s.max(a[2], a[3])))
}
#[inline(always)]
fn dot<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    total(s, fold!(s, or 0.0, from 0.0, |sum, a, b| s.fma(a, b, sum)))
}

/// Replaces z by exp(c·(z − m)), c > 0, and returns the sum.
#[inline(always)]
fn exp_sum<S: Simd>(s: S, z: &mut [f32], m: f32, c: f32) -> f32 {
    let (m, c, mut acc) = (s.splat(m), s.splat(c), [s.splat(0.0); 4]);
    in_turn!(
        acc,
        z.len(),
        |i, sum| {
            let v = exp(s, s.mul(s.sub(s.load(&z[i..]), m), c));
            s.store(&mut z[i..], v);
            *sum = s.add(*sum, v);
        },
        {
            // The missing lanes are e^−∞ = 0.
            let v = s.sub(s.load_or(&z[i..], f32::NEG_INFINITY), m);
            let v = exp(s, s.mul(v, c));
            s.store_part(&mut z[i..], v);
            *sum = s.add(*sum, v);
        }
    );
    total(s, acc)
}
/// Whether all of z is −∞, given its [`max`], which overlooks a NaN.
#[inline(always)]
fn nothing(z: &[f32], m: f32) -> bool {
    m == f32::NEG_INFINITY && !z.iter().any(|z| z.is_nan())
}
/// Replaces z by softmax(c·z), c > 0; returns its log-sum-exp.
#[inline(always)]
fn softmax<S: Simd>(s: S, z: &mut [f32], c: f32) -> f32 {
    let m = max(s, z);
    if nothing(z, m) {
        z.fill(0.0);
        return m;
    }
    let sum = exp_sum(s, z, m, c);
    let r = s.splat(1.0 / sum);
    update!(s, z, |z| s.mul(z, r));
    c * m + sum.ln()
}
/// ℓ of one row, which stays as it is.
#[inline(always)]
fn lse<S: Simd>(s: S, z: &[f32]) -> f32 {
    let (m, low) = (max(s, z), f32::NEG_INFINITY);
    if nothing(z, m) {
        return m;
    }
    let top = s.splat(m);
    let sums = fold!(s, or low, from 0.0, |a, z| {
        s.add(a, exp(s, s.sub(z, top)))
    });
    m + total(s, sums).ln()
}
/// σ(z) and z·σ(z).
#[inline(always)]
fn sigmoid<S: Simd>(s: S, z: S::V) -> (S::V, S::V) {
    let e = exp(s, s.sub(s.splat(0.0), z));
    let sigma = s.div(s.splat(1.0), s.add(s.splat(1.0), e));
    (sigma, s.mul(z, sigma))
}

/// [`softmax_forward`](super::softmax::softmax_forward) of one row.
#[derive(Debug)]
pub struct SoftmaxForward<'a> {
    pub z: &'a mut [f32],
}
impl Kernel for SoftmaxForward<'_> {
    type Out = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let Self { z } = self;
        softmax(s, z, 1.0) // eq: softmax-forward
    }
}

/// [`causal_softmax_forward`](super::softmax::causal_softmax_forward).
#[derive(Debug)]
pub struct CausalSoftmaxForward<'a> {
    pub z: &'a mut [f32],
    pub keys: usize,
    pub group: usize,
    pub scale: f32,
}
impl Kernel for CausalSoftmaxForward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { z, keys, group, scale } = self;
        let earlier = keys - z.len() / keys / group;
        for (row, z) in z.chunks_exact_mut(keys).enumerate() {
            let (past, future) = z.split_at_mut(earlier + row / group + 1);
            softmax(s, past, scale);
            future.fill(0.0); // eq: causal-mask
        }
    }
}

/// [`causal_softmax_backward`](super::softmax::causal_softmax_backward).
#[derive(Debug)]
pub struct CausalSoftmaxBackward<'a> {
    pub d: &'a mut [f32],
    pub p: &'a [f32],
    pub keys: usize,
    pub scale: f32,
}
impl Kernel for CausalSoftmaxBackward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { d, p, keys, scale } = self;
        for (d, p) in d.chunks_exact_mut(keys).zip(p.chunks_exact(keys)) {
            let (mean, c) = (s.splat(dot(s, d, p)), s.splat(scale));
            // eq: causal-softmax-backward
            update!(s, d, |d, p| s.mul(s.mul(p, c), s.sub(d, mean)));
        }
    }
}

/// [`cross_entropy_forward`](crate::nn::loss::cross_entropy_forward).
#[derive(Debug)]
pub struct CrossEntropyForward<'a> {
    pub lse: &'a mut [f32],
    pub z: &'a [f32],
    pub target: &'a [usize],
    pub v: usize,
}
impl Kernel for CrossEntropyForward<'_> {
    type Out = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let Self { lse: to, z, target, v } = self;
        let mut sum = 0.0;
        for ((l, z), &t) in to.iter_mut().zip(z.chunks_exact(v)).zip(target) {
            *l = lse(s, z);
            sum += *l - z[t]; // eq: cross-entropy
        }
        sum
    }
}

/// [`cross_entropy_backward`](crate::nn::loss::cross_entropy_backward).
#[derive(Debug)]
pub struct CrossEntropyBackward<'a> {
    pub dz: &'a mut [f32],
    pub z: &'a [f32],
    pub lse: &'a [f32],
    pub target: &'a [usize],
    pub dsum: f32,
}
impl Kernel for CrossEntropyBackward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { dz, z, lse, target, dsum } = self;
        let v = dz.len() / target.len();
        let rows = dz.chunks_exact_mut(v).zip(z.chunks_exact(v));
        for (((dz, z), &lse), &t) in rows.zip(lse).zip(target) {
            let (lse, c) = (s.splat(lse), s.splat(dsum));
            set!(s, dz, |z| s.mul(exp(s, s.sub(z, lse)), c));
            dz[t] -= dsum; // eq: cross-entropy-grad
        }
    }
}

/// [`glu_forward`](super::activation::glu_forward).
#[derive(Debug)]
pub struct GluForward<'a> {
    pub h: &'a mut [f32],
    pub gate: &'a [f32],
    pub up: &'a [f32],
}
impl Kernel for GluForward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { h, gate, up } = self;
        // eq: glu-forward
        set!(s, h, |gate, up| s.mul(sigmoid(s, gate).1, up));
    }
}

/// [`glu_backward`](super::activation::glu_backward).
#[derive(Debug)]
pub struct GluBackward<'a> {
    pub dgate: &'a mut [f32],
    pub dup: &'a mut [f32],
    pub dh: &'a [f32],
    pub gate: &'a [f32],
    pub up: &'a [f32],
}
impl Kernel for GluBackward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { dgate, dup, dh, gate, up } = self;
        let one = s.splat(1.0);
        set!(s, dup, |dh, gate| s.mul(dh, sigmoid(s, gate).1));
        set!(s, dgate, |dh, gate, up| {
            let (sigma, silu) = sigmoid(s, gate);
            let slope = s.fma(silu, s.sub(one, sigma), sigma);
            s.mul(s.mul(dh, up), slope) // eq: glu-backward
        });
    }
}

/// [`rmsnorm_forward`](crate::nn::rmsnorm::rmsnorm_forward).
#[derive(Debug)]
pub struct RmsnormForward<'a> {
    pub y: &'a mut [f32],
    pub r: &'a mut [f32],
    pub x: &'a [f32],
    pub gain: &'a [f32],
    pub eps: f32,
}
impl Kernel for RmsnormForward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { y, r, x, gain, eps } = self;
        let d = gain.len();
        let rows = y.chunks_exact_mut(d).zip(r).zip(x.chunks_exact(d));
        for ((y, r), x) in rows {
            *r = 1.0 / (dot(s, x, x) / d as f32 + eps).sqrt();
            let c = s.splat(*r);
            // eq: rmsnorm-forward
            set!(s, y, |x, gain| s.mul(s.mul(gain, x), c));
        }
    }
}

/// [`rmsnorm_backward`](crate::nn::rmsnorm::rmsnorm_backward).
#[derive(Debug)]
pub struct RmsnormBackward<'a> {
    pub dx: &'a mut [f32],
    pub dgain: &'a mut [f32],
    pub dy: &'a [f32],
    pub x: &'a [f32],
    pub gain: &'a [f32],
    pub r: &'a [f32],
}
impl Kernel for RmsnormBackward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { dx, dgain, dy, x, gain, r } = self;
        let d = gain.len();
        for (i, &r) in r.iter().enumerate() {
            let row = i * d..(i + 1) * d;
            let (dx, dy, x) = (&mut dx[row.clone()], &dy[row.clone()], &x[row]);
            let c = s.splat(r);
            // dx = u for now, with u = gain ⊙ dy
            set!(s, dx, |dy, gain| s.mul(dy, gain));
            let mean = dot(s, dx, x) * r * r / d as f32;
            let m = s.splat(-mean);
            // eq: rmsnorm-backward
            update!(s, dx, |u, x| s.mul(c, s.fma(x, m, u)));
            // eq: rmsnorm-backward-gamma
            update!(s, dgain, |d, dy, x| s.fma(s.mul(dy, x), c, d));
        }
    }
}

/// [`combine_backward`](crate::nn::moe::combine_backward).
#[derive(Debug)]
pub struct CombineBackward<'a> {
    pub d_o: &'a mut [f32],
    pub dw: &'a mut [f32],
    pub dy: &'a [f32],
    pub o: &'a [f32],
    pub w: &'a [f32],
    pub slot: &'a [usize],
}
impl Kernel for CombineBackward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { d_o, dw, dy, o, w, slot } = self;
        let d = o.len() / slot.len();
        let k = o.len() / dy.len();
        for (i, &at) in slot.iter().enumerate() {
            let (dy, row) = (&dy[i / k * d..][..d], at * d..(at + 1) * d);
            dw[i] = dot(s, dy, &o[row.clone()]); // eq: moe-backward-weight
            let c = s.splat(w[i]);
            // eq: moe-backward-expert
            set!(s, &mut d_o[row], |dy| s.mul(c, dy));
        }
    }
}

/// [`sum_of_squares`](super::vector::sum_of_squares) of one chunk.
#[derive(Debug)]
pub struct SumOfSquares<'a> {
    pub x: &'a [f32],
}
impl Kernel for SumOfSquares<'_> {
    type Out = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let Self { x } = self;
        dot(s, x, x)
    }
}
