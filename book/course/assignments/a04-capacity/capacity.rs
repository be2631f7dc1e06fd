//! A mixture whose experts have room for a fixed number of tokens.
//!
//! Variant `choices`: the experts are filled with all first choices, in the
//! order of the tokens, then with all second ones, and so on.

use kit::{Real, vec};

/// Sets C = ⌈num·n·k / (den·experts)⌉, the tokens that an expert has room for,
/// but no more than n.
pub fn capacity(
    num: usize, den: usize, n: usize, k: usize, experts: usize,
) -> usize {
    // hole 1: room
    (num * n * k).div_ceil(den * experts).min(n)
    // end
}

/// Sets `kept`: whether each choice finds room. An expert takes the first C that
/// come to it.
///
/// `kept`, `chosen`: [n, k]; the choices of a token differ.
pub fn fill(
    kept: &mut [bool], chosen: &[usize], k: usize, experts: usize, room: usize,
) {
    // hole 2: who finds room
    let n = chosen.len() / k;
    let mut taken = vec![0; experts];
    for turn in 0..n * k {
        let (t, j) = (turn % n, turn / n);
        let at = t * k + j;
        taken[chosen[at]] += 1;
        kept[at] = taken[chosen[at]] <= room;
    }
    // end
}

/// Sets the weights and combines: wₜⱼ = pₜⱼ / Σₗ pₜₗ over all k choices, before
/// any is dropped, and yₜ = Σ wₜⱼ·fₜⱼ over the choices that are kept.
///
/// `y`: [n, d]; `w`, `p`, `kept`: [n, k], p those of the choices, all positive;
/// `f`: [n, k, d], what the chosen experts made of each token. Of a dropped choice
/// `f` may be anything, NaN included.
pub fn combine<T: Real>(
    y: &mut [T], w: &mut [T], p: &[T], f: &[T], kept: &[bool], k: usize,
) {
    // hole 3: combine
    let n = p.len() / k;
    let d = y.len() / n;
    for t in 0..n {
        let sum = p[t * k..][..k].iter().sum::<T>();
        let y = &mut y[t * d..][..d];
        y.fill(T::ZERO);
        for at in t * k..(t + 1) * k {
            w[at] = p[at] / sum;
            if kept[at] {
                for (y, &f) in y.iter_mut().zip(&f[at * d..][..d]) {
                    *y += w[at] * f;
                }
            }
        }
    }
    // end
}

/// Sets the gradients of `p` and `f`. What is dropped gets none through y, but
/// its p stands in the sum.
///
/// `dp`, `p`, `w`: [n, k]; `df`, `f`: [n, k, d]; `dy`: [n, d].
#[allow(clippy::too_many_arguments)]
pub fn combine_backward<T: Real>(
    dp: &mut [T], df: &mut [T], dy: &[T], p: &[T], w: &[T], f: &[T],
    kept: &[bool], k: usize,
) {
    // hole 4: backward
    let n = p.len() / k;
    let d = dy.len() / n;
    for t in 0..n {
        let dy = &dy[t * d..][..d];
        let sum = p[t * k..][..k].iter().sum::<T>();
        let mut mean = T::ZERO;
        for at in t * k..(t + 1) * k {
            let (df, f) = (&mut df[at * d..][..d], &f[at * d..][..d]);
            dp[at] = T::ZERO;
            df.fill(T::ZERO);
            if kept[at] {
                for i in 0..d {
                    dp[at] += dy[i] * f[i];
                    df[i] = w[at] * dy[i];
                }
            }
            mean += w[at] * dp[at];
        }
        for dp in &mut dp[t * k..][..k] {
            *dp = (*dp - mean) / sum;
        }
    }
    // end
}
