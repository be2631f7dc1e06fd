//! Chapter: mutants. Every planted mistake, and what the judge and the rules of
//! others say of it.

use super::layers::{Biased, OfBias, OfL1, Rows};
use super::muon;
use super::net::{BATCH, Net, SHAPE, Slip, TARGETS, TOKENS, config};
use super::optimizer::{Fault, literal, stepped};
use super::twin::Mistake::{self, *};
use super::twin::Twin;
use moe_by_hand::field::Field;
use moe_by_hand::gradcheck::{
    Measure, Plan, Report, Rung, gap, layer, measure, normals, slope,
};
use moe_by_hand::kernel::vector::dot;
use moe_by_hand::layer::Shape;
use moe_by_hand::model::{Batch, Model};
use moe_by_hand::params::{Builder, ParamGrads, Params};
use moe_by_hand::real::Real;
use moe_by_hand::rng::Rng;
use moe_by_hand::train::gradient::{Coefficients, Gradient};
use std::fmt::Write;

/// All losses, of a size at which each of them matters.
pub(crate) const ALL: Coefficients = Coefficients { ce: 1.0, aux: 0.7, z: 0.3 };
/// The losses as a run of training has them.
const USUAL: Coefficients = Coefficients { ce: 1.0, aux: 0.01, z: 0.001 };
const AGAIN: &str = "backward again on used buffers";

/// At which an expert is idle in the block.
const SEED: u64 = 1;
/// T1, T2 and T10 of the block, and backward a second time.
pub(crate) fn of_block(wrong: &[Mistake]) -> Report {
    let build = |b: Builder| Twin::new(b, &config(), wrong);
    layer(build, Shape { batch: 2, time: 3 }, config().hidden, SEED)
}
/// T2, T3 and T10 of the whole model, and T4.
pub(crate) fn of_model(wrong: &[Mistake], slips: &[Slip]) -> Report {
    let net = Net::new(ALL, wrong, slips);
    let x = net.split(&net.params().data);
    let slope = slope(&net, &x, 2);
    measure(&net, &net.names(), x, Plan::MODEL).and(slope)
}
/// T1, T2 and T10 of a linear map with a bias, and backward a second time.
pub(crate) fn of_bias(wrong: Option<OfBias>) -> Report {
    let build = |b: Builder| Biased::new(b, 3, wrong);
    layer(build, Shape { batch: 2, time: 3 }, 3, SEED)
}
/// T1, T2 and T10 of rows divided by their sums.
pub(crate) fn of_l1(wrong: Option<OfL1>) -> Report {
    let x = normals(3 * Rows::WIDTH, 1.0, &mut Rng::named(1, "rows"));
    measure(&Rows(wrong), &["x".to_string()], vec![x], Plan::LAYER)
}
/// T7 of the optimizer: θ after each step against the formula.
pub(crate) fn of_optimizer(theta: &[f64]) -> Report {
    Report::default().with("θ", gap(theta, &literal()), 1e-12)
}
/// The same of Muon.
pub(crate) fn of_muon(theta: &[f64]) -> Report {
    Report::default().with("θ", gap(theta, &muon::literal()), 1e-12)
}
/// T7 of the gradient of shards against that of the whole batch, and T10.
pub(crate) fn of_shards(shards: impl Shards) -> Report {
    let net = Net::new(ALL, &[], &[]);
    let (p, q) = (net.params(), field_params(&net));
    let whole = net.gradient(&p, 1.0);
    let size = dot(&whole.data, &whole.data).sqrt();
    let error = gap(&shards.of(&p).data, &whole.data) / size;
    let equal = shards.of(&q).data == net.gradient(&q, Field::ONE).data;
    let mut report = Report::default().with("shards", error, 1e-13);
    report.measures.push(Measure::equality("shards", equal, "one seed"));
    report
}
/// Random parameters over the field.
fn field_params(net: &Net) -> Params<Field> {
    let mut rng = Rng::named(1, "field");
    let mut p = net.model.layout.zeros();
    p.data.iter_mut().for_each(|p| *p = Field::new(rng.bits64()));
    p
}
/// A gradient that is put together from parts of the batch.
pub(crate) trait Shards {
    fn of<T: Real>(&self, p: &Params<T>) -> ParamGrads<T>;
}
/// The library's, of so many shards.
pub(crate) struct Library(pub(crate) usize);
impl Shards for Library {
    fn of<T: Real>(&self, p: &Params<T>) -> ParamGrads<T> {
        let model = Model::new(config()).unwrap();
        let mut gradient = Gradient::new(&model, SHAPE, self.0, ALL, false);
        gradient.compute(&model, p, BATCH).1.clone()
    }
}
/// The mean of the gradients of the first so many halves of the batch, each
/// with the balance of its own.
struct Halves(usize);
impl Shards for Halves {
    fn of<T: Real>(&self, p: &Params<T>) -> ParamGrads<T> {
        halves(self.0, p)
    }
}
fn halves<T: Real>(count: usize, p: &Params<T>) -> ParamGrads<T> {
    let m = Net::new(ALL, &[], &[]).model;
    let mut sum = m.layout.grads();
    for i in 0..count {
        let half = i * 4..(i + 1) * 4;
        let tokens = &TOKENS[half.clone()];
        let b = Batch { tokens, targets: &TARGETS[half] };
        let shape = Shape { batch: 1, ..SHAPE };
        let mut gradient = Gradient::new(&m, shape, 1, ALL, false);
        let (_, dp) = gradient.compute(&m, p, b);
        let half = |(s, &d): (&mut T, &T)| *s += T::of(0.5) * d;
        sum.data.iter_mut().zip(&dp.data).for_each(half);
    }
    sum
}

