//! Chapter: experts. The mixture: rows go to their experts, sorted, and come
//! back weighted.
//!
//! How many rows an expert gets depends on the data; their sum does not,
//! because nothing is dropped: it is m = n·k. All experts share buffers of m
//! rows, cut where one expert ends and the next begins.

use crate::kernel::fast::twin;
use crate::kernel::simd::Buffer;
use crate::kernel::vector::{add_to, axpy, dot};
use crate::kernel::wide::{
    change, in_order, in_wide, picked, placed, rows, set,
};
use crate::layer::{Context, Layer, Shape, Totals, buffer, indices};
use crate::nn::router::{Route, Router};
use crate::nn::swiglu::{SwiGlu, SwiGluActs};
use crate::params::{Builder, ParamGrads, Params};
use crate::real::Real;

/// Sets slot and start by a stable counting sort: the choice i of expert e
/// goes to the row slot[i], one of start[e]..start[e + 1].
/// slot, choice: [m]  start: [e + 1]  count: [e]
///
/// # Panics
/// If count is not the count of choice, or the lengths do not fit.
///
/// ```
/// use moe_by_hand::nn::moe::dispatch;
/// let (mut slot, mut start) = ([9; 4], [9; 4]);
/// dispatch(&mut slot, &mut start, &[2, 0, 2, 0], &[2, 0, 2]);
/// assert_eq!((slot, start), ([2, 0, 3, 1], [0, 2, 2, 4]));
/// ```
#[track_caller]
pub fn dispatch(
    slot: &mut [usize], start: &mut [usize], choice: &[usize], count: &[usize],
) {
    let lens = [slot.len(), count.iter().sum(), start.len()];
    let want = [choice.len(), choice.len(), count.len() + 1];
    assert_eq!(lens, want, "dispatch: slot, Σ count, start");
    // start[e + 1] first walks through expert e, and ends where e + 1 begins
    start[0] = 0;
    let mut sum = 0;
    for (s, c) in start[1..].iter_mut().zip(count) {
        *s = sum;
        sum += c;
    }
    for (slot, &e) in slot.iter_mut().zip(choice) {
        *slot = start[e + 1]; // eq: moe-dispatch
        start[e + 1] += 1;
    }
}

/// Sets sorted, where the choice i of row i/k stands at slot[i].
/// sorted: [m, d]  x: [n, d]  slot: [m]; m = n·k
///
/// # Panics
/// If the lengths do not fit.
///
/// ```
/// use moe_by_hand::nn::moe::gather_forward;
/// let mut sorted = [f64::NAN; 4];
/// gather_forward(&mut sorted, &[1.0, 2.0], &[2, 0, 3, 1], 1);
/// assert_eq!(sorted, [1.0, 2.0, 1.0, 2.0]);
/// ```
#[track_caller]
pub fn gather_forward<T: Real>(
    sorted: &mut [T], x: &[T], slot: &[usize], d: usize,
) {
    let k = choices(sorted, x, slot, d);
    for (i, &s) in slot.iter().enumerate() {
        // eq: moe-gather
        sorted[s * d..][..d].copy_from_slice(&x[i / k * d..][..d]);
    }
}
/// Adds to dx: a row that went to k experts receives k gradients.
/// dx: [n, d]  dsorted: [m, d]  slot: [m]
///
/// # Panics
/// If the lengths do not fit.
///
/// ```
/// use moe_by_hand::nn::moe::gather_backward;
/// let mut dx = [0.0; 2];
/// gather_backward(&mut dx, &[1.0, 10.0, 100.0, 1000.0], &[2, 0, 3, 1], 1);
/// assert_eq!(dx, [101.0, 1010.0]);
/// ```
#[track_caller]
pub fn gather_backward<T: Real>(
    dx: &mut [T], dsorted: &[T], slot: &[usize], d: usize,
) {
    let k = choices(dsorted, dx, slot, d);
    if T::STORED {
        let (n, outs) = (dx.len() / d, [change(dx, d)]);
        let ins = [picked(dsorted, d, slot)];
        return in_wide(n, outs, ins, |_, [dx], [dsorted]| {
            gather_backward(dx, dsorted, in_order(dsorted.len() / d), d);
        });
    }
    for (i, &s) in slot.iter().enumerate() {
        // sorted[s] = x[t]
        // eq: moe-gather-backward
        add_to(&mut dx[i / k * d..][..d], &dsorted[s * d..][..d]);
    }
}

