//! Chapter: attention, heads, kv-cache. Attention, heads that share keys, and
//! the cache.

use crate::kernel::matrix::{Add, Mat, MatMut, Set, mat, mat_mut, matmul};
use crate::kernel::simd::Buffer;
use crate::kernel::softmax::{causal_softmax_backward, causal_softmax_forward};
use crate::layer::{Decode, Layer, Shape, buffer};
use crate::nn::linear::{
    linear_backward, linear_bias_backward, linear_bias_forward, linear_forward,
};
use crate::nn::rope::{Rope, rope_backward, rope_forward};
use crate::params::{Builder, Param, ParamGrads, Params, Role};
use crate::real::Real;
use std::ops::Range;
use std::sync::Arc;

/// Sets mix and prob: g query heads on the one key head they share, in one
/// sequence.  q, mix: [t·g, d]  k, v: [s, d]  prob: [`prob_len`], or
/// [`prob_room`] where no backward follows
///
/// S = Q·Kᵀ/√d, P = softmax(S) over the keys that are not later than the
/// query, O = P·V. The g heads of one position are neighboring rows. There
/// may be s − t keys before the first query: the cache of a decoder. All this
/// is done for blocks of at most 32 positions, one after another, without the
/// keys that no query of the block sees, and P is stored in the same way: [up
/// to 32·g, keys seen] for each block. Where there is room for one block, the
/// next one takes it. Numbers of 16 bits are one block.
/// Source: Vaswani et al. 2017, eq. 1.
///
/// # Panics
/// If the shapes do not fit, or `prob` has another length.
///
/// ```
/// use moe_by_hand::kernel::matrix::{mat, mat_mut};
/// use moe_by_hand::nn::attention::attention_forward;
/// let (q, k) = ([1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 1.0, 1.0]);
/// let (v, mut o, mut p) = ([1.0, 2.0, 3.0, 4.0], [0.0; 4], [0.0; 4]);
/// let o_mat = mat_mut(&mut o, 2);
/// attention_forward(o_mat, &mut p, mat(&q, 2), mat(&k, 2), mat(&v, 2), 1);
/// assert_eq!(p[..2], [1.0, 0.0]); // the first sees only itself
/// approx::assert_abs_diff_eq!(p[3], 0.669762, epsilon = 5e-7);
/// approx::assert_abs_diff_eq!(o[2], 2.339523, epsilon = 1e-6);
/// ```
#[track_caller]
pub fn attention_forward<T: Real>(
    mut mix: MatMut<T>, prob: &mut [T], q: Mat<T>, k: Mat<T>, v: Mat<T>,
    g: usize,
) {
    let (s, d, n) = (k.rows, k.cols, q.rows);
    let shapes = [mix.rows, mix.cols, q.cols, v.rows, v.cols];
    assert_eq!(shapes, [n, d, d, s, d], "attention: shapes");
    let kept = prob.len() == prob_len::<T>(n, s, g); // else one block of P
    let fits = kept || prob.len() == prob_room::<T>(n, s, g);
    assert!(fits, "attention: prob: {}, {n} rows, {s} keys", prob.len());
    let scale = 1.0 / (d as f64).sqrt();
    for Block { rows, seen, prob: part } in blocks::<T>(n, s, g) {
        let part = if kept { part } else { 0..part.len() };
        let prob = &mut prob[part];
        let (q, k) = (q.block(rows.clone(), 0..d), k.block(0..seen, 0..d));
        matmul(mat_mut(prob, seen), Set, q, k.t()); // eq: attention-forward
        let first = seen - rows.len() / g;
        // eq: attention-forward
        causal_softmax_forward(prob, seen, first, g, scale);
        let (p, v) = (mat(prob, seen), v.block(0..seen, 0..d));
        let mix = mix.reborrow().block(rows, 0..d);
        matmul(mix, Set, p, v); // eq: attention-forward
    }
}
/// Positions of a block, at most.
const POSITIONS: usize = 32;
/// Queries at neighboring positions, and the keys that they see.
struct Block {
    /// The rows of the queries.
    rows: Range<usize>,
    /// How many keys the last query sees: a multiple of the block's size, or
    /// all. Beyond, P is 0 in the whole block: no product needs it, and nothing of it is
    /// stored.
    seen: usize,
    /// Where its part of P is: [rows, seen].
    prob: Range<usize>,
}
#[track_caller]
fn blocks<T: Real>(
    n: usize, s: usize, g: usize,
) -> impl Iterator<Item = Block> {
    let whole = g > 0 && n.is_multiple_of(g) && n / g <= s;
    assert!(whole, "attention: {n} rows, {g} heads in a group, {s} keys");
    // Numbers of 16 bits would be rounded after each block, in K̄ and V̄.
    let size = if T::STORED { s.max(1) } else { POSITIONS };
    let (t, mut end) = (n / g, 0);
    // A block ends at a multiple of its size, so that sums along its rows have
    // the order in lanes of whole rows. So many keys of the first block are in
    // the cache.
    let cached = (s - t) % size;
    (0..t + cached).step_by(size).map(move |i| {
        let (i, to) = (i.saturating_sub(cached), t.min(i + size - cached));
        let (rows, seen, start) = (i * g..to * g, s - t + to, end);
        end += rows.len() * seen;
        Block { rows, seen, prob: start..end }
    })
}
/// Numbers of P that [`attention_forward`] stores for q: [n, d] and s keys:
/// n·s in 16 bits or for up to 32 keys, else less, and little more than half of
/// that for many positions without a cache.
///
/// # Panics
/// If n is not made of whole groups of g, or there are more positions than
/// keys.
///
/// ```
/// use moe_by_hand::nn::attention::prob_len;
/// assert_eq!(prob_len::<f32>(32, 32, 1), 32 * 32);
/// assert_eq!(prob_len::<f32>(64, 64, 1), 32 * 32 + 32 * 64);
/// ```
#[track_caller]
pub fn prob_len<T: Real>(n: usize, s: usize, g: usize) -> usize {
    blocks::<T>(n, s, g).last().map_or(0, |block| block.prob.end)
}
/// Numbers of the largest block of P: enough for [`attention_forward`] where no
/// backward follows, and for the `ds` of [`attention_backward`].
///
/// # Panics
/// As [`prob_len`].
///
/// ```
/// use moe_by_hand::nn::attention::prob_room;
/// assert_eq!(prob_room::<f32>(64, 64, 1), 32 * 64);
/// ```
#[track_caller]
pub fn prob_room<T: Real>(n: usize, s: usize, g: usize) -> usize {
    let sizes = blocks::<T>(n, s, g).map(|block| block.prob.len());
    sizes.max().unwrap_or(0)
}
/// P of [`attention_forward`] as one matrix: [n, s], with the zeros that it
/// does not store.
///
/// # Panics
/// As [`prob_len`], or if `prob` is not of that length.
///
/// ```
/// use moe_by_hand::nn::attention::{prob_len, prob_matrix};
/// let stored = vec![1.0; prob_len::<f64>(64, 64, 1)];
/// let p = prob_matrix(&stored, 64, 64, 1);
/// assert_eq!(p[31 * 64..][..64], [[1.0; 32], [0.0; 32]].concat());
/// assert_eq!(p[32 * 64..][..64], [1.0; 64]);
/// ```
#[track_caller]
pub fn prob_matrix<T: Real>(
    prob: &[T], n: usize, s: usize, g: usize,
) -> Vec<T> {
    let len = prob_len::<T>(n, s, g);
    assert_eq!(prob.len(), len, "prob_matrix: [{n}, {s}], {g} in a group");
    let mut p = vec![T::ZERO; n * s];
    for Block { rows, seen, prob: part } in blocks::<T>(n, s, g) {
        for (row, prob) in rows.zip(prob[part].chunks_exact(seen)) {
            p[row * s..][..seen].copy_from_slice(prob);
        }
    }
    p
}
/// Sets dq, dk and dv: the gradients of [`attention_forward`].
/// dq, dmix, q: [t·g, d]  dk, dv, k, v: [s, d]  prob: [`prob_len`]
///
/// V̄ = Pᵀ·Ō, P̄ = Ō·Vᵀ, S̄ = P ⊙ (P̄ − Δ), Q̄ = S̄·K/√d, K̄ = S̄ᵀ·Q/√d. Where the
/// mask is, P = 0, hence S̄ = 0 with no special case. The sums over rows in V̄
/// and K̄ run over the g heads too: sharing a key head is a broadcast, and
/// its backward a sum. S̄ is needed for one block at a time.
///
/// # Panics
/// If the shapes do not fit, if `prob` has another length, or if `ds` is
/// shorter than [`prob_room`].
///
/// ```
/// use moe_by_hand::kernel::matrix::{mat, mat_mut};
/// use moe_by_hand::nn::attention::{AttentionGrads, attention_backward};
/// let (q, k) = ([1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 1.0, 1.0]);
/// let (v, p) = ([1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 0.330238, 0.669762]);
/// let [mut dq, mut dk, mut dv, mut ds] = [[f64::NAN; 4]; 4];
/// let grads = AttentionGrads {
///     dq: mat_mut(&mut dq, 2),
///     dk: mat_mut(&mut dk, 2),
///     dv: mat_mut(&mut dv, 2),
///     ds: &mut ds,
/// };
/// let dmix = [1.0, 0.0, 0.0, 1.0];
/// let (q, k, v) = (mat(&q, 2), mat(&k, 2), mat(&v, 2));
/// attention_backward(grads, mat(&dmix, 2), &p, q, k, v, 1);
/// approx::assert_abs_diff_eq!(dv[1], 0.330238, epsilon = 1e-6);
/// approx::assert_abs_diff_eq!(dq[3], 0.312797, epsilon = 1e-6);
/// approx::assert_abs_diff_eq!(dk[1], -0.312797, epsilon = 1e-6);
/// ```
#[track_caller]
pub fn attention_backward<T: Real>(
    to: AttentionGrads<T>, dmix: Mat<T>, prob: &[T], q: Mat<T>, k: Mat<T>,
    v: Mat<T>, g: usize,
) {
    let AttentionGrads { mut dq, mut dk, mut dv, ds } = to;
    let (s, d, n) = (k.rows, k.cols, q.rows);
    let given = [dq.read(), dmix, q, dk.read(), dv.read(), v];
    let shapes = given.map(|x| [x.rows, x.cols]);
    assert_eq!(shapes[..3], [[n, d]; 3], "attention_backward: dq, dmix, q");
    assert_eq!(shapes[3..], [[s, d]; 3], "attention_backward: dk, dv, v");
    let lens = [prob.len(), prob_len::<T>(n, s, g)];
    assert_eq!(lens[0], lens[1], "attention_backward: prob, all of it");
    let room = ds.len() >= prob_room::<T>(n, s, g);
    assert!(room, "attention_backward: ds: {}, {n} rows", ds.len());
    for x in [&mut dk, &mut dv] {
        for row in 0..s {
            x.data[row * x.rs..][..d].fill(T::ZERO);
        }
    }
    for Block { rows, seen, prob: part } in blocks::<T>(n, s, g) {
        let ds = &mut ds[..part.len()];
        let (prob, p) = (&prob[part.clone()], mat(&prob[part], seen));
        let [q, dmix] = [q, dmix].map(|x| x.block(rows.clone(), 0..d));
        let [k, v] = [k, v].map(|x| x.block(0..seen, 0..d));
        // mix = prob·v
        matmul(mat_mut(ds, seen), Set, dmix, v.t()); // eq: attention-backward
        let dv = dv.reborrow().block(0..seen, 0..d);
        matmul(dv, Add, p.t(), dmix); // eq: attention-backward, gqa-reduce
        // prob = softmax(q·kᵀ/√d), on the keys that are not later
        // eq: attention-backward
        causal_softmax_backward(ds, prob, seen, 1.0 / (d as f64).sqrt());
        let ds = mat(ds, seen);
        let dq = dq.reborrow().block(rows, 0..d);
        matmul(dq, Set, ds, k); // eq: attention-backward
        let dk = dk.reborrow().block(0..seen, 0..d);
        matmul(dk, Add, ds.t(), q); // eq: attention-backward, gqa-reduce
    }
}
/// Where [`attention_backward`] writes.
#[derive(Debug)]
pub struct AttentionGrads<'a, T> {
    /// [t·g, d]
    pub dq: MatMut<'a, T>,
    /// [s, d]
    pub dk: MatMut<'a, T>,
    /// [s, d]
    pub dv: MatMut<'a, T>,
    /// Room for S̄ of one block: at least [`prob_room`].
    pub ds: &'a mut [T],
}

