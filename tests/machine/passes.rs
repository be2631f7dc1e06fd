//! Chapter: memory. Separate passes over arrays, the same passes block by
//! block, and one loop.

use crate::clock::{median, medians, table};
use crate::peak::normal;
use moe_by_hand::elementary::exp;
use moe_by_hand::kernel::activation::glu_backward;
use moe_by_hand::kernel::simd::{Isa, Kernel, Simd};
use moe_by_hand::kernel::vector::{CHUNK, add};
use moe_by_hand::nn::rmsnorm::rmsnorm_forward;
use moe_by_hand::train::optimizer::{BETA1, BETA2, EPS, Rates, adamw};
use std::hint::black_box;

/// One loop, compiled for the CPU's best instruction set.
struct Loop<F>(F);
impl<F: FnOnce()> Kernel for Loop<F> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        (self.0)();
    }
}
macro_rules! pass {
    (for $($x:pat_param in $xs:expr),+ => $do:expr) => {
        Isa::current().run(Loop(
            #[inline(always)]
            || {
                for pass!(@pat $($x),+) in pass!(@zip $($xs),+) {
                    $do;
                }
            },
        ))
    };
    (@pat $a:pat_param, $b:pat_param) => { ($a, $b) };
    (@pat $a:pat_param, $b:pat_param, $c:pat_param) => { (($a, $b), $c) };
    (@zip $a:expr, $b:expr) => { $a.iter_mut().zip($b.iter()) };
    (@zip $a:expr, $b:expr, $c:expr) => {
        $a.iter_mut().zip($b.iter()).zip($c.iter())
    };
}

const D: usize = 256;
const ROUNDING: f64 = 1e-5;

/// h = x + a and y = norm(h): ns per number.
fn norm(n: usize) -> [f64; 3] {
    let [x, a] = [1, 2].map(|seed| normal(n, seed));
    let gain = vec![1.0f32; D];
    let new = || (vec![0.0f32; n], vec![0.0f32; n], vec![0.0f32; n / D]);
    let [mut one, mut two, mut three] = [new(), new(), new()];
    let separate = &mut || {
        let (h, y, r) = black_box(&mut one);
        add(h, &x, &a);
        rmsnorm_forward(y, r, h, &gain, ROUNDING);
    };
    let blocks = &mut || {
        let (h, y, r) = black_box(&mut two);
        let rows = 8;
        for (i, r) in r.chunks_mut(rows).enumerate() {
            let at = i * rows * D..(i * rows + r.len()) * D;
            let (h, y) = (&mut h[at.clone()], &mut y[at.clone()]);
            add(h, &x[at.clone()], &a[at]);
            rmsnorm_forward(y, r, h, &gain, ROUNDING);
        }
    };
    let fused = &mut || {
        let (h, y, r) = black_box(&mut three);
        let (x, a, gain) = (&x, &a, &gain);
        Isa::current().run(AddNorm { h, y, r, x, a, gain });
    };
    let times = medians([separate, blocks, fused]);
    assert!(one == two, "the same kernels, the same bits");
    let far = one.1.iter().zip(&three.1).map(|(a, b)| (a - b).abs());
    assert!(far.fold(0.0, f32::max) < 1e-5, "the same function");
    times.map(|t| 1e9 * t / n as f64)
}
/// h = x + a and y = norm(h) while a row is in the first cache; d is a multiple
/// of four vectors.
struct AddNorm<'a> {
    h: &'a mut [f32],
    y: &'a mut [f32],
    r: &'a mut [f32],
    x: &'a [f32],
    a: &'a [f32],
    gain: &'a [f32],
}
impl Kernel for AddNorm<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { h, y, r, x, a, gain } = self;
        for (i, r) in r.iter_mut().enumerate() {
            let at = i * D..(i + 1) * D;
            let (h, y) = (&mut h[at.clone()], &mut y[at.clone()]);
            let (x, a) = (&x[at.clone()], &a[at]);
            let mut sums = [s.splat(0.0); 4];
            for j in (0..D).step_by(4 * S::W) {
                for (k, sum) in sums.iter_mut().enumerate() {
                    let j = j + k * S::W;
                    let v = s.add(s.load(&x[j..]), s.load(&a[j..]));
                    s.store(&mut h[j..], v);
                    *sum = s.fma(v, v, *sum);
                }
            }
            let [p, q, t, u] = sums;
            let sum = s.reduce_sum(s.add(s.add(p, q), s.add(t, u)));
            *r = 1.0 / (sum / D as f32 + ROUNDING as f32).sqrt();
            let c = s.splat(*r);
            for j in (0..D).step_by(S::W) {
                let v = s.mul(s.load(&gain[j..]), s.load(&h[j..]));
                s.store(&mut y[j..], s.mul(v, c));
            }
        }
    }
}