/// The mistakes of a block, in words.
const MISTAKES: [(Mistake, &str); 37] = [
    (ExtraR, "RMSNorm: extra factor r"), // wrong: rmsnorm-backward
    (NoGain, "RMSNorm: gain missing in x̄"), // wrong: rmsnorm-backward
    (GainSet, "RMSNorm: γ̄ = for +="), // wrong: rmsnorm-backward-gamma, rmsnorm-layer-backward
    (SumForMean, "RMSNorm: 1/D missing"), // wrong: rmsnorm-backward
    (NoEps, "RMSNorm: ε missing in r"), // wrong: rmsnorm-backward
    (OrderSwapped, "norm before its sub-layer"), // wrong: residual-backward
    (NoResidual, "residual missing"), // wrong: residual-backward
    (NoRope, "RoPE missing"),         // wrong: rope-backward
    (RopeSign, "RoPE: wrong sign"),   // wrong: rope-backward
    (RopeNtk, "RoPE: NTK base in backward only"), // wrong: rope-backward
    (NoDelta, "softmax: Δ missing"),  // wrong: causal-softmax-backward
    (NoScale, "1/√d missing in K̄"),   // wrong: attention-backward
    (MaskShift, "causal mask off by one"), // wrong: causal-softmax-backward
    (GroupSet, "KV group sum: = for +="), // wrong: gqa-reduce
    (GroupModulo, "KV group: h mod K for ⌊h/g⌋"), // wrong: gqa-reduce
    (Transposed, "W̄ₒ transposed"),    // wrong: linear-backward-weight
    (InputSet, "attention x̄: = for += (of v)"), // wrong: attention-layer-backward
    (Stale, "attention: stale input in W̄"), // wrong: attention-layer-backward
    (SiluSlope, "SiLU′ = σ"), // wrong: silu-backward, glu-backward
    (ExpertInputSet, "SwiGLU x̄: = for += (second product)"), // wrong: swiglu-backward, swiglu-layer-backward
    (WeightSet, "W̄₁: = for +="), // wrong: linear-backward
    (IdleStale, "idle expert's gradient left stale"), // wrong: moe-backward
    (NoWeight, "expert's weight missing in ō"), // wrong: moe-backward-expert
    (GatherSet, "gather: = for +="), // wrong: moe-gather-backward
    (RouterCut, "router gradient missing"), // wrong: router-backward
    (NoRenorm, "renormalization's Jacobian missing"), // wrong: topk-renorm-backward
    (Leak, "gradient leaks to experts not chosen"), // wrong: topk-renorm-backward
    (AuxCut, "aux + z gradient missing"),           // wrong: aux-backward
    (AuxTimesK, "aux off by factor k"),             // wrong: aux-backward
    (ZSign, "z-loss: sign"),                        // wrong: z-loss-backward
    (ZNoLse, "z-loss: ℓ missing"),                  // wrong: z-loss-backward
    (ProductPlain, "V̄: P for Pᵀ in the product"),   // wrong: matmul-backward
    (LseMax, "log-sum-exp: as of the maximum"),     // wrong: lse-backward
    (SoftmaxDiagonal, "softmax: the diagonal p(1 − p) alone"), // wrong: softmax-backward
    (InputTransposed, "linear x̄: W for Wᵀ"), // wrong: linear-backward-input
    (WeightAgain, "w̄: times the weight again"), // wrong: moe-backward-weight
    (LoadMeanLost, "aux at the scores: Σ f·p missing"), // wrong: aux-scores-backward
];

