//! The cases, from the formula alone: gradients by dual numbers.

use crate::Case;
use crate::dual::{Dual, Rng, constant, gradient, values};
use kit::Real;

/// The formula, literally.
fn clamped<T: Real>(x: &[T], limit: T, alpha: T, below: bool) -> Vec<T> {
    let one = |x: &[T]| {
        let high = |z: T| if z > limit { limit } else { z };
        let low = |z: T| if z < -limit { -limit } else { z };
        let a = high(x[0]);
        let a = if below { low(a) } else { a };
        let sigmoid = T::ONE / (T::ONE + (-(alpha * a)).exp());
        a * sigmoid * (low(high(x[1])) + T::ONE)
    };
    x.chunks(2).map(one).collect()
}

pub fn cases(variant: &str, rng: &mut Rng) -> Vec<Case> {
    let mut cases = vec![];
    for (i, n) in [1, rng.between(2, 7), 30, 64].into_iter().enumerate() {
        // one pair of them stands at the limit, in two ways
        for exact in [false, true] {
            if exact && i == 0 {
                continue;
            }
            let (limit, alpha) = (2.0 + rng.uniform(), 1.2 + rng.uniform());
            let mut x = rng.normals(2 * n, 2.5);
            if exact {
                (x[0], x[1], x[2], x[3]) = (limit, limit, -limit, -limit);
            }
            let dy = rng.normals(n, 1.0);
            let f = |x: &[Dual]| {
                let (limit, alpha) = (Dual::of(limit), Dual::of(alpha));
                clamped(x, limit, alpha, variant == "both")
            };
            let dx = gradient(&x, &dy, f);
            let column =
                |c: usize| dx.iter().skip(c).step_by(2).copied().collect();
            let mut case = |task, call, output, limit_each| {
                cases.push(Case {
                    task,
                    name: format!("{n} pairs"),
                    call,
                    sizes: vec![],
                    inputs: vec![x.clone(), dy.clone(), vec![limit, alpha]],
                    outputs: vec![output],
                    limit: limit_each * n + 10,
                });
            };
            if exact {
                case("4", "both", ("dx", dx.clone()), 120);
                continue;
            }
            case("1", "forward", ("y", values(&f(&constant(&x)))), 72);
            case("2", "gates", ("dx of the gates", column(0)), 120);
            case("3", "ups", ("dx of the ups", column(1)), 120);
        }
    }
    cases
}
