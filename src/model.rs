//! Chapter: model. The whole network: embedding, blocks, norm, head; and its
//! backward, the same list read upward.

use crate::block::Block;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::layer::{Layer, Shape, buffer};
use crate::nn::embedding::{embedding_backward, embedding_forward};
use crate::nn::linear::{Linear, LinearActs};
use crate::nn::loss::{cross_entropy_backward, cross_entropy_forward};
use crate::nn::rmsnorm::{RmsNorm, RmsNormActs};
use crate::nn::rope::Rope;
use crate::params::{Builder, Init, Layout, Param, Params, Role};
use crate::real::Real;
use std::sync::Arc;

/// A decoder-only Transformer; what its blocks are is open, so that a wrong
/// block can be trained and caught by the same code as the right one.
///
/// ```
/// use moe_by_hand::{config::Config, layer::Shape, model::Model};
/// let m = Model::new(Config::preset("tiny").unwrap()).unwrap();
/// let (p, shape) = (m.layout.zeros(), Shape { batch: 1, time: 2 });
/// let mut a = m.acts(shape, false);
/// m.forward(&p, &[7, 3], &mut a);
/// // All weights 0: every token is as likely as any other, ln V nats each.
/// let sum: f64 = m.loss(&[3, 9], &mut a);
/// approx::assert_abs_diff_eq!(sum, 2.0 * 1000f64.ln(), epsilon = 1e-12);
/// ```
#[derive(Clone, Debug)]
pub struct Model<B = Block> {
    /// The table of θ.
    pub layout: Layout,
    /// The sizes.
    pub config: Config,
    /// E: [v, d]
    pub embed: Param,
    /// In order.
    pub blocks: Vec<B>,
    /// The last norm.
    pub norm: RmsNorm,
    /// To the logits: [d, v]
    pub head: Linear,
}
/// What a forward pass keeps for the backward pass.
#[derive(Clone, Debug)]
pub struct ModelActs<T, A> {
    shape: Shape,
    /// The residual stream before each block, and after the last:
    /// [layers + 1, n, d]
    pub stream: Vec<T>,
    /// One for each block; or one for all, if backward computes them again.
    pub blocks: Vec<A>,
    /// The second outputs of the blocks, such as [`RouterActs::stats`]:
    /// [layers, 2e + 1]
    ///
    /// [`RouterActs::stats`]: crate::nn::router::RouterActs::stats
    pub stats: Vec<T>,
    /// The last norm.
    pub norm: RmsNormActs<T>,
    /// Logits: [n, v]
    pub head: LinearActs<T>,
    /// Their log-sum-exp: [n]
    pub lse: Vec<T>,
}
/// Gradients of [`ModelActs`]; one block's worth serves all blocks in turn.
#[derive(Clone, Debug)]
pub struct ModelGrads<T, A> {
    /// Of the summed cross-entropy; set by the caller.
    pub ce: T,
    /// Of the blocks' second outputs; set by the caller: [layers, 2e + 1]
    pub stats: Vec<T>,
    block: A,
    /// [n, d]
    dx: Vec<T>,
    norm: RmsNormActs<T>,
    head: LinearActs<T>,
}
/// Activations of a model of blocks `B`.
pub type Acts<T, B = Block> = ModelActs<T, <B as Layer>::Acts<T>>;
/// Their gradients.
pub type Grads<T, B = Block> = ModelGrads<T, <B as Layer>::Acts<T>>;

/// Tokens, and what follows each of them: [n]
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// What the model sees.
    pub tokens: &'a [usize],
    /// What it shall predict.
    pub targets: &'a [usize],
}

