//! T5. The fast matrix product and the vectors it is made of, on every
//! instruction set that this CPU has, against the plain form in f64.
//!
//! No test is skipped: where the CPU lacks a set, asking for it has to fail
//! as documented.

use crate::again::again;
use moe_by_hand::check::rng;
use moe_by_hand::kernel::activation::{glu_backward, glu_forward};
use moe_by_hand::kernel::fast;
use moe_by_hand::kernel::matrix::{
    Add, Mat, MatMut, Op, Set, mat, mat_mut, matmul, matmul_plain,
};
use moe_by_hand::kernel::normal::fill_normal_with;
use moe_by_hand::kernel::product::matmul_with;
use moe_by_hand::kernel::simd::{
    ALIGN, Buffer, Isa, IsaError, Kernel, Simd, bytes,
};
use moe_by_hand::kernel::softmax::{
    causal_softmax_backward, causal_softmax_forward, softmax_forward,
};
use moe_by_hand::kernel::vector::sum_of_squares;
use moe_by_hand::nn::loss::{cross_entropy_backward, cross_entropy_forward};
use moe_by_hand::nn::moe::combine_backward;
use moe_by_hand::nn::rmsnorm::{rmsnorm_backward, rmsnorm_forward};
use moe_by_hand::rng::Rng;
use moe_by_hand::train::optimizer::{Rates, adamw, adamw_with};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{fs, io};

/// Depths across the length of a vector (4, 8, 16) and of the parts of B.
const DEPTHS: [usize; 9] = [0, 1, 2, 5, 16, 17, 31, 33, 130];

/// The model's own, [m, k, n], and one row of a large vocabulary.
const SHAPES: [[usize; 3]; 16] = [
    [16, 64, 64],
    [16, 64, 128],
    [16, 128, 64],
    [16, 64, 1000],
    [64, 64, 64],
    [64, 64, 128],
    [32, 64, 128],
    [64, 128, 64],
    [64, 64, 1000],
    [512, 64, 1000],
    [64, 256, 512],
    [32, 256, 512],
    [64, 256, 1000],
    [768, 128, 256],
    [768, 256, 128],
    [1, 300, 1000],
];

/// For rows, columns and terms: all sizes; or, for Miri, which is a thousand
/// times slower, none, one, and two that leave a rest at every set's tiles.
fn sizes() -> Vec<usize> {
    if cfg!(miri) { vec![0, 1, 7, 17] } else { (0..=33).collect() }
}

/// Numbers between −1 and 1.
fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut x = seed;
    let mut next = || {
        x = x
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (x >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}
fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}
/// Whether A and B are stored transposed.
fn forms() -> [[bool; 2]; 4] {
    [[false, false], [false, true], [true, false], [true, true]]
}

/// A matrix [rows, cols] as a block amid NaN.
struct Operand {
    data: Vec<f32>,
    /// Rows and columns as they are stored.
    stored: [usize; 2],
    transposed: bool,
}
impl Operand {
    fn new(rows: usize, cols: usize, transposed: bool, seed: u64) -> Self {
        let stored = if transposed { [cols, rows] } else { [rows, cols] };
        let [high, wide] = stored;
        let mut data = vec![f32::NAN; (high + 4) * (wide + 8)];
        let x = random(high * wide, seed);
        for i in 0..high {
            let to = (i + 2) * (wide + 8) + 3;
            data[to..to + wide].copy_from_slice(&x[i * wide..][..wide]);
        }
        Self { data, stored, transposed }
    }
    fn of<'a, T>(&self, data: &'a [T]) -> Mat<'a, T> {
        let [high, wide] = self.stored;
        let m = mat(data, wide + 8).block(2..2 + high, 3..3 + wide);
        if self.transposed { m.t() } else { m }
    }
    fn f64s(&self, f: fn(f64) -> f64) -> Vec<f64> {
        self.data.iter().map(|&x| f(x.into())).collect()
    }
}

/// One product by every set, in a block of C amid guards: these keep their
/// bits, and the block is within the bound. Before a `Set` it is NaN.
fn check([m, k, n]: [usize; 3], [ta, tb]: [bool; 2], op: Op) {
    const GUARD: f32 = -77.25;
    let (a, b) = (Operand::new(m, k, ta, 1), Operand::new(k, n, tb, 2));
    let (rows, cols) = (1..m + 1, 2..n + 2);
    let mut start = vec![GUARD; (m + 2) * (n + 5)];
    let before = random(m * n, 3);
    for i in 0..m {
        for j in 0..n {
            start[(i + 1) * (n + 5) + j + 2] =
                if op == Set { f32::NAN } else { before[i * n + j] };
        }
    }
    let mut want: Vec<f64> = start.iter().map(|&x| x.into()).collect();
    let mut size: Vec<f64> = want.iter().map(|x| x.abs()).collect();
    for (out, f) in
        [(&mut want, (|x| x) as fn(f64) -> f64), (&mut size, f64::abs)]
    {
        let to = mat_mut(out, n + 5).block(rows.clone(), cols.clone());
        let (x, y) = (a.f64s(f), b.f64s(f));
        matmul_plain(to, op, a.of(&x), b.of(&y));
    }
    for isa in Isa::here() {
        let what = format!("{isa} {m}x{k}x{n} {ta} {tb} {op:?}");
        let mut c = start.clone();
        let to = mat_mut(&mut c, n + 5).block(rows.clone(), cols.clone());
        matmul_with(isa, to, op, a.of(&a.data), b.of(&b.data));
        // Where each term of a sum is rounded r times at most, the sum is off
        // by γᵣ·Σ|terms| at most, γᵣ = r·u / (1 − r·u), u = 2⁻²⁴ (Higham 2002,
        // lemma 3.1). With FMA each of the k steps rounds once, and the first
        // term goes through all of them: r = k. Without, its product is
        // rounded, too: r = k + 1. With `Add` the sum starts at c, a term like
        // the others. The sum in f64 has an error of its own, 2⁻²⁹ of this:
        // hence the last factor.
        let r = k as f64 + if isa == Isa::Portable { 1.0 } else { 0.0 };
        let u = 2f64.powi(-24);
        let gamma = r * u / (1.0 - r * u) * 1.001;
        for (at, &got) in c.iter().enumerate() {
            let (i, j) = (at / (n + 5), at % (n + 5));
            if rows.contains(&i) && cols.contains(&j) {
                let off = (got as f64 - want[at]).abs();
                let bound = gamma * size[at];
                let well = off <= bound;
                assert!(well, "{what} at {i}, {j}: {off:e} > {bound:e}");
            } else {
                assert_eq!(got, GUARD, "{what} wrote outside: {i}, {j}");
            }
        }
    }
}

