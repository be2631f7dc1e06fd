//! Chapter: model. How much memory and work a model takes, asked before any of
//! it is taken.

use crate::config::Config;
pub use crate::system::{available, check, human};

/// Bytes of θ in numbers of type `T`.
pub fn weights<T>(c: &Config) -> u64 {
    c.total().saturating_mul(size_of::<T>() as u64)
}
/// Bytes that [`load`] takes: the table of θ, θ, and the largest tensor on its
/// way, as bytes (of up to f64) and as numbers.
///
/// [`load`]: crate::hf::load
pub fn loading<T>(c: &Config) -> u64 {
    let [d, v, f] = [c.hidden, c.vocab, c.intermediate].map(|n| n as u128);
    let largest = d * v.max(f) * (8 + size_of::<T>() as u128);
    let all = u128::from(weights::<T>(c)) + largest + u128::from(table(c));
    all.try_into().unwrap_or(u64::MAX)
}
/// Bytes of the rotary table: cos and sin of half a head's columns at each
/// position, in f64.
pub fn rotary(c: &Config) -> u64 {
    let all = 8 * c.context as u128 * c.head as u128;
    all.try_into().unwrap_or(u64::MAX)
}
/// Bytes of the keys and values of a whole context, in f32.
///
/// 2·L·T·K·dₕ numbers: query heads that share a key head share its cache.
///
/// ```
/// use moe_by_hand::{config::Config, memory::cache};
/// let mut c = Config::preset("tiny").unwrap(); // a context of 512
/// assert_eq!(cache(&c), 2 * 2 * 512 * 1 * 16 * 4);
/// c.kv_heads = c.heads; // no sharing: H/K times as much
/// assert_eq!(cache(&c), 524_288);
/// ```
pub fn cache(c: &Config) -> u64 {
    let [l, t, k, d] =
        [c.layers, c.context, c.kv_heads, c.head].map(|n| n as u128);
    (8 * l * t * k * d).try_into().unwrap_or(u64::MAX)
}

/// Bytes of the table of θ, which a model has before it has any parameter: an
/// entry, a name and a place in a set for each matrix, gain and bias.
pub fn table(c: &Config) -> u64 {
    const ENTRY: u128 = 300; // measured: 240 for the deepest names
    let all = ENTRY * u128::from(c.tensors()) + u128::from(rotary(c));
    all.try_into().unwrap_or(u64::MAX)
}

/// Floating-point operations for one token, forward, in sequences of this
/// length: 2·(active parameters of linear maps) + 4·L·H·d·T.
///
/// A product with a weight is one multiplication and one addition. Scores and
/// mixing count with the whole T × T square, as is customary. With a causal
/// mask about half of it would do, and the kernel computes the share
/// (T + 32)/(2T) of it, for T a multiple of 32. Source: Kaplan et al. 2020,
/// table 1.
///
/// ```
/// use moe_by_hand::{config::Config, memory::flops_forward};
/// let tiny = Config::preset("tiny").unwrap();
/// // In each of 2 blocks: 4·16 query columns, 2·16 of keys and values, the
/// // output, the router, 3 maps in each of 2 experts; then the head.
/// let block = 64 * 64 + 2 * 64 * 16 + 64 * 64 + 64 * 4 + 2 * 3 * 64 * 128;
/// let linear = 2 * (2 * block + 64 * 1000);
/// assert_eq!(flops_forward(&tiny, 10), linear + 4 * 2 * 64 * 10);
/// ```
pub fn flops_forward(c: &Config, time: usize) -> u64 {
    let of = |n: usize| n as u128;
    let gains = of(c.hidden) * (2 * of(c.layers) + 1);
    let embedding = of(c.vocab) * of(c.hidden); // read, not multiplied
    let linear =
        u128::from(c.active()).saturating_sub(embedding + gains + c.biases());
    let heads = of(c.layers) * of(c.heads) * of(c.head);
    let all = 2 * linear + 4 * heads * of(time);
    all.try_into().unwrap_or(u64::MAX)
}
/// The same for training: backward multiplies twice where forward does once,
/// for x̄ and for W̄.
pub fn flops_training(c: &Config, time: usize) -> u64 {
    flops_forward(c, time).saturating_mul(3)
}