/// Sizes of one attention layer.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// H, query heads.
    pub heads: usize,
    /// K, key/value heads: query head h reads ⌊h / (H/K)⌋.
    pub kv_heads: usize,
    /// d, columns of a head.
    pub head: usize,
}
/// The biases of attention's maps: q = rope(x·W_q + b_q), and so on.
#[derive(Clone, Copy, Debug)]
pub struct Biases {
    /// [heads·head]
    pub bq: Param,
    /// [kv·head]
    pub bk: Param,
    /// [kv·head]
    pub bv: Param,
    /// [d]
    pub bo: Param,
}
/// Causal attention with rotary positions. y = concat(heads)·Wₒ.
///
/// Sources: Shazeer 2019 (one key head), Ainslie et al. 2023 (groups).
///
/// ```
/// use moe_by_hand::layer::{Layer, Shape};
/// use moe_by_hand::nn::{attention::{Attention, Heads}, rope::Rope};
/// use moe_by_hand::params::Layout;
/// use std::sync::Arc;
/// let mut layout = Layout::default();
/// let heads = Heads { heads: 1, kv_heads: 1, head: 2 };
/// let rope = Arc::new(Rope::new(2, 2, 1e4));
/// let attention = Attention::new(layout.builder(), 2, heads, rope);
/// let mut p = layout.zeros();
/// for w in p.data.chunks_mut(4) {
///     w.copy_from_slice(&[1.0, 0.0, 0.0, 1.0]); // four times the identity
/// }
/// let mut a = attention.acts(Shape { batch: 1, time: 2 });
/// attention.forward(&p, &[1.0, 0.0, 0.0, 1.0], &mut a);
/// // The first position sees itself. The second scores −sin(1)/√2 with the
/// // first and 1/√2 with itself.
/// assert_eq!(a.y[..2], [1.0, 0.0]);
/// let odds: f64 = ((1.0 + 1f64.sin()) / 2f64.sqrt()).exp();
/// approx::assert_abs_diff_eq!(a.y[3], odds / (1.0 + odds), epsilon = 1e-15);
/// ```
#[derive(Clone, Debug)]
pub struct Attention {
    /// [d, heads·head]
    pub wq: Param,
    /// [d, kv·head]
    pub wk: Param,
    /// [d, kv·head]
    pub wv: Param,
    /// [heads·head, d]
    pub wo: Param,
    /// Those of the four maps, if they have them.
    pub bias: Option<Biases>,
    /// The table of angles, which the blocks share.
    pub rope: Arc<Rope>,
    /// How many heads, and of what size.
    pub heads: Heads,
}
/// What [`Attention`] keeps. The g query heads that share a key head lie
/// together, so that each group is one matrix.
#[derive(Clone, Debug)]
pub struct AttentionActs<T> {
    shape: Shape,
    /// [n, d]
    pub y: Buffer<T>,
    /// [kv, n, g·head]
    pub q: Buffer<T>,
    /// [n, kv·head]
    pub k: Buffer<T>,
    /// [n, kv·head]
    pub v: Buffer<T>,
    /// [batch, kv, [`prob_len`] of time·g rows]; where no backward follows, room
    /// for one block. Inside the gradients: S̄ of the last block.
    pub prob: Buffer<T>,
    /// [kv, n, g·head]
    pub mix: Buffer<T>,
}

