//! The compiler, and programs that run within limits.

use crate::assignment::{Assignment, Sources};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What stands around the student's files.
pub(crate) const HARNESS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/harness");

/// What is compiled once, and what this machine grants.
pub(crate) struct Machine {
    rustc: PathBuf,
    pub(crate) toolchain: String,
    /// `target/course`.
    folder: PathBuf,
    /// A folder of this process, below it.
    work: PathBuf,
    /// A sysroot with `core` and `alloc` only, for submissions.
    pub(crate) bare: Option<PathBuf>,
    pub(crate) grants: Grants,
    /// Whether a program is at the same addresses in every run, so that one that
    /// looks at them gets the same grade every time.
    pub(crate) steady: bool,
}
/// What the system grants to keep a program apart.
#[derive(Clone, Copy)]
pub(crate) struct Grants {
    /// Of processor time, and of the length of a file.
    pub(crate) limits: bool,
    /// A limit of memory.
    pub(crate) memory: bool,
    pub(crate) namespaces: bool,
}
impl Grants {
    /// What a system of this name grants: on a Mac the shell limits no memory,
    /// and Windows has no such shell.
    fn of(os: &str, namespaces: impl FnOnce() -> bool) -> Self {
        Self {
            limits: os != "windows",
            memory: !["macos", "windows"].contains(&os),
            namespaces: os == "linux" && namespaces(),
        }
    }
    pub(crate) fn missing(self) -> Vec<&'static str> {
        let Self { limits, memory, namespaces } = self;
        let all = [
            (limits, "limits"),
            (memory, "memory limit"),
            (namespaces, "namespaces"),
        ];
        let missing = all.into_iter().filter(|(there, _)| !there);
        missing.map(|(_, what)| what).collect()
    }
}
impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.work);
    }
}

/// How a program ended.
pub(crate) enum End {
    Exit {
        good: bool,
        out: String,
        err: String,
    },
    /// By a signal, in words.
    Killed {
        signal: String,
        err: String,
    },
    /// After so many seconds.
    TimeOut(u64),
}

/// What a program may take.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) seconds: u64,
    pub(crate) megabytes: u64,
    /// In namespaces of its own: no processes of others, no network.
    pub(crate) namespaces: bool,
    /// Whether it may write files, none of them too long.
    pub(crate) writes: bool,
}
const COMPILER: Limits =
    Limits { seconds: 60, megabytes: 6000, namespaces: false, writes: true };

