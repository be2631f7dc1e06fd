//! Attention in tiles: a row meets its keys and values a few at a time, and keeps
//! no score.
//!
//! Variant `plain`: the scores are s = c·⟨q, k⟩.

use kit::{Real, vec};

/// Takes one more tile into the sums of a row: o = Σ e^{s − m}·v, l = Σ e^{s − m}
/// and m = the largest score so far. Before the first tile o and l are 0 and m
/// is −∞.
///
/// `o`, `q`: [d]; `k`, `v`: [rows, d], the tile. It may come in any order.
pub fn tile_forward<T: Real>(
    o: &mut [T], l: &mut T, m: &mut T, q: &[T], k: &[T], v: &[T], c: T,
) {
    // hole 1: a tile
    let d = q.len();
    let mut s = vec![T::ZERO; k.len() / d];
    let mut most = *m;
    for (s, k) in s.iter_mut().zip(k.chunks(d)) {
        *s = c * dot(q, k);
        most = if *s > most { *s } else { most };
    }
    let keep = (*m - most).exp();
    *m = most;
    *l = *l * keep;
    for o in o.iter_mut() {
        *o = *o * keep;
    }
    for (s, v) in s.into_iter().zip(v.chunks(d)) {
        let e = (s - most).exp();
        *l += e;
        for (o, &v) in o.iter_mut().zip(v) {
            *o += e * v;
        }
    }
    // end
}

/// After the last tile: turns o into the output, and gives the log-sum-exp.
pub fn finish<T: Real>(o: &mut [T], l: T, m: T) -> T {
    // hole 2: the end
    for o in o {
        *o /= l;
    }
    m + l.ln()
    // end
}

/// Gives δ, what the gradients of all scores of a row have in common.
///
/// `dy`, `y`: [d].
pub fn delta<T: Real>(dy: &[T], y: &[T]) -> T {
    // hole 3: what is common
    dot(dy, y)
    // end
}

/// The gradients that come from one row and one tile: adds to `dq`, and sets
/// `dk` and `dv`.
///
/// `dq`, `q`, `dy`: [d]; `dk`, `dv`, `k`, `v`: [rows, d]; `lse` and `delta`:
/// those of the row.
#[allow(clippy::too_many_arguments)]
pub fn tile_backward<T: Real>(
    dq: &mut [T], dk: &mut [T], dv: &mut [T], dy: &[T], q: &[T], k: &[T],
    v: &[T], lse: T, delta: T, c: T,
) {
    // hole 4: backward of a tile
    let d = q.len();
    for j in 0..k.len() / d {
        let at = j * d..(j + 1) * d;
        let (k, v) = (&k[at.clone()], &v[at.clone()]);
        let z = c * dot(q, k);
        let (s, slope) = (z, c);
        let p = (s - lse).exp();
        let ds = p * (dot(dy, v) - delta);
        let factor = ds * slope;
        for i in 0..d {
            dq[i] += factor * k[i];
            dk[j * d + i] = factor * q[i];
            dv[j * d + i] = p * dy[i];
        }
    }
    // end
}

/// ⟨a, b⟩.
fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).map(|(&a, &b)| a * b).sum()
}
