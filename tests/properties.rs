//! T7. Invariants of kernels, layers and the whole model, over random shapes
//! and numbers.
//!
//! The generator has a fixed seed: every run has the same cases. A failure
//! prints the smallest case that proptest finds, and leaves no file.
#![allow(missing_docs, reason = "a test is documented by its name")]

use moe_by_hand::config::Config;
use moe_by_hand::half::Bf16;
use moe_by_hand::kernel::matrix::{Add, Set, mat, mat_mut, matmul};
use moe_by_hand::kernel::simd::bytes;
use moe_by_hand::kernel::softmax::{
    causal_softmax_backward, causal_softmax_forward, lse_forward,
    softmax_backward, softmax_forward,
};
use moe_by_hand::kernel::vector::dot;
use moe_by_hand::layer::{Decode, Layer, Shape};
use moe_by_hand::memory;
use moe_by_hand::model::{Acts, Batch, Model};
use moe_by_hand::nn::attention::{
    Attention, AttentionGrads, Heads, attention_backward, attention_forward,
    prob_len, prob_matrix, prob_room,
};
use moe_by_hand::nn::loss::{cross_entropy_backward, cross_entropy_forward};
use moe_by_hand::nn::moe::{
    Experts, Moe, combine_backward, combine_forward, dispatch, gather_backward,
    gather_forward,
};
use moe_by_hand::nn::rmsnorm::{rmsnorm_backward, rmsnorm_forward};
use moe_by_hand::nn::rope::{Rope, rope_backward, rope_forward};
use moe_by_hand::nn::router::Router;
use moe_by_hand::params::{Layout, ParamGrads, Params};
use moe_by_hand::real::{Dual, Real};
use moe_by_hand::rng::Rng;
use moe_by_hand::train::account::Account;
use moe_by_hand::train::gradient::{Coefficients, Gradient, Losses};
use moe_by_hand::train::optimizer::{AdamW, Decay};
use moe_by_hand::train::options::Options;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, RngSeed};
use std::ops::Range;
use std::sync::Arc;

