//! Chapter: training. Figures that are lines over axes.

use crate::csv::{Csv, short};
use moe_by_hand::check;
use moe_by_hand::check::elementary::polynomial_error;
use moe_by_hand::config::Config;
use moe_by_hand::elementary::rsqrt_steps;
use moe_by_hand::gradcheck::normals;
use moe_by_hand::kernel::activation::{silu_backward, silu_forward};
use moe_by_hand::kernel::matrix::{Add, mat, mat_mut, matmul};
use moe_by_hand::kernel::vector::{dot, sum_of_squares};
use moe_by_hand::layer::{Layer, Shape};
use moe_by_hand::model::{Batch, Model};
use moe_by_hand::nn::rmsnorm::rmsnorm_forward;
use moe_by_hand::nn::rope::{Rope, ntk_base, rope_forward};
use moe_by_hand::params::{Params, Role};
use moe_by_hand::real::Real;
use moe_by_hand::rng::Rng;
use moe_by_hand::train::gradient::{Coefficients, Gradient};
use moe_by_hand::train::muon::{QUINTIC, STEPS};
use moe_by_hand::train::optimizer::{Rates, adamw};
use moe_by_hand::train::schedule::Schedule;

pub(crate) fn silu() -> Csv {
    let mut csv = Csv::chart(
        "silu",
        "SiLU and its derivative; ReLU is dotted",
        "SiLU and its derivative from −6 to 4. SiLU follows the ReLU at both \
         ends and has a minimum of −0.2785 at z = −1.2785. The derivative is \
         one half at 0, has its maximum 1.0998 at z = 2.3994 and its minimum \
         −0.0998 at z = −2.3994.",
        ["z", "silu(z), silu′(z)"],
    );
    csv.row("z,silu,silu′");
    for i in -120..=80 {
        let z = f64::from(i) * 0.05;
        let (y, slope) = (silu_forward(z), silu_backward(1.0, z));
        csv.row(format!("{z:.2},{y:.4},{slope:.4}"));
    }
    csv.row("guide,-6,0,0,0,,");
    csv.row("guide,0,0,3.6,3.6,w,ReLU");
    // Where the slope is 0, and where the slope's slope is.
    let (low, steep) = (-1.278464542761, 2.399357280515);
    let mut mark = |line, z, y: f64, side, what: &str| {
        let value = format!("{y:.4}").replace('-', "−");
        csv.row(format!("mark,{line},{z:.4},{y:.4},{side},{what}{value}"));
    };
    mark(0, low, silu_forward(low), "s", "");
    let slope = |z| silu_backward(1.0, z);
    mark(1, steep, slope(steep), "s", "");
    mark(1, -steep, slope(-steep), "nw", "");
    csv.row(format!("mark,1,0,{},nw,½", slope(0.0)));
    csv
}

/// A model's parameters, to be moved along a direction.
struct Slope {
    model: Model,
    p: Params<f64>,
    u: Vec<f64>,
}
impl Slope {
    const COEF: Coefficients = Coefficients { ce: 1.0, aux: 0.7, z: 0.3 };

