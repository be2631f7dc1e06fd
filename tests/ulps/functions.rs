//! Chapter: elementary. What is measured besides the library's functions of one
//! number: the vectors' exponential, the processor's roots, and a sine whose
//! π/2 is too short.

use moe_by_hand::check::elementary::{FUNCTIONS, Function};
use moe_by_hand::elementary::{quarters, sin_cos_series};
use moe_by_hand::kernel::fast;
use moe_by_hand::kernel::simd::Isa;

/// eˣ of the vectors of a set: with ℓ = 0 and dsum = 1 the backward of
/// cross-entropy is exp(z), but for the target.
pub(crate) fn exp_on(isa: Isa, x: &[f32]) -> Vec<f32> {
    let z = [x, &[0.0]].concat();
    let mut dz = vec![f32::NAN; z.len()];
    fast::CrossEntropyBackward {
        dz: &mut dz,
        z: &z,
        lse: &[0.0],
        target: &[x.len()],
        dsum: 1.0,
    }
    .on(isa);
    dz.truncate(x.len());
    dz
}
/// sin x with π/2 in two parts of f32, reduced in f32: 201/128 has eight bits,
/// so that its product with n up to 2¹⁶ is exact.
pub(crate) fn sin_by_f32(x: f32) -> f32 {
    const HIGH: f32 = 201.0 / 128.0;
    const LOW: f32 = 4.838_268e-4;
    const MAGIC: f32 = 12_582_912.0; // 1.5·2²³
    let t = x * std::f32::consts::FRAC_2_PI + MAGIC;
    let n = t - MAGIC;
    let r = x - n * HIGH - n * LOW;
    quarters(sin_cos_series(r), t.to_bits()).0
}

/// eˣ where products and sums are fused.
pub(crate) const FUSED: Function = Function {
    name: "eˣ, fused",
    most: 2.0183,
    at: 37.821_556,
    ..FUNCTIONS[0]
};
/// What the processor has, and what has too few bits.
pub(crate) const OTHERS: [Function; 3] = [
    Function {
        name: "1/√x, the processor's",
        f: |x| 1.0 / x.sqrt(),
        most: 1.4903,
        at: 1.182_765_8e-38,
        ..FUNCTIONS[2]
    },
    Function {
        name: "√x, the processor's",
        f: f32::sqrt,
        most: 0.5,
        at: 4.701_977e-38,
        ..FUNCTIONS[3]
    },
    Function {
        name: "sin x, two f32 parts",
        f: sin_by_f32,
        most: 15_107_423.492_9,
        at: 122_939.945,
        ..FUNCTIONS[4]
    },
];
