//! Chapter: rmsnorm. What a student hands in: a layer of its own in one file,
//! checked in one line.
#![allow(missing_docs, reason = "a student's file")]

use moe_by_hand::gradcheck::assert_layer;
use moe_by_hand::kernel::simd::Buffer;
use moe_by_hand::layer::{Layer, Shape, buffer};
use moe_by_hand::params::{Builder, Param, ParamGrads, Params, Role};
use moe_by_hand::real::Real;

/// LayerNorm: y = gain·x̂ + bias, x̂ = (x − mean)·r, r = 1/√(var + ε).
struct LayerNorm {
    gain: Param,
    bias: Param,
    d: usize,
}
struct LayerNormActs<T> {
    /// [n, d]
    y: Buffer<T>,
    /// [n, d]
    xhat: Buffer<T>,
    /// [n]
    r: Buffer<T>,
}

impl LayerNorm {
    fn new(mut b: Builder, d: usize) -> Self {
        let gain = b.param("gain", [d], Role::Gain);
        let bias = b.param("bias", [d], Role::Bias);
        Self { gain, bias, d }
    }
}
impl Layer for LayerNorm {
    type Acts<T: Real> = LayerNormActs<T>;

    fn acts<T: Real>(&self, s: Shape) -> LayerNormActs<T> {
        let (n, d) = (s.rows(), self.d);
        LayerNormActs { y: buffer(n * d), xhat: buffer(n * d), r: buffer(n) }
    }
    fn y<T: Real>(a: &mut LayerNormActs<T>) -> &mut [T] {
        &mut a.y
    }

    fn forward<T: Real>(
        &self, p: &Params<T>, x: &[T], a: &mut LayerNormActs<T>,
    ) {
        let (gain, bias, d) = (&p[self.gain], &p[self.bias], self.d);
        let len = T::of(d as f64);
        for (i, x) in x.chunks_exact(d).enumerate() {
            let mean = x.iter().sum::<T>() / len;
            let var = x.iter().map(|&x| (x - mean) * (x - mean)).sum::<T>();
            a.r[i] = T::ONE / (var / len + T::of(1e-5)).sqrt();
            for j in 0..d {
                a.xhat[i * d + j] = (x[j] - mean) * a.r[i];
                a.y[i * d + j] = gain[j] * a.xhat[i * d + j] + bias[j];
            }
        }
    }
    fn backward<T: Real>(
        &self, p: &Params<T>, _: &[T], a: &LayerNormActs<T>,
        g: &mut LayerNormActs<T>, dx: &mut [T], dp: &mut ParamGrads<T>,
    ) {
        let (gain, d) = (&p[self.gain], self.d);
        let [dgain, dbias] = dp.many([self.gain, self.bias]);
        let len = T::of(d as f64);
        for (i, &r) in a.r.iter().enumerate() {
            // y = gain·x̂ + bias; x̂ has mean 0 and mean square 1, so a change
            // of x along either direction is undone
            let (mut mean, mut along) = (T::ZERO, T::ZERO);
            for j in 0..d {
                let (dy, xhat) = (g.y[i * d + j], a.xhat[i * d + j]);
                dgain[j] += dy * xhat;
                dbias[j] += dy;
                mean += dy * gain[j] / len;
                along += dy * gain[j] * xhat / len;
            }
            for j in 0..d {
                let at = i * d + j;
                dx[at] = r * (g.y[at] * gain[j] - mean - a.xhat[at] * along);
            }
        }
    }
}

#[test]
fn gradients() {
    assert_layer(|b| LayerNorm::new(b, 6), Shape { batch: 2, time: 3 }, 6);
}

/// README shows the heart of this file; it shall be what stands here.
#[test]
fn readme_quotes_this_file() {
    let (readme, file) =
        (include_str!("../README.md"), include_str!("student.rs"));
    let quote = readme.split("```rust,ignore\n").nth(1);
    let quote = quote.and_then(|q| q.split("```").next()).expect("a quote");
    let squeeze = |s: &str| s.split_whitespace().collect::<String>();
    for part in quote.split("\n\n") {
        assert!(squeeze(file).contains(&squeeze(part)), "README:\n{part}");
    }
}