/// The backward of h = silu(gate)·up: ns per number.
fn glu(n: usize) -> [f64; 3] {
    let [dh, gate, up] = [1, 2, 3].map(|seed| normal(n, seed));
    let new = || (vec![0.0f32; n], vec![0.0f32; n]);
    let [mut one, mut two, mut three] = [new(), new(), new()];
    let mut whole = [(); 3].map(|()| vec![0.0f32; n]);
    let mut parts = [(); 3].map(|()| vec![0.0f32; CHUNK]);
    let separate = &mut || {
        let (dgate, dup) = black_box(&mut one);
        glu_passes(dgate, dup, &dh, &gate, &up, &mut whole);
    };
    let blocks = &mut || {
        let (dgate, dup) = black_box(&mut two);
        for (i, dgate) in dgate.chunks_mut(CHUNK).enumerate() {
            let at = i * CHUNK..i * CHUNK + dgate.len();
            let (dup, dh) = (&mut dup[at.clone()], &dh[at.clone()]);
            let (gate, up) = (&gate[at.clone()], &up[at]);
            glu_passes(dgate, dup, dh, gate, up, &mut parts);
        }
    };
    let fused = &mut || {
        let (dgate, dup) = black_box(&mut three);
        glu_backward(dgate, dup, &dh, &gate, &up);
    };
    let times = medians([separate, blocks, fused]);
    assert!(one == two, "the same passes, the same bits");
    let far = one.0.iter().zip(&three.0).map(|(a, b)| (a - b).abs());
    assert!(far.fold(0.0, f32::max) < 1e-4, "the same function");
    times.map(|t| 1e9 * t / n as f64)
}
/// As a framework does it that has each operation by itself.
fn glu_passes(
    dgate: &mut [f32], dup: &mut [f32], dh: &[f32], gate: &[f32], up: &[f32],
    [s, t, u]: &mut [Vec<f32>; 3],
) {
    let n = dh.len();
    let (s, t, u) = (&mut s[..n], &mut t[..n], &mut u[..n]);
    pass!(for s in s, &z in gate => *s = 1.0 / (1.0 + exp(-z)));
    pass!(for t in t, &z in gate, &s in s => *t = z * s);
    pass!(for d in dup, &dh in dh, &t in t => *d = dh * t);
    pass!(for u in u, &dh in dh, &up in up => *u = dh * up);
    pass!(for t in t, &z in gate, &s in s => *t = s * (1.0 + z * (1.0 - s)));
    pass!(for d in dgate, &u in u, &t in t => *d = u * t);
}

