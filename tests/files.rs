//! Chapter 27. Hugging Face's files, both ways, and every way they can be
//! wrong.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use moe_by_hand::config::Config;
use moe_by_hand::hf;
use moe_by_hand::model::Model;
use moe_by_hand::params::Params;
use safetensors::SafeTensors;
use std::fs;
use std::path::{Path, PathBuf};

/// A directory of its own, gone at the end.
struct Dir(PathBuf);
impl Dir {
    fn new(name: &str) -> Self {
        let name = format!("moe-files-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}
impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
fn model() -> (Model, Params<f32>) {
    let tiny = Config::preset("tiny").unwrap();
    let config = Config { vocab: 11, hidden: 8, head: 4, kv_heads: 2, ..tiny };
    let config = Config { intermediate: 6, context: 16, ..config };
    let model = Model::new(config).unwrap();
    let p = model.init(7);
    (model, p)
}

#[test]
fn a_saved_model_is_read_back_bit_for_bit() {
    let dir = Dir::new("back");
    let (model, p) = model();
    hf::save(&dir.0, &model, &p).unwrap();
    let (read, q) = hf::load::<f32>(&dir.0).unwrap();
    assert_eq!(read.config, model.config);
    assert_eq!(p, q);
    // the same weights, the same bytes
    let file = |d: &Path| fs::read(d.join("model.safetensors")).unwrap();
    let again = Dir::new("again");
    hf::save(&again.0, &read, &q).unwrap();
    assert_eq!(file(&dir.0), file(&again.0));
    // and what the library of the ecosystem makes of them
    let bytes = file(&dir.0);
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.len(), model.layout.entries.len());
    let gate = "model.layers.1.block_sparse_moe.gate.weight";
    assert_eq!(theirs.tensor(gate).unwrap().shape(), [4, 8]); // [out, in]
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let json = std::str::from_utf8(&bytes[8..8 + header as usize]).unwrap();
    assert!(json.starts_with(r#"{"__metadata__":{"format":"pt"},"#), "{json}");
}
