//! Chapter: elementary. The figures whose points are measured: in each interval
//! of x the largest error, at the argument that has it.

use super::functions::{FUSED, OTHERS};
use moe_by_hand::check::elementary::{FUNCTIONS, Function};

/// A figure: its lines, each the error of a function, and its header.
#[allow(dead_code, reason = "a test reads names and lines only")]
pub(crate) struct Chart {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) alt: &'static str,
    pub(crate) x: &'static str,
    pub(crate) log: &'static str,
    /// The names of the lines.
    pub(crate) names: &'static [&'static str],
    pub(crate) lines: &'static [Function],
}
pub(crate) const CHARTS: &[Chart] = &[
    Chart {
        name: "ulps-exp",
        title: "Largest error of eˣ for each whole number that x begins with, \
                over every f32",
        alt: "The largest error of the exponential over intervals of length 1 \
              from −87 to 88.",
        x: "x",
        log: "",
        names: &["each operation rounded", "fused"],
        lines: &[FUNCTIONS[0], FUSED],
    },
    Chart {
        name: "ulps-ln",
        title: "Largest error of ln x in each sixteenth of a power of two, \
                over every f32 there",
        alt: "The largest error of the logarithm from 1/32 to 32.",
        x: "x",
        log: "x",
        names: &["ln x"],
        lines: &[FUNCTIONS[1]],
    },
    Chart {
        name: "ulps-sin",
        title: "Largest error of sin x in each eighth of a power of two, over \
                every f32 there, with π/2 in two parts of f64 and of f32",
        alt: "The largest error of the sine from 1/64 to 2¹⁷, both axes \
              logarithmic.",
        x: "x",
        log: "xy",
        names: &["f64", "f32"],
        lines: &[FUNCTIONS[4], OTHERS[2]],
    },
];
