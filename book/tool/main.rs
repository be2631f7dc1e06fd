//! `cargo book`: builds, checks and serves the book.

use anyhow::{Result, ensure};
use book_tool::directives::Directives;
use book_tool::make::{self, Mode};
use book_tool::sources::SourcePages;
use book_tool::{browser, epub, figures, serve};
use clap::{Parser, Subcommand};
use mdbook_preprocessor::{Preprocessor, parse_input};
use mdbook_renderer::{RenderContext, Renderer};
use std::process::ExitCode;
use std::time::Instant;
use tracing_subscriber::filter::LevelFilter;

/// Builds, checks and serves the book.
#[derive(Parser)]
#[command(
    name = "cargo book",
    bin_name = "cargo book",
    after_help = "\
Examples:
  cargo book serve                     http://127.0.0.1:3000, with live reload
  cargo book serve 0.0.0.0:8080        for the others on this network, too
  cargo book check --browser           every page in Chromium
  cargo book build --draft             what is there, faults and all"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}
#[derive(Subcommand)]
enum Command {
    /// Write the book to target/book/html
    Build {
        /// Print what is wrong and build all the same
        #[arg(long)]
        draft: bool,
    },
    /// Show the book on this machine, and again after each change
    Serve {
        /// Where to listen
        #[arg(default_value = "127.0.0.1:3000")]
        address: String,
        /// Print what is wrong and build all the same
        #[arg(long)]
        draft: bool,
    },
    /// Check everything and write nothing
    Check {
        /// Open every page in Chromium besides
        #[arg(long)]
        browser: bool,
    },
    /// Print the whole book to target/book/moe-by-hand.pdf, by Chromium
    Pdf,
    /// Write the book as an EPUB, target/book/moe-by-hand.epub
    Epub,
    /// Draw book/figures/*.csv
    Figures,
    /// Take README's picture of the built book, by Chromium
    Picture,
    /// Minutes, equations and exercises of each chapter
    Exercises,
    // What plain `mdbook` runs.
    #[command(hide = true)]
    Directives {
        #[arg(long)]
        draft: bool,
        #[command(subcommand)]
        ask: Option<Ask>,
    },
    #[command(hide = true)]
    Sources,
}
/// What mdBook asks of a step before it runs it.
#[derive(Subcommand)]
enum Ask {
    Supports { renderer: String },
}

fn main() -> ExitCode {
    registry::end_with_the_reader();
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    log();
    let root = &make::root()?;
    let mode = |draft| if draft { Mode::Draft } else { Mode::Strict };
    match command {
        Command::Build { draft } => {
            let mode = mode(draft);
            make::measure_if_changed(root, mode)?;
            let start = Instant::now();
            let html = make::build(root, mode)?;
            println!("{}", make::tallies(root)?);
            let time = start.elapsed().as_secs_f64();
            println!("{} in {time:.1} s", html.join("index.html").display());
        }
        Command::Serve { address, draft } => {
            serve::serve(root, mode(draft), &address)?
        }
        Command::Check { browser } => {
            make::measure_if_changed(root, Mode::Strict)?;
            if browser {
                browser::check(&make::build(root, Mode::Strict)?)?;
            } else {
                make::check(root)?;
            }
        }
        Command::Picture => {
            let (html, file) = (root.join("target/book/html"), "book/page.png");
            browser::picture(&html, &root.join(file))?;
            println!("{file}");
        }
        Command::Pdf => {
            make::measure_if_changed(root, Mode::Strict)?;
            let html = make::build(root, Mode::Strict)?;
            let file = html.with_file_name("moe-by-hand.pdf");
            let _ = std::fs::remove_file(&file); // that of an older book
            browser::pdf(&html, &file)?;
            println!("{}", file.display());
        }
        Command::Epub => {
            make::measure_if_changed(root, Mode::Strict)?;
            let html = make::build(root, Mode::Strict)?;
            let file = html.with_file_name("moe-by-hand.epub");
            epub::write(root, &html, &file)?;
            println!("{}", file.display());
        }
        Command::Figures => {
            for file in figures::draw_all(root)? {
                println!("{file}");
            }
        }
        Command::Exercises => println!("{}", make::tallies(root)?),
        Command::Directives { ask, draft } => {
            if ask.is_none() {
                make::check_rules(root, mode(draft))?;
            }
            preprocess(&Directives { draft }, ask)?
        }
        Command::Sources => {
            let ctx = RenderContext::from_json(std::io::stdin())?;
            SourcePages.render(&ctx)?;
        }
    }
    Ok(())
}

/// mdBook's protocol: context and book come in as JSON, the book goes out.
fn preprocess(step: &dyn Preprocessor, ask: Option<Ask>) -> Result<()> {
    if let Some(Ask::Supports { renderer }) = ask {
        ensure!(renderer == "html", "only html");
        return Ok(());
    }
    let (ctx, book) = parse_input(std::io::stdin())?;
    let book = step.run(&ctx, book)?;
    Ok(serde_json::to_writer(std::io::stdout(), &book)?)
}

/// mdBook's warnings go to stderr.
fn log() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .with_max_level(LevelFilter::WARN)
        .init();
}
