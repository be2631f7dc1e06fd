//! Chapter: memory. The same numbers in another order: rows, columns, strides.

use crate::clock::{median, medians, table};
use crate::csv::{Csv, short};
use std::hint::black_box;

/// Changes each number of a matrix, row by row or column by column: ns for
/// each.
fn both_ways(n: usize) -> [f64; 2] {
    let (mut x, mut y) = (vec![1.0f32; n * n], vec![1.0f32; n * n]);
    let one = black_box(1.0); // or they would become subnormal
    let by_row = &mut || {
        let x = black_box(&mut x);
        for i in 0..n {
            for j in 0..n {
                x[i * n + j] *= one;
            }
        }
    };
    let by_column = &mut || {
        let y = black_box(&mut y);
        for j in 0..n {
            for i in 0..n {
                y[i * n + j] *= one;
            }
        }
    };
    medians([by_row, by_column]).map(|t| 1e9 * t / (n * n) as f64)
}
/// Every s-th number of 64 MiB, ns for each.
fn stride(s: usize) -> f64 {
    let mut x = vec![1.0f32; 1 << 24];
    let (count, one) = (x.len() / s, black_box(1.0));
    let t = median(|| {
        for x in black_box(&mut x).iter_mut().step_by(s) {
            *x *= one;
        }
    });
    1e9 * t / count as f64
}
/// A transpose, number by number and in blocks of 16 × 16: ns for each.
fn transposes(n: usize) -> [f64; 2] {
    let x = vec![1.0f32; n * n];
    let (mut y, mut z) = (vec![0.0f32; n * n], vec![0.0f32; n * n]);
    let plain = &mut || {
        let y = black_box(&mut y);
        for i in 0..n {
            for j in 0..n {
                y[j * n + i] = x[i * n + j];
            }
        }
    };
    let blocks = &mut || {
        let z = black_box(&mut z);
        for (i0, j0) in blocks_of(n) {
            for i in i0..i0 + 16 {
                for j in j0..j0 + 16 {
                    z[j * n + i] = x[i * n + j];
                }
            }
        }
    };
    let times = medians([plain, blocks]).map(|t| 1e9 * t / (n * n) as f64);
    assert!(y == z, "both transpose");
    times
}
fn blocks_of(n: usize) -> impl Iterator<Item = (usize, usize)> {
    assert_eq!(n % 16, 0, "whole blocks");
    let starts = move || (0..n).step_by(16);
    starts().flat_map(move |i| starts().map(move |j| (i, j)))
}

/// Prints three tables; the second is a figure.
pub(crate) fn print() -> Csv {
    let ns = |t: f64| format!("{t:.2}");
    let rows = [64, 512, 1024, 4096].map(|n| {
        let [row, column] = both_ways(n);
        let size = format!("{n} × {n}, {} KiB", n * n * 4 / 1024);
        [size, ns(row), ns(column), format!("{:.1}", column / row)]
    });
    table("matrix, by rows, by columns, times", &rows);
    let strides: Vec<(usize, f64)> =
        (0..=12).map(|i| (1 << i, stride(1 << i))).collect();
    let rows: Vec<_> = strides
        .iter()
        .map(|&(s, t)| [s.to_string(), (4 * s).to_string(), ns(t)])
        .collect();
    table("stride, bytes, ns per number", &rows);
    let sizes = [992, 1008, 1024, 1040, 1056, 2032, 2048, 2064];
    let rows = sizes.map(|n| {
        let [plain, blocks] = transposes(n);
        [n.to_string(), ns(plain), ns(blocks)]
    });
    table("n, number by number, in blocks of 16 × 16", &rows);
    figure(&strides)
}
fn figure(strides: &[(usize, f64)]) -> Csv {
    let at = |s: usize| strides.iter().find(|p| p.0 == s).unwrap().1;
    let mut csv = Csv::chart(
        "stride-cost",
        "Time for each number, if every s-th of 64 MiB is read and written",
        &format!(
            "Nanoseconds per number over the stride in bytes, both axes \
             logarithmic. It rises from {:.2} ns for neighbors to {:.1} ns \
             where each number has a cache line of its own, 64 bytes, and on \
             to {:.1} ns where each has a page of its own, 4096 bytes.",
            at(1),
            at(16),
            at(1024)
        ),
        ["stride in bytes", "ns per number"],
    )
    .with("log", "xy");
    csv.row("s,");
    for &(s, t) in strides {
        csv.row(format!("{},{}", 4 * s, short(t)));
    }
    for (s, side, what) in
        [(16, "se", "a line for each"), (1024, "nw", "a page for each")]
    {
        csv.row(format!("mark,0,{},{},{side},{what}", 4 * s, short(at(s))));
    }
    csv
}
