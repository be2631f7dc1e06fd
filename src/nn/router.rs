//! Chapter: router. The router: softmax, the k largest, renormalized.

use crate::kernel::matrix::Set;
use crate::kernel::simd::Buffer;
use crate::kernel::vector::{add_to, dot};
use crate::kernel::wide::{change, in_wide, rows, set};
use crate::layer::{Layer, Shape, Totals, buffer, indices};
use crate::nn::linear::{linear_backward, linear_forward};
use crate::nn::score::{Score, Softmax};
use crate::params::{Builder, Param, ParamGrads, Params, Role};
use crate::real::Real;

/// Sets choice to the experts of largest p, most probable first; of equals,
/// the one with the lowest index.  choice: [k]  p: [e]
///
/// # Panics
/// If there are fewer experts than choices.
///
/// ```
/// use moe_by_hand::nn::router::top_k;
/// let mut choice = [9; 2];
/// top_k(&mut choice, &[0.2, 0.3, 0.2, 0.3]);
/// assert_eq!(choice, [1, 3]);
/// ```
#[track_caller]
pub fn top_k<T: Real>(choice: &mut [usize], p: &[T]) {
    for j in 0..choice.len() {
        let (taken, rest) = choice.split_at_mut(j);
        let free = (0..p.len()).filter(|e| !taken.contains(e));
        let best = free.reduce(|m, e| if p[e] > p[m] { e } else { m });
        rest[0] = best.expect("top_k is at most the number of experts");
    }
}

/// Sets w, the probabilities of the chosen experts divided by their sum.
/// w, choice: [k]  p: [e]
///
/// wₑ = pₑ / Σⱼ pⱼ over the chosen j. Source: Jiang et al. 2024, §2.1.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::nn::router::renormalize_forward;
/// let (mut w, p) = ([f64::NAN; 2], [0.643914, 0.236883, 0.087144, 0.032059]);
/// renormalize_forward(&mut w, &p, &[0, 1]);
/// approx::assert_abs_diff_eq!(w[0], 0.731059, epsilon = 1e-6);
/// ```
#[track_caller]
pub fn renormalize_forward<T: Real>(w: &mut [T], p: &[T], choice: &[usize]) {
    assert_eq!(w.len(), choice.len(), "renormalize: w against choice");
    let sum: T = choice.iter().map(|&e| p[e]).sum();
    for (w, &e) in w.iter_mut().zip(choice) {
        *w = p[e] / sum; // eq: router-topk
    }
}
/// Adds to dp.  dp, p: [e]  dw, w, choice: [k]
///
/// p̄ₑ = (w̄ₑ − ⟨w, w̄⟩) / S for the chosen e, S = Σ pⱼ. The choice itself is
/// piecewise constant and has no gradient. With k = 1, w is always 1 and p̄
/// is 0: then only the balance loss trains the router.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::nn::router::renormalize_backward;
/// let p = [0.643914, 0.236883, 0.087144, 0.032059];
/// let (w, mut dp) = ([0.731059, 0.268941], [0.0; 4]);
/// renormalize_backward(&mut dp, &[1.0, -1.0], &w, &p, &[0, 1]);
/// approx::assert_abs_diff_eq!(dp[0], 0.610677, epsilon = 3e-6);
/// approx::assert_abs_diff_eq!(dp[1], -1.659993, epsilon = 3e-6);
/// assert_eq!(dp[2..], [0.0, 0.0]);
/// ```
#[track_caller]
pub fn renormalize_backward<T: Real>(
    dp: &mut [T], dw: &[T], w: &[T], p: &[T], choice: &[usize],
) {
    assert_eq!([dw.len(), w.len()], [choice.len(); 2], "renormalize_backward");
    // w[j] = p[e_j] / S, S = Σ p[e_j]: each chosen p also moves the sum
    let sum: T = choice.iter().map(|&e| p[e]).sum();
    let mean = dot(w, dw);
    for (&e, &dw) in choice.iter().zip(dw) {
        dp[e] += (dw - mean) / sum; // eq: topk-renorm-backward
    }
}

/// What a mixture asks of its router: a layer whose output are the weights of
/// the chosen experts [n, k], and whose choices are these experts.
pub trait Route: Layer {
    /// E, how many experts there are.
    fn experts(&self) -> usize;
    /// k, how many experts each row chooses.
    fn top_k(&self) -> usize;
    /// The weights of the chosen experts: [n, k]
    fn weight<T: Real>(a: &Self::Acts<T>) -> &[T];
    /// How many rows chose each expert: [e]
    fn count<T: Real>(a: &Self::Acts<T>) -> &[usize];
}

/// The softmax of a linear map, or another [`Score`], and of it the k largest,
/// divided by their sum. p = softmax(x·W).
///
/// What the whole batch decides, the balance loss and the z-loss, is not
/// computed here: the layer hands out sums over its rows as a second output
/// ([`RouterActs::totals`]) and receives their gradients.
///
/// ```
/// use moe_by_hand::layer::{Layer, Shape};
/// use moe_by_hand::nn::router::Router;
/// use moe_by_hand::params::Layout;
/// let mut layout = Layout::default();
/// let router = Router::new(layout.builder(), 1, 4, 2);
/// let mut p = layout.zeros();
/// p.data.copy_from_slice(&[2.0, 1.0, 0.0, -1.0]); // the scores of x = 1
/// let mut a = router.acts(Shape { batch: 1, time: 1 });
/// router.forward(&p, &[1.0], &mut a);
/// assert_eq!(a.choice, [0, 1]);
/// approx::assert_abs_diff_eq!(a.weight[0], 0.731059, epsilon = 5e-7);
/// approx::assert_abs_diff_eq!(a.totals.load[0], 0.643914, epsilon = 5e-7);
/// assert_eq!(a.totals.count, [1, 1, 0, 0]);
/// ```
#[derive(Clone, Debug)]
pub struct Router<S = Softmax> {
    /// [d, e]
    pub w: Param,
    /// k, experts for each row.
    pub top_k: usize,
    /// What the experts are chosen by.
    pub score: S,
}
/// What [`Router`] keeps.
#[derive(Clone, Debug)]
pub struct RouterActs<T: Real> {
    /// Weights of the chosen experts: the output, [n, k]
    pub weight: Buffer<T>,
    /// The second output.
    pub totals: Totals<T>,
    /// What the score made of the scores, such as their softmax: [n, e]
    pub prob: Buffer<T>,
    /// ℓ, the log-sum-exp of the scores: [n]
    pub lse: Buffer<T::Wide>,
    /// The chosen experts, most probable first: [n, k]
    pub choice: Buffer<usize>,
}

