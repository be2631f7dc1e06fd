//! Commands that texts print can be typed: cargo knows what they ask for. What
//! a program of the project is given, its own tests look at.

use anyhow::Result;
use regex::Regex;
use registry::{Printed, Sources, hint};
use std::path::Path;

/// What cargo does here, itself or by an extension, and whose options are not
/// looked at.
const OTHERS: &[&str] = &["install", "mutants"];
const COMMANDS: &[&str] = &[
    "run", "test", "bench", "build", "check", "clippy", "doc", "fmt", "rustc",
];
/// Options of cargo that stand alone.
const FLAGS: &[&str] = &[
    "--release",
    "--quiet",
    "--workspace",
    "--lib",
    "--doc",
    "--no-deps",
    "--all-targets",
    "--all",
    "--check",
];
/// Options of cargo that name something.
const NAMED: &[&str] = &[
    "-p",
    "--package",
    "--bin",
    "--example",
    "--test",
    "--profile",
    "--target",
];
/// Options of what `cargo bench` runs.
const OF_BENCH: &[&str] = &["--test", "--quick", "--list"];
/// Where the scenarios have their names.
const SCENARIOS: &str = "benches/scenarios/list.rs";

/// What cargo can be asked for here.
#[derive(Default)]
struct Workspace {
    /// Packages, binaries, examples, profiles: the option, and a name for it.
    names: Vec<(&'static str, String)>,
    /// Programs of tests: the name, and its tests.
    tests: Vec<(String, Vec<String>)>,
    /// What may stand in quotes in the list of scenarios.
    scenarios: Vec<String>,
}

/// Commands that cargo would refuse, or that would run no test; one line each.
pub(crate) fn faults(root: &Path) -> Result<Vec<String>> {
    let printed = registry::commands(root)?;
    if printed.is_empty() {
        return Ok(Vec::new());
    }
    let workspace = Workspace::read(root)?;
    let faults = printed.iter().flat_map(|p| {
        let faults = workspace.faults(p).into_iter();
        faults.map(move |what| format!("{p}: {what}"))
    });
    Ok(faults.collect())
}

impl Workspace {
    /// Reads the manifests, and the names of all tests.
    fn read(root: &Path) -> Result<Workspace> {
        let manifest = |folder: &str| -> Result<toml::Table> {
            let file = Path::new(folder).join("Cargo.toml");
            let file = file.to_string_lossy().replace('\\', "/");
            let file = file.trim_start_matches("./");
            // A fixture has some of them only.
            Ok(registry::read(root, file).unwrap_or_default().parse()?)
        };
        let top = manifest(".")?;
        let list = top.get("workspace").and_then(|w| w.get("members"));
        let members = list.and_then(|m| m.as_array()).into_iter().flatten();
        let members = members.filter_map(|m| m.as_str());
        let sources = Sources::load(root)?;
        let mut w = Workspace::default();
        for name in ["dev", "release", "test", "bench"] {
            w.names.push(("--profile", name.into()));
        }
        for (name, _) in
            top.get("profile").and_then(|p| p.as_table()).into_iter().flatten()
        {
            w.names.push(("--profile", name.clone()));
        }
        for folder in members {
            let manifest = manifest(folder)?;
            let name = manifest.get("package").and_then(|p| p.get("name"));
            let package = name.and_then(|n| n.as_str()).unwrap_or_default();
            w.names.push(("--package", package.into()));
            for (key, option) in [("bin", "--bin"), ("example", "--example")] {
                let names = targets(&manifest, key).map(|t| t.0);
                w.names.extend(names.map(|name| (option, name)));
            }
            let tests = targets(&manifest, "test")
                .filter_map(|(n, path)| Some((n, path?)));
            let tests = tests.map(|(n, path)| (n, under(folder, &path)));
            for (name, file) in tests.chain(found(root, folder)?) {
                let inside = tests_of(root, &file, &sources);
                w.tests.push((name, inside));
            }
        }
        let list = registry::read(root, SCENARIOS).unwrap_or_default();
        let quoted = list.split('"').skip(1).step_by(2);
        w.scenarios = quoted.map(String::from).collect();
        Ok(w)
    }

    fn faults(&self, printed: &Printed) -> Vec<String> {
        let mut words: Vec<&str> =
            printed.words.iter().map(String::as_str).collect();
        // What is the reader's to fill in is no name.
        let open =
            |w: &str| w.len() > 2 && w.chars().all(|c| c.is_ascii_uppercase());
        if words[0] != "cargo" {
            return Vec::new();
        }
        words.remove(0);
        if words[0].starts_with('+') {
            words.remove(0);
        }
        if words.starts_with(&["miri"]) {
            words.remove(0);
        }
        let Some((&command, words)) = words.split_first() else {
            return Vec::new();
        };
        if OTHERS.contains(&command) {
            return Vec::new();
        }
        if !COMMANDS.contains(&command) {
            let otherwise = "name an alias of .cargo/config.toml, or one of \
                             cargo's own";
            let near = hint(command, COMMANDS.iter().copied(), otherwise);
            return vec![format!("there is no `cargo {command}`; {near}")];
        }
        let end = words.iter().position(|w| *w == "--");
        let (own, given) = match end {
            Some(at) => (&words[..at], &words[at + 1..]),
            None => (words, &[][..]),
        };
        let (mut faults, mut filters) = (Vec::new(), Vec::new());
        let mut test = None;
        let mut own = own.iter().copied();
        while let Some(word) = own.next() {
            if NAMED.contains(&word) {
                let name = own.next().unwrap_or_default();
                if !open(name) {
                    faults.extend(self.unknown(word, name));
                }
                test = test.or((word == "--test").then_some(name));
            } else if !word.starts_with('-') {
                filters.push(word);
            } else if !FLAGS.contains(&word) {
                faults.push(format!(
                    "{word} is no option that book/tool/commands.rs knows of; \
                     correct it, or add it there"
                ));
            }
        }
        match command {
            "test" => {
                if filters.len() > 1 {
                    faults.push(format!(
                        "cargo test takes one filter only; write `--` before \
                         `{}`",
                        filters.join(" ")
                    ));
                }
                filters.extend(given.iter().filter(|w| !w.starts_with('-')));
                faults.extend(
                    filters.iter().filter_map(|f| self.no_test(test, f)),
                );
            }
            "bench" => {
                filters.extend(given);
                faults
                    .extend(filters.iter().filter_map(|f| self.no_scenario(f)));
            }
            _ => {}
        }
        faults
    }

