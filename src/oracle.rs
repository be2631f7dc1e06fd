//! Chapter: gradcheck. The oracle: our numbers against those of `PyTorch`.
//!
//! A reference directory holds a model and what Hugging Face's Mixtral makes
//! of it in f64: activations, losses, every gradient, optimizer steps, greedy
//! tokens (`tests/oracle/README.md` says how it is made). Here the same is
//! computed in f64 and in f32, and compared tensor by tensor.

use crate::config::Config;
use crate::error::{Result, plain};
use crate::hf::{self, hf_name, hf_shape, rotary_row, to_hf};
use crate::kernel::simd::bytes;
use crate::layer::Shape;
use crate::memory;
use crate::model::{Acts, Batch, Model};
use crate::nn::balance::router_losses;
use crate::nn::rope::{Rope, rope_forward};
use crate::params::Params;
use crate::ratio::hint;
use crate::real::Real;
use crate::tensors::{Tensors, index};
use crate::train::account::too_large;
use crate::train::gradient::{Coefficients, Gradient};
use crate::train::optimizer::{AdamW, Decay, EPS, Norm, Optimizer, Step, clip};
use safetensors::Dtype;
use serde::Serialize;
use std::collections::HashSet;
use std::fmt;
use std::path::Path;

/// In f64: |a − b| ≤ 10⁻¹⁰·max(1, max|b|), for every tensor.
const BOUND_64: f64 = 1e-10;
/// In f32, which has seven digits.
const BOUND_32: f64 = 1e-5;
/// In f32, for parameters after a step (see [`Made::slack`], too) and for
/// losses and norms computed from them.
const BOUND_32_STEP: f64 = 1e-4;
/// What a reference stored as f32 may be off by: a unit in its last place.
const STORED_32: f64 = f32::EPSILON as f64;
/// Steps of the optimizer, and tokens made, that a directory may ask for.
const MOST: usize = 1000;
/// Groups without which a directory proves nothing.
const NEEDED: [&str; 4] = ["logits", "loss_ce", "loss_total", "grad"];
/// In the file, but nothing to compare.
const INPUTS: [&str; 8] = [
    "input_ids",
    "labels",
    "train.lr",
    "gen.prompt",
    "loss_aux_hf",
    "min_topk_gap",
    "min_order_gap",
    "min_logit_margin",
];

/// What one run, in f64 or in f32, makes of a group: its worst element.
#[derive(Clone, Debug, Serialize)]
pub struct Worst {
    /// Whether all elements of all tensors keep their bounds.
    pub ok: bool,
    /// |ours − reference|; for choices and tokens, 1 where they differ.
    pub error: f64,
    /// What it may be.
    pub bound: f64,
    /// Where it is.
    pub tensor: String,
    /// And where in there.
    pub index: Vec<usize>,
    /// Our value.
    pub ours: f64,
    /// The reference's.
    pub reference: f64,
}
/// Tensors of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// Such as `hidden` for `hidden.0`, `hidden.1`, ….
    pub name: String,
    /// How many were compared.
    pub tensors: usize,
    /// Those that are not in the directory.
    pub absent: Vec<String>,
    /// In f64; none where the reference is for f32.
    pub f64: Option<Worst>,
    /// In f32.
    pub f32: Option<Worst>,
}
impl Group {
    /// Whether no bound is broken.
    pub fn ok(&self) -> bool {
        self.f64.iter().chain(&self.f32).all(|w| w.ok)
    }
}
/// What came of one directory.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which.
    pub directory: String,
    /// Whether all is there that has to be, and every bound is kept.
    pub ok: bool,
    /// In the order of the computation.
    pub groups: Vec<Group>,
    /// Groups that have to be there, and are not.
    pub missing: Vec<&'static str>,
    /// Tensors that mean nothing to us.
    pub unknown: Vec<String>,
}

