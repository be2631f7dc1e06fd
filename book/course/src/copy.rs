//! Writes the library with holes: a crate of its own, whose parts it takes from
//! the clone.

use crate::cut::{Mode, cut, without_formulas};
use crate::holes::{Hole, OURS, Track};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// The file that says which folder is a copy, and of which clone.
pub(crate) const NAME: &str = "build-it.txt";

/// What is not in the copy: the answers once more, in f32; what compares with
/// PyTorch; the command.
const LEFT_OUT: [&str; 6] = [
    "src/kernel/fast/",
    "src/kernel/normal.rs",
    "src/kernel/product.rs",
    "src/kernel/simd/tile.rs",
    "src/oracle.rs",
    "src/bin/",
];
const LEFT_OUT_MODULES: [&str; 5] =
    ["fast", "normal", "product", "tile", "oracle"];
/// Where the judge draws its numbers: from a generator that nobody writes.
const JUDGES: [&str; 4] = [
    "src/gradcheck.rs",
    "src/check/tools.rs",
    "src/check/parity.rs",
    "src/check/model.rs",
];

/// All files of the copy, by name.
pub(crate) fn files(
    track: &Track, mode: Mode,
) -> Result<Vec<(String, String)>> {
    let mut all = vec![];
    let modules = match mode {
        Mode::Cut => "#[macro_use]\npub mod hole;\n",
        Mode::Switch => {
            "#[macro_use]\npub mod hole;\n#[macro_use]\npub mod switch;\n"
        }
    };
    for source in &track.sources.files {
        let file = &source.file;
        let left_out = LEFT_OUT.iter().any(|l| file.starts_with(l));
        if left_out || !file.starts_with("src/") {
            continue;
        }
        let holes: Vec<&Hole> =
            track.holes.iter().filter(|h| h.file == *file).collect();
        let text = cut(&source.text, &holes, mode);
        let mut text = text.with_context(|| file.clone())?;
        for module in LEFT_OUT_MODULES {
            text = without_module(&text, module);
        }
        if JUDGES.contains(&&file[..]) {
            text =
                text.replace("use crate::rng::Rng;", "use crate::draws::Rng;");
        }
        if file == "src/lib.rs" {
            let first = "pub mod error;\n";
            ensure!(text.contains(first), "src/lib.rs: no `pub mod error;`");
            text = text.replace(first, &format!("{modules}{first}"));
            let last = "pub mod rng;\n";
            ensure!(text.contains(last), "src/lib.rs: no `pub mod rng;`");
            text = text.replace(last, "pub mod rng;\npub mod draws;\n");
        }
        all.push((file.clone(), text));
    }
    let mut ours =
        vec![("hole.rs", "src/hole.rs"), ("draws.rs", "src/draws.rs")];
    ours.push(("judge.rs", "judge.rs"));
    ours.push(("early.rs", "early.rs"));
    ours.push(("milestone.rs", "milestone/main.rs"));
    if mode == Mode::Switch {
        ours.push(("switch.rs", "src/switch.rs"));
        ours.push(("singly.rs", "singly.rs"));
    }
    for (from, to) in ours {
        let path = Path::new(OURS).join(from);
        let text = fs::read_to_string(&path).context(from)?;
        // here, a rung of the ladder lies elsewhere
        let text = text.lines().filter(|l| !l.starts_with("#[path = "));
        let text = text.map(|l| format!("{l}\n")).collect();
        all.push((to.to_string(), text));
    }
    // a rung of the ladder, and something to read
    let alone = registry::read(&track.root, "tests/ladder/alone.rs")?;
    all.push(("milestone/alone.rs".into(), without_formulas(&alone)));
    let text = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    let text = text.map(|f| registry::read(&track.root, f));
    let text = text.into_iter().collect::<Result<String, _>>()?;
    all.push(("text.txt".into(), text));
    all.push(("Cargo.toml".into(), manifest(track, mode)?));
    all.push(("Cargo.lock".into(), registry::read(&track.root, "Cargo.lock")?));
    all.push((".cargo/config.toml".into(), config(track)));
    all.push((".gitignore".into(), "/target\n/my-model.safetensors\n".into()));
    all.push((NAME.into(), "Made by `cargo course build`.\n".into()));
    Ok(all)
}
/// A text without the line that names a module.
fn without_module(text: &str, module: &str) -> String {
    let names = |line: &str| {
        let name = line.rsplit(' ').next().unwrap_or_default();
        line.contains("mod ") && name.strip_suffix(';') == Some(module)
    };
    let lines: Vec<&str> = text.lines().collect();
    let mut out = String::with_capacity(text.len());
    for (i, line) in lines.iter().enumerate() {
        let attribute = line.starts_with("#[expect")
            && lines.get(i + 1).is_some_and(|next| names(next));
        if !attribute && !names(line) {
            out += line;
            out.push('\n');
        }
    }
    out
}
fn manifest(track: &Track, mode: Mode) -> Result<String> {
    let text = registry::read(&track.root, "Cargo.toml")?;
    let theirs: toml::Table = toml::from_str(&text).context("Cargo.toml")?;
    let package = theirs.get("package").context("Cargo.toml: no package")?;
    let field = |name: &str| {
        let value = package.get(name).and_then(|v| v.as_str());
        value.with_context(|| format!("Cargo.toml: no {name}"))
    };
    let mut ours = toml::Table::new();
    for name in ["dependencies", "target"] {
        let mut table = theirs.get(name).cloned().context("dependencies")?;
        let platforms = table.as_table_mut().filter(|_| name == "target");
        for (_, platform) in platforms.into_iter().flatten() {
            if let Some(platform) = platform.as_table_mut() {
                platform.remove("dev-dependencies");
            }
        }
        ours.insert(name.into(), table);
    }
    let dependencies = toml::to_string(&ours)?;
    let mut programs =
        vec![("judge", "judge.rs"), ("milestone", "milestone/main.rs")];
    if mode == Mode::Switch {
        programs.push(("singly", "singly.rs"));
    }
    let programs: String = programs
        .iter()
        .map(|(name, path)| {
            format!(
                "[[bin]]\nname = {name:?}\npath = {path:?}\ntest = false\n\n"
            )
        })
        .collect();
    let (name, version) = (field("name")?, field("version")?);
    let (edition, rust) = (field("edition")?, field("rust-version")?);
    Ok(format!(
        "[package]\nname = {name:?}\nversion = {version:?}\nedition = \
         {edition:?}\nrust-version = {rust:?}\npublish = false\nautobins = \
         false\ndefault-run = \"judge\"\n\n[lib]\ntest = false\ndoctest = \
         false\n\n{programs}{dependencies}\n[profile.dev] # quick to build, \
         and it still trains\nopt-level = 1\ndebug = false\n\n[lints.rust]\n\
         unsafe_code = \"deny\"\nunused = \"allow\" # a hole uses nothing\n\n\
         [workspace]\n"
    ))
}
/// `cargo course` works inside of the copy as well.
fn config(track: &Track) -> String {
    let manifest = track.root.join("Cargo.toml");
    let manifest = manifest.display().to_string();
    let words = ["run", "--quiet", "--manifest-path", &manifest, "--package"];
    let words = [&words[..], &["course", "--"]].concat();
    // As the clone has it, which may lie above: one text. Only a path with
    // blanks needs a list.
    let alias = match manifest.contains(' ') {
        true => format!("{words:?}"),
        false => format!("{:?}", words.join(" ")),
    };
    format!("[alias]\ncourse = {alias}\n\n[net]\noffline = true\n")
}