    /// What an option names is not there.
    fn unknown(&self, option: &str, name: &str) -> Option<String> {
        let option = if option == "-p" { "--package" } else { option };
        let of = |(o, name): &'_ (&'static str, String)| {
            (*o == option).then(|| name.clone())
        };
        let known: Vec<String> = match option {
            "--target" => return None,
            "--test" => self.tests.iter().map(|t| t.0.clone()).collect(),
            _ => self.names.iter().filter_map(of).collect(),
        };
        (!known.iter().any(|k| k == name)).then(|| {
            let names = known.iter().map(String::as_str);
            let near = hint(name, names, "correct the name");
            format!("{option} {name}: no manifest has it; {near}")
        })
    }

    /// No test has this in its name.
    fn no_test(&self, program: Option<&str>, filter: &str) -> Option<String> {
        let asked = |t: &&(String, _)| program.is_none_or(|p| t.0 == p);
        let mut programs = self.tests.iter().filter(asked).peekable();
        programs.peek()?; // of another one something else is said
        let mut tests = programs.flat_map(|t| &t.1);
        (!tests.any(|test| test.contains(filter))).then(|| {
            format!(
                "no test has `{filter}` in its name; correct the filter, or \
                 take the line out"
            )
        })
    }

    /// No scenario has this in its name, and it is no option.
    fn no_scenario(&self, filter: &str) -> Option<String> {
        if filter.starts_with('-') {
            let known = OF_BENCH.contains(&filter);
            return (!known).then(|| {
                format!("{filter} is no option of the scenarios; correct it")
            });
        }
        let pattern = Regex::new(filter).ok();
        // `group/scenario`
        let is = |name: &String| {
            pattern.as_ref().is_some_and(|p| {
                p.is_match(name) || p.is_match(&format!("{name}/"))
            })
        };
        (!self.scenarios.iter().any(is)).then(|| {
            format!("no scenario has `{filter}` in its name; correct it")
        })
    }
}

/// The name and the path of each target of this kind.
fn targets(
    manifest: &toml::Table, kind: &str,
) -> impl Iterator<Item = (String, Option<String>)> {
    let list = manifest.get(kind).and_then(|l| l.as_array());
    list.into_iter().flatten().filter_map(|target| {
        let text = |key| Some(target.get(key)?.as_str()?.to_string());
        Some((text("name")?, text("path")))
    })
}

fn under(folder: &str, path: &str) -> String {
    match folder {
        "." => path.to_string(),
        folder => format!("{folder}/{path}"),
    }
}

/// The programs of tests that cargo finds by itself.
fn found(root: &Path, folder: &str) -> Result<Vec<(String, String)>> {
    if folder == "." {
        return Ok(Vec::new()); // `autotests = false`
    }
    let files = registry::files(root, &format!("{folder}/tests"), "rs")?;
    let tests = format!("{folder}/tests/");
    let program = |file: String| {
        let inside = file.strip_prefix(&tests)?.strip_suffix(".rs")?;
        let name = inside.strip_suffix("/main").unwrap_or(inside);
        (!name.contains('/')).then(|| (name.to_string(), file.clone()))
    };
    Ok(files.into_iter().filter_map(program).collect())
}

/// The tests of a program, by their full names: those of the modules that its
/// root names.
fn tests_of(root: &Path, file: &str, sources: &Sources) -> Vec<String> {
    let text = registry::read(root, file).unwrap_or_default();
    let modules: Vec<&str> = text
        .lines()
        .filter_map(|l| l.strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut all = Vec::new();
    for source in &sources.files {
        let Some(inside) = source.file.strip_prefix(folder) else { continue };
        let inside = inside.trim_start_matches('/').trim_end_matches(".rs");
        let path = inside.trim_end_matches("/mod").replace('/', "::");
        let first = path.split("::").next().unwrap_or_default();
        let prefix = match source.file == file {
            true => String::new(),
            false if modules.contains(&first) => format!("{path}::"),
            false => continue,
        };
        let tests = source.items.iter().filter(|i| i.is_test());
        all.extend(tests.map(|t| format!("{prefix}{}", t.path)));
        let names = in_macros(&source.text);
        all.extend(names.map(|name| format!("{prefix}{name}")));
    }
    all
}

/// The tests of a file by their lines, for those that stand in a macro, such as
/// `proptest!`.
fn in_macros(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim_start);
    let tests = lines.clone().zip(lines.skip(1));
    let tests = tests.filter(|(above, _)| *above == "#[test]");
    tests.filter_map(|(_, l)| l.strip_prefix("fn ")?.split('(').next())
}
