//! `cargo book`: builds, checks and serves the book.

use anyhow::{Result, bail};
use book_tool::directives::Directives;
use book_tool::guard::KatexGuard;
use book_tool::make::{self, Mode};
use book_tool::sources::SourcePages;
use book_tool::{browser, figures, serve};
use mdbook_katex::preprocess::KatexProcessor;
use mdbook_preprocessor::{Preprocessor, parse_input};
use mdbook_renderer::{RenderContext, Renderer};
use std::process::ExitCode;
use std::time::Instant;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

const USAGE: &str = "\
usage: cargo book build [--draft]            into target/book/html
       cargo book serve [--draft] [ADDRESS]  on 127.0.0.1:3000, with reload
       cargo book check [--browser]          every check, and no output
       cargo book figures                    draws book/figures/*.csv
       cargo book picture                    draws book/page.png, for README
       cargo book exercises                  minutes, equations and exercises
--draft prints what is wrong and builds all the same.";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    log()?;
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let draft = args.iter().any(|a| a == "--draft");
    args.retain(|a| a != "--draft");
    let mode = if draft { Mode::Draft } else { Mode::Strict };
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let root = &make::root()?;
    match args[..] {
        ["build"] => {
            make::measure_if_changed(root, mode)?;
            let start = Instant::now();
            let html = make::build(root, mode)?;
            println!("{}", make::tallies(root)?);
            let time = start.elapsed().as_secs_f64();
            println!("{} in {time:.1} s", html.join("index.html").display());
        }
        ["serve"] => serve::serve(root, mode, "127.0.0.1:3000")?,
        ["serve", address] => serve::serve(root, mode, address)?,
        ["check"] => {
            make::measure_if_changed(root, Mode::Strict)?;
            make::check(root)?;
        }
        ["check", "--browser"] => {
            make::measure_if_changed(root, Mode::Strict)?;
            browser::check(&make::build(root, mode)?)?;
        }
        ["picture"] => {
            let (html, file) = (root.join("target/book/html"), "book/page.png");
            browser::picture(&html, &root.join(file))?;
            println!("{file}");
        }
        ["figures"] => {
            for file in figures::draw_all(root)? {
                println!("{file}");
            }
        }
        ["exercises"] => println!("{}", make::tallies(root)?),
        // From here on: what plain `mdbook` runs.
        ["directives" | "katex" | "katex-guard", "supports", renderer] => {
            if renderer != "html" {
                bail!("only html");
            }
        }
        ["directives"] => preprocess(&Directives { draft })?,
        ["katex"] => preprocess(&KatexProcessor)?,
        ["katex-guard"] => preprocess(&KatexGuard)?,
        ["sources"] => {
            let ctx = RenderContext::from_json(std::io::stdin())?;
            SourcePages.render(&ctx)?;
        }
        _ => bail!("{USAGE}"),
    }
    Ok(())
}

/// mdBook's protocol: context and book come in as JSON, the book goes out.
fn preprocess(step: &dyn Preprocessor) -> Result<()> {
    let (ctx, book) = parse_input(std::io::stdin())?;
    let book = step.run(&ctx, book)?;
    Ok(serde_json::to_writer(std::io::stdout(), &book)?)
}

/// mdBook's warnings go to stderr. Those of mdbook-katex are left out: what it
/// warns of is an error of `katex-guard`.
fn log() -> Result<()> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .from_env_lossy()
        .add_directive("mdbook_katex=off".parse()?);
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .with_env_filter(filter)
        .init();
    Ok(())
}
