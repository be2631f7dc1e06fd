//! Chapter: sampling. How the next token is chosen.

use crate::error::{Error, Result};
use crate::kernel::softmax::softmax_forward;
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
/// Σⱼ pⱼ ≥ `mass`, else 0. Source: Holtzman et al. 2020, eq. 2 and 3.
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

/// A token, each as often as its probability says, from a uniform number u in
/// [0, 1). It is the smallest i with u < p₀ + … + pᵢ.  p: [v]
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
    /// Always takes the largest logit, and among equal ones that of the lowest
    /// index, as a temperature of 0 does.
    ///
    /// ```
    /// use moe_by_hand::{generate::Sampler, rng::Rng};
    /// let mut sampler = Sampler::greedy();
    /// let token = sampler.sample(&[1.0, 3.0, 3.0], &mut Rng::new(0, 0));
    /// assert_eq!(token.unwrap(), 1);
    /// ```
    pub fn greedy() -> Self {
        let (p, order) = (vec![], vec![]);
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, p, order }
    }
    /// A temperature of 0 samples as [`Sampler::greedy`] does; `top_k` of 0, or of
    /// the vocabulary or more, is off, and so is `top_p` of 1.
    ///
    /// # Errors
    /// If the temperature is below 0 or not finite, or `top_p` not in (0, 1].
    ///
    /// ```
    /// use moe_by_hand::{generate::Sampler, rng::Rng};
    /// let mut sampler = Sampler::new(1.0, 2, 1.0).unwrap(); // the two largest
    /// let token = sampler.sample(&[1.0, 3.0, 3.0], &mut Rng::new(0, 0));
    /// assert!(token.unwrap() > 0);
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
