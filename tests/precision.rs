//! T5. The f32 kernels on every instruction set that this CPU has against the
//! plain kernels in f64, at many sizes and scales, and the gradient of whole
//! models. The bounds of the kernels are derived in `src/check`.
#![allow(missing_docs, reason = "a test is documented by its name")]

use crate::again::again;
use moe_by_hand::check::parity::{EXP, FLUSH, Pair, U, normals, wide};
use moe_by_hand::check::{
    activation, attention, loss, moe, optimizer, rmsnorm, softmax,
};
use moe_by_hand::config::Config;
use moe_by_hand::gradcheck::Rung;
use moe_by_hand::kernel::activation::{glu_backward, glu_forward};
use moe_by_hand::kernel::fast;
use moe_by_hand::kernel::matrix::{Set, mat, mat_mut, matmul};
use moe_by_hand::kernel::product::matmul_with;
use moe_by_hand::kernel::simd::Isa;
use moe_by_hand::kernel::softmax::{
    causal_softmax_backward, causal_softmax_forward, softmax_forward,
};
use moe_by_hand::kernel::vector::{self, CHUNK, dot};
use moe_by_hand::layer::Shape;
use moe_by_hand::model::{Batch, Model};
use moe_by_hand::nn::loss::{CrossEntropy, Loss};
use moe_by_hand::nn::loss::{cross_entropy_backward, cross_entropy_forward};
use moe_by_hand::nn::moe::combine_backward;
use moe_by_hand::nn::rmsnorm::{rmsnorm_backward, rmsnorm_forward};
use moe_by_hand::params::{ParamGrads, Params};
use moe_by_hand::real::Real;
use moe_by_hand::rng::Rng;
use moe_by_hand::train::gradient::{Coefficients, Gradient, Losses};

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
    fn within(&mut self, case: &str, pair: &Pair) {
        let m = pair.measure();
        assert!(m.holds(), "{case}: {m}");
        self.share = self.share.max(pair.share());
    }
    #[track_caller]
    fn all<const N: usize>(&mut self, case: &str, pairs: [Pair; N]) {
        pairs.iter().for_each(|pair| self.within(case, pair));
    }
    /// A bound that nothing comes near proves little.
    #[track_caller]
    fn done(self, least: f64) {
        println!("{}: {:.3} of the bound", self.what, self.share);
        assert!(self.share >= least, "{}: a loose bound", self.what);
    }
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
    x.extend([-86.98, 88.72, -87.0, 88.73]);
    x.push(0.0); // the target
    for isa in Isa::here() {
        let mut y = vec![f32::NAN; x.len()];
        fast::CrossEntropyBackward {
            dz: &mut y,
            z: &x,
            lse: &[0.0],
            target: &[x.len() - 1],
            dsum: 1.0,
        }
        .on(isa);
        let mut worst = (0.0, 0.0);
        for (&x, &y) in x.iter().zip(&y[..y.len() - 1]) {
            let want = (x as f64).exp();
            match x {
                _ if x.is_nan() => assert!(y.is_nan(), "{isa} e^NaN = {y}"),
                ..=-87.0 => assert_eq!(y, 0.0, "{isa} e^{x}"),
                88.73.. => assert_eq!(y, f32::INFINITY, "{isa} e^{x}"),
                -86.98..=88.72 => {
                    let off = (y as f64 / want - 1.0).abs();
                    assert!(off < EXP, "{isa} e^{x}: {y:e}, off by {off:e}");
                    worst = if off > worst.0 { (off, x) } else { worst };
                }
                ..-86.98 => {
                    let off = (y as f64 - want).abs();
                    assert!(off < FLUSH, "{isa} e^{x}: {y:e}, off by {off:e}");
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
                let [p, lse] = softmax::parity(isa, &z);
                for (i, z) in z.iter().enumerate() {
                    let masked = *z == f32::NEG_INFINITY;
                    assert!(!masked || p.got[i] == 0.0, "{isa} {case} at {i}");
                }
                worst.all(&case, [p, lse]);
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
                    let p = attention::parity(isa, &z, keys, group, scale);
                    for (r, p) in p.got.chunks(keys).enumerate() {
                        let future = &p[keys - t + r / group + 1..];
                        let none = future.iter().all(|&p| p == 0.0);
                        assert!(none, "{isa} {case}: row {r} sees the future");
                    }
                    worst.within(&case, &p);
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
                    fast::SoftmaxForward { z: p }.on(isa);
                });
                let d = normals(n * keys, scale_of_d, keys + 7);
                let scale = 0.353_553_4f32;
                let pair = attention::parity_gradient(isa, &d, &p, keys, scale);
                worst.within(&format!("{keys} {scale_of_d:e}"), &pair);
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
                let [lse, sum] = loss::parity(isa, &z, &target);
                // The gradient, from the ℓ that f32 has.
                let dsum = 1.0 / n as f32;
                let dz =
                    loss::parity_gradient(isa, &z, &lse.got, &target, dsum);
                worst.all(&case, [lse, sum]);
                worst_back.within(&case, &dz);
            }
        }
        worst.done(0.1);
        worst_back.done(0.1);
    }
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
                let up = normals(n, 2.0, len + 1);
                let dh = normals(n, 0.5, len + 2);
                worst.within(&case, &activation::parity(isa, &gate, &up));
                let both = activation::parity_gradient(isa, &dh, &gate, &up);
                worst_back.all(&case, both);
            }
        }
        worst.done(0.1);
        worst_back.done(0.1);
    }
}

