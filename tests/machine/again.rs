//! Chapter: memory. A gradient with activations that are kept, and with such
//! that are computed again.

use crate::clock::{medians, table};
use moe_by_hand::config::Config;
use moe_by_hand::layer::Shape;
use moe_by_hand::model::{Batch, Model};
use moe_by_hand::train::account::Account;
use moe_by_hand::train::gradient::{Coefficients, Gradient, shards};
use moe_by_hand::train::optimizer::{AdamW, Decay};
use moe_by_hand::train::options::Options;
use std::hint::black_box;

/// Seconds and bytes, kept and computed again.
fn gradient(c: &Config, shape: Shape) -> ([f64; 2], [u64; 2]) {
    let m = Model::new(c.clone()).unwrap();
    let p = m.init::<f32>(0);
    let coef = Coefficients { ce: 1.0, aux: 0.01, z: 0.0 };
    let tokens: Vec<usize> =
        (0..=shape.rows()).map(|i| (7 * i + i / 5) % c.vocab).collect();
    let batch =
        Batch { tokens: &tokens[..shape.rows()], targets: &tokens[1..] };
    let make = |again| Gradient::new(&m, shape, shards(shape), coef, again);
    let (mut kept, mut again) = (make(false), make(true));
    let run = |gradient: &mut Gradient<f32>| {
        black_box(gradient.compute(&m, &p, batch));
    };
    let times = medians([&mut || run(&mut kept), &mut || run(&mut again)]);
    assert!(kept.grads().data == again.grads().data, "the same bits");
    let bytes = [false, true].map(|recompute| {
        let (batch, seq) = (shape.batch, shape.time);
        let o = Options { batch, seq, recompute, ..Options::default() };
        let adam = |layout: &_| AdamW::new(layout, 0.1, Decay::Weights);
        Account::new(&m, &o, 100_000, 1, adam).activations
    });
    (times, bytes)
}

/// Prints the table.
pub(crate) fn print() {
    let of = |name: &str, layers: Option<usize>| {
        let c = Config::preset(name).unwrap();
        Config { layers: layers.unwrap_or(c.layers), ..c }
    };
    let shape = |batch| Shape { batch, time: 64 };
    let cases = [
        ("tiny, 8 × 64", of("tiny", None), shape(8)),
        ("bytes, 12 × 64", of("bytes", None), shape(12)),
        ("bytes, 16 blocks", of("bytes", Some(16)), shape(12)),
    ];
    let rows = cases.map(|(what, c, shape)| {
        let ([kept, again], bytes) = gradient(&c, shape);
        let [b, d] = bytes.map(|b| format!("{:.1}", b as f64 / 1e6));
        [
            what.into(),
            format!("{:.1}", 1e3 * kept),
            format!("{:.1}", 1e3 * again),
            format!("{:.2}", again / kept),
            b,
            d,
        ]
    });
    table("model, ms kept, ms again, times, MB kept, MB again", &rows);
}
