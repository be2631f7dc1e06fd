//! Chapter: scaling-out. A model as a directory: `config.json` and
//! `model.safetensors`.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::file::{self, write_atomic};
use crate::hf::layout::{from_hf, hf_name, hf_shape, joined, to_hf};
use crate::json;
use crate::layer::Layer;
use crate::memory;
use crate::model::Model;
use crate::params::{Entry, Params};
use crate::real::Real;
use crate::tensors::{self, Tensors, index, write_floats};
use crate::tokens::BYTES;
use safetensors::Dtype;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::Path;

/// Reads a model: `config.json` in `dir`, and its weights from
/// `model.safetensors`, or from the files that `model.safetensors.index.json`
/// names. The experts may be single matrices or joined, as transformers 5 has
/// them. Where the config ties the head to the embedding, the head becomes a
/// copy.
///
/// # Errors
/// If a file cannot be read, is not what its header says, the config breaks a
/// rule, a tensor is missing, unknown, of another shape, no floating point or
/// not finite, or memory is too small: each names file, tensor, value, rule.
pub fn load<T: Real>(dir: &Path) -> Result<(Model, Params<T>)> {
    let config = Config::read(&dir.join("config.json"))?;
    build(&dir.join(WEIGHTS), config, Weights::open(dir)?)
}
/// [`load`] of a model whose two files are part of the program; errors call
/// it `name`.
///
/// # Errors
/// As [`load`].
pub fn load_bytes<T: Real>(
    name: &str, config: &str, weights: &'static [u8],
) -> Result<(Model, Params<T>)> {
    let path = Path::new(name);
    let file = Tensors::of(path, weights)?;
    build(path, Config::from_json(config)?, Weights::one(file))
}
fn build<T: Real>(
    path: &Path, config: Config, weights: Weights,
) -> Result<(Model, Params<T>)> {
    memory::check(path.display(), memory::loading::<T>(&config))?;
    // All shapes are compared before memory is taken for what the config asks.
    let short = Model::new(Config { context: 1, ..config.clone() })?;
    let mut known = HashSet::new();
    for e in &short.layout.entries {
        known.insert(weights.find(e, &config)?.name);
    }
    weights.nothing_else(&known)?;
    let model = Model::new(config)?;
    let mut p = model.layout.zeros();
    for e in &model.layout.entries {
        let values = weights.find(e, &model.config)?.read(e)?;
        from_hf(&mut p[e.param], &values, e, model.config.head);
    }
    if model.config.tied {
        weights.check_tied(&model, &p)?;
    }
    Ok((model, p))
}
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The weights of a model: one file, or several.
struct Weights {
    files: Vec<Tensors>,
    /// Which of the files holds a tensor.
    place: HashMap<String, usize>,
}
/// As much of an index as matters.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}
impl Weights {
    fn open(dir: &Path) -> Result<Self> {
        let [one, index] = [WEIGHTS, INDEX].map(|name| dir.join(name));
        let there = |path: &Path| path.symlink_metadata().is_ok();
        if there(&one) || !there(&index) {
            if !there(&one) {
                other_kinds(dir)?;
            }
            return Ok(Self::one(Tensors::open(&one)?));
        }
        Self::in_parts(dir, &index)
    }
    fn one(file: Tensors) -> Self {
        let place = file.names().map(|name| (name, 0)).collect();
        Self { files: vec![file], place }
    }
    /// Opens the files that an index names.
    fn in_parts(dir: &Path, index: &Path) -> Result<Self> {
        let wrong = |value: String, rule: &str| {
            let cure = "copy all files of the model again";
            Error::input(index.display(), value, rule, cure)
        };
        let text = file::read(index, LONGEST_INDEX)?;
        let Index { weight_map } = json::parse(&text).map_err(|e| {
            let rule = "an index is JSON, {\"weight_map\": {\"TENSOR\": \
                        \"FILE\", …}}, with each name once";
            wrong(format!("not understood ({e})"), rule)
        })?;
        let names: BTreeSet<&String> = weight_map.values().collect();
        let mut weights = Self { files: vec![], place: HashMap::new() };
        // Beside the index and nowhere else.
        let beside =
            |n: &&&String| Path::new(n).file_name() == Some(n.as_ref());
        if let Some(name) = names.iter().find(|n| !beside(n)) {
            let value = format!("one that names the file {name:?}");
            return Err(wrong(value, "its files lie beside it"));
        }
        for name in names {
            let file = Tensors::open(&dir.join(name))?;
            for tensor in file.names() {
                let entry = weight_map.get(&tensor);
                if entry != Some(name) {
                    let said = entry.map_or("nothing", String::as_str);
                    let value = format!("one that says {said:?} of {tensor:?}");
                    let rule = format!("that tensor is in {name:?}");
                    return Err(wrong(value, &rule));
                }
                weights.place.insert(tensor, weights.files.len());
            }
            weights.files.push(file);
        }
        let absent = |name: &&String| !weights.place.contains_key(*name);
        if let Some(name) = weight_map.keys().find(absent) {
            let value = format!("one that names the tensor {name:?}");
            let rule = format!("{:?} does not hold it", weight_map[name]);
            return Err(wrong(value, &rule));
        }
        if weights.files.is_empty() {
            let rule = "there is no model without a tensor";
            return Err(wrong("empty".into(), rule));
        }
        Ok(weights)
    }
    fn file(&self, name: &str) -> Option<&Tensors> {
        self.place.get(name).map(|&at| &self.files[at])
    }
    /// Where a parameter stands; its tensor has the shape that it should.
    fn find(&self, e: &Entry, c: &Config) -> Result<Place<'_>> {
        let (mut name, mut shape, mut at) = (hf_name(&e.name), hf_shape(e), 0);
        let head = c.tied && e.name == "head.w";
        let other = match joined(e, c.experts) {
            // the same shape, since nothing is transposed in a file
            _ if head => Some((hf_name("embed"), shape.clone(), 0)),
            other => other,
        };
        if let Some(other) = other.filter(|o| self.file(&o.0).is_some()) {
            match self.file(&name) {
                None => (name, shape, at) = other,
                Some(_) if head => {} // compared in the end
                Some(file) => {
                    let value = format!("there, and {} as well", other.0);
                    let rule = "they are the same parameter";
                    return Err(file.wrong(name, value, rule, "remove one"));
                }
            }
        }
        // Where it is missing, the first file says so.
        let file = self.file(&name).unwrap_or(&self.files[0]);
        file.expect(&name, &shape)?;
        Ok(Place { file, name, shape, at })
    }
    /// The config describes all that the files hold.
    fn nothing_else(&self, read: &HashSet<String>) -> Result<()> {
        // Old files keep the rotary frequencies, which follow from the config.
        let known = |name: &str| {
            read.contains(name) || name.ends_with(".rotary_emb.inv_freq")
        };
        for file in &self.files {
            if let Some(name) = file.names().find(|n| !known(n)) {
                return Err(file.wrong(
                    format!("the unknown tensor {name:?}"),
                    format!("of shape {:?}", file.shape(&name)),
                    "config.json describes a model without it",
                    "take the config that belongs to this file",
                ));
            }
        }
        Ok(())
    }
    /// A head that is tied to the embedding is the same numbers.
    fn check_tied<T: Real>(&self, m: &Model, p: &Params<T>) -> Result<()> {
        let find = |name: &str| m.layout.find(name);
        let (Some(embed), Some(head)) = (find("embed"), find("head.w")) else {
            return Ok(());
        };
        let theirs = to_hf(&p[head.param], head, m.config.head);
        let pairs = theirs.iter().zip(&p[embed.param]);
        match pairs.into_iter().position(|(a, b)| a.f64() != b.f64()) {
            None => Ok(()),
            Some(at) => Err(self.files[0].wrong(
                format!("lm_head.weight{:?}", index(at, &hf_shape(head))),
                theirs[at].f64(),
                format!(
                    "the config ties it to the embedding, which has {}",
                    p[embed.param][at].f64()
                ),
                "take the config that belongs to this file",
            )),
        }
    }
}
/// Where the values of a parameter begin.
struct Place<'a> {
    file: &'a Tensors,
    name: String,
    shape: Vec<usize>,
    at: usize,
}
impl Place<'_> {
    fn read<T: Real>(&self, e: &Entry) -> Result<Vec<T>> {
        let Self { file, name, shape, at } = self;
        let part = *at..at + e.param.range().len();
        let values: Vec<T> = file.part(name, shape, part)?;
        match values.iter().position(|v| !v.f64().is_finite()) {
            None => Ok(values),
            Some(i) => Err(file.wrong(
                format!("{name}{:?}", index(at + i, shape)),
                values[i].f64(),
                "a weight has to be a finite number",
                "go back to a checkpoint from before it broke",
            )),
        }
    }
}
/// Bytes of the longest index: a million tensors.
const LONGEST_INDEX: u64 = 100 << 20;

