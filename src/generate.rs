//! Chapter: sampling, kv-cache. One token after another.

use crate::block::{Block, BlockActs};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::kernel::softmax::softmax_forward;
use crate::layer::{Layer, Shape, buffer};
use crate::model::Model;
use crate::nn::attention::KvCache;
use crate::nn::embedding::embedding_forward;
use crate::nn::linear::LinearActs;
use crate::nn::rmsnorm::RmsNormActs;
use crate::params::Params;
use crate::real::Real;
use crate::rng::Rng;
use std::cmp::Ordering;

/// Sets p = softmax(z/τ).  p, z: [v]
///
/// pᵢ ∝ e^{zᵢ/τ}: τ = 1 is what the model learned, τ → 0 the largest alone,
/// τ → ∞ a fair choice. The largest logit is taken away first, so that no τ
/// is too small. Source: Ackley, Hinton & Sejnowski 1985.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::generate::sample_temperature;
/// let z = [0.5f64, 0.25, 0.15, 0.07, 0.03].map(f64::ln);
/// let mut p = [f64::NAN; 5];
/// sample_temperature(&mut p, &z, 0.5); // squares, of sum 0.3408
/// let want = [0.733568, 0.183392, 0.066021, 0.014378, 0.002641];
/// for (p, want) in p.iter().zip(want) {
///     approx::assert_abs_diff_eq!(*p, want, epsilon = 5e-7);
/// }
/// ```
#[track_caller]
pub fn sample_temperature<T: Real>(p: &mut [f64], z: &[T], tau: f64) {
    assert_eq!(p.len(), z.len(), "sample_temperature: p against z");
    let m = z.iter().fold(f64::NEG_INFINITY, |m, z| m.max(z.f64()));
    for (p, z) in p.iter_mut().zip(z) {
        *p = (z.f64() - m) / tau; // eq: sample-temperature
    }
    softmax_forward(p);
}

/// Sets order to 0..v, sorted: the largest of z first; of equals, the lowest
/// index first.  order, z: [v]
///
/// No two places are equal in this order, so the sort need not be stable,
/// and an unstable one allocates nothing.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::generate::rank;
/// let mut order = [9; 4];
/// rank(&mut order, &[0.2, 0.3, 0.2, 0.3]);
/// assert_eq!(order, [1, 3, 0, 2]);
/// ```
#[track_caller]
pub fn rank<T: Real>(order: &mut [usize], z: &[T]) {
    assert_eq!(order.len(), z.len(), "rank: order against z");
    order.iter_mut().enumerate().for_each(|(i, o)| *o = i);
    let larger = |a: usize, b: usize| z[b].partial_cmp(&z[a]);
    order.sort_unstable_by(|&a, &b| {
        larger(a, b).unwrap_or(Ordering::Equal).then(a.cmp(&b))
    });
}

/// Keeps the k first of the order, zeroes the others, and divides by what
/// is left.  p, order: [v], order from [`rank`]
///
/// pᵢ ← pᵢ / Σⱼ pⱼ for i and j among the k largest, else 0.
/// Source: Fan et al. 2018, top-k random sampling.
///
/// # Panics
/// If k is 0, or nothing is left.
///
/// ```
/// use moe_by_hand::generate::{rank, sample_top_k};
/// let (mut p, mut order) = ([0.25, 0.5, 0.25], [0; 3]);
/// rank(&mut order, &p);
/// sample_top_k(&mut p, &order, 2); // of the equals, the first stays
/// assert_eq!(p, [0.25 / 0.75, 0.5 / 0.75, 0.0]);
/// ```
#[track_caller]
pub fn sample_top_k(p: &mut [f64], order: &[usize], k: usize) {
    keep(p, order, k); // eq: sample-top-k
}
/// Keeps the shortest beginning of the order that has a mass of at least
/// `mass`, and one token at least.  p, order: [v], order from [`rank`]
///
/// pᵢ ← pᵢ / Σⱼ pⱼ for i and j in the smallest descending prefix with
/// Σⱼ pⱼ ≥ p*, else 0. Source: Holtzman et al. 2020, eq. 2 and 3.
///
/// # Panics
/// If nothing is left.
///
/// ```
/// use moe_by_hand::generate::{rank, sample_top_p};
/// let (mut p, mut order) = ([0.5, 0.25, 0.15, 0.07, 0.03], [0; 5]);
/// rank(&mut order, &p);
/// sample_top_p(&mut p, &order, 0.8); // 0.5 + 0.25 is not enough
/// let want = [0.555556, 0.277778, 0.166667, 0.0, 0.0];
/// for (p, want) in p.iter().zip(want) {
///     approx::assert_abs_diff_eq!(*p, want, epsilon = 5e-7);
/// }
/// ```
#[track_caller]
pub fn sample_top_p(p: &mut [f64], order: &[usize], mass: f64) {
    let mut sum = 0.0;
    let enough = order.iter().position(|&i| {
        sum += p[i];
        sum >= mass // eq: sample-top-p
    });
    keep(p, order, enough.map_or(order.len(), |last| last + 1));
}
#[track_caller]
fn keep(p: &mut [f64], order: &[usize], n: usize) {
    assert_eq!(p.len(), order.len(), "keep: p against order");
    let (kept, cut) = order.split_at(n.min(order.len()));
    let sum: f64 = kept.iter().map(|&i| p[i]).sum();
    assert!(sum > 0.0, "keep: {n} tokens of mass {sum}");
    cut.iter().for_each(|&i| p[i] = 0.0);
    kept.iter().for_each(|&i| p[i] /= sum);
}

