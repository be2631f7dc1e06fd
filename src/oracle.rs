//! Chapter 4. The oracle: our numbers against those that PyTorch computed.
//!
//! A reference directory holds a model and what Hugging Face's Mixtral makes
//! of it in f64: activations, losses, every gradient, optimizer steps, greedy
//! tokens (`tests/oracle/README.md` says how it is made). Here the same is
//! computed in f64 and in f32, and compared tensor by tensor.

use crate::error::Result;
use crate::hf::{self, Tensors, hf_name, hf_shape, index, to_hf};
use crate::layer::Shape;
use crate::model::{Acts, Batch, Model};
use crate::nn::loss::balance_forward;
use crate::nn::rope::{Rope, rope_forward};
use crate::params::Params;
use crate::real::Real;
use crate::train::optimizer::{AdamW, Decay};
use crate::train::step::{Coefficients, Step};
use safetensors::Dtype;
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// In f64: |a − b| ≤ 10⁻¹⁰·max(1, max|b|), for every tensor.
const BOUND_64: f64 = 1e-10;
/// In f32, which has seven digits.
const BOUND_32: f64 = 1e-5;
/// In f32, once Adam has divided a gradient by its own size.
const BOUND_32_STEP: f64 = 1e-4;
/// What storing a number as f32 costs: half its last bit, and to spare.
const STORED_32: f64 = 1.0 / (1 << 23) as f64;
/// Without these a directory proves nothing.
const NEEDED: [&str; 4] = ["logits", "loss_ce", "loss_total", "grad"];
/// In the file, but nothing to compare.
const OTHER: [&str; 8] = [
    "input_ids",
    "labels",
    "train.lr",
    "gen.prompt",
    "loss_aux_hf",
    "min_topk_gap",
    "min_order_gap",
    "min_logit_margin",
];
/// The optimizer of the reference steps.
const DECAY: f64 = 0.1;
const CLIP: f64 = 1.0;

/// The worst element that one run, in f64 or in f32, has in a group.
#[derive(Clone, Debug, Serialize)]
pub struct Worst {
    /// Whether all elements of all tensors keep their bound.
    pub ok: bool,
    /// |ours − reference|; for choices and tokens, how many differ.
    pub error: f64,
    /// What it may be.
    pub bound: f64,
    /// Where it is.
    pub tensor: String,
    /// And where there.
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
    /// In f64; none where only f32 is to be compared.
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
    /// Groups without which there is no proof.
    pub missing: Vec<String>,
    /// Tensors that nobody asked for.
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
    let p32 = p.like(p.data.iter().map(|&x| x as f32).collect());
    let mut to = Compare { file: &file, f64: true, groups: vec![] };
    case.run(&model, p, &mut to)?;
    to.f64 = false;
    case.run(&model, p32, &mut to)?;
    let groups = to.groups;
    let none = |n: &&str| !groups.iter().any(|g| g.name == *n && g.tensors > 0);
    let missing: Vec<_> = NEEDED.into_iter().filter(none).collect();
    let asked: HashSet<&String> =
        groups.iter().flat_map(|g| &g.names).collect();
    let other = |n: &String| !asked.contains(n) && !OTHER.contains(&&**n);
    Ok(Report {
        directory: dir.display().to_string(),
        ok: missing.is_empty() && groups.iter().all(Group::ok),
        missing,
        unknown: file.names().filter(other).collect(),
        groups,
    })
}

