//! Chapter: gradcheck. Proofs of the kernels: each against its formula, spelled
//! out, and each backward against its forward.

use super::parity;
use crate::gradcheck::{
    Function, Measure, Plan, Report, gap, measure, nan_max, normals,
};
use crate::kernel::activation::{
    glu_backward as glu_bwd, glu_forward as glu_fwd, silu_backward as silu_bwd,
    silu_forward as silu_fwd,
};
use crate::kernel::matrix::{Set, mat, mat_mut};
use crate::kernel::softmax as soft;
use crate::kernel::vector::dot;
use crate::nn::{
    attention as att, balance, embedding, loss, moe, rmsnorm, rope, router,
};
use crate::real::{Dual, Real};
use crate::rng::Rng;

/// Random numbers of scale 1.5 that belong to a name.
pub(super) fn random(name: &str, n: usize) -> Vec<f64> {
    normals(n, 1.5, &mut Rng::named(3, name))
}
/// T1 and T2 of a function on its named inputs.
fn proof<F: Function>(f: &F, inputs: &[(&str, Vec<f64>)]) -> Report {
    let names: Vec<String> = inputs.iter().map(|i| i.0.to_string()).collect();
    let x = inputs.iter().map(|i| i.1.clone()).collect();
    measure(f, &names, x, Plan::LAYER)
}
/// A formula evaluated literally: within 10⁻¹² of the size of the result.
pub(super) fn formula(what: &str, got: &[f64], want: &[f64]) -> Report {
    let size = want.iter().fold(1.0, |m: f64, w| m.max(w.abs()));
    invariant(what, gap(got, want) / size, 1e-12)
}
pub(super) fn invariant(what: &str, error: f64, bound: f64) -> Report {
    let measures = vec![Measure::invariant(what, error, bound)];
    Report { measures, choices: vec![] }
}
/// Something that holds or does not.
pub(super) fn fact(what: &str, holds: bool) -> Report {
    invariant(what, if holds { 0.0 } else { 1.0 }, 0.0)
}
fn sum(x: impl IntoIterator<Item = f64>) -> f64 {
    x.into_iter().sum()
}
/// What `f` adds to n numbers that are not 0 before.
fn added(n: usize, f: impl FnOnce(&mut [f64])) -> Vec<f64> {
    let mut x = vec![1.0; n];
    f(&mut x);
    x.iter().map(|x| x - 1.0).collect()
}
fn worst(x: impl IntoIterator<Item = f64>) -> f64 {
    x.into_iter().map(f64::abs).fold(0.0, nan_max)
}

// Chapter: matmul -----------------------------------------------------------

/// C = A·B with A [m, k], B [k, n].
struct Product {
    m: usize,
    k: usize,
    n: usize,
}
impl Product {
    const ODD: Self = Self { m: 3, k: 5, n: 4 };
    fn inputs(&self) -> [(&'static str, Vec<f64>); 2] {
        let Self { m, k, n } = *self;
        [("a", random("a", m * k)), ("b", random("b", k * n))]
    }
    fn literal(&self, a: impl Fn(usize, usize) -> f64, b: &[f64]) -> Vec<f64> {
        let Self { m, k, n } = *self;
        let at = |i, j| sum((0..k).map(|l| a(i, l) * b[l * n + j]));
        (0..m * n).map(|i| at(i / n, i % n)).collect()
    }
}
impl Function for Product {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut c = vec![T::ZERO; self.m * self.n];
        let (a, b) = (mat(&x[0], self.k), mat(&x[1], self.n));
        crate::kernel::matrix::matmul(mat_mut(&mut c, self.n), Set, a, b);
        (c, vec![])
    }
    fn backward(&self, x: &[Vec<f64>], dc: &[f64]) -> Vec<Vec<f64>> {
        use crate::kernel::matrix::matmul;
        let (a, b) = (mat(&x[0], self.k), mat(&x[1], self.n));
        let (mut da, mut db) = (x[0].clone(), x[1].clone());
        let dc = mat(dc, self.n);
        matmul(mat_mut(&mut da, self.k), Set, dc, b.t());
        matmul(mat_mut(&mut db, self.n), Set, a.t(), dc);
        vec![da, db]
    }
}
pub(super) fn matmul() -> Report {
    let f = Product::ODD;
    let [a, b] = f.inputs();
    let want = f.literal(|i, l| a.1[i * f.k + l], &b.1);
    let (c, _) = f.forward(&[a.1, b.1]);
    formula("cᵢⱼ = Σ aᵢₗbₗⱼ", &c, &want).and(parity::of_matmul())
}
pub(super) fn matmul_transposed_b() -> Report {
    let Product { m, k, n } = Product::ODD;
    let (a, b) = (random("a", m * k), random("b", n * k));
    let mut c = vec![f64::NAN; m * n];
    let (am, bt) = (mat(&a, k), mat(&b, k).t());
    crate::kernel::matrix::matmul(mat_mut(&mut c, n), Set, am, bt);
    let at = |i, j| sum((0..k).map(|l| a[i * k + l] * b[j * k + l]));
    let want: Vec<f64> = (0..m * n).map(|i| at(i / n, i % n)).collect();
    formula("cᵢⱼ = Σ aᵢₗbⱼₗ", &c, &want)
}
pub(super) fn matmul_backward() -> Report {
    let f = Product::ODD;
    let (x, dc) = (f.inputs().map(|i| i.1), random("dc", f.m * f.n));
    let (c, _) = f.forward(&x);
    let [da, db] = &f.backward(&x, &dc)[..] else { unreachable!("of A, of B") };
    let both = [dot(da, &x[0]), dot(db, &x[1])];
    proof(&f, &f.inputs()).and(formula(
        "⟨Ā, A⟩ = ⟨B̄, B⟩ = ⟨C̄, C⟩",
        &both,
        &[dot(&dc, &c); 2],
    ))
}

