//! Chapter: mutants. The block once more, from the kernels alone, with a
//! place for each mistake in its backward. Without a mistake it is the
//! library's block.

use moe_by_hand::config::Config;
use moe_by_hand::kernel::activation::{glu_backward, glu_forward};
use moe_by_hand::kernel::activation::{sigmoid, silu_forward};
use moe_by_hand::kernel::matrix::{Add, Set, mat, mat_mut, matmul};
use moe_by_hand::kernel::simd::Buffer;
use moe_by_hand::kernel::softmax::{
    causal_softmax_backward, softmax_backward, softmax_forward,
};
use moe_by_hand::kernel::vector::{add, add_to, axpy, dot};
use moe_by_hand::layer::{Layer, Shape, Totals, buffer, indices};
use moe_by_hand::nn::attention::attention_forward;
use moe_by_hand::nn::balance::z_loss_backward;
use moe_by_hand::nn::linear::{linear_backward, linear_forward};
use moe_by_hand::nn::moe::{
    combine_backward, combine_forward, dispatch, gather_backward,
    gather_forward,
};
use moe_by_hand::nn::rmsnorm::{rmsnorm_backward, rmsnorm_forward};
use moe_by_hand::nn::rope::{Rope, ntk_base, rope_backward, rope_forward};
use moe_by_hand::nn::router::{
    renormalize_backward, renormalize_forward, top_k,
};
use moe_by_hand::params::{Builder, Param, ParamGrads, Params, Role};
use moe_by_hand::real::Real;
use std::ops::Range;
use std::sync::Arc;

/// What is wrong in the backward of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    ExtraR,
    NoGain,
    GainSet,
    SumForMean,
    NoEps,
    OrderSwapped,
    NoResidual,
    NoRope,
    RopeSign,
    RopeNtk,
    NoDelta,
    NoScale,
    MaskShift,
    GroupSet,
    GroupModulo,
    Transposed,
    InputSet,
    Stale,
    SiluSlope,
    ExpertInputSet,
    WeightSet,
    IdleStale,
    NoWeight,
    GatherSet,
    RouterCut,
    NoRenorm,
    Leak,
    AuxCut,
    AuxTimesK,
    ZSign,
    ZNoLse,
    ProductPlain,
    LseMax,
    SoftmaxDiagonal,
    InputTransposed,
    WeightAgain,
    LoadMeanLost,
}
use Mistake::*;

/// A pre-norm block of attention and experts, as
/// [`Block`](moe_by_hand::block::Block): the same parameters under the same
/// names, so the same initial values too.
#[derive(Clone, Debug)]
pub(crate) struct Twin {
    config: Config,
    gain1: Param,
    wq: Param,
    wk: Param,
    wv: Param,
    wo: Param,
    gain2: Param,
    router: Param,
    /// w1, w3, w2 of each expert.
    experts: Vec<[Param; 3]>,
    rope: Arc<Rope>,
    /// A table of another base.
    ntk: Arc<Rope>,
    wrong: Vec<Mistake>,
}
/// What [`Twin`] keeps; names as in the library.
#[derive(Clone, Debug)]
pub(crate) struct TwinActs<T: Real> {
    shape: Shape,
    /// norm1(x), and 1/rms: [n, d], [n]
    u1: Buffer<T>,
    r1: Buffer<T>,
    /// [n, heads·head], [n, kv·head] twice
    q: Buffer<T>,
    k: Buffer<T>,
    v: Buffer<T>,
    /// [batch, heads, t, t]
    prob: Buffer<T>,
    /// [n, heads·head], and its map: [n, d]
    mix: Buffer<T>,
    att: Buffer<T>,
    /// x + att: [n, d]
    h: Buffer<T>,
    u2: Buffer<T>,
    r2: Buffer<T>,
    /// The router's: [n, e], [n], [n, k], totals, [n, k]
    p: Buffer<T>,
    lse: Buffer<T>,
    weight: Buffer<T>,
    totals: Totals<T>,
    pub(crate) choice: Buffer<usize>,
    slot: Buffer<usize>,
    start: Buffer<usize>,
    /// The experts', rows sorted: [m, d], [m, f] three times, [m, d]
    sorted: Buffer<T>,
    gate: Buffer<T>,
    up: Buffer<T>,
    hidden: Buffer<T>,
    o: Buffer<T>,
    /// [n, d]
    moe: Buffer<T>,
    y: Buffer<T>,
}