/// Writes the copy into a folder that is new or empty.
pub(crate) fn write(track: &Track, folder: &Path, mode: Mode) -> Result<()> {
    let said = folder.display();
    if folder.exists() {
        ensure!(folder.is_dir(), "{said}: is a file; name a new folder");
        let mut entries = fs::read_dir(folder)?;
        ensure!(
            entries.next().is_none(),
            "{said}: is not empty; name a new folder"
        );
    }
    for (name, text) in files(track, mode)? {
        let path = folder.join(&name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .with_context(|| parent.display().to_string())?;
        }
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Where the folder is noted that was made last.
fn note(track: &Track) -> PathBuf {
    track.root.join("target/course/build-it.txt")
}
pub(crate) fn remember(track: &Track, folder: &Path) -> Result<()> {
    let (note, folder) = (note(track), std::path::absolute(folder)?);
    if let Some(parent) = note.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(fs::write(note, folder.display().to_string())?)
}
/// The copy that is meant: the one that is named, the one around us, or the
/// one that was made last.
pub(crate) fn find(track: &Track, folder: Option<&Path>) -> Result<PathBuf> {
    let is_copy = |f: &Path| f.join(NAME).exists();
    if let Some(folder) = folder {
        let said = folder.display();
        ensure!(
            is_copy(folder),
            "{said}: is no copy; `cargo course build {said}` makes one"
        );
        return Ok(std::path::absolute(folder)?);
    }
    let here = std::env::current_dir()?;
    if let Some(copy) = here.ancestors().find(|f| is_copy(f)) {
        return Ok(copy.to_path_buf());
    }
    let last = fs::read_to_string(note(track)).unwrap_or_default();
    let last = PathBuf::from(last);
    ensure!(
        is_copy(&last),
        "there is no copy yet; `cargo course build my-moe` makes one"
    );
    Ok(last)
}
