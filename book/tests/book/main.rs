//! The builder, on a small project: what it makes, and that a break of any
//! link of the chain is found, with a sentence that says what to do.
#![allow(missing_docs, reason = "a test is documented by its name")]

mod tree;

use anyhow::{Context, Result, bail};
use book_tool::make::{self, Mode};
use book_tool::{epub, figures, links, measure, serve};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tree::Tree;

#[test]
fn builds() -> Result<()> {
    let tree = Tree::new()?;
    tree.measured()?;
    tree.build()?;
    let page = tree.page("scale.html")?;
    let has = |text: &str| assert!(page.contains(text), "no {text}");
    has("id=\"eq-scale-backward\"");
    has("(2.2)");
    has("source/src/nn/scale.rs.html#L20");
    has("source/tests/gradients.rs.html#L6");
    has("equation-map.html#proof-scale-backward");
    has("why.html#eq-rms");
    has("<math");
    // theme/book.css holds these to the marks beside them.
    has(
        "<span class=\"katex-html\" aria-hidden=\"true\"><span class=\"base\">",
    );
    has("<desc>Two lines fall from 3 to 1.5.</desc>");
    // Comments are folded, and the times stand below the title.
    has("<summary>… documentation: 5 lines</summary>");
    has(
        "<p class=\"times\">5 minutes to read, 10 with a pencil, 40 at the keyboard</p>",
    );
    // What measures it, the test, and what is planted in it.
    for link in [
        "source/src/check/scale.rs.html#L14\" title=\"src/check/scale.rs:14\">\
         <code>scale::backward</code>",
        "source/tests/gradients.rs.html#L15\" \
         title=\"tests/gradients.rs:15\">the gain is missing</a>",
    ] {
        has(link);
    }
    let why = "no code: it is a word for a root";
    assert!(tree.page("why.html")?.contains(why), "{why}");
    let map = tree.page("equation-map.html")?;
    assert!(map.contains("T1 3e-11 ≤ 1e-7"), "the map shows errors");
    assert!(!map.contains("stale"), "they are current");
    let source = tree.page("source/src/nn/scale.rs.html")?;
    assert!(source.contains("../../../scale.html#eq-scale-backward"));
    let first = tree.page("why.html")?;
    assert!(first.contains("echo $HOME and $PATH\n{{#eq nothing}}"));
    assert!(first.contains("for $5"), "an escaped dollar is one");
    assert!(first.contains("<h1 id=\"1-why\">"), "a numbered title");
    for link in [
        "<a href=\"scale.html#with-epsilon\" title=\"Scale\">Chapter 2</a>",
        "<a href=\"scale.html#exercise-2\">Exercise 2.2</a>",
        "chapter <a href=\"scale.html\" title=\"Scale\">2</a>",
    ] {
        assert!(first.contains(link), "no {link}");
    }
    has("<span id=\"exercise-2\">Exercise 2.2</span> ★");
    has("</span> ★</strong> <span class=\"kind\">code</span> And");
    for part in [
        "<a href=\"../../../scale.html\">Chapter 2, Scale</a>",
        "<a href=\"#L8\"><code>scale_forward</code></a>",
        "<a rel=\"prev\" href=\"../../src/nn/mod.rs.html\">",
        "<a rel=\"next\" href=\"../../tests/gradients.rs.html\">",
        "<span class=\"kw\">pub</span> <span class=\"kw\">fn</span>",
    ] {
        assert!(source.contains(part), "no {part} in {source}");
    }
    // In lists of proofs and in tests, an id leads to its equation.
    let list = tree.page("source/src/check/scale.rs.html")?;
    let tests = tree.page("source/tests/gradients.rs.html")?;
    let id = "<span class=\"str\">\"<a href=\"../../../scale.html#eq-scale-\
              forward\">scale-forward</a>\"</span>";
    assert_eq!(list.matches(id).count(), 2, "{list}");
    let id = id.replacen("../", "", 1);
    assert!(tests.contains(&id), "{tests}");
    assert!(tests.contains("// wrong: <a href=\"../../scale.html#eq-scale-"));
    assert!(list.contains(
        "<span class=\"str\">r#&quot;a &quot;raw&quot; one&quot;#</span>"
    ));
    assert!(
        list.contains("<span class=\"comment\">   of two lines. */</span>")
    );
    let notation = tree.page("notation.html")?;
    assert!(notation.contains("<h1 id=\"notation\">"), "no number");
    assert!(notation.contains("<code>dx</code>"), "letters of src/lib.rs");
    assert!(notation.contains("what comes in"), "meanings of letters");
    assert!(notation.contains("scale_<wbr>backward"), "the code's index");
    Ok(())
}

/// The tags of a text in XML that nothing closes, or that close nothing.
fn unbalanced(text: &str) -> Vec<String> {
    let (mut open, mut wrong) = (Vec::new(), Vec::new());
    for tag in text.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap_or((tag, ""));
        let name = tag.split_whitespace().next().unwrap_or("");
        if let Some(name) = name.strip_prefix('/') {
            if open.pop() != Some(name) {
                wrong.push(name.to_string());
            }
        } else if !tag.ends_with('/') && !tag.starts_with(['?', '!']) {
            open.push(name);
        }
    }
    wrong.extend(open.into_iter().map(String::from));
    wrong
}

