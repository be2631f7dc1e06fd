//! Chapter: training. Files and directories that are whole or not there, and
//! a lock that keeps two processes out of one.

use crate::error::{Error, Result, rule};
use crate::system;
use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Writes a file under a temporary name beside `path` and renames it into
/// place: who reads sees the old content or the new one, never half of it,
/// whatever stops the program.
///
/// The temporary name is a new one each time, `NAME.0123456789abcdef.part`, so
/// that two writers never share a file, and no link is followed.
///
/// # Errors
/// If anything fails; what stood at `path` before is then untouched, and the
/// temporary file is gone.
pub fn write_atomic(
    path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let write = || {
        let (part, mut file) = create_part(path)?;
        let written = content(&mut file)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&part, path));
        if written.is_err() {
            // What was written so far is of no use; that it may not be
            // removable either changes nothing about the error to report.
            let _ = fs::remove_file(&part);
        }
        written?;
        sync_dir(parent(path))
    };
    write().map_err(|e| {
        let cure = "make room or choose another directory; nothing was lost";
        Error::io(path, e, cure)
    })
}
/// A new file beside `path`, and its name.
fn create_part(path: &Path) -> io::Result<(PathBuf, File)> {
    loop {
        let part = part_name(path, "");
        match OpenOptions::new().write(true).create_new(true).open(&part) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            made => return made.map(|file| (part, file)),
        }
    }
}
/// A temporary name beside `path` that nobody else uses.
fn part_name(path: &Path, start: &str) -> PathBuf {
    let id = RandomState::new().build_hasher().finish();
    let mut name = OsString::from(start);
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{id:016x}.part"));
    path.with_file_name(name)
}
/// Removes the temporary files of these names that a killed [`write_atomic`]
/// left in a directory. Who calls it is the directory's only writer.
pub fn remove_parts(dir: &Path, names: &[&str]) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let is_part = |name: &&str| {
            let rest = file.to_str().and_then(|f| f.strip_prefix(*name));
            let id = rest.and_then(|r| r.strip_prefix('.'));
            let id = id.and_then(|r| r.strip_suffix(".part"));
            let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
            id.is_some_and(|id| id.len() == 16 && id.bytes().all(hex))
        };
        let is_file = entry.file_type().is_ok_and(|t| t.is_file());
        if is_file && names.iter().any(is_part) {
            // One that stays takes room, and does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}
/// Waits until the names in a directory are on the disk.
fn sync_dir(dir: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(()); // elsewhere a directory cannot be opened
    }
    match File::open(dir)?.sync_all() {
        // A file system that has no such thing.
        Err(e)
            if matches!(
                e.kind(),
                ErrorKind::InvalidInput | ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        synced => synced,
    }
}

/// A directory that is filled under a temporary name and then appears whole:
/// nobody ever finds a half-made one, and of two programs that want the same
/// name one gets it.
///
/// Until [`NewDir::keep`], dropping it removes what it made, and no more than
/// that.
#[derive(Debug)]
pub struct NewDir {
    /// Where it is now.
    at: PathBuf,
    published: bool,
    kept: bool,
    /// Directories above it that were made for it, the highest first.
    parents: Vec<PathBuf>,
}
impl NewDir {
    /// Makes it under a temporary name beside `dir`, and the directories
    /// above.
    ///
    /// # Errors
    /// If `dir` exists, names no directory that could be new, or nothing can
    /// be made there.
    pub fn beside(dir: &Path) -> Result<Self> {
        let shown = dir.display();
        let cure = "choose a new name";
        let is_name = dir.file_name().is_some();
        rule(is_name, "the directory", shown, "it has to be new", cure)?;
        not_there(dir)?;
        let (at, parents) = (PathBuf::new(), vec![]);
        let mut new = Self { at, parents, published: false, kept: false };
        let cure = "choose another directory, or correct the permissions";
        new.make(dir).map_err(|e| Error::io(dir, e, cure))?;
        Ok(new)
    }
    fn make(&mut self, dir: &Path) -> io::Result<()> {
        let mut again = 100;
        loop {
            match self.once(dir) {
                Err(e) if again > 0 && vanished(&e) => again -= 1,
                made => return made,
            }
        }
    }
    fn once(&mut self, dir: &Path) -> io::Result<()> {
        let above: Vec<&Path> = parent(dir).ancestors().collect();
        for dir in above.into_iter().rev() {
            if dir.as_os_str().is_empty() || dir.is_dir() {
                continue;
            }
            match fs::create_dir(dir) {
                Ok(()) => self.parents.push(dir.into()),
                // By another program, just now.
                Err(_) if dir.is_dir() => {}
                Err(e) => return Err(e),
            }
        }
        loop {
            let part = part_name(dir, ".");
            match fs::create_dir(&part) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                made => {
                    made?;
                    self.at = part;
                    return Ok(());
                }
            }
        }
    }
    /// Where it is now.
    pub fn path(&self) -> &Path {
        &self.at
    }
    /// Gives it its name, which has to be beside the one it was made for, with
    /// all that is in it.
    ///
    /// # Errors
    /// If something has that name; then it is untouched.
    pub fn publish(&mut self, dir: &Path) -> Result<()> {
        not_there(dir)?;
        let renamed = fs::rename(&self.at, dir);
        renamed.map_err(|e| match not_there(dir) {
            Err(there) => there,
            Ok(()) => Error::io(dir, e, "choose another directory"),
        })?;
        (self.at, self.published) = (dir.into(), true);
        sync_dir(parent(dir)).map_err(|e| Error::io(dir, e, "try again"))
    }
    /// From now on nothing is removed.
    pub fn keep(mut self) {
        self.kept = true;
    }
}
impl Drop for NewDir {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // An error is being reported already; what cannot be removed stays.
        if !self.published && !self.at.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.at);
        } else {
            let _ = fs::remove_dir(&self.at); // if it is empty
        }
        for dir in self.parents.iter().rev() {
            let _ = fs::remove_dir(dir);
        }
    }
}
/// Makes something under the first of these names that nothing has, also if
/// another program takes some of them meanwhile.
///
/// # Errors
/// The error of `make`, unless the name is taken and there is another one.
pub fn first_free<T>(
    names: &mut Peekable<impl Iterator<Item = PathBuf>>,
    mut make: impl FnMut(&Path) -> Result<T>,
) -> Result<T> {
    loop {
        let name = names.peek().map_or(PathBuf::new(), PathBuf::clone);
        match make(&name) {
            Err(e) => {
                let taken = name.symlink_metadata().is_ok();
                names.next();
                if !taken || names.peek().is_none() {
                    return Err(e);
                }
            }
            made => return made,
        }
    }
}
/// Whether another program that was refused may have taken away what it had made
/// above, between our look at it and our directory in it.
fn vanished(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists)
}
fn not_there(dir: &Path) -> Result<()> {
    let free = dir.symlink_metadata().is_err();
    let rule_ = "that exists, and nothing is written over it";
    rule(free, "the directory", dir.display(), rule_, "choose a new name")
}

