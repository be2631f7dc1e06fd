//! A small project in a folder of its own, without a fault, to plant one in.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) struct Tree {
    pub(crate) root: PathBuf,
}

impl Tree {
    /// A tree in which everything fits, book included.
    pub(crate) fn clean() -> Tree {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("registry-{}-{count}", std::process::id());
        let tree = Tree { root: std::env::temp_dir().join(name) };
        for (file, text) in FILES {
            tree.write(file, text);
        }
        tree
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.root.join(file);
        let folder = path.parent().expect("a file stands in a folder");
        fs::create_dir_all(folder).expect("a folder in the temporary one");
        fs::write(path, text).expect("a file in the temporary folder");
    }

    /// Replaces `old`, which must stand there once.
    pub(crate) fn edit(&self, file: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.root.join(file)).expect(file);
        assert_eq!(text.matches(old).count(), 1, "{old:?} in {file}");
        self.write(file, &text.replace(old, new));
    }

    /// Ends every line in `\r\n`.
    pub(crate) fn crlf(&self) {
        for (file, text) in FILES {
            self.write(file, &text.replace('\n', "\r\n"));
        }
    }

    pub(crate) fn append(&self, file: &str, more: &str) {
        let text = fs::read_to_string(self.root.join(file)).expect(file);
        self.write(file, &(text + more));
    }

    pub(crate) fn remove(&self, file: &str) {
        fs::remove_file(self.root.join(file)).expect(file);
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        let problems = registry::problems(&self.root);
        problems.iter().map(|p| p.to_string()).collect()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(Path::new(&self.root));
    }
}

const FILES: [(&str, &str); 9] = [
    ("equations.toml", EQUATIONS),
    ("src/lib.rs", "pub mod nn;\n"),
    ("src/nn/rmsnorm.rs", RMSNORM),
    ("src/nn/moe.rs", MOE),
    ("tests/gradients.rs", GRADIENTS),
    ("tests/wrong/twin.rs", WRONG),
    ("book/src/SUMMARY.md", "- [Norm](norm.md)\n- [Moe](nn/moe.md)\n"),
    ("book/src/norm.md", NORM_CHAPTER),
    ("book/src/nn/moe.md", MOE_CHAPTER),
];

const EQUATIONS: &str = r#"
[width]
name = "Width"
kind = "definition"
tex = "D"

[rmsnorm-forward]
name = "RMSNorm"
kind = "forward"
tex = '''y = u \hat x'''
code = "src/nn/rmsnorm.rs::rmsnorm_forward"
fast = "src/nn/rmsnorm.rs::fast::rmsnorm"
tests = ["tests/gradients.rs::rmsnorm", "tests/gradients.rs::deep::again"]
backward = "rmsnorm-backward"
source = "Zhang & Sennrich 2019, eq. 4"

[rmsnorm-backward]
name = "RMSNorm, backward"
kind = "backward"
tex = '''\bar x'''
code = "src/nn/rmsnorm.rs::rmsnorm_backward"
tests = ["tests/gradients.rs::rmsnorm"]

[moe-forward]
name = "Experts"
kind = "forward"
tex = "y"
code = "src/nn/moe.rs::Moe::forward"
tests = ["tests/gradients.rs::moe"]
backward = "moe-backward"

[moe-backward]
name = "Experts, backward"
kind = "backward"
tex = '\bar x'
code = "src/nn/moe.rs::Moe::backward"
tests = ["tests/gradients.rs::moe"]

[choice]
name = "Choice of experts"
kind = "forward"
tex = "k"
code = "src/nn/moe.rs::Moe"
tests = ["tests/gradients.rs::moe"]
no_backward = "an integer has no gradient"

[shift]
name = "Shift"
kind = "identity"
tex = "s(x + c) = s(x)"
tests = ["tests/gradients.rs::shift"]
"#;

const RMSNORM: &str = r#"//! Chapter: norm.

/// Sets y.
pub fn rmsnorm_forward() {
    let id = "
        // eq: in-a-string
    ";
    /// // eq: in-a-doc-comment
    const A: usize = 1; // eq: rmsnorm-forward
}

// The gradient of
// eq: rmsnorm-backward
#[inline]
pub fn rmsnorm_backward() {}

pub mod fast {
    fn rmsnorm() {
        // eq: rmsnorm-forward
    }
}

#[cfg(test)]
mod tests {
    fn wrong_backward() {}
    struct Twin;
    impl Layer for Twin {}
}
"#;

const MOE: &str = r#"//! Chapter: moe.
/// eq: choice, in words
pub struct Moe<T> {
    // eq: choice
    top_k: Vec<T>,
}

impl<T> crate::layer::Layer for super::Moe<T> {
    /// Sets y.
    fn forward(&self) {
        // eq: moe-forward
    }

    /// Sets dx.
    fn backward(&self) {
        // eq: moe-backward
    }
}
"#;

const GRADIENTS: &str = r#"use moe_by_hand::check;

#[test]
fn rmsnorm() {
    for _ in 0..2 {
        check::assert("rmsnorm-forward");
    }
    moe_by_hand::check::assert("rmsnorm-backward");
}

mod deep {
    #[test]
    fn again() {
        super::check::assert("rmsnorm-forward");
    }
}

#[test]
fn moe() {
    check::assert("moe-forward");
    check::assert("moe-backward");
    check::assert("choice");
}

#[test]
fn shift() {
    check::assert("shift");
}

fn helper() {}
"#;

const WRONG: &str = r#"
const MISTAKES: [(Mistake, &str); 3] = [
    (NoGain, "gain missing"), // wrong: rmsnorm-backward
    (Sum, "a sum for a mean"), // wrong: rmsnorm-backward
    (Stale, "stale rows"), // wrong: moe-backward
];
"#;

const NORM_CHAPTER: &str = "# Norm

{{#eq width}} and {{#eq rmsnorm-forward}}
{{#eq rmsnorm-backward}}, written as `{{#eq unknown}}` or \\{{#eq unknown}}.

1. ```text
   {{#eq unknown}} {{#code src/lib.rs::nn}}
   ```
2. {{#equation-map}}
";

const MOE_CHAPTER: &str = "# Moe

{{#eq moe-forward}} {{#eq moe-backward}} from {{#ref rmsnorm-backward}}

~~~~md
```
{{#ref unknown}}
~~~
{{#ref unknown}}
~~~~

{{#eq choice}}
`` ` {{#ref unknown}} `` {{#eq shift}} ` {{#ref width}}
";
