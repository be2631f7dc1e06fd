//! Chapter: elementary. How long the functions take, on each instruction set.

use moe_by_hand::elementary::{exp, ln, rsqrt_steps, sin_cos};
use moe_by_hand::kernel::normal::fill_normal_with;
use moe_by_hand::kernel::simd::{Isa, Kernel, Simd};
use moe_by_hand::rng::Rng;
use std::hint::black_box;
use std::time::Instant;

/// y = f(x), number by number, compiled for each set.
struct Map<'a, F> {
    y: &'a mut [f32],
    x: &'a [f32],
    f: F,
}
impl<F: Fn(f32) -> f32> Kernel for Map<'_, F> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { y, x, f } = self;
        for (y, &x) in y.iter_mut().zip(x) {
            *y = f(x);
        }
    }
}
/// Nanoseconds of one number: the best of fifty passes over n of them.
fn best(n: usize, mut pass: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        pass();
        start.elapsed().as_secs_f64()
    };
    (0..50).map(time).fold(f64::INFINITY, f64::min) * 1e9 / n as f64
}
/// Passes over numbers that stay in the first cache.
fn of(isa: Isa, f: impl Fn(f32) -> f32 + Copy) -> f64 {
    let (n, rounds) = (2048, 64);
    let x: Vec<f32> = (0..n).map(|i| 0.5 + i as f32 / 512.0).collect();
    let mut y = vec![0.0; n];
    best(n * rounds, || {
        for _ in 0..rounds {
            isa.run(Map { y: black_box(&mut y), x: black_box(&x), f });
        }
    })
}
type Row = (&'static str, fn(Isa) -> f64);
const ROWS: &[Row] = &[
    ("eˣ", |isa| of(isa, exp)),
    ("eˣ, the system's", |isa| of(isa, f32::exp)),
    ("ln x", |isa| of(isa, ln)),
    ("ln x, the system's", |isa| of(isa, f32::ln)),
    ("1/√x, one step", |isa| of(isa, |x| rsqrt_steps(x, 1))),
    ("1/√x, two steps", |isa| of(isa, |x| rsqrt_steps(x, 2))),
    ("1/√x, three steps", |isa| of(isa, |x| rsqrt_steps(x, 3))),
    ("1/√x, the processor's", |isa| of(isa, |x| 1.0 / x.sqrt())),
    ("√x, three steps", |isa| of(isa, |x| x * rsqrt_steps(x, 3))),
    ("√x, the processor's", |isa| of(isa, f32::sqrt)),
    ("sin x", |isa| of(isa, |x| sin_cos(x).0)),
    ("sin x, the system's", |isa| of(isa, f32::sin)),
    ("a normal number", |isa| {
        let (mut x, rng) = (vec![0.0; 65_536], Rng::named(1, "time"));
        best(x.len(), || fill_normal_with(isa, black_box(&mut x), &rng, 1.0))
    }),
];
/// Prints the chapter's table of times.
pub(crate) fn print() {
    let sets: Vec<Isa> = Isa::here().collect();
    let names: Vec<String> = sets.iter().map(Isa::to_string).collect();
    println!("| ns per number | {} |", names.join(" | "));
    println!("|---|{}", "---:|".repeat(sets.len()));
    for (what, time) in ROWS {
        let times = sets.iter().map(|&isa| format!("{:.2}", time(isa)));
        println!("| {what} | {} |", times.collect::<Vec<_>>().join(" | "));
    }
}
