//! Chapter: model. The whole network: embedding, blocks, norm, head; and its
//! backward, the same list read upward.

use crate::block::Block;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::kernel::simd::Buffer;
use crate::layer::{Context, Layer, Shape, Totals, buffer};
use crate::nn::embedding::{embedding_backward, embedding_forward};
use crate::nn::linear::{Linear, LinearActs};
use crate::nn::rmsnorm::{RmsNorm, RmsNormActs};
use crate::nn::rope::Rope;
use crate::params::{Builder, Init, Layout, Param, ParamGrads, Params, Role};
use crate::real::Real;
use std::sync::Arc;

/// A decoder-only Transformer; what its blocks are is open, so that a wrong
/// block can be trained and caught by the same code as the right one.
///
/// ```
/// use moe_by_hand::{config::Config, layer::Shape, model::Model};
/// use moe_by_hand::nn::loss::{CrossEntropy, Loss};
/// let m = Model::new(Config::preset("tiny").unwrap()).unwrap();
/// let (p, shape) = (m.layout.zeros(), Shape { batch: 1, time: 2 });
/// let mut a = m.acts(shape, false);
/// m.forward(&p, &[7, 3], &mut a);
/// // All weights 0: every token is as likely as any other, ln V nats each.
/// let sum: f64 = CrossEntropy.forward(&mut a.lse, &a.head.y, &[3, 9]);
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
pub struct ModelActs<T: Real, A> {
    shape: Shape,
    /// What the next forward pass is for; the blocks are told.
    pub context: Context,
    /// The residual stream before each block, and after the last:
    /// [layers + 1, n, d]
    pub stream: Buffer<T>,
    /// One for each block; or one for all, if backward computes them again.
    pub blocks: Vec<A>,
    /// The second output of each block.
    pub totals: Vec<Totals<T>>,
    /// The last norm.
    pub norm: RmsNormActs<T>,
    /// Logits: [n, v]
    pub head: LinearActs<T>,
    /// What the loss keeps of each row, set by
    /// [`Loss::forward`](crate::nn::loss::Loss::forward); cross-entropy keeps
    /// its log-sum-exp: [n]
    pub lse: Buffer<T::Wide>,
}
/// Gradients of [`ModelActs`]; one block's worth serves all blocks in turn.
pub struct ModelGrads<T: Real, A> {
    /// The gradients of the blocks' second outputs; set by the caller.
    pub totals: Vec<Totals<T>>,
    /// The gradient of the logits; set by the caller, by
    /// [`Loss::backward`](crate::nn::loss::Loss::backward).
    pub head: LinearActs<T>,
    block: A,
    /// [n, d]
    dx: Buffer<T>,
    norm: RmsNormActs<T>,
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
    /// What it should predict.
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
    /// Memory for a forward pass. With `recompute`, the blocks share theirs,
    /// and backward runs each forward a second time: less memory, same bits.
    pub fn acts<T: Real>(&self, s: Shape, recompute: bool) -> Acts<T, B> {
        let blocks = if recompute { 1 } else { self.blocks.len() };
        let blocks = self.blocks[..blocks].iter().map(|b| b.acts(s)).collect();
        self.acts_with(s, blocks)
    }
    /// Memory for forward passes that no backward follows: the blocks share
    /// theirs, and a layer may leave out what only its backward would read.
    pub fn acts_forward<T: Real>(&self, s: Shape) -> Acts<T, B> {
        self.acts_with(s, vec![self.blocks[0].acts_forward(s)])
    }
    fn acts_with<T: Real>(
        &self, s: Shape, mut blocks: Vec<B::Acts<T>>,
    ) -> Acts<T, B> {
        let (l, d) = (self.blocks.len(), self.config.hidden);
        ModelActs {
            shape: s,
            context: Context::default(),
            stream: buffer((l + 1) * s.rows() * d),
            totals: vec![totals::<T, B>(&mut blocks[0]); l],
            blocks,
            norm: self.norm.acts(s),
            head: self.head.acts(s),
            lse: buffer(s.rows()),
        }
    }
    /// Memory for a backward pass.
    pub fn grads<T: Real>(&self, s: Shape) -> Grads<T, B> {
        let mut block = self.blocks[0].acts(s);
        ModelGrads {
            totals: vec![totals::<T, B>(&mut block); self.blocks.len()],
            block,
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

    /// Sets `a` up to the logits; the rest is a loss's.  tokens: [n]
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
        // eq: model-forward
        embedding_forward(&mut a.stream[..nd], &p[self.embed], tokens);
        for (l, block) in self.blocks.iter().enumerate() {
            let (x, y) = a.stream[l * nd..].split_at_mut(nd);
            let kept = l.min(a.blocks.len() - 1);
            let b = &mut a.blocks[kept];
            B::context(b, Context { layer: l, ..a.context });
            block.forward(p, x, b); // eq: model-forward
            y[..nd].copy_from_slice(B::y(b));
            if let Some(totals) = B::totals(b) {
                a.totals[l].set(totals);
            }
        }
        let x = &a.stream[self.blocks.len() * nd..];
        self.norm.forward(p, x, &mut a.norm);
        self.head.forward(p, &a.norm.y, &mut a.head); // eq: model-forward
    }
    /// Sets the rest of `g`; adds to `dp`. On entry `g.head.y` and `g.totals`
    /// are the gradients of the outputs.
    ///
    /// # Panics
    /// If the memory of `a` is that of [`Model::acts_forward`] and lacks
    /// something.
    #[track_caller]
    pub fn backward<T: Real>(
        &self, p: &Params<T>, tokens: &[usize], a: &mut Acts<T, B>,
        g: &mut Grads<T, B>, dp: &mut ParamGrads<T>,
    ) {
        let nd = a.shape.rows() * self.config.hidden;
        // logits = head(norm(x))
        // eq: model-backward
        let (u, du) = (&a.norm.y, &mut g.norm.y);
        self.head.backward(p, u, &a.head, &mut g.head, du, dp);
        let x = &a.stream[self.blocks.len() * nd..];
        self.norm.backward(p, x, &a.norm, &mut g.norm, &mut g.dx, dp);
        // y, totals = block(x), the last block first
        let shared = a.blocks.len() < self.blocks.len();
        for (l, block) in self.blocks.iter().enumerate().rev() {
            let x = &a.stream[l * nd..(l + 1) * nd];
            let kept = &mut a.blocks[if shared { 0 } else { l }];
            if shared {
                B::context(kept, Context { layer: l, ..a.context });
                block.forward(p, x, kept); // eq: recompute
            }
            B::y(&mut g.block).copy_from_slice(&g.dx);
            if let Some(totals) = B::totals(&mut g.block) {
                totals.set_sums(&g.totals[l]);
            }
            // eq: model-backward
            block.backward(p, x, kept, &mut g.block, &mut g.dx, dp);
        }
        // x = embed[token]
        // eq: model-backward
        embedding_backward(dp.write(self.embed), &g.dx, tokens);
    }
}
/// Memory for a second output like that of a block; empty if it has none.
fn totals<T: Real, B: Layer>(a: &mut B::Acts<T>) -> Totals<T> {
    B::totals(a).map(|t| t.clone()).unwrap_or_default()
}
