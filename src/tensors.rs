//! Chapter: scaling-out. Safetensors files: named tensors, read one by one and
//! with care, written as they come.

use crate::error::{Error, Result};
use crate::half::{Bf16, F16};
use crate::real::Real;
use crate::{file, json, system};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The key in a file's metadata under which the SHA-256 of each tensor's bytes
/// stands, in hexadecimal, as one JSON object; that of the metadata's string
/// `x` stands there as `__metadata__.x`.
const HASHES: &str = "sha256";

/// Writes a safetensors file of tensors of this type, names and shapes.
///
/// `values` writes those of the tensor of that number by [`write_floats`]; it
/// is called twice for each, because the hashes stand before the values.
/// The same tensors give the same bytes.
///
/// # Errors
/// If it cannot be written.
pub fn write(
    w: &mut dyn Write, dtype: Dtype, tensors: &[(String, Vec<usize>)],
    meta: &[(&str, &str)],
    values: impl Fn(usize, &mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut hashes = BTreeMap::new();
    for (i, (name, _)) in tensors.iter().enumerate() {
        let mut hash = Hash(Sha256::new());
        values(i, &mut hash)?;
        hashes.insert(name.clone(), hex(&hash.0.finalize()));
    }
    for (key, text) in meta {
        hashes.insert(format!("__metadata__.{key}"), sha256(text.as_bytes()));
    }
    let hashes = serde_json::to_string(&hashes)?;
    let mut meta: BTreeMap<&str, &str> = meta.iter().copied().collect();
    meta.insert(HASHES, &hashes);
    let mut json = format!("{{\"__metadata__\":{}", serde_json::json!(meta));
    let mut end = 0;
    for (name, shape) in tensors {
        let start = end;
        end += dtype.bitsize() / 8 * shape.iter().product::<usize>();
        let shape = shape.clone();
        let info = TensorInfo { dtype, shape, data_offsets: (start, end) };
        let info = serde_json::to_string(&info)?;
        json += &format!(",{}:{info}", serde_json::json!(name));
    }
    let mut json = (json + "}").into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    w.write_all(&(json.len() as u64).to_le_bytes())?;
    w.write_all(&json)?;
    (0..tensors.len()).try_for_each(|i| values(i, w))
}
/// What is written to it is hashed.
struct Hash(Sha256);
impl Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
/// SHA-256 of some bytes, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
/// Writes the values of one tensor as F32 or BF16, rounded once, a small
/// buffer's worth at a time: saving needs no second copy of them.
///
/// # Errors
/// If they cannot be written.
///
/// # Panics
/// If it is another type.
pub fn write_floats<T: Real>(
    w: &mut dyn Write, dtype: Dtype, x: &[T],
) -> io::Result<()> {
    let mut w = BufWriter::new(w);
    for &v in x {
        match written(dtype, v) {
            Written::F32(v) => w.write_all(&v.to_le_bytes())?,
            Written::Bf16(v) => w.write_all(&v.to_bits().to_le_bytes())?,
        }
    }
    w.flush()
}
/// The first of the numbers that [`write_floats`] would not write as a finite
/// one: it is not, or too large for the type.
///
/// ```
/// use moe_by_hand::tensors::not_finite;
/// use safetensors::Dtype;
/// let x = [1.0, f32::MAX, f32::NAN];
/// // bf16 has no number near the largest of f32
/// assert_eq!(not_finite(Dtype::BF16, &x), Some(1));
/// assert_eq!(not_finite(Dtype::F32, &x), Some(2));
/// ```
///
/// # Panics
/// If it is another type.
pub fn not_finite<T: Real>(dtype: Dtype, x: &[T]) -> Option<usize> {
    x.iter().position(|&v| match written(dtype, v) {
        Written::F32(v) => !v.is_finite(),
        Written::Bf16(v) => !v.f32().is_finite(),
    })
}
/// A number as a file has it.
enum Written {
    F32(f32),
    Bf16(Bf16),
}
fn written<T: Real>(dtype: Dtype, v: T) -> Written {
    match dtype {
        Dtype::F32 => Written::F32(v.f64() as f32),
        Dtype::BF16 => Written::Bf16(Bf16::from_f64(v.f64())),
        other => panic!("weights are written as F32 or BF16, not {other}"),
    }
}

/// Where the bytes of a file are.
#[derive(Debug)]
enum Source {
    Disk(File),
    Memory(&'static [u8]),
}
impl Source {
    fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Disk(file) => {
                let mut file = file;
                file.seek(SeekFrom::Start(at))?;
                file.read_exact(bytes)
            }
            Self::Memory(all) => {
                let rest =
                    usize::try_from(at).ok().and_then(|at| all.get(at..));
                rest.unwrap_or_default().read_exact(bytes)
            }
        }
    }
}