impl Twin {
    pub(crate) fn new(mut b: Builder, c: &Config, wrong: &[Mistake]) -> Self {
        let (d, f) = (c.hidden, c.intermediate);
        let (q, kv) = (c.heads * c.head, c.kv_heads * c.head);
        let rope = |base| Arc::new(Rope::new(c.head, c.context, base));
        // In the order of the library's block, which is that of θ.
        let mut at = b.at("attention");
        let wq = at.param("wq", [d, q], Role::Weight);
        let wk = at.param("wk", [d, kv], Role::Weight);
        let wv = at.param("wv", [d, kv], Role::Weight);
        let wo = at.param("wo", [q, d], Role::Residual);
        drop(at);
        let gain1 = b.at("norm1").param("gain", [d], Role::Gain);
        let gain2 = b.at("norm2").param("gain", [d], Role::Gain);
        let mut at = b.at("moe");
        let router = at.at("router").param("w", [d, c.experts], Role::Weight);
        let mut expert = |e| {
            let mut at = at.at("experts");
            let mut at = at.at(e);
            let w1 = at.param("w1", [d, f], Role::Weight);
            let w3 = at.param("w3", [d, f], Role::Weight);
            [w1, w3, at.param("w2", [f, d], Role::Residual)]
        };
        let experts = (0..c.experts).map(&mut expert).collect();
        Self {
            gain1,
            wq,
            wk,
            wv,
            wo,
            gain2,
            router,
            experts,
            rope: rope(c.rope_theta),
            ntk: rope(ntk_base(c.rope_theta, 8.0, c.head)),
            config: c.clone(),
            wrong: wrong.to_vec(),
        }
    }
    fn is(&self, m: Mistake) -> bool {
        self.wrong.contains(&m)
    }
    /// For each sequence and query head: its rows, its columns, those of
    /// its key head, and its part of prob.
    fn heads(&self, s: Shape) -> impl Iterator<Item = [Range<usize>; 4]> {
        let (h, d, t) = (self.config.heads, self.config.head, s.time);
        let group = h / self.config.kv_heads;
        (0..s.batch * h).map(move |i| {
            let (b, head) = (i / h, i % h);
            let of = |j: usize, w: usize| j * w..(j + 1) * w;
            [of(b, t), of(head, d), of(head / group, d), of(i, t * t)]
        })
    }

