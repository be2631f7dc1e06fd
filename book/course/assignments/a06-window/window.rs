//! Attention that looks back over a window, and a ring that keeps no more.
//!
//! Variant `with`: row i sees the w rows that end with itself, i − w < j ≤ i.

use kit::Real;

/// Sets y and ℓ, one head of width d: with sᵢⱼ = c·⟨qᵢ, kⱼ⟩ over the rows j that
/// i sees, ℓᵢ = ln Σⱼ e^{sᵢⱼ} and yᵢ = Σⱼ e^{sᵢⱼ − ℓᵢ}·vⱼ.
///
/// `y`, `q`, `k`, `v`: [t, d]; `lse`: [t]. The cost grows with t·w, not with t².
#[allow(clippy::too_many_arguments)]
pub fn window_forward<T: Real>(
    y: &mut [T], lse: &mut [T], q: &[T], k: &[T], v: &[T], w: usize, c: T,
) {
    // hole 1: forward
    let d = y.len() / lse.len();
    for i in 0..lse.len() {
        let q = &q[i * d..][..d];
        let score = |j: usize| c * dot(q, &k[j * d..][..d]);
        let low = (i + 1).saturating_sub(w);
        let mut most = score(low);
        for j in low..=i {
            let s = score(j);
            most = if s > most { s } else { most };
        }
        let y = &mut y[i * d..][..d];
        y.fill(T::ZERO);
        let mut sum = T::ZERO;
        for j in low..=i {
            let e = (score(j) - most).exp();
            sum += e;
            add(y, e, &v[j * d..][..d]);
        }
        for y in y {
            *y /= sum;
        }
        lse[i] = most + sum.ln();
    }
    // end
}

/// Sets the gradients of q, k and v, given ȳ; ℓ is what forward set, and has no
/// gradient of its own.
#[allow(clippy::too_many_arguments)]
pub fn window_backward<T: Real>(
    dq: &mut [T], dk: &mut [T], dv: &mut [T], dy: &[T], y: &[T], lse: &[T],
    q: &[T], k: &[T], v: &[T], w: usize, c: T,
) {
    // hole 2: backward
    let d = y.len() / lse.len();
    dq.fill(T::ZERO);
    dk.fill(T::ZERO);
    dv.fill(T::ZERO);
    for i in 0..lse.len() {
        let row = i * d..(i + 1) * d;
        let (dy, q) = (&dy[row.clone()], &q[row.clone()]);
        let delta = dot(dy, &y[row.clone()]);
        let first = (i + 1).saturating_sub(w);
        for j in first..=i {
            let at = j * d..(j + 1) * d;
            let (k, v) = (&k[at.clone()], &v[at.clone()]);
            let p = (c * dot(q, k) - lse[i]).exp();
            let ds = c * (p * (dot(dy, v) - delta));
            add(&mut dq[row.clone()], ds, k);
            add(&mut dk[at.clone()], ds, q);
            add(&mut dv[at], p, dy);
        }
    }
    // end
}

/// How many rows of keys and values a ring has to keep.
pub fn slots(w: usize) -> usize {
    // hole 4: how many rows
    w
    // end
}

/// Decodes row t: puts its key and value into the ring, over the oldest row,
/// and sets its output y.
///
/// `keys`, `values`: [slots, d]; what has not been put there yet may be
/// anything, NaN included. `y`, `q`, `k`, `v`: [d].
#[allow(clippy::too_many_arguments)]
pub fn ring_step<T: Real>(
    y: &mut [T], keys: &mut [T], values: &mut [T], t: usize, q: &[T], k: &[T],
    v: &[T], c: T,
) {
    // hole 5: a step of the ring
    let d = y.len();
    let rows = keys.len() / d;
    let slot = t % rows;
    keys[slot * d..][..d].copy_from_slice(k);
    values[slot * d..][..d].copy_from_slice(v);
    let there = (t + 1).min(rows);
    let mut most = c * dot(q, k);
    for j in 0..there {
        let s = c * dot(q, &keys[j * d..][..d]);
        most = if s > most { s } else { most };
    }
    y.fill(T::ZERO);
    let mut sum = T::ZERO;
    for j in 0..there {
        let e = (c * dot(q, &keys[j * d..][..d]) - most).exp();
        sum += e;
        add(y, e, &values[j * d..][..d]);
    }
    for y in y {
        *y /= sum;
    }
    // end
}

/// ⟨a, b⟩.
fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).map(|(&a, &b)| a * b).sum()
}
/// y += a·x.
fn add<T: Real>(y: &mut [T], a: T, x: &[T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}
