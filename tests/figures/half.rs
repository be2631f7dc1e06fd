//! Chapter: half. Figures about numbers of 16 bits.

use crate::csv::{Csv, short};
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

pub(crate) fn half_bits() -> Csv {
    let third = 1.0f32 / 3.0;
    let [bf16, f16] =
        [Bf16::from_f32(third).to_bits(), F16::from_f32(third).to_bits()];
    let mut csv = Csv::drawing(
        "half-bits",
        "One third in three formats: sign, exponent, fraction",
        "The bits of one third. In f32 there are one bit of sign, eight of \
         exponent, 01111101, and 23 of fraction, 01 again and again with a \
         last 11. In bf16 there are the same sign and exponent and seven bits \
         of fraction, 0101011: the upper half of the f32, rounded up. In f16 \
         there are five bits of exponent, 01101, and ten of fraction, \
         0101010101, rounded down.",
    );
    let rows = [
        ("f32", third.to_bits().into(), [8, 23], f64::from(third)),
        ("bf16", u64::from(bf16), [8, 7], Bf16::from_bits(bf16).f64()),
        ("f16", u64::from(f16), [5, 10], F16::from_bits(f16).f64()),
    ];
    let width = 10.7;
    for (row, (name, bits, [exponent, fraction], value)) in
        rows.into_iter().enumerate()
    {
        let top = 26.0 + 52.0 * row as f64;
        csv.text_at([8.0, top - 12.0], "e bold", name);
        csv.text_at([46.0, top - 12.0], "e", &format!("{value}"));
        let all = 1 + exponent + fraction;
        for i in 0..all {
            let bit = bits >> (all - 1 - i) & 1;
            let class = match i {
                0 => "c1",
                i if i <= exponent => "c0",
                _ => "c2",
            };
            let corner = [8.0 + width * i as f64, top];
            csv.rect(corner, [width, 20.0], class, &bit.to_string());
        }
    }
    csv
}

/// The largest relative error that rounding makes of a thousand numbers from
/// 2^e to 2^(e+1).
fn largest_error(e: i32, round: impl Fn(f64) -> f64) -> f64 {
    let x = (0..1009).map(|i| (1.0 + (f64::from(i) + 0.37) / 1009.0, e));
    let x = x.map(|(m, e)| m * f64::from(e).exp2());
    x.map(|x| (round(x) - x).abs() / x).fold(0.0, f64::max)
}
pub(crate) fn half_error() -> Csv {
    let mut csv = Csv::chart(
        "half-error",
        "Largest relative error of rounding, against the size of the number",
        "Largest relative error of rounding a number to f32, bf16 and f16, \
         against its size from 10⁻¹² to 10⁹, both axes logarithmic. f32 stays \
         at 6·10⁻⁸ and bf16 at 0.004 throughout. f16 stays at 0.0005 between \
         its smallest normal number, 6·10⁻⁵, and its largest, 65504, where \
         its line ends. Below, the error grows as the number falls, up to 1 \
         at 3·10⁻⁸: from there on everything becomes 0.",
        ["x", "largest ∣rd(x) − x∣ / ∣x∣"],
    )
    .with("log", "xy");
    csv.row("x,f32,bf16,f16");
    for e in -40..=30 {
        let f32s = largest_error(e, |x| (x as f32).into());
        let bf16 = largest_error(e, |x| Bf16::from_f64(x).f64());
        let f16 = largest_error(e, |x| F16::from_f64(x).f64());
        let f16 = if f16.is_finite() { short(f16) } else { String::new() };
        let x = short((f64::from(e) + 0.5).exp2());
        csv.row(format!("{x},{},{},{f16}", short(f32s), short(bf16)));
    }
    let [least, most, none] = [
        F16::LEAST_NORMAL.f64(),
        F16::LARGEST.f64(),
        F16::SMALLEST.f64() / 2.0,
    ];
    csv.row(format!("mark,2,{},{},se,65504", short(most), short(F16::UNIT)));
    csv.row(format!("mark,2,{},{},sw,2⁻¹⁴", short(least), short(F16::UNIT)));
    csv.row(format!("mark,2,{},1,ne,2⁻²⁵", short(none)));
    csv
}

/// A model of `bytes` after some steps in f32, and the batch that comes next.
struct Next {
    model: Model,
    params: Params<f32>,
    options: Options,
    tokens: Vec<usize>,
    targets: Vec<usize>,
}
/// Steps after which gradients are looked at.
const STEPS: usize = 200;
impl Next {
    fn after(steps: usize, text: &Text) -> Result<Self> {
        let model = Model::new(Config::preset("bytes")?)?;
        let options = Options { steps: STEPS, ..Options::default() };
        let mut t = Trainer::new(model, text.clone(), options.clone())?;
        while t.steps_done() < steps {
            t.step()?;
        }
        let shape = options.shape();
        let [mut tokens, mut targets] = [(); 2].map(|()| vec![0; shape.rows()]);
        let (x, y, seed) = (&mut tokens, &mut targets, options.seed);
        draw(x, y, text.train(), shape, seed, steps + 1, 0);
        let Trainer { model, params, .. } = t;
        Ok(Self { model, params, options, tokens, targets })
    }
    /// The gradient that is stored in numbers of this type, at these scales.
    fn gradients<T: Real<Wide = f32>>(
        &self, scales: &[f64],
    ) -> Vec<ParamGrads<T>> {
        let (m, o) = (&self.model, &self.options);
        let mut p = m.layout.zeros::<T>();
        T::narrow(&mut p.data, &self.params.data);
        let coef = Coefficients { ce: 1.0, aux: o.aux, z: o.z_loss };
        let (shape, n) = (o.shape(), shards(o.shape()));
        let mut g = Gradient::<T>::new(m, shape, n, coef, false);
        let b = Batch { tokens: &self.tokens, targets: &self.targets };
        let at = |&scale: &f64| {
            g.scale = scale;
            g.compute(m, &p, b).1.clone()
        };
        scales.iter().map(at).collect()
    }
}