/// Sets y.  y: [n, d]  o: [m, d]  w, slot: [m]
///
/// yₜ = Σₑ wₜₑ·oₜₑ over the experts that row t chose.
/// Source: Shazeer et al. 2017, eq. 1.
///
/// # Panics
/// If the lengths do not fit.
///
/// ```
/// use moe_by_hand::nn::moe::combine_forward;
/// // f₁(x) = 2x and f₂(x) = −x at x = 1
/// let (mut y, o, w) = ([f64::NAN], [2.0, -1.0], [0.731059, 0.268941]);
/// combine_forward(&mut y, &o, &w, &[0, 1]);
/// approx::assert_abs_diff_eq!(y[0], 1.193176, epsilon = 2e-6);
/// ```
#[track_caller]
pub fn combine_forward<T: Real>(y: &mut [T], o: &[T], w: &[T], slot: &[usize]) {
    let d = o.len() / slot.len();
    let k = choices(o, y, slot, d);
    assert_eq!(w.len(), slot.len(), "combine: w against slot");
    if T::STORED {
        let (n, outs) = (y.len() / d, [set(y, d)]);
        let ins = [picked(o, d, slot), rows(w, k)];
        return in_wide(n, outs, ins, |_, [y], [o, w]| {
            combine_forward(y, o, w, in_order(w.len()));
        });
    }
    y.fill(T::ZERO);
    for (i, &s) in slot.iter().enumerate() {
        // eq: moe-combine
        axpy(&mut y[i / k * d..][..d], w[i], &o[s * d..][..d]);
    }
}
/// Sets do and dw.  do, o: [m, d]  dw, w, slot: [m]  dy: [n, d]
///
/// ōₜₑ = wₜₑ·ȳₜ, w̄ₜₑ = ⟨ȳₜ, oₜₑ⟩: the second is how the router learns.
///
/// # Panics
/// If the lengths do not fit.
///
/// ```
/// use moe_by_hand::nn::moe::combine_backward;
/// let (o, w) = ([2.0, -1.0], [0.731059, 0.268941]);
/// let (mut d_o, mut dw) = ([f64::NAN; 2], [f64::NAN; 2]);
/// combine_backward(&mut d_o, &mut dw, &[1.0], &o, &w, &[0, 1]);
/// assert_eq!((d_o, dw), (w, [2.0, -1.0]));
/// ```
#[track_caller]
pub fn combine_backward<T: Real>(
    d_o: &mut [T], dw: &mut [T], dy: &[T], o: &[T], w: &[T], slot: &[usize],
) {
    let d = o.len() / slot.len();
    let k = choices(o, dy, slot, d);
    let lens = [d_o.len(), dw.len() * d, w.len() * d];
    assert_eq!(lens, [o.len(); 3], "combine_backward: do, dw, w against o");
    if T::STORED {
        let (n, outs) = (dy.len() / d, [placed(d_o, d, slot), set(dw, k)]);
        let ins = [rows(dy, d), picked(o, d, slot), rows(w, k)];
        return in_wide(n, outs, ins, |_, [d_o, dw], [dy, o, w]| {
            combine_backward(d_o, dw, dy, o, w, in_order(w.len()));
        });
    }
    twin!(return fast::CombineBackward { d_o, dw, dy, o, w, slot });
    for (i, &s) in slot.iter().enumerate() {
        // y[t] += w[i]·o[s]
        let (dy, row) = (&dy[i / k * d..][..d], s * d..(s + 1) * d);
        dw[i] = dot(dy, &o[row.clone()]); // eq: moe-backward-weight
        for (d_o, &dy) in d_o[row].iter_mut().zip(dy) {
            *d_o = w[i] * dy; // eq: moe-backward-expert
        }
    }
}
/// k, after a look at the lengths: as many slots a row.
#[track_caller]
fn choices<T>(sorted: &[T], x: &[T], slot: &[usize], d: usize) -> usize {
    assert_eq!(sorted.len(), slot.len() * d, "rows of width {d} in slots");
    let k = slot.len() / (x.len() / d);
    assert_eq!(k * x.len(), sorted.len(), "{k} slots for each row");
    k
}

/// Sizes of one mixture.
#[derive(Clone, Copy, Debug)]
pub struct Experts {
    /// e, how many there are.
    pub experts: usize,
    /// k, how many a row goes to.
    pub top_k: usize,
    /// f, the width of each.
    pub intermediate: usize,
}
/// y = Σₑ wₑ(x)·fₑ(x) over the k experts that the router chose; any
/// [`Route`] can be the router.
///
/// ```
/// use moe_by_hand::layer::{Layer, Shape};
/// use moe_by_hand::nn::moe::{Experts, Moe};
/// use moe_by_hand::params::Layout;
/// let mut layout = Layout::default();
/// let sizes = Experts { experts: 2, top_k: 2, intermediate: 1 };
/// let moe = Moe::new(layout.builder(), 1, sizes);
/// let mut p = layout.zeros();
/// // Scores (1, 0); then w1, w3, w2 of either expert: at x = 1 they give
/// // 2·silu(1) and −silu(1).
/// p.data.copy_from_slice(&[1.0, 0.0, 1.0, 2.0, 1.0, 1.0, -1.0, 1.0]);
/// let mut a = moe.acts(Shape { batch: 1, time: 1 });
/// moe.forward(&p, &[1.0], &mut a);
/// // σ(1)·2·silu(1) − σ(−1)·silu(1), silu(1) = σ(1) = 0.731059
/// approx::assert_abs_diff_eq!(a.y[0], 0.872281, epsilon = 1e-6);
/// ```
#[derive(Clone, Debug)]
pub struct Moe<R = Router> {
    /// Chooses and weighs.
    pub router: R,
    /// fₑ
    pub experts: Vec<SwiGlu>,
    d: usize,
}
/// What [`Moe`] keeps.
pub struct MoeActs<T: Real, R: Route = Router> {
    /// [n, d]
    pub y: Buffer<T>,
    /// Choices and weights.
    pub router: R::Acts<T>,
    /// Input rows sorted by expert: [m, d]
    pub sorted: Buffer<T>,
    /// Activations of all experts, rows sorted as above.
    pub experts: SwiGluActs<T>,
    /// Where in the sorted rows choice (t, j) went: [n, k]
    pub slot: Buffer<usize>,
    /// First sorted row of each expert, and m: [e + 1]
    pub start: Buffer<usize>,
}

