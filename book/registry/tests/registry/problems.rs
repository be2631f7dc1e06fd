//! Each fault, planted in a tree without one, gives its one message.

use crate::tree::Tree;

/// Plants one fault and expects exactly one message.
fn planted(file: &str, old: &str, new: &str, message: &str) {
    let tree = Tree::clean();
    tree.edit(file, old, new);
    assert_eq!(tree.problems(), [message]);
}

/// Adds entries, and expects exactly these messages.
fn added(entries: &str, messages: &[&str]) {
    let tree = Tree::clean();
    tree.append("equations.toml", entries);
    for id in ["new", "other"] {
        if entries.contains(&format!("[{id}]")) {
            let shown = format!("\n{{{{#eq {id}}}}}\n");
            tree.append("book/src/norm.md", &shown);
        }
    }
    assert_eq!(tree.problems(), messages);
}

#[test]
fn clean() {
    assert_eq!(Tree::clean().problems(), [""; 0]);
}

/// A checkout may end its lines as Windows does.
#[test]
fn line_ends() {
    let tree = Tree::clean();
    let places = registry::places(&tree.root).expect("a clean tree");
    let directives = registry::directives(&tree.root);
    let quoted = |tree: &Tree| {
        let sources = registry::Sources::load(&tree.root).expect("Rust");
        let target = "src/nn/moe.rs::Moe".parse().expect("a target");
        let (source, item) = sources.find(&target).expect("an item");
        (source.text_of(item), source.text.clone())
    };
    let text = quoted(&tree);
    tree.crlf();
    assert_eq!(tree.problems(), [""; 0]);
    assert_eq!(registry::places(&tree.root), Ok(places));
    assert_eq!(registry::directives(&tree.root), directives);
    assert_eq!(quoted(&tree), text);
    let wrong = Tree::clean();
    for tree in [&tree, &wrong] {
        tree.edit("equations.toml", "\"identity\"", "\"identify\"");
    }
    assert_eq!(tree.problems(), wrong.problems());
}

#[test]
fn without_registry() {
    let tree = Tree::clean();
    tree.remove("equations.toml");
    let [message] = &tree.problems()[..] else { panic!("one problem") };
    assert!(message.starts_with("equations.toml: cannot be read: "));
}

#[test]
fn name_and_tex() {
    planted(
        "equations.toml",
        "\"Width\"",
        "\"\"",
        "equations.toml: [width] name is empty; say what readers call it",
    );
    planted(
        "equations.toml",
        "\"D\"",
        "' '",
        "equations.toml: [width] tex is empty; write the formula",
    );
}

#[test]
fn code_missing() {
    planted(
        "equations.toml",
        "code = \"src/nn/rmsnorm.rs::rmsnorm_backward\"\n",
        "",
        "equations.toml: [rmsnorm-backward] of kind backward has no code; \
         add code = \"src/file.rs::item\", the item that computes it",
    );
    planted(
        "equations.toml",
        "code = \"src/nn/moe.rs::Moe::forward\"\n",
        "",
        "equations.toml: [moe-forward] of kind forward has no code; \
         add code = \"src/file.rs::item\", the item that computes it",
    );
}

#[test]
fn mistake_missing() {
    let says = |id: &str| {
        format!(
            "equations.toml: [{id}] has no planted mistake; add one to a list \
             in tests/wrong, with `// wrong: {id}`, and see it caught"
        )
    };
    let list = "tests/wrong/twin.rs";
    planted(list, "// wrong: moe-backward", "", &says("moe-backward"));
    // Of any kind, if it is named like one.
    let new = "\n[new-backward]\nname = \"New\"\nkind = \"definition\"\n\
               tex = \"x\"\n";
    let tree = Tree::clean();
    tree.append("equations.toml", new);
    tree.append("book/src/norm.md", "\n{{#eq new-backward}}\n");
    assert_eq!(tree.problems(), [says("new-backward")]);
    // A misspelt id is one fault.
    planted(
        list,
        "// wrong: moe-backward",
        "// wrong: moe-backwards",
        "tests/wrong/twin.rs:5: wrong: equations.toml has no [moe-backwards]; \
         nearest is `moe-backward`",
    );
}