/// What tells the sets apart: their registers, and the lanes of each.
struct Which;
impl Kernel for Which {
    type Out = [usize; 2];
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> [usize; 2] {
        [S::REGISTERS, S::W]
    }
}

#[test]
fn each_set_runs_where_the_cpu_has_it() {
    let x = 1.0 + 2f32.powi(-12); // x² needs 25 bits
    for isa in Isa::ALL {
        let name = isa.to_string();
        if isa.available() {
            let which = match isa {
                Isa::Avx512 => [32, 16],
                Isa::Avx2 => [16, 8],
                Isa::Neon => [32, 4],
                Isa::Portable => [8, 8],
            };
            assert_eq!(isa.run(Which), which, "{isa}");
            // x² − fl(x²) is 0 only where x² is rounded by itself.
            let (a, b, mut c) = ([1.0, x], [-(x * x), x], [f32::NAN]);
            matmul_with(isa, mat_mut(&mut c, 1), Set, mat(&a, 2), mat(&b, 1));
            assert_eq!(c[0] == 0.0, isa == Isa::Portable, "{isa}: {}", c[0]);
            assert_eq!(name.parse(), Ok(isa));
        } else {
            let lacks = catch_unwind(|| isa.run(Which)).expect_err("panics");
            let text = lacks.downcast_ref::<String>().expect("a message");
            assert_eq!(*text, format!("this CPU does not have {isa}"));
            assert_eq!(name.parse::<Isa>(), Err(IsaError { asked: name }));
        }
    }
    // what the target promises is there
    assert!(Isa::Portable.available(), "portable");
    assert_eq!(Isa::Neon.available(), cfg!(target_arch = "aarch64"));
    assert_eq!(Some(Isa::best()), Isa::here().next());
}

#[test]
fn all_sizes() {
    // every m and n at a depth that changes from each to the next
    let depths = if cfg!(miri) { &DEPTHS[..6] } else { &DEPTHS[..] };
    for m in sizes() {
        for n in sizes() {
            for (form, t) in forms().into_iter().enumerate() {
                let k = depths[(m + 2 * n + 4 * form) % depths.len()];
                let op = if (m + n / 2) % 2 == 0 { Set } else { Add };
                check([m, k, n], t, op);
            }
        }
    }
    // every depth, across the edges of a tile; a long row alone has a
    // tile of its own
    let (rows, cols): (&[_], &[_]) = if cfg!(miri) {
        (&[1], &[130])
    } else {
        (&[1, 2, 3, 4, 5, 6, 7, 13, 25], &[1, 4, 17, 31, 65, 130])
    };
    for k in sizes() {
        for &m in rows {
            for &n in cols {
                for t in forms() {
                    let op = if (k + m) % 2 == 0 { Set } else { Add };
                    check([m, k, n], t, op);
                }
            }
        }
    }
}

#[test]
fn shapes_of_the_model() {
    for shape in SHAPES {
        for t in forms() {
            check(shape, t, Set);
        }
        check(shape, [true, false], Add);
    }
}

/// Sizes at which parts of A, B or C are laid out anew, and others that are
/// longer than the room for it: of few rows Aᵀ and Cᵀ, of many B; of at most
/// four B, in registers, a multiple of 2 KiB apart in memory or not, and with
/// AVX-512 of four to eight; of few columns Cᵀ; of an A that is stored
/// transposed, on many pages of memory, A.
#[test]
fn parts_that_are_laid_out_anew() {
    let shapes = [
        [8, 20, 2100],
        [8, 4100, 30],
        [8, 70, 70],
        [2, 64, 40],
        [16, 1100, 90],
        [17, 700, 1100],
        [64, 270, 300],
        [24, 270, 67],
        [31, 17, 150],
        [1, 530, 140],
        [1, 504, 140],
        [3, 300, 150],
        [4, 132, 71],
        [7, 132, 71],
        [3300, 9, 5],
        [15, 600, 256],
        [248, 260, 130],
    ];
    for shape in if cfg!(miri) { &shapes[2..4] } else { &shapes[..] } {
        for t in forms() {
            check(*shape, t, Set);
            check(*shape, t, Add);
        }
    }
}

#[test]
fn strides_of_any_kind() {
    let (k, n) = (150, 21);
    let (a, b) = (random(k, 1), random(k * n, 2));
    for isa in Isa::here() {
        for step in [1, 2, 7] {
            // a: [1, k] as a column of a matrix that is `step` wide
            let mut stored = vec![f32::NAN; k * step];
            for (i, &a) in a.iter().enumerate() {
                stored[i * step] = a;
            }
            let column = mat(&stored, step).block(0..k, 0..1);
            let [mut c, mut want] = [vec![0.0; n], vec![0.0; n]];
            let to = mat_mut(&mut want, n);
            matmul_with(isa, to, Set, mat(&a, k), mat(&b, n));
            matmul_with(isa, mat_mut(&mut c, n), Set, column.t(), mat(&b, n));
            assert_eq!(bits(&c), bits(&want), "{isa} A by {step}");
            // and as the right-hand side: Bᵀ·a, one column of C
            let mut c = vec![0.0; n];
            matmul_with(isa, mat_mut(&mut c, 1), Set, mat(&b, n).t(), column);
            assert_eq!(bits(&c), bits(&want), "{isa} B by {step}");
        }
    }
}