/// The smallest i with u < p₀ + … + pᵢ: a uniform number in [0, 1) becomes
/// a token, each as often as its probability says.  p: [v]
///
/// `<` and not `≤`: u = 0 must not choose a token of probability 0. Where
/// rounding leaves the sum below u, it is the last token of probability
/// above 0: never a masked one. Source: Devroye 1986, §III.2.
///
/// # Panics
/// If no probability is above 0.
///
/// ```
/// use moe_by_hand::generate::sample_inverse_cdf;
/// let p = [0.0, 0.5, 0.0, 0.25, 0.25];
/// let draw = |u| sample_inverse_cdf(&p, u);
/// let tokens = [0.0, 0.49, 0.5, 0.74, 0.75].map(draw);
/// assert_eq!(tokens, [1, 1, 3, 3, 4]);
/// // Ten tenths are less than 1 in f64, and the last token is masked.
/// let mut p = [0.1; 11];
/// p[10] = 0.0;
/// assert_eq!(sample_inverse_cdf(&p, 1.0 - f64::EPSILON / 2.0), 9);
/// ```
#[track_caller]
pub fn sample_inverse_cdf(p: &[f64], u: f64) -> usize {
    let (mut sum, mut last) = (0.0, None);
    for (i, &p) in p.iter().enumerate().filter(|(_, p)| **p > 0.0) {
        sum += p;
        last = Some(i);
        if u < sum {
            break; // eq: sample-inverse-cdf
        }
    }
    last.expect("some token has a probability above 0")
}