/// An error if the weights are there as files that are not read.
fn other_kinds(dir: &Path) -> Result<()> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = names.map(|f| f.file_name().to_string_lossy().into_owned());
    let pickle = |n: &String| {
        let torch = n.starts_with("pytorch_model") && n.contains(".bin");
        torch || n.ends_with(".pth") || n.ends_with(".pt")
    };
    let mut names: Vec<_> = names.collect();
    names.sort();
    if let Some(name) = names.iter().find(|n| pickle(n)) {
        return Err(Error::input(
            dir.join(name).display(),
            "a pickle of PyTorch",
            "that is a program rather than numbers, and is not run here",
            "convert it in Python: AutoModelForCausalLM.from_pretrained(DIR)\
             .save_pretrained(NEW) of transformers writes model.safetensors",
        ));
    }
    if let Some(name) = names.iter().find(|n| n.ends_with(".gguf")) {
        return Err(Error::input(
            dir.join(name).display(),
            "a file of llama.cpp",
            "only safetensors are read",
            "take the model's safetensors, from which it was made",
        ));
    }
    Ok(())
}
/// Whether the tokens of the model in `dir` are bytes, as those that are
/// trained here: a model that comes with a tokenizer, or whose config has the
/// numbers of its special tokens, has a vocabulary of its own.
///
/// # Errors
/// If they are not, or `config.json` cannot be read.
pub fn check_bytes(dir: &Path, vocab: usize) -> Result<()> {
    const TOKENIZERS: [&str; 5] = [
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
        "tekken.json",
    ];
    let there = |name: &&&str| dir.join(name).symlink_metadata().is_ok();
    let path = dir.join("config.json");
    let config = file::read(&path, file::SMALL)?;
    let config: Value = json::parse(&config).unwrap_or_default();
    let said = |name| config.get(name) == Some(&Value::Null);
    let why = match TOKENIZERS.iter().find(there) {
        Some(name) => format!("it has a tokenizer, {name}"),
        // absent, they are Mixtral's 1 and 2
        None if vocab > BYTES
            && !(said("bos_token_id") && said("eos_token_id")) =>
        {
            format!("its {vocab} tokens begin and end with special ones")
        }
        None => return Ok(()),
    };
    Err(Error::input(
        "--prompt",
        "text",
        format!("{why}, and text is read as bytes here"),
        "give --tokens, the numbers that its tokenizer makes of the text",
    ))
}
/// Writes a model that [`load`] and transformers read, in one file, with a head
/// of its own. The same weights give the same bytes. Makes `dir` if need be.
///
/// # Errors
/// As [`save_as`].
pub fn save<T: Real, B: Layer>(
    dir: &Path, model: &Model<B>, p: &Params<T>,
) -> Result<()> {
    save_as(Dtype::F32, dir, model, p)
}
/// [`save`] with the weights in numbers of this type, F32 or BF16.
///
/// # Errors
/// If a weight is not finite, or too large for the type, which nobody could read
/// again: then no file is touched. If a file cannot be written.
///
/// # Panics
/// If it is another type.
#[track_caller]
pub fn save_as<T: Real, B: Layer>(
    dtype: Dtype, dir: &Path, model: &Model<B>, p: &Params<T>,
) -> Result<()> {
    check_range(dtype, dir, model, p)?;
    let cure = "choose another directory, or correct its permissions";
    std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e, cure))?;
    let json = model.config.to_json_of(match dtype {
        Dtype::BF16 => "bfloat16",
        _ => "float32",
    });
    write_atomic(&dir.join("config.json"), |w| w.write_all(json.as_bytes()))?;
    let mut entries: Vec<&Entry> = model.layout.entries.iter().collect();
    entries.sort_by_cached_key(|e| hf_name(&e.name)); // as transformers does
    let header: Vec<_> =
        entries.iter().map(|e| (hf_name(&e.name), hf_shape(e))).collect();
    write_atomic(&dir.join(WEIGHTS), |w| {
        // transformers 4 refuses metadata without this
        tensors::write(w, dtype, &header, &[("format", "pt")], |i, w| {
            let e = entries[i];
            write_floats(w, dtype, &to_hf(&p[e.param], e, model.config.head))
        })
    })
}
/// What is written can be read again: it is finite in the file as well.
fn check_range<T: Real, B: Layer>(
    dtype: Dtype, dir: &Path, model: &Model<B>, p: &Params<T>,
) -> Result<()> {
    for e in &model.layout.entries {
        let x = to_hf(&p[e.param], e, model.config.head);
        let Some(i) = tensors::not_finite(dtype, &x) else { continue };
        let (what, value) = (hf_name(&e.name), x[i].f64());
        let what = format!("{what}{:?}", index(i, &hf_shape(e)));
        let (rule, cure) = match value.is_finite() {
            true => (
                format!("{dtype} has no number that large"),
                "save in f32, or begin a new run with a lower --lr",
            ),
            false => (
                "a weight has to be a finite number".into(),
                "go back to a checkpoint from before it broke",
            ),
        };
        let path = dir.join(WEIGHTS);
        let what = format!("{what}, to be written to {},", path.display());
        return Err(Error::input(what, value, rule, cure));
    }
    Ok(())
}
