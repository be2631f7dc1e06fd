//! Chapter: training. Text as bytes: read, cut into training and validation,
//! drawn in batches.

use crate::error::{Error, Result, rule};
use crate::file;
use crate::layer::Shape;
use crate::memory;
use crate::rng::Rng;
use crate::tensors::{hex, sha256};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Which text it is, without the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextId {
    /// The path it was read from, as it was given; absent for the project's
    /// own words.
    pub path: Option<PathBuf>,
    /// Its length.
    pub bytes: usize,
    /// SHA-256, in hexadecimal.
    pub sha256: String,
    /// Whether it came from a pipe or the like, and can be read only once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
}

/// A text to train on. Its tokens are its bytes.
#[derive(Clone, Debug)]
pub struct Text {
    bytes: Vec<u8>,
    /// Which it is.
    pub id: TextId,
}
impl Text {
    /// A text that is already in memory.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self::from(bytes, None)
    }
    fn from(bytes: Vec<u8>, path: Option<PathBuf>) -> Self {
        let sha256 = sha256(&bytes);
        let (path, stream, len) = (path, false, bytes.len());
        Self { id: TextId { path, bytes: len, sha256, stream }, bytes }
    }
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, is not UTF-8, does not fit into memory, or has a
    /// name that is not UTF-8.
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_while(path, |_, _| ())
    }
    /// [`Text::read`]; from time to time `told` hears how many bytes are read
    /// and hashed, and of how many if that is known.
    ///
    /// # Errors
    /// As [`Text::read`].
    pub fn read_while(
        path: &Path, mut told: impl FnMut(usize, usize),
    ) -> Result<Self> {
        let cure = "give it another name, or a link that has one";
        let named = path.to_str().is_some();
        let stored = "a run keeps it in JSON, which is UTF-8";
        let what = "the name of the text";
        rule(named, what, format!("{path:?}"), stored, cure)?;
        let cure = "check the path and its permissions";
        let io = |e| Error::io(path, e, cure);
        let (mut file, known) = file::open_or_pipe(path)?;
        let (stream, len) = (known.is_none(), known.unwrap_or(0) as usize);
        let (mut bytes, mut hash) = (vec![], Sha256::new());
        memory::check(path.display(), len as u64)?;
        bytes.try_reserve_exact(len).map_err(|e| io(io::Error::other(e)))?;
        let mut part = vec![0; 1 << 20];
        loop {
            // Not beyond its length: a file may grow for ever.
            let most = match known {
                Some(_) => part.len().min(len - bytes.len()),
                None => part.len(),
            };
            let n = file::read_some(&mut file, &mut part[..most]);
            let n = n.map_err(io)?;
            if n == 0 {
                break;
            }
            hash.update(&part[..n]);
            if bytes.len() + n > bytes.capacity() {
                // Nobody knows how long a stream is.
                memory::check(path.display(), bytes.capacity() as u64)?;
            }
            bytes.extend_from_slice(&part[..n]);
            told(bytes.len(), len);
        }
        if stream && bytes.is_empty() {
            return Err(Error::input(
                path.display(),
                "a pipe that nobody writes to",
                "a text cannot be empty",
                "begin what writes first, or pipe it into --text -",
            ));
        }
        check_utf8(path, &bytes)?;
        let (sha256, n) = (hex(&hash.finalize()), bytes.len());
        let path = Some(path.to_path_buf());
        Ok(Self { id: TextId { path, bytes: n, sha256, stream }, bytes })
    }
    /// The project's own words: every `.md` and `.rs` under `book/src`, `src`
    /// and `tests`, and `README.md`, in the order of their paths, below the
    /// nearest directory at or above `from` that holds `equations.toml`.
    ///
    /// # Errors
    /// If there is no such directory, or one of the files cannot be read.
    pub fn of_project(from: &Path) -> Result<Self> {
        let home = from.ancestors().find(|d| d.join("equations.toml").exists());
        let Some(home) = home else {
            return Err(Error::input(
                "--text",
                "missing",
                "no directory here or above is the project, whose own words \
                 would be read",
                "name a file with --text",
            ));
        };
        let mut paths = vec![];
        for part in ["README.md", "book/src", "src", "tests"] {
            collect(&home.join(part), &mut paths)?;
        }
        paths.sort();
        let mut bytes = vec![];
        for path in &paths {
            let text = file::read(path, file::ANY)?;
            check_utf8(path, &text)?;
            bytes.extend(text);
        }
        Ok(Self::from(bytes, None))
    }
    /// The first 90 %.
    pub fn train(&self) -> &[u8] {
        &self.bytes[..self.cut()]
    }
    /// The rest, on which nothing is trained.
    pub fn validation(&self) -> &[u8] {
        &self.bytes[self.cut()..]
    }
    /// Where the two meet.
    fn cut(&self) -> usize {
        self.bytes.len() - self.bytes.len().div_ceil(10)
    }
    /// Whether a window of `time` bytes, and the byte after it, fits into
    /// both parts.
    ///
    /// # Errors
    /// If not; it says how many bytes are needed.
    pub fn check(&self, time: usize) -> Result<()> {
        // The validation part is the smaller: ⌈n/10⌉ bytes, to hold T + 1.
        if self.validation().len() > time && self.train().len() > time {
            return Ok(());
        }
        let needed = 10 * time as u128 + 1;
        Err(Error::input(
            "the text",
            format!("{} bytes long", self.bytes.len()),
            format!(
                "with --seq {time} it needs at least {needed}, so that its \
                 last tenth holds one window"
            ),
            "take a longer text or a smaller --seq",
        ))
    }
}
fn check_utf8(path: &Path, bytes: &[u8]) -> Result<()> {
    str::from_utf8(bytes).map(drop).map_err(|e| {
        Error::input(
            path.display(),
            format!("not UTF-8 at byte {}", e.valid_up_to()),
            "a text is UTF-8",
            "convert it, for example with iconv",
        )
    })
}
/// Adds the `.md` and `.rs` files at or below `path`; what is not there adds
/// nothing. Links are not followed.
fn collect(path: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(meta) = path.symlink_metadata() else { return Ok(()) };
    if meta.is_dir() {
        let io = |e| Error::io(path, e, "check its permissions");
        for entry in fs::read_dir(path).map_err(io)? {
            collect(&entry.map_err(io)?.path(), paths)?;
        }
    } else if meta.is_file()
        && path.extension().is_some_and(|e| e == "md" || e == "rs")
    {
        paths.push(path.to_path_buf());
    }
    Ok(())
}

