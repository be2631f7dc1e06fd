//! Speculative decoding: a small model drafts tokens, a large one decides.
//!
//! Variant `plain`: a drafted token is accepted with the probability
//! min(1, p/q).

use kit::{Real, vec};

/// With which probability the token x is accepted, which was drawn from q.
///
/// `p`, `q`: [v], the probabilities of the large and of the small model.
pub fn acceptance<T: Real>(p: &[T], q: &[T], x: usize) -> T {
    // hole 1: acceptance
    let ratio = p[x] / q[x];
    if ratio < T::ONE { ratio } else { T::ONE }
    // end
}

/// With which probability a token is accepted, over all that q may draw.
pub fn rate<T: Real>(p: &[T], q: &[T]) -> T {
    // hole 2: the rate
    let smaller = |(&p, &q): (&T, &T)| if p < q { p } else { q };
    p.iter().zip(q).map(smaller).sum()
    // end
}

/// Sets r to the probabilities from which to draw after a rejection, so that a
/// token has the probabilities p in all. Some q is larger than its p.
///
/// `r`, `p`, `q`: [v].
pub fn residual<T: Real>(r: &mut [T], p: &[T], q: &[T]) {
    // hole 3: the residual
    let mut sum = T::ZERO;
    for i in 0..r.len() {
        let left = p[i] - q[i];
        r[i] = if left > T::ZERO { left } else { T::ZERO };
        sum += r[i];
    }
    for r in r {
        *r /= sum;
    }
    // end
}

/// Sets the tokens of one round, and gives how many: the drafted ones until the
/// first rejection, and one more, drawn from the residual after a rejection,
/// otherwise from the last row of p.
///
/// `tokens`: [γ + 1]; `drafted`: [γ]; `p`: [γ + 1, v]; `q`: [γ, v]; `u`: [γ + 1],
/// uniform in (0, 1). Draft i is accepted if uᵢ is smaller than its probability
/// of acceptance. The last u draws the last token: the first whose cumulated
/// probability is larger.
pub fn round<T: Real>(
    tokens: &mut [usize], drafted: &[usize], p: &[T], q: &[T], u: &[T],
) -> usize {
    // hole 4: a round
    let n = drafted.len();
    let v = p.len() / (n + 1);
    let mut last = vec![T::ZERO; v];
    last.copy_from_slice(&p[n * v..]);
    let mut accepted = 0;
    for i in 0..n {
        let (p, q) = (&p[i * v..][..v], &q[i * v..][..v]);
        let x = drafted[i];
        if u[i] < acceptance(p, q, x) {
            tokens[i] = x;
            accepted += 1;
        } else {
            residual(&mut last, p, q);
            break;
        }
    }
    let mut sum = T::ZERO;
    let mut token = v - 1;
    for (x, &r) in last.iter().enumerate() {
        sum += r;
        if sum > u[n] {
            token = x;
            break;
        }
    }
    tokens[accepted] = token;
    accepted + 1
    // end
}

/// How many tokens a round yields in the mean, if each draft is accepted with
/// the probability a, whatever came before. It may be 1.
pub fn expected<T: Real>(a: T, drafts: usize) -> T {
    // hole 5: the yield
    let (mut sum, mut power) = (T::ONE, T::ONE);
    for _ in 0..drafts {
        power *= a;
        sum += power;
    }
    sum
    // end
}
