//! Chapter: model. Which file uses which, and whether each arrow points at a
//! file that comes before.

use super::tree::{Crate, How, Mention, Name};
use std::collections::BTreeSet;

/// File `from` uses something that file `to` defines.
#[derive(Clone, Copy)]
pub(crate) struct Arrow {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Where, in `from`.
    pub(crate) line: usize,
}

/// What a path leads to: a module, or an item of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Module(usize),
    Item(usize),
}

impl Crate {
    /// Every arrow between two files, with the first line that makes it.
    pub(crate) fn arrows(&self) -> Vec<Arrow> {
        let (mut arrows, mut seen) = (vec![], BTreeSet::new());
        for m in &self.mentions {
            let from = self.modules[m.module].file;
            for to in self.targets(m) {
                if to != from && seen.insert((from, to)) {
                    arrows.push(Arrow { from, to, line: m.line });
                }
            }
        }
        arrows
    }

    /// The files that a mention uses.
    fn targets(&self, m: &Mention) -> Vec<usize> {
        let mut ends = self.resolve(m.module, &m.path, &mut vec![]);
        if let (How::Call, [name], true) = (m.how, &*m.path, ends.is_empty()) {
            ends.extend(self.macro_around(m.module, name));
        }
        // A name may be that of a function and of a module; to name only a
        // module makes sense in `use`, and one that lies around this one is
        // then no more than the beginning of a path.
        let is_bare = m.how != How::Import && m.path.len() == 1;
        let used = ends.into_iter().filter_map(|end| match end {
            End::Item(file) => Some(file),
            End::Module(_) if is_bare => None,
            End::Module(n) if self.is_around(n, m.module) => None,
            End::Module(n) => Some(self.modules[n].file),
        });
        used.collect()
    }

    /// What a path leads to, as seen from a module; nothing if it leads out
    /// of the crate. `seen` are the look-ups under way.
    fn resolve(
        &self, from: usize, path: &[String], seen: &mut Vec<(usize, String)>,
    ) -> Vec<End> {
        let parent = |m: usize| self.modules[m].parent.map(End::Module);
        let Some((first, rest)) = path.split_first() else { return vec![] };
        let mut ends = match first.as_str() {
            "crate" => vec![End::Module(0)],
            "self" => vec![End::Module(from)],
            "super" => Vec::from_iter(parent(from)),
            name => self.look_up(from, name, seen).unwrap_or_default(),
        };
        for name in rest {
            let step = |end| match end {
                End::Item(_) => vec![end], // a variant, a method
                End::Module(m) if name == "super" => Vec::from_iter(parent(m)),
                // what only a macro would show belongs to the module itself
                End::Module(m) => self
                    .look_up(m, name, seen)
                    .unwrap_or(vec![End::Item(self.modules[m].file)]),
            };
            ends = ends.into_iter().flat_map(step).collect();
        }
        ends
    }
    /// What a name stands for in a module, re-exports followed to the file
    /// that defines it; `None` if the module has no such name.
    fn look_up(
        &self, module: usize, name: &str, seen: &mut Vec<(usize, String)>,
    ) -> Option<Vec<End>> {
        let key = (module, name.to_string());
        if seen.contains(&key) {
            return Some(vec![]);
        }
        seen.push(key);
        let m = &self.modules[module];
        let (mut ends, mut known) = (vec![], false);
        for (_, what) in m.names.iter().filter(|(n, _)| n == name) {
            known = true;
            match what {
                Name::Module(n) => ends.push(End::Module(*n)),
                Name::Item(file) | Name::Macro(file) => {
                    ends.push(End::Item(*file));
                }
                Name::Use(path) => {
                    ends.extend(self.resolve(module, path, seen))
                }
            }
        }
        let globs = if known { &[][..] } else { &m.globs };
        for glob in globs {
            for end in self.resolve(module, glob, seen) {
                let End::Module(n) = end else { continue };
                if let Some(more) = self.look_up(n, name, seen) {
                    known = true;
                    ends.extend(more);
                }
            }
        }
        seen.pop();
        known.then_some(ends)
    }
    /// The macro of a module around this one.
    fn macro_around(&self, module: usize, name: &str) -> Option<End> {
        let m = &self.modules[module];
        let found = m.names.iter().find_map(|(n, what)| match what {
            Name::Macro(file) if n == name => Some(End::Item(*file)),
            _ => None,
        });
        found.or_else(|| self.macro_around(m.parent?, name))
    }
    /// Whether `outer` is `inner` or a module around it.
    fn is_around(&self, outer: usize, inner: usize) -> bool {
        let parent = self.modules[inner].parent;
        outer == inner || parent.is_some_and(|p| self.is_around(outer, p))
    }

    /// One message for each arrow that points at a file which comes later.
    pub(crate) fn faults(&self) -> Vec<String> {
        let arrows = self.arrows();
        let place = |f| self.order.iter().position(|&o| o == f);
        let up = arrows.iter().filter(|a| place(a.to) > place(a.from));
        up.map(|a| self.fault(a, &arrows)).collect()
    }
    fn fault(&self, a: &Arrow, arrows: &[Arrow]) -> String {
        let name = |f: usize| &self.files[f].name;
        let says = format!("{}:{}: uses {}", name(a.from), a.line, name(a.to));
        // Where the ways from the root to both files part.
        let (from, to) = (self.way(a.from), self.way(a.to));
        let shared = from.iter().zip(&to).take_while(|(f, t)| f == t).count();
        let (Some(&later), Some(&sooner)) = (to.get(shared), from.get(shared))
        else {
            return format!(
                "{says}, its parent, whose own code comes later; move what it \
                 needs into a file before it"
            );
        };
        if let Some(back) = self.way_back(later, sooner, arrows) {
            return format!(
                "{says}, which comes later, in a circle with {}:{}; move what \
                 both need into a file before both",
                name(back.from),
                back.line
            );
        }
        let of = |f: usize| match &self.files[f].parent {
            Some((_, name)) => name.as_str(),
            None => "",
        };
        format!(
            "{says}, which comes later; put `mod {}` above `mod {}` in {}",
            of(later),
            of(sooner),
            name(from[shared - 1])
        )
    }
    /// The files from the root down to this one.
    fn way(&self, file: usize) -> Vec<usize> {
        let parent = self.files[file].parent.as_ref();
        let mut way = parent.map_or(vec![], |(p, _)| self.way(*p));
        way.push(file);
        way
    }
    /// The arrow by which a file of the tree below `from` reaches, maybe
    /// through others, the tree below `to`.
    fn way_back(
        &self, from: usize, to: usize, arrows: &[Arrow],
    ) -> Option<Arrow> {
        let below = |f: usize, top: usize| self.way(f).contains(&top);
        let all = 0..self.files.len();
        let mut reached: Vec<usize> = all.filter(|&f| below(f, from)).collect();
        let mut at = 0;
        while let Some(&file) = reached.get(at) {
            for a in arrows.iter().filter(|a| a.from == file) {
                if below(a.to, to) {
                    return Some(*a);
                }
                if !reached.contains(&a.to) {
                    reached.push(a.to);
                }
            }
            at += 1;
        }
        None
    }
}