// Chapter: gradcheck --------------------------------------------------------

pub(super) fn dual_number() -> Report {
    let x = Dual { v: 1.7, d: 1.0 };
    let one = Dual::ONE;
    // f = √(e^{1/x} + x·ln x) / (x − 3), its derivative by hand
    let f = ((one / x).exp() + x * x.ln()).sqrt() / (x - Dual::of(3.0));
    let v = 1.7f64;
    let (s, t) = ((1.0 / v).exp() + v * v.ln(), v - 3.0);
    let ds = -(1.0 / v).exp() / (v * v) + v.ln() + 1.0;
    let want = ds / (2.0 * s.sqrt() * t) - s.sqrt() / (t * t);
    formula("(f/g)′, √, exp, ln", &[f.v, f.d], &[s.sqrt() / t, want])
}

// Chapter: softmax ----------------------------------------------------------

const N: usize = 5;
fn scores() -> Vec<f64> {
    random("scores", 3 * N)
}
/// Each row of N numbers by itself.
fn rows(x: &[f64], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    x.chunks(N).flat_map(f).collect()
}
struct Lse;
impl Function for Lse {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        (x[0].chunks(N).map(soft::lse_forward).collect(), vec![])
    }
    fn backward(&self, x: &[Vec<f64>], dy: &[f64]) -> Vec<Vec<f64>> {
        vec![added(x[0].len(), |dz| {
            for (i, z) in x[0].chunks(N).enumerate() {
                let to = &mut dz[i * N..(i + 1) * N];
                soft::lse_backward(to, dy[i], z, soft::lse_forward(z));
            }
        })]
    }
}
pub(super) fn lse_forward() -> Report {
    let want = |z: &[f64]| vec![sum(z.iter().map(|z| z.exp())).ln()];
    let (got, _) = Lse.forward(&[scores()]);
    let infinite = f64::NEG_INFINITY;
    formula("ln Σ exp z", &got, &rows(&scores(), want))
        .and(formula(
            "large scores",
            &[soft::lse_forward(&[1e4, 1e4]), soft::lse_forward(&[-1e4, -1e5])],
            &[1e4 + 2f64.ln(), -1e4],
        ))
        .and(fact("of −∞ alone", soft::lse_forward(&[infinite; 2]) == infinite))
}
pub(super) fn lse_backward() -> Report {
    proof(&Lse, &[("z", scores())])
}
struct Softmax;
impl Function for Softmax {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut p = x[0].clone();
        for p in p.chunks_mut(N) {
            soft::softmax_forward(p);
        }
        (p, vec![])
    }
    fn backward(&self, x: &[Vec<f64>], dy: &[f64]) -> Vec<Vec<f64>> {
        let (p, mut d) = (self.forward(x).0, dy.to_vec());
        for (d, p) in d.chunks_mut(N).zip(p.chunks(N)) {
            soft::softmax_backward(d, p);
        }
        vec![d]
    }
}
pub(super) fn softmax_forward() -> Report {
    let literal = |z: &[f64]| {
        let s = sum(z.iter().map(|z| z.exp()));
        z.iter().map(|z| z.exp() / s).collect()
    };
    let of = |z: Vec<f64>| Softmax.forward(&[z]).0;
    let shifted = scores().iter().map(|z| z + 800.0).collect();
    let p = of(scores());
    let mut edge = [f64::NEG_INFINITY, 0.0, 1e5];
    let lse = soft::softmax_forward(&mut edge);
    let mut none = [f64::NEG_INFINITY; 3];
    soft::softmax_forward(&mut none);
    formula("exp z / Σ exp z", &p, &rows(&scores(), literal))
        .and(formula("softmax(z + c) = softmax(z)", &of(shifted), &p))
        .and(formula("scores of −∞ and 10⁵", &edge, &[0.0, 0.0, 1.0]))
        .and(formula("returns the log-sum-exp", &[lse], &[1e5]))
        .and(fact("of −∞ alone: 0", none == [0.0; 3]))
        .and(parity::of_softmax())
}
pub(super) fn softmax_backward() -> Report {
    let dy = random("dp", 3 * N);
    let d = &Softmax.backward(&[scores()], &dy)[0];
    let sums = d.chunks(N).map(|d| sum(d.iter().copied()));
    let mut report = proof(&Softmax, &[("z", scores())]);
    report = report.with("Σ z̄ = 0", worst(sums), 1e-12);
    report
}