#[test]
fn an_epub_has_every_page_and_every_link() -> Result<()> {
    let tree = Tree::new()?;
    tree.edit(WHY, "You will", "A line<br>and a rule.\n\n---\n\nYou will")?;
    let html = tree.build()?;
    let file = tree.root().join("target/book/book.epub");
    let write = || -> Result<Vec<u8>> {
        epub::write(tree.root(), &html, &file)?;
        Ok(fs::read(&file)?)
    };
    let bytes = write()?;
    assert!(bytes == write()?, "two are the same");
    assert_eq!(&bytes[..4], b"PK\x03\x04");
    assert_eq!(&bytes[30..58], b"mimetypeapplication/epub+zip");
    let text = String::from_utf8_lossy(&bytes);
    for part in [
        "book/scale.xhtml<?xml",
        "href=\"source/src/nn/scale.rs.xhtml#L20\"",
        "href=\"../../../scale.xhtml#eq-scale-backward\"",
        "href=\"why.xhtml#eq-rms\"",
        "aria-label=\"Equation 2.2\">(2.2)</a>",
        "<li><span>Part II</span><ol>",
        "<li><a href=\"scale.xhtml\">2. Scale</a></li>",
        "A line<br/>and a rule",
        "<math",
    ] {
        assert!(text.contains(part), "no {part}");
    }
    assert!(!text.contains("katex-html"), "formulas are MathML alone");
    let pages = text.split("<?xml").skip(1).filter_map(|p| {
        let end = p.find("</html>")?;
        Some(&p[p.find("<html")?..end + "</html>".len()])
    });
    let mut count = 0;
    for page in pages {
        let wrong = unbalanced(page);
        assert!(wrong.is_empty(), "{wrong:?} in {page}");
        count += 1;
    }
    assert_eq!(count, 4 + 6 + 2, "chapters, sources, cover, contents");
    Ok(())
}

/// All files of a folder, by name.
fn bytes(root: &Path, all: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    below(root, root, all)
}

fn below(
    root: &Path, folder: &Path, all: &mut BTreeMap<String, Vec<u8>>,
) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            below(root, &path, all)?;
        } else {
            let name = path.strip_prefix(root)?.display().to_string();
            all.insert(name, fs::read(&path)?);
        }
    }
    Ok(())
}

#[test]
fn two_builds_give_the_same_bytes() -> Result<()> {
    let tree = Tree::new()?;
    let (mut one, mut two) = (BTreeMap::new(), BTreeMap::new());
    bytes(&tree.build()?, &mut one)?;
    bytes(&tree.build()?, &mut two)?;
    assert!(one.len() > 20, "only {} files", one.len());
    assert!(one == two, "they differ");
    Ok(())
}

#[test]
fn old_errors_are_marked() -> Result<()> {
    let tree = Tree::new()?;
    tree.measured()?;
    tree.edit("src/nn/scale.rs", "+ 1e-5", "+ 2e-5")?;
    assert!(!measure::last(tree.root()).current);
    tree.build()?;
    assert!(tree.page("equation-map.html")?.contains("stale"));
    Ok(())
}

#[test]
fn a_broken_bound_is_refused() -> Result<()> {
    let tree = Tree::new()?;
    let json = r#"[{"id": "y", "holds": false, "rungs": [], "panic": null}]"#;
    let e = measure::keep(tree.root(), "key", json).expect_err("broken");
    assert!(e.to_string().contains("y exceeds its bound"), "{e}");
    Ok(())
}