#[test]
fn cuts_change_no_bit() {
    let [m, k, n] = [37, 300, 150];
    cuts(
        [m, k, n],
        &[
            [m, k, n],
            [1, k, n],
            [2, k, n],
            [3, k, n],
            [4, k, n],
            [5, k, n],
            [8, k, n],
            [18, k, 64],
            [m, k, 1],
            [m, k, 19],
            [m, 1, n],
            [9, 77, 50],
        ],
    );
    // a transposed A that is laid out anew, and is not
    let [m, k, n] = [512, 130, 130];
    cuts([m, k, n], &[[m, k, n], [m, k, 99], [5, k, n], [300, 129, n]]);
}
fn cuts([m, k, n]: [usize; 3], cuts: &[[usize; 3]]) {
    let (a, b, start) = (random(m * k, 1), random(k * n, 2), random(m * n, 3));
    let (mut at, mut bt) = (vec![0.0; m * k], vec![0.0; k * n]);
    for p in 0..k {
        for i in 0..m {
            at[p * m + i] = a[i * k + p];
        }
        for j in 0..n {
            bt[j * k + p] = b[p * n + j];
        }
    }
    for isa in Isa::here() {
        for op in [Set, Add] {
            let mut whole = start.clone();
            let (fa, fb) = (mat(&a, k), mat(&b, n));
            matmul_with(isa, mat_mut(&mut whole, n), op, fa, fb);
            // wherever it is cut, and however A and B are stored
            for (fa, fb) in [
                (fa, fb),
                (mat(&at, m).t(), fb),
                (fa, mat(&bt, k).t()),
                (mat(&at, m).t(), mat(&bt, k).t()),
            ] {
                for &[di, dk, dj] in cuts {
                    let mut cut = start.clone();
                    for i in (0..m).step_by(di) {
                        for j in (0..n).step_by(dj) {
                            for p in (0..k).step_by(dk) {
                                let i = i..m.min(i + di);
                                let j = j..n.min(j + dj);
                                let op = if p == 0 { op } else { Add };
                                let p = p..k.min(p + dk);
                                matmul_with(
                                    isa,
                                    mat_mut(&mut cut, n)
                                        .block(i.clone(), j.clone()),
                                    op,
                                    fa.block(i, p.clone()),
                                    fb.block(p, j),
                                );
                            }
                        }
                    }
                    assert_eq!(
                        bits(&cut),
                        bits(&whole),
                        "{isa} {di} {dk} {dj}"
                    );
                }
            }
        }
    }
}

#[test]
fn agrees_with_matrixmultiply() {
    for isa in Isa::here() {
        for [m, k, n] in SHAPES {
            let (a, b) = (random(m * k, 1), random(k * n, 2));
            let (mut c, mut want) = (vec![0.0; m * n], vec![0.0; m * n]);
            matmul_with(isa, mat_mut(&mut c, n), Set, mat(&a, k), mat(&b, n));
            let (rk, rn) = (k as isize, n as isize);
            // SAFETY: contiguous rows, m·k, k·n and m·n numbers.
            #[expect(unsafe_code, reason = "its interface is pointers")]
            unsafe {
                matrixmultiply::sgemm(
                    m,
                    k,
                    n,
                    1.0,
                    a.as_ptr(),
                    rk,
                    1,
                    b.as_ptr(),
                    rn,
                    1,
                    0.0,
                    want.as_mut_ptr(),
                    rn,
                    1,
                );
            }
            // Two sums of k terms below 1, each rounded at most k + 1 times
            // in whatever order, are within 2·γ·k of each other.
            let r = (k + 1) as f32 * 2f32.powi(-24);
            let bound = 2.0 * r / (1.0 - r) * k as f32;
            for (c, want) in c.iter().zip(&want) {
                assert!((c - want).abs() <= bound, "{isa} {m} {k} {n}");
            }
        }
    }
}

#[test]
fn matmul_takes_the_chosen_set() {
    let isa = Isa::chosen().expect("MOE_SIMD names a set of this CPU");
    let (a, b) = (random(20 * 30, 1), random(30 * 40, 2));
    let [mut c, mut want] = [vec![0.0; 800], vec![0.0; 800]];
    matmul(mat_mut(&mut c, 40), Set, mat(&a, 30), mat(&b, 40));
    matmul_with(isa, mat_mut(&mut want, 40), Set, mat(&a, 30), mat(&b, 40));
    assert_eq!(bits(&c), bits(&want));
}

/// What `says_which` says if `MOE_SIMD` is `word`.
fn child(word: &str) -> String {
    again("simd::says_which", word, "chosen: ")
}

#[test]
fn says_which() {
    // For `child`, which reads the line; alone it checks that the door obeys.
    let mut c = [0.0];
    let product = catch_unwind(AssertUnwindSafe(|| {
        matmul(mat_mut(&mut c, 1), Set, mat(&[2f32], 1), mat(&[3f32], 1));
    }));
    match Isa::chosen() {
        Ok(isa) => println!("\nchosen: {isa} {}", c[0]),
        Err(e) => {
            let panic = product.expect_err("it panics, too");
            let text = panic.downcast_ref::<String>().expect("a message");
            assert_eq!(*text, e.to_string());
            println!("\nchosen: {e}");
        }
    }
}