/// One step of AdamW: ns per parameter.
fn adam(n: usize) -> [f64; 3] {
    let g = normal(n, 1);
    let new = || [vec![1.0f32; n], vec![0.0; n], vec![0.0; n]];
    let [mut one, mut two, mut three] = [new(), new(), new()];
    let mut whole = [(); 2].map(|()| vec![0.0f32; n]);
    let mut parts = [(); 2].map(|()| vec![0.0f32; CHUNK]);
    let rates = Rates { lr: 1e-3, decay: 0.1, scale: 0.5, t: 9 };
    let separate = &mut || {
        let [p, m, v] = black_box(&mut one);
        adam_passes(p, m, v, &g, &mut whole, rates);
    };
    let blocks = &mut || {
        let [p, m, v] = black_box(&mut two);
        let all = p.chunks_mut(CHUNK).zip(m.chunks_mut(CHUNK));
        let all = all.zip(v.chunks_mut(CHUNK)).zip(g.chunks(CHUNK));
        for (((p, m), v), g) in all {
            adam_passes(p, m, v, g, &mut parts, rates);
        }
    };
    let fused = &mut || {
        let [p, m, v] = black_box(&mut three);
        Isa::current().run(OneAdam { p, m, v, g: &g, rates });
    };
    let times = medians([separate, blocks, fused]);
    times.map(|t| 1e9 * t / n as f64)
}
/// As the library has it, without vectors beyond those of every CPU.
fn plain_adam(n: usize) -> [f64; 3] {
    let g = normal(n, 1);
    let [mut p, mut m, mut v] = [1.0, 0.0, 0.0].map(|x| vec![x; n]);
    let rates = Rates { lr: 1e-3, decay: 0.1, scale: 0.5, t: 9 };
    let t = median(|| adamw(black_box(&mut p), &mut m, &mut v, &g, rates));
    [f64::NAN, f64::NAN, 1e9 * t / n as f64]
}
/// The factors of a step: c₁, c₂, β₁, β₂, ε, 1 − ηλ, η, and the scale.
fn factors(r: Rates) -> [f32; 8] {
    let past = |b: f64| 1.0 / (1.0 - b.powi(r.t as i32));
    let (keep, lr) = (1.0 - r.lr * r.decay, r.lr);
    let all = [past(BETA1), past(BETA2), BETA1, BETA2, EPS, keep, lr, r.scale];
    all.map(|f| f as f32)
}
/// The step in one loop, over whole vectors.
struct OneAdam<'a> {
    p: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    g: &'a [f32],
    rates: Rates,
}
impl Kernel for OneAdam<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { p, m, v, g, rates } = self;
        let [c1, c2, b1, b2, eps, keep, lr, scale] =
            factors(rates).map(|f| s.splat(f));
        let one = s.splat(1.0);
        let [n1, n2] = [b1, b2].map(|b| s.sub(one, b));
        for i in (0..p.len()).step_by(S::W) {
            let g = s.mul(scale, s.load(&g[i..]));
            let mean = s.mul(b1, s.load(&m[i..]));
            let mean = s.add(mean, s.mul(n1, g));
            let square = s.mul(b2, s.load(&v[i..]));
            let square = s.add(square, s.mul(s.mul(n2, g), g));
            let root = s.add(s.sqrt(s.mul(square, c2)), eps);
            let update = s.div(s.mul(mean, c1), root);
            let kept = s.mul(keep, s.load(&p[i..]));
            s.store(&mut p[i..], s.sub(kept, s.mul(lr, update)));
            s.store(&mut m[i..], mean);
            s.store(&mut v[i..], square);
        }
    }
}
fn adam_passes(
    p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32],
    [s, t]: &mut [Vec<f32>; 2], r: Rates,
) {
    let ([c1, c2, b1, b2, eps, keep, lr, scale], n) = (factors(r), g.len());
    let (s, t) = (&mut s[..n], &mut t[..n]);
    pass!(for s in s, &g in g => *s = scale * g);
    pass!(for m in m, &s in s => *m = b1 * *m + (1.0 - b1) * s);
    pass!(for v in v, &s in s => *v = b2 * *v + (1.0 - b2) * s * s);
    pass!(for t in t, &v in v => *t = (v * c2).sqrt() + eps);
    pass!(for s in s, &m in m, &t in t => *s = m * c1 / t);
    pass!(for p in p, &s in s => *p = keep * *p - lr * s);
}

/// Prints the table: in the second cache, and out of all.
pub(crate) fn print() {
    let cases: [(&str, Case); 4] = [
        ("x + a, norm", norm),
        ("SwiGLU", glu),
        ("AdamW", adam),
        ("AdamW, library", plain_adam),
    ];
    let ns = |t: f64| match t.is_nan() {
        true => "–".into(),
        false => format!("{t:.2}"),
    };
    let mut rows = vec![];
    let mut row = |what: String, case: Case, n| {
        let [separate, blocks, fused] = case(n);
        let times = ns(separate / fused);
        rows.push([what, ns(separate), ns(blocks), ns(fused), times]);
    };
    for (place, n) in [("cache", 256 * 58), ("memory", 256 * 32_890)] {
        for (what, case) in cases {
            row(format!("{what}, {place}"), case, n);
        }
    }
    table("ns per number, separate, in blocks, one loop, times", &rows);
}
/// ns per number: separate, in blocks, in one loop.
type Case = fn(usize) -> [f64; 3];
