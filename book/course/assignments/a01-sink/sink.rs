//! A softmax with a learned sink.
//!
//! Each row of scores belongs to a head, and each head has one number more, its
//! sink s. It takes part in the sum and gets a share, but no value stands
//! behind it: a row may look at nothing. Row i belongs to head i mod H.
//!
//! Variant `scores`: the scale c multiplies the scores, not the sink.

use kit::Real;

/// Sets the shares of the scores and those of the sinks.
///
/// With the head h of row i, pᵢⱼ = e^{c·zᵢⱼ} / (e^{sₕ} + Σₖ e^{c·zᵢₖ}), and
/// restᵢ is the share that the sink takes.
///
/// `p`, `z`: [n, m]; `rest`: [n]; `sink`: [H]. Scores and sinks may be large.
pub fn sink_forward<T: Real>(
    p: &mut [T], rest: &mut [T], z: &[T], sink: &[T], c: T,
) {
    // hole 1: the shares
    let m = z.len() / rest.len();
    for i in 0..rest.len() {
        let (p, z) = (&mut p[i * m..][..m], &z[i * m..][..m]);
        let s = sink[i % sink.len()];
        let mut most = s;
        for &z in z {
            most = if z * c > most { z * c } else { most };
        }
        let e = (s - most).exp();
        let mut sum = e;
        for j in 0..m {
            p[j] = (z[j] * c - most).exp();
            sum += p[j];
        }
        for p in p {
            *p /= sum;
        }
        rest[i] = e / sum;
    }
    // end
}

/// Sets z̄, the gradient of the scores, given p̄. What nobody reads has no
/// gradient: that of `rest` is 0.
///
/// `dz`, `dp`, `p`: [n, m]; `p` as `sink_forward` set it.
pub fn sink_backward_scores<T: Real>(
    dz: &mut [T], dp: &[T], p: &[T], m: usize, c: T,
) {
    // hole 3: the gradient of the scores
    for i in 0..dz.len() / m {
        let row = i * m..(i + 1) * m;
        let (dz, dp, p) = (&mut dz[row.clone()], &dp[row.clone()], &p[row]);
        let mut mean = T::ZERO;
        for j in 0..m {
            mean += p[j] * dp[j];
        }
        for j in 0..m {
            dz[j] = c * (p[j] * (dp[j] - mean));
        }
    }
    // end
}

/// Adds the gradient of the sinks to `dsink`, given p̄.
///
/// `dsink`: [H]; `dp`, `p`: [n, m]; `rest`: [n].
pub fn sink_backward_sink<T: Real>(
    dsink: &mut [T], dp: &[T], p: &[T], rest: &[T], c: T,
) {
    // hole 4: the gradient of the sinks
    let _ = c;
    let m = p.len() / rest.len();
    for i in 0..rest.len() {
        let mut mean = T::ZERO;
        for j in 0..m {
            mean += p[i * m + j] * dp[i * m + j];
        }
        dsink[i % dsink.len()] += -(rest[i] * mean);
    }
    // end
}
