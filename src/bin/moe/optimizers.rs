//! Chapter: optimizer. The optimizers that a run can have.

use moe_by_hand::error::{Error, Result, rule};
use moe_by_hand::params::Layout;
use moe_by_hand::train::muon::{Muon, hidden};
use moe_by_hand::train::optimizer::{AdamW, Decay, StepFrom};
use moe_by_hand::train::options::Options;
use moe_by_hand::train::precision::Stored;
use std::str::FromStr;

/// Whichever of them it is, in a run that is stored in numbers of type `T`.
pub(crate) type Any<T> = Box<dyn StepFrom<T>>;
/// Which one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Choice {
    AdamW,
    Muon,
}
impl FromStr for Choice {
    type Err = String;
    fn from_str(name: &str) -> std::result::Result<Self, String> {
        match name {
            "adamw" => Ok(Self::AdamW),
            "muon" => Ok(Self::Muon),
            _ => Err("it is adamw or muon".into()),
        }
    }
}
impl Choice {
    /// The one that a run was begun with.
    pub(crate) fn of_run(name: &str) -> Result<Self> {
        name.parse().map_err(|known| {
            let cure = "go on with the program that began the run";
            Error::input("the run's optimizer", name, known, cure)
        })
    }
    /// Whether its rates allow the decay.
    pub(crate) fn validate(self, o: &Options) -> Result<()> {
        let shrinks = o.muon_lr * o.decay;
        let rule_of = format!(
            "a step shrinks hidden matrices by --muon-lr times it, {shrinks}, \
             which is at most 1"
        );
        let valid = self == Self::AdamW || shrinks <= 1.0;
        rule(valid, "--decay", o.decay, rule_of, "lower one of them")
    }
    /// What makes it for a model, with memory for so many threads.
    pub(crate) fn maker<T: Stored>(
        self, o: &Options, threads: usize,
    ) -> impl Fn(&Layout) -> Any<T> + use<T>
    where
        AdamW<f32>: StepFrom<T>,
        Muon<f32>: StepFrom<T>,
    {
        let (decay, ratio) = (o.decay, o.muon_lr / o.lr);
        move |layout| match self {
            Self::AdamW => Box::new(AdamW::new(layout, decay, Decay::Weights)),
            Self::Muon => {
                Box::new(Muon::with(layout, decay, ratio, threads, hidden))
            }
        }
    }
    /// What it keeps, in words.
    pub(crate) fn states(self) -> &'static str {
        match self {
            Self::AdamW => "AdamW's m and v",
            Self::Muon => "Muon's momentum, AdamW's m and v, scratch",
        }
    }
}
