//! Chapter: balance. The losses of the router: what keeps the experts busy, and
//! what keeps its scores small.
//!
//! Both are losses of a whole batch. A router hands out sums over its rows as
//! [`Totals`], and receives their gradients.

use crate::kernel::vector::axpy;
use crate::layer::Totals;
use crate::real::Real;

/// The balance loss of one layer: 1 where all experts have the same share. It
/// is E·Σₑ fₑ·Pₑ.
/// count, load: [e]
///
/// fₑ = count/(N·k) is the share of expert e in the choices, Pₑ = load/N its
/// mean probability, over the N rows of the whole batch.
/// Source: Fedus et al. 2021, eq. 4, with f divided by k.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::nn::balance::balance_forward;
/// let (count, load) = ([3, 1, 0], [2.186960, 1.186324, 0.626716]);
/// let loss = balance_forward(&count, &load, 4, 1);
/// approx::assert_abs_diff_eq!(loss, 1.452600, epsilon = 1e-6);
/// assert_eq!(balance_forward(&[2, 2], &[1.0, 3.0], 4, 1), 1.0);
/// ```
#[track_caller]
pub fn balance_forward<T: Real>(
    count: &[usize], load: &[T], n: usize, k: usize,
) -> T {
    assert_eq!(count.len(), load.len(), "balance: count against load");
    let products = count.iter().zip(load).map(|(&c, &l)| T::of(c as f64) * l);
    // eq: aux-load-balance
    products.sum::<T>() * scale(count.len(), n, k)
}
/// Sets dload, given the gradient of the loss.  dload, count: [e]
///
/// P̄ₑ = dloss·E·fₑ, and each row's probability counts 1/N: with softmax's
/// backward, z̄ₜₑ = dloss·E/N·pₜₑ·(fₑ − Σⱼ fⱼpₜⱼ). f is piecewise constant.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::nn::balance::balance_backward;
/// let mut dload = [f64::NAN; 2];
/// balance_backward(&mut dload, &[3, 1], 4, 1, 1.0);
/// assert_eq!(dload, [0.375, 0.125]);
/// ```
#[track_caller]
pub fn balance_backward<T: Real>(
    dload: &mut [T], count: &[usize], n: usize, k: usize, dloss: T,
) {
    assert_eq!(count.len(), dload.len(), "balance: count against dload");
    let scale = scale(count.len(), n, k);
    for (d, &c) in dload.iter_mut().zip(count) {
        // loss = Σ c·load·e/(n²·k)
        *d = dloss * T::of(c as f64) * scale; // eq: aux-backward
    }
}
/// e/(n²·k), a quotient of whole numbers.
fn scale<T: Real>(e: usize, n: usize, k: usize) -> T {
    T::of(e as f64) / T::of((n * n * k) as f64)
}

/// The z-loss of one layer with n rows, given the sum of the squares. It is the
/// mean of ℓₜ².
/// Source: Zoph et al. 2022, eq. 5.
///
/// ```
/// assert_eq!(moe_by_hand::nn::balance::z_loss_forward(18.0, 4), 4.5);
/// ```
pub fn z_loss_forward<T: Real>(squares: T, n: usize) -> T {
    squares / T::of(n as f64) // eq: z-loss
}
/// Adds to dz, for one row, given the gradient of the sum of the squares. The
/// sum is Σₜ ℓₜ², ℓ the log-sum-exp of the scores z of a row.  dz, p: [e]
///
/// z̄ = 2·g·ℓ·p with p = softmax(z). Unlike softmax, it is not blind to a
/// common shift of the scores: it pins them. Source: Zoph et al. 2022, eq. 5.
///
/// # Panics
/// If the lengths differ.
///
/// ```
/// use moe_by_hand::nn::balance::z_loss_backward;
/// let mut dz = [0.0; 2];
/// z_loss_backward(&mut dz, 0.5, 3.0, &[0.25, 0.75]);
/// assert_eq!(dz, [0.75, 2.25]);
/// ```
#[track_caller]
pub fn z_loss_backward<T: Real>(dz: &mut [T], dsum: T, lse: T, p: &[T]) {
    // sum = Σ lse², and lse = ln Σ exp(z) moves with z by p
    axpy(dz, T::of(2.0) * dsum * lse, p); // eq: z-loss-backward
}

/// The balance loss and the z-loss of one layer, from the totals of the whole
/// batch; both 0 for a layer without a router.
pub fn router_losses<T: Real>(t: &Totals<T>) -> [T::Wide; 2] {
    if t.load.is_empty() {
        return [T::Wide::ZERO; 2];
    }
    let balance = balance_forward(&t.count, &t.load, t.rows, t.top_k);
    [balance, z_loss_forward(t.squares, t.rows)]
}