    /// The total loss after a move by h·u, all of it in this type, and the
    /// gradient there.
    fn at<T: Real + Into<f64>>(&self, h: f64) -> (f64, Vec<f64>) {
        let batch = Batch {
            tokens: &[3, 1, 3, 7, 0, 3, 3, 9],
            targets: &[1, 3, 7, 2, 3, 3, 9, 9],
        };
        let both = self.p.data.iter().zip(&self.u);
        let moved = both.map(|(&p, &u)| T::of(p) + T::of(h) * T::of(u));
        let moved = moved.collect::<Vec<_>>();
        let (m, p) = (&self.model, self.p.like(moved));
        let shape = Shape { batch: 2, time: 4 };
        let mut gradient = Gradient::<T>::new(m, shape, 1, Self::COEF, false);
        let (losses, dp) = gradient.compute(m, &p, batch);
        let total = losses.total.f64();
        (total, dp.data.iter().map(|&v| v.into()).collect())
    }
}
pub(crate) fn difference_error() -> Csv {
    let model = Model::new(check::config()).unwrap();
    let mut p = model.layout.zeros();
    for e in &model.layout.entries {
        Rng::named(2, &e.name).fill_normal(&mut p[e.param], 0.5);
        if e.role == Role::Gain {
            p[e.param].iter_mut().for_each(|g| *g = 1.0 + 0.6 * *g);
        }
    }
    let mut u = normals(p.data.len(), 1.0, &mut Rng::named(2, "slope"));
    let length = dot(&u, &u).sqrt();
    u.iter_mut().for_each(|u| *u /= length);
    let slope = Slope { model, p, u };
    let (f, dp) = slope.at::<f64>(0.0);
    let exact = dot(&dp, &slope.u);
    let error = |h: f64, f: &dyn Fn(f64) -> (f64, Vec<f64>)| {
        ((f(h).0 - f(-h).0) / (2.0 * h) - exact).abs()
    };
    let double = |h: f64| error(h, &|h| slope.at::<f64>(h));
    let single = |h: f64| error(h, &|h| slope.at::<f32>(h));
    let steps = (1..=12).rev().map(|i| 10f64.powi(-i));
    let rows: Vec<[f64; 3]> =
        steps.map(|h| [h, double(h), single(h)]).collect();
    let mut csv = Csv::chart(
        "difference-error",
        "Error of a central difference of the whole model",
        "Error of a central difference against the step, both axes \
         logarithmic. In f64 it falls with the square of the step down to \
         10⁻¹¹ at h = 10⁻⁵, then rises as 1/h. In f32 the same V stands \
         higher and farther to the right: its lowest point is 3·10⁻⁵, at \
         h = 10⁻².",
        ["step h", "error of the difference"],
    )
    .with("log", "xy");
    csv.row("h,,");
    for r in &rows {
        csv.row(r.map(short).join(","));
    }
    // The two terms of e(h): truncation fitted at h = 10⁻², rounding u|f|/h.
    let square = double(1e-2) / 1e-4;
    let mut guide = |from: f64, to: f64, e: &dyn Fn(f64) -> f64, text| {
        let [y1, y2] = [e(from), e(to)].map(short);
        csv.row(format!("guide,{from:e},{y1},{to:e},{y2},{text}"));
    };
    guide(1e-1, 1e-3, &|h| square * h * h, "se,slope 2");
    let rounding = |u: f64| move |h: f64| u * f / h;
    guide(1e-4, 1e-12, &rounding(f64::EPSILON / 2.0), ",");
    guide(1e-2, 1e-6, &rounding(f64::from(f32::EPSILON) / 2.0), "n,slope −1");
    for (line, name) in [(0, "f64"), (1, "f32")] {
        let of = |r: &[f64; 3]| r[line + 1];
        let best = rows.iter().min_by(|a, b| of(a).total_cmp(&of(b))).unwrap();
        let (h, e) = (short(best[0]), short(of(best)));
        csv.row(format!("mark,{line},{h},{e},s,{name}"));
    }
    csv
}

pub(crate) fn exp_polynomial() -> Csv {
    let mut csv = Csv::chart(
        "exp-polynomial",
        "Relative error of two polynomials of degree 5 for eʳ, in u = 2⁻²⁴, \
         rounding apart",
        "Two panels over r from −0.35 to 0.35. Taylor's polynomial is exact \
         near 0 and off by 54 u at the left end and 30 u at the right. That of \
         the code is off by 1.46 to 1.60 u at six places, and never more.",
        ["r", "relative error in u"],
    );
    let end = std::f64::consts::LN_2 / 2.0;
    let u = f64::from(f32::EPSILON) / 2.0;
    let taylor = |r: f64| {
        let p = (0..=5).rev().fold(0.0, |p, n| p * r / f64::from(n + 1) + 1.0);
        p * (-r).exp() - 1.0
    };
    let mut panel = |title: &str, name: &str, error: &dyn Fn(f64) -> f64| {
        csv.row(format!("panel,{title}"));
        csv.row(format!("r,{name}"));
        for i in -60..=60 {
            let r = end * f64::from(i) / 60.0;
            csv.row(format!("{r:.5},{:.3}", error(r) / u + 0.0));
        }
        for r in [-end, end] {
            let (side, error) = (if r < 0.0 { "e" } else { "w" }, error(r) / u);
            let text = format!("{error:.2}").replace('-', "−");
            csv.row(format!("mark,0,{r:.5},{error:.3},{side},{text}"));
        }
    };
    panel("Taylor's", "Taylor's", &taylor);
    panel("the code's", "the code's", &polynomial_error);
    csv
}