/// How the next token is chosen: temperature, then the k largest, then the
/// smallest set of mass p, then a draw.
#[derive(Clone, Debug)]
pub struct Sampler {
    temperature: f64,
    top_k: usize,
    top_p: f64,
    /// [v], once the vocabulary is known
    p: Vec<f64>,
    order: Vec<usize>,
}
impl Sampler {
    /// A temperature of 0 takes the largest logit, and of equals the lowest
    /// index; `top_k` of 0, or of the vocabulary or more, is off, and so is
    /// `top_p` of 1.
    ///
    /// # Errors
    /// If the temperature is below 0 or not finite, or `top_p` not in (0, 1].
    ///
    /// ```
    /// use moe_by_hand::{generate::Sampler, rng::Rng};
    /// let mut sampler = Sampler::new(0.0, 0, 1.0).unwrap();
    /// let token = sampler.sample(&[1.0, 3.0, 3.0], &mut Rng::new(0, 0));
    /// assert_eq!(token.unwrap(), 1);
    /// assert!(Sampler::new(-1.0, 0, 1.0).is_err());
    /// assert!(Sampler::new(1.0, 0, 0.0).is_err());
    /// ```
    pub fn new(temperature: f64, top_k: usize, top_p: f64) -> Result<Self> {
        if !(temperature >= 0.0 && temperature.is_finite()) {
            let rule = "a temperature is a number of at least 0";
            let cure = "try 0.8, or 0 for the most probable token";
            return Err(Error::input(
                "the temperature",
                temperature,
                rule,
                cure,
            ));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            let rule = "it has to be above 0 and at most 1";
            return Err(Error::input("top-p", top_p, rule, "1 turns it off"));
        }
        Ok(Self { temperature, top_k, top_p, p: vec![], order: vec![] })
    }
    /// What a draw is made from: 0 for each token that is cut off.  z: [v]
    ///
    /// # Errors
    /// If a logit is NaN or ∞, or none is above −∞.
    pub fn probabilities<T: Real>(&mut self, z: &[T]) -> Result<&[f64]> {
        let largest = largest(z)?;
        let v = z.len();
        self.p.resize(v, 0.0);
        if self.temperature == 0.0 {
            self.p.fill(0.0);
            self.p[largest] = 1.0;
            return Ok(&self.p);
        }
        sample_temperature(&mut self.p, z, self.temperature);
        let (by_k, by_p) = ((1..v).contains(&self.top_k), self.top_p < 1.0);
        if by_k || by_p {
            self.order.resize(v, 0);
            rank(&mut self.order, z);
        }
        if by_k {
            sample_top_k(&mut self.p, &self.order, self.top_k);
        }
        if by_p {
            sample_top_p(&mut self.p, &self.order, self.top_p);
        }
        Ok(&self.p)
    }
    /// The next token, for one uniform number of `rng`.  z: [v]
    ///
    /// # Errors
    /// As [`Sampler::probabilities`].
    pub fn sample<T: Real>(&mut self, z: &[T], rng: &mut Rng) -> Result<usize> {
        Ok(sample_inverse_cdf(self.probabilities(z)?, rng.uniform()))
    }
}
/// The index of the largest logit; of equals, the lowest.
fn largest<T: Real>(z: &[T]) -> Result<usize> {
    let wrong = |z: &T| z.f64().is_nan() || z.f64() == f64::INFINITY;
    let cure =
        "the weights are damaged or diverged: take an earlier checkpoint";
    if let Some(i) = z.iter().position(wrong) {
        let what = format!("the logit of token {i}");
        let rule = "a logit is a number, or −∞ to forbid the token";
        return Err(Error::input(what, z[i].f64(), rule, cure));
    }
    let best = (0..z.len()).reduce(|m, i| if z[i] > z[m] { i } else { m });
    match best {
        Some(m) if z[m].f64() > f64::NEG_INFINITY => Ok(m),
        _ => {
            let rule = "some token has to be possible";
            Err(Error::input("every logit", "−∞", rule, cure))
        }
    }
}

/// Bytes of keys and values for a whole context: 2·L·K·dₕ·C numbers of type
/// `T`. Query heads that share a key head share its cache.
///
/// ```
/// use moe_by_hand::{config::Config, generate::cache_bytes};
/// let mut c = Config::preset("tiny").unwrap(); // a context of 512
/// assert_eq!(cache_bytes::<f32>(&c), 2 * 2 * 1 * 16 * 512 * 4);
/// c.kv_heads = c.heads; // no sharing: H/K times as much
/// assert_eq!(cache_bytes::<f32>(&c), 524_288);
/// ```
pub fn cache_bytes<T>(c: &Config) -> u64 {
    let sizes = [2, c.layers, c.kv_heads, c.head, c.context, size_of::<T>()];
    sizes.iter().fold(1, |n, &size| n.saturating_mul(size as u64))
}

/// Rows that go through the blocks together: of a prompt as many as keep the
/// weights busy, and few enough that their scores, [rows, heads, context],
/// stay small.
const ROWS: usize = 32;

/// Memory for some rows; all blocks share it, for there is no backward.
#[derive(Clone, Debug)]
struct Rows<T> {
    /// The residual stream: [n, d]
    x: Vec<T>,
    block: BlockActs<T>,
}
impl<T: Real> Rows<T> {
    fn new(model: &Model, n: usize) -> Self {
        let x = buffer(n * model.config.hidden);
        Self { x, block: model.blocks[0].acts_cached(n) }
    }
    /// From the tokens at the positions from `start` on to the last block's
    /// output.
    fn forward(
        &mut self, model: &Model, p: &Params<T>, tokens: &[usize],
        caches: &mut [KvCache<T>], start: usize,
    ) {
        embedding_forward(&mut self.x, &p[model.embed], tokens);
        for (block, cache) in model.blocks.iter().zip(caches) {
            block.extend(p, &self.x, &mut self.block, cache, start);
            self.x.copy_from_slice(&self.block.y);
        }
    }
}

