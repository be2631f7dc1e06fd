//! Chapter: elementary. How far the elementary functions are from the true
//! values, over every f32 of their domains, and where most.
#![allow(clippy::unwrap_used, reason = "an example may panic")]

#[path = "../figures/csv.rs"]
mod csv;
mod functions;
mod measured;
mod charts;
mod speed;

use charts::{CHARTS, Chart};
use clap::Parser;
use csv::Csv;
use measured::{Measured, all};
use moe_by_hand::check::elementary::{Function, NEAR_QUARTERS, ulps};
use moe_by_hand::elementary::reduce;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Measure the elementary functions in ulps, over every f32 of their domains.
///
/// The true value is that of Rust's standard library in f64, which is within
/// 2⁻²⁹ of an ulp of f32. An ulp is the spacing of f32 where the true value
/// lies: a correctly rounded result is off by half of it at most. Each function
/// takes a minute or two.
#[derive(Parser)]
struct Args {
    /// Only functions whose names contain this
    name: Option<String>,
    /// Every so many-th number instead of all
    #[arg(long, default_value_t = 1)]
    every: usize,
    /// Write the data of the chapter's figures into book/figures
    #[arg(long)]
    csv: bool,
    /// Time the functions instead, on each instruction set, over a million
    /// numbers
    #[arg(long)]
    time: bool,
}

/// A largest error, and where.
#[derive(Clone, Copy, Default)]
struct Worst {
    ulps: f64,
    at: f32,
}
impl Worst {
    fn of(self, o: Self) -> Self {
        if o.ulps > self.ulps { o } else { self }
    }
}
/// What is known of a function.
#[derive(Clone, Default)]
struct Tally {
    numbers: u64,
    /// How many are not the nearest f32.
    not_nearest: u64,
    worst: Worst,
    /// By place in the figure.
    places: BTreeMap<i32, Worst>,
}
impl Tally {
    fn add(mut self, o: Self) -> Self {
        self.numbers += o.numbers;
        self.not_nearest += o.not_nearest;
        self.worst = self.worst.of(o.worst);
        for (place, worst) in o.places {
            let of = self.places.entry(place).or_default();
            *of = of.of(worst);
        }
        self
    }
}

/// Numbers that are measured at once.
const BLOCK: usize = 1 << 16;

fn tally(m: &Measured, every: usize) -> Tally {
    let blocks = (0..(1usize << 32) / BLOCK).into_par_iter();
    let of_block = |b: usize| {
        let mut tally = Tally::default();
        let first = (b * BLOCK).next_multiple_of(every);
        let bits = (first..(b + 1) * BLOCK).step_by(every);
        let x = bits.map(|bits| f32::from_bits(bits as u32));
        let x: Vec<f32> = x.filter(|&x| m.function.takes(x)).collect();
        let y = if x.is_empty() { vec![] } else { (m.run)(&m.function, &x) };
        for (&at, y) in x.iter().zip(y) {
            let ulps = ulps(y, (m.function.exact)(at.into()));
            let worst = Worst { ulps, at };
            tally.numbers += 1;
            tally.not_nearest += u64::from(ulps > 0.5);
            tally.worst = tally.worst.of(worst);
            if let Some(place) = (m.place)(at) {
                let of = tally.places.entry(place).or_default();
                *of = of.of(worst);
            }
        }
        tally
    };
    blocks.map(of_block).reduce(Tally::default, Tally::add)
}
/// A row of the chapter's table.
fn row(f: &Function, t: &Tally) -> String {
    let [low, high] = f.domain.map(|x| format!("{x:e}"));
    let share = 100.0 * t.not_nearest as f64 / t.numbers as f64;
    format!(
        "| {} | {low} to {high} | {} | {:.4} | {:e} | {share:.2} % |",
        f.name, t.numbers, t.worst.ulps, t.worst.at
    )
}

/// Writes a figure's data.
fn write(chart: &Chart, tallies: &BTreeMap<&str, Tally>) {
    let Chart { name, title, alt, x, log, names, lines } = chart;
    let mut csv = Csv::chart(name, title, alt, [x, "largest error in ulps"]);
    if !log.is_empty() {
        csv = csv.with("log", log);
    }
    csv.row(format!("x,{}", names.join(",")));
    for (i, f) in lines.iter().enumerate() {
        let mut points: Vec<Worst> =
            tallies[f.name].places.values().copied().collect();
        points.sort_by(|a, b| a.at.total_cmp(&b.at));
        for Worst { ulps, at } in points {
            let mut cells = vec![String::new(); lines.len()];
            cells[i] = format!("{ulps:.4}");
            csv.row(format!("{at:e},{}", cells.join(",")));
        }
    }
    let path = csv.write("cargo example ulps -- --csv").unwrap();
    println!("{}", path.display());
}

/// The f32 of the domain of sine that are nearest to a multiple of π/2.
fn near_quarters() -> [f32; 2] {
    let all = 0x3f80_0000..=131_072f32.to_bits();
    let key = |&x: &f32| reduce(x).0.abs();
    let nearest = |of: &(dyn Fn(f32) -> f32 + Sync)| {
        let all = all.clone().into_par_iter().map(f32::from_bits);
        all.min_by(|&a, &b| of(a).total_cmp(&of(b))).unwrap()
    };
    [nearest(&|x| key(&x)), nearest(&|x| key(&x) / x)]
}

fn main() {
    registry::end_with_the_reader();
    let args = Args::parse();
    if args.time {
        return speed::print();
    }
    println!(
        "| function | arguments | how many | largest error, ulp | at | not \
         nearest |\n|---|---|---:|---:|---:|---:|"
    );
    let wanted = |m: &Measured| match &args.name {
        Some(name) => m.function.name.contains(name),
        None => true,
    };
    let all: Vec<Measured> = all().into_iter().filter(wanted).collect();
    let mut tallies = BTreeMap::new();
    for m in &all {
        let tally = tally(m, args.every);
        println!("{}", row(&m.function, &tally));
        tallies.insert(m.function.name, tally);
    }
    if args.name.is_none() {
        let near = near_quarters();
        println!("\nnearest to a multiple of π/2: {near:?}");
        assert_eq!(near, NEAR_QUARTERS, "correct src/check/elementary.rs");
    }
    if args.csv {
        CHARTS.iter().for_each(|chart| write(chart, &tallies));
    }
}
