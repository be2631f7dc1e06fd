//! Chapter: attention, heads. Proofs of causal softmax and of attention.

use super::parity::{ETA, LENGTH, Pair, gamma, numbers, report, wide};
use super::softmax::softmax_bounds;
use super::tools::{
    Built, Check, D, LONG, add_bias, built, check, composed, formula,
    invariant, layer_proof, product, proof, random, sum, worst,
};
use crate::field::Field;
use crate::gradcheck::{Function, Measure, Report};
use crate::kernel::fast;
use crate::kernel::matrix::{mat, mat_mut};
use crate::kernel::simd::Isa;
use crate::kernel::softmax as soft;
use crate::kernel::vector::dot;
use crate::nn::attention::{self as att, Attention, Heads};
use crate::nn::rope::{Rope, rope_forward};
use crate::params::Builder;
use crate::real::Real;
use std::sync::Arc;

pub(super) const CHECKS: &[Check] = &[
    check("causal-mask", causal_mask),
    composed(
        "causal-softmax-backward",
        causal_softmax_backward,
        &["softmax-backward"],
    ),
    check("attention-forward", forward),
    composed(
        "attention-backward",
        backward,
        &["matmul-backward", "causal-softmax-backward"],
    ),
    check("attention-delta", delta),
    composed("gqa-reduce", gqa_reduce, &["attention-backward"]),
    composed(
        "attention-layer-backward",
        layer_backward,
        &[
            "linear-backward",
            "linear-backward-bias",
            "rope-backward",
            "attention-backward",
        ],
    ),
];