/// Compares our numbers with those in `dir`, in f64 and in f32; the batch is
/// cut into so many shards, or as many as it has sequences.
///
/// # Errors
/// If a file is missing or broken, or a tensor has another shape or type than
/// it should. A broken bound is no error: it stands in the report.
pub fn compare(dir: &Path, shards: usize) -> Result<Report> {
    let (model, p) = hf::load::<f64>(dir)?;
    let file = Tensors::open(&dir.join("reference.safetensors"))?;
    let case = Case::read(&model, &file, shards)?;
    // Transformers goes beyond the context; what it computes there is no
    // different.
    let longest = case.shape.time.max(case.prompt.len() + case.ahead);
    let context = model.config.context.max(longest);
    let config = Config { context, ..model.config };
    memory::check("the rotary table", memory::table(&config))?;
    let model = Model::new(config)?;
    let what = format!("the numbers to compare with {}", dir.display());
    memory::check(what, case.need(&model))?;
    let p32 = p.data.iter().map(|&x| x as f32).collect::<Vec<_>>();
    let p32 = p.like(p32);
    let mut exact = vec![];
    let ours = case.run(&model, p, &mut exact).into_iter();
    let mut groups: Vec<Group> = vec![];
    let mut known = HashSet::from(INPUTS.map(String::from));
    for (in64, in32) in ours.zip(case.run(&model, p32, &mut exact)) {
        known.insert(in64.name.clone());
        match groups.last_mut().filter(|g| g.name == in64.group) {
            Some(group) => group.add(&file, in64, in32)?,
            None => {
                let mut group = Group::new(&in64.group);
                group.add(&file, in64, in32)?;
                groups.push(group);
            }
        }
    }
    let none = |n: &&str| groups.iter().any(|g| g.name == *n && g.tensors == 0);
    let missing: Vec<_> = NEEDED.into_iter().filter(none).collect();
    Ok(Report {
        directory: dir.display().to_string(),
        ok: missing.is_empty() && groups.iter().all(Group::ok),
        missing,
        unknown: file.names().filter(|n| !known.contains(n)).collect(),
        groups,
    })
}
impl Group {
    fn new(name: &str) -> Self {
        let (name, absent) = (name.to_string(), vec![]);
        Self { name, tensors: 0, absent, f64: None, f32: None }
    }
    /// Compares one tensor, unless it is not in the file.
    fn add(&mut self, file: &Tensors, in64: Made, in32: Made) -> Result<()> {
        use Dtype::{F32, F64, I64};
        let (name, group) = (&in64.name, in64.group.as_str());
        if !file.has(name) {
            self.absent.push(name.clone());
            return Ok(());
        }
        self.tensors += 1;
        let (step, only32) =
            (group.starts_with("step"), group.starts_with("f32"));
        let types: &[Dtype] = match group {
            _ if in64.exact => &[I64],
            _ if only32 => &[F32],
            _ if step || group == "grad" => &[F64, F32],
            _ => &[F64],
        };
        let (dtype, theirs) = file.numbers::<f64>(name, &in64.shape, types)?;
        let stored = if dtype == F32 && !only32 { STORED_32 } else { 0.0 };
        let bound32 = match step || group.ends_with("train") {
            true => BOUND_32_STEP,
            false => BOUND_32,
        };
        let [bound64, bound32] = match in64.exact {
            true => [0.0; 2],
            false => [BOUND_64, bound32].map(|bound| bound + stored),
        };
        if !only32 {
            in64.against(&theirs, bound64, &mut self.f64);
        }
        in32.against(&theirs, bound32, &mut self.f32);
        Ok(())
    }
}