impl Attention {
    /// Attention between rows of width d.
    ///
    /// # Panics
    /// If the key heads do not divide the query heads.
    #[track_caller]
    pub fn new(b: Builder, d: usize, h: Heads, rope: Arc<Rope>) -> Self {
        Self::build(b, d, h, rope, false)
    }
    /// [`Attention::new`] with a bias on each of its four maps, as Llama's
    /// `attention_bias` has it.
    ///
    /// # Panics
    /// If the key heads do not divide the query heads.
    #[track_caller]
    pub fn with_bias(b: Builder, d: usize, h: Heads, rope: Arc<Rope>) -> Self {
        Self::build(b, d, h, rope, true)
    }
    #[track_caller]
    fn build(
        mut b: Builder, d: usize, h: Heads, rope: Arc<Rope>, bias: bool,
    ) -> Self {
        assert_eq!(h.heads % h.kv_heads, 0, "heads in groups: {h:?}");
        let (q, kv) = (h.heads * h.head, h.kv_heads * h.head);
        Self {
            wq: b.param("wq", [d, q], Role::Weight),
            wk: b.param("wk", [d, kv], Role::Weight),
            wv: b.param("wv", [d, kv], Role::Weight),
            wo: b.param("wo", [q, d], Role::Residual),
            bias: bias.then(|| Biases {
                bq: b.param("bq", [q], Role::Bias),
                bk: b.param("bk", [kv], Role::Bias),
                bv: b.param("bv", [kv], Role::Bias),
                bo: b.param("bo", [d], Role::Bias),
            }),
            rope,
            heads: h,
        }
    }
    /// g, query heads on each key head.
    fn group(&self) -> usize {
        self.heads.heads / self.heads.kv_heads
    }
    /// Numbers of P for one key head and one sequence, and those of a block.
    fn probs<T: Real>(&self, time: usize, keys: usize) -> [usize; 2] {
        let (n, g) = (time * self.group(), self.group());
        [prob_len::<T>(n, keys, g), prob_room::<T>(n, keys, g)]
    }
    /// Numbers of P that a backward needs.
    fn kept<T: Real>(&self, s: Shape) -> usize {
        s.batch * self.heads.kv_heads * self.probs::<T>(s.time, s.time)[0]
    }
    fn acts_for<T: Real>(&self, s: Shape, prob: usize) -> AttentionActs<T> {
        let (n, h) = (s.rows(), self.heads);
        let (q, kv) = (h.heads * h.head, h.kv_heads * h.head);
        AttentionActs {
            shape: s,
            y: buffer(n * self.wo.cols),
            q: buffer(n * q),
            k: buffer(n * kv),
            v: buffer(n * kv),
            prob: buffer(prob),
            mix: buffer(n * q),
        }
    }
    /// For each key head: its part of a buffer [kv, n, g·head], and its
    /// columns in a matrix [_, heads·head].
    fn groups(&self, n: usize) -> impl Iterator<Item = [Range<usize>; 2]> {
        let width = self.group() * self.heads.head;
        (0..self.heads.kv_heads).map(move |i| {
            [i * n * width..(i + 1) * n * width, i * width..(i + 1) * width]
        })
    }
    /// Sets q, k and v, rotated; the first row is at position `start`.
    fn project<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &mut AttentionActs<T>, start: usize,
    ) {
        let (n, t) = (a.shape.rows(), a.shape.time);
        let d = self.wq.rows();
        for [part, cols] in self.groups(n) {
            let (width, q) = (cols.len(), &mut a.q[part]);
            let wq = p.mat(self.wq).block(0..d, cols.clone());
            matmul(mat_mut(q, width), Set, mat(x, d), wq);
            if let Some(bias) = self.bias {
                linear_bias_forward(q, &p[bias.bq][cols]);
            }
            rope_forward(q, width, t, start, &self.rope);
        }
        linear_forward(&mut a.k, x, self.wk, p);
        linear_forward(&mut a.v, x, self.wv, p);
        if let Some(bias) = self.bias {
            linear_bias_forward(&mut a.k, &p[bias.bk]);
            linear_bias_forward(&mut a.v, &p[bias.bv]);
        }
        rope_forward(&mut a.k, self.wk.cols, t, start, &self.rope);
    }
    /// Sets y = concat(mix)·Wₒ, and adds the bias if there is one.
    fn output<T: Real>(&self, p: &Params<T>, a: &mut AttentionActs<T>) {
        let (d, mut op) = (self.wo.cols, Set);
        for [part, rows] in self.groups(a.shape.rows()) {
            let mix = mat(&a.mix[part], rows.len());
            let wo = p.mat(self.wo).block(rows, 0..d);
            matmul(mat_mut(&mut a.y, d), op, mix, wo);
            op = Add;
        }
        if let Some(bias) = self.bias {
            linear_bias_forward(&mut a.y, &p[bias.bo]);
        }
    }
    /// For each sequence and key head: its rows, its part of a buffer
    /// [kv, n, g·head], its columns in k and v, and its part of prob.
    fn each<T: Real>(
        &self, a: &AttentionActs<T>,
    ) -> impl Iterator<Item = [Range<usize>; 4]> + use<T> {
        let (kv, d, s) = (self.heads.kv_heads, self.heads.head, a.shape);
        let [pr, room] = self.probs::<T>(s.time, s.time);
        let kept = a.prob.len() > room; // else all take the same place
        let (g, t, n) = (self.group(), s.time, s.rows());
        (0..s.batch * kv).map(move |i| {
            let (b, h) = (i / kv, i % kv);
            let (row, w) = (b * t, g * d);
            [
                row..row + t,
                (h * n + row) * w..(h * n + row + t) * w,
                h * d..(h + 1) * d,
                if kept { i * pr..(i + 1) * pr } else { 0..room },
            ]
        })
    }
}
impl Layer for Attention {
    type Acts<T: Real> = AttentionActs<T>;