#[test]
fn tests_missing() {
    for (id, kind, test) in [
        ("shift", "identity", "tests = [\"tests/gradients.rs::shift\"]\n"),
        (
            "rmsnorm-backward",
            "backward",
            "tests = [\"tests/gradients.rs::rmsnorm\"]\n",
        ),
        (
            "rmsnorm-forward",
            "forward",
            "tests = [\"tests/gradients.rs::rmsnorm\", \
             \"tests/gradients.rs::deep::again\"]\n",
        ),
    ] {
        let message = format!(
            "equations.toml: [{id}] of kind {kind} has no tests; add \
             tests = [\"tests/file.rs::test\"], the tests that prove it"
        );
        planted("equations.toml", test, "", &message);
    }
}

#[test]
fn code_names_nothing() {
    planted(
        "equations.toml",
        "rmsnorm.rs::rmsnorm_backward",
        "rmsnorm.rs::rmsnorm_bakward",
        "equations.toml: [rmsnorm-backward] code: src/nn/rmsnorm.rs has no \
         item `rmsnorm_bakward`; nearest is `rmsnorm_backward`",
    );
    planted(
        "equations.toml",
        "nn/rmsnorm.rs::rmsnorm_backward",
        "nn/rmsnom.rs::rmsnorm_backward",
        "equations.toml: [rmsnorm-backward] code: there is no file \
         src/nn/rmsnom.rs; nearest is `src/nn/rmsnorm.rs`",
    );
    planted(
        "equations.toml",
        "Moe::backward",
        "Experts::backward",
        "equations.toml: [moe-backward] code: src/nn/moe.rs has no item \
         `Experts::backward`; name an item of that file",
    );
    planted(
        "equations.toml",
        "rs::fast::rmsnorm",
        "rs::fast::rmsnrom",
        "equations.toml: [rmsnorm-forward] fast: src/nn/rmsnorm.rs has no \
         item `fast::rmsnrom`; nearest is `fast::rmsnorm`",
    );
    planted(
        "equations.toml",
        "src/nn/moe.rs::Moe\"",
        "tests/gradients.rs::helper\"",
        "equations.toml: [choice] code: tests/gradients.rs::helper is not \
         under src/, where code and its mark stand; name an item there",
    );
}

#[test]
fn mark_missing() {
    planted(
        "src/nn/moe.rs",
        "// eq: moe-backward",
        "//eq: moe-backward",
        "equations.toml: [moe-backward] code: src/nn/moe.rs::Moe::backward \
         lacks its mark; write `// eq: moe-backward` where it computes the \
         equation",
    );
    planted(
        "src/nn/rmsnorm.rs",
        "        // eq: rmsnorm-forward\n",
        "",
        "equations.toml: [rmsnorm-forward] fast: \
         src/nn/rmsnorm.rs::fast::rmsnorm lacks its mark; write \
         `// eq: rmsnorm-forward` where it computes the equation",
    );
}

#[test]
fn mark_unknown() {
    planted(
        "src/nn/moe.rs",
        "// eq: moe-backward",
        "// eq: moe-bakward",
        "src/nn/moe.rs:16: `// eq: moe-bakward`: equations.toml has no \
         [moe-bakward]; nearest is `moe-backward`",
    );
    planted(
        "src/nn/moe.rs",
        "// eq: moe-backward",
        "// eq: moe-backward, nothing-of-the-kind",
        "src/nn/moe.rs:16: `// eq: nothing-of-the-kind`: equations.toml has \
         no [nothing-of-the-kind]; add [nothing-of-the-kind], or remove this",
    );
}

#[test]
fn mark_elsewhere() {
    let tree = Tree::clean();
    tree.edit("src/nn/moe.rs", "// eq: moe-backward", "//");
    tree.edit(
        "src/nn/moe.rs",
        "eq: moe-forward",
        "eq: moe-forward, moe-backward",
    );
    tree.append("src/lib.rs", "\n\n// eq: shift\n");
    assert_eq!(
        tree.problems(),
        [
            "src/lib.rs:4: `// eq: shift`: stands in no item, but \
             equations.toml: [shift] has no code; move the mark, or correct \
             the entry",
            "src/nn/moe.rs:11: `// eq: moe-backward`: stands in Moe::forward, \
             but equations.toml: [moe-backward] has code = \
             src/nn/moe.rs::Moe::backward; move the mark, or correct the entry",
        ]
    );
}