/// A tensor as we compute it, by the reference's name and in its order.
struct Made {
    group: String,
    name: String,
    shape: Vec<usize>,
    values: Vec<f64>,
    /// Whether they are choices, which are right or wrong.
    exact: bool,
    /// For parameters after a step in f32: what their gradient's error, which
    /// has a bound of its own, explains of theirs.
    ///
    /// Adam divides a gradient by its own size, g/(|g| + ε): where the true
    /// gradient is as small as the rounding δ of its f32 sum, the step goes
    /// anywhere between −η and η. So each step adds η·min(2, δ/(|g| + ε)).
    slack: Vec<f64>,
}
impl Made {
    /// Puts the element that exceeds its bound most into `worst`, if it is
    /// worse than what stands there. `unit` is the bound relative to the
    /// largest element, or to 1.
    fn against(&self, theirs: &[f64], unit: f64, worst: &mut Option<Worst>) {
        let largest = theirs.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
        let differ = |i: usize| {
            let error = (self.values[i] - theirs[i]).abs();
            // what is no number is further off than any number
            if error.is_nan() { f64::INFINITY } else { error }
        };
        for i in 0..theirs.len() {
            let slack = self.slack.get(i).copied().unwrap_or(0.0);
            let bound = (unit * largest).min(f64::MAX) + slack;
            let error = match self.exact {
                true => f64::from(u8::from(differ(i) > 0.0)),
                false => differ(i),
            };
            let excess = if error == 0.0 { 0.0 } else { error / bound };
            if worst.as_ref().is_some_and(|old| excess <= old.excess()) {
                continue;
            }
            *worst = Some(Worst {
                ok: error <= bound,
                error,
                bound,
                tensor: self.name.clone(),
                index: index(i, &self.shape),
                ours: self.values[i],
                reference: theirs[i],
            });
        }
    }
}
impl Worst {
    /// The error as a multiple of its bound.
    fn excess(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { self.error / self.bound }
    }
}
/// All that one run made, in the order of the computation.
#[derive(Default)]
struct All(Vec<Made>);
impl All {
    fn put<T: Real>(
        &mut self, group: &str, name: impl Into<String>, shape: &[usize],
        values: &[T],
    ) {
        let (group, name, shape) = (group.into(), name.into(), shape.into());
        let slack = vec![];
        let values = values.iter().map(|v| v.f64()).collect();
        self.0.push(Made { group, name, shape, values, exact: false, slack });
    }
    fn put_exact(
        &mut self, group: &str, name: impl Into<String>, shape: &[usize],
        values: &[usize],
    ) {
        let (group, name, shape) = (group.into(), name.into(), shape.into());
        let slack = vec![];
        let values = values.iter().map(|&v| v as f64).collect();
        self.0.push(Made { group, name, shape, values, exact: true, slack });
    }
    /// The parameters whose names end like this, or anything shaped like them.
    fn put_params<T: Real>(
        &mut self, group: &str, m: &Model, p: &[T], end: &str,
    ) -> &mut [Made] {
        let from = self.0.len();
        for e in m.layout.entries.iter().filter(|e| e.name.ends_with(end)) {
            let values = to_hf(&p[e.param.range()], e, m.config.head);
            let name = format!("{group}.{}", hf_name(&e.name));
            self.put(group, name, &hf_shape(e), &values);
        }
        &mut self.0[from..]
    }
}

