//! What is written, what holds, and what comes next.

use crate::copy::find;
use crate::cut::wrapped;
use crate::holes::{Hole, Track};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// Checks that run longer do not end.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the judge says about an equation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Holds,
    /// Its check needs something that is not written yet.
    Open(String),
    Fails(String),
}
/// What is known of a copy.
pub(crate) struct State<'a> {
    track: &'a Track,
    folder: PathBuf,
    /// Holes that are left, with their lines, by name.
    open: BTreeMap<String, usize>,
    verdicts: BTreeMap<String, Verdict>,
    /// Why there are no verdicts: what the compiler says, or a check that does
    /// not end.
    stuck: Option<String>,
}

/// Shows what comes next; on a terminal, again after each change of a file.
pub(crate) fn next(
    track: &Track, folder: Option<&Path>, once: bool,
) -> Result<bool> {
    let folder = find(track, folder)?;
    if once || !std::io::stdout().is_terminal() {
        let state = State::measure(track, &folder, &mut || false)?;
        let state = state.context("the judge was ended")?;
        print!("{}", state.text());
        return Ok(state.good());
    }
    loop {
        let before = stamp(&folder)?;
        let mut changed = || stamp(&folder).is_ok_and(|now| now != before);
        println!("\x1b[2J\x1b[Hjudging …");
        let state = State::measure(track, &folder, &mut changed)?;
        if let Some(state) = state {
            println!("\x1b[2J\x1b[H{}", state.text());
            println!("Waiting for a file to be saved; Ctrl-C ends it.");
        }
        while !changed() {
            thread::sleep(Duration::from_millis(200));
        }
        thread::sleep(Duration::from_millis(100)); // an editor writes twice
    }
}

/// When a source was changed last, and how many there are.
fn stamp(folder: &Path) -> Result<(SystemTime, usize)> {
    let mut newest = (SystemTime::UNIX_EPOCH, 0);
    for file in registry::files(folder, "src", "rs")? {
        let time = fs::metadata(folder.join(file))?.modified()?;
        newest = (newest.0.max(time), newest.1 + 1);
    }
    Ok(newest)
}