/// So many cases, always the same.
fn cases(n: u32) -> Cases {
    Cases {
        cases: n,
        rng_seed: RngSeed::Fixed(15),
        failure_persistence: None,
        ..Cases::default()
    }
}
fn normals(n: usize, scale: f64, rng: &mut Rng) -> Vec<f64> {
    let mut x = vec![0.0; n];
    rng.fill_normal(&mut x, scale);
    x
}
/// Random values for all parameters of a layout.
fn values(layout: &Layout, rng: &mut Rng) -> Params<f64> {
    layout.zeros::<f64>().like(normals(layout.len, 0.6, rng))
}
/// What a block leaves out are scores that the mask discards, and products
/// with zeros: the results have the bits of products with all keys.
fn in_blocks<T: Real>(
    [t, cached, g, d]: [usize; 4], seed: u64,
) -> Result<(), TestCaseError> {
    let (n, s, rng) = (t * g, cached + t, &mut Rng::new(seed, 0));
    let mut draw = |rows: usize| -> Vec<T> {
        normals(rows * d, 1.0, rng).into_iter().map(T::of).collect()
    };
    let (q, dy, k, v) = (draw(n), draw(n), draw(s), draw(s));
    let [mq, mdy, mk, mv] = [&q, &dy, &k, &v].map(|x| mat(x, d));
    let scale = 1.0 / (d as f64).sqrt();
    let new = |n: usize| vec![T::of(f64::NAN); n];
    let same = |name: &str, got: &[T], want: &[T]| {
        let [got, want] = [got, want].map(|x| -> Vec<u64> {
            x.iter().map(|x| x.f64().to_bits()).collect()
        });
        prop_assert!(got == want, "{name} has other bits");
        Ok(())
    };

    let (mut p, mut y) = (new(prob_len::<T>(n, s, g)), new(n * d));
    attention_forward(mat_mut(&mut y, d), &mut p, mq, mk, mv, g);
    let (mut all_p, mut all_y) = (new(n * s), new(n * d));
    matmul(mat_mut(&mut all_p, s), Set, mq, mk.t());
    causal_softmax_forward(&mut all_p, s, cached, g, scale);
    matmul(mat_mut(&mut all_y, d), Set, mat(&all_p, s), mv);
    same("P", &prob_matrix(&p, n, s, g), &all_p)?;
    same("O", &y, &all_y)?;

    let [mut dq, mut all_dq] = [new(q.len()), new(q.len())];
    let [mut dk, mut all_dk] = [new(k.len()), new(k.len())];
    let [mut dv, mut all_dv] = [new(v.len()), new(v.len())];
    let (mut ds, mut all_ds) = (new(prob_room::<T>(n, s, g)), new(n * s));
    let to = AttentionGrads {
        dq: mat_mut(&mut dq, d),
        dk: mat_mut(&mut dk, d),
        dv: mat_mut(&mut dv, d),
        ds: &mut ds,
    };
    attention_backward(to, mdy, &p, mq, mk, mv, g);
    matmul(mat_mut(&mut all_dv, d), Set, mat(&all_p, s).t(), mdy);
    matmul(mat_mut(&mut all_ds, s), Set, mdy, mv.t());
    causal_softmax_backward(&mut all_ds, &all_p, s, scale);
    matmul(mat_mut(&mut all_dq, d), Set, mat(&all_ds, s), mk);
    matmul(mat_mut(&mut all_dk, d), Set, mat(&all_ds, s).t(), mq);
    same("dq", &dq, &all_dq)?;
    same("dk", &dk, &all_dk)?;
    same("dv", &dv, &all_dv)
}
fn permutation(n: usize, rng: &mut Rng) -> Vec<usize> {
    let mut to: Vec<usize> = (0..n).collect();
    (1..n).rev().for_each(|i| to.swap(i, rng.below(i + 1)));
    to
}
/// The largest distance, as a share of the largest of b, or of 1.
#[track_caller]
fn gap(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "gap: lengths");
    let size = b.iter().fold(1.0, |m: f64, b| m.max(b.abs()));
    let off = a.iter().zip(b).map(|(a, b)| (a - b).abs() / size);
    off.fold(0.0, |m, x| if x > m || x.is_nan() { x } else { m })
}
/// n, e and k with 1 ≤ k ≤ e.
fn choices() -> impl Strategy<Value = (usize, usize, usize)> {
    (1..10usize, 1..9usize).prop_flat_map(|(n, e)| (Just(n), Just(e), 1..=e))
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn a_product_of_parts(m in 1..5usize, k in 1..5usize, n in 1..5usize,
                          at in [0..3usize, 0..3usize], seed: u64) {
        // A [m, k], B [k, n] and C [m, n] begin at `at` in larger matrices;
        // that of A lies there transposed.
        let ([i0, j0], mut rng) = (at, Rng::new(seed, 13));
        let (rows, cols, wide) = (m + i0, k + j0, n + j0 + 1);
        let a = normals(cols * rows, 1.0, &mut rng);
        let b = normals((k + i0) * wide, 1.0, &mut rng);
        let start = normals((rows + 1) * wide, 1.0, &mut rng);
        let mut c = start.clone();
        let of_a = mat(&a, rows).t().block(i0..rows, j0..cols);
        let of_b = mat(&b, wide).block(i0..i0 + k, j0..j0 + n);
        let mut of_c = mat_mut(&mut c, wide).block(i0..rows, j0..j0 + n);
        matmul(of_c.reborrow(), Set, of_a, of_b);
        matmul(of_c, Add, of_a, of_b);
        let inside = |i: usize, j: usize| {
            (i0..rows).contains(&i) && (j0..j0 + n).contains(&j)
        };
        let want = (0..c.len()).map(|at| match (at / wide, at % wide) {
            (i, j) if inside(i, j) => (0..k)
                .map(|l| a[(j0 + l) * rows + i] * b[(i0 + l) * wide + j])
                .sum::<f64>() * 2.0,
            _ => start[at],
        });
        prop_assert!(gap(&c, &want.collect::<Vec<_>>()) < 1e-12);
    }

    #[test]
    fn each_token_has_k_experts((n, e, k) in choices(), d in 1..6usize,
                                seed: u64) {
        let (mut layout, mut rng) = (Layout::default(), Rng::new(seed, 1));
        let router = Router::new(layout.builder(), d, e, k);
        let (p, x) = (values(&layout, &mut rng), normals(n * d, 1.0, &mut rng));
        let mut a = router.acts(Shape { batch: 1, time: n });
        router.forward(&p, &x, &mut a);
        for t in 0..n {
            let choice = &a.choice[t * k..(t + 1) * k];
            let prob = &a.prob[t * e..(t + 1) * e];
            let weight = &a.weight[t * k..(t + 1) * k];
            for (j, &c) in choice.iter().enumerate() {
                prop_assert!(c < e && !choice[..j].contains(&c));
                let better = (0..e).filter(|&o| prob[o] > prob[c]).count();
                prop_assert_eq!(better, j, "most probable first");
            }
            let sum: f64 = weight.iter().sum();
            prop_assert!((sum - 1.0).abs() < 1e-12, "weights sum to {}", sum);
            let sum: f64 = prob.iter().sum();
            prop_assert!((sum - 1.0).abs() < 1e-12, "p sums to {}", sum);
        }
        for c in 0..e {
            let count = a.choice.iter().filter(|&&o| o == c).count();
            prop_assert_eq!(a.totals.count[c], count);
            let load: f64 = (0..n).map(|t| a.prob[t * e + c]).sum();
            prop_assert!((a.totals.load[c] - load).abs() < 1e-12);
        }
    }

    #[test]
    fn dispatch_is_a_stable_sort((n, e, k) in choices(), seed: u64) {
        let mut rng = Rng::new(seed, 2);
        let choice: Vec<usize> =
            (0..n).flat_map(|_| permutation(e, &mut rng)[..k].to_vec())
                .collect();
        let mut count = vec![0; e];
        choice.iter().for_each(|&c| count[c] += 1);
        let (mut slot, mut start) = (vec![99; n * k], vec![99; e + 1]);
        dispatch(&mut slot, &mut start, &choice, &count);
        let mut sorted = slot.clone();
        sorted.sort();
        prop_assert!(sorted.into_iter().eq(0..n * k), "{:?}", slot);
        prop_assert_eq!((start[0], start[e]), (0, n * k));
        for (i, &c) in choice.iter().enumerate() {
            prop_assert!((start[c]..start[c + 1]).contains(&slot[i]));
            prop_assert_eq!(start[c + 1] - start[c], count[c]);
            for j in 0..i {
                let stable = choice[j] != c || slot[j] < slot[i];
                prop_assert!(stable, "{} before {}", j, i);
            }
        }
    }

    #[test]
    fn gather_and_combine_are_adjoint(n in 1..8usize, k in 1..5usize,
                                      d in 1..9usize, seed: u64) {
        let (m, mut rng) = (n * k, Rng::new(seed, 3));
        let slot = permutation(m, &mut rng);
        let (x, s) =
            (normals(n * d, 1.0, &mut rng), normals(m * d, 1.0, &mut rng));
        let start = normals(n * d, 1.0, &mut rng);
        let (mut sorted, mut dx) = (vec![f64::NAN; m * d], start.clone());
        gather_forward(&mut sorted, &x, &slot, d);
        gather_backward(&mut dx, &s, &slot, d); // adds
        let added: Vec<f64> =
            dx.iter().zip(&start).map(|(a, b)| a - b).collect();
        prop_assert!(gap(&[dot(&sorted, &s)], &[dot(&x, &added)]) < 1e-12);
        // y is linear in o and in w: ⟨y, ȳ⟩ = ⟨o, ō⟩ = ⟨w, w̄⟩
        let (o, w) = (s, normals(m, 1.0, &mut rng));
        let dy = normals(n * d, 1.0, &mut rng);
        let mut y = vec![f64::NAN; n * d];
        let (mut d_o, mut dw) = (vec![f64::NAN; m * d], vec![f64::NAN; m]);
        combine_forward(&mut y, &o, &w, &slot);
        combine_backward(&mut d_o, &mut dw, &dy, &o, &w, &slot);
        let both = [dot(&o, &d_o), dot(&w, &dw)];
        prop_assert!(gap(&both, &[dot(&y, &dy); 2]) < 1e-12);
    }

    #[test]
    fn softmax_of_any_row(
        z in prop::collection::vec(
            prop_oneof![
                4 => -5.0..5.0f64,
                2 => -1e4..1e4f64,
                1 => -1e-300..1e-300f64,
                1 => Just(f64::NEG_INFINITY),
            ],
            1..40,
        ),
        shift in -1e4..1e4f64,
        seed: u64,
    ) {
        let none = z.iter().all(|&z| z == f64::NEG_INFINITY);
        let whole = if none { 0.0 } else { 1.0 };
        let mut p = z.clone();
        let lse = softmax_forward(&mut p);
        let sum: f64 = p.iter().sum();
        prop_assert!((sum - whole).abs() < 1e-12, "{}", sum);
        prop_assert!(p.iter().all(|p| (0.0..=1.0).contains(p)), "{:?}", p);
        for (z, p) in z.iter().zip(&p) {
            prop_assert!(*z > f64::NEG_INFINITY || *p == 0.0);
        }
        prop_assert!(lse == lse_forward(&z), "{}", lse);
        // A common shift changes ℓ by as much and p not at all, but for the
        // rounding of z + c, below 2⁻⁵³·(|z| + |c|) < 1e-11.
        let mut q: Vec<f64> = z.iter().map(|z| z + shift).collect();
        let moved = softmax_forward(&mut q);
        prop_assert!(gap(&p, &q) < 1e-11);
        prop_assert!(none || (moved - lse - shift).abs() < 1e-10);
        // hence the gradient sums to 0
        let mut d = normals(z.len(), 1.0, &mut Rng::new(seed, 4));
        softmax_backward(&mut d, &p);
        prop_assert!(d.iter().sum::<f64>().abs() < 1e-12);
        // The same of f32, on the chosen set: with n roundings of 2⁻²⁴.
        let mut p: Vec<f32> = z.iter().map(|&z| z as f32).collect();
        softmax_forward(&mut p);
        let sum: f32 = p.iter().sum();
        prop_assert!((sum - whole as f32).abs() < 1e-5, "{}", sum);
        prop_assert!(p.iter().all(|p| (0.0..=1.000001).contains(p)), "{:?}", p);
    }

    #[test]
    fn rope_turns(half in 1..5usize, heads in 1..4usize, m in 0..20usize,
                  n in 0..20usize, shift in 0..30usize, seed: u64) {
        let (head, mut rng) = (2 * half, Rng::new(seed, 5));
        let (width, rope) = (head * heads, Rope::new(head, 50, 1e4));
        prop_assert_eq!(rope.time(), 50);
        let at = |x: &[f64], m: usize| {
            let mut x = x.to_vec();
            rope_forward(&mut x, width, 1, m, &rope);
            x
        };
        let (q, k) =
            (normals(width, 1.0, &mut rng), normals(width, 1.0, &mut rng));
        let score = |m, n| dot(&at(&q, m), &at(&k, n));
        // only the distance counts
        let (one, other) = (score(m, n), score(m + shift, n + shift));
        prop_assert!(gap(&[one], &[other]) < 1e-12);
        prop_assert!(gap(&[dot(&at(&q, m), &at(&q, m))], &[dot(&q, &q)])
            < 1e-12);
        let mut back = at(&q, m);
        rope_backward(&mut back, width, 1, m, &rope);
        prop_assert!(gap(&back, &q) < 1e-12);
        // rows of two sequences: each begins at `start`
        let mut rows = q.repeat(4);
        rope_forward(&mut rows, width, 2, m, &rope);
        let want = [at(&q, m), at(&q, m + 1)].concat().repeat(2);
        prop_assert_eq!(rows, want);
    }

    #[test]
    fn rmsnorm_is_blind_to_length(n in 1..5usize, d in 1..20usize,
                                  by in 0.01..100.0f64, seed: u64) {
        let mut rng = Rng::new(seed, 6);
        let [x, dy] = [1.0, 0.3].map(|s| normals(n * d, s, &mut rng));
        let gain = normals(d, 1.0, &mut rng);
        let y = |x: &[f64]| {
            let (mut y, mut r) = (vec![f64::NAN; n * d], vec![f64::NAN; n]);
            rmsnorm_forward(&mut y, &mut r, x, &gain, 0.0);
            (y, r)
        };
        let longer: Vec<f64> = x.iter().map(|x| x * by).collect();
        let (one, r) = y(&x);
        prop_assert!(gap(&y(&longer).0, &one) < 1e-12);
        // hence x̄ is orthogonal to x
        let (mut dx, mut dgain) = (vec![f64::NAN; n * d], vec![0.0; d]);
        rmsnorm_backward(&mut dx, &mut dgain, &dy, &x, &gain, &r);
        for (i, (x, dx)) in x.chunks(d).zip(dx.chunks(d)).enumerate() {
            // of u − x̂·⟨u, x̂⟩/D: as large as its two parts
            let u = dy[i * d..][..d].iter().zip(&gain).map(|(a, b)| a * b);
            let u: Vec<f64> = u.collect();
            let size = (dot(x, x) * dot(&u, &u)).sqrt() * r[i];
            prop_assert!(dot(x, dx).abs() <= 1e-12 * size);
        }
        // y is linear in the gain: ⟨γ, γ̄⟩ = ⟨y, ȳ⟩
        prop_assert!(gap(&[dot(&gain, &dgain)], &[dot(&one, &dy)]) < 1e-12);
    }

    #[test]
    fn cross_entropy_pushes_as_much_as_it_pulls(
        n in 1..6usize, v in 1..20usize, scale in 0.1..30.0f64, seed: u64,
    ) {
        let mut rng = Rng::new(seed, 7);
        let z = normals(n * v, scale, &mut rng);
        let target: Vec<usize> = (0..n).map(|_| rng.below(v)).collect();
        let (mut lse, mut dz) = (vec![f64::NAN; n], vec![f64::NAN; n * v]);
        let loss = cross_entropy_forward(&mut lse, &z, &target);
        prop_assert!(loss >= 0.0);
        cross_entropy_backward(&mut dz, &z, &lse, &target, 0.5);
        for (dz, &t) in dz.chunks(v).zip(&target) {
            prop_assert!(dz.iter().sum::<f64>().abs() < 1e-12);
            prop_assert!((0..v).all(|j| (dz[j] > 0.0) == (j != t) || v == 1));
        }
    }
}