// Chapter: silu -------------------------------------------------------------

struct Silu;
impl Function for Silu {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        (x[0].iter().map(|&z| silu_fwd(z)).collect(), vec![])
    }
    fn backward(&self, x: &[Vec<f64>], dy: &[f64]) -> Vec<Vec<f64>> {
        vec![dy.iter().zip(&x[0]).map(|(&dy, &z)| silu_bwd(dy, z)).collect()]
    }
}
pub(super) fn silu_forward() -> Report {
    let want: Vec<f64> =
        scores().iter().map(|z| z / (1.0 + (-z).exp())).collect();
    let (low, high) = (silu_fwd(-1e4), silu_fwd(1e4));
    formula("z / (1 + exp(−z))", &Silu.forward(&[scores()]).0, &want)
        .and(formula("far out", &[low, high], &[0.0, 1e4]))
}
pub(super) fn silu_backward() -> Report {
    proof(&Silu, &[("z", scores())])
}
struct Glu;
impl Function for Glu {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut h = vec![T::ZERO; x[0].len()];
        glu_fwd(&mut h, &x[0], &x[1]);
        (h, vec![])
    }
    fn backward(&self, x: &[Vec<f64>], dh: &[f64]) -> Vec<Vec<f64>> {
        let (mut dgate, mut dup) = (x[0].clone(), x[1].clone());
        glu_bwd(&mut dgate, &mut dup, dh, &x[0], &x[1]);
        vec![dgate, dup]
    }
}
fn gate_and_up() -> [(&'static str, Vec<f64>); 2] {
    [("gate", random("gate", 15)), ("up", random("up", 15))]
}
pub(super) fn glu_forward() -> Report {
    let [(_, gate), (_, up)] = gate_and_up();
    let literal = |(z, u): (&f64, &f64)| z / (1.0 + (-z).exp()) * u;
    let want: Vec<f64> = gate.iter().zip(&up).map(literal).collect();
    formula("silu(gate)·up", &Glu.forward(&[gate, up]).0, &want)
        .and(parity::of_glu())
}
pub(super) fn glu_backward() -> Report {
    proof(&Glu, &gate_and_up()).and(parity::of_glu_gradient())
}

// Chapter: linear -----------------------------------------------------------

/// Width 3; the row 2 is read three times, the rows 1, 3, 4 never.
struct Lookup;
const TOKENS: [usize; 6] = [2, 5, 2, 0, 6, 2];
impl Function for Lookup {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut y = vec![T::ZERO; TOKENS.len() * 3];
        embedding::embedding_forward(&mut y, &x[0], &TOKENS);
        (y, vec![])
    }
    fn backward(&self, x: &[Vec<f64>], dy: &[f64]) -> Vec<Vec<f64>> {
        vec![added(x[0].len(), |dtable| {
            embedding::embedding_backward(dtable, dy, &TOKENS);
        })]
    }
}
pub(super) fn embedding_forward() -> Report {
    let table = random("table", 7 * 3);
    let want: Vec<f64> =
        (0..18).map(|i| table[TOKENS[i / 3] * 3 + i % 3]).collect();
    formula("xₜ = E[iₜ]", &Lookup.forward(&[table]).0, &want)
}
pub(super) fn embedding_backward() -> Report {
    let dy = random("dx", 18);
    let got = &Lookup.backward(&[vec![0.0; 21]], &dy)[0];
    // Ē = OᵀX̄ with O the one-hot rows
    let at = |v: usize, j: usize| {
        sum((0..6).filter(|&t| TOKENS[t] == v).map(|t| dy[t * 3 + j]))
    };
    let want: Vec<f64> = (0..21).map(|i| at(i / 3, i % 3)).collect();
    proof(&Lookup, &[("table", random("table", 21))]).and(formula(
        "Oᵀ·X̄",
        got,
        &want,
    ))
}

// Chapter: rmsnorm ----------------------------------------------------------

