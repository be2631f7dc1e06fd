//! Chapter: measuring. How long something takes: medians of runs that take
//! turns.

use std::time::Instant;

/// How often each takes its turn.
const TURNS: usize = 15;
/// Seconds that a turn lasts at least, so that the clock's own steps and the
/// call do not count.
const LONG: f64 = 4e-3;

/// Seconds of one run of each: the median over turns.
///
/// What is compared takes turns, so that a clock that slows down, or a
/// neighbor who wakes up, meets all alike.
pub(crate) fn medians<const N: usize>(
    mut runs: [&mut dyn FnMut(); N],
) -> [f64; N] {
    let mut each = [1; N];
    for (run, each) in runs.iter_mut().zip(&mut each) {
        run(); // memory and caches
        while time(*each, run) < LONG {
            *each *= 2;
        }
    }
    let mut times = [(); N].map(|()| vec![]);
    for _ in 0..TURNS {
        for i in 0..N {
            times[i].push(time(each[i], &mut runs[i]) / each[i] as f64);
        }
    }
    times.map(|mut t| {
        t.sort_by(f64::total_cmp);
        t[TURNS / 2]
    })
}
/// Seconds of one run.
pub(crate) fn median(mut run: impl FnMut()) -> f64 {
    medians([&mut run])[0]
}
fn time(n: usize, run: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..n {
        run();
    }
    start.elapsed().as_secs_f64()
}

/// A table as a chapter has it; all but the first column are numbers.
pub(crate) fn table<R: AsRef<[String]>>(head: &str, rows: &[R]) {
    println!("| {} |", head.replace(", ", " | "));
    println!("|---|{}", "---:|".repeat(head.matches(", ").count()));
    for row in rows {
        println!("| {} |", row.as_ref().join(" | "));
    }
    println!();
}
