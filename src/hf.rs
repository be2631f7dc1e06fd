//! Chapter: scaling-out. Hugging Face's files: names, layout, and reading with
//! care.
//!
//! A model is a directory with `config.json` and `model.safetensors`. There a
//! linear map is [out, in], and the rotary positions pair column i of a head
//! with column i + d/2; here it is [in, out], and neighbors are paired. So a
//! weight is transposed on its way, and the heads of the queries and keys are
//! reordered: the same map of the same numbers.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::file::write_atomic;
use crate::layer::Layer;
use crate::memory;
use crate::model::Model;
use crate::params::{Entry, Params, Role};
use crate::real::Real;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Our names and Hugging Face's. Those after the third stand behind
/// `layers.3.` here, behind `model.layers.3.` there; a star is a number.
const NAMES: [(&str, &str); 13] = [
    ("embed", "model.embed_tokens.weight"),
    ("norm.gain", "model.norm.weight"),
    ("head.w", "lm_head.weight"),
    ("norm1.gain", "input_layernorm.weight"),
    ("attention.wq", "self_attn.q_proj.weight"),
    ("attention.wk", "self_attn.k_proj.weight"),
    ("attention.wv", "self_attn.v_proj.weight"),
    ("attention.wo", "self_attn.o_proj.weight"),
    ("norm2.gain", "post_attention_layernorm.weight"),
    ("moe.router.w", "block_sparse_moe.gate.weight"),
    ("moe.experts.*.w1", "block_sparse_moe.experts.*.w1.weight"),
    ("moe.experts.*.w2", "block_sparse_moe.experts.*.w2.weight"),
    ("moe.experts.*.w3", "block_sparse_moe.experts.*.w3.weight"),
];

/// Hugging Face's name of one of our parameters; a name that Mixtral does not
/// know stays as it is.
///
/// ```
/// assert_eq!(
///     moe_by_hand::hf::hf_name("layers.3.moe.experts.1.w2"),
///     "model.layers.3.block_sparse_moe.experts.1.w2.weight"
/// );
/// ```
pub fn hf_name(name: &str) -> String {
    let block = name.strip_prefix("layers.").and_then(|n| n.split_once('.'));
    let rest = block.map_or(name, |(_, rest)| rest);
    let expert = rest.split('.').find(|part| part.parse::<usize>().is_ok());
    let expert = expert.unwrap_or_default();
    let star = rest.replace(&format!(".{expert}."), ".*.");
    let Some((_, theirs)) = NAMES.iter().find(|n| n.0 == star) else {
        return name.to_string();
    };
    let theirs = theirs.replace('*', expert);
    match block {
        Some((layer, _)) => format!("model.layers.{layer}.{theirs}"),
        None => theirs,
    }
}
/// The shape that Hugging Face gives a parameter: a linear map is [out, in].
pub fn hf_shape(e: &Entry) -> Vec<usize> {
    match e.role {
        Role::Weight | Role::Residual => {
            e.shape.iter().rev().copied().collect()
        }
        Role::Gain | Role::Bias | Role::Embedding => e.shape.clone(),
    }
}
/// Which row of Hugging Face's queries or keys is our column `j`, heads of
/// size `head`: our neighbors 2i and 2i + 1 are their rows i and i + d/2.
///
/// ```
/// use moe_by_hand::hf::rotary_row;
/// // two heads of size 4
/// let rows: Vec<usize> = (0..8).map(|j| rotary_row(j, 4)).collect();
/// assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
/// ```
pub fn rotary_row(j: usize, head: usize) -> usize {
    let i = j % head;
    j - i + i / 2 + i % 2 * (head / 2) // eq: rope-layout
}
/// For each of our values, where it stands in Hugging Face's order.
fn places(e: &Entry, head: usize) -> impl Iterator<Item = usize> {
    let (rows, cols) = (e.param.rows(), e.param.cols);
    let linear = matches!(e.role, Role::Weight | Role::Residual);
    let turned = e.name.ends_with(".wq") || e.name.ends_with(".wk");
    let row = move |j| if turned { rotary_row(j, head) } else { j };
    (0..rows * cols).map(move |at| match (at / cols, at % cols) {
        (r, j) if linear => row(j) * rows + r,
        _ => at,
    })
}
/// Our values of a parameter, in Hugging Face's order; also of its gradient
/// or of anything shaped like it.
pub fn to_hf<T: Real>(ours: &[T], e: &Entry, head: usize) -> Vec<T> {
    let mut theirs = vec![T::ZERO; ours.len()];
    for (&v, to) in ours.iter().zip(places(e, head)) {
        theirs[to] = v;
    }
    theirs
}
/// The way back from [`to_hf`]. Sets `ours`.
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn from_hf<T: Real>(ours: &mut [T], theirs: &[T], e: &Entry, head: usize) {
    assert_eq!(ours.len(), theirs.len(), "from_hf: {}", e.name);
    for (v, from) in ours.iter_mut().zip(places(e, head)) {
        *v = theirs[from];
    }
}