/// One sequence that grows, with the keys and values of its past.
///
/// A step at position T costs O(T), where the whole pass again would cost
/// O(T²). All memory is allocated at the start: see [`cache_bytes`].
#[derive(Clone, Debug)]
pub struct Decoder<'m, T: Real> {
    model: &'m Model,
    /// One for each block.
    caches: Vec<KvCache<T>>,
    one: Rows<T>,
    many: Rows<T>,
    window: usize,
    norm: RmsNormActs<T>,
    /// Logits of the last position: [1, v]
    head: LinearActs<T>,
    len: usize,
}
impl<'m, T: Real> Decoder<'m, T> {
    /// At the start of a sequence.
    pub fn new(model: &'m Model) -> Self {
        Self::with_window(model, model.config.context)
    }
    /// The same, but each token sees only the last `window` ones, itself
    /// among them: a model that was trained on short sequences has never seen
    /// a greater distance, and does badly there.
    pub fn with_window(model: &'m Model, window: usize) -> Self {
        let row = Shape { batch: 1, time: 1 };
        let cache = |b: &Block| b.attention.cache(window);
        Self {
            model,
            caches: model.blocks.iter().map(cache).collect(),
            one: Rows::new(model, 1),
            many: Rows::new(model, ROWS.min(model.config.context)),
            window,
            norm: model.norm.acts(row),
            head: model.head.acts(row),
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
        let (model, d) = (self.model, self.model.config.hidden);
        let rows = self.many.x.len() / d;
        // A window takes one row at a time.
        let whole = self.window >= model.config.context;
        let runs = if whole { tokens.len() / rows * rows } else { 0 };
        let (runs, rest) = tokens.split_at(runs);
        for run in runs.chunks_exact(rows) {
            self.many.forward(model, p, run, &mut self.caches, self.len);
            self.len += rows;
        }
        for token in rest.chunks_exact(1) {
            self.one.forward(model, p, token, &mut self.caches, self.len);
            self.len += 1;
        }
        let last = if rest.is_empty() { &self.many.x } else { &self.one.x };
        let last = &last[last.len() - d..];
        model.norm.forward(p, last, &mut self.norm);
        model.head.forward(p, &self.norm.y, &mut self.head);
        Ok(&self.head.y)
    }
    /// [`Decoder::extend`] by one token. It allocates nothing.
    ///
    /// # Errors
    /// As there.
    pub fn step(&mut self, p: &Params<T>, token: usize) -> Result<&[T]> {
        self.extend(p, &[token])
    }
    /// How many more tokens the context holds.
    pub fn room(&self) -> usize {
        self.model.config.context - self.len
    }
    /// Begins a new sequence in the same memory.
    pub fn reset(&mut self) {
        self.len = 0;
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
/// The last token is chosen from a full context, and not fed back: from n
/// tokens to context − n + 1 more.
///
/// # Errors
/// If the prompt is empty, or longer than the context, or has a token that
/// is not below the vocabulary, or the model gives NaN.
pub fn generate<T: Real>(
    decoder: &mut Decoder<T>, p: &Params<T>, prompt: &[usize],
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

/// Turns tokens that are bytes into text as they come: a character leaves
/// when it is whole, and a byte that is no UTF-8 as U+FFFD.
///
/// ```
/// use moe_by_hand::generate::Characters;
/// let mut text = Characters::default();
/// assert_eq!(text.push(0xc3), ""); // the first half of é
/// assert_eq!(text.push(0xa9), "é");
/// assert_eq!(text.push(300), "<300>"); // no byte
/// assert_eq!(text.push(0xc3), "");
/// assert_eq!(text.finish(), "\u{fffd}");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Characters {
    /// The beginning of a character.
    part: Vec<u8>,
    out: String,
}
impl Characters {
    /// Takes one token; returns what can be shown now.
    pub fn push(&mut self, token: usize) -> &str {
        self.out.clear();
        match u8::try_from(token) {
            Ok(byte) => self.byte(byte),
            Err(_) => {
                self.give_up();
                self.out += &format!("<{token}>");
            }
        }
        &self.out
    }
    /// What is left when nothing more comes.
    pub fn finish(&mut self) -> &str {
        self.out.clear();
        self.give_up();
        &self.out
    }
    fn byte(&mut self, byte: u8) {
        self.part.push(byte);
        match std::str::from_utf8(&self.part) {
            Ok(whole) => {
                self.out += whole;
                self.part.clear();
            }
            Err(e) if e.error_len().is_none() => {} // may still become one
            Err(_) => {
                let begun = self.part.len() > 1;
                self.give_up();
                if begun {
                    self.byte(byte); // not part of what was given up
                }
            }
        }
    }
    fn give_up(&mut self) {
        if !self.part.is_empty() {
            self.out.push(char::REPLACEMENT_CHARACTER);
            self.part.clear();
        }
    }
}