impl Model {
    /// The Mixture-of-Experts Transformer of these sizes. It allocates the
    /// table of θ, not θ.
    ///
    /// # Errors
    /// If the sizes break a rule.
    pub fn new(config: Config) -> Result<Self> {
        config.validate()?;
        let c = &config;
        let rope = Arc::new(Rope::new(c.head, c.context, c.rope_theta));
        Self::with_blocks(config, |b, c| Block::new(b, c, rope.clone()))
    }
}
impl<B: Layer> Model<B> {
    /// The same around blocks of another kind.
    ///
    /// # Errors
    /// If the sizes break a rule.
    pub fn with_blocks(
        config: Config, build: impl Fn(Builder, &Config) -> B,
    ) -> Result<Self> {
        config.validate()?;
        let (d, v) = (config.hidden, config.vocab);
        let mut layout = Layout::default();
        let mut b = layout.builder();
        let embed = b.param("embed", [v, d], Role::Embedding);
        let block = |i| build(b.at("layers").at(i), &config);
        let blocks = (0..config.layers).map(block).collect();
        let norm = RmsNorm::new(b.at("norm"), d, config.rms_eps);
        let head = Linear::new(b.at("head"), d, v);
        Ok(Self { layout, config, embed, blocks, norm, head })
    }
    /// Initial weights from a seed, normal with the config's deviation.
    pub fn init<T: Real>(&self, seed: u64) -> Params<T> {
        self.init_with(seed, Init::Normal(self.config.init))
    }
    /// [`Model::init`] with another rule for the deviation.
    pub fn init_with<T: Real>(&self, seed: u64, init: Init) -> Params<T> {
        self.layout.init(seed, init, self.blocks.len())
    }
    /// Length of one block's second output: 2e + 1.
    pub fn stats(&self) -> usize {
        2 * self.config.experts + 1
    }
    /// Memory for a forward pass. With `recompute`, the blocks share theirs,
    /// and backward runs each forward a second time: less memory, same bits.
    pub fn acts<T: Real>(&self, s: Shape, recompute: bool) -> Acts<T, B> {
        let (l, d) = (self.blocks.len(), self.config.hidden);
        let blocks = &self.blocks[..if recompute { 1 } else { l }];
        ModelActs {
            shape: s,
            stream: buffer((l + 1) * s.rows() * d),
            blocks: blocks.iter().map(|b| b.acts(s)).collect(),
            stats: buffer(l * self.stats()),
            norm: self.norm.acts(s),
            head: self.head.acts(s),
            lse: buffer(s.rows()),
        }
    }
    /// Memory for a backward pass.
    pub fn grads<T: Real>(&self, s: Shape) -> Grads<T, B> {
        ModelGrads {
            ce: T::of(f64::NAN),
            stats: buffer(self.blocks.len() * self.stats()),
            block: self.blocks[0].acts(s),
            dx: buffer(s.rows() * self.config.hidden),
            norm: self.norm.acts(s),
            head: self.head.acts(s),
        }
    }
    /// Looks at each token.
    ///
    /// # Errors
    /// If one is not below the vocabulary.
    pub fn check_tokens(&self, tokens: &[usize]) -> Result<()> {
        let v = self.config.vocab;
        match tokens.iter().position(|&t| t >= v) {
            None => Ok(()),
            Some(at) => Err(Error::input(
                format!("the token at position {at}"),
                tokens[at],
                format!("the vocabulary has {v} tokens, 0 to {}", v - 1),
                "use a model with a larger vocabulary, or other text",
            )),
        }
    }

    /// Sets `a` up to the logits.  tokens: [n]
    ///
    /// # Panics
    /// If a token is not below v, or there are not as many as in the shape.
    #[track_caller]
    pub fn forward<T: Real>(
        &self, p: &Params<T>, tokens: &[usize], a: &mut Acts<T, B>,
    ) {
        let n = a.shape.rows();
        assert_eq!(tokens.len(), n, "tokens against {:?}", a.shape);
        let nd = n * self.config.hidden;
        embedding_forward(&mut a.stream[..nd], &p[self.embed], tokens);
        for (l, block) in self.blocks.iter().enumerate() {
            let (x, y) = a.stream[l * nd..].split_at_mut(nd);
            let kept = l.min(a.blocks.len() - 1);
            let b = &mut a.blocks[kept];
            block.forward(p, x, b);
            y[..nd].copy_from_slice(B::y(b));
            let stats = &mut a.stats[l * self.stats()..][..self.stats()];
            match B::aux(b) {
                [] => stats.fill(T::ZERO), // a block without a router
                aux => stats.copy_from_slice(aux),
            }
        }
        let x = &a.stream[self.blocks.len() * nd..];
        self.norm.forward(p, x, &mut a.norm);
        self.head.forward(p, &a.norm.y, &mut a.head); // eq: model-forward
    }
    /// Sets the rest of `a`; returns the cross-entropy summed over the rows.
    /// targets: [n]
    ///
    /// # Panics
    /// If a target is not below v, or there are not as many as rows.
    #[track_caller]
    pub fn loss<T: Real>(&self, targets: &[usize], a: &mut Acts<T, B>) -> T {
        cross_entropy_forward(&mut a.lse, &a.head.y, targets)
    }
    /// Sets the rest of `g`; adds to `dp`. On entry `g.ce` and `g.stats` are
    /// the gradients of the outputs.
    #[track_caller]
    pub fn backward<T: Real>(
        &self, p: &Params<T>, b: Batch, a: &mut Acts<T, B>,
        g: &mut Grads<T, B>, dp: &mut Params<T>,
    ) {
        let nd = a.shape.rows() * self.config.hidden;
        let (z, dz) = (&a.head.y, &mut g.head.y);
        cross_entropy_backward(dz, z, &a.lse, b.targets, g.ce);
        let (u, du) = (&a.norm.y, &mut g.norm.y);
        self.head.backward(p, u, &a.head, &mut g.head, du, dp);
        let x = &a.stream[self.blocks.len() * nd..];
        self.norm.backward(p, x, &a.norm, &mut g.norm, &mut g.dx, dp);
        let shared = a.blocks.len() < self.blocks.len();
        for (l, block) in self.blocks.iter().enumerate().rev() {
            let x = &a.stream[l * nd..(l + 1) * nd];
            let kept = &mut a.blocks[if shared { 0 } else { l }];
            if shared {
                block.forward(p, x, kept); // eq: recompute
            }
            B::y(&mut g.block).copy_from_slice(&g.dx);
            let aux = B::aux(&mut g.block);
            let n = aux.len();
            aux.copy_from_slice(&g.stats[l * self.stats()..][..n]);
            block.backward(p, x, kept, &mut g.block, &mut g.dx, dp);
        }
        // eq: model-backward
        embedding_backward(&mut dp[self.embed], &g.dx, b.tokens);
    }
}