/// One key head of width d, g query heads on it, t queries, s keys.
struct Grouped {
    t: usize,
    s: usize,
    g: usize,
    d: usize,
}
/// As in training, with two keys from a cache, and with more positions than a
/// block has.
const GROUPED: [Grouped; 3] = [
    Grouped { t: 4, s: 4, g: 3, d: 2 },
    Grouped { t: 3, s: 5, g: 2, d: 4 },
    Grouped { t: 35, s: 38, g: 2, d: 2 },
];
impl Grouped {
    fn inputs(&self) -> [(&'static str, Vec<f64>); 3] {
        let q = random("q", self.t * self.g * self.d);
        let [k, v] = ["k", "v"].map(|n| (n, random(n, self.s * self.d)));
        [("q", q), k, v]
    }
    fn both<T: Real>(&self, x: &[Vec<T>]) -> [Vec<T>; 2] {
        let mut mix = x[0].clone();
        let len = att::prob_len::<T>(self.t * self.g, self.s, self.g);
        let mut prob = vec![T::of(f64::NAN); len];
        let [q, k, v] = [0, 1, 2].map(|i| mat(&x[i], self.d));
        let to = mat_mut(&mut mix, self.d);
        att::attention_forward(to, &mut prob, q, k, v, self.g);
        [mix, prob]
    }
    /// O, and P as one matrix.
    fn matrix<T: Real>(&self, x: &[Vec<T>]) -> [Vec<T>; 2] {
        let [mix, prob] = self.both(x);
        [mix, att::prob_matrix(&prob, self.t * self.g, self.s, self.g)]
    }
    fn grads<T: Real>(&self, x: &[Vec<T>], dmix: &[T]) -> [Vec<T>; 3] {
        let [_, prob] = self.both(x);
        let [q, k, v] = [0, 1, 2].map(|i| mat(&x[i], self.d));
        let [mut dq, mut dk, mut dv] = [0, 1, 2].map(|i| x[i].clone());
        let mut ds = vec![T::of(f64::NAN); prob.len()];
        let to = att::AttentionGrads {
            dq: mat_mut(&mut dq, self.d),
            dk: mat_mut(&mut dk, self.d),
            dv: mat_mut(&mut dv, self.d),
            ds: &mut ds,
        };
        att::attention_backward(to, mat(dmix, self.d), &prob, q, k, v, self.g);
        [dq, dk, dv]
    }
}
impl Grouped {
    /// Δᵢ = Σⱼ Pᵢⱼ·P̄ᵢⱼ with P̄ = Ō·Vᵀ, and ⟨Ōᵢ, Oᵢ⟩.
    fn delta<T: Real>(&self, x: &[Vec<T>], dmix: &[T]) -> [Vec<T>; 2] {
        let [mix, prob] = self.matrix(x);
        let row = |i: usize| i * self.d..(i + 1) * self.d;
        let left = |i: usize| {
            let p = &prob[i * self.s..(i + 1) * self.s];
            let dp = |j| dot(&dmix[row(i)], &x[2][row(j)]);
            (0..self.s).map(|j| p[j] * dp(j)).sum()
        };
        let right = |i: usize| dot(&dmix[row(i)], &mix[row(i)]);
        let n = self.t * self.g;
        [(0..n).map(left).collect(), (0..n).map(right).collect()]
    }
}
impl Function for Grouped {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let [mix, _] = self.both(x);
        (mix, vec![])
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dmix: &[T]) -> Vec<Vec<T>> {
        self.grads(x, dmix).into()
    }
    fn branches<T: Real>(&self, x: &[Vec<T>]) -> Vec<(&'static str, bool)> {
        vec![("a masked key", self.both(x)[1].contains(&T::ZERO))]
    }
}
/// What is measured of each of the sizes.
fn each(f: impl Fn(&Grouped) -> Report) -> Report {
    let [a, b, c] = GROUPED.each_ref().map(f);
    a.and(b.of("with a cache")).and(c.of("two blocks"))
}
fn causal_mask() -> Report {
    each(|h| {
        let [_, prob] = h.matrix(&h.inputs().map(|i| i.1));
        let later = |i: usize| i % h.s > i / h.s / h.g + h.s - h.t;
        let masked = (0..prob.len()).filter(|&i| later(i));
        let sums = prob.chunks(h.s).map(|p| sum(p.iter().copied()) - 1.0);
        invariant("P = 0 for later keys", worst(masked.map(|i| prob[i])), 0.0)
            .with("rows of P sum to 1", worst(sums), 1e-12)
    })
    .and(report([parity(Isa::current(), &numbers(1), LENGTH, 1, SCALE)]))
}
/// Scores of two heads: three queries on five keys.
struct Masked;
impl Function for Masked {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut p = x[0].clone();
        soft::causal_softmax_forward(&mut p, 5, 2, 2, 0.6);
        (p, vec![])
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        let (p, mut d) = (self.forward(x).0, dy.to_vec());
        soft::causal_softmax_backward(&mut d, &p, 5, 0.6);
        vec![d]
    }
    fn branches<T: Real>(&self, x: &[Vec<T>]) -> Vec<(&'static str, bool)> {
        vec![("a masked key", self.forward(x).0.contains(&T::ZERO))]
    }
}
fn causal_softmax_backward() -> Report {
    let (isa, mut p) = (Isa::current(), numbers(1));
    let z = &mut p;
    let (keys, scale) = (LENGTH, SCALE);
    let first = keys - z.len() / keys;
    isa.run(fast::CausalSoftmaxForward { z, keys, first, group: 1, scale });
    let fast = parity_gradient(isa, &numbers(2), &p, keys, scale);
    proof(&Masked, &[("z", random("z", 30))]).and(report([fast]))
}
fn backward() -> Report {
    each(|h| proof(h, &h.inputs()))
}
fn delta() -> Report {
    each(|h| {
        let x = h.inputs().map(|i| i.1);
        let [l, r] = h.delta(&x, &random("dmix", x[0].len()));
        let mut report = formula("Σ P·P̄ = ⟨Ō, O⟩", &l, &r);
        // The same over the field, at the whole numbers from 1 on.
        let mut next = 0;
        let mut numbers = |n: usize| -> Vec<Field> {
            (0..n).map(|_| (next += 1, Field::new(next)).1).collect()
        };
        let x = x.map(|x| numbers(x.len()));
        let [l, r] = h.delta(&x, &numbers(x[0].len()));
        let equal = Measure::equality("Σ P·P̄ = ⟨Ō, O⟩", l == r, "one point");
        report.measures.push(equal);
        report
    })
}
fn gqa_reduce() -> Report {
    each(|h| {
        // Each query head with the key head to itself, and then summed.
        let x = h.inputs().map(|i| i.1);
        let dmix = random("dmix", x[0].len());
        let [_, dk, dv] = h.grads(&x, &dmix);
        let alone = Grouped { g: 1, ..*h };
        let (mut sk, mut sv) = (vec![0.0; dk.len()], vec![0.0; dv.len()]);
        for head in 0..h.g {
            let own_rows = |x: &[f64]| -> Vec<f64> {
                let rows = x.chunks(h.d).skip(head).step_by(h.g);
                rows.flatten().copied().collect()
            };
            let inputs = [own_rows(&x[0]), x[1].clone(), x[2].clone()];
            let [_, k, v] = alone.grads(&inputs, &own_rows(&dmix));
            (0..k.len()).for_each(|i| (sk[i] += k[i], sv[i] += v[i]).0);
        }
        let proof = proof(h, &h.inputs());
        let [k, v] = ["k", "v"].map(|n| proof.clone().only(n));
        k.and(v).and(formula("K̄ = Σ over heads", &dk, &sk)).and(formula(
            "V̄ = Σ over heads",
            &dv,
            &sv,
        ))
    })
}