/// What the reference was computed from.
struct Case {
    shape: Shape,
    shards: usize,
    tokens: Vec<usize>,
    targets: Vec<usize>,
    /// The learning rates of the optimizer's steps.
    lr: Vec<f64>,
    prompt: Vec<usize>,
    /// How many tokens follow the prompt.
    generated: usize,
}
impl Case {
    fn read(m: &Model, file: &Tensors, shards: usize) -> Result<Self> {
        let context = m.config.context;
        let shape = match *file.shape("input_ids") {
            [batch, time] if batch > 0 && (1..=context).contains(&time) => {
                Shape { batch, time }
            }
            ref other => {
                return Err(file.wrong(
                    "input_ids",
                    format!("of shape {other:?}"),
                    format!("it is [batch, time], time at most {context}"),
                    "write the reference again",
                ));
            }
        };
        let tokens = |name: &str, shape: &[usize]| {
            file.indices(name, shape, m.config.vocab)
        };
        let both = [shape.batch, shape.time];
        let (steps, ahead) = (file.shape("train.lr"), file.shape("gen.prompt"));
        let generated = file.shape("gen.tokens").iter().product();
        let positions = ahead.iter().product::<usize>() + generated;
        if file.has("gen.tokens") && !(1..=context + 1).contains(&positions) {
            let rule = format!("the context is {context} tokens");
            let value = format!("{positions} with its prompt");
            let cure = "write the reference again";
            return Err(file.wrong("gen.tokens", value, rule, cure));
        }
        Ok(Self {
            shape,
            shards: shards.min(shape.batch),
            tokens: tokens("input_ids", &both)?,
            targets: tokens("labels", &both)?,
            lr: match file.has("train.lr") {
                true => file.floats("train.lr", &[steps.iter().product()])?,
                false => vec![],
            },
            prompt: match file.has("gen.tokens") {
                true => tokens("gen.prompt", &[ahead.iter().product()])?,
                false => vec![],
            },
            generated,
        })
    }
    fn batch(&self) -> Batch<'_> {
        Batch { tokens: &self.tokens, targets: &self.targets }
    }
    /// The gradient of ce + aux·α at `p`.
    fn gradient<T: Real>(&self, m: &Model, p: &Params<T>, aux: f64) -> Step<T> {
        let coef = Coefficients { ce: 1.0, aux, z: 0.0 };
        let mut step = Step::new(m, self.shape, self.shards, coef, false);
        step.begin();
        step.forward(m, p, self.batch());
        step.backward(m, p, self.batch(), 1.0);
        step
    }

    /// All that there is to compare, in the order of the computation.
    fn run<T: Real>(
        &self, m: &Model, p: Params<T>, to: &mut Compare,
    ) -> Result<()> {
        self.positions::<T>(m, to)?;
        self.forward(m, &p, to)?;
        self.backward(m, &p, to)?;
        self.greedy(m, &p, to)?;
        self.train(m, p, to)
    }
    /// The rotary frequencies, as the kernel uses them: the angle by which it
    /// turns (1, 0) at position 1.
    fn positions<T: Real>(&self, m: &Model, to: &mut Compare) -> Result<()> {
        let d = m.config.head;
        let mut x: Vec<T> = [T::ONE, T::ZERO].repeat(d / 2);
        rope_forward(&mut x, d, 1, 1, &Rope::new(d, 2, m.config.rope_theta));
        let angle = |x: &[T]| T::of(x[1].f64().atan2(x[0].f64()));
        let angles: Vec<T> = x.chunks_exact(2).map(angle).collect();
        to.numbers("rope_inv_freq", "rope_inv_freq", &[d / 2], &angles)?;
        let rows: Vec<usize> = (0..d).map(|j| hf::rotary_row(j, d)).collect();
        to.choices("rope_perm", "rope_perm", &[d], &rows)
    }
    /// Activations and losses.
    fn forward<T: Real>(
        &self, m: &Model, p: &Params<T>, to: &mut Compare,
    ) -> Result<()> {
        let c = &m.config;
        let coef = Coefficients { ce: 1.0, aux: c.aux, z: 0.0 };
        let mut step = Step::new(m, self.shape, self.shards, coef, false);
        let loss = step.forward(m, p, self.batch());
        let acts: Vec<&Acts<T>> = step.acts().collect();
        let rows = |width| [self.shape.batch, self.shape.time, width];
        for l in 0..=c.layers {
            let x = join(&acts, |a| {
                let nd = a.lse.len() * c.hidden;
                &a.stream[l * nd..(l + 1) * nd]
            });
            to.numbers("hidden", &format!("hidden.{l}"), &rows(c.hidden), &x)?;
        }
        for l in 0..c.layers {
            let x = join(&acts, |a| &a.blocks[l].h);
            to.numbers("mid", &format!("mid.{l}"), &rows(c.hidden), &x)?;
            let x = join(&acts, |a| &a.blocks[l].moe.router.prob);
            let name = format!("router_probs.{l}");
            to.numbers("router_probs", &name, &rows(c.experts), &x)?;
            let x = join(&acts, |a| &a.blocks[l].moe.router.choice);
            to.choices("selected", &format!("selected.{l}"), &rows(c.top_k), &x)?;
            let x = join(&acts, |a| &a.blocks[l].moe.router.weight);
            let name = format!("topk_weights.{l}");
            to.numbers("topk_weights", &name, &rows(c.top_k), &x)?;
        }
        let x = join(&acts, |a| &a.norm.y);
        to.numbers("final_norm", "final_norm", &rows(c.hidden), &x)?;
        let logits = join(&acts, |a| &a.head.y);
        to.numbers("logits", "logits", &rows(c.vocab), &logits)?;
        to.numbers("f32.logits", "f32.logits", &rows(c.vocab), &logits)?;
        let lse = join(&acts, |a| &a.lse);
        let z = logits.chunks_exact(c.vocab).zip(&self.targets);
        let each: Vec<T> = lse.iter().zip(z).map(|(&l, (z, &t))| l - z[t]).collect();
        to.numbers("loss_per_token", "loss_per_token", &rows(1)[..2], &each)?;
        to.numbers("loss_ce", "loss_ce", &[], &[loss.ce])?;
        let (e, n) = (c.experts, self.shape.rows());
        let layers = step.stats.chunks_exact(m.stats());
        let layers: Vec<T> = layers
            .map(|s| balance_forward(&s[e..2 * e], &s[..e], n, c.top_k))
            .collect();
        to.numbers("loss_aux", "loss_aux_layers", &[c.layers], &layers)?;
        to.numbers("loss_aux", "loss_aux", &[], &[loss.aux])?;
        to.numbers("loss_aux", "loss_aux_per_layer", &[], &[loss.aux])?;
        to.numbers("loss_total", "aux_coef", &[], &[T::of(c.aux)])?;
        to.numbers("loss_total", "loss_total", &[], &[loss.total])?;
        to.numbers("f32.loss", "f32.loss_ce", &[], &[loss.ce])?;
        to.numbers("f32.loss", "f32.loss_aux", &[], &[loss.aux])?;
        to.numbers("f32.loss", "f32.loss_total", &[], &[loss.total])
    }
    /// The gradient of every parameter, and the routers' two parts of it.
    fn backward<T: Real>(
        &self, m: &Model, p: &Params<T>, to: &mut Compare,
    ) -> Result<()> {
        let mut total = self.gradient(m, p, m.config.aux);
        to.params("grad", m, total.finish(m), |_| true)?;
        let mut ce = self.gradient(m, p, 0.0);
        let ce = ce.finish(m);
        let router = |name: &str| name.ends_with(".router.w");
        to.params("grad_ce", m, ce, router)?;
        // The gradient is linear in the loss: (ce + aux) − ce.
        let mut aux = self.gradient(m, p, 1.0);
        let aux = aux.finish(m);
        let both = aux.data.iter_mut().zip(&ce.data);
        both.for_each(|(aux, &ce)| *aux += -ce);
        to.params("grad_aux", m, aux, router)
    }
    /// Tokens after the prompt, each the most probable; every one from a
    /// forward pass over all that precede it.
    fn greedy<T: Real>(
        &self, m: &Model, p: &Params<T>, to: &mut Compare,
    ) -> Result<()> {
        let mut tokens = self.prompt.clone();
        for time in self.prompt.len()..self.prompt.len() + self.generated {
            let mut a = m.acts(Shape { batch: 1, time }, false);
            m.forward(p, &tokens, &mut a);
            let z = &a.head.y[(time - 1) * m.config.vocab..];
            let best = |b, i| if z[i] > z[b] { i } else { b };
            tokens.push((0..z.len()).fold(0, best));
        }
        let new = &tokens[self.prompt.len()..];
        to.choices("gen.tokens", "gen.tokens", &[self.generated], new)
    }
    /// The optimizer's steps, all on the same batch.
    fn train<T: Real>(
        &self, m: &Model, mut p: Params<T>, to: &mut Compare,
    ) -> Result<()> {
        let coef = Coefficients { ce: 1.0, aux: m.config.aux, z: 0.0 };
        let mut step = Step::new(m, self.shape, self.shards, coef, false);
        let mut adam = AdamW::new(&m.layout, DECAY, Decay::All);
        let mut log = [(); 4].map(|()| vec![]);
        for (n, &lr) in self.lr.iter().enumerate() {
            step.begin();
            let loss = step.forward(m, &p, self.batch());
            step.backward(m, &p, self.batch(), 1.0);
            let norm = adam.step(&mut p, step.finish(m), lr, CLIP);
            let all = [loss.total, loss.ce, loss.aux, T::of(norm)];
            log.iter_mut().zip(all).for_each(|(log, x)| log.push(x));
            to.params(&format!("step{}", n + 1), m, &p, |_| true)?;
        }
        let steps = [self.lr.len()];
        let names = ["loss_total", "loss_ce", "loss_aux", "grad_norm"];
        for (name, log) in names.iter().zip(&log) {
            to.numbers("train", &format!("train.{name}"), &steps, log)?;
        }
        let after = step.forward(m, &p, self.batch()).total;
        to.numbers("train", "train.loss_total_after", &[], &[after])?;
        to.numbers("f32.train", "f32.train.loss_total", &steps, &log[0])?;
        to.numbers("f32.train", "f32.train.grad_norm", &steps, &log[3])
    }
}
/// One slice of each shard, in the order of the batch.
fn join<T, U: Copy>(
    acts: &[&Acts<T>], part: impl Fn(&Acts<T>) -> &[U],
) -> Vec<U>
where
    T: Real,
{
    acts.iter().flat_map(|a| part(a)).copied().collect()
}

