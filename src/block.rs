//! Chapter: block. The pre-norm block: two residual steps.

use crate::config::Config;
use crate::kernel::simd::Buffer;
use crate::kernel::vector::{add, add_to};
use crate::layer::{Context, Decode, Layer, Shape, Totals, buffer};
use crate::nn::attention::{Attention, Heads};
use crate::nn::moe::{Experts, Moe};
use crate::nn::rmsnorm::{RmsNorm, RmsNormActs};
use crate::nn::rope::Rope;
use crate::params::{Builder, ParamGrads, Params};
use crate::real::Real;
use std::sync::Arc;

/// h = x + attention(norm₁(x)), y = h + moe(norm₂(h)), where any layer can
/// stand in for attention and for the mixture.
///
/// Source: Xiong et al. 2020 (pre-norm).
///
/// ```
/// use moe_by_hand::{block::Block, config::Config, nn::rope::Rope};
/// use moe_by_hand::layer::{Layer, Shape};
/// use moe_by_hand::params::Layout;
/// let config = Config::preset("tiny").unwrap();
/// let rope = Rope::new(config.head, 3, config.rope_theta).into();
/// let mut layout = Layout::default();
/// let block = Block::new(layout.builder(), &config, rope);
/// // Where attention and experts write nothing, the stream passes as it is.
/// let (p, x) = (layout.zeros(), [2.5; 3 * 64]);
/// let mut a = block.acts(Shape { batch: 1, time: 3 });
/// block.forward(&p, &x, &mut a);
/// assert_eq!(a.y, x);
/// ```
#[derive(Clone, Debug)]
pub struct Block<A = Attention, M = Moe> {
    /// Before attention.
    pub norm1: RmsNorm,
    /// Mixes positions.
    pub attention: A,
    /// Before the mixture.
    pub norm2: RmsNorm,
    /// Mixes columns.
    pub moe: M,
}
/// What [`Block`] keeps.
pub struct BlockActs<T: Real, A: Layer = Attention, M: Layer = Moe> {
    /// The first norm's.
    pub norm1: RmsNormActs<T>,
    /// Attention's.
    pub attention: A::Acts<T>,
    /// The residual stream between the two steps: [n, d]
    pub h: Buffer<T>,
    /// The second norm's.
    pub norm2: RmsNormActs<T>,
    /// The mixture's.
    pub moe: M::Acts<T>,
    /// [n, d]
    pub y: Buffer<T>,
}

/// The sizes of a model's heads.
pub fn heads(c: &Config) -> Heads {
    Heads { heads: c.heads, kv_heads: c.kv_heads, head: c.head }
}
/// The sizes of a model's mixtures.
pub fn experts(c: &Config) -> Experts {
    let Config { experts, top_k, intermediate, .. } = *c;
    Experts { experts, top_k, intermediate }
}
impl Block {
    /// One of the blocks of a model; they share the rotary table.
    pub fn new(b: Builder, c: &Config, rope: Arc<Rope>) -> Self {
        let attention = match c.attention_bias {
            true => Attention::with_bias,
            false => Attention::new,
        };
        Self::with(
            b,
            c,
            |b| attention(b, c.hidden, heads(c), rope),
            |b| Moe::new(b, c.hidden, experts(c)),
        )
    }
}
impl<A: Layer, M: Layer> Block<A, M> {
    /// [`Block::new`] around another attention or another mixture, for rows
    /// of width `c.hidden`.
    pub fn with(
        mut b: Builder, c: &Config, attention: impl FnOnce(Builder) -> A,
        moe: impl FnOnce(Builder) -> M,
    ) -> Self {
        let attention = attention(b.at("attention"));
        Self {
            norm1: RmsNorm::new(b.at("norm1"), c.hidden, c.rms_eps),
            attention,
            norm2: RmsNorm::new(b.at("norm2"), c.hidden, c.rms_eps),
            moe: moe(b.at("moe")),
        }
    }
    fn acts_with<T: Real>(
        &self, s: Shape, attention: A::Acts<T>, moe: M::Acts<T>,
    ) -> BlockActs<T, A, M> {
        let n = s.rows() * self.norm1.gain.cols;
        BlockActs {
            norm1: self.norm1.acts(s),
            attention,
            h: buffer(n),
            norm2: self.norm2.acts(s),
            moe,
            y: buffer(n),
        }
    }
    /// The second residual step, from h on.
    fn mixture<T: Real>(&self, p: &Params<T>, a: &mut BlockActs<T, A, M>) {
        self.norm2.forward(p, &a.h, &mut a.norm2);
        self.moe.forward(p, &a.norm2.y, &mut a.moe);
        add(&mut a.y, &a.h, M::y(&mut a.moe)); // eq: block-forward
    }
}
impl<A: Layer, M: Layer> Layer for Block<A, M> {
    type Acts<T: Real> = BlockActs<T, A, M>;

