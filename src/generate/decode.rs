//! Chapter: kv-cache. One token after another, with a cache of the past.

use crate::block::Block;
use crate::error::{Error, Result};
use crate::generate::sample::Sampler;
use crate::kernel::simd::Buffer;
use crate::layer::{Decode, Layer, Shape, buffer};
use crate::model::Model;
use crate::nn::embedding::embedding_forward;
use crate::nn::linear::LinearActs;
use crate::nn::rmsnorm::RmsNormActs;
use crate::params::Params;
use crate::real::Real;
use crate::rng::Rng;

/// Rows that go through the blocks together: of a prompt as many as keep the
/// weights busy, and few enough that the scores of one key head, [rows·g,
/// context], stay small.
const ROWS: usize = 32;

/// Memory for some rows; all blocks share it, for there is no backward.
struct Rows<T: Real, B: Layer> {
    /// The residual stream: [n, d]
    x: Buffer<T>,
    block: B::Acts<T>,
}
impl<T: Real, B: Decode> Rows<T, B> {
    fn new(model: &Model<B>, n: usize) -> Self {
        let x = buffer(n * model.config.hidden);
        Self { x, block: model.blocks[0].acts_cached(n) }
    }
    /// From the tokens at the positions from `start` on to the last block's
    /// output.
    fn forward(
        &mut self, model: &Model<B>, p: &Params<T>, tokens: &[usize],
        caches: &mut [B::Cache<T>], start: usize,
    ) {
        embedding_forward(&mut self.x, &p[model.embed], tokens);
        for (block, cache) in model.blocks.iter().zip(caches) {
            block.extend(p, &self.x, &mut self.block, cache, start);
            self.x.copy_from_slice(B::y(&mut self.block));
        }
    }
}