/// Reads a model: `config.json` and `model.safetensors` in `dir`.
///
/// # Errors
/// If a file cannot be read, is not what its header says, the config breaks a
/// rule, a tensor is missing, unknown, of another shape, no floating point or
/// not finite, or memory is too small: each names file, tensor, value, rule.
pub fn load<T: Real>(dir: &Path) -> Result<(Model, Params<T>)> {
    let config = Config::read(&dir.join("config.json"))?;
    let path = dir.join("model.safetensors");
    let file = Tensors::open(&path)?;
    memory::check(path.display(), memory::loading::<T>(&config))?;
    let model = Model::new(config)?;
    let head = model.config.head;
    let mut p = model.layout.zeros();
    for e in &model.layout.entries {
        let name = hf_name(&e.name);
        let values: Vec<T> = file.floats(&name, &hf_shape(e))?;
        if let Some(at) = values.iter().position(|v| !v.f64().is_finite()) {
            return Err(file.wrong(
                format!("{name}{:?}", index(at, &hf_shape(e))),
                values[at].f64(),
                "a weight has to be a finite number",
                "go back to a checkpoint from before it broke",
            ));
        }
        from_hf(&mut p[e.param], &values, e, head);
    }
    let ours = model.layout.entries.iter().map(|e| hf_name(&e.name));
    let ours: HashSet<String> = ours.collect();
    match file.names().find(|n| !ours.contains(n)) {
        None => Ok((model, p)),
        Some(name) => Err(file.wrong(
            format!("the unknown tensor {name:?}"),
            format!("of shape {:?}", file.shape(&name)),
            "config.json describes a model without it",
            "remove it, or correct config.json",
        )),
    }
}
/// Writes a model that [`load`] and transformers read. The same weights give
/// the same bytes. Makes `dir` if need be.
///
/// # Errors
/// If a file cannot be written.
pub fn save<T: Real, B: Layer>(
    dir: &Path, model: &Model<B>, p: &Params<T>,
) -> Result<()> {
    let cure = "choose another directory, or correct its permissions";
    std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e, cure))?;
    let json = model.config.to_json();
    write_atomic(&dir.join("config.json"), |w| w.write_all(json.as_bytes()))?;
    let mut entries: Vec<&Entry> = model.layout.entries.iter().collect();
    entries.sort_by_cached_key(|e| hf_name(&e.name)); // as transformers does
    let header: Vec<_> =
        entries.iter().map(|e| (hf_name(&e.name), hf_shape(e))).collect();
    write_atomic(&dir.join("model.safetensors"), |w| {
        // transformers 4 refuses metadata without this
        write_header(w, &header, &[("format", "pt")])?;
        entries.iter().try_for_each(|e| {
            write_floats(w, &to_hf(&p[e.param], e, model.config.head))
        })
    })
}