/// Width N.
struct Norm(f64);
impl Norm {
    fn r<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<T>) {
        let (mut y, mut r) = (x[0].clone(), vec![T::ZERO; x[0].len() / N]);
        rmsnorm::rmsnorm_forward(&mut y, &mut r, &x[0], &x[1], self.0);
        (y, r)
    }
}
impl Function for Norm {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        (self.r(x).0, vec![])
    }
    fn backward(&self, x: &[Vec<f64>], dy: &[f64]) -> Vec<Vec<f64>> {
        let (mut dx, r) = (x[0].clone(), self.r(x).1);
        let dgain = added(N, |d| {
            rmsnorm::rmsnorm_backward(&mut dx, d, dy, &x[0], &x[1], &r);
        });
        vec![dx, dgain]
    }
}
/// A large ε, so that a forgotten one shows.
const EPS: f64 = 0.3;
fn x_and_gain() -> [(&'static str, Vec<f64>); 2] {
    let gain = random("gain", N).iter().map(|g| 1.0 + 0.2 * g).collect();
    [("x", scores()), ("gain", gain)]
}
pub(super) fn rmsnorm_forward() -> Report {
    let [(_, x), (_, gain)] = x_and_gain();
    let literal = |x: &[f64]| {
        let mean = sum(x.iter().map(|x| x * x)) / N as f64;
        let of = |(x, g): (&f64, &f64)| g * x / (mean + EPS).sqrt();
        x.iter().zip(&gain).map(of).collect()
    };
    let want = rows(&x, literal);
    let got = Norm(EPS).forward(&[x, gain.clone()]).0;
    formula("γ·x / √(mean x² + ε)", &got, &want).and(parity::of_rmsnorm())
}
pub(super) fn rmsnorm_backward() -> Report {
    let [fast, _] = parity::of_rmsnorm_gradient();
    proof(&Norm(EPS), &x_and_gain()).only("x").and(fast)
}
pub(super) fn rmsnorm_backward_gamma() -> Report {
    let [_, fast] = parity::of_rmsnorm_gradient();
    proof(&Norm(EPS), &x_and_gain()).only("gain").and(fast)
}
pub(super) fn rmsnorm_orthogonal() -> Report {
    let [x, gain] = x_and_gain().map(|i| i.1);
    let (dy, inputs) = (random("dy", 3 * N), [x.clone(), gain.clone()]);
    let (r, dx) = (Norm(EPS).r(&inputs).1, Norm(EPS).backward(&inputs, &dy));
    let row = |i: usize| i * N..(i + 1) * N;
    let got: Vec<f64> =
        (0..3).map(|i| dot(&x[row(i)], &dx[0][row(i)])).collect();
    let want = (0..3).map(|i| {
        let u = row(i).map(|j| gain[j % N] * dy[j] * x[j]);
        EPS * r[i].powi(3) * sum(u)
    });
    formula("⟨x, x̄⟩ = ε·r³·⟨u, x⟩", &got, &want.collect::<Vec<_>>())
}

// Chapter: attention, heads -------------------------------------------------

/// One key head of width d, g query heads on it, t queries, s keys.
struct Heads {
    t: usize,
    s: usize,
    g: usize,
    d: usize,
}
/// As in training, and with two keys from a cache.
const HEADS: [Heads; 2] =
    [Heads { t: 4, s: 4, g: 3, d: 2 }, Heads { t: 3, s: 5, g: 2, d: 4 }];
impl Heads {
    fn inputs(&self) -> [(&'static str, Vec<f64>); 3] {
        let q = random("q", self.t * self.g * self.d);
        let [k, v] = ["k", "v"].map(|n| (n, random(n, self.s * self.d)));
        [("q", q), k, v]
    }
    fn both<T: Real>(&self, x: &[Vec<T>]) -> [Vec<T>; 2] {
        let mut mix = x[0].clone();
        let mut prob = vec![T::ZERO; self.t * self.g * self.s];
        let [q, k, v] = [0, 1, 2].map(|i| mat(&x[i], self.d));
        let to = mat_mut(&mut mix, self.d);
        att::attention_forward(to, &mut prob, q, k, v, self.g);
        [mix, prob]
    }
    fn grads(&self, x: &[Vec<f64>], dmix: &[f64]) -> [Vec<f64>; 4] {
        let [_, prob] = self.both(x);
        let [q, k, v] = [0, 1, 2].map(|i| mat(&x[i], self.d));
        let [mut dq, mut dk, mut dv] = [0, 1, 2].map(|i| x[i].clone());
        let mut ds = vec![f64::NAN; prob.len()];
        let to = att::AttentionGrads {
            dq: mat_mut(&mut dq, self.d),
            dk: mat_mut(&mut dk, self.d),
            dv: mat_mut(&mut dv, self.d),
            ds: &mut ds,
        };
        att::attention_backward(to, mat(dmix, self.d), &prob, q, k, v);
        [dq, dk, dv, ds]
    }
}
impl Function for Heads {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let [mix, _] = self.both(x);
        (mix, vec![])
    }
    fn backward(&self, x: &[Vec<f64>], dmix: &[f64]) -> Vec<Vec<f64>> {
        let [dq, dk, dv, _] = self.grads(x, dmix);
        vec![dq, dk, dv]
    }
}
/// The same measured of both sizes.
fn each(f: impl Fn(&Heads) -> Report) -> Report {
    let [a, b] = HEADS.each_ref().map(f);
    a.and(b.of("with a cache"))
}
pub(super) fn causal_mask() -> Report {
    each(|h| {
        let [_, prob] = h.both(&h.inputs().map(|i| i.1));
        let later = |i: usize| i % h.s > i / h.s / h.g + h.s - h.t;
        let masked = (0..prob.len()).filter(|&i| later(i));
        let sums = prob.chunks(h.s).map(|p| sum(p.iter().copied()) - 1.0);
        invariant("P = 0 for later keys", worst(masked.map(|i| prob[i])), 0.0)
            .with("rows of P sum to 1", worst(sums), 1e-12)
    })
    .and(parity::of_causal_softmax())
}
/// Scores of two heads: three queries on five keys.
struct Masked;
impl Function for Masked {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut p = x[0].clone();
        soft::causal_softmax_forward(&mut p, 5, 2, 0.6);
        (p, vec![])
    }
    fn backward(&self, x: &[Vec<f64>], dy: &[f64]) -> Vec<Vec<f64>> {
        let (p, mut d) = (self.forward(x).0, dy.to_vec());
        soft::causal_softmax_backward(&mut d, &p, 5, 0.6);
        vec![d]
    }
}
pub(super) fn causal_softmax_backward() -> Report {
    proof(&Masked, &[("z", random("z", 30))])
        .and(parity::of_causal_softmax_gradient())
}
pub(super) fn attention_backward() -> Report {
    each(|h| proof(h, &h.inputs()))
}
pub(super) fn attention_delta() -> Report {
    each(|h| {
        let x = h.inputs().map(|i| i.1);
        let dmix = random("dmix", x[0].len());
        let [mix, prob] = h.both(&x);
        let row = |i: usize| i * h.d..(i + 1) * h.d;
        // Δᵢ = Σⱼ Pᵢⱼ·P̄ᵢⱼ with P̄ = Ō·Vᵀ, and ⟨Ōᵢ, Oᵢ⟩
        let left = |i: usize| {
            let p = &prob[i * h.s..(i + 1) * h.s];
            sum((0..h.s).map(|j| p[j] * dot(&dmix[row(i)], &x[2][row(j)])))
        };
        let right = |i: usize| dot(&dmix[row(i)], &mix[row(i)]);
        let n = h.t * h.g;
        let [l, r]: [Vec<f64>; 2] =
            [(0..n).map(left).collect(), (0..n).map(right).collect()];
        formula("Σ P·P̄ = ⟨Ō, O⟩", &l, &r)
    })
}
pub(super) fn gqa_reduce() -> Report {
    each(|h| {
        // Each query head with the key head to itself, and then summed.
        let x = h.inputs().map(|i| i.1);
        let dmix = random("dmix", x[0].len());
        let [_, dk, dv, _] = h.grads(&x, &dmix);
        let alone = Heads { g: 1, ..*h };
        let (mut sk, mut sv) = (vec![0.0; dk.len()], vec![0.0; dv.len()]);
        for head in 0..h.g {
            let of = |x: &[f64]| -> Vec<f64> {
                let rows = x.chunks(h.d).skip(head).step_by(h.g);
                rows.flatten().copied().collect()
            };
            let inputs = [of(&x[0]), x[1].clone(), x[2].clone()];
            let [_, k, v, _] = alone.grads(&inputs, &of(&dmix));
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

// Chapter: rope -------------------------------------------------------------

/// Two sequences of three positions from the second on, two heads of four.
struct Turn;
impl Turn {
    fn table() -> rope::Rope {
        rope::Rope::new(4, 5, 100.0)
    }
}
impl Function for Turn {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut y = x[0].clone();
        rope::rope_forward(&mut y, 8, 3, 2, &Self::table());
        (y, vec![])
    }
    fn backward(&self, _: &[Vec<f64>], dy: &[f64]) -> Vec<Vec<f64>> {
        let mut dx = dy.to_vec();
        rope::rope_backward(&mut dx, 8, 3, 2, &Self::table());
        vec![dx]
    }
}
fn turned(x: &[f64], m: usize) -> Vec<f64> {
    let (table, mut y) = (rope::Rope::new(4, 40, 1e4), x.to_vec());
    rope::rope_forward(&mut y, 4, 1, m, &table);
    y
}
pub(super) fn rope_frequencies() -> Report {
    // The angle by which (1, 0) is turned at position 1 is ω itself.
    let (table, mut x) =
        (rope::Rope::new(6, 2, 500.0), [1.0f64, 0.0].repeat(3));
    rope::rope_forward(&mut x, 6, 1, 1, &table);
    let angle = |p: &[f64]| p[1].atan2(p[0]);
    let got: Vec<f64> = x.chunks(2).map(angle).collect();
    let want = [0, 1, 2].map(|i| 500f64.powf(-2.0 * i as f64 / 6.0));
    formula("ω = b^(−2i/d)", &got, &want)
}
pub(super) fn rope_ntk_base() -> Report {
    let (b, alpha, d) = (1e4, 8.0, 16);
    let omega = |b: f64, i: usize| b.powf(-2.0 * i as f64 / d as f64);
    let scaled = rope::ntk_base(b, alpha, d);
    let ratio = [0, d / 2 - 1].map(|i| omega(scaled, i) / omega(b, i));
    let want = [1.0, 1.0 / alpha];
    formula("fastest as before, slowest α times slower", &ratio, &want)
}
pub(super) fn rope_rotation() -> Report {
    let x = random("x", 48);
    let want = (0..48).map(|i| {
        let (m, pair) = ((2 + i / 8 % 3) as f64, i % 4 / 2);
        let (sin, cos) = (m * 100f64.powf(-(pair as f64) / 2.0)).sin_cos();
        match i % 2 {
            0 => x[i] * cos - x[i + 1] * sin,
            _ => x[i - 1] * sin + x[i] * cos,
        }
    });
    let want: Vec<f64> = want.collect();
    let y = Turn.forward(std::slice::from_ref(&x)).0;
    // The table is made of turns by 16q and by r: here q goes up to 2.
    let all = |m| turned(&[1.0, 0.0, 1.0, 0.0], m);
    let angles = (0..40).flat_map(|m| [1.0, 0.01].map(|w| m as f64 * w));
    let turns: Vec<f64> = angles.flat_map(|a| [a.cos(), a.sin()]).collect();
    formula("R(mω)·x", &y, &want)
        .and(formula(
            "cos mω, sin mω at 40 positions",
            &(0..40).flat_map(all).collect::<Vec<_>>(),
            &turns,
        ))
        .and(formula("‖R·x‖ = ‖x‖", &[dot(&y, &y)], &[dot(&x, &x)]))
        .and(formula("R(0) = I", &turned(&x[..4], 0), &x[..4]))
}
pub(super) fn rope_relative() -> Report {
    let (q, k) = (random("q", 4), random("k", 4));
    let at = |m, n| dot(&turned(&q, m), &turned(&k, n));
    let (want, got) = (dot(&turned(&q, 2), &k), [at(5, 3), at(12, 10)]);
    formula("⟨R₅q, R₃k⟩ = ⟨R₁₂q, R₁₀k⟩ = ⟨R₂q, k⟩", &got, &[want; 2])
}
pub(super) fn rope_backward() -> Report {
    let x = random("x", 48);
    let y = Turn.forward(std::slice::from_ref(&x)).0;
    let back = &Turn.backward(&[], &y)[0];
    proof(&Turn, &[("x", x.clone())]).and(formula("R⁻¹·R·x = x", back, &x))
}

// Chapter: router -----------------------------------------------------------

/// The two most probable of N, from their scores.
struct Chosen;
impl Function for Chosen {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let (mut w, mut choice) = ([T::ZERO; 2], [0; 2]);
        router::top_k(&mut choice, &x[0]);
        router::renormalize_forward(&mut w, &x[0], &choice);
        (w.to_vec(), choice.to_vec())
    }
    fn backward(&self, x: &[Vec<f64>], dw: &[f64]) -> Vec<Vec<f64>> {
        let (w, choice) = self.forward(x);
        vec![added(N, |dp| {
            router::renormalize_backward(dp, dw, &w, &x[0], &choice);
        })]
    }
}
fn probabilities() -> Vec<f64> {
    let mut p = random("router", N);
    soft::softmax_forward(&mut p);
    p
}
pub(super) fn router_topk() -> Report {
    let p = probabilities();
    let (w, choice) = Chosen.forward(std::slice::from_ref(&p));
    let mut order: Vec<usize> = (0..N).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    let two = p[order[0]] + p[order[1]];
    let want = [p[order[0]] / two, p[order[1]] / two];
    let mut ties = [9; 3];
    router::top_k(&mut ties, &[0.1, 0.3, 0.3, 0.3]);
    formula("w = p / Σ p over the chosen", &w, &want)
        .and(fact("the k largest, largest first", choice == order[..2]))
        .and(fact("ties go to the lowest index", ties == [1, 2, 3]))
}
pub(super) fn topk_renorm_backward() -> Report {
    proof(&Chosen, &[("p", probabilities())])
}
pub(super) fn router_short_form() -> Report {
    let (z, dw) = (random("router", N), random("dw", 2));
    let p = probabilities();
    let (w, choice) = Chosen.forward(std::slice::from_ref(&p));
    // the long way: through all N probabilities
    let mut long = Chosen.backward(std::slice::from_ref(&p), &dw).remove(0);
    soft::softmax_backward(&mut long, &p);
    // the short way: w is the softmax of the chosen scores alone
    let (mut few, mut d) = ([z[choice[0]], z[choice[1]]], dw.clone());
    soft::softmax_forward(&mut few);
    soft::softmax_backward(&mut d, &few);
    let mut short = vec![0.0; N];
    (short[choice[0]], short[choice[1]]) = (d[0], d[1]);
    formula("softmax(z)/Σ = softmax of the chosen z", &w, &few).and(formula(
        "z̄, the long and the short way",
        &long,
        &short,
    ))
}

// Chapter: experts ----------------------------------------------------------

/// Three rows of width 2, two choices each, of four experts, one idle.
const CHOICE: [usize; 6] = [3, 0, 0, 1, 3, 1];
const COUNT: [usize; 4] = [2, 2, 0, 2];
fn slots() -> [usize; 6] {
    let (mut slot, mut start) = ([9; 6], [9; 5]);
    moe::dispatch(&mut slot, &mut start, &CHOICE, &COUNT);
    slot
}
struct Gather;
impl Function for Gather {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut sorted = vec![T::ZERO; 12];
        moe::gather_forward(&mut sorted, &x[0], &slots(), 2);
        (sorted, vec![])
    }
    fn backward(&self, _: &[Vec<f64>], dy: &[f64]) -> Vec<Vec<f64>> {
        vec![added(6, |dx| moe::gather_backward(dx, dy, &slots(), 2))]
    }
}
struct Combine;
impl Function for Combine {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut y = vec![T::ZERO; 6];
        moe::combine_forward(&mut y, &x[0], &x[1], &slots());
        (y, vec![])
    }
    fn backward(&self, x: &[Vec<f64>], dy: &[f64]) -> Vec<Vec<f64>> {
        let (mut d_o, mut dw) = (x[0].clone(), x[1].clone());
        moe::combine_backward(&mut d_o, &mut dw, dy, &x[0], &x[1], &slots());
        vec![d_o, dw]
    }
}
fn outputs_and_weights() -> [(&'static str, Vec<f64>); 2] {
    [("o", random("o", 12)), ("w", random("w", 6))]
}
pub(super) fn moe_dispatch() -> Report {
    let (mut slot, mut start) = ([9; 6], [9; 5]);
    moe::dispatch(&mut slot, &mut start, &CHOICE, &COUNT);
    let mut sorted: Vec<usize> = (0..6).collect();
    sorted.sort_by_key(|&i| CHOICE[i]); // stable
    let place = |i| sorted.iter().position(|&s| s == i);
    let placed = (0..6).all(|i| place(i) == Some(slot[i]));
    fact("a stable sort by expert", placed)
        .and(fact("each expert's rows", start == [0, 2, 4, 4, 6]))
}
pub(super) fn moe_gather() -> Report {
    let x = random("x", 6);
    let got = Gather.forward(std::slice::from_ref(&x)).0;
    let mut want = vec![f64::NAN; 12];
    for (i, s) in slots().into_iter().enumerate() {
        (0..2).for_each(|j| want[s * 2 + j] = x[i / 2 * 2 + j]);
    }
    formula("sorted[slot(t, j)] = xₜ", &got, &want)
}
pub(super) fn moe_gather_backward() -> Report {
    proof(&Gather, &[("x", random("x", 6))])
}
pub(super) fn moe_combine() -> Report {
    let [(_, o), (_, w)] = outputs_and_weights();
    let at = |t: usize, j: usize| {
        sum((0..2).map(|c| w[t * 2 + c] * o[slots()[t * 2 + c] * 2 + j]))
    };
    let want: Vec<f64> = (0..6).map(|i| at(i / 2, i % 2)).collect();
    formula("yₜ = Σ w·o", &Combine.forward(&[o, w]).0, &want)
}
pub(super) fn moe_backward_expert() -> Report {
    let [fast, _] = parity::of_combine_gradient();
    proof(&Combine, &outputs_and_weights()).only("o").and(fast)
}
pub(super) fn moe_backward_weight() -> Report {
    let [_, fast] = parity::of_combine_gradient();
    proof(&Combine, &outputs_and_weights()).only("w").and(fast)
}

// Chapter: balance ----------------------------------------------------------

/// The balance loss of N rows that chose k = 2 of four experts each, from their
/// probabilities or, with `scores`, from their scores. N, E and k differ, and
/// none is 1: a factor that is 1 in a test is not tested.
struct Balance {
    scores: bool,
}
impl Balance {
    const COUNT: [usize; 4] = [5, 3, 2, 0];
    const E: usize = 4;
    const K: usize = 2;
    /// fₑ = count/(N·k).
    fn share() -> [f64; 4] {
        Self::COUNT.map(|c| c as f64 / (N * Self::K) as f64)
    }
    fn load<T: Real>(&self, x: &[T]) -> (Vec<T>, Vec<T>) {
        let (mut p, mut load) = (x.to_vec(), vec![T::ZERO; Self::E]);
        for p in p.chunks_mut(Self::E) {
            if self.scores {
                soft::softmax_forward(p);
            }
            crate::kernel::vector::add_to(&mut load, p);
        }
        (p, load)
    }
}
impl Function for Balance {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let (_, load) = self.load(&x[0]);
        let loss = balance::balance_forward(&Self::COUNT, &load, N, Self::K);
        (vec![loss], vec![])
    }
    fn backward(&self, x: &[Vec<f64>], dy: &[f64]) -> Vec<Vec<f64>> {
        let mut dload = [f64::NAN; Self::E];
        balance::balance_backward(&mut dload, &Self::COUNT, N, Self::K, dy[0]);
        let (p, mut d) = (self.load(&x[0]).0, dload.repeat(N));
        for (d, p) in d.chunks_mut(Self::E).zip(p.chunks(Self::E)) {
            if self.scores {
                soft::softmax_backward(d, p);
            }
        }
        vec![d]
    }
}
fn probabilities_of_rows() -> Vec<f64> {
    random("p", N * Balance::E).iter().map(|p| p.abs()).collect()
}
pub(super) fn balance_forward() -> Report {
    const E: usize = Balance::E;
    let (p, f) = (probabilities_of_rows(), Balance::share());
    let mean = |e: usize| sum((0..N).map(|t| p[t * E + e])) / N as f64;
    let want = E as f64 * sum((0..E).map(|e| f[e] * mean(e)));
    let got = Balance { scores: false }.forward(std::slice::from_ref(&p)).0;
    let load = [0.1, 0.2, 0.3, 3.4];
    let uniform = balance::balance_forward(&[2; 4], &load, 4, 2);
    formula("E·Σ f·P", &got, &[want]).and(formula(
        "1 where f is uniform",
        &[uniform],
        &[1.0],
    ))
}
pub(super) fn balance_backward() -> Report {
    proof(&Balance { scores: false }, &[("p", probabilities_of_rows())])
}
pub(super) fn balance_scores() -> Report {
    const E: usize = Balance::E;
    let z = random("z", N * E);
    let f = Balance { scores: true };
    let (p, d) = (f.load(&z).0, f.backward(std::slice::from_ref(&z), &[1.0]));
    let share = Balance::share();
    let want = (0..N * E).map(|i| {
        let p = |e: usize| p[i / E * E + e];
        let expected = sum((0..E).map(|j| share[j] * p(j)));
        E as f64 / N as f64 * p(i % E) * (share[i % E] - expected)
    });
    proof(&f, &[("z", z.clone())]).and(formula(
        "z̄ = E/N·p·(f − Σ f·p)",
        &d[0],
        &want.collect::<Vec<_>>(),
    ))
}
struct Squares;
impl Function for Squares {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let square = |z: &[T]| soft::lse_forward(z) * soft::lse_forward(z);
        (vec![x[0].chunks(N).map(square).sum()], vec![])
    }
    fn backward(&self, x: &[Vec<f64>], dy: &[f64]) -> Vec<Vec<f64>> {
        vec![added(x[0].len(), |dz| {
            for (dz, z) in dz.chunks_mut(N).zip(x[0].chunks(N)) {
                let mut p = z.to_vec();
                let lse = soft::softmax_forward(&mut p);
                balance::z_loss_backward(dz, dy[0], lse, &p);
            }
        })]
    }
}
pub(super) fn z_loss_backward() -> Report {
    proof(&Squares, &[("z", scores())])
}