pub(crate) fn rsqrt_newton() -> Csv {
    let mut csv = Csv::chart(
        "rsqrt-newton",
        "Relative error of 1/√x as the bits guess it and after one, two and \
         three steps of Newton's method",
        "Over x from 1 to 4, on a logarithmic axis. The guess is off by up to \
         3.4 %, after one step by up to 0.18 %, after two by 5·10⁻⁶, after \
         three by about 10⁻⁷, which is rounding.",
        ["x", "relative error"],
    )
    .with("log", "y");
    csv.row("x,guess,1 step,2 steps,3 steps");
    for i in 0..=180 {
        let x = 1.0 + i as f32 / 60.0;
        let cells = [0, 1, 2, 3].map(|steps| {
            let y = f64::from(rsqrt_steps(x, steps));
            let error = (y * f64::from(x).sqrt() - 1.0).abs();
            // a logarithm has no 0, and rounding has many
            if error < 1e-9 { String::new() } else { short(error) }
        });
        csv.row(format!("{},{}", short(x.into()), cells.join(",")));
    }
    csv
}

pub(crate) fn stream_rms() -> Csv {
    let mut csv = Csv::chart(
        "stream-rms",
        "The residual stream of 24 blocks at the beginning, for three \
         deviations σ of the residual maps (D = 256)",
        "Root mean square of the residual stream after each of 24 blocks. \
         With σ = 1/√D it grows like a square root, from 1 to 6.8; with \
         σ = 0.02 to 2.4; with 1/√D divided by √(2L) it ends at 1.4, the square root \
         of 2.",
        ["block", "RMS of the stream"],
    );
    let (d, rows, blocks) = (256, 8, 24);
    let stream = |sigma: f64| {
        let mut rng = Rng::new(0, 9);
        let (mut x, mut w) = (vec![0.0f64; rows * d], vec![0.0; d * d]);
        let (mut u, mut r) = (vec![0.0; rows * d], vec![0.0; rows]);
        rng.fill_normal(&mut x, 1.0);
        let rms = |x: &[f64]| (sum_of_squares(x) / x.len() as f64).sqrt();
        let mut all = vec![rms(&x)];
        for step in 1..=2 * blocks {
            rng.fill_normal(&mut w, sigma);
            rmsnorm_forward(&mut u, &mut r, &x, &vec![1.0; d], 1e-5);
            matmul(mat_mut(&mut x, d), Add, mat(&u, d), mat(&w, d));
            if step % 2 == 0 {
                all.push(rms(&x));
            }
        }
        all
    };
    let unit = 1.0 / (d as f64).sqrt();
    let scaled = unit / (2.0 * blocks as f64).sqrt();
    let all = [unit, scaled, 0.02].map(stream);
    csv.row("block,1/√D,1/√(2LD),0.02");
    for l in 0..=blocks {
        let row = all.each_ref().map(|rms| short(rms[l])).join(",");
        csv.row(format!("{l},{row}"));
    }
    for (line, rms) in all.iter().enumerate() {
        let end = rms[blocks];
        csv.row(format!("mark,{line},{blocks},{},nw,{end:.1}", short(end)));
    }
    csv
}