    /// Sets `to`, the gradient of a norm's input; adds to that of its gain.
    #[expect(clippy::too_many_arguments, reason = "a kernel's")]
    fn norm_backward<T: Real>(
        &self, to: &mut [T], dp: &mut ParamGrads<T>, dy: &[T], x: &[T],
        r: &[T], gain: Param, p: &Params<T>,
    ) {
        let (is, dgain) = (|m| self.is(m), dp.write(gain));
        let (gain, d) = (&p[gain], gain.cols);
        if ![ExtraR, NoGain, GainSet, SumForMean, NoEps].into_iter().any(is) {
            return rmsnorm_backward(to, dgain, dy, x, gain, r);
        }
        let len = T::of(d as f64);
        for (i, &r) in r.iter().enumerate() {
            let row = i * d..(i + 1) * d;
            let (to, dy, x) = (&mut to[row.clone()], &dy[row.clone()], &x[row]);
            let exact = T::ONE / (dot(x, x) / len).sqrt();
            let r = if is(NoEps) { exact } else { r };
            let mut s = T::ZERO;
            for j in 0..d {
                s += dy[j] * gain[j] * x[j];
                let term = dy[j] * x[j] * r;
                dgain[j] = if is(GainSet) { term } else { dgain[j] + term };
            }
            let c = s * r * r / if is(SumForMean) { T::ONE } else { len };
            let c = if is(ExtraR) { c * r } else { c };
            for j in 0..d {
                let u = if is(NoGain) { dy[j] } else { dy[j] * gain[j] };
                to[j] = r * (u - x[j] * c);
            }
        }
    }
    /// From g.att to g.u1.
    fn attention_backward<T: Real>(
        &self, p: &Params<T>, a: &TwinActs<T>, g: &mut TwinActs<T>,
        dp: &mut ParamGrads<T>,
    ) {
        let is = |m| self.is(m);
        let (c, s) = (&self.config, a.shape);
        let (q, kv) = (self.wq.cols, self.wk.cols);
        let scale = 1.0 / (c.head as f64).sqrt();
        // att = mix·wo
        if is(Transposed) {
            let mut apart = dp.clone();
            apart.data.fill(T::ZERO);
            let to = &mut apart;
            linear_backward(&mut g.mix, Set, to, &g.att, &a.mix, self.wo, p);
            let (dw, n) = (dp.write(self.wo), self.wo.cols);
            let right = &apart[self.wo];
            (0..dw.len()).for_each(|i| dw[i] += right[i % n * n + i / n]);
        } else {
            linear_backward(&mut g.mix, Set, dp, &g.att, &a.mix, self.wo, p);
        }
        if is(InputTransposed) {
            let wo = mat(&p[self.wo], self.wo.cols);
            let datt = mat(&g.att, self.wo.cols);
            matmul(mat_mut(&mut g.mix, q), Set, datt, wo);
        }
        // mix = attention(q, k, v), each head by itself
        g.k.fill(T::ZERO);
        g.v.fill(T::ZERO);
        let op = if is(GroupSet) { Set } else { Add };
        for (i, [rows, of, mut to, part]) in self.heads(s).enumerate() {
            if is(GroupModulo) {
                let j = i % c.heads % c.kv_heads;
                to = j * c.head..(j + 1) * c.head;
            }
            let t = s.time;
            let at = |x, w| mat(x, w);
            let dmix = at(&g.mix, q).block(rows.clone(), of.clone());
            let (prob, ds) = (&a.prob[part.clone()], &mut g.prob[part]);
            let dv = mat_mut(&mut g.v, kv).block(rows.clone(), to.clone());
            let prob_t = mat(prob, t);
            let prob_t = if is(ProductPlain) { prob_t } else { prob_t.t() };
            matmul(dv, op, prob_t, dmix);
            let v = mat(&a.v, kv).block(rows.clone(), to.clone());
            matmul(mat_mut(ds, t), Set, dmix, v.t());
            if is(MaskShift) {
                (0..t).for_each(|i| ds[i * t + i] = T::ZERO);
            }
            if is(NoDelta) {
                let each = ds.iter_mut().zip(prob);
                each.for_each(|(d, &p)| *d = p * *d * T::of(scale));
            } else {
                causal_softmax_backward(ds, prob, t, scale);
            }
            let k = mat(&a.k, kv).block(rows.clone(), to.clone());
            let dq = mat_mut(&mut g.q, q).block(rows.clone(), of.clone());
            matmul(dq, Set, mat(ds, t), k);
            let dk = mat_mut(&mut g.k, kv).block(rows.clone(), to);
            let q = mat(&a.q, q).block(rows, of);
            matmul(dk, op, mat(ds, t).t(), q);
        }
        if is(NoScale) {
            g.k.iter_mut().for_each(|k| *k /= T::of(scale));
        }
        // q = rope(u·wq), k = rope(u·wk), v = u·wv
        for (x, width) in [(&mut g.q, q), (&mut g.k, kv)] {
            match () {
                () if is(NoRope) => {}
                () if is(RopeSign) => {
                    rope_forward(x, width, s.time, 0, &self.rope);
                }
                () if is(RopeNtk) => {
                    rope_backward(x, width, s.time, 0, &self.ntk);
                }
                () => rope_backward(x, width, s.time, 0, &self.rope),
            }
        }
        let u = if is(Stale) { &a.u2 } else { &a.u1 };
        let op = if is(InputSet) { Set } else { Add };
        linear_backward(&mut g.u1, Set, dp, &g.k, u, self.wk, p);
        linear_backward(&mut g.u1, op, dp, &g.v, u, self.wv, p);
        linear_backward(&mut g.u1, Add, dp, &g.q, u, self.wq, p);
    }
    /// From g.moe and g.totals to g.u2.
    fn moe_backward<T: Real>(
        &self, p: &Params<T>, a: &TwinActs<T>, g: &mut TwinActs<T>,
        dp: &mut ParamGrads<T>,
    ) {
        let is = |m| self.is(m);
        let (d, f) = (self.config.hidden, self.config.intermediate);
        let (d_o, dw, slot) = (&mut g.o, &mut g.weight, &a.slot);
        // moe = combine(o, weight)
        combine_backward(d_o, dw, &g.moe, &a.o, &a.weight, slot);
        if is(NoWeight) {
            for (i, &s) in slot.iter().enumerate() {
                let dy = &g.moe[i / self.config.top_k * d..][..d];
                d_o[s * d..][..d].copy_from_slice(dy);
            }
        }
        if is(WeightAgain) {
            dw.iter_mut().zip(&*a.weight).for_each(|(d, &w)| *d *= w);
        }
        // o = (silu(sorted·w1) ⊙ sorted·w3)·w2, each expert on its rows
        for (&[w1, w3, w2], s) in self.experts.iter().zip(a.start.windows(2)) {
            if s[0] == s[1] && is(IdleStale) {
                for w in [w1, w3, w2] {
                    let _ = dp.accum(w); // as if it were written
                }
                continue;
            }
            let [of_d, of_f] = [d, f].map(|w| s[0] * w..s[1] * w);
            let (x, dx) =
                (&a.sorted[of_d.clone()], &mut g.sorted[of_d.clone()]);
            let (h, dh) =
                (&a.hidden[of_f.clone()], &mut g.hidden[of_f.clone()]);
            linear_backward(dh, Set, dp, &g.o[of_d], h, w2, p);
            let (gate, up) = (&a.gate[of_f.clone()], &a.up[of_f.clone()]);
            let (dgate, dup) = (&mut g.gate[of_f.clone()], &mut g.up[of_f]);
            if is(SiluSlope) {
                for i in 0..dh.len() {
                    dgate[i] = dh[i] * up[i] * sigmoid(gate[i]);
                    dup[i] = dh[i] * silu_forward(gate[i]);
                }
            } else {
                glu_backward(dgate, dup, dh, gate, up);
            }
            if is(WeightSet) {
                dp.write(w1).fill(T::ZERO);
            }
            let op = if is(ExpertInputSet) { Set } else { Add };
            linear_backward(dx, Set, dp, dgate, x, w1, p);
            linear_backward(dx, op, dp, dup, x, w3, p);
        }
        // u was used by the router and by k experts
        self.router_backward(p, a, g, dp);
        if is(GatherSet) {
            for (i, &s) in slot.iter().enumerate() {
                let to = &mut g.u2[i / self.config.top_k * d..][..d];
                to.copy_from_slice(&g.sorted[s * d..][..d]);
            }
        } else {
            gather_backward(&mut g.u2, &g.sorted, slot, d);
        }
    }
    /// From g.weight and g.totals to g.u2.
    fn router_backward<T: Real>(
        &self, p: &Params<T>, a: &TwinActs<T>, g: &mut TwinActs<T>,
        dp: &mut ParamGrads<T>,
    ) {
        let is = |m| self.is(m);
        let (e, k) = (self.config.experts, self.config.top_k);
        if is(RouterCut) {
            return g.u2.fill(T::ZERO);
        }
        let mut dload = vec![T::ZERO; e];
        T::narrow(&mut dload, &g.totals.load);
        let mut dsquares = T::nearest(g.totals.squares);
        if is(AuxTimesK) {
            dload.iter_mut().for_each(|d| *d *= T::of(k as f64));
        }
        if is(AuxCut) {
            dload.fill(T::ZERO);
            dsquares = T::ZERO;
        }
        if is(ZSign) {
            dsquares = -dsquares;
        }
        for (t, dz) in g.p.chunks_exact_mut(e).enumerate() {
            let (of_e, of_k) = (t * e..(t + 1) * e, t * k..(t + 1) * k);
            let (prob, choice) = (&a.p[of_e], &a.choice[of_k.clone()]);
            let (w, dw) = (&a.weight[of_k.clone()], &g.weight[of_k]);
            dz.copy_from_slice(&dload);
            let sum: T = choice.iter().map(|&e| prob[e]).sum();
            if is(NoRenorm) {
                choice.iter().zip(dw).for_each(|(&e, &d)| dz[e] += d);
            } else {
                renormalize_backward(dz, dw, w, prob, choice);
            }
            if is(Leak) {
                // as if the sum ran over all experts
                let others = (0..e).filter(|e| !choice.contains(e));
                others.for_each(|e| dz[e] += -dot(w, dw) / sum);
            }
            if is(LoadMeanLost) {
                // f for f − Σ f·p in what the balance loss sends
                let each = dz.iter_mut().zip(&dload);
                each.for_each(|(d, &l)| *d = *d - l);
            }
            if is(SoftmaxDiagonal) {
                let each = dz.iter_mut().zip(prob);
                each.for_each(|(d, &p)| *d *= p * (T::ONE - p));
            } else {
                softmax_backward(dz, prob);
            }
            if is(LoadMeanLost) {
                let each = dz.iter_mut().zip(prob).zip(&dload);
                each.for_each(|((d, &p), &l)| *d += p * l);
            }
            let lse = if is(ZNoLse) { T::ONE } else { a.lse[t] };
            if is(LseMax) {
                // as if the log-sum-exp were the maximum
                dz[choice[0]] += T::of(2.0) * dsquares * lse;
            } else {
                z_loss_backward(dz, dsquares, lse, prob);
            }
        }
        linear_backward(&mut g.u2, Set, dp, &g.p, &a.u2, self.router, p);
    }
}
impl Layer for Twin {
    type Acts<T: Real> = TwinActs<T>;