// Chapter: cross-entropy ----------------------------------------------------

struct CrossEntropy;
const TARGETS: [usize; 3] = [4, 0, 4];
impl Function for CrossEntropy {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut lse = [T::ZERO; 3];
        let sum = loss::cross_entropy_forward(&mut lse, &x[0], &TARGETS);
        (vec![sum], vec![])
    }
    fn backward(&self, x: &[Vec<f64>], dy: &[f64]) -> Vec<Vec<f64>> {
        let (z, mut dz) = (&x[0], x[0].clone());
        let mut lse = [0.0; 3];
        loss::cross_entropy_forward(&mut lse, z, &TARGETS);
        loss::cross_entropy_backward(&mut dz, z, &lse, &TARGETS, dy[0]);
        vec![dz]
    }
}
pub(super) fn cross_entropy() -> Report {
    let p = Softmax.forward(&[scores()]).0;
    let want = -sum((0..3).map(|t| p[t * N + TARGETS[t]].ln()));
    let got = CrossEntropy.forward(&[scores()]).0;
    formula("−Σ ln softmax(z)[y]", &got, &[want])
        .and(parity::of_cross_entropy())
}
pub(super) fn cross_entropy_grad() -> Report {
    let dz = &CrossEntropy.backward(&[scores()], &[0.7])[0];
    let sums = dz.chunks(N).map(|d| sum(d.iter().copied()));
    proof(&CrossEntropy, &[("z", scores())])
        .with("Σ z̄ = 0", worst(sums), 1e-12)
        .and(parity::of_cross_entropy_gradient())
}
