//! `cargo course`: the assignments of the course and their grader, and the
//! library to build.

mod holes;
mod cut;
mod copy;
mod typed;
mod hints;
mod next;
mod table;
mod rows;
mod assignment;
mod scan;
mod machine;
// the library's, so that a student need not compile all of it
#[path = "../../../src/ratio.rs"]
#[expect(unreachable_pub, reason = "there it is a part of a library")]
mod ratio;
mod grade;
mod report;
mod verify;

use anyhow::{Context, Result, bail, ensure};
use assignment::{Assignment, Course, submitted};
use clap::{Parser, Subcommand};
use cut::Mode;
use grade::{Grade, Options, grade};
use holes::Track;
use machine::Machine;
use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  cargo course build my-moe                      the library, to be written
  cargo course next                              what to write next, and a verdict
  cargo course hint softmax-forward 2            the second of three hints
  cargo course start a01 ~/sink                  an assignment
  cargo course grade a01 --submission ~/sink     what it is worth";

#[derive(Parser)]
#[command(
    name = "cargo course",
    about = "The library to build, and assignments with their grader",
    after_help = EXAMPLES
)]
struct Command {
    /// A folder that `new` has made; without it, the assignments of the book
    #[arg(long, global = true)]
    course: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}
#[derive(Subcommand)]
enum Action {
    /// Makes a copy of the library in which you write what has an equation
    #[command(after_help = "\
Example:
  cargo course build my-moe && cargo course next")]
    Build {
        /// A folder that is new or empty
        folder: PathBuf,
    },
    /// Judges what you have written, and says what comes next
    #[command(after_help = "\
On a terminal it does so again whenever you save a file.

Examples:
  cargo course next                 in the copy that was made last
  cargo course next my-moe --once   once, without waiting for a change")]
    Next {
        /// A copy; the one around you, or the one that was made last, if not
        /// given
        folder: Option<PathBuf>,
        /// Does not wait for changes
        #[arg(long)]
        once: bool,
    },
    /// Runs what a milestone shows
    #[command(after_help = "\
Examples:
  cargo course milestone 3                        the bigram writes
  cargo course milestone 12 --text my-text.txt    your model, on your text")]
    Milestone {
        /// Which one, from 1 to 12
        n: usize,
        /// A copy, as for `next`
        folder: Option<PathBuf>,
        /// What to read, in place of the project's words
        #[arg(long)]
        text: Option<PathBuf>,
    },
    /// Lists the assignments
    List,
    /// Makes an instructor's folder: a secret seed, and assignments to change
    New {
        /// A folder that does not exist yet
        folder: PathBuf,
    },
    /// Makes a folder to work in, with the starter
    Start {
        /// Such as a01
        assignment: String,
        /// A folder that does not exist yet
        folder: PathBuf,
        /// Which variant; the first one, if not given
        #[arg(long)]
        variant: Option<String>,
    },
    /// Shows a hint: for an equation that you write, or for a task
    #[command(after_help = "\
Examples:
  cargo course hint softmax-forward       what to look at
  cargo course hint softmax-forward 3     the formula
  cargo course hint a01 2 --level 3       the formula of task 2")]
    Hint {
        /// An equation such as softmax-forward, or an assignment such as a01
        of: String,
        /// Of an equation, the level; of an assignment, the task
        which: Option<String>,
        /// 1: what to look at; 2: the shape of the step; 3: the formula
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
        level: u8,
    },
    /// Grades a submission, or many
    Grade(Box<Grading>),
    /// Shows that starters, solutions, mutants and cheats get what they should
    Verify {
        /// Such as a01, `build` or `cheats`; everything, if none is given
        assignments: Vec<String>,
    },
    /// What a file, read from standard input, names that it may not
    #[command(hide = true)]
    Scan {
        /// For the messages
        name: String,
    },
}
#[derive(clap::Args)]
struct Grading {
    /// Such as a01
    assignment: String,
    /// The folder of one submission
    #[arg(long, required_unless_present = "submissions")]
    submission: Option<PathBuf>,
    /// A folder with a folder for each submission
    #[arg(long, conflicts_with_all = ["submission", "gradescope", "paper", "json"], requires = "out")]
    submissions: Option<PathBuf>,
    /// Which variant; the first one, if not given
    #[arg(long)]
    variant: Option<String>,
    /// Seed of the hidden cases, in place of the course's; without any, only
    /// the public cases run
    #[arg(long)]
    seed: Option<u64>,
    /// Points of the part on paper
    #[arg(long)]
    paper: Option<u32>,
    /// The same of many: a file with a line `name,8` for each submission
    #[arg(long, requires = "submissions")]
    papers: Option<PathBuf>,
    /// Writes the grade as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes all grades as JSON
    #[arg(long, requires = "submissions")]
    out: Option<PathBuf>,
    /// Writes a line for each submission
    #[arg(long, requires = "submissions")]
    csv: Option<PathBuf>,
    /// Writes JUnit's XML
    #[arg(long)]
    junit: Option<PathBuf>,
    /// Writes Gradescope's results.json
    #[arg(long)]
    gradescope: Option<PathBuf>,
    /// Grades nothing where a wall is missing
    #[arg(long)]
    require_isolation: bool,
}

