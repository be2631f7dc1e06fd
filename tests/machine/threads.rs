//! Chapter: parallel. What threads gain, and what they cost each other.

use crate::clock::{median, table};
use crate::peak::normal;
use moe_by_hand::config::Config;
use moe_by_hand::kernel::vector::{CHUNK, add_to};
use moe_by_hand::layer::Shape;
use moe_by_hand::model::{Batch, Model};
use moe_by_hand::tensors::sha256;
use moe_by_hand::train::gradient::{Coefficients, Gradient};
use moe_by_hand::train::optimizer::{AdamW, Decay, Optimizer, Step};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}
/// Seconds of a training step on so many threads.
fn step(preset: &str, shape: Shape, shards: usize, threads: usize) -> f64 {
    let m = Model::new(Config::preset(preset).unwrap()).unwrap();
    let mut p = m.init::<f32>(0);
    let coef = Coefficients { ce: 1.0, aux: 0.01, z: 0.0 };
    let n = shape.rows();
    let tokens: Vec<usize> =
        (0..=n).map(|i| (7 * i + i / 5) % m.config.vocab).collect();
    let batch = Batch { tokens: &tokens[..n], targets: &tokens[1..] };
    let mut gradient = Gradient::new(&m, shape, shards, coef, false);
    let mut adam = AdamW::new(&m.layout, 0.1, Decay::Weights);
    pool(threads).install(|| {
        median(|| {
            let (_, dp) = gradient.compute(&m, &p, batch);
            adam.step(&mut p, dp, Step { t: 9, lr: 1e-9, scale: 1.0 });
        })
    })
}

const SHARDS: usize = 4;
const LONG: usize = 1 << 20;
/// Sums the shards in their order, chunk by chunk.
fn ordered(sum: &mut [f32], shards: &[Vec<f32>]) {
    sum.par_chunks_mut(CHUNK).enumerate().for_each(|(i, sum)| {
        sum.fill(0.0);
        for s in shards {
            add_to(sum, &s[i * CHUNK..i * CHUNK + sum.len()]);
        }
    });
}
/// Each shard adds itself, whenever a thread comes to it.
fn atomic(sum: &[AtomicU32], shards: &[Vec<f32>]) {
    sum.par_iter().for_each(|s| s.store(0, Relaxed));
    shards.par_iter().with_max_len(1).for_each(|shard| {
        for (s, &g) in sum.iter().zip(shard) {
            let add = |old| Some((f32::from_bits(old) + g).to_bits());
            let _ = s.fetch_update(Relaxed, Relaxed, add);
        }
    });
}
fn sums() {
    let shards: Vec<_> = (0..SHARDS as u64).map(|s| normal(LONG, s)).collect();
    let mut sum = vec![0.0; LONG];
    let loose: Vec<_> = (0..LONG).map(|_| AtomicU32::new(0)).collect();
    let bytes = |bits: &mut dyn Iterator<Item = u32>| {
        sha256(&bits.flat_map(u32::to_le_bytes).collect::<Vec<_>>())
    };
    let mut rows = vec![];
    for threads in [1, 2] {
        pool(threads).install(|| {
            let ns = |t: f64| format!("{:.2}", 1e9 * t / LONG as f64);
            let fixed = ns(median(|| ordered(black_box(&mut sum), &shards)));
            let free = ns(median(|| atomic(black_box(&loose), &shards)));
            let seen: BTreeSet<String> = (0..20)
                .map(|_| {
                    ordered(&mut sum, &shards);
                    bytes(&mut sum.iter().map(|s| s.to_bits()))
                })
                .collect();
            let seen_free: BTreeSet<String> = (0..20)
                .map(|_| {
                    atomic(&loose, &shards);
                    bytes(&mut loose.iter().map(|s| s.load(Relaxed)))
                })
                .collect();
            rows.push([
                threads.to_string(),
                fixed,
                seen.len().to_string(),
                free,
                seen_free.len().to_string(),
            ]);
        });
    }
    table("threads, ordered, results, atomic, results", &rows);
}
/// Two threads count at the same time, each in a number of its own, so many
/// bytes apart: ns per count, in the middle of fifteen turns.
fn apart(bytes: usize) -> f64 {
    let all: Vec<AtomicU64> = (0..64).map(|_| AtomicU64::new(0)).collect();
    let first = all.as_ptr().align_offset(128); // in counters
    let (n, both) = (1 << 21, Barrier::new(2));
    let count = |at: usize| {
        both.wait();
        let start = Instant::now();
        for _ in 0..n {
            black_box(&all[at]).fetch_add(1, Relaxed);
        }
        1e9 * start.elapsed().as_secs_f64() / f64::from(n)
    };
    let turn = || {
        thread::scope(|s| {
            let other = s.spawn(|| count(first + bytes / 8));
            count(first).max(other.join().unwrap())
        })
    };
    let mut times = [(); 15].map(|()| turn());
    times.sort_by(f64::total_cmp);
    times[7]
}

/// Prints three tables.
pub(crate) fn print() {
    let shape = |batch| Shape { batch, time: 64 };
    let cases = [
        ("tiny, 8 × 64", "tiny", shape(8), 2),
        ("bytes, 12 × 64", "bytes", shape(12), 2),
        ("bytes, 64 × 64", "bytes", shape(64), 4),
    ];
    let rows = cases.map(|(what, preset, shape, shards)| {
        let [one, two] =
            [1, 2].map(|threads| step(preset, shape, shards, threads));
        let alone = 2.0 * two / one - 1.0;
        [
            what.into(),
            format!("{:.1}", 1e3 * one),
            format!("{:.1}", 1e3 * two),
            format!("{:.2}", one / two),
            format!("{alone:.2}"),
        ]
    });
    table("step, ms on one, ms on two, speedup, s", &rows);
    sums();
    let rows =
        [8, 32, 64, 128].map(|b| [b.to_string(), format!("{:.2}", apart(b))]);
    table("bytes apart, ns per count", &rows);
}
