//! Chapter: measuring. The same work many times, and how long each took.

use crate::clock::table;
use crate::csv::{Csv, short};
use crate::peak::normal;
use moe_by_hand::kernel::matrix::{Set, mat, mat_mut, matmul};
use std::hint::black_box;
use std::time::Instant;

/// How often.
const RUNS: usize = 2000;

/// Prints what the times are like, and sorts them into a figure.
pub(crate) fn print() -> Csv {
    let n = 192;
    let (a, b, mut c) = (normal(n * n, 1), normal(n * n, 2), vec![0.0; n * n]);
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            matmul(mat_mut(black_box(&mut c), n), Set, mat(&a, n), mat(&b, n));
            1e6 * start.elapsed().as_secs_f64()
        })
        .collect();
    let first = times[0];
    times.sort_by(f64::total_cmp);
    // Half of the runs are below the median: how many of 2000 fair coins fall
    // is within 1.96·√2000/2 of the half, 95 times of 100.
    let (middle, off) = (RUNS / 2, (0.98 * (RUNS as f64).sqrt()) as usize);
    let mean = times.iter().sum::<f64>() / RUNS as f64;
    let us = |t: f64| format!("{t:.1}");
    let low = us(times[middle - off]);
    let interval = format!("{low} to {}", us(times[middle + off]));
    let rows = [
        ["the first".into(), us(first)],
        ["shortest".into(), us(times[0])],
        ["median".into(), us(times[middle])],
        ["its interval, 95 %".into(), interval],
        ["mean".into(), us(mean)],
        ["99 of 100 are below".into(), us(times[RUNS / 100 * 99])],
        ["longest".into(), us(times[RUNS - 1])],
    ];
    table(&format!("{RUNS} runs, µs"), &rows);
    let mut csv = Csv::chart(
        "run-times",
        &format!(
            "{RUNS} runs of one product of 192 × 192 matrices, sorted by how \
             long they took"
        ),
        &format!(
            "Microseconds of {RUNS} runs, sorted. Most \
             of the curve is flat, near the median of {} µs; at the right end \
             it shoots up to {} µs. The mean, {} µs, is above the flat part.",
            us(times[middle]),
            us(times[RUNS - 1]),
            us(mean)
        ),
        ["percent of the runs", "µs"],
    );
    csv.row("share,");
    for (i, &t) in times.iter().enumerate() {
        if i % 20 == 0 || i > RUNS - 20 {
            csv.row(format!(
                "{},{}",
                short(100.0 * i as f64 / RUNS as f64),
                short(t)
            ));
        }
    }
    let [mean, half] = [mean, times[middle]].map(short);
    csv.row(format!("guide,100,{mean},0,{mean},ne,mean"));
    csv.row(format!("mark,0,50,{half},s,median"));
    csv
}