/// What others would have said of the whole gradient.
pub(crate) struct Others {
    pub(crate) cosine: f64,
    /// ‖a − b‖ / (‖a‖ + ‖b‖)
    pub(crate) relative: f64,
    /// minitorch: one random element of each tensor within 1e-2 + 1e-2·|n|;
    /// the probability that none of them shows the mistake.
    pub(crate) r1: f64,
    /// llm.c on the CPU: every element within 2e-2.
    pub(crate) r3: bool,
    /// torch.autograd.gradcheck: every element within 1e-5 + 1e-3·|n|.
    pub(crate) r4: bool,
}
pub(crate) fn others(wrong: &[Mistake], slips: &[Slip]) -> Others {
    let gradient = |wrong, slips| {
        let net = Net::new(USUAL, wrong, slips);
        net.gradient(&net.params(), 1.0)
    };
    let right = Net::new(USUAL, &[], &[]);
    let (a, n) = (gradient(wrong, slips), gradient(&[], &[]));
    let norm = |v: &[f64]| dot(v, v).sqrt();
    let (size_a, size_n) = (norm(&a.data), norm(&n.data));
    let off: Vec<f64> =
        a.data.iter().zip(&n.data).map(|(a, n)| (a - n).abs()).collect();
    let within = |absolute: f64, relative: f64| -> Vec<bool> {
        let each = off.iter().zip(&n.data);
        each.map(|(off, n)| *off <= absolute + relative * n.abs()).collect()
    };
    let (one, llm_c, torch) =
        (within(1e-2, 1e-2), within(2e-2, 0.0), within(1e-5, 1e-3));
    let mut r1 = 1.0;
    for e in &right.model.layout.entries {
        let of = &one[e.param.range()];
        r1 *= of.iter().filter(|&&fine| fine).count() as f64 / of.len() as f64;
    }
    Others {
        cosine: dot(&a.data, &n.data) / (size_a * size_n),
        relative: norm(&off) / (size_a + size_n),
        r1,
        r3: llm_c.into_iter().all(|fine| fine),
        r4: torch.into_iter().all(|fine| fine),
    }
}