#[test]
fn test_missing() {
    planted(
        "equations.toml",
        "gradients.rs::shift",
        "gradients.rs::shifd",
        "equations.toml: [shift] tests: tests/gradients.rs has no item \
         `shifd`; nearest is `shift`",
    );
    planted(
        "equations.toml",
        "gradients.rs::shift",
        "gradient.rs::shift",
        "equations.toml: [shift] tests: there is no file tests/gradient.rs; \
         nearest is `tests/gradients.rs`",
    );
}

#[test]
fn test_is_none() {
    planted(
        "tests/gradients.rs",
        "#[test]\nfn shift",
        "fn shift",
        "equations.toml: [shift] tests: tests/gradients.rs::shift is not a \
         #[test] function; name one, or add #[test]",
    );
    for attribute in ["#[ignore]", "#[ignore = \"slow\"]", "#[should_panic]"] {
        planted(
            "tests/gradients.rs",
            "fn shift",
            &format!("{attribute}\nfn shift"),
            "equations.toml: [shift] tests: tests/gradients.rs::shift is \
             #[ignore] or #[should_panic] and so proves nothing; remove that \
             attribute",
        );
    }
}

#[test]
fn test_without_assert() {
    let message = "equations.toml: [shift] tests: tests/gradients.rs::shift \
                   does not call check::assert(\"shift\"); a test named here \
                   calls it, in its own body and with the literal id: add \
                   the call, or remove the test from [shift]";
    for other in [
        "",
        "check::assert(\"choice\");",
        "check::measure(\"shift\");",
        "assert(\"shift\");",
        "each! { check::assert(\"shift\"); }",
        "check::assert(SHIFT);",
    ] {
        let old = "check::assert(\"shift\");";
        planted("tests/gradients.rs", old, other, message);
    }
}

#[test]
fn assert_unknown() {
    planted(
        "tests/gradients.rs",
        "assert(\"shift\")",
        "assert(\"shifd\")",
        "tests/gradients.rs:27: check::assert: equations.toml has no \
         [shifd]; nearest is `shift`",
    );
    planted(
        "tests/gradients.rs",
        "fn helper() {",
        "fn helper() { check::assert(\"nothing\");",
        "tests/gradients.rs:30: check::assert: equations.toml has no \
         [nothing]; add [nothing], or remove this",
    );
}

#[test]
fn test_in_src() {
    let tree = Tree::clean();
    let at = "tests/gradients.rs::shift";
    tree.edit("equations.toml", at, "src/lib.rs::tests::shift");
    tree.append(
        "src/lib.rs",
        "#[cfg(test)] mod tests {
            #[test] fn shift() { crate::check::assert(\"shift\"); }
        }",
    );
    assert_eq!(tree.problems(), [""; 0]);
    tree.edit("src/lib.rs", "\"shift\"", "\"shifd\"");
    assert_eq!(
        tree.problems(),
        ["src/lib.rs:3: check::assert: equations.toml has no [shifd]; \
          nearest is `shift`"]
    );
}

#[test]
fn forward_without_backward() {
    planted(
        "equations.toml",
        "no_backward = \"an integer has no gradient\"",
        "",
        "equations.toml: [choice] of kind forward names no backward; add \
         backward = \"id\", or no_backward = \"why there is none\"",
    );
    planted(
        "equations.toml",
        "\"an integer has no gradient\"",
        "\"\"",
        "equations.toml: [choice] no_backward is empty; say why there is none",
    );
    planted(
        "equations.toml",
        "backward = \"moe-backward\"",
        "backward = \"moe-backward\"\nno_backward = \"none\"",
        "equations.toml: [moe-forward] has both backward and no_backward; \
         remove one",
    );
}