/// The length of the gradient before each of twelve blocks, from the first on,
/// if one of length 1 and random direction enters behind the last; and that
/// one. With the skips, or through the branches alone, at the same place.
fn lengths(skips: bool) -> Vec<f64> {
    let config = Config { layers: 12, ..Config::preset("tiny").unwrap() };
    let m = Model::new(config).unwrap();
    let (p, shape) = (m.init::<f64>(0), Shape { batch: 2, time: 16 });
    let tokens: Vec<usize> = (0..shape.rows()).map(|i| i * 7 % 64).collect();
    let mut a = m.acts(shape, false);
    m.forward(&p, &tokens, &mut a);
    let n = shape.rows() * m.config.hidden;
    let mut dx = normals(n, 1.0, &mut Rng::new(0, 1));
    let length = |x: &[f64]| dot(x, x).sqrt();
    let first = length(&dx);
    dx.iter_mut().for_each(|v| *v /= first);
    let (mut dp, mut all) = (m.layout.grads(), vec![length(&dx)]);
    for (l, b) in m.blocks.iter().enumerate().rev() {
        let (x, a) = (&a.stream[l * n..(l + 1) * n], &a.blocks[l]);
        let (mut g, dp) = (b.acts(shape), &mut dp);
        g.moe.router.totals.clear();
        if skips {
            g.y.copy_from_slice(&dx);
            b.backward(&p, x, a, &mut g, &mut dx, dp);
        } else {
            // Block::backward without its two calls of add_to.
            g.moe.y.copy_from_slice(&dx);
            let (u, du) = (&a.norm2.y, &mut g.norm2.y);
            b.moe.backward(&p, u, &a.moe, &mut g.moe, du, dp);
            let dh = &mut g.attention.y;
            b.norm2.backward(&p, &a.h, &a.norm2, &mut g.norm2, dh, dp);
            let (u, du) = (&a.norm1.y, &mut g.norm1.y);
            b.attention.backward(&p, u, &a.attention, &mut g.attention, du, dp);
            b.norm1.backward(&p, x, &a.norm1, &mut g.norm1, &mut dx, dp);
        }
        all.push(length(&dx));
    }
    all.reverse();
    all
}
pub(crate) fn gradient_highway() -> Csv {
    let mut csv = Csv::chart(
        "gradient-highway",
        "Length of the gradient behind each of twelve blocks at initial \
         weights; one of length 1 enters behind the last",
        "The length of the gradient of the residual stream behind each of \
         twelve blocks, on a logarithmic axis. With the skips it grows from 1 \
         behind the last block to 1.09 before the first. Through the branches \
         alone it falls to 10⁻²⁷.",
        ["after block (0: before the first)", "‖x̄‖"],
    )
    .with("log", "y");
    let (with, without) = (lengths(true), lengths(false));
    csv.row("block,skips,branches");
    for (l, (a, b)) in with.iter().zip(&without).enumerate() {
        csv.row(format!("{l},{},{}", short(*a), short(*b)));
    }
    csv
}

pub(crate) fn rope_clock() -> Csv {
    let mut csv = Csv::chart(
        "rope-clock",
        "How far each of the eight hands of a head of 16 turns in one \
         position, before and after NTK scaling by α = 8",
        "The angle by which each of eight pairs turns in one position, on a \
         logarithmic axis, falls on a straight line from one radian for the \
         first to 0.00032 for the last. After NTK scaling by eight the line \
         begins at the same point and falls faster, to an eighth of that for \
         the last.",
        ["pair i", "angle ωᵢ in radians"],
    )
    .with("log", "y");
    let turned = |base: f64| -> Vec<f64> {
        let rope = Rope::new(16, 2, base);
        let mut x: Vec<f64> = [1.0, 0.0].repeat(8);
        rope_forward(&mut x, 16, 1, 1, &rope);
        x.chunks(2).map(|pair| pair[1].atan2(pair[0])).collect()
    };
    let (before, after) = (turned(1e4), turned(ntk_base(1e4, 8.0, 16)));
    csv.row("pair,b,b′");
    for (i, (b, a)) in before.iter().zip(&after).enumerate() {
        csv.row(format!("{i},{},{}", short(*b), short(*a)));
    }
    for (line, angle) in [(0, before[7]), (1, after[7])] {
        let angle = short(angle);
        csv.row(format!("mark,{line},7,{angle},w,"));
    }
    let ratio = before[7] / after[7];
    let [b, a] = [before[7], after[7]].map(short);
    csv.row(format!("guide,7,{b},7,{a},,"));
    let middle = short((before[7] * after[7]).sqrt());
    csv.row(format!("guide,7,{b},7,{middle},w,÷ {ratio:.0}"));
    csv
}

