//! Chapter: router. The router: softmax, the k largest, renormalized.

use crate::kernel::matrix::Set;
use crate::kernel::softmax::{softmax_backward, softmax_forward};
use crate::kernel::vector::{add_to, axpy, dot};
use crate::layer::{Layer, Shape, buffer};
use crate::nn::linear::{linear_backward, linear_forward};
use crate::params::{Builder, Param, Params, Role};
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

/// Adds to dz the gradient of Σₜ ℓₜ², ℓ the log-sum-exp of the scores z of a
/// row, given that of the sum.  dz, p: [e]
///
/// z̄ = 2·g·ℓ·p with p = softmax(z). Unlike softmax, it is not blind to a
/// common shift of the scores: it pins them. Source: Zoph et al. 2022, eq. 5.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::nn::router::z_loss_backward;
/// let mut dz = [0.0; 2];
/// z_loss_backward(&mut dz, 0.5, 3.0, &[0.25, 0.75]);
/// assert_eq!(dz, [0.75, 2.25]);
/// ```
#[track_caller]
pub fn z_loss_backward<T: Real>(dz: &mut [T], dsum: T, lse: T, p: &[T]) {
    // sum = Σ lse², and lse = ln Σ exp(z) moves with z by p
    axpy(dz, T::of(2.0) * dsum * lse, p); // eq: z-loss-backward
}

/// p = softmax(x·W), and of it the k largest, divided by their sum.
///
/// What the whole batch decides, the balance loss and the z-loss, is not
/// computed here: the layer hands out sums over its rows as a second output
/// ([`RouterActs::stats`]) and receives their gradients.
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
/// approx::assert_abs_diff_eq!(a.stats[0], 0.643914, epsilon = 5e-7); // load
/// assert_eq!(a.stats[4..8], [1.0, 1.0, 0.0, 0.0]); // count
/// ```
#[derive(Clone, Debug)]
pub struct Router {
    /// [d, e]
    w: Param,
    /// k, experts for each row.
    pub top_k: usize,
}
/// What [`Router`] keeps.
#[derive(Clone, Debug)]
pub struct RouterActs<T> {
    /// Weights of the chosen experts: the output, [n, k]
    pub weight: Vec<T>,
    /// The second output, [2e + 1]: for each expert Σₜ pₜₑ, its load; for
    /// each expert how many rows chose it, which has no gradient; Σₜ ℓₜ².
    pub stats: Vec<T>,
    /// softmax of the scores: [n, e]
    pub prob: Vec<T>,
    /// ℓ, the log-sum-exp of the scores: [n]
    lse: Vec<T>,
    /// The chosen experts, most probable first: [n, k]
    pub choice: Vec<usize>,
    /// How many rows chose each expert: [e]
    pub count: Vec<usize>,
}

impl Router {
    /// From d columns to e experts.
    ///
    /// # Panics
    /// If k is 0 or more than e.
    #[track_caller]
    pub fn new(mut b: Builder, d: usize, e: usize, top_k: usize) -> Self {
        assert!((1..=e).contains(&top_k), "top_k {top_k} of {e} experts");
        Self { w: b.param("w", [d, e], Role::Weight), top_k }
    }
    /// e, the number of experts.
    pub fn experts(&self) -> usize {
        self.w.cols
    }
}
impl Layer for Router {
    type Acts<T: Real> = RouterActs<T>;

    fn acts<T: Real>(&self, s: Shape) -> RouterActs<T> {
        let (n, e) = (s.rows(), self.experts());
        RouterActs {
            weight: buffer(n * self.top_k),
            stats: buffer(2 * e + 1),
            prob: buffer(n * e),
            lse: buffer(n),
            choice: vec![usize::MAX; n * self.top_k],
            count: vec![usize::MAX; e],
        }
    }
    fn y<T: Real>(a: &mut RouterActs<T>) -> &mut [T] {
        &mut a.weight
    }
    fn aux<T: Real>(a: &mut RouterActs<T>) -> &mut [T] {
        &mut a.stats
    }
    fn choices<T: Real>(a: &RouterActs<T>) -> &[usize] {
        &a.choice
    }
    fn forward<T: Real>(&self, p: &Params<T>, x: &[T], a: &mut RouterActs<T>) {
        let (e, k) = (self.experts(), self.top_k);
        linear_forward(&mut a.prob, x, self.w, p);
        a.count.fill(0);
        a.stats.fill(T::ZERO);
        let (load, rest) = a.stats.split_at_mut(e);
        let (count, squares) = rest.split_at_mut(e);
        for (t, prob) in a.prob.chunks_exact_mut(e).enumerate() {
            let of_k = t * k..(t + 1) * k;
            let choice = &mut a.choice[of_k.clone()];
            a.lse[t] = softmax_forward(prob);
            top_k(choice, prob);
            renormalize_forward(&mut a.weight[of_k], prob, choice);
            add_to(load, prob);
            squares[0] += a.lse[t] * a.lse[t];
            choice.iter().for_each(|&e| a.count[e] += 1);
        }
        for (c, &n) in count.iter_mut().zip(&a.count) {
            *c = T::of(n as f64);
        }
    }
    fn backward<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &RouterActs<T>,
        g: &mut RouterActs<T>, dx: &mut [T], dp: &mut Params<T>,
    ) {
        let (e, k) = (self.experts(), self.top_k);
        let (dload, dsquares) = (&g.stats[..e], g.stats[2 * e]);
        for (t, d) in g.prob.chunks_exact_mut(e).enumerate() {
            let (of_e, of_k) = (t * e..(t + 1) * e, t * k..(t + 1) * k);
            let (prob, choice) = (&a.prob[of_e], &a.choice[of_k.clone()]);
            let (w, dw) = (&a.weight[of_k.clone()], &g.weight[of_k]);
            // load = Σ_t prob
            d.copy_from_slice(dload);
            // w = renormalize(prob)
            renormalize_backward(d, dw, w, prob, choice);
            // prob = softmax(z)
            softmax_backward(d, prob);
            // squares = Σ_t lse(z)²
            z_loss_backward(d, dsquares, a.lse[t], prob);
        }
        // z = x·w
        linear_backward(dx, Set, dp, &g.prob, x, self.w, p); // eq: router-backward
    }
}