/// Writes the head of a safetensors file, for F32 tensors that follow in this
/// order, each by [`write_floats`].
///
/// # Errors
/// If it cannot be written.
pub fn write_header(
    w: &mut dyn Write, tensors: &[(String, Vec<usize>)], meta: &[(&str, &str)],
) -> io::Result<()> {
    let mut end = 0;
    let info = |(name, shape): &(String, Vec<usize>)| {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        let (dtype, shape) = (Dtype::F32, shape.clone());
        let data_offsets = (start, end);
        (name.clone(), TensorInfo { dtype, shape, data_offsets })
    };
    let infos = tensors.iter().map(info).collect();
    let meta: HashMap<String, String> =
        meta.iter().map(|&(k, v)| (k.into(), v.into())).collect();
    let header = Metadata::new(Some(meta), infos).map_err(io::Error::other)?;
    let mut json = serde_json::to_vec(&header)?;
    json.resize(json.len().next_multiple_of(8), b' ');
    w.write_all(&(json.len() as u64).to_le_bytes())?;
    w.write_all(&json)
}
/// Writes the values of one tensor as F32.
///
/// # Errors
/// If they cannot be written.
pub fn write_floats<T: Real>(w: &mut dyn Write, x: &[T]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(4 * x.len());
    for v in x {
        bytes.extend((v.f64() as f32).to_le_bytes());
    }
    w.write_all(&bytes)
}

