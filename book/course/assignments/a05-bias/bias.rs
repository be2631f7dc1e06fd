//! A router by sigmoids, a shared expert, and a bias that keeps experts busy.
//!
//! Variant `norm`: the weights of a token have the length c.

use kit::Real;

/// Sets which k experts each token takes: those of the largest σ(z) + b, the
/// largest first; of two that are equal, the one with the lower number.
///
/// `chosen`: [n, k]; `z`: [n, E]; `bias`: [E].
pub fn choose<T: Real>(chosen: &mut [usize], z: &[T], bias: &[T], k: usize) {
    // hole 1: the choice
    let e = bias.len();
    for (chosen, z) in chosen.chunks_mut(k).zip(z.chunks(e)) {
        for j in 0..k {
            let mut best = None;
            for i in (0..e).filter(|i| !chosen[..j].contains(i)) {
                let value = T::ONE / (T::ONE + (-z[i]).exp()) + bias[i];
                if best.is_none_or(|(most, _)| value > most) {
                    best = Some((value, i));
                }
            }
            chosen[j] = best.map_or(0, |(_, i)| i);
        }
    }
    // end
}

/// Sets the weights: with s = σ(z) of the chosen experts,
/// wₜⱼ = c·sₜⱼ / √(Σₗ sₜₗ²). The bias has no part in them.
///
/// `w`, `chosen`: [n, k]; `z`: [n, E].
pub fn weights<T: Real>(
    w: &mut [T], z: &[T], chosen: &[usize], k: usize, c: T,
) {
    // hole 2: the weights
    let e = z.len() / (w.len() / k);
    for t in 0..w.len() / k {
        let w = &mut w[t * k..][..k];
        let mut squares = T::ZERO;
        for j in 0..k {
            let z = z[t * e + chosen[t * k + j]];
            w[j] = T::ONE / (T::ONE + (-z).exp());
            squares += w[j] * w[j];
        }
        let factor = c / squares.sqrt();
        for w in w {
            *w = factor * *w;
        }
    }
    // end
}

/// Sets z̄ of all experts, given w̄ of the chosen ones.
///
/// `dz`, `z`: [n, E]; `dw`, `chosen`: [n, k].
pub fn weights_backward<T: Real>(
    dz: &mut [T], dw: &[T], z: &[T], chosen: &[usize], k: usize, c: T,
) {
    // hole 3: the gradient of the scores
    let e = z.len() / (dw.len() / k);
    dz.fill(T::ZERO);
    for t in 0..dw.len() / k {
        let (dw, chosen) = (&dw[t * k..][..k], &chosen[t * k..][..k]);
        let s = |j: usize| T::ONE / (T::ONE + (-z[t * e + chosen[j]]).exp());
        let (mut squares, mut inner) = (T::ZERO, T::ZERO);
        for j in 0..k {
            let s = s(j);
            squares += s * s;
            inner += s * dw[j];
        }
        let length = squares.sqrt();
        for j in 0..k {
            let s = s(j);
            let ds = c * (dw[j] - s * inner / squares) / length;
            dz[t * e + chosen[j]] = ds * s * (T::ONE - s);
        }
    }
    // end
}

/// Sets y = σ(a)·f₀ + Σⱼ wⱼ·fⱼ: each token passes through the shared expert as
/// well, by a gate of its own.
///
/// `y`, `shared`: [n, d]; `a`: [n]; `w`: [n, k]; `f`: [n, k, d].
pub fn share<T: Real>(y: &mut [T], a: &[T], shared: &[T], w: &[T], f: &[T]) {
    // hole 4: forward with a shared expert
    let (n, k) = (a.len(), w.len() / a.len());
    let d = y.len() / n;
    for t in 0..n {
        let gate = T::ONE / (T::ONE + (-a[t]).exp());
        for i in t * d..(t + 1) * d {
            y[i] = gate * shared[i];
        }
        for at in t * k..(t + 1) * k {
            for i in 0..d {
                y[t * d + i] += w[at] * f[at * d + i];
            }
        }
    }
    // end
}

/// Sets the gradients of `a` and of `w`, given ȳ.
///
/// `da`, `a`: [n]; `dw`: [n, k]; `dy`, `shared`: [n, d]; `f`: [n, k, d].
pub fn share_backward<T: Real>(
    da: &mut [T], dw: &mut [T], dy: &[T], a: &[T], shared: &[T], f: &[T],
) {
    // hole 5: backward with a shared expert
    let (n, k) = (a.len(), dw.len() / a.len());
    let d = dy.len() / n;
    let dot =
        |a: &[T], b: &[T]| a.iter().zip(b).map(|(&a, &b)| a * b).sum::<T>();
    for t in 0..n {
        let dy = &dy[t * d..][..d];
        let gate = T::ONE / (T::ONE + (-a[t]).exp());
        da[t] = dot(dy, &shared[t * d..][..d]) * gate * (T::ONE - gate);
        for at in t * k..(t + 1) * k {
            dw[at] = dot(dy, &f[at * d..][..d]);
        }
    }
    // end
}

/// After a step: bₑ ← bₑ + u·sign(mean − loadₑ), where loadₑ counts the choices
/// of expert e in the step, and mean is the mean of the loads. sign(0) = 0.
///
/// `bias`: [E]; `chosen`: the choices of all tokens.
pub fn balance<T: Real>(bias: &mut [T], chosen: &[usize], u: T) {
    // hole 6: the bias
    let experts = bias.len();
    for (e, bias) in bias.iter_mut().enumerate() {
        let load = chosen.iter().filter(|&&c| c == e).count();
        match (load * experts).cmp(&chosen.len()) {
            core::cmp::Ordering::Less => *bias += u,
            core::cmp::Ordering::Greater => *bias += -u,
            core::cmp::Ordering::Equal => {}
        }
    }
    // end
}