impl Moe {
    /// A mixture for rows of width d.
    pub fn new(b: Builder, d: usize, s: Experts) -> Self {
        Self::with(b, d, s, |b| Router::new(b, d, s.experts, s.top_k))
    }
}
impl<R: Route> Moe<R> {
    /// [`Moe::new`] with another router.
    ///
    /// # Panics
    /// If the router is for another number of experts or choices.
    #[track_caller]
    pub fn with(
        mut b: Builder, d: usize, s: Experts, router: impl FnOnce(Builder) -> R,
    ) -> Self {
        let router = router(b.at("router"));
        let have = [router.experts(), router.top_k()];
        assert_eq!(have, [s.experts, s.top_k], "experts, k of the router");
        let expert = |e| SwiGlu::new(b.at("experts").at(e), d, s.intermediate);
        Self { d, router, experts: (0..s.experts).map(expert).collect() }
    }
}
impl<R: Route> Layer for Moe<R> {
    type Acts<T: Real> = MoeActs<T, R>;

    fn acts<T: Real>(&self, s: Shape) -> MoeActs<T, R> {
        let sorted = Shape { batch: s.rows(), time: self.router.top_k() };
        MoeActs {
            y: buffer(s.rows() * self.d),
            router: self.router.acts(s),
            sorted: buffer(sorted.rows() * self.d),
            experts: self.experts[0].acts(sorted),
            slot: indices(sorted.rows()),
            start: indices(self.experts.len() + 1),
        }
    }
    fn y<T: Real>(a: &mut MoeActs<T, R>) -> &mut [T] {
        &mut a.y
    }
    fn totals<T: Real>(a: &mut MoeActs<T, R>) -> Option<&mut Totals<T>> {
        R::totals(&mut a.router)
    }
    fn choices<T: Real>(a: &MoeActs<T, R>) -> &[usize] {
        R::choices(&a.router)
    }
    fn branches<T: Real>(a: &MoeActs<T, R>) -> Vec<(&'static str, bool)> {
        R::branches(&a.router)
    }
    fn law(&self) -> Option<&'static str> {
        self.router.law()
    }
    fn context<T: Real>(a: &mut MoeActs<T, R>, c: Context) {
        R::context(&mut a.router, c);
    }
    fn forward<T: Real>(&self, p: &Params<T>, x: &[T], a: &mut MoeActs<T, R>) {
        self.router.forward(p, x, &mut a.router);
        let (choice, count) = (R::choices(&a.router), R::count(&a.router));
        dispatch(&mut a.slot, &mut a.start, choice, count);
        gather_forward(&mut a.sorted, x, &a.slot, self.d);
        for (expert, s) in self.experts.iter().zip(a.start.windows(2)) {
            expert.forward_rows(p, &a.sorted, &mut a.experts, s[0]..s[1]);
        }
        let weight = R::weight(&a.router);
        combine_forward(&mut a.y, &a.experts.y, weight, &a.slot);
    }
    fn backward<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &MoeActs<T, R>,
        g: &mut MoeActs<T, R>, dx: &mut [T], dp: &mut ParamGrads<T>,
    ) {
        // y = combine(experts.y, weight)
        let (d_o, dw) = (&mut g.experts.y, R::y(&mut g.router));
        let (o, w) = (&a.experts.y, R::weight(&a.router));
        combine_backward(d_o, dw, &g.y, o, w, &a.slot);
        // experts.y = expert(sorted), each on its rows
        // eq: moe-backward
        for (expert, s) in self.experts.iter().zip(a.start.windows(2)) {
            let (x, dx, g) = (&a.sorted, &mut g.sorted, &mut g.experts);
            expert.backward_rows(p, x, &a.experts, g, dx, dp, s[0]..s[1]);
        }
        // x was used by the router and by k experts
        // eq: moe-backward
        self.router.backward(p, x, &a.router, &mut g.router, dx, dp);
        gather_backward(dx, &g.sorted, &a.slot, self.d); // eq: moe-backward
    }
}
