//! Chapter: optimizer. Muon: momentum, as a matrix whose singular values are
//! brought near 1, for the hidden matrices; AdamW for the rest.

use crate::half::{Bf16, F16};
use crate::kernel::matrix::{Set, mat, mat_mut, matmul};
use crate::kernel::simd::Buffer;
use crate::kernel::vector::sum_of_squares;
use crate::params::{Entry, Layout, ParamGrads, Params, Role};
use crate::real::Real;
use crate::train::optimizer::{
    Decay, Group, Optimizer, Rates, Step, StepFrom, adamw, negative, widened,
};
use std::mem::take;
use std::ops::Range;

/// μ, the memory of the momentum.
pub const MOMENTUM: f64 = 0.95;
/// a, b and c of f(σ) = aσ + bσ³ + cσ⁵, of which [`newton_schulz`] makes five
/// steps. Source: Jordan et al. 2024.
pub const QUINTIC: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// Steps of [`newton_schulz`].
pub const STEPS: usize = 5;
/// ε, beside the norm that a matrix is divided by.
pub const EPS: f64 = 1e-7;

/// Sets m to the momentum and u to what Nesterov looks ahead to.  all: [n]
///
/// m ← μm + g, u = g + μm; g is multiplied by `scale`.
/// Source: Jordan et al. 2024.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::train::muon::momentum;
/// let (mut u, mut m) = ([0.0], [2.0]);
/// momentum(&mut u, &mut m, &[1.0], 1.0);
/// // 0.95·2 + 1 = 2.9, and 1 + 0.95·2.9 = 3.755.
/// approx::assert_abs_diff_eq!(m[0], 2.9, epsilon = 1e-15);
/// approx::assert_abs_diff_eq!(u[0], 3.755, epsilon = 1e-15);
/// ```
#[track_caller]
pub fn momentum<T: Real>(u: &mut [T], m: &mut [T], g: &[T], scale: f64) {
    let n = u.len();
    assert_eq!([m.len(), g.len()], [n; 2], "momentum: m, g against u");
    let (mu, scale) = (T::of(MOMENTUM), T::of(scale));
    for i in 0..n {
        let g = scale * g[i];
        m[i] = mu * m[i] + g;
        u[i] = g + mu * m[i]; // eq: muon-momentum
    }
}

/// Memory for the matrices that one thread works on, one after the other.
#[derive(Clone, Debug)]
pub struct Scratch<T> {
    /// The matrix, and the next: [rows·cols]
    u: Buffer<T>,
    next: Buffer<T>,
    /// A and aI + bA + cA²: [n·n], n the smaller side.
    gram: Buffer<T>,
    poly: Buffer<T>,
}
impl<T: Real> Scratch<T> {
    /// For matrices of at most so many elements, whose smaller side is at most
    /// `n`.
    pub fn new(len: usize, n: usize) -> Self {
        let zeros = |len| Buffer::new(len, T::ZERO);
        let (gram, poly) = (zeros(n * n), zeros(n * n));
        Self { u: zeros(len), next: zeros(len), gram, poly }
    }
}