#[test]
fn the_environment_chooses() {
    for isa in Isa::ALL {
        let said = child(&isa.to_string());
        if isa.available() {
            assert_eq!(said, format!("{isa} 6"));
        } else {
            assert_eq!(said, IsaError { asked: isa.to_string() }.to_string());
        }
    }
    assert_eq!(child(""), format!("{} 6", Isa::best()), "as if unset");
    let have: Vec<_> = Isa::here().map(|isa| isa.to_string()).collect();
    assert_eq!(
        child("sse9"),
        format!(
            "MOE_SIMD is sse9, but this CPU has {}; unset it or choose one \
             of these",
            have.join(" and ")
        )
    );
}

/// Every method of a set against the same on plain numbers.
struct Methods(Isa);
impl Kernel for Methods {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (isa, w) = (self.0, S::W);
        let lanes = |v: S::V| {
            let mut y = vec![f32::NAN; w];
            s.store(&mut y, v);
            y
        };
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let special = [0.0, -0.0, 1.0, -2.5, nan, inf, -inf, 1e-40];
        let mut xs: Vec<f32> = special.to_vec();
        xs.extend(random(2 * w, 5).iter().map(|x| x * 100.0));
        let few = if cfg!(miri) { special.len() + 1 } else { xs.len() };
        for (i, &p) in xs[..few].iter().enumerate() {
            // p against w others at a time, in every lane
            for q in xs.windows(w) {
                let (a, b) = (s.splat(p), s.load(q));
                let each = |f: &dyn Fn(f32) -> f32| -> Vec<f32> {
                    q.iter().map(|&q| f(q)).collect()
                };
                let same = |name: &str, got: S::V, want: Vec<f32>| {
                    for (g, w) in lanes(got).iter().zip(&want) {
                        let nan = g.is_nan() && w.is_nan();
                        assert!(
                            nan || g.to_bits() == w.to_bits(),
                            "{} {name} {i}: {g} for {w}",
                            isa
                        );
                    }
                };
                same("splat", a, vec![p; w]);
                same("load", b, q.to_vec());
                same("add", s.add(a, b), each(&|q| p + q));
                same("sub", s.sub(a, b), each(&|q| p - q));
                same("mul", s.mul(a, b), each(&|q| p * q));
                same("div", s.div(a, b), each(&|q| p / q));
                same("max", s.max(a, b), each(&|q| if p > q { p } else { q }));
                same("min", s.min(a, b), each(&|q| if p < q { p } else { q }));
                same("sqrt", s.sqrt(b), each(&f32::sqrt));
                let fused = isa != Isa::Portable;
                let fma = |q: f32| {
                    if fused { p.mul_add(q, 3.0) } else { p * q + 3.0 }
                };
                same("fma", s.fma(a, b, s.splat(3.0)), each(&fma));
                // in each four by itself
                let (low, high) = s.zip(a, b);
                let zip = |at: usize| {
                    let two = |q: &[f32]| [p, q[at], p, q[at + 1]];
                    q.chunks(4).flat_map(two).collect()
                };
                same("zip", low, zip(0));
                same("zip", high, zip(2));
                let rows = [0, 1, 2, 3].map(|i| &q[i % (w - 3)..][..4]);
                same("fours", s.fours(rows), rows[..w / 4].concat());
                let sum: f64 = q.iter().map(|&q| q as f64).sum();
                let size: f64 = q.iter().map(|&q| q.abs() as f64).sum();
                if size.is_finite() {
                    // any order: w − 1 roundings
                    let off = (s.reduce_sum(b) as f64 - sum).abs();
                    let bound = w as f64 * 2f64.powi(-24) * size;
                    assert!(off <= bound, "{} reduce_sum", isa);
                }
                if q.iter().all(|q| !q.is_nan()) {
                    let max = q.iter().fold(-inf, |a, &b| a.max(b));
                    assert_eq!(s.reduce_max(b), max, "{}", isa);
                }
            }
        }
        for n in -127..=128 {
            let t = (n + 127) as f32 + 1.5 * 8_388_608.0;
            // 2ⁿ by its bits, for `powi` promises none of them; beyond what
            // is normal: 0, and more than any number
            let power = f64::from_bits(((n + 1023) as u64) << 52) as f32;
            let want = if n == -127 { 0.0 } else { power };
            assert_eq!(
                lanes(s.pow2(s.splat(t))),
                vec![want; w],
                "{} 2^{n}",
                isa
            );
        }
        // Parts: what lies beyond is neither read nor written.
        let x = random(w + 3, 6);
        for n in 0..=w + 3 {
            let mut want = x[..n.min(w)].to_vec();
            want.resize(w, 0.0);
            let v = s.load_part(&x[..n]);
            assert_eq!(lanes(v), want, "{} first {n}", isa);
            let mut y = vec![7.0; w + 3];
            s.store_part(&mut y[..n], s.load(&x));
            let n = n.min(w);
            assert_eq!(y[..n], x[..n], "{} first {n}", isa);
            assert!(y[n..].iter().all(|&y| y == 7.0), "{} {n}", isa);
        }
        let short = &x[..w - 1];
        let load = catch_unwind(AssertUnwindSafe(|| lanes(s.load(short))));
        assert!(load.is_err(), "{} loads what is not there", isa);
        let mut y = vec![7.0; w - 1];
        let store = catch_unwind(AssertUnwindSafe(|| {
            s.store(&mut y, s.splat(1.0));
        }));
        assert!(store.is_err(), "{} stores beyond the end", isa);
    }
}

#[test]
fn methods_of_a_vector() {
    for isa in Isa::here() {
        isa.run(Methods(isa));
    }
}

