//! Chapter: optimizer. The learning rate: up in a line, down in a cosine.

use crate::error::{Error, Result};
use std::f64::consts::PI;

/// The learning rate of each step.
///
/// ηₙ = η·n/W for n ≤ W; then from η down to η/10 at the last step,
/// ηₙ = η/10 + (η − η/10)·(1 + cos(π·(n − W)/(S − W)))/2.
/// Source: Loshchilov & Hutter 2017 (SGDR), eq. 5, without restarts.
///
/// ```
/// use moe_by_hand::train::schedule::Schedule;
/// let s = Schedule::new(1.0, 10, 100).unwrap();
/// let rates = [5, 10, 55, 100].map(|n| s.rate(n));
/// for (rate, want) in rates.iter().zip([0.5, 1.0, 0.55, 0.1]) {
///     approx::assert_abs_diff_eq!(*rate, want, epsilon = 1e-15);
/// }
/// assert!(Schedule::new(1.0, 10, 10).is_err()); // no step left to fall
/// assert_eq!(Schedule::new(1.0, 0, 10).unwrap().rate(0), 0.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    max: f64,
    warmup: usize,
    steps: usize,
}
impl Schedule {
    /// η, W and S: the highest rate, the steps of warm-up, all steps.
    ///
    /// # Errors
    /// If the rate is not a positive number, or S ≤ W.
    pub fn new(max: f64, warmup: usize, steps: usize) -> Result<Self> {
        if !(max > 0.0 && max.is_finite()) {
            let rule = "a learning rate is a positive number";
            return Err(Error::input("--lr", max, rule, "try 1e-3"));
        }
        if steps <= warmup {
            return Err(Error::input(
                "--steps",
                steps,
                format!("it has to be more than the {warmup} of warm-up"),
                "take more steps",
            ));
        }
        Ok(Self { max, warmup, steps })
    }
    /// ηₙ for step n, counted from 1; past the last step, the last rate, and
    /// before the first, 0.
    pub fn rate(&self, n: usize) -> f64 {
        if n <= self.warmup {
            let w = self.warmup.max(1) as f64;
            return self.max * n as f64 / w; // eq: lr-warmup
        }
        let fallen = (n - self.warmup) as f64;
        let t = (fallen / (self.steps - self.warmup) as f64).min(1.0);
        let min = 0.1 * self.max;
        min + (self.max - min) * (1.0 + libm::cos(PI * t)) / 2.0 // eq: lr-cosine
    }
}