    fn acts<T: Real>(&self, s: Shape) -> AttentionActs<T> {
        self.acts_for(s, self.kept::<T>(s))
    }
    fn acts_forward<T: Real>(&self, s: Shape) -> AttentionActs<T> {
        let [_, prob] = self.probs::<T>(s.time, s.time);
        self.acts_for(s, prob)
    }
    fn y<T: Real>(a: &mut AttentionActs<T>) -> &mut [T] {
        &mut a.y
    }
    fn branches<T: Real>(a: &AttentionActs<T>) -> Vec<(&'static str, bool)> {
        match a.shape.time {
            1 => vec![],
            _ => vec![("a masked key", a.prob.contains(&T::ZERO))],
        }
    }
    fn forward<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &mut AttentionActs<T>,
    ) {
        self.project(p, x, a, 0);
        let (d, kv, g) = (self.heads.head, self.wk.cols, self.group());
        for [rows, part, cols, pr] in self.each(a) {
            let k = mat(&a.k, kv).block(rows.clone(), cols.clone());
            let v = mat(&a.v, kv).block(rows, cols);
            let q = mat(&a.q[part.clone()], d);
            let mix = mat_mut(&mut a.mix[part], d);
            attention_forward(mix, &mut a.prob[pr], q, k, v, g);
        }
        self.output(p, a);
    }
    fn backward<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &AttentionActs<T>,
        g: &mut AttentionActs<T>, dx: &mut [T], dp: &mut ParamGrads<T>,
    ) {
        let (n, t) = (a.shape.rows(), a.shape.time);
        let (d, head, kv) = (self.wo.cols, self.heads.head, self.wk.cols);
        let all = a.prob.len() == self.kept::<T>(a.shape);
        assert!(all, "attention: no backward follows `acts_forward`");
        // y = concat(mix)·wo + bo
        // eq: attention-layer-backward
        if let Some(bias) = self.bias {
            linear_bias_backward(dp.write(bias.bo), &g.y);
        }
        let dy = mat(&g.y, d);
        let (mut dwo, op) = dp.accum(self.wo);
        for [part, rows] in self.groups(n) {
            let (mix, dmix) = (&a.mix[part.clone()], &mut g.mix[part]);
            let w = rows.len();
            let wo = p.mat(self.wo).block(rows.clone(), 0..d);
            matmul(mat_mut(dmix, w), Set, dy, wo.t());
            let dwo = dwo.reborrow().block(rows, 0..d);
            matmul(dwo, op, mat(mix, w).t(), dy);
        }
        // mix = attention(q, k, v), each sequence and key head by itself
        // eq: attention-layer-backward
        for [rows, part, cols, pr] in self.each(a) {
            let k = mat(&a.k, kv).block(rows.clone(), cols.clone());
            let v = mat(&a.v, kv).block(rows.clone(), cols.clone());
            let q = mat(&a.q[part.clone()], head);
            let dmix = mat(&g.mix[part.clone()], head);
            let to = AttentionGrads {
                dq: mat_mut(&mut g.q[part], head),
                dk: mat_mut(&mut g.k, kv).block(rows.clone(), cols.clone()),
                dv: mat_mut(&mut g.v, kv).block(rows, cols),
                ds: &mut g.prob,
            };
            attention_backward(to, dmix, &a.prob[pr], q, k, v, self.group());
        }
        // q = rope(x·wq + bq), k = rope(x·wk + bk), v = x·wv + bv: x was used
        // three times
        // eq: attention-layer-backward
        rope_backward(&mut g.k, kv, t, 0, &self.rope);
        linear_backward(dx, Set, dp, &g.k, x, self.wk, p);
        linear_backward(dx, Add, dp, &g.v, x, self.wv, p);
        let (mut dwq, op) = dp.accum(self.wq);
        for [part, cols] in self.groups(n) {
            let (w, dq) = (cols.len(), &mut g.q[part]);
            rope_backward(dq, w, t, 0, &self.rope);
            let wq = p.mat(self.wq).block(0..d, cols.clone());
            matmul(mat_mut(dx, d), Add, mat(dq, w), wq.t());
            let dwq = dwq.reborrow().block(0..d, cols);
            // eq: attention-layer-backward
            matmul(dwq, op, mat(x, d).t(), mat(dq, w));
        }
        if let Some(bias) = self.bias {
            linear_bias_backward(dp.write(bias.bk), &g.k);
            linear_bias_backward(dp.write(bias.bv), &g.v);
            for [part, cols] in self.groups(n) {
                linear_bias_backward(&mut dp.write(bias.bq)[cols], &g.q[part]);
            }
        }
    }
}