/// What the reference was computed from.
struct Case {
    shape: Shape,
    shards: usize,
    tokens: Vec<usize>,
    targets: Vec<usize>,
    /// The learning rate of each step of the optimizer.
    lr: Vec<f64>,
    prompt: Vec<usize>,
    /// How many tokens follow the prompt.
    ahead: usize,
}
impl Case {
    fn read(m: &Model, file: &Tensors, shards: usize) -> Result<Self> {
        let vocab = m.config.vocab;
        let wrong = |name: &str, rule: &str| {
            let value = format!("of shape {:?}", file.shape(name));
            file.wrong(name, value, rule, "write the reference again")
        };
        let &[batch, time] = file.shape("input_ids") else {
            return Err(wrong("input_ids", "it has to be [batch, time]"));
        };
        if batch * time == 0 {
            return Err(wrong("input_ids", "it has to hold a token"));
        }
        let tokens = file.indices("input_ids", &[batch, time], vocab)?;
        let targets = file.indices("labels", &[batch, time], vocab)?;
        let list = |name: &str| match file.has(name) {
            true => file.shape(name).iter().product::<usize>(),
            false => 0,
        };
        let (steps, start, ahead) =
            (list("train.lr"), list("gen.prompt"), list("gen.tokens"));
        let mut prompt = vec![];
        if file.has("gen.tokens") {
            prompt = file.indices("gen.prompt", &[start], vocab)?;
            if start == 0 {
                return Err(wrong("gen.prompt", "it has to hold a token"));
            }
        }
        let mut lr = vec![0.0; 3]; // names the steps that are not there
        let steps_there =
            |n: &String| n.starts_with("step") || n.starts_with("train.");
        if file.names().any(|n| steps_there(&n)) {
            lr = file.floats("train.lr", &[steps])?;
        }
        for (name, n) in [("train.lr", steps), ("gen.tokens", ahead)] {
            if n > MOST {
                let rule = format!("each is a pass, and {MOST} are the most");
                return Err(wrong(name, &rule));
            }
        }
        let shape = Shape { batch, time };
        let shards = shards.min(batch);
        Ok(Self { shape, shards, tokens, targets, lr, prompt, ahead })
    }
    /// Bytes that the comparison takes, f64 and f32: passes, one at a time, and
    /// all that comes of them.
    fn need(&self, m: &Model) -> u64 {
        let (c, steps) = (&m.config, self.lr.len() as u64);
        let ahead = Shape { batch: 1, time: self.prompt.len() + self.ahead };
        if too_large(m, self.shape, 1) || too_large(m, ahead, 1) {
            return u64::MAX;
        }
        let pass = bytes(|| self.gradient::<f64>(m, 1.0, 1.0)).0;
        let greedy = bytes(|| m.acts::<f64>(ahead, false)).0;
        let each = c.hidden * (2 * c.layers + 2)
            + c.layers * (c.experts + 2 * c.top_k)
            + 2 * c.vocab;
        let made = 2 * 8 * (self.shape.rows() * each) as u64;
        // θ and two moments, a gradient and its parts; of each step the exact
        // gradient, and from both runs the parameters and their slack
        let weights = memory::weights::<f64>(c).saturating_mul(10 + 5 * steps);
        pass.max(greedy).saturating_add(made).saturating_add(weights)
    }
    fn batch(&self) -> Batch<'_> {
        Batch { tokens: &self.tokens, targets: &self.targets }
    }
    /// The gradient of the loss ce·mean cross-entropy + aux·balance.
    fn gradient<T: Real>(&self, m: &Model, ce: f64, aux: f64) -> Gradient<T> {
        let coef = Coefficients { ce, aux, z: 0.0 };
        Gradient::new(m, self.shape, self.shards, coef, false)
    }
    /// Everything the reference may hold, in `T`. The first run, in f64, puts
    /// the gradients of its steps into `exact`; the second compares.
    fn run<T: Real>(
        &self, m: &Model, p: Params<T>, exact: &mut Vec<Vec<f64>>,
    ) -> Vec<Made> {
        let mut to = All::default();
        rotary::<T>(m, &mut to);
        self.forward(m, &p, &mut to);
        self.backward(m, &p, &mut to);
        self.greedy(m, &p, &mut to);
        self.train(m, p, exact, &mut to);
        to.0
    }
    /// Activations and losses.
    fn forward<T: Real>(&self, m: &Model, p: &Params<T>, to: &mut All) {
        let c = &m.config;
        let mut gradient = self.gradient(m, 1.0, c.aux);
        let loss = gradient.losses(m, p, self.batch());
        let a: Vec<&Acts<T>> = gradient.acts().collect();
        let rows = |width| [self.shape.batch, self.shape.time, width];
        let (wide, experts, chosen) =
            (rows(c.hidden), rows(c.experts), rows(c.top_k));
        for l in 0..=c.layers {
            let x = join(&a, |a| {
                let nd = a.lse.len() * c.hidden;
                &a.stream[l * nd..(l + 1) * nd]
            });
            to.put("hidden", format!("hidden.{l}"), &wide, &x);
        }
        for l in 0..c.layers {
            let x = join(&a, |a| &a.blocks[l].h);
            to.put("mid", format!("mid.{l}"), &wide, &x);
        }
        for l in 0..c.layers {
            let x = join(&a, |a| &a.blocks[l].moe.router.prob);
            to.put("router_probs", format!("router_probs.{l}"), &experts, &x);
        }
        for l in 0..c.layers {
            let x = join(&a, |a| &a.blocks[l].moe.router.choice);
            to.put_exact("selected", format!("selected.{l}"), &chosen, &x);
        }
        for l in 0..c.layers {
            let x = join(&a, |a| &a.blocks[l].moe.router.weight);
            to.put("topk_weights", format!("topk_weights.{l}"), &chosen, &x);
        }
        let x = join(&a, |a| &a.norm.y);
        to.put("final_norm", "final_norm", &wide, &x);
        let logits = join(&a, |a| &a.head.y);
        to.put("logits", "logits", &rows(c.vocab), &logits);
        let rest = join(&a, |a| &a.lse);
        let right = logits.chunks_exact(c.vocab).zip(&self.targets);
        let each =
            rest.iter().zip(right).map(|(&lse, (z, &t))| lse - z[t].wide());
        let each: Vec<T::Wide> = each.collect();
        to.put("loss_per_token", "loss_per_token", &wide[..2], &each);
        to.put("loss_ce", "loss_ce", &[], &[loss.ce]);
        let aux = gradient.totals.iter().map(|t| router_losses(t)[0]);
        let aux: Vec<T::Wide> = aux.collect();
        to.put("loss_aux", "loss_aux_layers", &[c.layers], &aux);
        to.put("loss_aux", "loss_aux_per_layer", &[], &[loss.aux]);
        to.put("loss_aux", "loss_aux", &[], &[loss.aux]);
        to.put("aux_coef", "aux_coef", &[], &[T::of(c.aux)]);
        to.put("loss_total", "loss_total", &[], &[loss.total]);
        to.put("f32.logits", "f32.logits", &rows(c.vocab), &logits);
        to.put("f32.loss", "f32.loss_ce", &[], &[loss.ce]);
        to.put("f32.loss", "f32.loss_aux", &[], &[loss.aux]);
        to.put("f32.loss", "f32.loss_total", &[], &[loss.total]);
    }
    /// The gradient of every parameter, and its two parts at the routers.
    fn backward<T: Real>(&self, m: &Model, p: &Params<T>, to: &mut All) {
        let gradient = |ce: f64, aux: f64| {
            let mut gradient = self.gradient(m, ce, aux);
            gradient.compute(m, p, self.batch()).1.data.clone()
        };
        to.put_params("grad", m, &gradient(1.0, m.config.aux), "");
        to.put_params("grad_ce", m, &gradient(1.0, 0.0), ".router.w");
        to.put_params("grad_aux", m, &gradient(0.0, 1.0), ".router.w");
    }
    /// What follows the prompt, each token the most probable; every one from
    /// a forward pass over all that precede it.
    fn greedy<T: Real>(&self, m: &Model, p: &Params<T>, to: &mut All) {
        let mut tokens = self.prompt.clone();
        for time in tokens.len()..tokens.len() + self.ahead {
            let mut a = m.acts(Shape { batch: 1, time }, false);
            m.forward(p, &tokens, &mut a);
            let z = &a.head.y[(time - 1) * m.config.vocab..];
            let best = |m, i| if z[i] > z[m] { i } else { m };
            tokens.push((0..z.len()).fold(0, best));
        }
        let new = &tokens[self.prompt.len()..];
        to.put_exact("gen.tokens", "gen.tokens", &[self.ahead], new);
    }
    /// Steps of the optimizer, all on the same batch.
    fn train<T: Real>(
        &self, m: &Model, mut p: Params<T>, exact: &mut Vec<Vec<f64>>,
        to: &mut All,
    ) {
        const CLIP: f64 = 1.0;
        let mut gradient = self.gradient(m, 1.0, m.config.aux);
        let mut norms = Norm::new(&m.layout);
        let mut adam = AdamW::new(&m.layout, 0.1, Decay::All);
        let mut log = [(); 4].map(|()| vec![]);
        let mut slack = m.layout.zeros::<f64>();
        for (n, &lr) in self.lr.iter().enumerate() {
            let (loss, dp) = gradient.compute(m, &p, self.batch());
            let norm = norms.norm(dp);
            let (t, scale) = (n + 1, clip(norm, CLIP));
            adam.step(&mut p, dp, Step { t, lr, scale });
            let now = [loss.total, loss.ce, loss.aux, T::Wide::of(norm)];
            log.iter_mut().zip(now).for_each(|(log, x)| log.push(x));
            let clipped = dp.data.iter().map(|g| g.f64() * scale);
            let g: Vec<f64> = clipped.collect();
            if exact.len() == n {
                exact.push(g.clone());
            }
            let both = g.iter().zip(&exact[n]);
            for (slack, (g, exact)) in slack.data.iter_mut().zip(both) {
                let turn = (g - exact).abs() / (exact.abs() + EPS);
                *slack += lr * turn.min(2.0);
            }
            let made = to.put_params(&format!("step{}", n + 1), m, &p.data, "");
            for (made, e) in made.iter_mut().zip(&m.layout.entries) {
                made.slack = to_hf(&slack[e.param], e, m.config.head);
            }
        }
        let n = [self.lr.len()];
        let [total, ce, aux, norm] = &log;
        let after = gradient.losses(m, &p, self.batch()).total;
        to.put("train", "train.loss_total", &n, total);
        to.put("train", "train.loss_ce", &n, ce);
        to.put("train", "train.loss_aux", &n, aux);
        to.put("train", "train.grad_norm", &n, norm);
        to.put("train", "train.loss_total_after", &[], &[after]);
        to.put("f32.train", "f32.train.loss_total", &n, total);
        to.put("f32.train", "f32.train.grad_norm", &n, norm);
    }
}
/// The rotary frequencies as the kernel uses them, the angles by which it
/// turns (1, 0) at position 1; and which row of Hugging Face's is ours.
fn rotary<T: Real>(m: &Model, to: &mut All) {
    let d = m.config.head;
    let mut x = [T::ONE, T::ZERO].repeat(d / 2);
    rope_forward(&mut x, d, 1, 1, &Rope::new(d, 2, m.config.rope_theta));
    let angle = |x: &[T]| T::of(x[1].f64().atan2(x[0].f64()));
    let angles: Vec<T> = x.chunks_exact(2).map(angle).collect();
    to.put("rope_inv_freq", "rope_inv_freq", &[d / 2], &angles);
    let rows: Vec<usize> = (0..d).map(|j| rotary_row(j, d)).collect();
    to.put_exact("rope_perm", "rope_perm", &[d], &rows);
}
/// One slice of each shard, in the order of the batch.
fn join<T: Real, U: Copy>(
    acts: &[&Acts<T>], part: impl Fn(&Acts<T>) -> &[U],
) -> Vec<U> {
    acts.iter().flat_map(|a| part(a)).copied().collect()
}

