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
        title: "Largest error of eˣ in each interval of length 1, over every f32",
        alt: "The largest error of the exponential in intervals of length 1 \
              from −87 to 88. It lies between 1.96 and 2.31 ulp in the plain form and \
              between 1.76 and 2.02 in the fused one, with no trend.",
        x: "x",
        log: "",
        names: &["plain", "fused"],
        lines: &[FUNCTIONS[0], FUSED],
    },
    Chart {
        name: "ulps-ln",
        title: "Largest error of ln x in each sixteenth of a power of two, \
                over every f32 there",
        alt: "The largest error of the logarithm from 1/32 to 32. It has \
              a peak at each odd power of √2, of 0.6 ulp far from 1 and of \
              0.86 next to √½ and √2, and falls to 0.5 in between.",
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
              logarithmic. With parts of f64 it stays below 1.5 ulp. With \
              parts of f32 it jumps at each multiple of π, by 721 ulp at π \
              and by fifteen million in the end.",
        x: "x",
        log: "xy",
        names: &["f64", "f32"],
        lines: &[FUNCTIONS[4], OTHERS[2]],
    },
];
