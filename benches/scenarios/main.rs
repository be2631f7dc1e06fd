//! Chapter: measuring. The scenarios that the prior art measures, and some
//! more.
//!
//! `cargo bench` measures all, `cargo bench -- FILTER` some, `cargo bench --
//! --quick` all roughly; each writes what ran to `target/scenarios.json`, for
//! `moe bench-report`. `cargo bench -- --test` runs each once.
//!
//! Criterion measures time. All else (CPU time, memory, outputs that are no
//! numbers) comes from a process of its own for each scenario, this program
//! again: a peak of memory is the peak of all that a process ever did.
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

#[path = "../../tests/allocator.rs"]
mod allocator;
mod list;
mod work;

mod measure;

mod record;

use criterion::Criterion;
use list::Scenario;
use std::env;
use std::path::PathBuf;

/// Where cargo puts what it makes: this program is target/release/deps/NAME.
fn target() -> PathBuf {
    let me = env::current_exe().unwrap();
    me.ancestors().nth(3).unwrap().to_path_buf()
}

fn main() {
    registry::end_with_the_reader();
    let args: Vec<String> = env::args().collect();
    if let Some(at) = args.iter().position(|a| a == measure::CHILD) {
        let all = list::all();
        let one = all.iter().find(|s| s.id == args[at + 1]).unwrap();
        work::alone(1, || println!("{}", measure::child(one)));
        return;
    }
    // Criterion and the loops it times run on the one thread of a pool, so
    // that the library's parallel loops find this pool and not all cores.
    let ran = work::alone(1, bench);
    let has = |flag: &str| args.iter().any(|a| a == flag);
    let timed = has("--bench") && !has("--test") && !has("--list");
    if timed && !ran.is_empty() {
        record::write(&target(), &ran);
    }
}

/// Runs what the command line asks for; returns what ran.
fn bench() -> Vec<Scenario> {
    let mut c = Criterion::default()
        .output_directory(&target().join("criterion"))
        .warm_up_time(std::time::Duration::from_secs(1))
        .measurement_time(std::time::Duration::from_secs(3))
        .sample_size(50)
        .configure_from_args();
    let mut ran = vec![];
    for s in list::all() {
        let mut work = None; // made if the filter lets it through, and once
        let mut group = c.benchmark_group(s.group);
        group.bench_function(s.id.as_str(), |b| {
            let work = work.get_or_insert_with(|| s.make());
            b.iter_custom(|n| work.run(n));
        });
        group.finish();
        if work.is_some() {
            ran.push(s);
        }
    }
    c.final_summary();
    ran
}
