//! Chapter: memory. Where arrays begin in their pages, and what AdamW's loop
//! waits for.

use crate::clock::{median, medians, table};
use moe_by_hand::kernel::simd::{Isa, Kernel, Simd};
use moe_by_hand::nn::rmsnorm::rmsnorm_forward;
use moe_by_hand::train::optimizer::{Rates, adamw_with};
use std::hint::black_box;

/// Numbers of f32 in a page.
const PAGE: usize = 1024;
/// Bytes from the place of one array in its page to that of the next.
const APART: [usize; 4] = [0, 64, 256, 1088];
const RATES: Rates = Rates { lr: 1e-3, decay: 0.1, scale: 0.5, t: 9 };

/// Memory for four arrays of `n` numbers.
fn room(n: usize) -> Vec<f32> {
    vec![0.01; 4 * (n.next_multiple_of(PAGE) + 2 * PAGE) + PAGE]
}
/// Four arrays of `n` numbers in pages of their own, each so many bytes
/// further in its page than the one before.
fn four(room: &mut [f32], n: usize, apart: usize) -> [&mut [f32]; 4] {
    let first = room.as_ptr().align_offset(4 * PAGE);
    let each = n.next_multiple_of(PAGE) + 2 * PAGE;
    let places = [0, 1, 2, 3].map(|i| {
        let at = first + i * each + i * apart / 4;
        at..at + n
    });
    room.get_disjoint_mut(places).unwrap()
}
/// AdamW on `n` parameters: ns for each, at all places.
fn adamw(isa: Isa, n: usize) -> [f64; 4] {
    let mut rooms = APART.map(|_| room(n));
    let [a, b, c, d] = &mut rooms;
    let step = |room: &mut [f32], apart| {
        let [p, m, v, g] = four(room, n, apart);
        adamw_with(isa, p, m, v, black_box(g), RATES);
    };
    medians([
        &mut || step(a, APART[0]),
        &mut || step(b, APART[1]),
        &mut || step(c, APART[2]),
        &mut || step(d, APART[3]),
    ])
    .map(|t| 1e9 * t / n as f64)
}
/// RMSNorm from the first array to the second: ns per number.
fn norm(rows: usize, d: usize) -> [f64; 4] {
    let n = rows * d;
    let mut rooms = APART.map(|_| room(n));
    let [x0, x1, x2, x3] = &mut rooms;
    let pass = |room: &mut [f32], apart| {
        let [x, y, gain, r] = four(room, n, apart);
        rmsnorm_forward(y, &mut r[..rows], black_box(x), &gain[..d], 1e-5);
    };
    medians([
        &mut || pass(x0, APART[0]),
        &mut || pass(x1, APART[1]),
        &mut || pass(x2, APART[2]),
        &mut || pass(x3, APART[3]),
    ])
    .map(|t| 1e9 * t / n as f64)
}
/// Numbers that [`Divisions`] divides.
const DIVIDED: usize = 8192;
/// A division and a root for each of [`DIVIDED`] numbers, and nothing else.
struct Divisions;
impl Kernel for Divisions {
    type Out = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let k = s.splat(black_box(1.01));
        // Eight that do not wait for each other.
        let mut x =
            [1.1, 1.2, 1.3, 1.4, 1.7, 1.9, 2.3, 2.9].map(|x| s.splat(x));
        for _ in 0..DIVIDED / (8 * S::W) {
            for x in &mut x {
                *x = s.div(k, s.sqrt(*x));
            }
        }
        let sum = x[1..].iter().fold(x[0], |sum, x| s.add(sum, *x));
        let mut out = [0.0; 16];
        s.store(&mut out, sum);
        out[0]
    }
}

pub(crate) fn print() {
    let isa = Isa::current();
    println!("{isa}, ns per number:\n");
    let row = |name: String, times: [f64; 4]| {
        [vec![name], times.map(|t| format!("{t:.2}")).to_vec()].concat()
    };
    let sizes = [16_384, 345_920, 1_000_000];
    let mut rows: Vec<_> = sizes
        .iter()
        .map(|&n| row(format!("AdamW, {n} parameters"), adamw(isa, n)))
        .collect();
    for (m, d) in [(64, 64), (768, 128), (64, 256)] {
        rows.push(row(format!("RMSNorm, {m} × {d}"), norm(m, d)));
    }
    let apart = APART.map(|bytes| format!("{bytes} bytes apart")).join(", ");
    table(&format!("loop, {apart}"), &rows);
    let t = median(|| {
        black_box(isa.run(Divisions));
    });
    let t = 1e9 * t / DIVIDED as f64;
    println!("A division and a root, and nothing else: {t:.2}\n");
}