#[test]
fn normal_numbers_are_the_same_stream() {
    let (rng, sigma) = (Rng::named(7, "layers.0.attention.wq"), 0.75);
    // up to and beyond the lanes, the parts, and twice those
    for n in (0..70).chain([511, 512, 513, 1000, 1_000_001]) {
        let mut first = vec![];
        for isa in Isa::here() {
            let pair = rng::parity(isa, n, sigma, &rng);
            if n > 0 {
                let measure = pair.measure();
                assert!(measure.holds(), "{n}: {measure}");
            }
            let of_set = bits(&pair.got);
            if first.is_empty() {
                first = of_set;
            } else {
                assert_eq!(of_set, first, "{isa} {n}: other bits");
            }
        }
    }
}

/// u₁ is 2⁻³² at least, so that no number is farther out than √(64 ln 2).
#[test]
fn no_normal_number_is_beyond_6_66() {
    // The seed whose first 32 bits are 0, as are those of the state 0.
    let (a, c) = (6_364_136_223_846_793_005u64, 1u64);
    let mut inverse = a; // modulo 2³; each step doubles the bits
    for _ in 0..5 {
        let off = 2u64.wrapping_sub(a.wrapping_mul(inverse));
        inverse = inverse.wrapping_mul(off);
    }
    let seed = c.wrapping_neg().wrapping_mul(inverse).wrapping_sub(c);
    let rng = Rng::new(seed, 0);
    assert_eq!(rng.clone().bits(), 0, "its first bits");
    let [x, y] = rng.clone().normals();
    assert!((x.hypot(y) - 6.6604).abs() < 1e-4, "{x}, {y}");
    for isa in Isa::here() {
        let mut x = [0.0; 2];
        fill_normal_with(isa, &mut x, &rng, 1.0);
        assert!((x[0].hypot(x[1]) - 6.6604).abs() < 1e-4, "{isa}: {x:?}");
    }
}

#[test]
fn adamw_has_the_same_bits_on_every_set() {
    let rates = Rates { lr: 3e-3, decay: 0.1, scale: 0.75, t: 3 };
    for n in (0..70).chain([4096]) {
        let g = random(n, 1);
        let step = |isa: Option<Isa>| {
            let (mut p, mut m) = (random(n, 2), random(n, 3));
            let mut v: Vec<f32> = m.iter().map(|m| m * m + 0.1).collect();
            match isa {
                Some(isa) => adamw_with(isa, &mut p, &mut m, &mut v, &g, rates),
                None => adamw(&mut p, &mut m, &mut v, &g, rates),
            }
            [p, m, v].map(|x| bits(&x))
        };
        let want = step(None);
        for isa in Isa::here() {
            assert_eq!(step(Some(isa)), want, "{isa} {n}");
        }
    }
}

// What safe code can ask for ------------------------------------------------

