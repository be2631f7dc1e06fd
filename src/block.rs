//! Chapter: block. The pre-norm block: two residual steps.

use crate::config::Config;
use crate::kernel::vector::{add, add_to};
use crate::layer::{Layer, Shape, buffer};
use crate::nn::attention::{Attention, AttentionActs, Heads, KvCache};
use crate::nn::moe::{Experts, Moe, MoeActs};
use crate::nn::rmsnorm::{RmsNorm, RmsNormActs};
use crate::nn::rope::Rope;
use crate::params::{Builder, Params};
use crate::real::Real;
use std::sync::Arc;

/// h = x + attention(norm₁(x)), y = h + moe(norm₂(h)).
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
pub struct Block {
    /// Before attention.
    pub norm1: RmsNorm,
    /// Mixes positions.
    pub attention: Attention,
    /// Before the mixture.
    pub norm2: RmsNorm,
    /// Mixes columns.
    pub moe: Moe,
}
/// What [`Block`] keeps.
#[derive(Clone, Debug)]
pub struct BlockActs<T> {
    /// Of the first norm.
    pub norm1: RmsNormActs<T>,
    /// Of attention.
    pub attention: AttentionActs<T>,
    /// The residual stream between the two steps: [n, d]
    pub h: Vec<T>,
    /// Of the second norm.
    pub norm2: RmsNormActs<T>,
    /// Of the mixture.
    pub moe: MoeActs<T>,
    /// [n, d]
    pub y: Vec<T>,
}

impl Block {
    /// One of the blocks of a model; they share the rotary table.
    pub fn new(mut b: Builder, c: &Config, rope: Arc<Rope>) -> Self {
        let heads =
            Heads { heads: c.heads, kv_heads: c.kv_heads, head: c.head };
        let experts = Experts {
            experts: c.experts,
            top_k: c.top_k,
            intermediate: c.intermediate,
        };
        let at = b.at("attention");
        let attention = Attention::new(at, c.hidden, heads, rope);
        Self {
            norm1: RmsNorm::new(b.at("norm1"), c.hidden, c.rms_eps),
            attention,
            norm2: RmsNorm::new(b.at("norm2"), c.hidden, c.rms_eps),
            moe: Moe::new(b.at("moe"), c.hidden, experts),
        }
    }
    fn acts_with<T: Real>(
        &self, s: Shape, attention: AttentionActs<T>,
    ) -> BlockActs<T> {
        let n = s.rows() * self.norm1.gain.cols;
        BlockActs {
            norm1: self.norm1.acts(s),
            attention,
            h: buffer(n),
            norm2: self.norm2.acts(s),
            moe: self.moe.acts(s),
            y: buffer(n),
        }
    }
    /// The second residual step, from h on.
    fn mixture<T: Real>(&self, p: &Params<T>, a: &mut BlockActs<T>) {
        self.norm2.forward(p, &a.h, &mut a.norm2);
        self.moe.forward(p, &a.norm2.y, &mut a.moe);
        add(&mut a.y, &a.h, &a.moe.y); // eq: block-forward
    }
    /// Memory for [`Block::extend`] by `time` positions at once.
    pub fn acts_cached<T: Real>(&self, time: usize) -> BlockActs<T> {
        let s = Shape { batch: 1, time };
        self.acts_with(s, self.attention.acts_cached(time))
    }
    /// Sets all of `a` for the next rows of one sequence, of which `start`
    /// are in the cache, and puts these behind them.  x: [t, d]
    ///
    /// # Panics
    /// If the cache is full, or `a` is for another number of rows.
    pub fn extend<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &mut BlockActs<T>,
        cache: &mut KvCache<T>, start: usize,
    ) {
        self.norm1.forward(p, x, &mut a.norm1);
        let u = &a.norm1.y;
        self.attention.extend(p, u, &mut a.attention, cache, start);
        add(&mut a.h, x, &a.attention.y);
        self.mixture(p, a);
    }
}
impl Layer for Block {
    type Acts<T: Real> = BlockActs<T>;

    fn acts<T: Real>(&self, s: Shape) -> BlockActs<T> {
        self.acts_with(s, self.attention.acts(s))
    }
    fn y<T: Real>(a: &mut BlockActs<T>) -> &mut [T] {
        &mut a.y
    }
    fn aux<T: Real>(a: &mut BlockActs<T>) -> &mut [T] {
        Moe::aux(&mut a.moe)
    }
    fn choices<T: Real>(a: &BlockActs<T>) -> &[usize] {
        Moe::choices(&a.moe)
    }
    fn forward<T: Real>(&self, p: &Params<T>, x: &[T], a: &mut BlockActs<T>) {
        self.norm1.forward(p, x, &mut a.norm1);
        self.attention.forward(p, &a.norm1.y, &mut a.attention);
        add(&mut a.h, x, &a.attention.y);
        self.mixture(p, a);
    }
    fn backward<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &BlockActs<T>, g: &mut BlockActs<T>,
        dx: &mut [T], dp: &mut Params<T>,
    ) {
        // y = h + moe(norm2(h)): the last step first
        g.moe.y.copy_from_slice(&g.y);
        let (u, du) = (&a.norm2.y, &mut g.norm2.y);
        self.moe.backward(p, u, &a.moe, &mut g.moe, du, dp);
        self.norm2.backward(p, &a.h, &a.norm2, &mut g.norm2, &mut g.h, dp);
        add_to(&mut g.h, &g.y); // eq: residual-backward
        // h = x + attention(norm1(x))
        g.attention.y.copy_from_slice(&g.h);
        let (u, du) = (&a.norm1.y, &mut g.norm1.y);
        self.attention.backward(p, u, &a.attention, &mut g.attention, du, dp);
        self.norm1.backward(p, x, &a.norm1, &mut g.norm1, dx, dp);
        add_to(dx, &g.h);
    }
}