/// Sets tokens and targets to windows of the text, drawn uniformly; a target
/// is the byte after its token.  tokens, targets: [n]
///
/// What is drawn is a function of the seed, the step and the micro-batch
/// alone: a resumed run draws what it would have drawn, with no state saved.
///
/// # Panics
/// If the text is not longer than `s.time`, or the lengths do not fit.
///
/// ```
/// use moe_by_hand::layer::Shape;
/// use moe_by_hand::train::data::draw;
/// let (mut x, mut y) = ([0; 6], [0; 6]);
/// draw(&mut x, &mut y, b"abcdefgh", Shape { batch: 2, time: 3 }, 0, 1, 0);
/// assert_eq!(x.map(|x| x + 1), y); // each letter is followed by the next
/// ```
#[track_caller]
pub fn draw(
    tokens: &mut [usize], targets: &mut [usize], text: &[u8], s: Shape,
    seed: u64, step: usize, micro: usize,
) {
    let lens = [tokens.len(), targets.len()];
    assert_eq!(lens, [s.rows(); 2], "draw: tokens, targets for {s:?}");
    let t = s.time;
    assert!(text.len() > t, "{} bytes for windows of {t} + 1", text.len());
    // On the stack: a step allocates nothing.
    let mut name = *b"batch 00000000000000000000 00000000000000000000";
    write!(&mut name[6..], "{step:020} {micro:020}").expect("20 digits each");
    let name = str::from_utf8(&name).expect("ASCII");
    let mut rng = Rng::named(seed, name);
    let rows = tokens.chunks_exact_mut(t).zip(targets.chunks_exact_mut(t));
    for (tokens, targets) in rows {
        let at = rng.below(text.len() - t);
        window(tokens, targets, &text[at..]);
    }
}
/// Sets tokens to the first bytes of the text, and targets to the byte after
/// each.  tokens, targets: [t]
pub(crate) fn window(tokens: &mut [usize], targets: &mut [usize], text: &[u8]) {
    let pairs = tokens.iter_mut().zip(targets);
    for ((x, y), pair) in pairs.zip(text.windows(2)) {
        (*x, *y) = (pair[0].into(), pair[1].into());
    }
}