#[test]
fn forward_names_no_backward() {
    planted(
        "equations.toml",
        "backward = \"moe-backward\"",
        "backward = \"moe-bakward\"",
        "equations.toml: [moe-forward] backward = \"moe-bakward\": \
         equations.toml has no [moe-bakward]; nearest is `moe-backward`",
    );
    planted(
        "equations.toml",
        "no_backward = \"an integer has no gradient\"",
        "backward = \"shift\"",
        "equations.toml: [choice] backward = \"shift\", but [shift] is of \
         kind identity; name an equation of kind backward",
    );
}

#[test]
fn backward_key_on_others() {
    for (kind, tex) in [
        ("definition", "tex = \"D\""),
        ("identity", "tex = \"s(x + c) = s(x)\""),
    ] {
        let id = if kind == "identity" { "shift" } else { "width" };
        for key in ["backward = \"moe-backward\"", "no_backward = \"x\""] {
            let message = format!(
                "equations.toml: [{id}] of kind {kind} has a key backward or \
                 no_backward; only a forward has one: remove it"
            );
            planted("equations.toml", tex, &format!("{tex}\n{key}"), &message);
        }
    }
    let tex = "tex = '''\\bar x'''";
    planted(
        "equations.toml",
        tex,
        &format!("{tex}\nbackward = \"rmsnorm-backward\""),
        "equations.toml: [rmsnorm-backward] of kind backward has a key \
         backward or no_backward; only a forward has one: remove it",
    );
}

#[test]
fn backward_of_nothing() {
    planted(
        "equations.toml",
        "backward = \"rmsnorm-backward\"",
        "no_backward = \"forgotten\"",
        "equations.toml: [rmsnorm-backward] of kind backward is named by no \
         forward; add backward = \"rmsnorm-backward\" to its forward",
    );
}

#[test]
fn backward_named_by_no_forward_but_an_identity() {
    let tree = Tree::clean();
    let named = "backward = \"rmsnorm-backward\"";
    tree.edit("equations.toml", named, "no_backward = \"forgotten\"");
    let tex = "tex = \"s(x + c) = s(x)\"\n";
    tree.edit("equations.toml", tex, &format!("{tex}{named}\n"));
    assert_eq!(
        tree.problems(),
        [
            "equations.toml: [rmsnorm-backward] of kind backward is named by no \
             forward; add backward = \"rmsnorm-backward\" to its forward",
            "equations.toml: [shift] of kind identity has a key backward or \
             no_backward; only a forward has one: remove it",
        ]
    );
}

#[test]
fn backward_functions_without_equation() {
    for code in [
        "fn x_backward() {}",
        "mod a { fn x_backward() {} }",
        "struct A; impl A { pub(super) fn x_backward(&self) {} }",
        "trait A { fn x_backward(&self) {} }",
        "fn outer() { fn x_backward() {} }",
        "#[cfg(not(test))] fn x_backward() {}",
    ] {
        let tree = Tree::clean();
        tree.append("src/lib.rs", code);
        let path = match code {
            c if c.contains("mod a") => "a::x_backward",
            c if c.contains(" A ") => "A::x_backward",
            c if c.contains("outer") => "outer::x_backward",
            _ => "x_backward",
        };
        let message = format!(
            "src/lib.rs:2: `{path}` is bound to no equation, and every \
             backward is to be proven; add to equations.toml an entry of \
             kind backward with code = \"src/lib.rs::{path}\""
        );
        assert_eq!(tree.problems(), [message], "{code}");
    }
}

#[test]
fn functions_that_need_no_equation() {
    let tree = Tree::clean();
    tree.append(
        "src/lib.rs",
        "trait A { fn x_backward(&self); }
         #[cfg(test)] fn x_backward() {}
         #[cfg(test)] impl A { fn x_backward() {} }
         #[test] fn test_backward() {}
         fn backward() {}
         fn x_backward_2() {}
         fn proof_of_x_backward() -> gradcheck::Report {}
         impl A for B { fn backward() {} }",
    );
    tree.append("tests/gradients.rs", "fn x_backward() {}");
    assert_eq!(tree.problems(), [""; 0]);
}