#[test]
fn rmsnorm() {
    for isa in Isa::here() {
        let mut worst = Worst::new(isa, "rmsnorm_forward");
        let mut worst_back = Worst::new(isa, "rmsnorm_backward");
        for d in lengths() {
            for scale in [0.0, 1e-20, 1e-3, 1.5, 1e4, 1e15] {
                let (n, case) = (rows(d), format!("{d} {scale:e}"));
                let x = normals(n * d, scale, d);
                let gain: Vec<f32> =
                    normals(d, 0.3, d + 1).iter().map(|g| 1.0 + g).collect();
                let [r, y] = rmsnorm::parity(isa, &x, &gain);
                // The gradient, from the r that f32 has.
                let dy = normals(n * d, 0.7, d + 2);
                let dgain = normals(d, 0.1, d + 3);
                let both = rmsnorm::parity_gradient(
                    isa, &dy, &x, &gain, &r.got, &dgain,
                );
                worst.all(&case, [r, y]);
                worst_back.all(&case, both);
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
                let dy = normals(n * d, scale, d);
                let o = normals(m * d, 1.0, d + 1);
                let w = normals(m, 0.4, d + 2);
                // any permutation
                let slot: Vec<usize> = (0..m).rev().collect();
                let both = moe::parity_gradient(isa, &dy, &o, &w, &slot);
                worst.all(&case, both);
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
                let case = format!("{n} {scale:e}");
                worst.within(&case, &optimizer::parity(isa, &x));
            }
        }
        worst.done(0.01);
    }
    // A long one is summed chunk by chunk, to the bit.
    for seed in 0..9 {
        let x = normals(3 * CHUNK + 7, 1.0, seed);
        let chunks: f32 = x.chunks(CHUNK).map(vector::sum_of_squares).sum();
        let whole = vector::sum_of_squares(&x);
        assert_eq!(whole.to_bits(), chunks.to_bits(), "seed {seed}");
    }
}

