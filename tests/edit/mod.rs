//! Chapter: scaling-out. A copy of a directory of tensors, to be spoiled.
#![allow(dead_code, clippy::unwrap_used, reason = "for several tests")]

use safetensors::tensor::{TensorView, serialize};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A directory of its own, gone at the end.
pub(crate) struct Dir(pub(crate) PathBuf);
impl Dir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("moe-test-{}-{count}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
    pub(crate) fn copy_of(from: &Path) -> Self {
        let to = Self::new();
        for file in fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.0.join(file.file_name())).unwrap();
        }
        to
    }
    /// Rewrites one of its files with changed tensors.
    pub(crate) fn edit(&self, file: &str, change: impl FnOnce(&mut Tensors)) {
        let path = self.0.join(file);
        let mut tensors = read(&path);
        change(&mut tensors);
        write(&path, &tensors);
    }
}
impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

// Apart from `edit`, which is compiled anew for each change.
fn read(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter().map(|(name, t)| {
        let (dtype, shape) = (t.dtype(), t.shape().to_vec());
        (name, Tensor { dtype, shape, data: t.data().to_vec() })
    });
    tensors.collect()
}
fn write(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, t)| {
        let view = TensorView::new(t.dtype, t.shape.clone(), &t.data);
        (name, view.unwrap())
    });
    fs::write(path, serialize(views, None).unwrap()).unwrap();
}

pub(crate) type Tensors = BTreeMap<String, Tensor>;
pub(crate) struct Tensor {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<u8>,
}
impl Tensor {
    /// Adds to one element; to a whole number, 1.
    pub(crate) fn add(&mut self, index: usize, x: f64) {
        let size = self.dtype.bitsize() / 8;
        let data = &mut self.data[index * size..][..size];
        match self.dtype {
            Dtype::F64 => {
                let old = f64::from_le_bytes((&*data).try_into().unwrap());
                data.copy_from_slice(&(old + x).to_le_bytes());
            }
            Dtype::F32 => {
                let old = f32::from_le_bytes((&*data).try_into().unwrap());
                data.copy_from_slice(&(old + x as f32).to_le_bytes());
            }
            Dtype::I64 => {
                let old = i64::from_le_bytes((&*data).try_into().unwrap());
                data.copy_from_slice(&(old + 1).to_le_bytes());
            }
            other => panic!("{other}"),
        }
    }
}
