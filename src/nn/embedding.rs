//! Chapter: linear. The embedding: tokens choose rows of a table.

use crate::kernel::vector::add_to;
use crate::kernel::wide::{add_wide, change, in_wide};
use crate::real::Real;

/// Sets x.  x: [n, d]  table: [v, d]  tokens: [n]
///
/// xₜ = E_{iₜ}.
///
/// # Panics
/// If a token is not below v, or the lengths do not fit.
///
/// ```
/// use moe_by_hand::nn::embedding::embedding_forward;
/// let (table, mut x) = ([0.0, 1.0, 2.0, 3.0], [f64::NAN; 2]);
/// embedding_forward(&mut x, &table, &[1]);
/// assert_eq!(x, [2.0, 3.0]);
/// ```
#[track_caller]
pub fn embedding_forward<T: Real>(x: &mut [T], table: &[T], tokens: &[usize]) {
    let d = width(x, table, tokens);
    for (x, &i) in x.chunks_exact_mut(d).zip(tokens) {
        // eq: embedding-forward
        x.copy_from_slice(&table[i * d..(i + 1) * d]);
    }
}
/// Adds to dtable.  dtable: [v, d]  dx: [n, d]  tokens: [n]
///
/// Ē_v = Σ_{t: iₜ = v} x̄ₜ: a row that was read twice receives twice.
///
/// # Panics
/// If a token is not below v, or the lengths do not fit.
///
/// ```
/// use moe_by_hand::nn::embedding::embedding_backward;
/// let mut dtable = [0.0; 6];
/// embedding_backward(&mut dtable, &[1.0, 10.0, 100.0], &[2, 5, 2]);
/// assert_eq!(dtable, [0.0, 0.0, 101.0, 0.0, 0.0, 10.0]);
/// ```
#[track_caller]
pub fn embedding_backward<T: Real>(
    dtable: &mut [T], dx: &[T], tokens: &[usize],
) {
    let d = width(dx, dtable, tokens);
    if T::STORED {
        // some rows of the table at a time, if they are there at all
        for (part, dtable) in dtable.chunks_mut(SOME * d).enumerate() {
            let (first, n) = (part * SOME, dtable.len() / d);
            let here = |i: &usize| (first..first + n).contains(i);
            if !tokens.iter().any(here) {
                continue;
            }
            in_wide(n, [change(dtable, d)], [], |now, [sum], []| {
                let now = first + now.start..first + now.end;
                for (dx, i) in dx.chunks_exact(d).zip(tokens) {
                    if now.contains(i) {
                        add_wide(&mut sum[(i - now.start) * d..][..d], dx);
                    }
                }
            });
        }
        return;
    }
    for (dx, &i) in dx.chunks_exact(d).zip(tokens) {
        // x = table[i]
        add_to(&mut dtable[i * d..(i + 1) * d], dx); // eq: embedding-backward
    }
}
/// Rows of a table whose gradients are summed in one pass over the tokens.
const SOME: usize = 32;
#[track_caller]
fn width<T>(x: &[T], table: &[T], tokens: &[usize]) -> usize {
    let (n, d) = (tokens.len(), x.len() / tokens.len().max(1));
    assert_eq!(x.len(), n * d, "embedding: x against {n} tokens");
    assert!(
        d == 0 || table.len().is_multiple_of(d),
        "embedding: table against x"
    );
    d.max(1)
}