/// A safetensors file, open to be read tensor by tensor: only the one asked
/// for is in memory.
#[derive(Debug)]
pub struct Tensors {
    path: PathBuf,
    file: Source,
    /// Where the values start.
    start: u64,
    header: Metadata,
    /// SHA-256 of tensors, by name; files of others have none.
    hashes: BTreeMap<String, String>,
}
/// Bytes of the longest header: the format's own limit.
const HEADER: u64 = 100_000_000;
impl Tensors {
    /// Reads the header and compares it with the length of the file.
    ///
    /// # Errors
    /// If the file cannot be read or does not hold what it says.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, len) = file::open(path, file::ANY)?;
        Self::new(path, Source::Disk(file), len)
    }
    /// [`Tensors::open`] of a file whose bytes are part of the program; errors
    /// call it `name`.
    ///
    /// # Errors
    /// If it does not hold what it says.
    pub fn of(name: &Path, bytes: &'static [u8]) -> Result<Self> {
        Self::new(name, Source::Memory(bytes), bytes.len() as u64)
    }
    fn new(path: &Path, file: Source, len: u64) -> Result<Self> {
        let cure = "check the path and its permissions";
        let io = |e| Error::io(path, e, cure);
        let broken = |rule: String| {
            let value = format!("{len} bytes long");
            let cure = "copy it again, it is cut off or no safetensors file";
            Err(Error::input(path.display(), value, rule, cure))
        };
        if len < 9 {
            let rule = "a safetensors file starts with 8 bytes and `{`";
            return broken(rule.into());
        }
        let mut first = [0; 9];
        file.read(0, &mut first).map_err(io)?;
        let [length @ .., brace] = first;
        let header = u64::from_le_bytes(length);
        if header > len - 8 {
            return broken(format!("its header claims {header} bytes of it"));
        }
        if brace != b'{' || header == 0 {
            return broken("its header does not begin with `{`".into());
        }
        if header > HEADER {
            return broken(format!(
                "its header claims {header} bytes, and the format allows \
                 {HEADER}"
            ));
        }
        // Measured: a table of many small tensors is 4 times its JSON.
        system::check(format!("the header of {}", path.display()), 6 * header)?;
        let mut json = vec![brace; header as usize];
        file.read(9, &mut json[1..]).map_err(io)?;
        let read: Metadata = match json::parse(&json) {
            Ok(read) => read,
            Err(e) => {
                return broken(format!("its header cannot be read ({e})"));
            }
        };
        let start = 8 + header;
        let end = start.saturating_add(read.data_len() as u64);
        if end != len {
            return broken(format!("its header describes {end} bytes"));
        }
        let mut meta = read.metadata().clone().unwrap_or_default();
        let hashes = meta.remove(HASHES).map(|h| serde_json::from_str(&h));
        let hashes = match hashes.transpose() {
            Ok(hashes) => hashes.unwrap_or_default(),
            Err(e) => {
                let why = format!("its metadata's `{HASHES}` is not read");
                return broken(format!("{why} ({e})"));
            }
        };
        let file =
            Self { path: path.into(), file, start, header: read, hashes };
        for (key, text) in meta {
            let key = format!("__metadata__.{key}");
            file.check_hash(&key, text.as_bytes())?;
        }
        Ok(file)
    }
    /// Compares bytes with what the file says of them, if it does.
    fn check_hash(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let Some(said) = self.hashes.get(name) else { return Ok(()) };
        let is = sha256(bytes);
        if is == *said {
            return Ok(());
        }
        let value = format!("damaged, of SHA-256 {}…", &is[..8]);
        let said = said.get(..8).unwrap_or(said).escape_debug();
        let rule = format!("it was written with {said}…");
        let cure = "take a copy that is whole; if a program changed it on \
                    purpose, remove `sha256` from the file's metadata";
        Err(self.wrong(name, value, rule, cure))
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
    /// The entry of a tensor that has this shape and one of these types.
    fn entry(
        &self, name: &str, shape: &[usize], types: &[Dtype],
    ) -> Result<&TensorInfo> {
        let cure = "take the config that belongs to this file";
        let Some(info) = self.header.info(name) else {
            let rule = format!("a tensor of shape {shape:?} is needed");
            return Err(self.wrong(name, "missing", rule, cure));
        };
        if info.shape != shape {
            let value = format!("of shape {:?}", info.shape);
            let rule = format!("the sizes in the config ask for {shape:?}");
            return Err(self.wrong(name, value, rule, cure));
        }
        if !types.contains(&info.dtype) {
            let types: Vec<String> =
                types.iter().map(ToString::to_string).collect();
            let rule = format!("it has to be {}", types.join(", "));
            let cure = "convert the file";
            return Err(self.wrong(name, info.dtype, rule, cure));
        }
        Ok(info)
    }
    /// Looks whether there is a floating-point tensor of this shape.
    ///
    /// # Errors
    /// If it is missing, or has another shape or type.
    pub fn expect(&self, name: &str, shape: &[usize]) -> Result<()> {
        self.entry(name, shape, &FLOATS).map(drop)
    }
    /// The bytes of some elements of a tensor, which become numbers of so many
    /// bytes each: both have to fit into memory.
    fn bytes(
        &self, name: &str, info: &TensorInfo, part: Range<usize>, each: usize,
    ) -> Result<Vec<u8>> {
        let size = info.dtype.bitsize() / 8;
        let need = part.len() as u64 * (size + each) as u64;
        system::check(format!("{name} of {}", self.path.display()), need)?;
        let mut bytes = vec![0; part.len() * size];
        let from = info.data_offsets.0 + part.start * size;
        let at = self.start + from as u64;
        self.file
            .read(at, &mut bytes)
            .map_err(|e| Error::io(&self.path, e, "read it again"))?;
        // The hash is that of the whole.
        if bytes.len() == info.data_offsets.1 - info.data_offsets.0 {
            self.check_hash(name, &bytes)?;
        }
        Ok(bytes)
    }
    /// The values of a tensor that has this shape and one of these types.
    ///
    /// # Errors
    /// If it is missing, has another shape or type, or memory is too small.
    pub fn numbers<T: Real>(
        &self, name: &str, shape: &[usize], types: &[Dtype],
    ) -> Result<(Dtype, Vec<T>)> {
        let info = self.entry(name, shape, types)?;
        let all = 0..shape.iter().product();
        Ok((info.dtype, self.values(name, info, all)?))
    }
    /// Some elements of a tensor, as numbers.
    fn values<T: Real>(
        &self, name: &str, info: &TensorInfo, part: Range<usize>,
    ) -> Result<Vec<T>> {
        let b = self.bytes(name, info, part, size_of::<T>())?;
        Ok(match info.dtype {
            Dtype::F64 => values(&b, |b| T::of(f64::from_le_bytes(b))),
            Dtype::F32 => values(&b, |b| T::of(f32::from_le_bytes(b).into())),
            Dtype::BF16 => values(&b, |b| {
                T::of(Bf16::from_bits(u16::from_le_bytes(b)).f32().into())
            }),
            Dtype::F16 => values(&b, |b| {
                T::of(F16::from_bits(u16::from_le_bytes(b)).f32().into())
            }),
            Dtype::I64 => values(&b, |b| T::of(i64::from_le_bytes(b) as f64)),
            other => {
                let cure = "convert the file";
                return Err(self.wrong(name, other, "it is not read", cure));
            }
        })
    }
    /// The values of a floating-point tensor of this shape.
    ///
    /// # Errors
    /// If it is missing, or has another shape or type.
    pub fn floats<T: Real>(
        &self, name: &str, shape: &[usize],
    ) -> Result<Vec<T>> {
        Ok(self.numbers(name, shape, &FLOATS)?.1)
    }
    /// Some values, one after another, of a floating-point tensor of this
    /// shape.
    ///
    /// # Errors
    /// As [`Tensors::floats`].
    ///
    /// # Panics
    /// If the part goes beyond the shape.
    pub fn part<T: Real>(
        &self, name: &str, shape: &[usize], part: Range<usize>,
    ) -> Result<Vec<T>> {
        let info = self.entry(name, shape, &FLOATS)?;
        let n = shape.iter().product();
        assert!(part.end <= n, "{name}: {part:?} of {n} values");
        self.values(name, info, part)
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
        let info = self.entry(name, shape, &[Dtype::I64])?;
        let all = 0..shape.iter().product();
        let b = self.bytes(name, info, all, 3 * size_of::<usize>())?;
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
/// Types whose values may be weights.
const FLOATS: [Dtype; 4] = [Dtype::F64, Dtype::F32, Dtype::BF16, Dtype::F16];
/// Reads numbers of N bytes each.
fn values<const N: usize, T>(b: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
    b.as_chunks().0.iter().map(|&b| f(b)).collect()
}
/// The index of a value in a tensor of this shape.
pub fn index(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (i, &n) in index.iter_mut().zip(shape).rev() {
        (*i, at) = (at % n, at / n);
    }
    index
}