impl Machine {
    pub(crate) fn new() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let target = target.unwrap_or_else(|| root.join("target"));
        let folder = std::path::absolute(target)?.join("course");
        let work = folder.join(format!("work-{}", std::process::id()));
        fs::create_dir_all(&work)
            .with_context(|| work.display().to_string())?;
        tidy(&folder);
        let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
        let ask = |arguments: &[&str]| -> Result<String> {
            let asked = Command::new(&rustc).args(arguments).output();
            let asked = asked.context("rustc cannot be run")?;
            ensure!(asked.status.success(), "rustc {}", arguments.join(" "));
            Ok(String::from_utf8(asked.stdout)?.trim().to_string())
        };
        let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?);
        let libraries = PathBuf::from(ask(&["--print", "target-libdir"])?);
        // the compiler itself, so that it needs no environment
        let real = sysroot.join("bin/rustc");
        let toolchain = ask(&["--version"])?;
        let rustc = if real.exists() { real } else { rustc.into() };
        let granted = |words: &[&str]| {
            let mut c = Command::new(words[0]);
            c.args(&words[1..]).arg("true").stderr(Stdio::null());
            c.status().is_ok_and(|s| s.success())
        };
        let os = std::env::consts::OS;
        let mut machine = Self {
            rustc,
            toolchain,
            folder,
            work,
            bare: None,
            grants: Grants::of(os, || granted(NAMESPACES)),
            steady: os == "linux" && granted(STEADY),
        };
        machine.bare = machine.sysroot(&sysroot, &libraries).ok();
        Ok(machine)
    }
    /// A sysroot in which `extern crate std` finds nothing.
    fn sysroot(&self, sysroot: &Path, libraries: &Path) -> Result<PathBuf> {
        let bare = self.work.join("sysroot");
        let inside = bare.join(libraries.strip_prefix(sysroot)?);
        fs::create_dir_all(&inside)?;
        let mut found = 0;
        for entry in fs::read_dir(libraries)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let wanted = ["libcore-", "liballoc-", "libcompiler_builtins-"];
            let wanted = wanted.iter().any(|w| name.starts_with(w));
            // newer compilers keep what a library offers in a file of its own
            let library = name.ends_with(".rlib");
            if wanted && (library || name.ends_with(".rmeta")) {
                let (from, to) = (entry.path(), inside.join(&name));
                fs::hard_link(&from, &to)
                    .or_else(|_| fs::copy(&from, &to).map(drop))?;
                found += usize::from(library);
            }
        }
        ensure!(found == 3, "core, alloc and compiler_builtins");
        Ok(bare)
    }
    /// An empty folder below `target/course`.
    pub(crate) fn room(&self, name: &str) -> Result<PathBuf> {
        let room = self.work.join(name);
        if room.exists() {
            fs::remove_dir_all(&room)?;
        }
        fs::create_dir_all(&room)?;
        Ok(room)
    }
    /// Runs the compiler; what it complains about, or nothing.
    fn compile(
        &self, folder: &Path, arguments: &[&str],
    ) -> Result<Option<String>> {
        let mut c = Command::new(&self.rustc);
        c.args(["--edition", "2024", "--error-format", "short"]);
        c.args(["-C", "debug-assertions", "-C", "opt-level=1"]);
        c.args(["-C", "panic=abort", "-C", "debuginfo=0"]);
        c.args(arguments).current_dir(folder);
        Ok(match self.run(c, "", COMPILER)? {
            End::Exit { good: true, err, .. } if err.is_empty() => None,
            End::Exit { err, .. } => Some(err),
            End::Killed { signal, .. } => {
                Some(format!("the compiler was ended by {signal}"))
            }
            End::TimeOut(s) => Some(format!("not compiled after {s} s")),
        })
    }
    /// The kit.
    fn kit(&self) -> Result<PathBuf> {
        let kit = self.work.join("libkit.rlib");
        if !kit.exists() {
            let from = Path::new(HARNESS).join("kit/lib.rs");
            let bare = self.bare.as_ref().map(|b| b.display().to_string());
            let (from, to) =
                (from.display().to_string(), kit.display().to_string());
            let mut arguments = vec![
                "--crate-type",
                "lib",
                "--crate-name",
                "kit",
                "-D",
                "warnings",
                &from,
                "-o",
                &to,
            ];
            if let Some(bare) = &bare {
                arguments.extend(["--sysroot", bare]);
            }
            if let Some(e) = self.compile(&self.work, &arguments)? {
                bail!("the kit: {e}");
            }
        }
        Ok(kit)
    }
    /// A program of the harness, out of its files and those of the assignment.
    fn program(
        &self, a: &Assignment, room: &Path, main: &str, files: &[&str],
        own: &str, more: &[&str],
    ) -> Result<PathBuf> {
        for file in [main, "rest.rs"].iter().chain(files) {
            fs::copy(Path::new(HARNESS).join(file), room.join(file))
                .with_context(|| file.to_string())?;
        }
        fs::copy(a.folder.join(own), room.join(own))
            .with_context(|| format!("{}: {own}", a.id))?;
        let kit = format!("kit={}", self.kit()?.display());
        let to = room.join(main.trim_end_matches(".rs"));
        let out = to.display().to_string();
        let mut arguments = vec![main, "-o", &out, "--extern", &kit];
        arguments.extend(more);
        arguments.extend(["-D", "warnings", "-A", "dead_code"]);
        // a submission may mark a function so that has no value
        arguments.extend(["-A", "unused_must_use"]);
        if let Some(e) = self.compile(room, &arguments)? {
            bail!("{}: {main}: {e}", a.id);
        }
        Ok(to)
    }
    /// What the judge of an assignment says about a variant and a seed.
    pub(crate) fn judge(
        &self, a: &Assignment, variant: &str, seed: u64,
    ) -> Result<String> {
        // compiled once for each version of its sources
        let mut hash = DefaultHasher::new();
        self.toolchain.hash(&mut hash);
        let sources = ["judge.rs", "dual.rs", "rest.rs", "kit/lib.rs"];
        let sources = sources.map(|f| Path::new(HARNESS).join(f));
        for file in sources.iter().chain([&a.folder.join("cases.rs")]) {
            fs::read(file)
                .with_context(|| file.display().to_string())?
                .hash(&mut hash);
        }
        let name = format!("judge-{}-{:016x}", a.id, hash.finish());
        let judge = self.folder.join(name);
        if !judge.exists() {
            let room = self.room(&format!("judge-{}", a.id))?;
            let made = self.program(
                a,
                &room,
                "judge.rs",
                &["dual.rs"],
                "cases.rs",
                &[],
            )?;
            fs::rename(made, &judge)?;
        }
        let mut c = Command::new(&judge);
        c.args([variant, &seed.to_string()]);
        let limits = Limits {
            seconds: 60,
            megabytes: 2000,
            namespaces: false,
            writes: false,
        };
        match self.run(c, "", limits)? {
            End::Exit { good: true, out, .. } => Ok(out),
            End::Exit { err, .. } | End::Killed { err, .. } => {
                bail!("the judge of {}: {err}", a.id)
            }
            End::TimeOut(s) => bail!("the judge of {} took {s} s", a.id),
        }
    }
    /// What a submission names that it may not, a line each. A process of its own
    /// looks, because a file may be written to exhaust whoever parses it.
    pub(crate) fn scan(&self, name: &str, text: &str) -> Result<Vec<String>> {
        let mut c = Command::new(std::env::current_exe()?);
        c.args(["scan", name]);
        let limits = Limits {
            seconds: 20,
            megabytes: 2000,
            namespaces: false,
            writes: false,
        };
        Ok(match self.run(c, text, limits)? {
            End::Exit { good: true, out, .. } => {
                out.lines().map(str::to_string).collect()
            }
            _ => vec![format!("{name}: too deep or too long to be read")],
        })
    }
    /// Builds a submission: the listed files over a pristine tree. Gives the
    /// program that runs its cases, or what the compiler says.
    pub(crate) fn submission(
        &self, a: &Assignment, files: &Sources, room: &Path,
    ) -> Result<Result<PathBuf, String>> {
        let src = room.join("submission");
        fs::create_dir_all(&src)?;
        fs::write(src.join("lib.rs"), pristine(a))?;
        for (name, text) in files {
            fs::write(src.join(name), text)?;
        }
        let kit = format!("kit={}", self.kit()?.display());
        let library = room.join("libsubmission.rlib");
        let out = library.display().to_string();
        let bare = self.bare.as_ref().map(|b| b.display().to_string());
        let mut arguments = vec![
            "--crate-type",
            "lib",
            "--crate-name",
            "submission",
            "lib.rs",
            "-o",
            &out,
            "--extern",
            &kit,
            "-F",
            "unsafe_code",
        ];
        if let Some(bare) = &bare {
            arguments.extend(["--sysroot", bare]);
        }
        let said = self.compile(&src, &arguments)?;
        // warnings are no errors, but the starter has none
        if let Some(said) = said.filter(|_| !library.exists()) {
            return Ok(Err(said));
        }
        let submission = format!("submission={out}");
        let child = self.program(
            a,
            room,
            "child.rs",
            &["count.rs"],
            "call.rs",
            &["--extern", &submission],
        );
        // a submission without the functions that the cases call
        Ok(child.map_err(|e| called(a, &format!("{e:#}"))))
    }
    /// Warnings of a submission, for `verify`.
    pub(crate) fn warnings(
        &self, a: &Assignment, files: &Sources, room: &Path,
    ) -> Result<Option<String>> {
        fs::write(room.join("lib.rs"), pristine(a))?;
        for (name, text) in files {
            fs::write(room.join(name), text)?;
        }
        let kit = format!("kit={}", self.kit()?.display());
        let arguments = [
            "--crate-type",
            "lib",
            "--emit",
            "metadata",
            "--crate-name",
            "submission",
            "lib.rs",
            "--extern",
            &kit,
            "-F",
            "unsafe_code",
        ];
        self.compile(room, &arguments)
    }
    /// Runs a program, in namespaces and within limits where they are granted.
    pub(crate) fn run(
        &self, program: Command, stdin: &str, limits: Limits,
    ) -> Result<End> {
        let mut command = self.limited(&program, limits);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let name = program.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().with_context(|| name.clone())?;
        let (mut to, told) = (child.stdin.take(), stdin.to_string());
        let writer = std::thread::spawn(move || {
            if let Some(to) = &mut to {
                let _ = to.write_all(told.as_bytes());
            }
        });
        let out = reader(child.stdout.take());
        let err = reader(child.stderr.take());
        // processor time ends it first; this is for one that sleeps, and long
        // enough for a machine that has much else to do
        let wall = Duration::from_secs(20 + 5 * limits.seconds);
        let (start, mut pause) = (Instant::now(), 1);
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if start.elapsed() > wall {
                break None;
            }
            std::thread::sleep(Duration::from_millis(pause));
            pause = (2 * pause).min(50);
        };
        // whatever it left behind goes, too
        let apart = limits.namespaces && self.grants.namespaces;
        if cfg!(unix) && (status.is_none() || !apart) {
            let group = format!("-{}", child.id());
            let _ = Command::new("kill")
                .args(["-KILL", "--", &group])
                .stderr(Stdio::null())
                .status();
        }
        let _ = child.kill();
        let _ = child.wait();
        let _ = writer.join();
        let out = out.join().unwrap_or_default();
        let err = err.join().unwrap_or_default();
        let Some(status) = status else {
            return Ok(End::TimeOut(wall.as_secs()));
        };
        // a shell or `unshare` tells a signal as 128 and its number
        #[cfg(unix)]
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        #[cfg(not(unix))]
        let signal: Option<i32> = None;
        let signal =
            signal.or(status.code().filter(|c| *c > 128).map(|c| c - 128));
        Ok(match signal {
            Some(9 | 24) => End::TimeOut(limits.seconds),
            Some(s) => End::Killed { signal: words(s), err },
            None => End::Exit { good: status.success(), out, err },
        })
    }
    fn limited(&self, program: &Command, limits: Limits) -> Command {
        let mut command;
        if self.grants.limits {
            let (time, memory) = (limits.seconds, 1000 * limits.megabytes);
            // in blocks of 512 or 1024 bytes
            let length = if limits.writes { 200_000 } else { 0 };
            let script = format!(
                "ulimit -c 0; ulimit -t {time}; ulimit -v {memory} \
                 2>/dev/null; ulimit -f {length}; \"$0\" \"$@\"; exit $?"
            );
            let apart = limits.namespaces && self.grants.namespaces;
            let mut words = if apart { NAMESPACES.to_vec() } else { vec![] };
            words.extend(if self.steady { STEADY } else { &[] });
            words.extend(["sh", "-c", &script]);
            command = Command::new(words[0]);
            command.args(&words[1..]).arg(program.get_program());
        } else {
            command = Command::new(program.get_program());
        }
        command.args(program.get_args());
        // nothing of this process's own environment, such as a seed
        command.env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        if let Some(folder) = program.get_current_dir() {
            // what a killed compiler or linker leaves goes with the folder
            command.current_dir(folder).env("TMPDIR", folder);
        }
        command
    }
}
/// Own user, process ids, network and messages; the child dies with its parent.
const NAMESPACES: &[&str] = &[
    "unshare",
    "--user",
    "--map-root-user",
    "--pid",
    "--net",
    "--ipc",
    "--fork",
    "--kill-child",
];
/// No address is random.
const STEADY: &[&str] = &["setarch", "-R"];

