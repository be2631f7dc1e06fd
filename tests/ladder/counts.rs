//! Chapter: tensors. A model that is a table of counts.

use moe_by_hand::generate::sample_inverse_cdf;
use moe_by_hand::rng::Rng;
use moe_by_hand::tokens::BYTES;

/// How often each byte came: at all, or after each byte.
pub(crate) struct Counts {
    /// Whether there is a row for each byte, or one for all.
    pairs: bool,
    /// The shares of each row, whose sum is 1: [256, 256] or [1, 256]
    share: Vec<f64>,
    /// Different bytes in the text.
    alphabet: usize,
}
impl Counts {
    /// Counts the bytes of `train`. Each byte of the alphabet is counted once
    /// more than it was seen, so that none is impossible.
    pub(crate) fn new(train: &[u8], all: &[u8], pairs: bool) -> Self {
        let rows = if pairs { BYTES } else { 1 };
        let mut share = vec![0.0; rows * BYTES];
        let mut alphabet = all.to_vec();
        alphabet.sort();
        alphabet.dedup();
        for row in share.chunks_exact_mut(BYTES) {
            alphabet.iter().for_each(|&b| row[usize::from(b)] = 1.0);
        }
        let alphabet = alphabet.len();
        let mut counts = Self { pairs, share, alphabet };
        for pair in train.windows(2) {
            let row = counts.row(pair[0]);
            counts.share[row * BYTES + usize::from(pair[1])] += 1.0;
        }
        for row in counts.share.chunks_exact_mut(BYTES) {
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|n| *n /= sum);
        }
        counts
    }
    /// The row that says what comes after a byte.
    fn row(&self, byte: u8) -> usize {
        if self.pairs { byte.into() } else { 0 }
    }
    /// The shares of all bytes after this one: [256]
    fn after(&self, byte: u8) -> &[f64] {
        &self.share[self.row(byte) * BYTES..][..BYTES]
    }
    /// Numbers that were counted.
    pub(crate) fn parameters(&self) -> usize {
        if self.pairs { self.alphabet * self.alphabet } else { self.alphabet }
    }
    /// Mean of −ln p of each byte after the first.
    pub(crate) fn loss(&self, text: &[u8]) -> f64 {
        let each = text.windows(2);
        let nats = each.map(|b| -self.after(b[0])[usize::from(b[1])].ln());
        nats.sum::<f64>() / (text.len() - 1) as f64
    }
    /// Writes `n` bytes after `first`, each drawn from the row of the last.
    pub(crate) fn write(
        &self, first: u8, n: usize, rng: &mut Rng,
    ) -> Vec<usize> {
        let mut last = first;
        let draw = |_| {
            let token = sample_inverse_cdf(self.after(last), rng.uniform());
            last = token as u8;
            token
        };
        (0..n).map(draw).collect()
    }
}