/// Kinds of tensors, and what their names hold.
const KINDS: [(&str, &str); 5] = [
    ("embedding", "embed"),
    ("attention", ".attention."),
    ("router", ".router."),
    ("experts", ".experts."),
    ("head", "head."),
];
pub(crate) fn half_gradients(text: &Text) -> Result<Csv> {
    let mut csv = Csv::chart(
        "half-gradients",
        "Sizes of the gradient's elements in f32: f16 has fewer bits for those \
         left of −14, and none for those left of −25",
        "How the exponents of a gradient's elements are distributed, for five \
         kinds of tensors, before the first step and after 200. They lie \
         between 2 to the −30 and 2 to the −3. The experts' are the smallest: \
         almost half, and later three quarters, are below 2 to the −14, where \
         f16's numbers are subnormal, and few below 2 to the −25, where it has \
         none. After 200 steps three quarters of the head's are as small.",
        ["exponent of ∣ḡ∣, base 2", "share of the elements"],
    );
    let bins = -32..=-1;
    for steps in [0, STEPS] {
        let next = Next::after(steps, text)?;
        let g = &next.gradients::<f32>(&[1.0])[0];
        csv.row(match steps {
            0 => "panel,before the first step".into(),
            n => format!("panel,after {n} steps"),
        });
        let names = KINDS.map(|(name, _)| name).join(",");
        csv.row(format!("exponent,{names}"));
        let shares = KINDS.map(|(_, part)| {
            let mut count = vec![0usize; bins.clone().count()];
            let entries = &next.model.layout.entries;
            for e in entries.iter().filter(|e| e.name.contains(part)) {
                let alive = g[e.param].iter().filter(|&&g| g != 0.0);
                for g in alive.map(|g| g.abs().log2().floor() as i32) {
                    let bin = g.clamp(*bins.start(), *bins.end());
                    count[(bin - bins.start()) as usize] += 1;
                }
            }
            let all = count.iter().sum::<usize>().max(1) as f64;
            count.into_iter().map(move |n| n as f64 / all).collect::<Vec<_>>()
        });
        for (i, exponent) in bins.clone().enumerate() {
            let each = shares.each_ref().map(|s| format!("{:.4}", s[i]));
            csv.row(format!("{exponent},{}", each.join(",")));
        }
        for (at, what) in [(-25, "0 in f16"), (-14, "subnormal")] {
            csv.row(format!("guide,{at},0,{at},0.38,w,{what}"));
        }
    }
    Ok(csv)
}

pub(crate) fn half_scale(text: &Text) -> Result<Csv> {
    let mut csv = Csv::chart(
        "half-scale",
        "Share of the gradient's elements that f16 makes 0, and that it makes \
         infinite or NaN, against the scale of the loss",
        "Two shares of a gradient's elements against the exponent of the loss \
         scale, before the first step and after 200. The share that f16 makes \
         0 falls from almost all at 2 to the −12 to two thirds at 2 to the \
         −10, a few percent at 2 to the −6 and less than a thousandth from 1 \
         on. The share that is infinite or NaN is nothing up to 2 to the 18, \
         and almost all from 2 to the 26 on. The first scale of a run, 2 to \
         the 16, lies between the two.",
        ["exponent of the loss scale S, base 2", "share of the elements"],
    );
    let exponents: Vec<i32> = (-12..=28).step_by(2).collect();
    let scales: Vec<f64> =
        exponents.iter().map(|&e| f64::from(e).exp2()).collect();
    let mut shares = vec![];
    for steps in [0, STEPS] {
        let next = Next::after(steps, text)?;
        let full = &next.gradients::<f32>(&[1.0])[0];
        let stored = next.gradients::<F16>(&scales);
        let share = |is: &dyn Fn(f32, f32) -> bool| -> Vec<f64> {
            let of = |g: &ParamGrads<F16>| {
                let both = full.data.iter().zip(&g.data[..]);
                let alive = both.filter(|(full, _)| **full != 0.0);
                let (mut all, mut some) = (0usize, 0usize);
                for (&full, g) in alive {
                    all += 1;
                    some += usize::from(is(full, g.f32()));
                }
                some as f64 / all as f64
            };
            stored.iter().map(of).collect()
        };
        shares.push(share(&|_, g| g == 0.0));
        shares.push(share(&|_, g| !g.is_finite()));
    }
    csv.row("exponent,0 at first,∞ at first,0 at 200,∞ at 200");
    for (i, exponent) in exponents.iter().enumerate() {
        let each = shares.iter().map(|s| format!("{:.4}", s[i]));
        let each: Vec<_> = each.collect();
        csv.row(format!("{exponent},{}", each.join(",")));
    }
    for (at, what) in [(0, "S = 1"), (16, "first S")] {
        csv.row(format!("guide,{at},0,{at},1,n,{what}"));
    }
    Ok(csv)
}