    fn acts<T: Real>(&self, s: Shape) -> TwinActs<T> {
        let c = &self.config;
        let (n, d, f) = (s.rows(), c.hidden, c.intermediate);
        let (e, k, m) = (c.experts, c.top_k, n * c.top_k);
        TwinActs {
            shape: s,
            u1: buffer(n * d),
            r1: buffer(n),
            q: buffer(n * self.wq.cols),
            k: buffer(n * self.wk.cols),
            v: buffer(n * self.wv.cols),
            prob: buffer(n * c.heads * s.time),
            mix: buffer(n * self.wq.cols),
            att: buffer(n * d),
            h: buffer(n * d),
            u2: buffer(n * d),
            r2: buffer(n),
            p: buffer(n * e),
            lse: buffer(n),
            weight: buffer(n * k),
            totals: Totals::new(e, k),
            choice: indices(m),
            slot: indices(m),
            start: indices(e + 1),
            sorted: buffer(m * d),
            gate: buffer(m * f),
            up: buffer(m * f),
            hidden: buffer(m * f),
            o: buffer(m * d),
            moe: buffer(n * d),
            y: buffer(n * d),
        }
    }
    fn y<T: Real>(a: &mut TwinActs<T>) -> &mut [T] {
        &mut a.y
    }
    fn totals<T: Real>(a: &mut TwinActs<T>) -> Option<&mut Totals<T>> {
        Some(&mut a.totals)
    }
    fn choices<T: Real>(a: &TwinActs<T>) -> &[usize] {
        &a.choice
    }
    fn branches<T: Real>(a: &TwinActs<T>) -> Vec<(&'static str, bool)> {
        vec![
            ("a masked key", a.prob.contains(&T::ZERO)),
            ("an expert not chosen", true),
            ("an idle expert", a.totals.count.contains(&0)),
        ]
    }
    fn forward<T: Real>(&self, p: &Params<T>, x: &[T], a: &mut TwinActs<T>) {
        let (c, s) = (&self.config, a.shape);
        let (d, f) = (c.hidden, c.intermediate);
        let (q, kv) = (self.wq.cols, self.wk.cols);
        // h = x + attention(norm1(x))
        rmsnorm_forward(&mut a.u1, &mut a.r1, x, &p[self.gain1], c.rms_eps);
        linear_forward(&mut a.q, &a.u1, self.wq, p);
        linear_forward(&mut a.k, &a.u1, self.wk, p);
        linear_forward(&mut a.v, &a.u1, self.wv, p);
        rope_forward(&mut a.q, q, s.time, 0, &self.rope);
        rope_forward(&mut a.k, kv, s.time, 0, &self.rope);
        for [rows, of, to, part] in self.heads(s) {
            let mix = mat_mut(&mut a.mix, q).block(rows.clone(), of.clone());
            let [k, v] = [&a.k, &a.v]
                .map(|x| mat(x, kv).block(rows.clone(), to.clone()));
            let q = mat(&a.q, q).block(rows, of);
            attention_forward(mix, &mut a.prob[part], q, k, v, 1);
        }
        linear_forward(&mut a.att, &a.mix, self.wo, p);
        add(&mut a.h, x, &a.att);
        // y = h + moe(norm2(h))
        rmsnorm_forward(&mut a.u2, &mut a.r2, &a.h, &p[self.gain2], c.rms_eps);
        linear_forward(&mut a.p, &a.u2, self.router, p);
        let (e, k) = (c.experts, c.top_k);
        a.totals.clear();
        a.totals.rows = s.rows();
        for (t, prob) in a.p.chunks_exact_mut(e).enumerate() {
            let of_k = t * k..(t + 1) * k;
            let choice = &mut a.choice[of_k.clone()];
            a.lse[t] = softmax_forward(prob);
            top_k(choice, prob);
            renormalize_forward(&mut a.weight[of_k], prob, choice);
            let sums = a.totals.load.iter_mut().zip(&*prob);
            sums.for_each(|(sum, p)| *sum += p.wide());
            a.totals.squares += (a.lse[t] * a.lse[t]).wide();
            choice.iter().for_each(|&e| a.totals.count[e] += 1);
        }
        let count = &a.totals.count;
        dispatch(&mut a.slot, &mut a.start, &a.choice, count);
        gather_forward(&mut a.sorted, &a.u2, &a.slot, d);
        for (&[w1, w3, w2], s) in self.experts.iter().zip(a.start.windows(2)) {
            let [of_d, of_f] = [d, f].map(|w| s[0] * w..s[1] * w);
            let x = &a.sorted[of_d.clone()];
            let (gate, up) =
                (&mut a.gate[of_f.clone()], &mut a.up[of_f.clone()]);
            let hidden = &mut a.hidden[of_f];
            linear_forward(gate, x, w1, p);
            linear_forward(up, x, w3, p);
            glu_forward(hidden, gate, up);
            linear_forward(&mut a.o[of_d], hidden, w2, p);
        }
        combine_forward(&mut a.moe, &a.o, &a.weight, &a.slot);
        add(&mut a.y, &a.h, &a.moe);
    }
    fn backward<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &TwinActs<T>, g: &mut TwinActs<T>,
        dx: &mut [T], dp: &mut ParamGrads<T>,
    ) {
        let (gain1, gain2) = (self.gain1, self.gain2);
        // y = h + moe(norm2(h))
        if self.is(OrderSwapped) {
            let (to, dy) = (&mut g.moe, &g.y);
            self.norm_backward(to, dp, dy, &a.h, &a.r2, gain2, p);
            self.moe_backward(p, a, g, dp);
            g.h.copy_from_slice(&g.u2);
        } else {
            g.moe.copy_from_slice(&g.y);
            self.moe_backward(p, a, g, dp);
            let (to, dy) = (&mut g.h, &g.u2);
            self.norm_backward(to, dp, dy, &a.h, &a.r2, gain2, p);
        }
        if !self.is(NoResidual) {
            axpy(&mut g.h, T::ONE, &g.y);
        }
        // h = x + attention(norm1(x))
        if self.is(OrderSwapped) {
            let (to, dy) = (&mut g.att, &g.h);
            self.norm_backward(to, dp, dy, x, &a.r1, gain1, p);
            self.attention_backward(p, a, g, dp);
            dx.copy_from_slice(&g.u1);
        } else {
            g.att.copy_from_slice(&g.h);
            self.attention_backward(p, a, g, dp);
            self.norm_backward(dx, dp, &g.u1, x, &a.r1, gain1, p);
        }
        if !self.is(NoResidual) {
            add_to(dx, &g.h);
        }
    }
}