/// Brings the singular values of X near 1, and leaves its singular vectors.
/// X: [rows, cols]
///
/// X ← X/(‖X‖ + ε), and then five times X ← (aI + bA + cA²)·X, A = X·Xᵀ. A
/// matrix with more rows than columns is multiplied from the right, by the
/// smaller of its two products: A = XᵀX.
/// Source: Jordan et al. 2024; the iteration, Björck & Bowie 1971.
///
/// # Panics
/// If `s` is too small for X.
///
/// ```
/// use moe_by_hand::train::muon::{Scratch, newton_schulz};
/// let mut s = Scratch::new(4, 2);
/// // Stretched by 10 and 1, then turned by 30°: singular values 10 and 1.
/// let (cos, sin) = (0.75f64.sqrt(), 0.5);
/// let mut x = [10.0 * cos, -sin, 10.0 * sin, cos];
/// newton_schulz(&mut x, 2, &mut s);
/// let norms = [x[0].hypot(x[2]), x[1].hypot(x[3])];
/// approx::assert_abs_diff_eq!(norms[0], 0.7020, epsilon = 5e-5);
/// approx::assert_abs_diff_eq!(norms[1], 0.7087, epsilon = 5e-5);
/// ```
#[track_caller]
pub fn newton_schulz<T: Real>(x: &mut [T], cols: usize, s: &mut Scratch<T>) {
    let rows = x.len() / cols;
    let (tall, n) = (rows > cols, rows.min(cols));
    let next = &mut s.next[..x.len()];
    let (gram, poly) = (&mut s.gram[..n * n], &mut s.poly[..n * n]);
    let [a, b, c] = QUINTIC.map(T::of);
    let norm = sum_of_squares(x).sqrt() + T::of(EPS);
    x.iter_mut().for_each(|x| *x /= norm);
    for _ in 0..STEPS {
        let all = mat(x, cols);
        let flat = if tall { all.t() } else { all };
        matmul(mat_mut(gram, n), Set, flat, flat.t());
        let square = mat(gram, n);
        matmul(mat_mut(poly, n), Set, square, square);
        for (p, &g) in poly.iter_mut().zip(&*gram) {
            *p = b * g + c * *p;
        }
        poly.iter_mut().step_by(n + 1).for_each(|p| *p += a);
        let poly = mat(poly, n);
        let (left, right) = if tall { (all, poly) } else { (poly, all) };
        matmul(mat_mut(next, cols), Set, left, right); // eq: newton-schulz
        x.copy_from_slice(next);
    }
}

/// Sets θ: one step of Muon for one matrix, along the u that [`momentum`] has
/// set; overwrites u.  θ, u: [rows, cols]
///
/// θ ← θ − ηλθ − η·√max(1, cols/rows)·O, O the orthogonalized u. Because of
/// the root, a map to more numbers than it reads moves each of them as far as
/// a square map does. `r.t` is not used.
/// Source: Jordan et al. 2024; its weights are [out, in], these [in, out].
///
/// # Panics
/// If the lengths differ, or `s` is too small.
#[track_caller]
pub fn muon<T: Real>(
    p: &mut [T], u: &mut [T], cols: usize, r: Rates, s: &mut Scratch<T>,
) {
    assert_eq!(p.len(), u.len(), "muon: u against p");
    newton_schulz(u, cols, s);
    let rows = p.len() / cols;
    let longer = (cols as f64 / rows as f64).max(1.0).sqrt();
    let (keep, lr) = (T::of(1.0 - r.lr * r.decay), T::of(r.lr * longer));
    for i in 0..p.len() {
        p[i] = keep * p[i] - lr * u[i]; // eq: muon-update
    }
}

/// Whether a parameter is a hidden matrix: a linear map that neither scores
/// (below the names `head` and `router`) nor is read by row.
pub fn hidden(e: &Entry) -> bool {
    let map = matches!(e.role, Role::Weight | Role::Residual);
    let scores = |part| part == "head" || part == "router";
    map && e.shape.len() == 2 && !e.name.split('.').any(scores)
}