/// The part of a submission that is not the student's.
pub(crate) fn pristine(a: &Assignment) -> String {
    let mut text =
        "//! The files of the assignment; the grader has its own copy \
         of this one.\n#![no_std]\n#![allow(unused, reason = \"a function \
         that is not written yet\")]\n\n"
            .to_string();
    for file in &a.files {
        text += &format!("pub mod {};\n", file.trim_end_matches(".rs"));
    }
    text
}

/// What the compiler says where a case calls a submission, and how it calls.
fn called(a: &Assignment, said: &str) -> String {
    let line = said.lines().find_map(|l| {
        let (number, rest) = l.split_once("call.rs:")?.1.split_once(':')?;
        let at = rest.find("error")?;
        Some((number.parse::<usize>().ok()?, rest[at..].to_string()))
    });
    let Some((number, error)) = line else { return said.to_string() };
    let text = fs::read_to_string(a.folder.join("call.rs"));
    let text = text.unwrap_or_default();
    let call = text.lines().nth(number - 1).unwrap_or_default().trim();
    if call.contains('(') {
        format!("{error}; a case calls `{call}`")
    } else {
        error
    }
}

/// Removes what killed graders left behind, after a day.
fn tidy(folder: &Path) {
    let old = |path: &Path| {
        let age = fs::metadata(path).and_then(|m| m.modified());
        let age = age.ok().and_then(|t| t.elapsed().ok());
        age.is_some_and(|age| age > Duration::from_secs(86_400))
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("work-") && old(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The first million bytes that come, in the background.
fn reader(
    from: Option<impl Read + Send + 'static>,
) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = vec![];
        if let Some(mut from) = from {
            let _ = from.by_ref().take(1 << 20).read_to_end(&mut bytes);
            let _ = std::io::copy(&mut from, &mut std::io::sink());
        }
        plain(&String::from_utf8_lossy(&bytes))
    })
}
/// The text without what a terminal or a reader of XML would not show but obey:
/// signs that move the cursor, that turn the direction, that are none.
pub(crate) fn plain(text: &str) -> String {
    let one = |c| match c {
        '\n' | '\t' => c,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(one).collect()
}

fn words(signal: i32) -> String {
    match signal {
        4 => "an illegal instruction (signal 4)".into(),
        6 => "abort (signal 6)".into(),
        11 => "a fault of memory, such as a stack that overflows (signal 11)"
            .into(),
        25 => "writing a file that is too long (signal 25)".into(),
        s => format!("signal {s}"),
    }
}

#[cfg(test)]
mod tests {
    use super::Grants;

    #[test]
    fn each_system_says_what_it_lacks() {
        let missing = |os, unshare| Grants::of(os, || unshare).missing();
        assert!(missing("linux", true).is_empty());
        assert_eq!(missing("linux", false), ["namespaces"]);
        // not even asked for
        assert_eq!(missing("macos", true), ["memory limit", "namespaces"]);
        let all = ["limits", "memory limit", "namespaces"];
        assert_eq!(missing("windows", true), all);
    }
}