/// A safetensors file, open to be read tensor by tensor: only the one asked
/// for is in memory.
#[derive(Debug)]
pub struct Tensors {
    path: PathBuf,
    file: File,
    /// Where the values start.
    start: u64,
    header: Metadata,
}
impl Tensors {
    /// Reads the header and compares it with the length of the file.
    ///
    /// # Errors
    /// If the file cannot be read or does not hold what it says.
    pub fn open(path: &Path) -> Result<Self> {
        let cure = "check the path and its permissions";
        let io = |e| Error::io(path, e, cure);
        let mut file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let broken = |value: String, rule: String| {
            let cure = "copy it again, it is cut off or no safetensors file";
            Error::input(path.display(), value, rule, cure)
        };
        let bytes = |n: u64| format!("{n} bytes long");
        let mut first = [0; 8];
        if len < 8 {
            let rule = "a safetensors file starts with 8 bytes".into();
            return Err(broken(bytes(len), rule));
        }
        file.read_exact(&mut first).map_err(io)?;
        let header = u64::from_le_bytes(first);
        if header > len - 8 {
            let rule = format!("its header claims {header} bytes of it");
            return Err(broken(bytes(len), rule));
        }
        let start = 8 + header;
        // At most as long as the file, so that no claim allocates.
        let mut json = vec![0; header as usize];
        file.read_exact(&mut json).map_err(io)?;
        let header: Metadata = serde_json::from_slice(&json).map_err(|e| {
            let rule = format!("its header cannot be read ({e})");
            broken(bytes(len), rule)
        })?;
        let end = start.saturating_add(header.data_len() as u64);
        if end != len {
            let rule = format!("its header describes {end} bytes");
            return Err(broken(bytes(len), rule));
        }
        Ok(Self { path: path.into(), file, start, header })
    }
    /// An error about one tensor of this file.
    pub fn wrong(
        &self, what: impl Display, value: impl Display, rule: impl Display,
        cure: impl Display,
    ) -> Error {
        let what = format!("{what} in {}", self.path.display());
        Error::input(what, value, rule, cure)
    }
    /// Names of all tensors, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.header.offset_keys().into_iter()
    }
    /// What stands in the file's header beside the tensors.
    pub fn meta(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }
    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.header.info(name).is_some()
    }
    /// The shape of a tensor; empty if there is none.
    pub fn shape(&self, name: &str) -> &[usize] {
        self.header.info(name).map_or(&[], |i| &i.shape)
    }
    /// The type of a tensor's elements.
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        self.header.info(name).map(|i| i.dtype)
    }
    /// The bytes of a tensor that has this shape and one of these types.
    fn bytes(
        &self, name: &str, shape: &[usize], types: &[Dtype],
    ) -> Result<(Dtype, Vec<u8>)> {
        let Some(info) = self.header.info(name) else {
            let rule = format!("a tensor of shape {shape:?} is needed");
            let cure = "save the model again, or correct config.json";
            return Err(self.wrong(name, "missing", rule, cure));
        };
        if info.shape != shape {
            let value = format!("of shape {:?}", info.shape);
            let rule = format!("the sizes in config.json ask for {shape:?}");
            let cure = "correct config.json, or take the file it belongs to";
            return Err(self.wrong(name, value, rule, cure));
        }
        if !types.contains(&info.dtype) {
            let types: Vec<String> =
                types.iter().map(ToString::to_string).collect();
            let rule = format!("it has to be {}", types.join(", "));
            let cure = "convert the file";
            return Err(self.wrong(name, info.dtype, rule, cure));
        }
        let (from, to) = info.data_offsets;
        let mut bytes = vec![0; to - from];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.start + from as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| Error::io(&self.path, e, "read it again"))?;
        Ok((info.dtype, bytes))
    }
    /// The values of a tensor that has this shape and one of these types.
    ///
    /// # Errors
    /// If it is missing, or has another shape or type.
    pub fn numbers<T: Real>(
        &self, name: &str, shape: &[usize], types: &[Dtype],
    ) -> Result<(Dtype, Vec<T>)> {
        let (dtype, b) = self.bytes(name, shape, types)?;
        let numbers = match dtype {
            Dtype::F64 => values(&b, |b| T::of(f64::from_le_bytes(b))),
            Dtype::F32 => values(&b, |b| T::of(f32::from_le_bytes(b).into())),
            Dtype::BF16 => values(&b, |[a, b]| {
                // the upper half of an f32
                T::of(f32::from_le_bytes([0, 0, a, b]).into())
            }),
            Dtype::F16 => values(&b, |b| T::of(half(u16::from_le_bytes(b)))),
            Dtype::I64 => values(&b, |b| T::of(i64::from_le_bytes(b) as f64)),
            other => {
                let cure = "convert the file";
                return Err(self.wrong(name, other, "it is not read", cure));
            }
        };
        Ok((dtype, numbers))
    }
    /// The values of a floating-point tensor of this shape.
    ///
    /// # Errors
    /// If it is missing, or has another shape or type.
    pub fn floats<T: Real>(
        &self, name: &str, shape: &[usize],
    ) -> Result<Vec<T>> {
        let types = [Dtype::F64, Dtype::F32, Dtype::BF16, Dtype::F16];
        Ok(self.numbers(name, shape, &types)?.1)
    }
    /// The values of a tensor of whole numbers of this shape, each below
    /// `end`.
    ///
    /// # Errors
    /// If it is missing, has another shape or type, or a value is too large
    /// or negative.
    pub fn indices(
        &self, name: &str, shape: &[usize], end: usize,
    ) -> Result<Vec<usize>> {
        let (_, b) = self.bytes(name, shape, &[Dtype::I64])?;
        let all: Vec<i64> = values(&b, i64::from_le_bytes);
        let valid = |(at, v): (usize, i64)| {
            usize::try_from(v).ok().filter(|&v| v < end).ok_or_else(|| {
                self.wrong(
                    format!("{name}{:?}", index(at, shape)),
                    v,
                    format!("it has to be 0 to {}", end.saturating_sub(1)),
                    "write the file again",
                )
            })
        };
        all.into_iter().enumerate().map(valid).collect()
    }
}
/// Reads numbers of N bytes each.
fn values<const N: usize, T>(b: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
    b.as_chunks().0.iter().map(|&b| f(b)).collect()
}
/// A number of 16 bits: sign, 5 bits exponent, 10 bits fraction.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let fraction = f64::from(bits & 0x3ff);
    sign * match i32::from(bits >> 10 & 31) {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        e => (1024.0 + fraction) * 2f64.powi(e - 25),
    }
}
/// The index of a value in a tensor of this shape.
pub fn index(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (i, &n) in index.iter_mut().zip(shape).rev() {
        (*i, at) = (at % n, at / n);
    }
    index
}