impl<'a> State<'a> {
    /// Builds and judges; nothing if `stop` said so.
    pub(crate) fn measure(
        track: &'a Track, folder: &Path, stop: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Self>> {
        let mut open = BTreeMap::new();
        for hole in &track.holes {
            let text = registry::read(folder, &hole.file)?;
            let mark = hole.mark();
            let line = text.lines().position(|l| l.contains(&mark));
            if let Some(line) = line {
                open.insert(hole.names(), line + 1);
            }
        }
        let mut state = Self {
            track,
            folder: folder.to_path_buf(),
            open,
            verdicts: BTreeMap::new(),
            stuck: None,
        };
        let done = state.written().collect::<Vec<_>>();
        let ids: Vec<&String> = done.iter().flat_map(|h| &h.ids).collect();
        let mut build = cargo(folder);
        build.args(["build", "--quiet", "--bin", "judge"]);
        build.args(["--message-format", "short"]);
        let Some((good, _, said)) = wait(&mut build, None, stop)? else {
            return Ok(None);
        };
        if !good {
            state.stuck = Some(format!("It does not build:\n{said}"));
            return Ok(Some(state));
        }
        if ids.is_empty() {
            return Ok(Some(state));
        }
        let mut judge = cargo(folder);
        judge.args(["run", "--quiet", "--bin", "judge", "--", "--lines"]);
        judge.args(ids);
        let limit = Some(PATIENCE);
        let Some((_, out, said)) = wait(&mut judge, limit, stop)? else {
            return Ok(None);
        };
        for line in out.lines() {
            let fields: Vec<&str> = line.splitn(3, '\t').collect();
            let [id, mark, words] = fields[..] else { continue };
            let words = unescaped(words);
            let verdict = match mark {
                "holds" => Verdict::Holds,
                "open" => Verdict::Open(words),
                _ => Verdict::Fails(words),
            };
            state.verdicts.insert(id.to_string(), verdict);
        }
        if state.verdicts.is_empty() {
            state.stuck = Some(format!("The judge did not end well: {said}"));
        }
        Ok(Some(state))
    }
    fn written(&self) -> impl Iterator<Item = &'a Hole> {
        let open: BTreeSet<String> = self.open.keys().cloned().collect();
        let holes = self.track.holes.iter();
        holes.filter(move |h| !open.contains(&h.names()))
    }
    fn holds(&self, id: &str) -> bool {
        self.verdicts.get(id) == Some(&Verdict::Holds)
    }
    /// Whether everything is written, and holds.
    pub(crate) fn good(&self) -> bool {
        let mut ids = self.track.holes.iter().flat_map(|h| &h.ids);
        ids.all(|id| self.holds(id))
    }
    /// The whole report.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let bars = self.track.chapters.iter().map(|(slug, title)| {
            let holes = self.track.holes.iter().filter(|h| h.chapter == *slug);
            let ids: Vec<&String> = holes.flat_map(|h| &h.ids).collect();
            let held = ids.iter().filter(|id| self.holds(id)).count();
            ("#".repeat(held) + &".".repeat(ids.len() - held), title)
        });
        let bars: Vec<_> = bars.collect();
        // on the left, where no terminal is too narrow for them
        let width = bars.iter().map(|(bar, _)| bar.len()).max().unwrap_or(0);
        for (bar, title) in bars {
            text += &format!("{bar:<width$}  {title}\n");
        }
        let all = self.track.holes.iter().flat_map(|h| &h.ids).count();
        let held = self.verdicts.values().filter(|v| **v == Verdict::Holds);
        text += &format!("{} of {all} equations hold\n\n", held.count());
        if let Some(stuck) = &self.stuck {
            return text + stuck.trim_end() + "\n";
        }
        text += &self.waiting();
        let failing = self.written().flat_map(|hole| {
            hole.ids.iter().filter_map(move |id| match self.verdicts.get(id) {
                Some(Verdict::Fails(words)) => Some((hole, id, words)),
                _ => None,
            })
        });
        let failing: Vec<_> = failing.collect();
        // the fault itself, before what rests on it
        let itself = failing.iter().find(|f| !f.2.starts_with("rests on "));
        let failing = itself.or(failing.first());
        if let Some((hole, id, words)) = failing {
            let (file, item) = (self.path(&hole.file), &hole.item);
            text += &format!("{id} {words}\n\n");
            text += &format!("  it stands in  {file}, {item}\n");
            return text + &self.commands(id);
        }
        let mut open = self.track.holes.iter();
        let open = open.find_map(|h| Some((h, self.open.get(&h.names())?)));
        let Some((hole, line)) = open else {
            let all = self.track.milestones.len();
            return text + &self.reached(all + 1) + "Everything is written.\n";
        };
        let chapter = self.track.title(&hole.chapter);
        let file = self.path(&hole.file);
        let (names, item) = (hole.names(), &hole.item);
        text += &self.reached(hole.milestone);
        text += &format!("next: {names}\n");
        text += &format!("  read        {chapter}\n");
        text += &format!("  write it    {file}:{line}, {item}\n");
        text + &self.commands(hole.id())
    }
    /// The milestone before this one, which is written, and what is left of
    /// this one.
    fn reached(&self, milestone: usize) -> String {
        let of = self.track.milestones.len();
        let mut text = String::new();
        if let Some(n) = milestone.checked_sub(1).filter(|n| *n > 0) {
            let holes = self.track.holes.iter().filter(|h| h.milestone == n);
            let ids: Vec<&String> = holes.flat_map(|h| &h.ids).collect();
            let wait = ids.iter().filter(|id| !self.holds(id)).count();
            let is = if wait == 0 { "reached" } else { "written" };
            text += &format!(
                "milestone {n} of {of} is {is}: cargo course milestone {n}\n"
            );
            if wait > 0 {
                let all = ids.len();
                text += &format!(
                    "  equations not judged yet, as said above: {wait} of {all}\n"
                );
            }
        }
        if let Some(next) = self.track.milestones.get(milestone - 1) {
            let left = self.track.holes.iter().filter(|h| {
                h.milestone == milestone && self.open.contains_key(&h.names())
            });
            let (left, name) = (left.count(), &next.name);
            text += &format!(
                "milestone {milestone} of {of}, {name}: {left} to write\n"
            );
        }
        text + "\n"
    }
    /// What is written and cannot be judged yet, by the hole that it waits for.
    fn waiting(&self) -> String {
        let mut text = String::new();
        for hole in &self.track.holes {
            let names = hole.names();
            let waits = |words: &str| {
                let rest = words.strip_prefix("not written yet: ");
                let rest = rest.and_then(|w| w.strip_prefix(&names));
                rest.is_some_and(|rest| rest.starts_with(", chapter "))
            };
            let ids = self.written().flat_map(|h| &h.ids).filter(|id| {
                let verdict = self.verdicts.get(*id);
                matches!(verdict, Some(Verdict::Open(words)) if waits(words))
            });
            let ids: Vec<&str> = ids.map(|id| &id[..]).collect();
            if ids.is_empty() {
                continue;
            }
            let chapter = self.track.title(&hole.chapter);
            let said = format!(
                "written, and judged once {names} is ({chapter}): {}",
                ids.join(", ")
            );
            text += &(wrapped(&said, 78).join("\n  ") + "\n");
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }
    fn commands(&self, id: &str) -> String {
        let folder = self.folder.display();
        format!(
            "  judged by   cargo course next {folder}\n  or, there,  cargo run -- \
             {id}\n  hints       cargo course hint {id} 1   (2 and 3 say more)\n"
        )
    }
    fn path(&self, file: &str) -> String {
        let here = std::env::current_dir().unwrap_or_default();
        let path = self.folder.join(file);
        let path = path.strip_prefix(here).unwrap_or(&path);
        path.display().to_string()
    }
}
fn unescaped(words: &str) -> String {
    let mut out = String::new();
    let mut letters = words.chars();
    while let Some(c) = letters.next() {
        out.push(match (c, c == '\\') {
            (_, true) => match letters.next() {
                Some('n') => '\n',
                other => other.unwrap_or('\\'),
            },
            _ => c,
        });
    }
    out
}

