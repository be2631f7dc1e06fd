//! An assignment: a folder with its description, the sample solution, the
//! cases, and how they call a submission. Starter, the other variants'
//! solutions and the mutants are made from the sample solution.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The files of a submission, by name.
pub(crate) type Sources = Vec<(String, String)>;

/// `assignment.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Assignment {
    pub(crate) title: String,
    /// For a student who has read the chapters named in `after`.
    pub(crate) hours: u32,
    pub(crate) after: Vec<String>,
    /// What a student hands in.
    pub(crate) files: Vec<String>,
    pub(crate) paper: Paper,
    #[serde(rename = "task")]
    pub(crate) tasks: Vec<Task>,
    /// The first is the sample solution as it is written.
    #[serde(rename = "variant")]
    pub(crate) variants: Vec<Variant>,
    #[serde(rename = "mutant")]
    pub(crate) mutants: Vec<Mutant>,
    /// Such as `a01`.
    #[serde(skip)]
    pub(crate) id: String,
    #[serde(skip)]
    pub(crate) folder: PathBuf,
}
/// What is derived on paper, and graded by hand.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paper {
    pub(crate) points: u32,
    pub(crate) question: String,
    pub(crate) rubric: Vec<String>,
}
/// What earns points: all of them, if every case passes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) points: u32,
    /// How many cases each round has.
    pub(crate) cases: usize,
    /// What to look at, the shape of the step, the formula.
    pub(crate) hints: [String; 3],
}
/// A choice that changes the right answer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variant {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) edits: Vec<[String; 2]>,
}
/// A mistake that has to cost the points of its task.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mutant {
    pub(crate) name: String,
    pub(crate) task: String,
    pub(crate) edits: Vec<[String; 2]>,
}

/// Where assignments are: those of the book, or an instructor's own.
pub(crate) struct Course {
    folder: PathBuf,
    /// What names it on the command line; empty for the book's.
    pub(crate) flag: String,
    /// The seed of the hidden cases, if it is an instructor's.
    pub(crate) seed: Option<u64>,
}
/// `course.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    seed: u64,
}
impl Course {
    /// The book's, or that of a folder that `cargo course new` has made.
    pub(crate) fn open(folder: Option<&Path>) -> Result<Self> {
        let book = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder_or = folder.unwrap_or(book);
        let seed = match folder {
            None => None,
            Some(folder) => {
                let file = folder.join("course.toml");
                let said = || {
                    format!(
                        "{}: no course; `cargo course new` makes one",
                        file.display()
                    )
                };
                let text = fs::read_to_string(&file).with_context(said)?;
                let settings: Settings = toml::from_str(&text)
                    .with_context(|| file.display().to_string())?;
                Some(settings.seed)
            }
        };
        let flag = folder.map(|f| format!(" --course {}", f.display()));
        let folder = std::path::absolute(folder_or)?.join("assignments");
        Ok(Self { folder, flag: flag.unwrap_or_default(), seed })
    }
    /// Makes a folder with a copy of all assignments and a seed.
    pub(crate) fn make(folder: &Path, seed: u64) -> Result<()> {
        let said = folder.display();
        ensure!(
            !folder.exists(),
            "{said}: is there already; name a new folder"
        );
        let book = Path::new(env!("CARGO_MANIFEST_DIR"));
        for a in Self::open(None)?.assignments()? {
            let name = a.folder.file_name().unwrap_or_default();
            let to = folder.join("assignments").join(name);
            fs::create_dir_all(&to).with_context(|| said.to_string())?;
            for entry in fs::read_dir(&a.folder)? {
                let entry = entry?;
                fs::copy(entry.path(), to.join(entry.file_name()))?;
            }
            let page = Path::new("../src").join(name);
            fs::copy(book.join(page.with_extension("md")), to.join("page.md"))
                .context("the page of an assignment")?;
        }
        fs::write(
            folder.join("course.toml"),
            format!(
                "# The hidden cases are made from it: keep it to yourself.\n\
                 seed = {seed}\n"
            ),
        )?;
        Ok(())
    }
    /// All of them, in their order.
    pub(crate) fn assignments(&self) -> Result<Vec<Assignment>> {
        let said = || self.folder.display().to_string();
        let mut folders = vec![];
        for entry in fs::read_dir(&self.folder).with_context(said)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            }
        }
        folders.sort();
        folders.into_iter().map(Assignment::read).collect()
    }
    /// The one of this name, such as `a01`.
    pub(crate) fn find(&self, id: &str) -> Result<Assignment> {
        let all = self.assignments()?;
        let ids: Vec<_> = all.iter().map(|a| a.id.clone()).collect();
        let same = |a: &Assignment| a.id == id;
        all.into_iter().find(same).with_context(|| {
            format!("{id}: no assignment; there are {}", ids.join(", "))
        })
    }
}