type Outputs<'a, 'b> = &'a mut [&'b mut [f32]];
type Inputs<'a, 'b> = &'a [&'b [f32]];
/// A kernel as its callers enter it, over f32, and its twin on a given set.
struct Case {
    name: &'static str,
    /// The lengths of what is written and of what is read, for rows of width
    /// n.
    outputs: fn(usize) -> Vec<usize>,
    inputs: fn(usize) -> Vec<usize>,
    /// Both return their sum, or 0.
    twin: fn(Isa, Outputs, Inputs, usize) -> f32,
    plain: fn(Outputs, Inputs, usize) -> f32,
}
const SLOT: [usize; 3] = [2, 0, 1];
const SCALE: f32 = 0.375;
fn targets(n: usize) -> [usize; 3] {
    [0, n / 2, n.saturating_sub(1)]
}
/// Every twin, with three rows where there are rows.
const CASES: &[Case] = &[
    Case {
        name: "softmax",
        outputs: |n| vec![n],
        inputs: |_| vec![],
        twin: |isa, y, _, _| {
            let [z] = y else { unreachable!() };
            fast::SoftmaxForward { z }.on(isa)
        },
        plain: |y, _, _| {
            let [z] = y else { unreachable!() };
            softmax_forward(z)
        },
    },
    Case {
        name: "causal softmax",
        outputs: |n| vec![3 * n],
        inputs: |_| vec![],
        twin: |isa, y, _, keys| {
            let [z] = y else { unreachable!() };
            let (first, group, scale) = (keys - 1, 3, SCALE);
            fast::CausalSoftmaxForward { z, keys, first, group, scale }.on(isa);
            0.0
        },
        plain: |y, _, keys| {
            let [z] = y else { unreachable!() };
            causal_softmax_forward(z, keys, keys - 1, 3, SCALE.into());
            0.0
        },
    },
    Case {
        name: "causal softmax, backward",
        outputs: |n| vec![3 * n],
        inputs: |n| vec![3 * n],
        twin: |isa, y, x, keys| {
            let ([d], [p]) = (y, x) else { unreachable!() };
            fast::CausalSoftmaxBackward { d, p, keys, scale: SCALE }.on(isa);
            0.0
        },
        plain: |y, x, keys| {
            let ([d], [p]) = (y, x) else { unreachable!() };
            causal_softmax_backward(d, p, keys, SCALE.into());
            0.0
        },
    },
    Case {
        name: "cross-entropy",
        outputs: |_| vec![3],
        inputs: |n| vec![3 * n],
        twin: |isa, y, x, v| {
            let ([lse], [z]) = (y, x) else { unreachable!() };
            let target = &targets(v);
            fast::CrossEntropyForward { lse, z, target, v }.on(isa)
        },
        plain: |y, x, v| {
            let ([lse], [z]) = (y, x) else { unreachable!() };
            cross_entropy_forward(lse, z, &targets(v))
        },
    },
    Case {
        name: "cross-entropy, backward",
        outputs: |n| vec![3 * n],
        inputs: |n| vec![3 * n, 3],
        twin: |isa, y, x, v| {
            let ([dz], [z, lse]) = (y, x) else { unreachable!() };
            let (target, dsum) = (&targets(v), SCALE);
            fast::CrossEntropyBackward { dz, z, lse, target, dsum }.on(isa);
            0.0
        },
        plain: |y, x, v| {
            let ([dz], [z, lse]) = (y, x) else { unreachable!() };
            cross_entropy_backward(dz, z, lse, &targets(v), SCALE);
            0.0
        },
    },
    Case {
        name: "glu",
        outputs: |n| vec![n],
        inputs: |n| vec![n; 2],
        twin: |isa, y, x, _| {
            let ([h], [gate, up]) = (y, x) else { unreachable!() };
            fast::GluForward { h, gate, up }.on(isa);
            0.0
        },
        plain: |y, x, _| {
            let ([h], [gate, up]) = (y, x) else { unreachable!() };
            glu_forward(h, gate, up);
            0.0
        },
    },
    Case {
        name: "glu, backward",
        outputs: |n| vec![n; 2],
        inputs: |n| vec![n; 3],
        twin: |isa, y, x, _| {
            let [dgate, dup] = y else { unreachable!() };
            let [dh, gate, up] = x else { unreachable!() };
            fast::GluBackward { dgate, dup, dh, gate, up }.on(isa);
            0.0
        },
        plain: |y, x, _| {
            let [dgate, dup] = y else { unreachable!() };
            let [dh, gate, up] = x else { unreachable!() };
            glu_backward(dgate, dup, dh, gate, up);
            0.0
        },
    },
    Case {
        name: "rmsnorm",
        outputs: |n| vec![3 * n, 3],
        inputs: |n| vec![3 * n, n],
        twin: |isa, y, x, _| {
            let ([y, r], [x, gain]) = (y, x) else { unreachable!() };
            fast::RmsnormForward { y, r, x, gain, eps: 0.25 }.on(isa);
            0.0
        },
        plain: |y, x, _| {
            let ([y, r], [x, gain]) = (y, x) else { unreachable!() };
            rmsnorm_forward(y, r, x, gain, 0.25);
            0.0
        },
    },
    Case {
        name: "rmsnorm, backward",
        outputs: |n| vec![3 * n, n],
        inputs: |n| vec![3 * n, 3 * n, n, 3],
        twin: |isa, y, x, _| {
            let [dx, dgain] = y else { unreachable!() };
            let [dy, x, gain, r] = x else { unreachable!() };
            fast::RmsnormBackward { dx, dgain, dy, x, gain, r }.on(isa);
            0.0
        },
        plain: |y, x, _| {
            let [dx, dgain] = y else { unreachable!() };
            let [dy, x, gain, r] = x else { unreachable!() };
            rmsnorm_backward(dx, dgain, dy, x, gain, r);
            0.0
        },
    },
    Case {
        name: "combine, backward",
        outputs: |n| vec![3 * n, 3],
        inputs: |n| vec![3 * n, 3 * n, 3],
        twin: |isa, y, x, _| {
            let ([d_o, dw], [dy, o, w]) = (y, x) else { unreachable!() };
            let slot = &SLOT;
            fast::CombineBackward { d_o, dw, dy, o, w, slot }.on(isa);
            0.0
        },
        plain: |y, x, _| {
            let ([d_o, dw], [dy, o, w]) = (y, x) else { unreachable!() };
            combine_backward(d_o, dw, dy, o, w, &SLOT);
            0.0
        },
    },
    Case {
        name: "sum of squares",
        outputs: |_| vec![],
        inputs: |n| vec![n],
        twin: |isa, _, x, _| fast::SumOfSquares { x: x[0] }.on(isa),
        plain: |_, x, _| sum_of_squares(x[0]),
    },
    Case {
        name: "normal numbers",
        outputs: |n| vec![n],
        inputs: |_| vec![],
        twin: |isa, y, _, _| {
            fill_normal_with(isa, y[0], &Rng::new(7, 1), 0.5);
            0.0
        },
        plain: |y, _, _| {
            let isa = Isa::current();
            fill_normal_with(isa, y[0], &Rng::new(7, 1), 0.5);
            0.0
        },
    },
];

/// Slices of the given lengths, each `at` numbers into a buffer of its own,
/// between guards.
struct Slices {
    all: Vec<Vec<f32>>,
    lens: Vec<usize>,
    at: usize,
    guard: f32,
}
impl Slices {
    fn new(lens: &[usize], at: usize, guard: f32, seed: u64) -> Self {
        let one = |(i, &len): (usize, &usize)| {
            let mut x = vec![guard; at];
            x.extend(random(len, seed + i as u64));
            x.resize(at + len + 21, guard);
            x
        };
        let all = lens.iter().enumerate().map(one).collect();
        Self { all, lens: lens.to_vec(), at, guard }
    }
    fn get(&self) -> Vec<&[f32]> {
        let each = self.all.iter().zip(&self.lens);
        each.map(|(x, &len)| &x[self.at..][..len]).collect()
    }
    fn get_mut(&mut self) -> Vec<&mut [f32]> {
        let each = self.all.iter_mut().zip(&self.lens);
        each.map(|(x, &len)| &mut x[self.at..][..len]).collect()
    }
    #[track_caller]
    fn guarded(&self, what: &str) {
        for (x, &len) in self.all.iter().zip(&self.lens) {
            let around = x[..self.at].iter().chain(&x[self.at + len..]);
            let kept = around.map(|x| x.to_bits());
            let kept = kept.filter(|&x| x == self.guard.to_bits()).count();
            assert_eq!(kept, self.at + 21, "{what} wrote outside");
        }
    }
}
/// The bits of all that a case writes and of what it returns; `None` if it
/// panics. What is around its slices stays as it is.
#[track_caller]
fn run(
    what: &str, [outputs, inputs]: [&[usize]; 2], at: usize,
    f: impl FnOnce(Outputs, Inputs) -> f32,
) -> Option<Vec<u32>> {
    let mut y = Slices::new(outputs, at, -77.25, 1);
    let x = Slices::new(inputs, at, f32::NAN, 11);
    let sum = catch_unwind(AssertUnwindSafe(|| f(&mut y.get_mut(), &x.get())));
    y.guarded(what);
    let mut all: Vec<u32> = y.get().into_iter().flat_map(bits).collect();
    all.push(sum.ok()?.to_bits());
    Some(all)
}
/// Lengths at the ends of one vector and of four, of 4, 8 and 16 lanes.
fn edges() -> Vec<usize> {
    let around = |w: usize| [w - 1, w, w + 1, 4 * w - 1, 4 * w, 4 * w + 1];
    let mut edges: Vec<usize> =
        [4, 8, 16].into_iter().flat_map(around).chain([0, 1]).collect();
    edges.sort_unstable();
    edges.dedup();
    edges
}

