//! Chapter: optimizer. The learning rate: up in a line, down in a cosine or at
//! the end.

use crate::error::{Error, Result, rule};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;
use std::str::FromStr;

/// How the rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Half a cosine, from the first step after the warm-up to the last.
    Cosine,
    /// Not before the cooldown: warm-up, stable, decay.
    Wsd,
}
impl FromStr for Kind {
    type Err = String;
    fn from_str(name: &str) -> std::result::Result<Self, String> {
        match name {
            "cosine" => Ok(Self::Cosine),
            "wsd" => Ok(Self::Wsd),
            _ => Err("it is cosine or wsd".into()),
        }
    }
}

/// The learning rate of each step.
///
/// Up in a line, and then down to a tenth at the last step, along half a
/// cosine. ηₙ = η·n/W for n ≤ W; then ηₙ = η/10 + (η − η/10)·(1 + cos(π·(n −
/// W)/(S − W)))/2.
/// Source: Loshchilov & Hutter 2017 (SGDR), eq. 5, without restarts.
/// [`Schedule::stable`] is the other kind.
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
    /// C, where the rate falls in the last C steps only.
    cooldown: Option<usize>,
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
        Ok(Self { max, warmup, steps, cooldown: None })
    }
    /// The same rates up to the last `cooldown` steps, constant from the end of
    /// the warm-up on; then down to 0, by ηₙ = η·(1 − √((n − (S − C))/C)).
    ///
    /// What was trained up to there can be trained longer: only the cooldown
    /// depends on S.
    /// Source: Hu et al. 2024; this form, Hägele et al. 2024.
    ///
    /// # Errors
    /// If there are no such steps after the warm-up.
    ///
    /// ```
    /// use moe_by_hand::train::schedule::Schedule;
    /// let s = Schedule::new(1.0, 10, 100).unwrap().stable(40).unwrap();
    /// let rates = [5, 10, 60, 70, 100].map(|n| s.rate(n));
    /// assert_eq!(rates, [0.5, 1.0, 1.0, 0.5, 0.0]);
    /// ```
    pub fn stable(self, cooldown: usize) -> Result<Self> {
        let most = self.steps - self.warmup;
        rule(
            (1..=most).contains(&cooldown),
            "the cooldown",
            format!("{cooldown} steps"),
            format!("it is 1 to the {most} steps after the warm-up"),
            "change --cooldown or --steps",
        )?;
        Ok(Self { cooldown: Some(cooldown), ..self })
    }
    /// ηₙ for step n, counted from 1; past the last step, the last rate, and
    /// before the first, 0.
    pub fn rate(&self, n: usize) -> f64 {
        if n <= self.warmup {
            let w = self.warmup.max(1) as f64;
            return self.max * n as f64 / w; // eq: lr-warmup
        }
        if let Some(cooldown) = self.cooldown {
            let past = n.saturating_sub(self.steps - cooldown).min(cooldown);
            let share = past as f64 / cooldown as f64;
            return self.max * (1.0 - share.sqrt()); // eq: lr-wsd
        }
        let fallen = (n - self.warmup) as f64;
        let t = (fallen / (self.steps - self.warmup) as f64).min(1.0);
        let min = 0.1 * self.max;
        min + (self.max - min) * (1.0 + libm::cos(PI * t)) / 2.0 // eq: lr-cosine
    }
}