/// Each way in which a kernel can be wrong is seen, wherever it is.
#[test]
fn a_pair_tells() {
    let isa = Isa::current();
    let pair = |got: f32| {
        let mut pair = optimizer::parity(isa, &[3.0, 4.0]);
        for x in [&mut pair.want, &mut pair.bound] {
            *x = vec![x[0]; 3];
        }
        pair.got = vec![25.0, got, 25.0];
        pair.measure()
    };
    let (right, last_bit) = (pair(25.0), pair(25.0 + 4.0 * f32::EPSILON * 4.0));
    assert!(right.holds() && right.error == 0.0 && right.rung == Rung::T5);
    assert!(last_bit.holds() && last_bit.error > 0.0, "{last_bit}");
    let mut blind = optimizer::parity(isa, &[3.0, 4.0]);
    blind.bound = vec![f64::NAN];
    assert!(!blind.measure().holds(), "a bound that is none");
    for wrong in [25.0001, -25.0, f32::NAN, f32::INFINITY] {
        let m = pair(wrong);
        assert!(!m.holds() && m.detail.contains("[1]"), "{wrong}: {m}");
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
                let lse = fast::SoftmaxForward { z: &mut z }.on(isa);
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
    let lse = fast::SoftmaxForward { z: &mut p }.on(isa);
    let want = softmax_forward(&mut p64);
    same_classes(&what("softmax"), &p, &p64);
    same_classes(&what("its lse"), &[lse], &[want]);

    // three queries on n keys, if there are as many
    let t = n.min(3);
    let (mut p, mut p64) = (z.repeat(t), wide(&z.repeat(t)));
    let scale = 0.5;
    let (keys, first, group) = (n, n - t, 1);
    let z_p = &mut p;
    fast::CausalSoftmaxForward { z: z_p, keys, first, group, scale }.on(isa);
    causal_softmax_forward(&mut p64, n, first, group, scale.into());
    same_classes(&what("causal softmax"), &p, &p64);
    let (p, d) = (normals(n, 0.1, 2), &z);
    let (mut got, mut want) = (d.clone(), wide(d));
    fast::CausalSoftmaxBackward { d: &mut got, p: &p, keys: n, scale }.on(isa);
    causal_softmax_backward(&mut want, &wide(&p), n, scale.into());
    same_classes(&what("causal softmax backward"), &got, &want);

    let (mut lse, mut lse64, target) = ([0.0], [0.0], [n / 2]);
    let sum = fast::CrossEntropyForward {
        lse: &mut lse,
        z: &z,
        target: &target,
        v: n,
    }
    .on(isa);
    let want = cross_entropy_forward(&mut lse64, &wide(&z), &target);
    same_classes(&what("cross-entropy"), &[sum, lse[0]], &[want, lse64[0]]);
    if odd.is_nan() {
        assert!(sum.is_nan(), "{}: the loss is {sum}", what("cross-entropy"));
    }
    let (mut dz, mut dz64) = (vec![0.0; n], vec![0.0; n]);
    fast::CrossEntropyBackward {
        dz: &mut dz,
        z: &z,
        lse: &lse,
        target: &target,
        dsum: 1.0,
    }
    .on(isa);
    cross_entropy_backward(&mut dz64, &wide(&z), &lse64, &target, 1.0);
    same_classes(&what("cross-entropy backward"), &dz, &dz64);

    // each of gate, up and dh in turn
    let usual = normals(n, 1.0, 3);
    for turn in 0..3 {
        let of = |i| if i == turn { &z } else { &usual };
        let (gate, up, dh) = (of(0), of(1), of(2));
        let (mut h, mut h64) = (vec![0.0; n], vec![0.0; n]);
        fast::GluForward { h: &mut h, gate, up }.on(isa);
        glu_forward(&mut h64, &wide(gate), &wide(up));
        same_classes(&what("glu"), &h, &h64);
        let (mut a, mut b) = (h.clone(), h.clone());
        let (dgate, dup) = (&mut a, &mut b);
        fast::GluBackward { dgate, dup, dh, gate, up }.on(isa);
        let (mut a64, mut b64) = (h64.clone(), h64.clone());
        let (gate, up, dh) = (wide(gate), wide(up), wide(dh));
        glu_backward(&mut a64, &mut b64, &dh, &gate, &up);
        same_classes(&what("glu backward, gate"), &a, &a64);
        same_classes(&what("glu backward, up"), &b, &b64);
    }

    let (mut y, mut r, gain, eps) = (vec![0.0; n], [0.0], &usual, 1e-5);
    let (mut y64, mut r64) = (vec![0.0; n], [0.0]);
    fast::RmsnormForward { y: &mut y, r: &mut r, x: &z, gain, eps }.on(isa);
    rmsnorm_forward(&mut y64, &mut r64, &wide(&z), &wide(gain), eps.into());
    same_classes(&what("rmsnorm"), &y, &y64);
    let (mut dx, mut dgain) = (vec![0.0; n], vec![0.0; n]);
    let (mut dx64, mut dgain64) = (vec![0.0; n], vec![0.0; n]);
    fast::RmsnormBackward {
        dx: &mut dx,
        dgain: &mut dgain,
        dy: &z,
        x: &usual,
        gain,
        r: &[0.5],
    }
    .on(isa);
    let [dy, x] = [&z, &usual].map(|x| wide(x));
    rmsnorm_backward(&mut dx64, &mut dgain64, &dy, &x, &wide(gain), &[0.5]);
    same_classes(&what("rmsnorm backward"), &dx, &dx64);
    same_classes(&what("rmsnorm backward, gain"), &dgain, &dgain64);

    let (mut d_o, mut dw) = (vec![0.0; n], [0.0]);
    let (mut d_o64, mut dw64) = (vec![0.0; n], [0.0]);
    fast::CombineBackward {
        d_o: &mut d_o,
        dw: &mut dw,
        dy: &z,
        o: &usual,
        w: &[0.5],
        slot: &[0],
    }
    .on(isa);
    combine_backward(&mut d_o64, &mut dw64, &dy, &x, &[0.5], &[0]);
    same_classes(&what("combine backward"), &d_o, &d_o64);
    same_classes(&what("combine backward, weight"), &dw, &dw64);
    let sum = fast::SumOfSquares { x: &z }.on(isa);
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
        tied: false,
        attention_bias: false,
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
) -> (Losses<T::Wide>, ParamGrads<T>, Vec<usize>) {
    let coef = Coefficients { ce: 1.0, aux: 0.1, z: 0.01 };
    let mut gradient = Gradient::<T>::new(m, s, 1, coef, false);
    let (losses, dp) = gradient.compute(m, p, b);
    let dp = dp.clone();
    let choices: Vec<usize> = gradient
        .acts()
        .flat_map(|a| &a.blocks)
        .flat_map(|b| b.moe.router.choice.to_vec())
        .collect();
    (losses, dp, choices)
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
    CrossEntropy.forward(&mut a.lse, &a.head.y, b.targets)
}

#[test]
fn model_in_every_set() {
    for isa in Isa::here() {
        let word = isa.to_string();
        let said =
            again("precision::model_in_the_chosen_set", &word, "ran on ");
        assert!(said.starts_with(&format!("{isa};")), "{isa}: {said}");
        println!("ran on {said}");
    }
}
