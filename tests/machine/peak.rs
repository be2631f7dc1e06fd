//! Chapter: measuring. The two numbers of a roofline, and where computations
//! of a model lie below it.

use crate::clock::{median, table};
use crate::csv::{Csv, short};
use moe_by_hand::kernel::matrix::{Set, mat, mat_mut, matmul};
use moe_by_hand::kernel::simd::Isa;
use moe_by_hand::kernel::vector::{axpy, sum_of_squares};
use moe_by_hand::nn::rmsnorm::rmsnorm_forward;
use moe_by_hand::rng::Rng;
use moe_by_hand::train::optimizer::{Rates, adamw};
use std::hint::black_box;

/// Numbers of an array that no cache holds: 128 MiB.
const MANY: usize = 1 << 25;
/// As many, and no power of two: such arrays would lie on the same sets of a
/// cache, number for number.
const ODD: usize = MANY + 256 * 58;

pub(crate) fn normal(n: usize, seed: u64) -> Vec<f32> {
    let mut x = vec![0.0; n];
    Rng::new(seed, 0).fill_normal(&mut x, 1.0);
    x
}

/// π: operations per second of a product whose matrices stay in the second
/// cache.
fn peak() -> f64 {
    let n = 192;
    let (a, b, mut c) = (normal(n * n, 1), normal(n * n, 2), vec![0.0; n * n]);
    let t = median(|| {
        let (a, b) = (mat(black_box(&a), n), mat(&b, n));
        matmul(mat_mut(black_box(&mut c), n), Set, a, b);
    });
    2.0 * (n * n * n) as f64 / t
}
/// β: bytes per second of an array of so many numbers, read alone, and read
/// and written.
fn bandwidth(n: usize) -> [f64; 2] {
    let mut x = vec![1.0f32; n];
    let read = median(|| {
        black_box(sum_of_squares(black_box(&x)));
    });
    let one = black_box(1.0); // or they would become subnormal
    let both = median(|| {
        black_box(&mut x).iter_mut().for_each(|x| *x *= one);
    });
    [4.0 * n as f64 / read, 8.0 * n as f64 / both]
}

/// A point below the roof.
pub(crate) struct Point {
    name: String,
    /// I, operations per byte.
    intensity: f64,
    /// Operations per second.
    speed: f64,
}
/// Where all numbers come from main memory.
fn streams() -> Vec<Point> {
    let n = ODD;
    let point = |name: &str, operations: f64, bytes: f64, t: f64| Point {
        name: name.into(),
        intensity: operations / bytes,
        speed: operations * n as f64 / t,
    };
    let [x, mut y] = [1, 2].map(|seed| normal(n, seed));
    let add = median(|| axpy(black_box(&mut y), 0.5, &x));
    let (d, mut r) = (256, vec![0.0; n / 256]);
    let gain = vec![1.0; d];
    let norm = median(|| {
        rmsnorm_forward(black_box(&mut y), &mut r, &x, &gain, 1e-5);
    });
    let (mut m, mut v) = (vec![0.0; n], vec![1.0; n]);
    let rates = Rates { lr: 1e-3, decay: 0.1, scale: 1.0, t: 9 };
    let adam = median(|| adamw(black_box(&mut y), &mut m, &mut v, &x, rates));
    vec![
        point("y += c·x", 2.0, 12.0, add),
        point("RMSNorm", 4.0, 8.0, norm),
        point("AdamW", 14.0, 28.0, adam),
    ]
}
/// Columns of x, and of the product.
const WEIGHT: [usize; 2] = [256, 512];
/// m rows against a weight that comes from main memory each time.
fn products() -> Vec<Point> {
    let [l, n] = WEIGHT;
    let weights = normal(MANY, 3);
    let point = |m: usize| {
        let (x, mut y) = (normal(m * l, 4), vec![0.0; m * n]);
        let mut turn = weights.chunks_exact(l * n).cycle();
        let t = median(|| {
            let w = turn.next().unwrap();
            matmul(mat_mut(black_box(&mut y), n), Set, mat(&x, l), mat(w, n));
        });
        let operations = (2 * m * l * n) as f64;
        let bytes = (4 * (m * l + l * n + m * n)) as f64;
        Point {
            name: format!("{m}"),
            intensity: operations / bytes,
            speed: operations / t,
        }
    };
    (0..=9).map(|i| point(1 << i)).collect()
}