#[test]
fn layers_without_equation() {
    for (code, item, path) in [
        ("impl Layer for A {}", "impl Layer for A", "A::backward"),
        ("impl a::Layer for b::A<u8> {}", "impl Layer for A", "A::backward"),
        ("impl<L> Layer for &L {}", "impl Layer for L", "L::backward"),
        ("impl Layer for (A, B) {}", "impl Layer for (A,B)", "(A,B)::backward"),
        (
            "mod m { impl Layer for A {} }",
            "m::impl Layer for A",
            "m::A::backward",
        ),
    ] {
        let tree = Tree::clean();
        tree.append("src/lib.rs", code);
        let message = format!(
            "src/lib.rs:2: `{item}` is bound to no equation, and every \
             backward is to be proven; add to equations.toml an entry of \
             kind backward with code = \"src/lib.rs::{path}\""
        );
        assert_eq!(tree.problems(), [message], "{code}");
    }
}

#[test]
fn backward_code_of_another_kind() {
    let tree = Tree::clean();
    tree.append("src/lib.rs", "fn x_backward() {\n// eq: new\n}");
    tree.append(
        "equations.toml",
        "[new]\nname = 'n'\nkind = 'definition'\ntex = 'n'\n\
         code = 'src/lib.rs::x_backward'\n",
    );
    tree.append("book/src/norm.md", "{{#eq new}}\n");
    assert_eq!(
        tree.problems(),
        ["src/lib.rs:2: `x_backward` is bound to no equation, and every \
          backward is to be proven; add to equations.toml an entry of kind \
          backward with code = \"src/lib.rs::x_backward\""]
    );
}

#[test]
fn fast_twin_of_a_backward() {
    let tree = Tree::clean();
    tree.append("src/lib.rs", "fn x_backward() {\n// eq: moe-backward\n}");
    tree.edit(
        "equations.toml",
        "code = \"src/nn/moe.rs::Moe::backward\"",
        "code = \"src/nn/moe.rs::Moe::backward\"\n\
         fast = \"src/lib.rs::x_backward\"",
    );
    assert_eq!(tree.problems(), [""; 0]);
}

#[test]
fn layer_that_is_only_a_fast_twin() {
    let tree = Tree::clean();
    tree.append(
        "src/lib.rs",
        "impl Layer for A {
            fn backward() {
                // eq: moe-backward
            }
        }",
    );
    let code = "code = \"src/nn/moe.rs::Moe::backward\"";
    let fast = "fast = \"src/lib.rs::A::backward\"";
    tree.edit("equations.toml", code, &format!("{code}\n{fast}"));
    assert_eq!(
        tree.problems(),
        ["src/lib.rs:2: `impl Layer for A` is bound to no equation, and \
          every backward is to be proven; add to equations.toml an entry of \
          kind backward with code = \"src/lib.rs::A::backward\""]
    );
}

#[test]
fn not_shown() {
    planted(
        "book/src/nn/moe.md",
        "{{#eq shift}}",
        "",
        "equations.toml: [shift] is shown in no chapter; write {{#eq shift}} \
         in one",
    );
    planted(
        "book/src/nn/moe.md",
        "{{#eq shift}}",
        "{{#ref shift}}",
        "equations.toml: [shift] is shown in no chapter; write {{#eq shift}} \
         in one",
    );
}

#[test]
fn shown_twice() {
    planted(
        "book/src/norm.md",
        "# Norm",
        "# Norm {{#eq shift}}",
        "book/src/nn/moe.md:13: {{#eq shift}}: is already shown at \
         book/src/norm.md:1; an equation is shown once: cite it with \
         {{#ref shift}}",
    );
}

#[test]
fn directive_unknown() {
    planted(
        "book/src/nn/moe.md",
        "{{#eq shift}}",
        "{{#eq shifd}}",
        "book/src/nn/moe.md:13: {{#eq shifd}}: equations.toml has no \
         [shifd]; nearest is `shift`",
    );
    planted(
        "book/src/nn/moe.md",
        "# Moe",
        "# Moe {{#ref  router }}",
        "book/src/nn/moe.md:1: {{#ref router}}: equations.toml has no \
         [router]; add [router], or remove this",
    );
    planted(
        "book/src/nn/moe.md",
        "# Moe",
        "# Moe {{#eq}}",
        "book/src/nn/moe.md:1: {{#eq }}: names no equation; write its id",
    );
}