/// A table, and what is wrong, explained.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{}", plain(&self.directory))?;
        let columns = ["in f64", "bound", "in f32", "bound"];
        let [a, b, c, d] = columns;
        writeln!(f, "  {:16}{:>7}{a:>10}{b:>10}{c:>10}{d:>10}", "", "tensors")?;
        let both = |w: &Option<Worst>| match w {
            Some(w) => {
                [w.error, w.bound].map(|x| format!("{x:>10.1e}")).concat()
            }
            None => format!("{:>10}{:>10}", "-", "-"),
        };
        for g in &self.groups {
            write!(f, "  {:16}", g.name)?;
            if g.tensors == 0 {
                writeln!(f, "{:>7}  not in this directory", "-")?;
                continue;
            }
            let verdict = if g.ok() { "ok" } else { "FAIL" };
            let numbers = both(&g.f64) + &both(&g.f32);
            writeln!(f, "{:>7}{numbers}  {verdict}", g.tensors)?;
            for name in &g.absent {
                writeln!(f, "    {name}: not in this directory")?;
            }
            for (run, w) in [("f64", &g.f64), ("f32", &g.f32)] {
                if let Some(w) = w
                    && !w.ok
                {
                    let Worst { tensor, index, ours, reference, .. } = w;
                    let ratio = ours / reference;
                    writeln!(
                        f,
                        "    in {run}, {tensor}{index:?}: {ours:e} for \
                         {reference:e}, ratio {ratio:.6} ({})",
                        hint(ratio)
                    )?;
                }
            }
        }
        for name in &self.unknown {
            let name = plain(name);
            writeln!(f, "  {name}: not compared, nobody here knows it")?;
        }
        for name in &self.missing {
            writeln!(f, "  FAIL: there is no proof without {name}")?;
        }
        let verdict = if self.ok { "ok" } else { "FAIL" };
        writeln!(f, "  {verdict}")
    }
}