/// A locked file, for as long as this lives: the system frees it when the
/// process dies, however it dies.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    /// Made now, and of no use to anyone yet.
    new: bool,
}
impl Lock {
    /// Locks the file, which is made if it is not there; no link is followed.
    /// On a file system without locks it is as if nobody else were there.
    ///
    /// # Errors
    /// If another process has it, whose number is told if it is known; if the
    /// file cannot be opened.
    pub fn take(path: &Path) -> Result<Self> {
        let cure = "correct the permissions";
        let io = |e| Error::io(path, e, cure);
        loop {
            let mut open = OpenOptions::new();
            open.read(true).write(true);
            let (file, new) = match open.clone().create_new(true).open(path) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                    let Ok(meta) = path.symlink_metadata() else { continue };
                    let plain = "a lock is a plain file";
                    let value = if meta.is_symlink() {
                        "a symbolic link"
                    } else {
                        "no plain file"
                    };
                    let shown = path.display();
                    rule(meta.is_file(), shown, value, plain, "remove it")?;
                    match open.open(path) {
                        Err(e) if e.kind() == ErrorKind::NotFound => continue,
                        file => (file.map_err(io)?, false),
                    }
                }
                file => (file.map_err(io)?, true),
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(in_use(path, file));
                }
                Err(TryLockError::Error(e))
                    if e.kind() == ErrorKind::Unsupported => {}
                Err(TryLockError::Error(e)) => return Err(io(e)),
            }
            // Else the name was given to another file in between.
            if is_at(&file, path) {
                return Ok(Self { file, path: path.into(), new });
            }
        }
    }
    /// Writes this process's number into the file, which stays from now on.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn sign(&mut self) -> Result<()> {
        let id = format!("{}\n", std::process::id());
        self.new = false;
        let written = self.file.set_len(0).and_then(|()| {
            self.file.rewind()?;
            self.file.write_all(id.as_bytes())
        });
        written.map_err(|e| Error::io(&self.path, e, "make room"))
    }
}
impl Drop for Lock {
    fn drop(&mut self) {
        if self.new && is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
fn in_use(path: &Path, mut file: File) -> Error {
    let mut id = String::new();
    let read = Read::take(&mut file, 20).read_to_string(&mut id);
    let id = read.ok().and_then(|_| id.trim().parse::<u32>().ok());
    let by = id.map_or("a process".into(), |id| format!("process {id}"));
    Error::input(
        parent(path).display(),
        format!("in use by {by}"),
        "two processes would spoil it",
        "wait for that one, or stop it",
    )
}
/// Whether the file of that name is this one.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let id = |m: fs::Metadata| (m.dev(), m.ino());
        let there = path.symlink_metadata().map(id).ok();
        there.is_some() && there == file.metadata().map(id).ok()
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

/// Opens a file that is to be read, and says how long it is: the one way in.
///
/// Only an ordinary file is opened. A directory, a device, a socket or a named
/// pipe is refused at once: some of them never end, and some never begin. What
/// was looked at is what was opened, also when somebody exchanges the file
/// meanwhile, and opening waits for nobody.
///
/// # Errors
/// If it cannot be opened, is no ordinary file, or is longer than `limit`.
pub fn open(path: &Path, limit: u64) -> Result<(File, u64)> {
    let (file, len) = open_as(path, |kind| kind == Kind::Ordinary)?;
    let Some(len) = len.filter(|&len| len <= limit) else {
        let value = format!("{} bytes long", len.unwrap_or_default());
        let rule = format!("at most {limit} bytes are read of such a file");
        let cure = "check that it is the right file";
        return Err(Error::input(path.display(), value, rule, cure));
    };
    Ok((file, len))
}
/// [`open`], also for a pipe, whose length nobody knows; it is to be read by
/// [`read_some`]. The path `-` is the standard input.
///
/// # Errors
/// As [`open`].
pub fn open_or_pipe(path: &Path) -> Result<(File, Option<u64>)> {
    let stdin = Path::new("/dev/stdin");
    let path = if path == "-" { stdin } else { path };
    open_as(path, |kind| kind != Kind::Other)
}
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Ordinary,
    Pipe,
    Other,
}
fn kind(m: &fs::Metadata) -> Kind {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if m.file_type().is_fifo() {
            return Kind::Pipe;
        }
    }
    if m.is_file() { Kind::Ordinary } else { Kind::Other }
}
/// Opens a file of a kind that is taken; its length, if it has one.
fn open_as(
    path: &Path, taken: impl Fn(Kind) -> bool,
) -> Result<(File, Option<u64>)> {
    let io = |e| Error::io(path, e, CHECK);
    let wrong = |value: &str, cure: &str| {
        let rule = "it has to be an ordinary file";
        Err(Error::input(path.display(), value, rule, cure))
    };
    let other = |m: &fs::Metadata| {
        let value = match kind(m) {
            kind if taken(kind) => return Ok(()),
            _ if m.is_dir() => "a directory",
            Kind::Pipe => "a pipe",
            _ => "a device",
        };
        wrong(value, "name a file, or copy what you need into one")
    };
    // Opening a device may already do something, so it is looked at first.
    other(&fs::metadata(path).map_err(io)?)?;
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    }
    let mut file = options.open(path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    other(&meta)?;
    if kind(&meta) == Kind::Pipe {
        return Ok((file, None));
    }
    // The system's own files have no length, and some of them no end.
    if meta.len() == 0 && !matches!(file.read(&mut [0]), Ok(0)) {
        let value = "without a length, but not empty";
        wrong(value, "copy what you need of it into a file")?;
    }
    Ok((file, Some(meta.len())))
}
const CHECK: &str = "check the path and its permissions";

/// Reads what there is of a file or a pipe into `to`, and waits for more where
/// the pipe's other end is still open. 0 is the end.
///
/// # Errors
/// If it cannot be read.
pub fn read_some(file: &mut File, to: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(to) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(10));
            }
            read => return read,
        }
    }
}

/// Reads a file of at most `limit` bytes, through [`open`].
///
/// # Errors
/// If it cannot be opened or read, or memory is too small for it.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let (file, len) = open(path, limit)?;
    system::check(path.display(), len)?;
    let mut bytes = Vec::with_capacity(len as usize);
    // Not beyond its length: it may grow for ever.
    let read = file.take(len).read_to_end(&mut bytes);
    read.map_err(|e| Error::io(path, e, CHECK))?;
    Ok(bytes)
}
/// Bytes of a file whose only limit is memory.
pub const ANY: u64 = u64::MAX;
/// Bytes that a config, or another small file of settings, may have.
pub const SMALL: u64 = 1 << 20;