/// One line of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) report: Report,
    pub(crate) others: Option<Others>,
}
impl Row {
    /// The largest error of a rung, where it is beyond its bound; a blank
    /// where the rung sees nothing, a dash where it does not look.
    pub(crate) fn cell(&self, rung: Rung) -> String {
        let of = |m: &&Measure| {
            m.rung == rung && (m.what != AGAIN || rung == Rung::T10)
        };
        let mut measures = self.report.measures.iter().filter(of).peekable();
        if measures.peek().is_none() {
            return "-".into();
        }
        if rung == Rung::T10 {
            let unequal = measures.any(|m| !m.holds());
            return if unequal { "≠" } else { "" }.into();
        }
        worst(measures)
    }
    pub(crate) fn again(&self) -> String {
        let again = |m: &&Measure| m.rung == Rung::T1 && m.what == AGAIN;
        worst(self.report.measures.iter().filter(again))
    }
}
/// How many times its bound the worst error of a broken one is.
fn worst<'a>(measures: impl Iterator<Item = &'a Measure>) -> String {
    let broken = measures.filter(|m| !m.holds());
    let share = |m: &Measure| m.error / m.bound;
    let nan = |m: f64, s: f64| if s > m || s.is_nan() { s } else { m };
    match broken.map(share).reduce(nan) {
        None => String::new(),
        Some(share) if share.is_nan() => "NaN".into(),
        Some(share) => format!("{share:.0e}"),
    }
}
pub(crate) fn table(rows: &[Row]) -> String {
    let mut out = String::from(
        "\nHow many times its bound the worst error of each rung is, ≠ where \
         nothing is tolerated;\nblank: not seen; -: not measured.\nwhole gradient of a model: cosine with \
         the right one, ‖a − b‖/(‖a‖ + ‖b‖).\nR1 minitorch (one random element \
         a tensor, 1e-2 + 1e-2·|n|): how probable it is that it sees nothing.\n\
         R3 llm.c, CPU (2e-2); R4 torch.autograd.gradcheck (1e-5 + 1e-3·|n|).\n\n",
    );
    let _ = writeln!(
        out,
        "{:<38}{:>7}{:>7}{:>7}{:>7}{:>7}{:>7}{:>7}{:>11}{:>10}  {:<12}{:<8}R4",
        "mistake",
        "T1",
        "again",
        "T2",
        "T3",
        "T4",
        "T7",
        "T10",
        "cosine",
        "relative",
        "R1",
        "R3"
    );
    for r in rows {
        let of = |rung| format!("{:>7}", r.cell(rung));
        use Rung::{T1, T2, T3, T4, T7, T10};
        let [t1, t2, t3, t4, t7, t10] = [T1, T2, T3, T4, T7, T10].map(of);
        let said = r.others.as_ref().map_or(
            format!("{:>11}{:>10}  {:<12}{:<8}-", "-", "-", "-", "-"),
            |o| {
                let say = |fine| if fine { "passes" } else { "caught" };
                let r1 = match o.r1 {
                    1.0 => "passes".into(),
                    ..5e-4 => "caught".into(),
                    p => format!("{:.1} %", 100.0 * p),
                };
                let (cosine, relative) = (o.cosine, o.relative);
                let (r3, r4) = (say(o.r3), say(o.r4));
                format!("{cosine:>11.6}{relative:>10.1e}  {r1:<12}{r3:<8}{r4}")
            },
        );
        let _ = writeln!(
            out,
            "{:<38}{t1}{:>7}{t2}{t3}{t4}{t7}{t10}{said}",
            r.name,
            r.again()
        );
    }
    out
}

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = vec![];
    for (m, name) in MISTAKES {
        let report = of_block(&[m]).and(of_model(&[m], &[]));
        rows.push(Row { name, report, others: Some(others(&[m], &[])) });
    }
    for (m, name) in OfBias::ALL {
        rows.push(Row { name, report: of_bias(Some(m)), others: None });
    }
    for (m, name) in OfL1::ALL {
        rows.push(Row { name, report: of_l1(Some(m)), others: None });
    }
    for (s, name) in Slip::ALL {
        let report = of_model(&[], &[s]);
        rows.push(Row { name, report, others: Some(others(&[], &[s])) });
    }
    for (name, shards) in
        [("shards: balance of each its own", 2), ("shards: the last lost", 1)]
    {
        let report = of_shards(Halves(shards));
        rows.push(Row { name, report, others: None });
    }
    for (f, name) in Fault::ALL {
        let report = of_optimizer(&stepped(&[f]));
        rows.push(Row { name, report, others: None });
    }
    for (f, name) in muon::Fault::ALL {
        let report = of_muon(&muon::stepped(Some(f)));
        rows.push(Row { name, report, others: None });
    }
    rows
}
