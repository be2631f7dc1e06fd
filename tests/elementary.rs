//! The elementary functions in ulps: a sample of all arguments and the worst of
//! each, on every machine the same. All arguments:
//! `cargo example ulps`.
#![allow(missing_docs, reason = "a test is documented by its name")]

#[path = "ulps/functions.rs"]
mod functions;

#[path = "ulps/charts.rs"]
mod charts;

use charts::CHARTS;
use functions::{FUSED, OTHERS, exp_on};
use moe_by_hand::check::elementary::{FUNCTIONS, Function, ulps};
use moe_by_hand::elementary::{exp, ln, rsqrt, sin_cos, sqrt};
use moe_by_hand::kernel::simd::Isa;
use std::fs;
use std::path::Path;

/// Some million numbers, or what Miri has time for.
const STEP: usize = if cfg!(miri) { 30_000_001 } else { 3001 };

/// No number of the sample is farther off than the worst, which is as far off
/// as it was found to be.
fn measured(f: &Function, error: impl Fn(f32) -> f64) {
    let (most, name) = (f.most, f.name);
    let worst = error(f.at);
    assert!(
        (worst - most).abs() < 1e-4,
        "{name}: at {:e} {worst:.4} ulp, and not {most:.4}",
        f.at
    );
    for x in f.sample(STEP) {
        let error = error(x);
        assert!(error <= most + 1e-4, "{name}: {error:.4} ulp at {x:e}");
    }
}

#[test]
fn within_the_ulps_that_were_measured() {
    for f in FUNCTIONS.iter().chain(&OTHERS) {
        measured(f, |x| f.error(x));
    }
}

/// The chapter's table: its last arguments still have values.
#[test]
fn domains_end_where_the_chapter_says() {
    let last = 131_072f32; // 2¹⁷
    for x in [last, -last] {
        let (sin, cos) = sin_cos(x);
        let right = f64::from(x).sin_cos();
        assert!((f64::from(sin) - right.0).abs() < 1e-6, "sin {x}: {sin}");
        assert!((f64::from(cos) - right.1).abs() < 1e-6, "cos {x}: {cos}");
        assert!(sin_cos(x * (1.0 + f32::EPSILON)).0.is_nan(), "beyond {x}");
    }
    assert_eq!(exp(-87.0), 0.0);
    assert!(exp(-86.98) >= f32::MIN_POSITIVE, "{}", exp(-86.98));
    assert_eq!([sqrt(0.0), sqrt(f32::INFINITY)], [0.0, f32::INFINITY]);
    assert_eq!([rsqrt(0.0), rsqrt(f32::INFINITY)], [f32::INFINITY, 0.0]);
    assert_eq!(
        [ln(0.0), ln(f32::INFINITY)],
        [f32::NEG_INFINITY, f32::INFINITY]
    );
    for x in [-1.0, f32::NAN] {
        let all = [ln(x), sqrt(x), rsqrt(x)];
        assert!(all.iter().all(|y| y.is_nan()), "of {x}: {all:?}");
    }
}

#[test]
fn exp_of_vectors_is_the_same_function() {
    let all: Vec<f32> =
        (0..=u32::MAX).step_by(STEP).map(f32::from_bits).collect();
    let plain = all.iter().map(|&x| exp(x));
    let portable = exp_on(Isa::Portable, &all);
    for ((x, plain), vector) in all.iter().zip(plain).zip(portable) {
        let same = plain.to_bits() == vector.to_bits();
        let nan = plain.is_nan() && vector.is_nan();
        assert!(same || nan, "e^{x}: {plain:e}, of vectors {vector:e}");
    }
    let fused = |isa: &Isa| *isa != Isa::Portable;
    for isa in Isa::here().filter(fused) {
        let x: Vec<f32> = FUSED.sample(STEP).chain([FUSED.at]).collect();
        let errors = exp_on(isa, &x).into_iter().zip(&x).map(|(y, &x)| {
            let error = ulps(y, f64::from(x).exp());
            assert!(error <= FUSED.most + 1e-4, "{isa} e^{x}: {error:.4}");
            error
        });
        let worst = errors.fold(0.0, f64::max);
        assert!(worst > FUSED.most - 1e-4, "{isa}: {worst:.4} ulp at most");
    }
}

fn read(file: &str) -> String {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(top.join(file)).expect(file)
}

#[test]
fn the_figures_show_what_is_measured() {
    for chart in CHARTS {
        let text = read(&format!("book/figures/{}.csv", chart.name));
        let rows = text.lines().filter(|l| !l.starts_with('#'));
        let mut points = 0;
        for row in rows.skip(1) {
            let mut cells = row.split(',');
            let x: f32 = cells.next().unwrap().parse().unwrap();
            for (cell, f) in cells.zip(chart.lines) {
                // of the fused one there may be no set here
                if cell.is_empty() || f.name == FUSED.name {
                    continue;
                }
                let (kept, now): (f64, _) = (cell.parse().unwrap(), f.error(x));
                let off = (kept - now).abs() / kept.max(1.0);
                assert!(off < 1e-4, "{}: {now} at {x:e}", chart.name);
                assert!(now <= f.most + 1e-4, "{}: at {x:e}", chart.name);
                points += 1;
            }
        }
        assert!(points > 80, "{}: {points} points", chart.name);
    }
}

#[test]
fn the_chapter_shows_what_is_measured() {
    let chapter = read("book/src/elementary.md");
    for f in FUNCTIONS.iter().chain([&FUSED]).chain(&OTHERS) {
        let row = format!("| {} |", f.name);
        let row = chapter.lines().find(|l| l.starts_with(&row));
        let row = row.unwrap_or_else(|| panic!("no row of {}", f.name));
        let numbers = format!("| {:.4} | {:e} |", f.most, f.at);
        assert!(row.contains(&numbers), "{row}\nhas not {numbers}");
    }
}
