//! Chapter: simd. A tile in its registers, and where the rows of B lie in a
//! small cache.

use crate::csv::Csv;

/// A first-level cache of 32 KiB: lines of 64 bytes, 64 sets, 8 ways.
const LINE: usize = 64;
const SETS: usize = 64;
const WAYS: usize = 8;

pub(crate) fn register_tile() -> Csv {
    let (rows, vectors) = (6, 4);
    let loads = rows + vectors;
    let mut csv = Csv::drawing(
        "register-tile",
        "One step of a tile of 6 rows and 4 vectors: 10 loads for 24 fused \
         multiply-adds, and 29 registers",
        "A grid of 24 boxes, 6 rows of 4, the sums. Above them stand 4 boxes, \
         the vectors of row k of B; at their left 6 boxes, one number of each \
         row of A, spread over all lanes. Each sum takes the product of the \
         number at its left and the vector above it.",
    );
    let (left, top, wide, high) = (84.0, 66.0, 62.0, 22.0);
    let x = |j: usize| left + (wide + 6.0) * j as f64;
    let y = |i: usize| top + (high + 5.0) * i as f64;
    csv.text_at([x(0) - 12.0, 35.0], "w", "row k of B");
    for j in 0..vectors {
        csv.rect([x(j), 24.0], [wide, high], "c1", &format!("vector {j}"));
    }
    for i in 0..rows {
        csv.rect([10.0, y(i)], [52.0, high], "c2", &format!("a({i}, k)"));
        for j in 0..vectors {
            csv.rect([x(j), y(i)], [wide, high], "c0", &format!("sum {i},{j}"));
        }
    }
    let sums = rows * vectors;
    let held = sums + vectors + 1;
    csv.text_at(
        [180.0, y(rows) + 12.0],
        "",
        &format!(
            "loads: {loads}; multiply-adds: {sums}; registers: {sums} + \
             {vectors} + 1 = {held}"
        ),
    );
    csv
}

/// How many lines of a tile's part of B fall into each set, if row k of B lies
/// so many bytes behind row k − 1.
fn lines_in_sets(rows: usize, stride: usize) -> [usize; SETS] {
    let mut lines = [0; SETS];
    for k in 0..rows {
        lines[k * stride / LINE % SETS] += 1;
    }
    lines
}

pub(crate) fn cache_sets() -> Csv {
    let rows = 128;
    let mut csv = Csv::drawing(
        "cache-sets",
        "Where the 128 lines lie that a tile of 16 columns reads of B: rows \
         1 KiB apart share 4 sets, and only 8 lines fit into each; laid out \
         anew they fill all sets evenly",
        "Two rows of 64 bars, one bar for each set of the cache. Above, with \
         rows 1024 bytes apart, four sets have 32 lines each and the others \
         none; a dashed line at 8 shows how many fit. Below, with rows 64 \
         bytes apart, every set has two.",
    );
    let bar = 5.0;
    for (name, stride, bottom) in [
        ("B where it is: rows 1024 bytes apart", 1024, 128.0),
        ("B laid out anew: rows 64 bytes apart", LINE, 206.0),
    ] {
        let lines = lines_in_sets(rows, stride);
        let most = lines.into_iter().max().unwrap_or(0);
        let high = |n: usize| 2.8 * n as f64;
        let above = high(most.max(WAYS)) + 16.0;
        csv.text_at([20.0, bottom - above], "e", name);
        for (set, &n) in lines.iter().enumerate().filter(|(_, n)| **n > 0) {
            let x = 20.0 + bar * set as f64;
            let class = if n > WAYS { "c1 strong" } else { "c0" };
            csv.rect([x, bottom - high(n)], [bar, high(n)], class, "");
        }
        csv.line([20.0, bottom], [340.0, bottom], "c7 thin");
        let ways = bottom - high(WAYS);
        csv.line([20.0, ways], [340.0, ways], "c7 dashed");
        csv.text_at([320.0, ways - 8.0], "", &format!("{WAYS} fit"));
        if most > WAYS {
            let at = [27.0, bottom - high(most) + 4.0];
            csv.text_at(at, "e c1", &format!("{most} lines"));
        }
    }
    csv.text_at([180.0, 222.0], "", "the 64 sets of the cache");
    csv
}