impl Router {
    /// From d columns to e experts, by softmax.
    ///
    /// # Panics
    /// If k is 0 or more than e.
    #[track_caller]
    pub fn new(b: Builder, d: usize, e: usize, top_k: usize) -> Self {
        Self::with(b, d, e, top_k, Softmax)
    }
}
impl<S: Score> Router<S> {
    /// [`Router::new`] with another score.
    ///
    /// # Panics
    /// If k is 0 or more than e.
    #[track_caller]
    pub fn with(
        mut b: Builder, d: usize, e: usize, top_k: usize, score: S,
    ) -> Self {
        assert!((1..=e).contains(&top_k), "top_k {top_k} of {e} experts");
        Self { w: b.param("w", [d, e], Role::Weight), top_k, score }
    }
}
impl<S: Score> Route for Router<S> {
    fn experts(&self) -> usize {
        self.w.cols
    }
    fn top_k(&self) -> usize {
        self.top_k
    }
    fn weight<T: Real>(a: &RouterActs<T>) -> &[T] {
        &a.weight
    }
    fn count<T: Real>(a: &RouterActs<T>) -> &[usize] {
        &a.totals.count
    }
}
impl<S: Score> Layer for Router<S> {
    type Acts<T: Real> = RouterActs<T>;

    fn acts<T: Real>(&self, s: Shape) -> RouterActs<T> {
        let (n, e) = (s.rows(), self.experts());
        RouterActs {
            weight: buffer(n * self.top_k),
            totals: Totals::new(e, self.top_k),
            prob: buffer(n * e),
            lse: buffer(n),
            choice: indices(n * self.top_k),
        }
    }
    fn y<T: Real>(a: &mut RouterActs<T>) -> &mut [T] {
        &mut a.weight
    }
    fn totals<T: Real>(a: &mut RouterActs<T>) -> Option<&mut Totals<T>> {
        Some(&mut a.totals)
    }
    fn choices<T: Real>(a: &RouterActs<T>) -> &[usize] {
        &a.choice
    }
    fn branches<T: Real>(a: &RouterActs<T>) -> Vec<(&'static str, bool)> {
        let totals = &a.totals;
        match totals.top_k < totals.count.len() {
            true => vec![
                ("an expert not chosen", true),
                ("an idle expert", totals.count.contains(&0)),
            ],
            false => vec![],
        }
    }
    fn forward<T: Real>(&self, p: &Params<T>, x: &[T], a: &mut RouterActs<T>) {
        let (e, k) = (self.experts(), self.top_k);
        linear_forward(&mut a.prob, x, self.w, p);
        a.totals.clear();
        a.totals.rows = a.lse.len();
        let RouterActs { weight, totals, prob, lse, choice } = a;
        let (n, outs) = (lse.len(), [change(prob, e), set(weight, k)]);
        in_wide(n, outs, [], |now, [prob, weight], []| {
            let each = prob.chunks_exact_mut(e).zip(weight.chunks_exact_mut(k));
            for ((prob, weight), t) in each.zip(now) {
                let choice = &mut choice[t * k..(t + 1) * k];
                lse[t] = self.score.forward(prob);
                top_k(choice, prob);
                renormalize_forward(weight, prob, choice);
                add_to(&mut totals.load, prob);
                totals.squares += lse[t] * lse[t];
                choice.iter().for_each(|&e| totals.count[e] += 1);
            }
        });
    }
    fn backward<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &RouterActs<T>,
        g: &mut RouterActs<T>, dx: &mut [T], dp: &mut ParamGrads<T>,
    ) {
        let (e, k) = (self.experts(), self.top_k);
        let (n, outs) = (a.lse.len(), [set(&mut g.prob, e)]);
        let ins = [rows(&a.prob, e), rows(&a.weight, k), rows(&g.weight, k)];
        in_wide(n, outs, ins, |now, [d], [prob, w, dw]| {
            let each = d.chunks_exact_mut(e).zip(prob.chunks_exact(e));
            let both = w.chunks_exact(k).zip(dw.chunks_exact(k));
            for (((d, prob), (w, dw)), t) in each.zip(both).zip(now) {
                let choice = &a.choice[t * k..(t + 1) * k];
                // load = Σ_t prob
                // eq: router-backward
                d.copy_from_slice(&g.totals.load);
                // w = renormalize(prob)
                // eq: router-backward
                renormalize_backward(d, dw, w, prob, choice);
                // prob, lse = score(z), squares = Σ_t lse²
                // eq: router-backward
                self.score.backward(d, prob, a.lse[t], g.totals.squares);
            }
        });
        // z = x·w
        linear_backward(dx, Set, dp, &g.prob, x, self.w, p); // eq: router-backward
    }
}
