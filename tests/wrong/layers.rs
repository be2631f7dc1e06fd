//! Chapter: mutants. Two small backwards once more, each with a place for
//! mistakes: a linear map's bias, and a row divided by the sum of its absolute
//! values.

use moe_by_hand::gradcheck::Function;
use moe_by_hand::kernel::l1::{l1_normalize_backward, l1_normalize_forward};
use moe_by_hand::kernel::matrix::Set;
use moe_by_hand::kernel::vector::{add_to, dot};
use moe_by_hand::layer::{Layer, Shape};
use moe_by_hand::nn::linear::{
    Linear, LinearActs, linear_backward, linear_bias_backward,
};
use moe_by_hand::params::{Builder, ParamGrads, Params};
use moe_by_hand::real::Real;

/// What is wrong in the gradient of a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OfBias {
    Cut,
    LastRow,
    Mean,
    Set,
}
impl OfBias {
    pub(crate) const ALL: [(Self, &'static str); 4] = [
        (Self::Cut, "bias: gradient missing"), // wrong: linear-backward-bias
        (Self::LastRow, "bias: b̄ of the last row alone"), // wrong: linear-backward-bias
        (Self::Mean, "bias: a mean for the sum over rows"), // wrong: linear-backward-bias
        (Self::Set, "bias: = for +="), // wrong: linear-backward-bias
    ];
}
/// The library's linear map with a bias; only the gradient of the bias is made
/// anew, and without a mistake it is the library's, too.
#[derive(Debug)]
pub(crate) struct Biased {
    map: Linear,
    wrong: Option<OfBias>,
}
impl Biased {
    pub(crate) fn new(b: Builder, d: usize, wrong: Option<OfBias>) -> Self {
        Self { map: Linear::with_bias(b, d, 4), wrong }
    }
}
impl Layer for Biased {
    type Acts<T: Real> = LinearActs<T>;

    fn acts<T: Real>(&self, s: Shape) -> LinearActs<T> {
        self.map.acts(s)
    }
    fn y<T: Real>(a: &mut LinearActs<T>) -> &mut [T] {
        Linear::y(a)
    }
    fn forward<T: Real>(&self, p: &Params<T>, x: &[T], a: &mut LinearActs<T>) {
        self.map.forward(p, x, a);
    }
    fn backward<T: Real>(
        &self, p: &Params<T>, x: &[T], _: &LinearActs<T>,
        g: &mut LinearActs<T>, dx: &mut [T], dp: &mut ParamGrads<T>,
    ) {
        let (w, Some(b)) = (self.map.w, self.map.b) else { return };
        let (db, f) = (dp.write(b), w.cols);
        match self.wrong {
            None => linear_bias_backward(db, &g.y),
            Some(OfBias::Cut) => {}
            Some(OfBias::LastRow) => add_to(db, &g.y[g.y.len() - f..]),
            Some(OfBias::Mean) => {
                let rows = T::of((g.y.len() / f) as f64);
                let add = |(i, &dy): (usize, &T)| db[i % f] += dy / rows;
                g.y.iter().enumerate().for_each(add);
            }
            Some(OfBias::Set) => {
                db.fill(T::ZERO);
                linear_bias_backward(db, &g.y);
            }
        }
        linear_backward(dx, Set, dp, &g.y, x, w, p);
    }
}

/// What is wrong in the backward of y = x / Σ |xᵢ|.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OfL1 {
    SumFixed,
    NoSign,
    AlongX,
    SumLeftOut,
}
impl OfL1 {
    pub(crate) const ALL: [(Self, &'static str); 4] = [
        (Self::SumFixed, "L1: the sum taken for a constant"), // wrong: l1-normalize-backward
        (Self::NoSign, "L1: sign(x) missing"), // wrong: l1-normalize-backward
        (Self::AlongX, "L1: ⟨x, ȳ⟩ for ⟨y, ȳ⟩"), // wrong: l1-normalize-backward
        (Self::SumLeftOut, "L1: 1/S missing"), // wrong: l1-normalize-backward
    ];
}
/// Rows of [`Rows::WIDTH`] numbers, each divided by its sum.
#[derive(Debug)]
pub(crate) struct Rows(pub(crate) Option<OfL1>);
impl Rows {
    pub(crate) const WIDTH: usize = 5;
}
impl Function for Rows {
    fn forward<T: Real>(&self, x: &[Vec<T>]) -> (Vec<T>, Vec<usize>) {
        let mut y = x[0].clone();
        let rows = x[0].chunks(Self::WIDTH);
        for (y, x) in y.chunks_mut(Self::WIDTH).zip(rows) {
            l1_normalize_forward(y, x);
        }
        (y, vec![])
    }
    fn backward<T: Real>(&self, x: &[Vec<T>], dy: &[T]) -> Vec<Vec<T>> {
        let (y, _) = self.forward(x);
        let mut dx = y.clone();
        for (i, dx) in dx.chunks_mut(Self::WIDTH).enumerate() {
            let row = i * Self::WIDTH..(i + 1) * Self::WIDTH;
            let (x, y, dy) = (&x[0][row.clone()], &y[row.clone()], &dy[row]);
            let Some(wrong) = self.0 else {
                l1_normalize_backward(dx, dy, x, y);
                continue;
            };
            // |x| is sign(x)·x
            let sign = |x: T| if x < T::ZERO { -T::ONE } else { T::ONE };
            let s: T = x.iter().map(|&x| sign(x) * x).sum();
            let along = dot(if wrong == OfL1::AlongX { x } else { y }, dy);
            for j in 0..dx.len() {
                let sign = match wrong {
                    OfL1::SumFixed => T::ZERO,
                    OfL1::NoSign => T::ONE,
                    _ => sign(x[j]),
                };
                dx[j] = dy[j] - sign * along;
                if wrong != OfL1::SumLeftOut {
                    dx[j] /= s;
                }
            }
        }
        vec![dx]
    }
}