fn main() -> ExitCode {
    registry::end_with_the_reader();
    let Command { course, action } = Command::parse();
    let done = Course::open(course.as_deref()).and_then(|c| act(&c, action));
    match done {
        Ok(code) => code,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::from(2)
        }
    }
}
fn act(course: &Course, action: Action) -> Result<ExitCode> {
    match action {
        Action::List => {
            for a in course.assignments()? {
                let variants = a.variants.iter().map(|v| &v.name[..]);
                let variants = variants.collect::<Vec<_>>().join(", ");
                let (id, title, hours) = (&a.id, &a.title, a.hours);
                println!("{id}  {title} ({hours} h; variants {variants})");
            }
        }
        Action::Build { folder } => {
            let track = Track::open()?;
            copy::write(&track, &folder, Mode::Cut)?;
            copy::remember(&track, &folder)?;
            let (n, said) = (track.holes.len(), folder.display());
            println!("{said}: the library with {n} holes; then");
            println!("  cargo course next {said}");
        }
        Action::Next { folder, once } => {
            let good = next::next(&Track::open()?, folder.as_deref(), once)?;
            return Ok(ExitCode::from(u8::from(!good)));
        }
        Action::Milestone { n, folder, text } => {
            let (folder, text) = (folder.as_deref(), text.as_deref());
            let good = next::milestone(&Track::open()?, n, folder, text)?;
            return Ok(ExitCode::from(u8::from(!good)));
        }
        Action::New { folder } => {
            let seed = RandomState::new().hash_one(&folder);
            Course::make(&folder, seed >> 12)?; // exact in every JSON
            let said = folder.display();
            println!("{said}: change its assignments, then");
            println!("  cargo course --course {said} verify");
        }
        Action::Start { assignment, folder, variant } => {
            let a = course.find(&assignment)?;
            start(course, &a, &folder, variant.as_deref())?;
        }
        Action::Hint { of, which, level } => {
            println!("{}", a_hint(course, &of, which.as_deref(), level)?);
        }
        Action::Grade(g) => grading(course, &g)?,
        Action::Verify { assignments } => {
            let good = verify::verify(course, &assignments)?;
            return Ok(ExitCode::from(u8::from(!good)));
        }
        Action::Scan { name } => {
            let text = std::io::read_to_string(std::io::stdin())?;
            scan::scan(&name, &text).iter().for_each(|f| println!("{f}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A hint for an equation of the library, or for a task of an assignment.
fn a_hint(
    course: &Course, of: &str, which: Option<&str>, level: u8,
) -> Result<String> {
    let track = Track::open()?;
    let assignments = course.assignments()?;
    let Some(a) = assignments.iter().find(|a| a.id == of) else {
        let level = match which {
            None => level,
            Some(which @ ("1" | "2" | "3")) => which.parse()?,
            Some(other) => bail!("{other}: a hint is 1, 2 or 3"),
        };
        return hints::hint(&track, of, level);
    };
    let ids: Vec<_> = a.tasks.iter().map(|t| &t.id[..]).collect();
    let task = which.unwrap_or_default();
    let found = a.tasks.iter().find(|t| t.id == task);
    let found = found.with_context(|| {
        format!("{task}: no task; there are {}", ids.join(", "))
    })?;
    let hint = &found.hints[usize::from(level) - 1];
    Ok(format!("{}: {hint}", found.title))
}

/// A folder with the starter, and what an editor needs to check it.
fn start(
    course: &Course, a: &Assignment, folder: &Path, variant: Option<&str>,
) -> Result<()> {
    let variant = a.variant(variant)?;
    let said = folder.display();
    ensure!(!folder.exists(), "{said}: is there already; name a new folder");
    let src = folder.join("src");
    fs::create_dir_all(&src).with_context(|| said.to_string())?;
    let kit = Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/kit");
    let kit = std::path::absolute(kit)?;
    fs::write(src.join("lib.rs"), machine::pristine(a))?;
    for (name, text) in a.starter(variant)? {
        fs::write(src.join(name), text)?;
    }
    let own = folder.join("tests/own");
    fs::create_dir_all(&own)?;
    let harness = [("own", "main"), ("count", "count"), ("rest", "rest")];
    for (from, to) in
        harness.map(|(a, b)| (format!("{a}.rs"), format!("{b}.rs")))
    {
        fs::copy(Path::new(machine::HARNESS).join(from), own.join(to))?;
    }
    fs::write(
        folder.join("Cargo.toml"),
        format!(
            "[package]\nname = \"submission\"\nversion = \"0.1.0\"\nedition = \
         \"2024\"\n\n[lib]\ntest = false\ndoctest = false\n\n[dependencies]\nkit = {{ path = \
         {kit:?} }}\n\n[lints.rust]\nunsafe_code = \"forbid\"\n\n[workspace]\n"
        ),
    )?;
    let (id, name, files) = (&a.id, &variant.name, a.files.join(", src/"));
    println!("{said}: variant {name}; write src/{files}, then");
    let flag = &course.flag;
    println!(
        "  cargo course{flag} grade {id} --variant {name} --submission {said}"
    );
    Ok(())
}

fn grading(course: &Course, g: &Grading) -> Result<()> {
    let a = course.find(&g.assignment)?;
    let variant = a.variant(g.variant.as_deref())?;
    let most = a.paper.points;
    if let Some(points) = g.paper {
        ensure!(points <= most, "--paper {points}: at most {most}");
    }
    let mut papers = papers(g, most)?;
    let machine = Machine::new()?;
    let mut missing = machine.grants.missing();
    missing.extend(machine.bare.is_none().then_some("no_std"));
    ensure!(
        missing.is_empty() || !g.require_isolation,
        "--require-isolation: this machine has no {}",
        missing.join(", ")
    );
    let options = Options::new(g.seed.or(course.seed));
    let mut grades: Vec<(String, Grade)> = vec![];
    let many = g.submissions.is_some();
    for to in [&g.json, &g.out, &g.csv, &g.junit, &g.gradescope] {
        writable(to)?;
    }
    let folders = folders(g)?;
    for name in papers.keys() {
        let there = folders.iter().any(|f| named(f) == *name);
        ensure!(there, "--papers: {name}: no submission of this name");
    }
    for folder in folders {
        let name = named(&folder);
        let files = submitted(&a, &folder);
        let paper = g.paper.or(papers.remove(&name));
        let options = Options { paper, ..options };
        let grade = grade(&machine, &a, variant, &files, options)?;
        if many {
            let (score, max) = (grade.score, grade.max_score);
            let problem = grade.problems.first().unwrap_or(&grade.verdict);
            println!("{name}: {score} of {max}; {problem}");
        } else {
            print!("{}", report::text(&grade));
            write(&g.json, || report::pretty(&grade))?;
            write(&g.gradescope, || {
                report::pretty(&report::gradescope(&grade))
            })?;
        }
        grades.push((name, grade));
    }
    write(&g.out, || {
        let all = grades.iter().map(|(name, grade)| {
            serde_json::json!({ "submission": name, "grade": grade })
        });
        report::pretty(&all.collect::<Vec<_>>())
    })?;
    write(&g.csv, || Ok(report::csv(&grades)))?;
    write(&g.junit, || Ok(report::junit(&grades)))
}
/// The points of the paper part, by the names of the submissions.
fn papers(g: &Grading, most: u32) -> Result<BTreeMap<String, u32>> {
    let mut all = BTreeMap::new();
    let Some(file) = &g.papers else { return Ok(all) };
    let said = file.display();
    let text = fs::read_to_string(file).with_context(|| said.to_string())?;
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        let fields = line.rsplit_once(',');
        let points = fields.and_then(|(name, points)| {
            Some((name.trim(), points.trim().parse().ok()?))
        });
        let Some((name, points)) = points.filter(|p| p.1 <= most) else {
            bail!("{said}: {line}: write a name, a comma, and 0 to {most}");
        };
        let before = all.insert(name.to_string(), points);
        ensure!(before.is_none(), "{said}: {name} stands there twice");
    }
    Ok(all)
}
/// The folders to grade, in the order of their names.
fn folders(g: &Grading) -> Result<Vec<PathBuf>> {
    if let Some(one) = &g.submission {
        let said = one.display();
        let what = if one.exists() { "is no folder" } else { "no such folder" };
        ensure!(one.is_dir(), "--submission {said}: {what}");
        return Ok(vec![one.canonicalize()?]);
    }
    let folder = g.submissions.as_deref().context("no submission")?;
    let said = folder.display().to_string();
    let (mut all, mut left) = (vec![], vec![]);
    for entry in fs::read_dir(folder).with_context(|| said.clone())? {
        let path = entry?.path();
        if path.is_dir() {
            all.push(path);
        } else {
            left.push(named(&path));
        }
    }
    ensure!(!all.is_empty(), "--submissions {said}: no folder in it");
    all.sort();
    left.sort();
    for name in left {
        eprintln!("{name}: is no folder, and is not graded");
    }
    Ok(all)
}
/// The name of a submission, in one line that no other has: what is no text, or
/// could pass for the line of another submission, is written as a literal.
fn named(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or(folder.as_os_str());
    let simple = |text: &&str| {
        machine::plain(text) == **text && !text.contains(['\n', '\t', '"'])
    };
    let literal = || format!("{name:?}");
    name.to_str().filter(simple).map_or_else(literal, str::to_string)
}
/// Whether a report can be written, asked before any work is done for it.
fn writable(to: &Option<PathBuf>) -> Result<()> {
    if let Some(to) = to {
        let there = to.symlink_metadata().is_ok();
        let file = fs::OpenOptions::new().append(true).create(true).open(to);
        file.with_context(|| to.display().to_string())?;
        if !there {
            fs::remove_file(to)?;
        }
    }
    Ok(())
}
fn write(
    to: &Option<PathBuf>, text: impl FnOnce() -> Result<String>,
) -> Result<()> {
    if let Some(to) = to {
        let said = || to.display().to_string();
        fs::write(to, text()?).with_context(said)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn each_submission_has_a_line_and_a_name_of_its_own() {
        use std::os::unix::ffi::OsStrExt;
        let name =
            |bytes: &[u8]| named(Path::new(std::ffi::OsStr::from_bytes(bytes)));
        for kept in ["a b", "Zoë", "O'Neil, Ann", "a\\xff"] {
            assert_eq!(name(kept.as_bytes()), kept);
        }
        let two = [name(b"a\xff"), name(b"a\xfe")];
        assert_eq!(two, [r#""a\xFF""#, r#""a\xFE""#]);
        assert_eq!(name(b"a\nbob: 90 of 90"), r#""a\nbob: 90 of 90""#);
        assert_eq!(name(br#""a\xFF""#), r#""\"a\\xFF\"""#);
    }

    #[test]
    fn a_report_that_cannot_be_written_is_told_before_any_work() {
        let folder = std::env::temp_dir();
        let file = folder.join(format!("course-{}", std::process::id()));
        assert!(writable(&Some(file.clone())).is_ok());
        assert!(!file.exists(), "nothing is left behind");
        assert!(writable(&Some(file.join("grades.json"))).is_err());
    }
}