/// No twin is forgotten: each that `twins!` lists is a case above, and has a
/// parity in `src/check`.
#[test]
fn every_twin_is_tested() {
    let list = include_str!("../src/kernel/fast/mod.rs");
    let list = list.split("gate::twins! {").nth(1).expect("the list");
    let word = |c: char| !c.is_alphanumeric();
    let twins = list.split(word).filter(|w| w.starts_with(char::is_uppercase));
    let twins: Vec<&str> = twins.collect();
    assert!(twins.len() > 10, "{twins:?}");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/check");
    let files = fs::read_dir(folder).expect(folder);
    let text = |f: io::Result<fs::DirEntry>| {
        fs::read_to_string(f.expect(folder).path()).expect(folder)
    };
    let proofs: String = files.map(text).collect();
    for twin in twins {
        let named = format!("fast::{twin} {{");
        let cases = include_str!("simd.rs").contains(&named);
        assert!(cases, "{twin}: add it to CASES in tests/simd.rs");
        let parity = proofs.contains(&named);
        assert!(parity, "{twin}: add its parity to src/check");
    }
}

#[test]
fn nothing_beyond_a_slice() {
    for isa in Isa::here() {
        for case in CASES {
            for n in edges() {
                let what = format!("{} {n} on {isa}", case.name);
                let lens = [&*(case.outputs)(n), &*(case.inputs)(n)];
                let f =
                    |at| run(&what, lens, at, |y, x| (case.twin)(isa, y, x, n));
                let aligned = f(0);
                assert!(n == 0 || aligned.is_some(), "{what} panics");
                // Numbers around it have no say, wherever it begins.
                for at in [1, 3, 7] {
                    assert_eq!(f(at), aligned, "{what} from {at} on");
                }
                if isa == Isa::current() && n > 0 {
                    let plain =
                        run(&what, lens, 1, |y, x| (case.plain)(y, x, n));
                    assert_eq!(plain, aligned, "{what}: by the plain kernel");
                }
            }
        }
    }
}

#[test]
fn lengths_that_do_not_fit() {
    for case in CASES {
        for n in [1, 8, 17, 65] {
            let (outputs, inputs) = ((case.outputs)(n), (case.inputs)(n));
            let slices = outputs.len() + inputs.len();
            for i in 0..slices {
                for change in [-1, 1] {
                    let mut lens = [outputs.clone(), inputs.clone()].concat();
                    let Some(len) = lens[i].checked_add_signed(change) else {
                        continue;
                    };
                    lens[i] = len;
                    let (y, x) = lens.split_at(outputs.len());
                    let what = format!("{} {n}, {lens:?}", case.name);
                    let plain =
                        run(&what, [y, x], 1, |y, x| (case.plain)(y, x, n));
                    // A single slice has nothing to differ from.
                    let free = slices == 1 && case.name != "causal softmax";
                    assert_eq!(plain.is_some(), free, "{what}");
                    // A twin by itself may look at less, but never outside.
                    for isa in Isa::here() {
                        let what = format!("{what} on {isa}");
                        run(&what, [y, x], 3, |y, x| (case.twin)(isa, y, x, n));
                    }
                }
            }
        }
    }
}

/// Views that safe code can make: the numbers of rows and columns are public.
#[test]
fn hostile_views() {
    let sizes = [0, 1, 2, 3, 4, 7, 12, 13, 1 << 40, usize::MAX];
    let mut seen = [0; 2];
    for isa in Isa::here() {
        for m in sizes {
            for (k, n) in sizes.iter().flat_map(|&k| sizes.map(|n| (k, n))) {
                let none = [m, k, n].contains(&0);
                if none && m.max(k).max(n) > 13 {
                    continue; // nothing to do, and it takes forever
                }
                for t in forms() {
                    for op in [Set, Add] {
                        let returns = hostile(isa, [m, k, n], t, op);
                        seen[usize::from(returns)] += 1;
                    }
                }
            }
        }
    }
    assert!(seen.iter().all(|&n| n > 100), "{seen:?}: both happen");
}
/// Whether the product of such views returns and does not panic. It does
/// where the plain form does, with the same result, and writes nothing around
/// C.
fn hostile(isa: Isa, [m, k, n]: [usize; 3], t: [bool; 2], op: Op) -> bool {
    const GUARD: f32 = -77.25;
    let what = format!("{isa} {m} {k} {n} {t:?} {op:?}");
    let (a, b) = (random(12, 1), random(24, 2));
    let view = |x, transposed, rows, cols| {
        let mut x = mat(x, 3);
        x = if transposed { x.t() } else { x };
        (x.rows, x.cols) = (rows, cols);
        x
    };
    let (a, b) = (view(&a, t[0], m, k), view(&b, t[1], k, n));
    let returns = |c: &mut [f32], f: &dyn Fn(MatMut<f32>)| {
        let mut c = mat_mut(&mut c[5..29], 4);
        (c.rows, c.cols) = (m, n);
        catch_unwind(AssertUnwindSafe(|| f(c))).is_ok()
    };
    let (mut c, mut want) = ([GUARD; 40], [GUARD; 40]);
    let fast = returns(&mut c, &|c| matmul_with(isa, c, op, a, b));
    let around = c[..5].iter().chain(&c[29..]);
    assert!(around.copied().all(|c| c == GUARD), "{what} wrote outside");
    if [m, k, n].contains(&0) {
        return fast; // nothing is read
    }
    let plain = returns(&mut want, &|c| matmul_plain(c, op, a, b));
    assert_eq!(fast, plain, "{what}");
    // Rows that overlap have no order among them.
    if plain && n <= 4 {
        for (c, want) in c.iter().zip(want) {
            assert!((c - want).abs() < 1e-5, "{what}: {c} {want}");
        }
    }
    fast
}