pub(crate) fn schedules() -> Csv {
    let mut csv = Csv::chart(
        "schedules",
        "The learning rate of each of 400 steps, of which 40 are warm-up, as a \
         share of the highest",
        "Two lines over 400 steps. Both rise from 0 to 1 in the first 40. The \
         cosine falls from there to 0.1 at the end, and is at 0.55 halfway. \
         WSD stays at 1 up to step 320 and then falls to 0, fast at first.",
        ["step", "share of η"],
    );
    let cosine = Schedule::new(1.0, 40, 400).unwrap();
    let wsd = cosine.stable(80).unwrap();
    csv.row("step,cosine,WSD");
    for n in (0..=400).step_by(2) {
        csv.row(format!("{n},{:.4},{:.4}", cosine.rate(n), wsd.rate(n)));
    }
    csv
}

pub(crate) fn newton_schulz() -> Csv {
    let mut csv = Csv::chart(
        "newton-schulz",
        "A singular value after one to five steps, against what it was",
        "Five curves over singular values from 0.0001 to 1 on a logarithmic \
         axis. After one step the curve rises to 1.2 near 0.55. Each further \
         step moves the rising flank to the left by a factor of 3.4; what \
         lies to the right of it wanders between 0.68 and 1.2. After five \
         steps everything from 0.0015 on is in that band.",
        ["singular value σ, of the norm", "after i steps"],
    )
    .with("log", "x");
    let [a, b, c] = QUINTIC;
    csv.row("σ,1,2,3,4,5");
    for i in 0..=240 {
        let sigma = 10f64.powf(f64::from(i) / 60.0 - 4.0);
        let (mut s, mut row) = (sigma, short(sigma));
        for _ in 0..STEPS {
            let square = s * s;
            s *= a + square * (b + square * c);
            row += &format!(",{s:.4}");
        }
        csv.row(row);
    }
    csv.row("guide,1e-4,0.6818,1,0.6818,,");
    csv.row("guide,1e-4,1.2024,1,1.2024,,");
    csv
}

pub(crate) fn adam_pauses() -> Csv {
    let mut csv = Csv::chart(
        "adam-pauses",
        "How far AdamW moves a parameter in each step, in units of η, if the \
         same gradient comes in every step, in every fourth, or in every \
         fortieth",
        "Three lines over 100 steps. With a gradient in every step the \
         parameter moves by 1 in each. With one in every fourth it moves by \
         0.56 when a gradient comes and by 0.44 three steps later, before the \
         next. With one in every fortieth it moves by 0.42 when the gradient \
         comes, and each later step is 0.92 of the one before, down to 0.02.",
        ["step", "share of η"],
    );
    let every = [1, 4, 40];
    // So long before that the start no longer matters.
    let before = 800isize;
    let moved = every.map(|n| {
        let (mut p, mut m, mut v) = ([0.0f64], [0.0], [0.0]);
        let mut all = vec![];
        for t in 1..=before + 100 {
            let g = if (t - before - 10) % n == 0 { 1.0 } else { 0.0 };
            let t = t as usize;
            let rates = Rates { lr: 1.0, decay: 0.0, scale: 1.0, t };
            let from = p[0];
            adamw(&mut p, &mut m, &mut v, &[g], rates);
            all.push(from - p[0]);
        }
        all
    });
    csv.row("step,every,fourth,fortieth");
    for i in 1..=100 {
        let each =
            moved.each_ref().map(|all| short(all[before as usize + i - 1]));
        csv.row(format!("{i},{}", each.join(",")));
    }
    csv
}