/// Compares as it goes, and remembers the worst of each group.
struct Compare<'a> {
    file: &'a Tensors,
    /// Whether this is the run in f64.
    f64: bool,
    groups: Vec<Group>,
}
impl Compare<'_> {
    /// The tensor's group, if the tensor is in the file and is to be compared
    /// in this run.
    fn group(&mut self, group: &str, tensor: &str) -> Option<&mut Group> {
        let at = self.groups.iter().position(|g| g.name == group);
        let at = at.unwrap_or_else(|| {
            self.groups.push(Group::new(group));
            self.groups.len() - 1
        });
        let g = &mut self.groups[at];
        if !g.names.iter().any(|n| n == tensor) {
            g.names.push(tensor.into());
            let has = self.file.has(tensor);
            g.tensors += usize::from(has);
            if !has {
                g.absent.push(tensor.into());
            }
        }
        let runs = !(self.f64 && group.starts_with("f32."));
        (runs && self.file.has(tensor)).then_some(g)
    }
    /// A parameter, a gradient: everything of θ's layout whose name passes.
    fn params<T: Real>(
        &mut self, group: &str, m: &Model, p: &Params<T>,
        which: impl Fn(&str) -> bool,
    ) -> Result<()> {
        for e in m.layout.entries.iter().filter(|e| which(&e.name)) {
            let name = format!("{group}.{}", hf_name(&e.name));
            let ours = to_hf(&p[e.param], e, m.config.head);
            self.numbers(group, &name, &hf_shape(e), &ours)?;
        }
        Ok(())
    }
    fn numbers<T: Real>(
        &mut self, group: &str, name: &str, shape: &[usize], ours: &[T],
    ) -> Result<()> {
        let (file, f64) = (self.file, self.f64);
        let Some(g) = self.group(group, name) else { return Ok(()) };
        let step = group.starts_with("step");
        let types: &[Dtype] = match group {
            _ if step || group == "grad" => &[Dtype::F64, Dtype::F32],
            _ if group.starts_with("f32.") => &[Dtype::F32],
            _ => &[Dtype::F64],
        };
        let theirs: Vec<f64> = file.floats_of(name, shape, types)?;
        let stored = file.dtype(name) == Some(Dtype::F32) && types.len() > 1;
        let unit = match f64 {
            true => BOUND_64,
            false if step => BOUND_32_STEP,
            false => BOUND_32,
        } + if stored { STORED_32 } else { 0.0 };
        let largest = theirs.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
        let bound = unit * largest;
        g.add(f64, name, shape, &theirs, |at| {
            let ours = ours[at].f64();
            let error = (ours - theirs[at]).abs();
            (ours, error, bound)
        });
        Ok(())
    }
    fn choices(
        &mut self, group: &str, name: &str, shape: &[usize], ours: &[usize],
    ) -> Result<()> {
        Ok(())
    }
}