// The layer -----------------------------------------------------------------

/// Groups of two; all queries on one key head; a key head for each.
const HEADS: [(&str, Heads); 3] = [
    ("grouped", Heads { heads: 4, kv_heads: 2, head: 4 }),
    ("one key head", Heads { heads: 4, kv_heads: 1, head: 2 }),
    ("as many", Heads { heads: 2, kv_heads: 2, head: 6 }),
];
/// Builds attention of such heads.
pub(super) fn attention(h: Heads) -> impl Fn(Builder) -> Attention {
    let rope = Arc::new(Rope::new(h.head, 5, 100.0));
    move |b| Attention::new(b, D, h, rope.clone())
}
/// The same, with biases.
fn biased(h: Heads) -> impl Fn(Builder) -> Attention {
    let rope = Arc::new(Rope::new(h.head, 5, 100.0));
    move |b| Attention::with_bias(b, D, h, rope.clone())
}
/// Attention of one sequence head by head, as the formula says it.
fn literal(l: &Built<Attention>, h: Heads, x: &[f64]) -> Vec<f64> {
    let (t, d) = (x.len() / D, h.head);
    let rope = Rope::new(d, t, 100.0);
    let map = |x: &[f64], w: &str, b: &str, d: usize| {
        let mut y = product(x, l.get(w), d);
        if l.layer.bias.is_some() {
            add_bias(&mut y, l.get(b));
        }
        y
    };
    let (mut q, mut k) = (map(x, "wq", "bq", D), map(x, "wk", "bk", D));
    let v = map(x, "wv", "bv", D);
    rope_forward(&mut q, h.heads * d, t, 0, &rope);
    rope_forward(&mut k, h.kv_heads * d, t, 0, &rope);
    let mut mix = vec![0.0; t * h.heads * d];
    for i in 0..t {
        for head in 0..h.heads {
            let kv = head / (h.heads / h.kv_heads);
            let columns = |m: usize, h: usize, heads: usize| {
                (m * heads + h) * d..(m * heads + h + 1) * d
            };
            let q = &q[columns(i, head, h.heads)];
            let score = |j| {
                let k = &k[columns(j, kv, h.kv_heads)];
                (dot(q, k) / (d as f64).sqrt()).exp()
            };
            let all: f64 = (0..=i).map(score).sum();
            for j in 0..=i {
                let v = &v[columns(j, kv, h.kv_heads)];
                let to = &mut mix[columns(i, head, h.heads)];
                (0..d).for_each(|c| to[c] += score(j) / all * v[c]);
            }
        }
    }
    map(&mix, "wo", "bo", h.heads * d)
}
/// What is measured with each kind of heads.
pub(super) fn with_heads(f: impl Fn(&str, Heads) -> Report) -> Report {
    let reports = HEADS.map(|(name, h)| f(name, h));
    reports.into_iter().reduce(Report::and).unwrap_or_default()
}
fn forward() -> Report {
    with_heads(|name, h| {
        let x = random("x", 10 * D);
        let proof = |what: &str, l: Built<Attention>| {
            let each = x.chunks(5 * D).map(|x| literal(&l, h, x));
            let want = each.collect::<Vec<_>>().concat();
            formula(what, &l.forward(&x, LONG), &want)
        };
        let bias = format!("{name}, biases");
        proof(name, built(attention(h))).and(proof(&bias, built(biased(h))))
    })
}
fn layer_backward() -> Report {
    with_heads(|name, h| {
        let biased = layer_proof(biased(h), LONG).of("biases");
        layer_proof(attention(h), LONG).and(biased).of(name)
    })
}

// In f32 --------------------------------------------------------------------

const SCALE: f32 = 0.353_553_4; // 1/√8

/// T5 of causal softmax of z: [t·g, s], s = `keys`, g = `group`, the last query
/// at the last key. The future is 0, exactly.
pub fn parity(
    isa: Isa, z: &[f32], keys: usize, group: usize, scale: f32,
) -> Pair {
    let (mut p, mut want) = (z.to_vec(), wide(z));
    let first = keys - z.len() / keys / group;
    let z_p = &mut p;
    isa.run(fast::CausalSoftmaxForward { z: z_p, keys, first, group, scale });
    soft::causal_softmax_forward(&mut want, keys, first, group, scale.into());
    let mut bound = vec![];
    for (r, z) in z.chunks(keys).enumerate() {
        let seen = first + r / group + 1;
        bound.extend(softmax_bounds(&z[..seen], scale).p);
        bound.resize((r + 1) * keys, 0.0);
    }
    Pair::new(isa, "causal softmax", p, want, |i| bound[i])
}

/// T5 of causal softmax, backward, from P: [n, s].
pub fn parity_gradient(
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
