//! Chapter: half. What share of a gradient's elements becomes 0 where it is
//! stored in 16 bits, tensor by tensor: f16 with and without a loss scale, and
//! bf16, beside the f32 gradient of the same batch.

use clap::Parser;
use moe_by_hand::config::Config;
use moe_by_hand::error::Result;
use moe_by_hand::half::{Bf16, F16};
use moe_by_hand::model::{Batch, Model};
use moe_by_hand::params::{ParamGrads, Params};
use moe_by_hand::real::Real;
use moe_by_hand::train::data::{Text, draw};
use moe_by_hand::train::gradient::{Coefficients, Gradient, shards};
use moe_by_hand::train::options::Options;
use moe_by_hand::train::trainer::Trainer;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "What becomes 0 in gradients of 16 bits, tensor by tensor")]
struct Args {
    /// What to train on
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    #[arg(long, value_name = "NAME", default_value = "bytes")]
    preset: String,
    /// Steps in f32 before the gradients are looked at
    #[arg(long, value_name = "N", default_value_t = 200)]
    steps: usize,
    #[arg(long, value_name = "B", default_value_t = 12)]
    batch: usize,
    #[arg(long, value_name = "T", default_value_t = 64)]
    seq: usize,
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// What f16's loss is multiplied by where it is scaled; it is halved until
    /// the gradient is finite
    #[arg(long, value_name = "X", default_value_t = 65_536.0)]
    scale: f64,
    /// Where to write all numbers, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Counts of one kind of tensor.
#[derive(Default)]
struct Tensor {
    elements: usize,
    /// Not 0 in f32.
    alive: usize,
    /// How many of these are 0 in f16, in f16 scaled, in bf16, and in f16 if
    /// only the finished gradient is rounded to it.
    gone: [usize; 4],
    /// ‖g − g32‖² of the first three, and ‖g32‖².
    error: [f64; 3],
    square: f64,
}
const NAMES: [&str; 4] = ["f16", "f16_scaled", "bf16", "f16_rounded_at_last"];

/// `layers.3.moe.experts.1.w1` and those of its other experts are one kind.
fn kind(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["layers", l, "moe", "experts", _, w] => {
            format!("layers.{l}.experts.{w}")
        }
        _ => name.replace(".moe.", "."),
    }
}
/// The gradient in numbers of type `T`, divided by the scale; and the scale.
fn gradient<T: Real<Wide = f32>>(
    m: &Model, p: &Params<f32>, o: &Options, b: Batch, mut scale: f64,
) -> (ParamGrads<T>, f64) {
    let mut rounded = m.layout.zeros::<T>();
    T::narrow(&mut rounded.data, &p.data);
    let coef = Coefficients { ce: 1.0, aux: o.aux, z: o.z_loss };
    let shape = o.shape();
    let mut g = Gradient::<T>::new(m, shape, shards(shape), coef, false);
    loop {
        g.scale = scale;
        let (_, dp) = g.compute(m, &rounded, b);
        if scale <= 1.0 || dp.data.iter().all(|g| g.wide().is_finite()) {
            return (dp.clone(), scale);
        }
        scale /= 2.0;
    }
}

fn main() -> Result<()> {
    registry::end_with_the_reader();
    let args = Args::parse();
    let options = Options {
        steps: args.steps,
        batch: args.batch,
        seq: args.seq,
        seed: args.seed,
        ..Options::default()
    };
    let model = Model::new(Config::preset(&args.preset)?)?;
    let text = Text::read(&args.text)?;
    let mut t = Trainer::new(model, text, options.clone())?;
    while !t.done() {
        t.step()?;
    }
    // The batch that would come next.
    let (o, shape) = (&options, options.shape());
    let (mut x, mut y) = (vec![0; shape.rows()], vec![0; shape.rows()]);
    draw(&mut x, &mut y, t.text().train(), shape, o.seed, o.steps + 1, 0);
    let b = Batch { tokens: &x, targets: &y };
    let (m, p) = (&t.model, &t.params);
    let (full, _) = gradient::<f32>(m, p, o, b, 1.0);
    let (plain, _) = gradient::<F16>(m, p, o, b, 1.0);
    let (scaled, scale) = gradient::<F16>(m, p, o, b, args.scale);
    let (bf16, _) = gradient::<Bf16>(m, p, o, b, 1.0);

    let mut kinds: Vec<String> = vec![];
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    for e in &m.layout.entries {
        let name = kind(&e.name);
        if !kinds.contains(&name) {
            kinds.push(name.clone());
        }
        for kind in [name, "all".into()] {
            let tensor = tensors.entry(kind).or_default();
            for i in e.param.range() {
                let want = full.data[i];
                let got = [
                    plain.data[i].wide(),
                    scaled.data[i].wide() / scale as f32,
                    bf16.data[i].wide(),
                    F16::nearest(want).wide(),
                ];
                tensor.elements += 1;
                tensor.square += f64::from(want).powi(2);
                for (sum, got) in tensor.error.iter_mut().zip(got) {
                    *sum += f64::from(got - want).powi(2);
                }
                if want != 0.0 {
                    tensor.alive += 1;
                    for (gone, got) in tensor.gone.iter_mut().zip(got) {
                        *gone += usize::from(got == 0.0);
                    }
                }
            }
        }
    }
    kinds.push("all".into());
    println!(
        "after {} steps in f32: share of the elements that are not 0 in f32 \
         and are 0 so, in %; and ‖g − g32‖/‖g32‖",
        o.steps
    );
    println!(
        "{:24}{:>9}{:>8}{:>10}{:>8}{:>11}{:>10}{:>10}{:>10}",
        "tensor",
        "elements",
        "f16",
        format!("S={scale}"),
        "bf16",
        "at last",
        "f16",
        "scaled",
        "bf16"
    );
    let mut rows = vec![];
    for kind in &kinds {
        let t = &tensors[kind];
        let share = t.gone.map(|n| n as f64 / t.alive.max(1) as f64);
        let error = t.error.map(|e| (e / t.square).sqrt());
        let [a, b, c, d] = share.map(|s| 100.0 * s);
        println!(
            "{kind:24}{:9}{a:8.2}{b:10.2}{c:8.2}{d:11.2}{:10.5}{:10.5}{:10.5}",
            t.elements, error[0], error[1], error[2]
        );
        let of = |x: &[f64]| -> BTreeMap<&str, f64> {
            NAMES.into_iter().zip(x.iter().copied()).collect()
        };
        rows.push(json!({
            "tensor": kind,
            "elements": t.elements,
            "not_zero_in_f32": t.alive,
            "zero": of(&share),
            "relative_error": of(&error),
        }));
    }
    let all: Value = json!({
        "preset": args.preset,
        "steps": o.steps,
        "batch": o.batch,
        "seq": o.seq,
        "seed": o.seed,
        "scale": scale,
        "tensors": rows,
    });
    if let Some(path) = args.json {
        let write = |w: &mut dyn std::io::Write| {
            w.write_all(format!("{all:#}\n").as_bytes())
        };
        moe_by_hand::file::write_atomic(&path, write)?;
    }
    Ok(())
}