#[test]
fn views_of_nothing() {
    let empty: [f32; 0] = [];
    for isa in Isa::here() {
        for op in [Set, Add] {
            // [3, 0] · [0, 5]: sums of nothing
            let mut c = [2.0; 15];
            let (a, b) = (mat(&empty, 3).t(), mat(&empty, 5));
            assert_eq!([a.rows, a.cols, b.rows, b.cols], [3, 0, 0, 5]);
            let a = a.block(0..3, 0..0);
            matmul_with(isa, mat_mut(&mut c, 5), op, a, b.block(0..0, 0..5));
            assert_eq!(c, [if op == Set { 0.0 } else { 2.0 }; 15]);
            // [0, 3] · [3, 0]: nothing at all
            let (a, b) = (mat(&empty, 3), mat(&empty, 3).t());
            let mut none: [f32; 0] = [];
            let c = mat_mut(&mut none, 1).block(0..0, 0..0);
            matmul_with(isa, c, op, a, b);
        }
    }
}

#[test]
fn strides_around_a_vector() {
    // Transposed, the rows of B are columns: 1, W − 1, W, W + 1 apart.
    let (m, k) = (5, 19);
    for isa in Isa::here() {
        for n in edges().into_iter().filter(|n| *n > 0) {
            for stride in [n, n + 1, n + 7, n + 16] {
                let (a, b) = (random(m * k, 1), random(k * n, 2));
                let (mut rows, mut cols) =
                    (vec![f32::NAN; k * stride], vec![f32::NAN; n * (k + 3)]);
                for p in 0..k {
                    for j in 0..n {
                        rows[p * stride + j] = b[p * n + j];
                        cols[j * (k + 3) + p] = b[p * n + j];
                    }
                }
                let by = |b: Mat<f32>| {
                    let mut c = vec![f32::NAN; m * n];
                    matmul_with(isa, mat_mut(&mut c, n), Set, mat(&a, k), b);
                    bits(&c)
                };
                let want = by(mat(&b, n));
                let rows = mat(&rows, stride).block(0..k, 0..n);
                let cols = mat(&cols, k + 3).block(0..n, 0..k).t();
                assert_eq!(by(rows), want, "{isa} {n} in {stride}");
                assert_eq!(by(cols), want, "{isa} {n}, transposed");
            }
        }
    }
}

// Buffers ---------------------------------------------------------------------

#[test]
fn buffers_are_aligned() {
    fn look<T: Copy + PartialEq + std::fmt::Debug>(value: T) {
        for len in [0, 1, 2, 3, 15, 16, 17, 1000, 4096] {
            let mut x = Buffer::new(len, value);
            assert_eq!(x.as_ptr().addr() % ALIGN, 0, "{len}");
            assert!(x.len() == len && x.iter().all(|&v| v == value));
            let (copy, vec) = (x.clone(), x.to_vec());
            assert_eq!((&copy, &Buffer::from(vec)), (&x, &x), "{len}");
            x.fill(value);
            let apart = copy.as_ptr() != x.as_ptr();
            assert!(apart || size_of_val(&copy[..]) == 0, "{len}");
        }
        let none = Buffer::<T>::default();
        assert!(none.is_empty() && none.clone() == none);
    }
    look(1.5f32);
    look(-2.5f64);
    look(7usize);
    look(7u8);
    look(());
}
/// Long ones begin in a large page, where there are such, and no two of them at
/// the same place of a page.
#[test]
fn long_buffers_lie_apart() {
    let part = [7u64; 4096]; // 32 KiB
    for len in [32, 33, 64, 65, 100] {
        let mut x = Buffer::new(len, part);
        let page = if len < 64 { 4096 } else { 2 << 20 };
        if len < 64 || cfg!(target_os = "linux") {
            assert!(x.as_ptr().addr() % page < 4096, "{len}");
        }
        assert_eq!(x.as_ptr().addr() % ALIGN, 0, "{len}");
        x[len - 1][4095] = 1;
        let copy = x.clone();
        let [a, b] = [&x, &copy].map(|x| x.as_ptr().addr() % 4096);
        assert!(copy == x && a != b, "{len}");
    }
}
#[test]
fn sizes_are_counted_and_nothing_else() {
    let inner = || bytes(|| Buffer::new(usize::MAX / 16, 0.0)).0;
    let (all, (one, two, x)) = bytes(|| {
        let x = Buffer::new(3, 0u8);
        (inner(), inner(), x)
    });
    let page = 4096; // of a long one
    assert_eq!((one, two), ((usize::MAX / 16 * 8) as u64 + page, one));
    assert_eq!(all, u64::MAX, "the inner ones count, and do not overflow");
    assert!(x.is_empty(), "no memory");
    // A panic inside leaves no count behind.
    let panics = catch_unwind(|| bytes(|| panic!("on purpose")));
    assert!(panics.is_err());
    assert_eq!(Buffer::new(3, 1).len(), 3, "memory again");
    // What no address space holds is a panic, not a wrap-around.
    let huge = catch_unwind(|| Buffer::new(usize::MAX / 2, 0.0f64));
    assert!(huge.is_err());
}