    fn acts<T: Real>(&self, s: Shape) -> BlockActs<T, A, M> {
        self.acts_with(s, self.attention.acts(s), self.moe.acts(s))
    }
    fn acts_forward<T: Real>(&self, s: Shape) -> BlockActs<T, A, M> {
        let moe = self.moe.acts_forward(s);
        self.acts_with(s, self.attention.acts_forward(s), moe)
    }
    fn y<T: Real>(a: &mut BlockActs<T, A, M>) -> &mut [T] {
        &mut a.y
    }
    fn totals<T: Real>(a: &mut BlockActs<T, A, M>) -> Option<&mut Totals<T>> {
        M::totals(&mut a.moe)
    }
    fn choices<T: Real>(a: &BlockActs<T, A, M>) -> &[usize] {
        M::choices(&a.moe)
    }
    fn branches<T: Real>(a: &BlockActs<T, A, M>) -> Vec<(&'static str, bool)> {
        [A::branches(&a.attention), M::branches(&a.moe)].concat()
    }
    fn law(&self) -> Option<&'static str> {
        self.attention.law().or(self.moe.law())
    }
    fn context<T: Real>(a: &mut BlockActs<T, A, M>, c: Context) {
        A::context(&mut a.attention, c);
        M::context(&mut a.moe, c);
    }
    fn forward<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &mut BlockActs<T, A, M>,
    ) {
        self.norm1.forward(p, x, &mut a.norm1);
        self.attention.forward(p, &a.norm1.y, &mut a.attention);
        add(&mut a.h, x, A::y(&mut a.attention));
        self.mixture(p, a);
    }
    fn backward<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &BlockActs<T, A, M>,
        g: &mut BlockActs<T, A, M>, dx: &mut [T], dp: &mut ParamGrads<T>,
    ) {
        // y = h + moe(norm2(h)): the last step first
        M::y(&mut g.moe).copy_from_slice(&g.y);
        let (u, du) = (&a.norm2.y, &mut g.norm2.y);
        self.moe.backward(p, u, &a.moe, &mut g.moe, du, dp);
        self.norm2.backward(p, &a.h, &a.norm2, &mut g.norm2, &mut g.h, dp);
        add_to(&mut g.h, &g.y); // eq: residual-backward
        // h = x + attention(norm1(x))
        A::y(&mut g.attention).copy_from_slice(&g.h);
        let (u, du) = (&a.norm1.y, &mut g.norm1.y);
        self.attention.backward(p, u, &a.attention, &mut g.attention, du, dp);
        self.norm1.backward(p, x, &a.norm1, &mut g.norm1, dx, dp);
        add_to(dx, &g.h); // eq: residual-backward
    }
}
impl<A: Decode, M: Layer> Decode for Block<A, M> {
    type Cache<T: Real> = A::Cache<T>;

    fn cache<T: Real>(&self, window: usize) -> A::Cache<T> {
        self.attention.cache(window)
    }
    fn acts_cached<T: Real>(&self, time: usize) -> BlockActs<T, A, M> {
        let s = Shape { batch: 1, time };
        let moe = self.moe.acts_forward(s);
        self.acts_with(s, self.attention.acts_cached(time), moe)
    }
    fn extend<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &mut BlockActs<T, A, M>,
        cache: &mut A::Cache<T>, start: usize,
    ) {
        self.norm1.forward(p, x, &mut a.norm1);
        let u = &a.norm1.y;
        self.attention.extend(p, u, &mut a.attention, cache, start);
        add(&mut a.h, x, A::y(&mut a.attention));
        self.mixture(p, a);
    }
}
