//! Chapter: scaling-out. A model as a directory: `config.json` and
//! `model.safetensors`.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::file::write_atomic;
use crate::hf::layout::{from_hf, hf_name, hf_shape, to_hf};
use crate::layer::Layer;
use crate::memory;
use crate::model::Model;
use crate::params::{Entry, Params};
use crate::real::Real;
use crate::tensors::{self, Tensors, index, write_floats};
use std::collections::HashSet;
use std::path::Path;

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
        tensors::write(w, &header, &[("format", "pt")], |i, w| {
            let e = entries[i];
            write_floats(w, &to_hf(&p[e.param], e, model.config.head))
        })
    })
}