/// A mixture of random sizes on random rows.
struct Mixture {
    layout: Layout,
    moe: Moe,
    p: Params<f64>,
    x: Vec<f64>,
    dy: Vec<f64>,
    n: usize,
    d: usize,
}
impl Mixture {
    fn new((n, e, k): (usize, usize, usize), d: usize, rng: &mut Rng) -> Self {
        let mut layout = Layout::default();
        let sizes = Experts { experts: e, top_k: k, intermediate: d + 1 };
        let moe = Moe::new(layout.builder(), d, sizes);
        let p = values(&layout, rng);
        let [x, dy] = [1.0, 0.5].map(|s| normals(n * d, s, rng));
        Self { layout, moe, p, x, dy, n, d }
    }
    /// y, dx and the gradient of the parameters.
    fn run(
        &self, p: &Params<f64>, x: &[f64], dy: &[f64],
    ) -> (Vec<f64>, Vec<f64>, ParamGrads<f64>) {
        let s = Shape { batch: 1, time: self.n };
        let (mut a, mut g) = (self.moe.acts(s), self.moe.acts(s));
        self.moe.forward(p, x, &mut a);
        g.y.copy_from_slice(dy);
        g.router.totals.clear();
        let (mut dx, mut dp) = (vec![f64::NAN; x.len()], self.layout.grads());
        self.moe.backward(p, x, &a, &mut g, &mut dx, &mut dp);
        (a.y.to_vec(), dx, dp)
    }
    /// The same parameters with the expert i in the place to[i].
    fn renamed(&self, p: &[f64], to: &[usize]) -> Params<f64> {
        let (mut q, e) = (self.layout.zeros(), to.len());
        for from in &self.layout.entries {
            let Some(rest) = from.name.strip_prefix("experts.") else {
                let columns = (0..from.param.range().len()).map(|i| i / e * e);
                for (i, row) in columns.enumerate() {
                    q[from.param][row + to[i % e]] = p[from.param.range()][i];
                }
                continue;
            };
            let (i, rest) = rest.split_once('.').expect("a number, a name");
            let i: usize = i.parse().expect("a number");
            let name = format!("experts.{}.{rest}", to[i]);
            let at = self.layout.entries.iter().find(|e| e.name == name);
            let at = at.expect("as many experts").param;
            q[at].copy_from_slice(&p[from.param.range()]);
        }
        q
    }
}
fn moved(x: &[f64], d: usize, to: &[usize]) -> Vec<f64> {
    let mut y = vec![f64::NAN; x.len()];
    for (i, row) in x.chunks(d).enumerate() {
        y[to[i] * d..][..d].copy_from_slice(row);
    }
    y
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn the_order_of_experts_is_invisible(sizes in choices(), d in 1..6usize,
                                         seed: u64) {
        let mut rng = Rng::new(seed, 8);
        let m = Mixture::new(sizes, d, &mut rng);
        let to = permutation(sizes.1, &mut rng);
        let (y, dx, dp) = m.run(&m.p, &m.x, &m.dy);
        let other = m.run(&m.renamed(&m.p.data, &to), &m.x, &m.dy);
        prop_assert!(gap(&other.0, &y) < 1e-12);
        prop_assert!(gap(&other.1, &dx) < 1e-12);
        prop_assert!(gap(&other.2.data, &m.renamed(&dp.data, &to).data) < 1e-12);
    }

    #[test]
    fn the_order_of_tokens_is_that_of_rows(sizes in choices(), d in 1..6usize,
                                           seed: u64) {
        let mut rng = Rng::new(seed, 9);
        let m = Mixture::new(sizes, d, &mut rng);
        let to = permutation(sizes.0, &mut rng);
        let (y, dx, dp) = m.run(&m.p, &m.x, &m.dy);
        let rows = |x: &[f64]| moved(x, m.d, &to);
        let other = m.run(&m.p, &rows(&m.x), &rows(&m.dy));
        prop_assert!(gap(&other.0, &rows(&y)) < 1e-12);
        prop_assert!(gap(&other.1, &rows(&dx)) < 1e-12);
        prop_assert!(gap(&other.2.data, &dp.data) < 1e-12);
    }
}