/// Runs the program of a milestone. Whether it ends well.
pub(crate) fn milestone(
    track: &Track, n: usize, folder: Option<&Path>, text: Option<&Path>,
) -> Result<bool> {
    let of = track.milestones.len();
    let Some(milestone) =
        n.checked_sub(1).and_then(|n| track.milestones.get(n))
    else {
        bail!("milestone {n}: there are {of}, from 1 on");
    };
    let folder = find(track, folder)?;
    println!("milestone {n} of {of}: {}", milestone.name);
    let mut run = cargo(&folder);
    run.args(["run", "--quiet", "--bin", "milestone", "--"]);
    run.arg(n.to_string());
    if let Some(text) = text {
        run.arg(std::path::absolute(text)?);
    }
    Ok(run.status().context("cargo cannot be run")?.success())
}

/// Cargo in a copy.
pub(crate) fn cargo(folder: &Path) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(folder).env_remove("RUSTFLAGS");
    command
}
/// What a program says, within a time; nothing if it was stopped.
fn wait(
    command: &mut Command, limit: Option<Duration>,
    stop: &mut dyn FnMut() -> bool,
) -> Result<Option<(bool, String, String)>> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let child = command.stderr(Stdio::piped()).spawn();
    let mut child = child.context("cargo cannot be run")?;
    let out = reader(child.stdout.take());
    let err = reader(child.stderr.take());
    let begin = Instant::now();
    let mut stopped = false;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let late = limit.is_some_and(|limit| begin.elapsed() > limit);
        if late || stop() {
            end(&mut child)?;
            stopped = true;
        }
        if late {
            bail!(
                "the judge took longer than {} s: is there a loop that does \
                 not end?",
                PATIENCE.as_secs()
            );
        }
        thread::sleep(Duration::from_millis(20));
    };
    let text =
        |reader: thread::JoinHandle<String>| reader.join().unwrap_or_default();
    let (out, err) = (text(out), text(err));
    Ok((!stopped).then_some((status.success(), out, err)))
}
fn end(child: &mut Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}
fn reader(
    from: Option<impl Read + Send + 'static>,
) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = vec![];
        if let Some(mut from) = from {
            let _ = from.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::{State, Verdict};
    use crate::holes::Track;
    use anyhow::{Context, Result};
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    /// Milestones 1 to 4 are written; the equations of a block have this
    /// verdict, and all others hold.
    fn state<'a>(track: &'a Track, of_a_block: &Verdict) -> State<'a> {
        let (written, open): (Vec<_>, Vec<_>) =
            track.holes.iter().partition(|h| h.milestone <= 4);
        let mut verdicts = BTreeMap::new();
        for hole in written {
            let block = hole.chapter == "block";
            let verdict = if block { of_a_block } else { &Verdict::Holds };
            let ids = hole.ids.iter().cloned();
            verdicts.extend(ids.map(|id| (id, verdict.clone())));
        }
        let open = open.into_iter().map(|h| (h.names(), 1)).collect();
        let folder = PathBuf::from("my-moe");
        State { track, folder, open, verdicts, stuck: None }
    }
    fn four(track: &Track, of_a_block: &Verdict) -> String {
        state(track, of_a_block).text()
    }

    #[test]
    fn the_fault_is_told_before_what_rests_on_it() -> Result<()> {
        let track = Track::open()?;
        let words = "rests on linear-backward, which does not hold".into();
        let text = four(&track, &Verdict::Fails(words));
        assert!(text.contains("\nblock-forward rests on"), "{text}");
        let verdict = Verdict::Fails("does not hold: T1".into());
        let mut state = state(&track, &verdict);
        let words = "rests on residual-backward".into();
        let outer = Verdict::Fails(words);
        state.verdicts.insert("block-forward".into(), outer);
        let text = state.text();
        assert!(text.contains("\nresidual-backward does not"), "{text}");
        Ok(())
    }
    #[test]
    fn a_milestone_is_reached_once_all_of_it_holds() -> Result<()> {
        let track = Track::open()?;
        let text = four(&track, &Verdict::Holds);
        assert!(text.contains("milestone 4 of 12 is reached: "), "{text}");
        assert!(!text.contains("judged once"), "{text}");
        let later = track.find("attention-forward").context("a hole")?;
        let names = later.names();
        let words = format!("not written yet: {names}, chapter attention, x:1");
        let text = four(&track, &Verdict::Open(words));
        assert!(text.contains("milestone 4 of 12 is written: "), "{text}");
        let all = track.holes.iter().filter(|h| h.milestone == 4);
        let all = all.flat_map(|h| &h.ids).count();
        let wait = format!("not judged yet, as said above: 2 of {all}\n");
        assert!(text.contains(&wait), "{text}");
        let title = track.title("attention");
        let said =
            format!("written, and judged once attention-forward is ({title}):");
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(&said), "{text}");
        assert!(text.contains("block-forward, residual-backward"), "{text}");
        Ok(())
    }
}