impl Assignment {
    fn read(folder: PathBuf) -> Result<Self> {
        let file = folder.join("assignment.toml");
        let said = || file.display().to_string();
        let text = fs::read_to_string(&file).with_context(said)?;
        let mut a: Self = toml::from_str(&text).with_context(said)?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let (id, _) = name.split_once('-').with_context(|| {
            format!("{name}: name the folder as in a01-sink")
        })?;
        a.id = id.to_string();
        a.folder = folder;
        let points = a.points() + a.paper.points;
        ensure!(points == 100, "{}: {points} points, not 100", said());
        Ok(a)
    }
    /// What the machine can give.
    pub(crate) fn points(&self) -> u32 {
        self.tasks.iter().map(|t| t.points).sum()
    }
    /// What a student reads: in the book, or beside an instructor's assignment.
    pub(crate) fn page(&self) -> Result<String> {
        let own = self.folder.join("page.md");
        let name = self.folder.file_name().unwrap_or_default();
        let book = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../src")
            .join(name)
            .with_extension("md");
        let file = if own.exists() { own } else { book };
        fs::read_to_string(&file).with_context(|| file.display().to_string())
    }
    /// The sum of the rubric, each line of which begins with its points.
    pub(crate) fn rubric(&self) -> Result<u32> {
        let points = |line: &String| {
            let points = line.split(':').next().unwrap_or_default();
            points.parse::<u32>().with_context(|| line.clone())
        };
        self.paper.rubric.iter().map(points).sum()
    }
    /// The variant of this name, or the first.
    pub(crate) fn variant(&self, name: Option<&str>) -> Result<&Variant> {
        let first = self.variants.first().context("no variant")?;
        let Some(name) = name else { return Ok(first) };
        let all = || {
            let names = self.variants.iter().map(|v| &v.name[..]);
            names.collect::<Vec<_>>().join(", ")
        };
        self.variants.iter().find(|v| v.name == name).with_context(|| {
            format!("{name}: no variant of {}; there are {}", self.id, all())
        })
    }
    /// The sample solution of a variant.
    pub(crate) fn solution(&self, variant: &Variant) -> Result<Sources> {
        let mut files = vec![];
        for name in &self.files {
            let text = fs::read_to_string(self.folder.join(name));
            files.push((name.clone(), text.with_context(|| name.clone())?));
        }
        edit(&mut files, &variant.edits)?;
        Ok(files)
    }
    /// What a student begins with: the solution without what stands in holes.
    pub(crate) fn starter(&self, variant: &Variant) -> Result<Sources> {
        self.filled(variant, |hole| format!("todo!(\"task {hole}\")"))
    }
    /// The solution with something else in its holes. A hole begins with
    /// `// hole 3: its name` and ends with `// end`.
    pub(crate) fn filled(
        &self, variant: &Variant, what: impl Fn(&str) -> String,
    ) -> Result<Sources> {
        let mut files = self.solution(variant)?;
        for (name, text) in &mut files {
            let mut out = String::new();
            let mut inside = false;
            for line in text.lines() {
                let bare = line.trim_start();
                if let Some(hole) = bare.strip_prefix("// hole ") {
                    ensure!(!inside, "{name}: a hole in a hole");
                    inside = true;
                    let indent = &line[..line.len() - bare.len()];
                    out += &format!("{indent}{}\n", what(hole));
                } else if bare == "// end" {
                    ensure!(inside, "{name}: an end without a hole");
                    inside = false;
                } else if !inside {
                    out += line;
                    out.push('\n');
                }
            }
            ensure!(!inside, "{name}: a hole without an end");
            *text = out;
        }
        Ok(files)
    }
    /// The solution of the first variant with a mistake in it.
    pub(crate) fn mutated(&self, mutant: &Mutant) -> Result<Sources> {
        let mut files = self.solution(self.variant(None)?)?;
        edit(&mut files, &mutant.edits).with_context(|| mutant.name.clone())?;
        Ok(files)
    }
    /// The holes, as `// hole ` names them.
    pub(crate) fn holes(&self) -> Result<Vec<String>> {
        let files = self.solution(self.variant(None)?)?;
        let lines = files.iter().flat_map(|(_, text)| text.lines());
        let hole = |l: &str| {
            l.trim_start().strip_prefix("// hole ").map(str::to_string)
        };
        Ok(lines.filter_map(hole).collect())
    }
}