/// Prints all of it; the figure is drawn of the same numbers.
pub(crate) fn print() -> Csv {
    let pi = peak();
    let sizes = [12, 17, 22, 25].map(|log| (1 << log, bandwidth(1 << log)));
    let [read, beta] = sizes[3].1;
    println!("{}: π = {:.1}·10⁹ operations/s\n", Isa::current(), pi / 1e9);
    let rows = sizes.map(|(n, both): (usize, _)| {
        let [read, both] = both.map(|b| format!("{:.1}", b / 1e9));
        [format!("{} KiB", 4 * n / 1024), read, both]
    });
    table("array, 10⁹ bytes/s read, read and written", &rows);
    println!("π/β = {:.1} operations per byte\n", pi / beta);
    let (streams, products) = (streams(), products());
    let row = |p: &Point| {
        let roof = pi.min(beta * p.intensity);
        let of = format!("{:.0} %", 100.0 * p.speed / roof);
        let speed = format!("{:.2}", p.speed / 1e9);
        [p.name.clone(), format!("{:.2}", p.intensity), speed, of]
    };
    let all = streams.iter().chain(&products);
    let rows: Vec<_> = all.map(row).collect();
    table("what, I, 10⁹ operations/s, of the roof", &rows);
    figure([pi, beta, read], &streams, &products)
}
fn figure(
    [pi, beta, read]: [f64; 3], streams: &[Point], products: &[Point],
) -> Csv {
    let [l, n] = WEIGHT;
    let mut csv = Csv::chart(
        "roofline",
        &format!(
            "A roofline with measured points: products of m rows with a weight \
             of {l} × {n} that lies in main memory, and three passes over long \
             arrays"
        ),
        &format!(
            "Operations per second over operations per byte, both axes \
             logarithmic. The roof rises with the bandwidth of {:.0} billion \
             bytes per second and is flat at {:.0} billion operations per \
             second, with its corner at {:.0} operations per byte. The \
             products climb from one row on, below a second slope, for \
             reading alone, and reach the flat roof with 256 rows. The three \
             passes lie far to the left, near the slopes.",
            beta / 1e9,
            pi / 1e9,
            pi / beta
        ),
        ["operations per byte", "10⁹ operations per second"],
    )
    .with("log", "xy");
    let giga = |v: f64| short(v / 1e9);
    csv.row("I,products,passes");
    for p in products {
        csv.row(format!("{},{},", short(p.intensity), giga(p.speed)));
    }
    for p in streams {
        let (i, speed) = (short(p.intensity), giga(p.speed));
        let side = if p.name == "AdamW" { "nw" } else { "w" };
        csv.row(format!("mark,1,{i},{speed},{side},{}", p.name));
    }
    for p in products.iter().step_by(4) {
        let (i, speed) = (short(p.intensity), giga(p.speed));
        // At its lower right stands the name of the line.
        let side = if p.name == "256" { "n" } else { "se" };
        csv.row(format!("mark,0,{i},{speed},{side},m = {}", p.name));
    }
    const LOW: f64 = 0.04;
    let (low, corner, high) = (LOW, pi / beta, 200.0);
    let [low, corner, high] = [low, corner, high].map(short);
    let start = giga(LOW * beta);
    let top = giga(pi);
    csv.row(format!("guide,{corner},{top},{low},{start},e,"));
    let half = short(pi / read);
    let below = giga(LOW * read);
    csv.row(format!("guide,{low},{below},{half},{top},,"));
    csv.row(format!("guide,{high},{top},{corner},{top},ne,π"));
    csv
}