/// Attention of random sizes on random rows.
#[derive(Debug)]
struct Attend {
    layout: Layout,
    layer: Attention,
    h: Heads,
    s: Shape,
    d: usize,
    p: Params<f64>,
    x: Vec<f64>,
}
fn attention() -> impl Strategy<Value = Attend> {
    let sizes = (1..4usize, 1..4usize, 1..4usize, 1..4usize, 1..7usize);
    (sizes, 1..7usize, any::<u64>()).prop_map(|(sizes, d, seed)| {
        let ((kv, group, half, batch, time), mut rng) =
            (sizes, Rng::new(seed, 10));
        let h = Heads { heads: kv * group, kv_heads: kv, head: 2 * half };
        let mut layout = Layout::default();
        let rope = Arc::new(Rope::new(h.head, 8, 100.0));
        let build = match seed % 2 {
            0 => Attention::new,
            _ => Attention::with_bias,
        };
        let layer = build(layout.builder(), d, h, rope);
        let (p, s) = (values(&layout, &mut rng), Shape { batch, time });
        let x = normals(s.rows() * d, 1.0, &mut rng);
        Attend { layout, layer, h, s, d, p, x }
    })
}
impl Attend {
    fn param(&self, name: &str) -> (&[f64], &[usize]) {
        let e = self.layout.find(name).expect(name);
        (&self.p[e.param], &e.shape)
    }
    /// A·W + b for A: [_, k] and the columns `cols` of W: [k, n], whose names
    /// are `w` and `b` and one of q, k, v and o.
    fn map(&self, a: &[f64], to: &str, cols: Range<usize>) -> Vec<f64> {
        let (w, shape) = self.param(&format!("w{to}"));
        let (k, n) = (shape[0], shape[1]);
        let b = match self.layer.bias {
            Some(_) => self.param(&format!("b{to}")).0,
            None => &vec![0.0; n],
        };
        let row = |a: &[f64]| -> Vec<f64> {
            let product = |j| (0..k).map(|i| a[i] * w[i * n + j]).sum::<f64>();
            cols.clone().map(|j| product(j) + b[j]).collect()
        };
        a.chunks(k).flat_map(row).collect()
    }
    /// Σ over the last `window` keys j ≤ i of softmax(⟨qᵢ, kⱼ⟩/√d)·vⱼ, head
    /// by head.
    fn literal(&self, window: usize) -> Vec<f64> {
        let Heads { heads, kv_heads, head } = self.h;
        let rope = Rope::new(head, 8, 100.0);
        let t = self.s.time;
        let mut mix = vec![0.0; self.s.rows() * heads * head];
        for h in 0..heads {
            let kv = h / (heads / kv_heads);
            let project = |name, h: usize, turn: bool| {
                let cols = h * head..(h + 1) * head;
                let mut y = self.map(&self.x, name, cols);
                if turn {
                    rope_forward(&mut y, head, t, 0, &rope);
                }
                y
            };
            let (q, k, v) = (
                project("q", h, true),
                project("k", kv, true),
                project("v", kv, false),
            );
            for i in 0..self.s.rows() {
                let first = (i / t * t).max((i + 1).saturating_sub(window));
                let keys: Vec<usize> = (first..=i).collect();
                let row = |x: &[f64], i: usize| x[i * head..][..head].to_vec();
                let score = |&j: &usize| {
                    let dot = dot(&row(&q, i), &row(&k, j));
                    (dot / (head as f64).sqrt()).exp()
                };
                let e: Vec<f64> = keys.iter().map(score).collect();
                let sum: f64 = e.iter().sum();
                for c in 0..head {
                    let part =
                        keys.iter().zip(&e).map(|(j, e)| e * v[j * head + c]);
                    mix[(i * heads + h) * head + c] = part.sum::<f64>() / sum;
                }
            }
        }
        self.map(&mix, "o", 0..self.d)
    }
    fn dx(&self, dy: &[f64]) -> Vec<f64> {
        let (mut a, mut g) = (self.layer.acts(self.s), self.layer.acts(self.s));
        self.layer.forward(&self.p, &self.x, &mut a);
        g.y.copy_from_slice(dy);
        let mut dx = vec![f64::NAN; dy.len()];
        let mut dp = self.layout.grads();
        self.layer.backward(&self.p, &self.x, &a, &mut g, &mut dx, &mut dp);
        dx
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn attention_is_its_formula(a in attention(), cut in 0..7usize) {
        let mut acts = a.layer.acts(a.s);
        a.layer.forward(&a.p, &a.x, &mut acts);
        prop_assert!(gap(&acts.y, &a.literal(a.s.time)) < 1e-12);
        // and so is a cache that is filled in two parts
        let (t, row) = (a.s.time, a.d);
        let cut = cut % (t + 1);
        for b in 0..a.s.batch {
            let mut cache = a.layer.cache(usize::MAX); // born NaN
            for part in [0..cut, cut..t].into_iter().filter(|p| !p.is_empty()) {
                let rows = (b * t + part.start) * row..(b * t + part.end) * row;
                let mut now = a.layer.acts_cached(part.len());
                let x = &a.x[rows.clone()];
                a.layer.extend(&a.p, x, &mut now, &mut cache, part.start);
                prop_assert!(gap(&now.y, &acts.y[rows]) < 1e-12);
            }
        }
        // and so is a window, row by row
        let window = cut + 1;
        let want = a.literal(window);
        for b in 0..a.s.batch {
            let mut cache = a.layer.cache(window);
            for start in 0..t {
                let rows = (b * t + start) * row..(b * t + start + 1) * row;
                let mut now = a.layer.acts_cached(1);
                let x = &a.x[rows.clone()];
                a.layer.extend(&a.p, x, &mut now, &mut cache, start);
                prop_assert!(gap(&now.y, &want[rows]) < 1e-12);
            }
        }
    }

    #[test]
    fn blocks_of_attention_change_no_bit(t in 0..100usize, cached in 0..40usize,
        g in 1..4usize, d in 1..40usize, seed: u64) {
        in_blocks::<f32>([t, cached, g, d], seed)?;
        in_blocks::<Bf16>([t, cached, g, d], seed)?;
    }

    #[test]
    fn nothing_flows_back_from_the_past(a in attention(), at in 0..99usize,
                                        seed: u64) {
        let (n, t) = (a.s.rows(), a.s.time);
        let i = at % n;
        let mut dy = vec![0.0; n * a.d];
        let row = normals(a.d, 1.0, &mut Rng::new(seed, 11));
        dy[i * a.d..][..a.d].copy_from_slice(&row);
        let dx = a.dx(&dy);
        for (j, dx) in dx.chunks(a.d).enumerate() {
            let flows = j / t == i / t && j <= i;
            let any = dx.iter().any(|&d| d != 0.0);
            prop_assert_eq!(any, flows, "from {} to {} of {}", i, j, t);
        }
    }
}

fn models() -> impl Strategy<Value = (Config, Shape, u64)> {
    let heads = (1..3usize, 1..3usize, 1..3usize);
    let experts = (1..6usize).prop_flat_map(|e| (Just(e), 1..=e));
    let sizes = (2..9usize, 1..8usize, 1..3usize, 1..6usize);
    let shape = (1..3usize, 1..6usize);
    (heads, experts, sizes, shape, any::<u64>()).prop_map(
        |(heads, experts, sizes, shape, seed)| {
            let ((kv_heads, group, half), (experts, top_k)) = (heads, experts);
            let (vocab, hidden, layers, intermediate) = sizes;
            let config = Config {
                vocab,
                hidden,
                layers,
                heads: kv_heads * group,
                kv_heads,
                head: 2 * half,
                experts,
                top_k,
                intermediate,
                context: 8,
                rms_eps: 0.01,
                rope_theta: 100.0,
                aux: 0.01,
                init: 0.5,
                tied: false,
                attention_bias: seed % 2 == 1,
            };
            (config, Shape { batch: shape.0, time: shape.1 }, seed)
        },
    )
}
/// The total loss of one batch, and its gradient.
fn step<T: Real>(
    m: &Model, p: &Params<T>, s: Shape, b: Batch,
) -> (Losses<T::Wide>, ParamGrads<T>) {
    let coef = Coefficients { ce: 1.0, aux: 0.7, z: 0.3 };
    let mut gradient = Gradient::<T>::new(m, s, s.batch, coef, false);
    let (losses, dp) = gradient.compute(m, p, b);
    (losses, dp.clone())
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn the_gradient_of_any_model((config, s, seed) in models()) {
        let mut rng = Rng::new(seed, 12);
        let m = Model::new(config).expect("sizes that fit");
        let mut token = |_| rng.below(m.config.vocab);
        let x: Vec<usize> = (0..s.rows()).map(&mut token).collect();
        let y: Vec<usize> = (0..s.rows()).map(&mut token).collect();
        let b = Batch { tokens: &x, targets: &y };
        let p = values(&m.layout, &mut rng);
        let (losses, g) = step(&m, &p, s, b);
        // T2 along one direction for each tensor: |⟨x̄, u⟩ − J·u| ≤
        // 1e-12·‖x̄‖·‖u‖, of the whole where a tensor's own is a difference
        let u = normals(m.layout.len, 1.0, &mut rng);
        for e in &m.layout.entries {
            let same = p.data.iter().map(|&v| Dual { v, d: 0.0 });
            let mut dual = p.like(same.collect::<Vec<_>>());
            for i in e.param.range() {
                dual.data[i].d = u[i];
            }
            let (dl, _) = step(&m, &dual, s, b);
            prop_assert_eq!(dl.total.v, losses.total);
            let u = &u[e.param.range()];
            let off = (dl.total.d - dot(&g[e.param], u)).abs();
            let all = dot(&g.data, &g.data).max(1.0);
            let size = (all * dot(u, u)).sqrt();
            prop_assert!(off <= 1e-12 * size, "{}: {:e}", e.name, off / size);
        }
    }
}

/// Passes with memory for a backward and without it, with 16-bit numbers too.
fn forward_alone<T: Real>(m: &Model, s: Shape, rng: &mut Rng) {
    let x = (0..s.rows()).map(|_| rng.below(m.config.vocab));
    let x: Vec<usize> = x.collect();
    let p = m.init::<T>(rng.bits64());
    let [mut kept, mut alone] = [m.acts(s, false), m.acts_forward(s)];
    m.forward(&p, &x, &mut kept);
    m.forward(&p, &x, &mut alone);
    let bits = |a: &Acts<T>| -> Vec<u64> {
        a.head.y.iter().map(|x| x.f64().to_bits()).collect()
    };
    assert!(bits(&kept) == bits(&alone), "{s:?} of {:?}", m.config);
    let g = m.config.heads / m.config.kv_heads;
    let room = prob_room::<T>(s.time * g, s.time, g);
    assert_eq!(alone.blocks[0].attention.prob.len(), room, "room for P");
}
proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn a_forward_that_keeps_no_p_has_the_same_bits(
        (config, s, seed) in models(), time in 1..80usize) {
        let m = Model::new(Config { context: 80, ..config }).unwrap();
        let (s, rng) = (Shape { time, ..s }, &mut Rng::new(seed, 13));
        forward_alone::<f32>(&m, s, rng);
        forward_alone::<Bf16>(&m, s, rng);
    }
}
/// A backward with memory that lacks P.
fn backward_alone<T: Real>(batch: usize, time: usize) {
    let m = Model::new(Config::preset("tiny").unwrap()).unwrap();
    let s = Shape { batch, time };
    let (p, x) = (m.init::<T>(0), vec![0; s.rows()]);
    let (mut a, mut g) = (m.acts_forward(s), m.grads(s));
    let mut dp = m.layout.grads();
    m.forward(&p, &x, &mut a);
    g.head.y.fill(T::ONE);
    m.backward(&p, &x, &mut a, &mut g, &mut dp);
}
#[test]
#[should_panic(expected = "no backward follows `acts_forward`")]
fn no_backward_without_all_blocks() {
    backward_alone::<f32>(1, 40);
}
#[test]
#[should_panic(expected = "no backward follows `acts_forward`")]
fn no_backward_without_all_sequences() {
    backward_alone::<f32>(2, 8);
}
#[test]
#[should_panic(expected = "no backward follows `acts_forward`")]
fn no_backward_without_all_sequences_in_16_bits() {
    backward_alone::<Bf16>(2, 40);
}

