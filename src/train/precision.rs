//! Chapter: half. What a run stores its numbers in, and the loss scale that
//! keeps small gradients from becoming 0 there.
//!
//! θ itself, the optimizer's moments, losses and norms are f32. The passes read
//! a copy of θ that is rounded anew before each step; that copy, the
//! activations and all gradients are stored in the run's precision.

use crate::half::{Bf16, F16};
use crate::kernel::vector::CHUNK;
use crate::params::{Layout, Params};
use crate::real::Real;
use rayon::prelude::*;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;
use std::str::FromStr;

/// What numbers are stored in.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits, as they are computed with.
    #[default]
    F32,
    /// [`Bf16`].
    Bf16,
    /// [`F16`].
    F16,
}
impl Precision {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::F16];

    /// What a safetensors file calls it.
    pub fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
            Self::F16 => Dtype::F16,
        }
    }
}
impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}
impl FromStr for Precision {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|p| p.to_string() == name);
        found.ok_or_else(|| "it is f32, bf16 or f16".into())
    }
}

/// A number that a run can be stored in.
pub trait Stored: Real<Wide = f32> {
    /// Its name.
    const PRECISION: Precision;
    /// What the passes read: θ itself, or the copy.
    fn working<'a>(
        theta: &'a Params<f32>, copy: &'a Params<Self>,
    ) -> &'a Params<Self>;
}
impl Stored for f32 {
    const PRECISION: Precision = Precision::F32;
    fn working<'a>(
        theta: &'a Params<f32>, _: &'a Params<f32>,
    ) -> &'a Params<f32> {
        theta
    }
}
impl Stored for Bf16 {
    const PRECISION: Precision = Precision::Bf16;
    fn working<'a>(
        _: &'a Params<f32>, copy: &'a Params<Self>,
    ) -> &'a Params<Self> {
        copy
    }
}
impl Stored for F16 {
    const PRECISION: Precision = Precision::F16;
    fn working<'a>(
        _: &'a Params<f32>, copy: &'a Params<Self>,
    ) -> &'a Params<Self> {
        copy
    }
}
/// Memory for the copy that the passes read; of f32 there is none.
pub(crate) fn working<T: Stored>(layout: &Layout) -> Params<T> {
    let none = Layout::default();
    let of = if T::STORED { layout } else { &none };
    of.zeros()
}
/// Rounds θ to the copy that the passes read.
pub(crate) fn round<T: Stored>(copy: &mut Params<T>, theta: &Params<f32>) {
    let chunks = copy.data.par_chunks_mut(CHUNK);
    chunks.zip(theta.data.par_chunks(CHUNK)).for_each(|(to, x)| {
        T::narrow(to, x);
    });
}

/// What the loss is multiplied by, S, before backward, and the gradient divided
/// by after it: a power of 2 changes no bit of a number that keeps them all,
/// and lifts those that would be 0 in f16.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Value", try_from = "Value")]
pub enum LossScale {
    /// S throughout; a gradient that is not finite ends the run.
    Fixed(f64),
    /// As [`Scaler`] finds it.
    Dynamic,
}
impl LossScale {
    /// What a run of this precision has if it is not told: f16 needs a scale.
    pub fn of(precision: Precision) -> Self {
        match precision {
            Precision::F16 => Self::Dynamic,
            Precision::F32 | Precision::Bf16 => Self::Fixed(1.0),
        }
    }
}
impl fmt::Display for LossScale {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Fixed(scale) => scale.fmt(f),
            Self::Dynamic => f.write_str(DYNAMIC),
        }
    }
}
impl FromStr for LossScale {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        match word.parse() {
            _ if word == DYNAMIC => Ok(Self::Dynamic),
            Ok(scale) => Ok(Self::Fixed(scale)),
            Err(_) => Err("it is a positive number, or dynamic".into()),
        }
    }
}
impl From<LossScale> for Value {
    fn from(scale: LossScale) -> Value {
        match scale {
            LossScale::Fixed(scale) => json!(scale),
            LossScale::Dynamic => json!(DYNAMIC),
        }
    }
}
impl TryFrom<Value> for LossScale {
    type Error = String;
    fn try_from(json: Value) -> Result<Self, String> {
        match json.as_f64() {
            Some(scale) => Ok(Self::Fixed(scale)),
            None => json.as_str().unwrap_or_default().parse(),
        }
    }
}
const DYNAMIC: &str = "dynamic";

/// The first scale: 2¹⁶.
pub const FIRST: f64 = 65_536.0;
/// Steps with a finite gradient after which the scale is doubled.
pub const CLEAN: usize = 2000;
/// Steps that a scale may stay below 1.
pub const LOW: usize = 100;

/// A scale that is as large as the gradients allow.
///
/// It starts at [`FIRST`], is doubled after [`CLEAN`] steps with a finite
/// gradient, and halved after each other step, which is skipped: it moves
/// neither θ nor what the optimizer keeps. A checkpoint has all of it.
/// Source: Micikevicius et al. 2018, §3.2.
///
/// ```
/// use moe_by_hand::train::precision::{CLEAN, Scaler};
/// let mut s = Scaler::default();
/// s.update(false);
/// assert_eq!((s.scale, s.skipped), (32_768.0, 1));
/// (0..CLEAN).for_each(|_| s.update(true));
/// assert_eq!((s.scale, s.clean), (65_536.0, 0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaler {
    /// S.
    pub scale: f64,
    /// c, steps with a finite gradient since S has changed.
    pub clean: usize,
    /// Steps that were skipped.
    pub skipped: usize,
    /// Steps for which S has been below 1.
    pub low: usize,
}
impl Default for Scaler {
    fn default() -> Self {
        Self { scale: FIRST, clean: 0, skipped: 0, low: 0 }
    }
}
impl Scaler {
    /// Call it after each step, with whether all of its gradient was finite.
    pub fn update(&mut self, finite: bool) {
        self.clean = if finite { self.clean + 1 } else { 0 };
        self.skipped += usize::from(!finite);
        // eq: loss-scale-update
        self.scale *= match (finite, self.clean) {
            (false, _) => 0.5,
            (true, CLEAN) => 2.0,
            (true, _) => 1.0,
        };
        self.clean %= CLEAN;
        self.low = if self.scale < 1.0 { self.low + 1 } else { 0 };
    }
    /// Whether a checkpoint can have held this.
    pub(crate) fn check(&self) -> Result<(), String> {
        let scale = self.scale;
        // A power of two: only the exponent's bits are set.
        let power =
            scale > 0.0 && scale.is_normal() && scale.to_bits() << 12 == 0;
        if power && self.clean < CLEAN {
            return Ok(());
        }
        Err(format!("a loss scale of {scale} after {} steps", self.clean))
    }
}