#[test]
fn chapter_that_the_summary_does_not_list() {
    planted(
        "book/src/SUMMARY.md",
        "- [Moe](nn/moe.md)\n",
        "",
        "book/src/nn/moe.md: is not in SUMMARY.md; list it there",
    );
}

#[test]
fn quoted_item_that_is_not_there() {
    planted(
        "book/src/nn/moe.md",
        "# Moe",
        "# Moe\n\n{{#code src/nn/moe.rs::Moe::forwards}}",
        "book/src/nn/moe.md:3: {{#code src/nn/moe.rs::Moe::forwards}}: \
         src/nn/moe.rs has no item `Moe::forwards`; nearest is `Moe::forward`",
    );
    // An item renamed is one fault, wherever it is named.
    let tree = Tree::clean();
    tree.append("book/src/norm.md", "{{#code src/nn/moe.rs::Moe::backward}}");
    tree.edit("src/nn/moe.rs", "fn backward(", "fn reverse(");
    let [message] = &tree.problems()[..] else { panic!("one problem") };
    for part in ["[moe-backward] code", "has no item", "also book/src/norm.md"]
    {
        assert!(message.contains(part), "no {part} in {message}");
    }
}

#[test]
fn book_only_from_its_summary_on() {
    let tree = Tree::clean();
    tree.remove("book/src/SUMMARY.md");
    tree.remove("book/src/norm.md");
    tree.append("book/src/nn/moe.md", "{{#eq unknown}}");
    assert_eq!(tree.problems(), [""; 0]);
}

#[test]
fn source_that_does_not_parse() {
    let tree = Tree::clean();
    tree.append("src/lib.rs", "fn f( {}\n");
    let [message] = &tree.problems()[..] else { panic!("one problem") };
    assert!(message.starts_with("src/lib.rs:2: is not Rust: "), "{message}");
    let tree = Tree::clean();
    tree.append("src/lib.rs", "fn f() { 1 + }\n");
    let [message] = &tree.problems()[..] else { panic!("one problem") };
    assert!(message.starts_with("src/lib.rs:2: is not Rust: "), "{message}");
}

#[test]
fn all_problems_in_order() {
    added(
        "[new]\nname = ''\nkind = 'backward'\ntex = ''\n\
         [other]\nname = ''\nkind = 'forward'\ntex = 'x'\n",
        &[
            "equations.toml: [new] name is empty; say what readers call it",
            "equations.toml: [new] tex is empty; write the formula",
            "equations.toml: [new] of kind backward has no code; add code = \
             \"src/file.rs::item\", the item that computes it",
            "equations.toml: [new] of kind backward has no tests; add tests \
             = [\"tests/file.rs::test\"], the tests that prove it",
            "equations.toml: [new] of kind backward is named by no forward; \
             add backward = \"new\" to its forward",
            "equations.toml: [new] has no planted mistake; add one to a list \
             in tests/wrong, with `// wrong: new`, and see it caught",
            "equations.toml: [other] name is empty; say what readers call it",
            "equations.toml: [other] of kind forward has no code; add code = \
             \"src/file.rs::item\", the item that computes it",
            "equations.toml: [other] of kind forward has no tests; add tests \
             = [\"tests/file.rs::test\"], the tests that prove it",
            "equations.toml: [other] of kind forward names no backward; add \
             backward = \"id\", or no_backward = \"why there is none\"",
        ],
    );
}

/// What is missing in many places is one fault, and one message names them.
#[test]
fn an_id_renamed() {
    let tree = Tree::clean();
    tree.edit("equations.toml", "[moe-backward]", "[moe-backwards]");
    let problems = tree.problems();
    let [message] = &problems[..] else { panic!("{problems:?}") };
    assert!(
        message.starts_with(
            "equations.toml: [moe-forward] backward = \"moe-backward\": \
             equations.toml has no [moe-backward]; nearest is \
             `moe-backwards`; also src/nn/moe.rs:"
        ),
        "{message}"
    );
    for place in [", tests/gradients.rs:", ", book/src/nn/moe.md:"] {
        assert!(message.contains(place), "{place} in {message}");
    }
}