/// What a config says of a model's sizes is what the model has.
#[test]
fn the_sizes_of_a_config_are_those_of_its_model() {
    for (name, bias) in [("tiny", false), ("tiny", true), ("bytes", false)] {
        let preset = Config::preset(name).unwrap();
        let c = Config { attention_bias: bias, ..preset };
        let m = Model::new(c.clone()).unwrap();
        let built = [m.layout.len, m.layout.entries.len()];
        assert_eq!([c.total(), c.tensors()], built.map(|n| n as u64), "{name}");
        let caches = || {
            let each = m.blocks.iter().map(|b| b.cache::<f32>(c.context));
            each.collect::<Vec<_>>()
        };
        let rotary = || Rope::new(c.head, c.context, c.rope_theta);
        // shorter than what begins at a page
        assert!(memory::cache(&c) < 1 << 20 && memory::rotary(&c) < 1 << 20);
        assert_eq!(bytes(caches).0, memory::cache(&c), "{name}: caches");
        assert_eq!(bytes(rotary).0, memory::rotary(&c), "{name}: angles");
    }
}

/// A run whose bytes are beyond any number is still answered.
#[test]
fn a_run_beyond_all_numbers_is_counted_as_one() {
    let m = Model::new(Config::preset("bytes").unwrap()).unwrap();
    let (batch, seq, accumulate) = (1 << 30, 256, 1 << 30);
    let o = Options { batch, seq, accumulate, ..Options::default() };
    let adam = |l: &_| AdamW::<f32>::new(l, o.decay, Decay::Weights);
    assert_eq!(Account::new(&m, &o, 1000, 1, adam).total(), u64::MAX);
}