/// Muon over the hidden matrices, AdamW over all other parameters.
#[derive(Clone, Debug)]
pub struct Muon<T> {
    /// Momentum of the hidden matrices, mean gradient of the others: [θ]
    pub m: Buffer<T>,
    /// Mean square of the gradient of the others.
    pub v: Buffer<T>,
    /// λ
    pub decay: f64,
    /// Rate of the hidden matrices over that of the others, which is the
    /// step's.
    pub ratio: f64,
    parts: Vec<Part<T>>,
}
/// What one thread does, and what it needs: a run of whole parameters.
#[derive(Clone, Debug)]
struct Part<T> {
    /// How long each is, and how it moves.
    jobs: Vec<(usize, Move)>,
    /// Lengths of its parts of θ and of v.
    theta: usize,
    v: usize,
    scratch: Scratch<T>,
}
#[derive(Clone, Copy, Debug)]
enum Move {
    /// A matrix of so many columns.
    Hidden {
        cols: usize,
    },
    Rest(Group),
}
impl<T: Real> Muon<T> {
    /// Before the first step; `ratio` is the rate of the hidden matrices over
    /// that of the others.
    ///
    /// ```
    /// use moe_by_hand::{config::Config, model::Model};
    /// use moe_by_hand::train::{muon::Muon, optimizer::Optimizer};
    /// let model = Model::new(Config::preset("tiny").unwrap()).unwrap();
    /// // 0.02 for hidden matrices where the others have 0.001.
    /// let mut muon = Muon::<f32>::new(&model.layout, 0.1, 20.0);
    /// assert_eq!(muon.name(), "muon");
    /// // AdamW keeps two numbers for each parameter, this little more than one.
    /// assert!(muon.m.len() + muon.v.len() < 3 * model.layout.len / 2);
    /// ```
    pub fn new(layout: &Layout, decay: f64, ratio: f64) -> Self {
        let threads = rayon::current_num_threads();
        Self::with(layout, decay, ratio, threads, hidden)
    }
    /// [`Muon::new`] with memory for so many threads, which decide no bit, and
    /// another choice of matrices.
    ///
    /// # Panics
    /// If `hidden` chooses something that is no matrix.
    #[track_caller]
    pub fn with(
        layout: &Layout, decay: f64, ratio: f64, threads: usize,
        hidden: impl Fn(&Entry) -> bool,
    ) -> Self {
        let how = |e: &Entry| match hidden(e) && !e.frozen {
            true => {
                assert_eq!(e.shape.len(), 2, "{} is no matrix", e.name);
                Move::Hidden { cols: e.param.cols }
            }
            false => Move::Rest(Decay::Weights.group(e)),
        };
        // A matrix's products cost its elements times its smaller side.
        let cost = |e: &Entry| {
            let len = e.param.range().len();
            match how(e) {
                Move::Hidden { cols } => len as f64 * side(len, cols) as f64,
                Move::Rest(_) => len as f64,
            }
        };
        let threads = threads.max(1);
        let total: f64 = layout.entries.iter().map(cost).sum();
        let mut jobs = vec![vec![]; threads];
        let mut done = 0.0;
        for e in &layout.entries {
            let middle = done + cost(e) / 2.0;
            let k = (middle / total * threads as f64) as usize;
            jobs[k.min(threads - 1)].push((e.param.range().len(), how(e)));
            done += cost(e);
        }
        let parts: Vec<Part<T>> = jobs.into_iter().map(Part::new).collect();
        let v = parts.iter().map(|part| part.v).sum();
        let m = Buffer::new(layout.len, T::ZERO);
        Self { m, v: Buffer::new(v, T::ZERO), decay, ratio, parts }
    }
}
/// The smaller side of a matrix.
fn side(len: usize, cols: usize) -> usize {
    cols.min(len / cols.max(1))
}
impl<T: Real> Part<T> {
    fn new(jobs: Vec<(usize, Move)>) -> Self {
        let (mut theta, mut v, mut largest, mut n) = (0, 0, 0, 0);
        for &(len, how) in &jobs {
            theta += len;
            match how {
                Move::Hidden { cols } => {
                    largest = largest.max(len);
                    n = n.max(side(len, cols));
                }
                Move::Rest(_) => v += len,
            }
        }
        Self { jobs, theta, v, scratch: Scratch::new(largest, n) }
    }
    /// The rates are those of the hidden matrices and of the others.
    fn step<G: Real>(
        &mut self, on: Slices<T, G>, [fast, slow]: [Rates; 2],
        read: &Read<T, G>,
    ) {
        let (mut at, mut of_v) = (0, 0);
        for &(len, how) in &self.jobs {
            let run = at..at + len;
            at = run.end;
            let (p, m) = (&mut on.p[run.clone()], &mut on.m[run.clone()]);
            let g = &on.g[run];
            match how {
                Move::Hidden { cols } => {
                    let mut room = take(&mut self.scratch.u);
                    let u = &mut room[..len];
                    read(g, &mut |now, g| {
                        let m = &mut m[now.clone()];
                        momentum(&mut u[now], m, g, fast.scale);
                    });
                    muon(p, u, cols, fast, &mut self.scratch);
                    self.scratch.u = room;
                }
                Move::Rest(group) => {
                    let v = &mut on.v[of_v..of_v + len];
                    of_v += len;
                    let decays = group == Group::Decays;
                    let decay = if decays { slow.decay } else { 0.0 };
                    if group != Group::Frozen {
                        let rates = Rates { decay, ..slow };
                        read(g, &mut |now, g| {
                            let p = &mut p[now.clone()];
                            let m = &mut m[now.clone()];
                            adamw(p, m, &mut v[now], g, rates);
                        });
                    }
                }
            }
        }
    }
}
/// A run of θ, and what belongs to it.
struct Slices<'a, T, G> {
    p: &'a mut [T],
    m: &'a mut [T],
    v: &'a mut [T],
    g: &'a [G],
}
/// Hands on a gradient, some numbers at a time.
type Read<T, G> = dyn Fn(&[G], &mut dyn FnMut(Range<usize>, &[T])) + Sync;
/// All parts at once, each on a thread of its own if there is one.
fn step<T: Real, G: Real>(
    parts: &mut [Part<T>], on: Slices<T, G>, rates: [Rates; 2],
    read: &Read<T, G>,
) {
    if let [part] = parts {
        return part.step(on, rates, read);
    }
    let (first, rest) = parts.split_at_mut(parts.len() / 2);
    let theta = first.iter().map(|part| part.theta).sum();
    let (p, p2) = on.p.split_at_mut(theta);
    let (m, m2) = on.m.split_at_mut(theta);
    let (g, g2) = on.g.split_at(theta);
    let (v, v2) = on.v.split_at_mut(first.iter().map(|part| part.v).sum());
    rayon::join(
        || step(first, Slices { p, m, v, g }, rates, read),
        || step(rest, Slices { p: p2, m: m2, v: v2, g: g2 }, rates, read),
    );
}
impl<T: Real> Optimizer<T> for Muon<T> {
    fn name(&self) -> &'static str {
        "muon"
    }
    fn step(&mut self, p: &mut Params<T>, dp: &ParamGrads<T>, s: Step) {
        self.step_by(p, dp, s, &|g, f| f(0..g.len(), g));
    }
    fn states(&mut self) -> Vec<(&'static str, &mut [T])> {
        vec![("m", &mut self.m), ("v", &mut self.v)]
    }
    fn check(&self) -> Result<(), String> {
        negative(&self.v)
    }
}
impl<T: Real> Muon<T> {
    /// A step by a gradient of which `read` hands on some numbers at a time.
    fn step_by<G: Real>(
        &mut self, p: &mut Params<T>, dp: &ParamGrads<G>, s: Step,
        read: &Read<T, G>,
    ) {
        let Self { m, v, decay, ratio, parts } = self;
        let slow = Rates { lr: s.lr, decay: *decay, scale: s.scale, t: s.t };
        let fast = Rates { lr: s.lr * *ratio, ..slow };
        let on = Slices { p: &mut p.data, m, v, g: &dp.data };
        step(parts, on, [fast, slow], read);
    }
}
impl StepFrom<Bf16> for Muon<f32> {
    fn step_from(
        &mut self, p: &mut Params<f32>, dp: &ParamGrads<Bf16>, s: Step,
    ) {
        self.step_by(p, dp, s, &widened);
    }
}
impl StepFrom<F16> for Muon<f32> {
    fn step_from(
        &mut self, p: &mut Params<f32>, dp: &ParamGrads<F16>, s: Step,
    ) {
        self.step_by(p, dp, s, &widened);
    }
}