/// Replaces each first text by the second; it has to be there exactly once.
pub(crate) fn edit(files: &mut Sources, edits: &[[String; 2]]) -> Result<()> {
    for [from, to] in edits {
        let mut found = 0;
        for (_, text) in files.iter_mut() {
            found += text.matches(&from[..]).count();
            *text = text.replace(&from[..], to);
        }
        if found != 1 {
            bail!("{found} times in the solution, not once: {from}");
        }
    }
    Ok(())
}

/// Reads the listed files of a submission, from its folder or from `src` in it;
/// or tells what is wrong with them.
pub(crate) fn submitted(
    a: &Assignment, folder: &Path,
) -> Result<Sources, Vec<String>> {
    const MOST: u64 = 200_000;
    const NOWHERE: [ErrorKind; 2] =
        [ErrorKind::NotFound, ErrorKind::NotADirectory];
    let (mut files, mut faults) = (vec![], vec![]);
    for name in &a.files {
        let places = [Path::new("src").join(name), PathBuf::from(name)];
        let mut there = vec![];
        for place in &places {
            match folder.join(place).symlink_metadata() {
                Ok(found) => there.push((place, found)),
                Err(e) if NOWHERE.contains(&e.kind()) => {}
                Err(e) => faults.push(format!("{name} cannot be read: {e}")),
            }
        }
        let [(inside, found)] = &there[..] else {
            if there.len() > 1 {
                let both = "is there twice, in src and beside it; leave one";
                faults.push(format!("{name} {both}"));
            } else if faults.is_empty() {
                faults.push(format!("{name} is missing"));
            }
            continue;
        };
        let place = &folder.join(inside);
        // a link on the way may lead to another's solution
        let real = folder.canonicalize().map(|f| f.join(inside));
        if folder.is_symlink() || real.ok() != place.canonicalize().ok() {
            faults.push(format!("{name} is a link, or behind one"));
            continue;
        }
        match (found.is_file(), found.len()) {
            (true, size) if size <= MOST => match fs::read_to_string(place) {
                Ok(text) => files.push((name.clone(), text)),
                Err(e) => faults.push(format!("{name} cannot be read: {e}")),
            },
            (true, size) => faults
                .push(format!("{name} has {size} bytes; {MOST} are allowed")),
            _ => faults.push(format!("{name} is not a plain file")),
        }
    }
    faults.dedup(); // of both places
    if faults.is_empty() { Ok(files) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of all assignments, and each one's page.
    #[test]
    fn pages_say_the_hours() -> Result<()> {
        let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
        let read = |name: &str| {
            let path = book.join(name);
            fs::read_to_string(&path).with_context(|| name.to_string())
        };
        let all = read("assignments.md")?;
        let words =
            ["No", "One", "Two", "Three", "Four", "Five", "Six", "Seven"];
        for a in Course::open(None)?.assignments()? {
            let (id, title, hours) = (&a.id, &a.title, a.hours);
            let line = |l: &&str| l.starts_with(&format!("| [{title}]({id}-"));
            let row = all.lines().find(line).context(id.clone())?;
            let ends = format!("| {hours} |");
            assert!(row.ends_with(&ends), "{row}\n{hours} hours");
            let page = row.split(['(', ')']).nth(1).unwrap_or_default();
            let text = read(page)?;
            let word = words.get(hours as usize).context("more hours")?;
            let begins = format!("\n{word} hours, after ");
            assert!(text.contains(&begins), "{page}: {hours} hours");
        }
        Ok(())
    }
}