/// The keys and values of one sequence so far, in one layer. Keys are stored
/// rotated, each by its own position.
#[derive(Clone, Debug)]
pub struct KvCache<T> {
    /// [context, kv·head]
    k: Buffer<T>,
    /// [context, kv·head]
    v: Buffer<T>,
    /// How many positions a query sees, its own among them.
    window: usize,
}
impl Decode for Attention {
    type Cache<T: Real> = KvCache<T>;

    fn cache<T: Real>(&self, window: usize) -> KvCache<T> {
        let len = self.rope.time() * self.wk.cols;
        KvCache { k: buffer(len), v: buffer(len), window }
    }
    fn acts_cached<T: Real>(&self, time: usize) -> AttentionActs<T> {
        // Wherever the rows begin, a block is not larger.
        let block = if T::STORED { time } else { time.min(POSITIONS) };
        let prob = block * self.group() * self.rope.time();
        self.acts_for(Shape { batch: 1, time }, prob)
    }
    /// The same output as [`Layer::forward`] of the whole sequence, for work
    /// that grows with its length, not with its square. oₜ =
    /// softmax(qₜ·K≤ₜᵀ/√d)·V≤ₜ.
    #[track_caller]
    fn extend<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &mut AttentionActs<T>,
        cache: &mut KvCache<T>, start: usize,
    ) {
        self.project(p, x, a, start);
        let (d, kv, g) = (self.heads.head, self.wk.cols, self.group());
        let (t, end) = (a.shape.time, start + a.shape.time);
        cache.k[start * kv..end * kv].copy_from_slice(&a.k);
        cache.v[start * kv..end * kv].copy_from_slice(&a.v);
        let from = end.saturating_sub(cache.window);
        assert!(t == 1 || from == 0, "a window takes one row at a time");
        let [_, prob] = self.probs::<T>(t, end - from);
        for [_, part, cols, _] in self.each(a) {
            let k = mat(&cache.k, kv).block(from..end, cols.clone());
            let v = mat(&cache.v, kv).block(from..end, cols);
            let q = mat(&a.q[part.clone()], d);
            let mix = mat_mut(&mut a.mix[part], d);
            let prob = &mut a.prob[..prob];
            attention_forward(mix, prob, q, k, v, g); // eq: kv-cache
        }
        self.output(p, a);
    }
}