/// One sequence that grows, with what its model keeps of its past.
///
/// A step at position T costs O(T), where the whole pass again would cost
/// O(T²). All memory is allocated at the start; [`memory::cache`] says how
/// much of it the keys and values take.
///
/// [`memory::cache`]: crate::memory::cache
pub struct Decoder<'m, T: Real, B: Decode = Block> {
    model: &'m Model<B>,
    /// One for each block.
    caches: Vec<B::Cache<T>>,
    one: Rows<T, B>,
    many: Rows<T, B>,
    window: usize,
    norm: RmsNormActs<T>,
    /// Logits of the last position: [1, v]
    head: LinearActs<T>,
    /// Logits of every position of a chunk, as large as one was asked for.
    all: Vec<T>,
    len: usize,
}
impl<'m, T: Real, B: Decode> Decoder<'m, T, B> {
    /// At the start of a sequence.
    pub fn new(model: &'m Model<B>) -> Self {
        Self::with_window(model, model.config.context)
    }
    /// The same, but each token sees only the last `window` ones, itself
    /// among them: a model that was trained on short sequences has never seen
    /// a greater distance, and does badly there.
    pub fn with_window(model: &'m Model<B>, window: usize) -> Self {
        let row = Shape { batch: 1, time: 1 };
        let cache = |b: &B| b.cache(window);
        Self {
            model,
            caches: model.blocks.iter().map(cache).collect(),
            one: Rows::new(model, 1),
            many: Rows::new(model, ROWS.min(model.config.context)),
            window,
            norm: model.norm.acts(row),
            head: model.head.acts(row),
            all: vec![],
            len: 0,
        }
    }
    /// Puts tokens behind the sequence; returns the logits of what follows
    /// the last of them: [v].
    ///
    /// A long run goes through the blocks some rows at a time, the rest one
    /// by one. Any split of a sequence into calls gives the same logits, up
    /// to rounding.
    ///
    /// # Errors
    /// If there is no token, or one is not below the vocabulary, or there is
    /// no room in the context; the sequence is then as before.
    pub fn extend(&mut self, p: &Params<T>, tokens: &[usize]) -> Result<&[T]> {
        self.check(tokens)?;
        self.feed(p, tokens, None);
        Ok(&self.head.y)
    }
    /// [`Decoder::extend`] that returns the logits of every position:
    /// [t, v] for t tokens. Row i says what follows the i-th of them.
    ///
    /// # Errors
    /// As there.
    pub fn extend_all(
        &mut self, p: &Params<T>, tokens: &[usize],
    ) -> Result<&[T]> {
        self.check(tokens)?;
        let mut all = std::mem::take(&mut self.all);
        all.clear();
        self.feed(p, tokens, Some(&mut all));
        self.all = all;
        Ok(&self.all)
    }
    /// Runs the tokens through the model; leaves the logits of the last in
    /// `head`, and puts those of each behind `all`.
    fn feed(
        &mut self, p: &Params<T>, tokens: &[usize],
        mut all: Option<&mut Vec<T>>,
    ) {
        let Self { model, caches, one, many, norm, head, len, .. } = self;
        let d = model.config.hidden;
        let mut run = |rows: &mut Rows<T, B>, tokens: &[usize], last: bool| {
            rows.forward(model, p, tokens, caches, *len);
            *len += tokens.len();
            let needed = match (&all, last) {
                (Some(_), _) => tokens.len(),
                (None, last) => usize::from(last),
            };
            for x in rows.x[(tokens.len() - needed) * d..].chunks_exact(d) {
                model.norm.forward(p, x, norm);
                model.head.forward(p, &norm.y, head);
                if let Some(all) = &mut all {
                    all.extend_from_slice(&head.y);
                }
            }
        };
        let rows = many.x.len() / d;
        // A window takes one row at a time.
        let whole = self.window >= model.config.context;
        let runs = if whole { tokens.len() / rows * rows } else { 0 };
        let (runs, rest) = tokens.split_at(runs);
        let mut left = tokens.len();
        for tokens in runs.chunks_exact(rows) {
            left -= rows;
            run(many, tokens, left == 0);
        }
        for token in rest.chunks_exact(1) {
            left -= 1;
            run(one, token, left == 0);
        }
    }
    /// [`Decoder::extend`] by one token. It allocates nothing.
    ///
    /// # Errors
    /// As there.
    pub fn step(&mut self, p: &Params<T>, token: usize) -> Result<&[T]> {
        self.extend(p, &[token])
    }
    /// How many tokens the sequence has.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether the sequence has no token yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// How many more tokens the context holds.
    pub fn room(&self) -> usize {
        self.model.config.context - self.len
    }
    /// Rolls the sequence back to its first `len` tokens, as if the others
    /// had never been there.
    ///
    /// # Panics
    /// If it has fewer.
    #[track_caller]
    pub fn truncate(&mut self, len: usize) {
        assert!(len <= self.len, "truncate to {len} of {} tokens", self.len);
        self.len = len;
    }
    /// Begins a new sequence in the same memory.
    pub fn reset(&mut self) {
        self.truncate(0);
    }
    fn check(&self, tokens: &[usize]) -> Result<()> {
        if tokens.is_empty() {
            let rule = "the first token has to follow something";
            let cure = "give at least one token";
            return Err(Error::input("the prompt", "empty", rule, cure));
        }
        if tokens.len() > self.room() {
            return Err(Error::input(
                "the length of the sequence",
                self.len + tokens.len(),
                format!("the context holds {}", self.model.config.context),
                "shorten the prompt",
            ));
        }
        self.model.check_tokens(tokens)
    }
}

/// Why [`generate`] ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stop {
    /// As many tokens as were asked for.
    Length,
    /// The context is full.
    Context,
    /// The caller said so.
    Caller,
}
/// Continues a prompt from where `decoder` stands: hands each token to
/// `on_token` as it is chosen, until that returns false, or `max_tokens` are
/// made, or the context is full.
///
/// The last token may be chosen from a full context, since it is not fed back:
/// after n tokens there is room for context − n + 1 more.
///
/// # Errors
/// If the prompt is empty, or longer than the context, or has a token that
/// is not below the vocabulary, or the model gives NaN.
pub fn generate<T: Real, B: Decode>(
    decoder: &mut Decoder<T, B>, p: &Params<T>, prompt: &[usize],
    max_tokens: usize, sampler: &mut Sampler, rng: &mut Rng,
    mut on_token: impl FnMut(usize) -> bool,
) -> Result<Stop> {
    let mut logits = decoder.extend(p, prompt)?;
    for n in 1..=max_tokens {
        let token = sampler.sample(logits, rng)?;
        if !on_token(token) {
            return Ok(Stop::Caller);
        }
        if n == max_tokens {
            break;
        }
        if decoder.room() == 0 {
            return Ok(Stop::Context);
        }
        logits = decoder.step(p, token)?;
    }
    Ok(Stop::Length)
}