#[test]
fn what_was_measured_is_what_the_equations_are() -> Result<()> {
    let tree = Tree::new()?;
    let row =
        |id: &str| format!(r#"{{"id": "{id}", "holds": true, "rungs": []}}"#);
    let says = |ids: &[&str]| {
        let rows: Vec<_> = ids.iter().map(|id| row(id)).collect();
        let json = format!("[{}]", rows.join(","));
        let kept = measure::keep(tree.root(), "key", &json);
        kept.err().map_or(String::new(), |e| e.to_string())
    };
    assert_eq!(says(&["scale-forward", "scale-backward"]), "");
    let one = says(&["scale-forward"]);
    assert!(one.contains("[scale-backward] was not measured"), "{one}");
    let other = says(&["scale-forward", "scale-backward", "scale-froward"]);
    assert!(other.contains("has no [scale-froward]"), "{other}");
    Ok(())
}

#[test]
fn a_broken_edit_keeps_the_last_good_book() -> Result<()> {
    let tree = Tree::new()?;
    tree.build()?;
    let good = tree.page("scale.html")?;
    tree.edit("book/src/scale.md", "scale-forward", "scale-froward")?;
    assert!(tree.build().is_err());
    assert!(tree.page("scale.html")? == good);
    Ok(())
}

/// What a served book answers, with its head.
fn asked(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let ask = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(ask.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
/// A page of a served book, with its head, as soon as `wanted` holds for it.
fn served(address: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
    let ask = || asked(address, "/scale.html");
    for _ in 0..600 {
        let answer = ask().unwrap_or_default();
        if wanted(&answer) {
            return Ok(answer);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("it does not come in a minute; last:\n{}", ask()?)
}

#[test]
fn a_served_page_tells_of_a_broken_edit() -> Result<()> {
    let tree = Tree::new()?;
    tree.measured()?;
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let (root, address) = (tree.root().to_path_buf(), free.to_string());
    let here = address.clone();
    std::thread::spawn(move || serve::serve(&root, Mode::Strict, &here));
    let alert = "role=\"alert\"";
    let page = served(&address, |p| p.contains("eq-scale-backward"))?;
    assert!(!page.contains(alert));
    // A page that a browser kept would not tell.
    assert!(page.contains("cache-control: no-store"), "{page}");
    // A page waits for another build than its own; one of a server that was
    // stopped meanwhile need not wait.
    let (_, after) = page.split_once("/--changed/").expect("it waits");
    let (build, _) = after.split_once('"').expect("a build");
    let (here, path) = (address.clone(), format!("/--changed/{build}"));
    let waiting = std::thread::spawn(move || asked(&here, &path));
    assert!(asked(&address, "/--changed/7")?.contains(" 200 "));
    assert!(!waiting.is_finished(), "nothing has changed");
    tree.edit(SCALE, "scale-forward", "scale-froward")?;
    let told = waiting.join().expect("no panic")?;
    assert!(told.contains(" 200 "), "{told}");
    let page = served(&address, |p| p.contains(alert))?;
    assert!(page.contains("nearest is `scale-forward`"), "the fault");
    assert!(page.contains("eq-scale-backward"), "the book before");
    tree.edit(SCALE, "scale-froward", "scale-forward")?;
    served(&address, |p| {
        p.contains("eq-scale-backward") && !p.contains(alert)
    })?;
    // A name that leads here from elsewhere gets nothing.
    let mut stream = TcpStream::connect(&address)?;
    let ask = "GET /scale.html HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    stream.write_all(ask.as_bytes())?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"HTTP/1.1 421");
    // More half-open connections than there is room for are closed in time.
    let half: Vec<TcpStream> = (0..80)
        .map(|_| {
            let mut half = TcpStream::connect(&address)?;
            half.write_all(b"GET /scale.html HT")?;
            Ok(half)
        })
        .collect::<Result<_>>()?;
    served(&address, |p| p.contains("eq-scale-backward"))?;
    for mut half in half.into_iter().take(8) {
        half.set_read_timeout(Some(Duration::from_secs(20)))?;
        half.read_to_end(&mut vec![])?;
    }
    // The port is taken: that is said before anything is built.
    let none = tempfile::tempdir()?;
    let taken = serve::serve(none.path(), Mode::Strict, &address);
    let said = format!("{:#}", taken.expect_err("it is taken"));
    assert!(said.contains("cannot be listened on"), "{said}");
    assert!(!none.path().join("target").exists(), "it was built");
    Ok(())
}
/// A formula's words stand in its MathML and in its picture; results show them
/// once.
#[test]
fn the_search_finds_each_formula_once() -> Result<()> {
    let tree = Tree::new()?;
    tree.measured()?;
    tree.build()?;
    let html = tree.root().join("target/book/html");
    let mut indexes = 0;
    for file in fs::read_dir(&html)? {
        let path = file?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let is_index = name.starts_with("searchindex");
        if is_index || name.ends_with(".html") {
            let text = fs::read_to_string(&path)?;
            assert!(!text.contains("data-formula"), "{name}");
            indexes += usize::from(is_index && name.ends_with(".js"));
            // A formula, and at once what follows it.
            let once = "a row\\'s length, ∥ x ∥ , for $5.";
            assert!(!is_index || text.contains(once), "{name}: {text}");
        }
    }
    assert_eq!(indexes, 1);
    Ok(())
}

/// In a table lines may end within a name; the search and a copy see it whole.
#[test]
fn a_long_name_in_a_table_ends_lines_between_its_words() -> Result<()> {
    let tree = Tree::new()?;
    let html = tree.build()?;
    let (name, ends) = (
        "src/nn/scale.rs::scale_backward",
        "src/nn/<wbr>scale.rs::<wbr>scale_<wbr>backward",
    );
    for page in ["notation.html", "print.html"] {
        assert!(tree.page(page)?.contains(ends), "{page} has no {ends}");
    }
    assert!(!tree.page("scale.html")?.contains("<wbr"), "no table has names");
    let all = fs::read_dir(&html)?.map(|f| Ok(f?.path()));
    let all = all.collect::<Result<Vec<_>>>()?;
    let is_index = |p: &&PathBuf| p.to_string_lossy().contains("searchindex");
    let index = all.iter().find(is_index).context("there is no index")?;
    assert!(fs::read_to_string(index)?.contains(name), "the index: {name}");
    let file = tree.root().join("target/book/book.epub");
    epub::write(tree.root(), &html, &file)?;
    let epub = fs::read(&file)?;
    let epub = String::from_utf8_lossy(&epub);
    assert!(epub.contains(&ends.replace("<wbr>", "<wbr/>")), "the EPUB");
    Ok(())
}

/// A break, and what the message must contain.
#[track_caller]
fn breaks(file: &str, from: &str, to: &str, says: &[&str]) {
    let fault = Tree::fault(file, from, to).unwrap_or_else(|e| panic!("{e}"));
    for part in says {
        assert!(fault.contains(part), "no `{part}` in:\n{fault}");
    }
}

const SCALE: &str = "book/src/scale.md";
const WHY: &str = "book/src/why.md";

#[test]
fn a_renamed_kernel_is_found() {
    breaks(
        "src/nn/scale.rs",
        "pub fn scale_backward",
        "pub fn scaling_backward",
        &["[scale-backward]", "no item `scale_backward`", "scaling_backward"],
    );
}

#[test]
fn a_dropped_test_is_found() {
    breaks(
        "tests/gradients.rs",
        "#[test]\nfn scale_backward() {\n    check::assert(\"scale-backward\");\n}",
        "",
        &["[scale-backward] tests:", "no item `scale_backward`"],
    );
}

#[test]
fn a_changed_id_is_found() {
    breaks(
        "equations.toml",
        "[scale-backward]",
        "[scale-back]",
        &["no [scale-backward]", "nearest is `scale-back`"],
    );
}

#[test]
fn a_misspelt_reference_is_found() {
    breaks(
        WHY,
        "{{#ref scale-backward}}",
        "{{#ref scale-backwards}}",
        &["why.md:31", "no [scale-backwards]", "nearest is `scale-backward`"],
    );
}

#[test]
fn an_equation_shown_nowhere_is_found() {
    let says = ["[scale-backward] is shown in no chapter", "write {{#eq"];
    breaks(SCALE, "{{#eq scale-backward}}", "", &says);
}

#[test]
fn an_equation_shown_twice_is_found() {
    let says = ["{{#eq rms}}: is already shown at book/src/why.md:8"];
    breaks(SCALE, "{{#eq scale-forward}}", "{{#eq rms}}", &says);
}

#[test]
fn a_wrong_symbol_is_found() {
    let says = ["scale.md:7", "nearest is `scale_forward`"];
    breaks(SCALE, "rs::scale_forward", "rs::scale_froward", &says);
}

#[test]
fn dead_links_are_found() {
    let says = ["why.html", "next.html leads nowhere"];
    breaks(WHY, "(scale.md)", "(next.html)", &says);
    let says = ["scale.html#forward leads nowhere"];
    breaks(WHY, "(scale.md)", "(scale.md#forward)", &says);
}

#[test]
fn a_file_from_the_network_is_found() {
    let style =
        "<link rel=\"stylesheet\" href=\"https://cdn.example/k.css\">\n";
    let from = "<link rel";
    let says = ["https://cdn.example/k.css from the network", "keep a copy"];
    breaks("book/theme/head.hbs", from, &format!("{style}{from}"), &says);
    let picture = "# Why\n\n<img alt=\"x\" src=\"//cdn.example/x.png\">\n";
    breaks(WHY, "# Why\n", picture, &["//cdn.example/x.png"]);
    let font = ":root { src: url(https://cdn.example/f.woff2);";
    let says = ["https://cdn.example/f.woff2 from the network"];
    breaks("book/theme/book.css", ":root {", font, &says);
}

#[test]
fn a_fence_without_language_is_found() {
    let says = ["why.md:12", "names no language", "```text"];
    breaks(WHY, "```text", "```", &says);
    let says = ["why.md:3", "four blanks"];
    breaks(WHY, "You will", "    You will", &says);
}

#[test]
fn a_chapter_outside_the_summary_is_found() {
    let says = ["book/src/scale.md: is not in SUMMARY.md"];
    breaks("book/src/SUMMARY.md", "- [Scale](scale.md)", "", &says);
}

#[test]
fn an_unfinished_merge_is_found() {
    for mark in ["<<<<<<< HEAD", "||||||| base", "=======", ">>>>>>> other"] {
        let says = format!("why.md:2: `{mark}` is the mark of a merge");
        let both = format!("# Why\n{mark}\n");
        breaks(WHY, "# Why\n", &both, &[&says, "keep one of the versions"]);
    }
    let says = ["equations.toml:1: `<<<<<<< HEAD` is the mark of a merge"];
    breaks("equations.toml", "[rms]", "<<<<<<< HEAD\n[rms]", &says);
    let says = ["src/nn/scale.rs:2: `>>>>>>> other` is the mark of a merge"];
    let (from, to) = ("\n", "\n>>>>>>> other\n");
    breaks("src/nn/scale.rs", from, to, &says);
}

/// A rule of another length, and a mark inside a line.
#[test]
fn what_only_looks_like_a_merge_is_fine() -> Result<()> {
    let tree = Tree::new()?;
    let more = "# Why\n\n`<<<<<<<` and =======\n\n>>>>>>>> eight\n";
    tree.edit(WHY, "# Why\n", more)?;
    tree.build().map(drop)
}

#[test]
fn a_picture_without_words_is_found() {
    let says = ["why.md:2", "no alternative text"];
    breaks(WHY, "# Why\n", "# Why\n![](figures/fall.svg)\n", &says);
}

#[test]
fn a_rejected_formula_is_found() {
    let says = ["why.md:19", "Undefined control sequence: \\lvret"];
    breaks(WHY, "\\lvert x \\rvert", "\\lvret x \\rvert", &says);
    let says = ["equations.toml: [rms]", "\\sqtr"];
    breaks("equations.toml", "\\sqrt", "\\sqtr", &says);
}

#[test]
fn a_mistyped_table_is_found() {
    let file = "book/book.toml";
    breaks(file, "[output.html]", "[output.htlm]", &["htlm"]);
}

#[test]
fn a_stylesheet_of_another_katex_is_found() {
    let file = "book/src/katex/katex.min.css";
    let says = ["katex.min.css is not of KaTeX 0.16.4"];
    breaks(file, "\"0.16.4\"", "\"0.1\"", &says);
}

#[test]
fn an_exercise_without_solution_is_found() {
    let solution = "<details><summary>Solution</summary>\n\nAlmost.";
    let says = ["scale.md:44", "exercise 2 has no solution"];
    breaks(SCALE, solution, "<details>\n\nAlmost.", &says);
    let says = ["scale.md:44", "number this exercise 2"];
    breaks(SCALE, "{{#exercise 2}}", "{{#exercise 3}}", &says);
    let says = ["begins its heading, list item or paragraph with"];
    let exercise = "**{{#exercise 2}} ★ code**";
    breaks(SCALE, exercise, "**{{#exercise 2}}**", &says);
    breaks(SCALE, exercise, "**{{#exercise 2}} ★ talk**", &says);
    breaks(SCALE, exercise, "**Exercise two**", &says);
}

#[test]
fn a_chapter_with_too_few_exercises_is_found() -> Result<()> {
    let quota = "book/exercises.toml";
    let says =
        ["why.md: has 1 of the 2 exercises that book/exercises.toml asks for"];
    breaks(quota, "least = 1", "least = 2", &says);
    let says = ["scale.md: has no exercise of the kind code, which"];
    breaks(SCALE, "★ code**", "★ paper**", &says);
    let says = ["exercises.toml: SUMMARY.md lists no chapter `scales`"];
    breaks(quota, "\"scale\"", "\"scales\"", &says);
    let tree = Tree::new()?;
    let tallies = make::tallies(tree.root())?;
    let scale = tallies.lines().find(|l| l.starts_with("scale.md"));
    let counted = "3 exercises:   1 paper   1 code   1 measure   0 of no kind";
    assert!(scale.is_some_and(|l| l.contains(counted)), "{tallies}");
    tree.edit(quota, "[]", "[\"why\"]")?;
    tree.edit(quota, "least = 1", "least = 2")?;
    tree.build()?;
    Ok(())
}

#[test]
fn a_letter_without_meaning_is_found() {
    let symbols = "book/symbols.toml";
    let says = [
        "symbols.toml: says nothing of `g` in [scale-forward] of the chapter",
        "no equation uses `h` as gain; take it out",
    ];
    breaks(symbols, "'g' =", "'h' =", &says);
    let says = ["says two things of `x` in [rms] of the chapter why"];
    breaks(symbols, "\"scale-forward\",", "\"why\", \"scale-forward\",", &says);
    let no_code = "no_code = \"it is a word for a root\"\n";
    let says = ["equations.toml: [rms] has no code and does not say why"];
    breaks("equations.toml", no_code, "", &says);
    let says = ["tests/gradients.rs:11: wrong: equations.toml has no [scale-b"];
    let wrong = "wrong: scale-backwards";
    breaks("tests/gradients.rs", "wrong: scale-backward", wrong, &says);
}

#[test]
fn a_source_without_home_is_found() {
    let source = "src/nn/scale.rs";
    let says = ["src/nn/scale.rs:1: SUMMARY.md lists no chapter `shift`"];
    breaks(source, "Chapter: scale", "Chapter: scale, shift", &says);
    let says = ["src/nn/scale.rs:1: `notation` has no number"];
    breaks(source, "Chapter: scale", "Chapter: notation", &says);
    let says = ["src/nn/scale.rs:1", "names no home", "`//! Chapter: name."];
    breaks(source, "//! Chapter: scale.", "//!", &says);
}

#[test]
fn a_chapter_that_is_not_there_is_found() {
    let says =
        ["book/src/why.md:33: {{#chapter scales#with-epsilon}}: SUMMARY.md \
         lists no chapter `scales`; nearest is `scale`"];
    breaks(WHY, "{{#chapter scale#", "{{#chapter scales#", &says);
    let says = ["{{#number notation}}: `notation` has no number"];
    breaks(WHY, "{{#number scale}}", "{{#number notation}}", &says);
    let says = ["why.html: the link scale.html#with-eps leads nowhere"];
    breaks(WHY, "scale#with-epsilon", "scale#with-eps", &says);
    let says = ["why.md:33: {{#exercise scale 4}}: scale.md has no exercise 4"];
    breaks(WHY, "exercise scale 2", "exercise scale 4", &says);
}

#[test]
fn a_number_that_somebody_wrote_is_found() {
    for (text, line) in [
        ("see chapter 12", 33),
        ("see Chapters\n1 and 2", 33),
        ("see [2](scale.md)", 33),
        ("see exercise 2.1", 33),
        ("by equation (2.1)", 33),
        ("\n```text\nchapter 12\n```\n", 35),
    ] {
        let place = format!("why.md:{line}: `");
        let says = [&place, "the tool numbers chapters, exercises"];
        breaks(WHY, "{{#chapter scale#with-epsilon}}", text, &says);
    }
    let says = ["why.md:1: `# 1.`", "a title without a number"];
    breaks(WHY, "# Why", "# 1. Why", &says);
    let says = ["scale.rs:3: names a chapter by its number"];
    breaks("src/nn/scale.rs", "/// Sets", "/// See chapter 2. Sets", &says);
    let says = ["equations.toml:1: names a chapter by its number"];
    breaks("equations.toml", "[rms]", "# Chapter 1. Why\n[rms]", &says);
    let says = ["equations.toml:1: SUMMARY.md lists no chapter `whi`"];
    breaks("equations.toml", "[rms]", "# Chapter: whi. Why -\n[rms]", &says);
}

#[test]
fn chapters_take_their_turn_from_the_summary_alone() -> Result<()> {
    let tree = Tree::new()?;
    let entry = "- [Why](why.md)\n";
    tree.edit("book/src/SUMMARY.md", entry, "")?;
    let scale = "- [Scale](scale.md)\n";
    tree.edit("book/src/SUMMARY.md", scale, &format!("{scale}{entry}"))?;
    tree.edit("book/exercises.toml", "[]", "[\"why\"]")?;
    tree.build()?;
    let (why, scale) = (tree.page("why.html")?, tree.page("scale.html")?);
    assert!(why.contains("(2.1)") && why.contains("2. Why"), "{why}");
    assert!(why.contains(">Exercise 1.2</a>"), "{why}");
    assert!(scale.contains("(1.1)") && scale.contains("1. Scale"), "{scale}");
    Ok(())
}

#[test]
fn an_old_address_leads_to_the_new_one() -> Result<()> {
    let tree = Tree::new()?;
    tree.build()?;
    let old = tree.page("01-why.html")?;
    assert!(old.contains("URL=why.html"), "{old}");
    let says = ["01-why.html: the link whi.html leads nowhere"];
    breaks("book/book.toml", "\"why.html\"", "\"whi.html\"", &says);
    Ok(())
}

/// The real book's old addresses: each leads to a chapter.
#[test]
fn every_old_address_has_its_chapter() -> Result<()> {
    let book = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = fs::read_to_string(book.join("book.toml"))?;
    let (_, redirect) = config.split_once(tree::REDIRECT).expect("a table");
    let mut count = 0;
    for line in redirect.lines().filter(|l| l.starts_with('"')) {
        let page = line.split('"').nth(3).expect("an address");
        let (page, _) = page.split_once('#').unwrap_or((page, ""));
        let file = book.join("src").join(page.replace(".html", ".md"));
        assert!(file.exists(), "{line}");
        count += usize::from(!line.contains(".html#"));
    }
    assert_eq!(count, 27);
    Ok(())
}

/// What is wrong with a page that prints this to be typed.
fn typed(printed: &str) -> Result<Vec<String>> {
    let tree = Tree::new()?;
    tree.edit(WHY, "# Why\n", &format!("# Why\n\n{printed}\n"))?;
    book_tool::rules::faults(tree.root())
}

#[test]
fn a_command_that_cannot_be_typed_is_found() -> Result<()> {
    for (line, says) in [
        ("cargo tset", "there is no `cargo tset`; name an alias"),
        ("cargo exmaple fuzz", "there is no `cargo exmaple`"),
        (
            "cargo test --test prrofs scale",
            "--test prrofs: no manifest has it; nearest is `proofs`",
        ),
        (
            "cargo test --test proofs scale_forward scale_backward",
            "cargo test takes one filter only; write `--` before \
             `scale_forward scale_backward`",
        ),
        (
            "cargo test --test proofs gradients::scaling",
            "no test has `gradients::scaling` in its name",
        ),
        (
            "cargo test -- scale_forward scaling --nocapture",
            "no test has `scaling` in its name",
        ),
        ("cargo test --test memory scale", "no test has `scale`"),
        (
            "cargo example fuz -- --seconds 1",
            "--example fuz: no manifest has it; nearest is `fuzz`",
        ),
        ("cargo run --relaese -- check", "--relaese is no option"),
        ("cargo run --bin meo -- check", "--bin meo: no manifest has it"),
        ("cargo test --profile mutant", "--profile mutant: no manifest"),
        ("cargo bench -- mem_trian_step", "no scenario has `mem_trian_step`"),
        ("cargo bench -- --quik", "--quik is no option of the scenarios"),
    ] {
        let says = format!("book/src/why.md:4: `{line}`: {says}");
        let faults = typed(&format!("```console\n$ {line}\n```"))?;
        assert_eq!(faults.len(), 1, "{line}: {faults:?}");
        assert!(faults[0].starts_with(&says), "{says}:\n{}", faults[0]);
        let faults = typed(&format!("Type `{line}`."))?;
        let says = says.replace(":4:", ":3:");
        let says = faults.iter().filter(|f| f.starts_with(&says));
        assert_eq!(says.count(), 1, "in a sentence, {line}: {faults:?}");
    }
    Ok(())
}

/// README, CONTRIBUTING and the chapters print what `cargo book` understands.
#[test]
fn texts_print_what_it_understands() -> Result<()> {
    let project = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let book = Path::new(env!("CARGO_BIN_EXE_book"));
    let ask =
        |given: &[String], whole| registry::ask_for_help(book, given, whole);
    let (seen, faults) = registry::refused(project, "book", ask)?;
    assert!(seen > 10, "only {seen} commands: are texts still read?");
    assert_eq!(faults, [""; 0]);
    Ok(())
}

#[test]
fn a_name_that_nothing_has_is_found() -> Result<()> {
    for (name, known) in [
        ("scale_forward", true),
        ("scale::scale_forward", true),
        ("scale_forwards", false),
        ("scale_forward()", true),
        ("Scale::forwards", false),
        ("qkv_proj", true), // of another project
        ("a < b", true),    // no name
    ] {
        let faults = typed(&format!("Look at `{name}`."))?;
        let says = format!("book/src/why.md:3: `{name}`: no file has that");
        let found = faults.iter().any(|f| f.starts_with(&says));
        assert_eq!(!found, known, "{name}: {faults:?}");
    }
    Ok(())
}

#[test]
fn what_can_be_typed_is_fine() -> Result<()> {
    let printed = "\
```console
$ cargo test --test proofs -- gradients::scale_forward scale_backward # two
running 2 tests, cargo says
$ MOE_SIMD=avx2 cargo bench -- --quick '^(memory|scale)/'
$ cargo example ladder -- bytes \\
    --text FILE
$ cargo +nightly miri test --test proofs -- scale
```

```text
cargo nothing
```

`cargo example NAME` runs one, `cargo test --test proofs
scale -- --nocapture` too, and `cargo` by itself is a word.
Then `cargo book check`; `cargo install mdbook@0.5.4`.";
    assert_eq!(typed(printed)?, [""; 0]);
    Ok(())
}

const TERMS: &str = "book/terms.toml";

#[test]
fn a_term_that_is_used_too_early_is_found() {
    for (text, term) in [
        ("the Product\nrules", "product rule"),
        ("$r^2$", "r"),
        ("`scale_forward(x)`", "scale_forward"),
    ] {
        let place =
            format!("why.md:3: uses `{term}`, which the later chapter scale");
        let says = [&place, "look ahead with {{#chapter scale}}"];
        breaks(WHY, "You will", &format!("{text} will"), &says);
    }
    // A link below, in another paragraph, comes too late.
    let text = "The product rule. You will build a row's length, for \\$5.\n\n\
                See {{#chapter scale}}.";
    let says = ["why.md:3: uses `product rule`"];
    breaks(
        WHY,
        "You will build a row's length, $\\lVert x \\rVert$, for \\$5.",
        text,
        &says,
    );
}

#[test]
fn a_chapter_may_look_ahead() -> Result<()> {
    let tree = Tree::new()?;
    let text = "The product rule ({{#chapter scale}}), and $r$. You will";
    tree.edit(WHY, "You will", text)?;
    tree.build()?;
    Ok(())
}

#[test]
fn a_term_that_is_never_introduced_is_found() {
    let says = ["terms.toml: [scale] introduces `build`, but scale.md"];
    breaks(TERMS, "\"product rule\"", "\"product rule\", \"build\"", &says);
    let import =
        "```rust\nuse moe_by_hand::real::{Dual, mat};\n```\n\nYou will";
    let says = ["why.md:4: this example imports `Dual`", "in no chapter"];
    breaks(WHY, "You will", import, &says);
    let says = ["terms.toml: [scales] is no chapter; nearest is `scale`"];
    breaks(TERMS, "[scale]", "[scales]", &says);
    let says = ["`row` is introduced in [why] and in [scale]"];
    breaks(TERMS, "\"product rule\"", "\"product rule\", \"row\"", &says);
}

#[test]
fn a_term_that_nobody_uses_is_found() {
    let says = ["terms.toml: no chapter uses `quotient rule` of [scale]"];
    let words = "\"product rule\", \"quotient rule\"";
    breaks(TERMS, "\"product rule\"", words, &says);
    let letters = "['\\gamma', 'r']";
    breaks(TERMS, "['r']", letters, &["no chapter uses `\\gamma`"]);
    let other = "[elsewhere]\n'r' = { why = \"a row\" }\n[why]";
    let says = ["[elsewhere] `r`: the chapter why does not use it"];
    breaks(TERMS, "[why]", other, &says);
}

/// The real book introduces what it uses.
#[test]
fn the_book_introduces_every_term_before_it_uses_it() -> Result<()> {
    let book = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = book.parent().expect("the project");
    assert_eq!(book_tool::terms::faults(root)?, [""; 0]);
    let file = fs::read_to_string(book.join("terms.toml"))?;
    let file: toml::Table = file.parse()?;
    let chapters = file.iter().filter(|(name, _)| *name != "elsewhere");
    let lists = chapters.filter_map(|(_, c)| c.as_table());
    let lists = lists.flat_map(|c| c.values().filter_map(|v| v.as_array()));
    let terms: usize = lists.map(Vec::len).sum();
    assert!(terms >= 80, "{terms}");
    Ok(())
}

#[test]
fn line_ends_change_nothing() -> Result<()> {
    let (tree, other) = (Tree::new()?, Tree::new()?);
    other.edit(WHY, "You will", "> $$\n> 1 + 1\n> $$\n\nYou will")?;
    tree.edit(WHY, "You will", "> $$\n> 1 + 1\n> $$\n\nYou will")?;
    other.crlf()?;
    assert_eq!(measure::key(tree.root())?, measure::key(other.root())?);
    assert_eq!(figures::faults(other.root())?, [""; 0]);
    let (mut one, mut two) = (BTreeMap::new(), BTreeMap::new());
    bytes(&tree.build()?, &mut one)?;
    bytes(&other.build()?, &mut two)?;
    // mdBook copies the drawing as it is.
    let drawing = "figures/fall.svg";
    assert!(one.remove(drawing) != two.remove(drawing), "they are copies");
    assert!(one == two, "the pages differ");
    make::check(other.root())?;
    // A fault stands on the same line.
    other.edit(WHY, "{{#chapter scale#", "{{#chapter scales#")?;
    let fault = make::check(other.root()).expect_err("no such chapter");
    assert!(format!("{fault:#}").contains("why.md:37: "), "{fault:#}");
    other.edit(WHY, "{{#chapter scales#", "{{#chapter scale#")?;
    other.edit(WHY, "\\lvert x \\rvert", "\\lvret x \\rvert")?;
    let fault = make::check(other.root()).expect_err("no such command");
    assert!(format!("{fault:#}").contains("why.md:23: "), "{fault:#}");
    other.edit(WHY, "\\lvret x \\rvert", "\\lvert x \\rvert")?;
    other.edit(WHY, "\\sqrt{\\tfrac12", "\\sqtr{\\tfrac12")?;
    let fault = make::check(other.root()).expect_err("no such command");
    assert!(format!("{fault:#}").contains("why.md:29: "), "{fault:#}");
    Ok(())
}

#[test]
fn a_row_that_does_not_fit_its_table_is_found() {
    let table = |row: &str| {
        format!("# Why\n\n| a | b |\n|---|---|\n| x \\| y | z |\n{row}\n\n")
    };
    let tree = Tree::new().unwrap_or_else(|e| panic!("{e}"));
    let good = tree.edit(WHY, "# Why\n", &table("1 | 2"));
    good.and_then(|()| tree.build()).expect("three good rows");
    for (row, says) in [
        ("| 1 |", "why.md:6: this row has 1 cells, its table 2"),
        ("| 1 | 2 | 3 |", "why.md:6: this row has 3 cells"),
        ("| $\\lvert x | y$ | 2 |", "why.md:6: this row has 3 cells"),
    ] {
        breaks(WHY, "# Why\n", &table(row), &[says]);
    }
}

#[test]
fn a_directive_out_of_place_is_found() {
    let says = ["notation.md", "no number for it"];
    breaks("book/src/notation.md", "{{#notation}}", "{{#eq rms}}", &says);
    let says = ["there is no such directive"];
    breaks(SCALE, "{{#figure fall}}", "{{#figrue fall}}", &says);
    let says = ["stands alone on its line"];
    breaks(SCALE, "{{#figure fall}}", "See {{#figure fall}}", &says);
}

#[test]
fn a_figure_without_its_program_is_found() {
    let file = "book/figures/fall.csv";
    breaks(file, "10,2,2", "10,2,1", &["converge", "run that command"]);
    breaks(file, "# alt: Two", "# alt:\n# about: Two", &["lacks `# alt: …`"]);
    let says = ["cargo book figures"];
    breaks(file, "# alt: Two", "# alt: These two", &says);
    let says = ["tests/Cargo.toml names no such example"];
    breaks(file, "run --release -- converge", "example fall", &says);
    breaks(file, "cargo run", "draw by", &["runs no program of this project"]);
    breaks(file, "kind: chart", "kind: pie", &["`pie` is no kind"]);
    breaks(file, "loss falls", "loss falls.", &["ends with a dot"]);
}

/// Draws rows of this kind; whatever is wrong is the answer.
fn drawn(kind: &str, rows: &str) -> Result<String> {
    let tree = Tree::new()?;
    let hash = Sha256::digest(rows.as_bytes());
    let hash: String = hash.iter().map(|b| format!("{b:02x}")).collect();
    let head = format!(
        "# command: cargo run --release -- converge\n# sha256: {hash}\n\
         # kind: {kind}\n# title: t\n# alt: a\n# x: x\n# y: y\n# log: y\n"
    );
    fs::write(tree.root().join("book/figures/fall.csv"), head + rows)?;
    figures::draw_all(tree.root())?;
    Ok(fs::read_to_string(tree.root().join("book/src/figures/fall.svg"))?)
}

/// That such rows are not drawn, and why.
#[track_caller]
fn refused(kind: &str, rows: &str, says: &str) {
    let fault = drawn(kind, rows).expect_err(rows);
    assert!(format!("{fault:#}").contains(says), "{fault:#}");
}

#[test]
fn a_chart_has_panels_guides_and_marks() -> Result<()> {
    let svg = drawn(
        "chart",
        "panel,above\nx,p,q\n0,1,10\n10,100,10\npanel,below\nx,p\n0,1\n\
         guide,0,10,10,10,ne,level\nmark,1,10,100,,a dot, here\n",
    )?;
    let count = |part: &str| svg.matches(part).count();
    assert_eq!(count("class=\"line c0\""), 2, "a line in each panel");
    for part in ["above", "below", "level", "a dot, here", ">q<"] {
        assert_eq!(count(part), 1, "{part} in {svg}");
    }
    assert_eq!(count(">10²<"), 2, "an axis in each panel");
    // The logarithm of 10 lies midway between those of 1 and 100, so q runs
    // level where p has gone half of its way up.
    let at = |class: &str| -> Vec<f64> {
        let path = svg.split(class).nth(1).and_then(|s| s.split('"').nth(2));
        let cells = path.unwrap_or_default().split(['M', 'L', 'h', ' ']);
        cells.filter_map(|c| c.parse().ok()).collect()
    };
    let (p, q) = (at("line c0"), at("line c1"));
    assert!((p[1] + p[3] - 2.0 * q[1]).abs() < 0.3, "{p:?} {q:?}");
    for (row, says) in [
        ("x,p\n1,one", "`one` is no number"),
        ("x,p\n1,1\nmark,0,1,1,up,text", "`up` is no side"),
        ("", "no line of names"),
    ] {
        refused("chart", row, says);
    }
    Ok(())
}

#[test]
fn a_drawing_has_boxes_and_arrows() -> Result<()> {
    let svg = drawn(
        "drawing",
        "box,10,20,30,16,c1 strong,a < b, c\narrow,0,0,100,0,0,c2,\n\
         circle,50,50,20,dashed,\ndot,9,9,c0 ne,here\ntext,60,70,s,below\n",
    )?;
    for part in [
        "<rect class=\"box c1 strong\" x=\"10\" y=\"20\" width=\"30\"",
        ">a &lt; b, c<",
        "d=\"M100.0 0.0L93.0 3.0 93.0 -3.0Z\"", // the head
        "<circle class=\"way dashed\"",
        ">here<",
        ">below<",
    ] {
        assert!(svg.contains(part), "{part} in {svg}");
    }
    for (row, says) in [
        ("ring,1,1,1,,", "`ring` is no shape"),
        ("box,1,1,1,c0,", "a box needs x, y, width, height"),
        ("box,340,1,30,9,c0,", "reaches beyond the paper"),
        ("dot,1,1,c8,", "`c8` is no class"),
    ] {
        refused("drawing", row, says);
    }
    Ok(())
}

#[test]
fn a_heat_map_has_a_square_for_each_share() -> Result<()> {
    let svg = drawn("heat", "panel,a head\na,1\nb,0.25,0.75\n")?;
    let count = |part: &str| svg.matches(part).count();
    assert_eq!(count("class=\"cell"), 3, "none where the mask is");
    assert_eq!(count(">a head<"), 1, "its title");
    assert_eq!(count(">b<"), 2, "at its row and at its column");
    // The second of the second row is as far right as it is down.
    let square = svg.split("class=\"cell").nth(3).unwrap_or_default();
    assert!(square.contains("x=\"65.0\""), "{square}");
    assert!(square.contains("fill-opacity=\"0.75\""), "{square}");
    for (rows, says) in [
        ("a,1\nb,0.5,2\n", "`2` is no share"),
        ("a,0.5,0.5\n", "`a` has more shares"),
        ("", "there is no row"),
    ] {
        refused("heat", rows, says);
    }
    Ok(())
}

#[test]
fn a_draft_is_built_all_the_same() -> Result<()> {
    let tree = Tree::new()?;
    tree.edit(SCALE, "{{#eq scale-backward}}", "")?;
    make::build(tree.root(), Mode::Draft)?;
    let page = tree.page("why.html")?;
    assert!(page.contains("class=\"problem\""), "it says what is missing");
    Ok(())
}

#[test]
fn figures_are_drawn_once() -> Result<()> {
    let tree = Tree::new()?;
    let drawn = figures::draw_all(tree.root())?;
    assert_eq!(drawn, ["book/src/figures/fall.svg"]);
    assert!(figures::faults(tree.root())?.is_empty());
    Ok(())
}

/// Each module of the tool uses only those above it in `lib.rs`.
#[test]
fn imports_point_down() -> Result<()> {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tool");
    let list = fs::read_to_string(tool.join("lib.rs"))?;
    let modules: Vec<&str> = list
        .lines()
        .filter_map(|l| l.trim_start_matches("pub ").strip_prefix("mod "))
        .filter_map(|l| l.strip_suffix(';'))
        .collect();
    assert!(modules.len() > 15, "{modules:?}");
    for (turn, module) in modules.iter().enumerate().skip(1) {
        let text = fs::read_to_string(tool.join(format!("{module}.rs")))?;
        for uses in text.split("crate::").skip(1) {
            // One name, or several in braces.
            let end = uses.find([';', '}']).unwrap_or(uses.len());
            let uses = uses[..end].strip_prefix('{').unwrap_or(&uses[..end]);
            for name in uses.split(',') {
                let name = name.trim().split("::").next().unwrap_or_default();
                let below = modules[..turn].contains(&name);
                assert!(
                    below || !modules.contains(&name),
                    "{module} uses {name}, which stands below it in lib.rs"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn a_good_book_has_no_dead_links() -> Result<()> {
    let tree = Tree::new()?;
    assert!(links::faults(&tree.build()?)?.is_empty());
    Ok(())
}
