//! The built book in a real browser: every page wide and light, and as narrow
//! as a phone and dark. Nothing may scroll sideways, complain, be missing, or
//! be pale in any theme.

use crate::http::{self, Request, Response};
use anyhow::{Context, Result, bail, ensure};
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue};
use hyper::{Method, StatusCode};
use regex::Regex;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Names under which the browser is installed.
const NAMES: [&str; 4] =
    ["chromium", "chromium-browser", "google-chrome", "chrome"];
/// What the browser is told, so that it asks nobody for anything.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1000",
];
/// For all pages at all sizes.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How long a font takes to come.
const LATE: Duration = Duration::from_millis(150);

/// Opens every page of the folder `html`; says so if there is no Chromium.
pub fn check(html: &Path) -> Result<()> {
    let Some(name) = installed() else {
        println!(
            "no Chromium here: pages are not looked at (on Debian: apt-get \
             install chromium)"
        );
        return Ok(());
    };
    let pages = pages(html)?;
    let count = pages.len();
    let axe = axe(&html.with_file_name("axe"));
    if axe.is_none() {
        println!(
            "no axe-core here: it does not look at the pages (npm gets it: \
             install Node.js, and be online once)"
        );
    }
    let faults = visit(name, html, pages, axe)?;
    if !faults.is_empty() {
        bail!("{} faults\n  {}", faults.len(), faults.join("\n  "));
    }
    println!(
        "{count} pages in {name}, 1280 light, 768 coal and 360 dark: all well"
    );
    Ok(())
}

/// The script axe-core: one that was got before, or that npm gets now.
fn axe(folder: &Path) -> Option<String> {
    let script = folder.join("node_modules/axe-core/axe.min.js");
    if !script.exists() {
        let mut command = Command::new("npm");
        command.args(["install", "--ignore-scripts", "--no-audit"]);
        command.arg("--prefix").arg(folder).arg("axe-core@4");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let _ = command.status(); // without npm there is no script
    }
    std::fs::read_to_string(script).ok()
}

/// Prints the book in the folder `html` as a PDF, with live links.
pub fn pdf(html: &Path, file: &Path) -> Result<()> {
    let name = installed().context(
        "no Chromium here, which prints the PDF; on Debian: apt-get install \
         chromium",
    )?;
    let page = paper(&std::fs::read_to_string(html.join("print.html"))?)?;
    let address = beside(html, "/--paper", page)?;
    let mut command = Command::new(name);
    command.args(FLAGS).arg("--no-pdf-header-footer");
    command.arg("--generate-pdf-document-outline");
    command.arg(format!("--print-to-pdf={}", file.display()));
    command.arg(address).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status()?;
    ensure!(
        status.success() && file.exists(),
        "{name} printed nothing: {status}"
    );
    Ok(())
}

/// Serves a page beside those of the folder `html`, and returns its address.
fn beside(html: &Path, path: &'static str, page: String) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}{path}", listener.local_addr()?);
    let (html, page) = (html.to_path_buf(), Arc::new(page));
    std::thread::spawn(move || {
        http::serve(listener, move |request| {
            let (html, page) = (html.clone(), page.clone());
            async move {
                match request.uri().path() == path {
                    true => http::page(&page),
                    false => http::file(&html, &request),
                }
            }
        })
    });
    Ok(address)
}

/// The page that has the whole book, for paper: its scripts would wait for
/// somebody to print it, and the sources are no part of it.
fn paper(page: &str) -> Result<String> {
    let script = Regex::new(r"(?s)<script\b.*?</script>")?;
    let page = script.replace_all(page, "");
    let source = Regex::new(r#" href="source/[^"]*""#)?;
    Ok(source.replace_all(&page, "").into_owned())
}

/// Takes the README's picture of the book in the folder `html`.
pub fn picture(html: &Path, file: &Path) -> Result<()> {
    let name = installed()
        .context("no Chromium here; on Debian: apt-get install chromium")?;
    let (width, height) = (1180, 760);
    // In a frame, which scrolls to the equation before it is looked at.
    let page = format!(
        "<!DOCTYPE html><body style=\"margin:0\"><iframe \
         src=\"rmsnorm.html#eq-rmsnorm-backward\" \
         style=\"border:0;width:{width}px;height:{height}px\"></iframe>"
    );
    let address = beside(html, "/--picture", page)?;
    let mut command = Command::new(name);
    command.args(FLAGS).arg("--hide-scrollbars");
    command.arg(format!("--window-size={width},{height}"));
    command.arg("--virtual-time-budget=10000");
    command.arg(format!("--screenshot={}", file.display()));
    command.arg(address).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status()?;
    ensure!(status.success(), "{name} took no picture: {status}");
    Ok(())
}

/// The name of a Chromium that is here.
fn installed() -> Option<&'static str> {
    NAMES.into_iter().find(|name| {
        let mut command = Command::new(name);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|s| s.success())
    })
}

/// The book's pages, and one page of the sources.
fn pages(html: &Path) -> Result<Vec<String>> {
    let mut pages = registry::files(html, "", "html")?;
    pages.retain(|p| !p.contains('/') && p != "toc.html" && p != "404.html");
    // An old address only leads on.
    let leads_on = |page: &String| {
        let text = std::fs::read_to_string(html.join(page));
        text.is_ok_and(|t| t.contains("http-equiv=\"refresh\""))
    };
    pages.retain(|page| !leads_on(page));
    pages.push("source/src/lib.rs.html".into());
    Ok(pages)
}

/// What the pages are looked at with, and what becomes of it.
struct Visit {
    html: PathBuf,
    /// The page that opens all others.
    harness: String,
    axe: String,
    /// What a page could not get.
    missing: Mutex<Vec<String>>,
    /// Takes what the pages say themselves.
    report: Sender<String>,
}

fn visit(
    browser: &str, html: &Path, pages: Vec<String>, axe: Option<String>,
) -> Result<Vec<String>> {
    let (report, reported) = channel();
    let harness = include_str!("browser.html")
        .replace("PAGES", &serde_json::to_string(&pages)?)
        .replace("AXE", if axe.is_some() { "true" } else { "false" });
    let visit = Arc::new(Visit {
        html: html.to_path_buf(),
        harness,
        axe: axe.unwrap_or_default(),
        missing: Mutex::default(),
        report,
    });
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}/--check", listener.local_addr()?);
    let served = visit.clone();
    std::thread::spawn(move || {
        http::serve(listener, move |request| {
            let visit = served.clone();
            async move {
                let font = request.uri().path().ends_with(".woff2");
                if !font {
                    return visit.answer(request);
                }
                // As over a slow line, for each page anew: what a script has
                // measured by then was set in another font.
                tokio::time::sleep(LATE).await;
                let mut font = visit.answer(request);
                let anew = HeaderValue::from_static("no-store");
                font.headers_mut().insert(CACHE_CONTROL, anew);
                font
            }
        })
    });
    let profile = html.with_file_name("browser");
    let mut child = start(browser, &profile, &address)?;
    let answer = reported.recv_timeout(PATIENCE);
    let _ = child.kill();
    let _ = child.wait();
    let _ = std::fs::remove_dir_all(profile);
    let answer = answer.context("the browser gave no answer in an hour")?;
    let mut faults: Vec<String> = serde_json::from_str(&answer)?;
    faults.append(&mut visit.missing.lock().unwrap_or_else(|e| e.into_inner()));
    faults.sort();
    faults.dedup();
    Ok(faults)
}

fn start(browser: &str, profile: &Path, address: &str) -> Result<Child> {
    let mut command = Command::new(browser);
    command.args(FLAGS).arg("--remote-debugging-port=0");
    command.arg(format!("--user-data-dir={}", profile.display()));
    command.arg(address).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().with_context(|| browser.to_string())
}

impl Visit {
    fn answer(&self, request: Request) -> Response {
        let said = || String::from_utf8_lossy(request.body()).into_owned();
        let get = request.method() == Method::GET;
        match (request.uri().path(), get) {
            ("/--check", true) => http::page(&self.harness),
            ("/--axe.js", true) => {
                http::typed("text/javascript", self.axe.clone())
            }
            // Which page is looked at: all of them take some minutes.
            ("/--at", false) => {
                eprintln!("{}", said());
                http::text(StatusCode::OK, "")
            }
            ("/--report", false) => {
                let _ = self.report.send(said());
                http::text(StatusCode::OK, "")
            }
            _ => self.watched(&request),
        }
    }

    /// Notes what is not found, forbids every other host, and has each page
    /// note what goes wrong in it.
    fn watched(&self, request: &Request) -> Response {
        let answer = http::file(&self.html, request);
        if answer.status() == StatusCode::NOT_FOUND {
            let mut missing =
                self.missing.lock().unwrap_or_else(|e| e.into_inner());
            missing.push(format!(
                "{}: a page asks for it, and it is not there",
                request.uri()
            ));
        }
        let note = include_str!("browser.js");
        let head = format!("<head><script>{note}</script>");
        let noted = |page: &str| page.replacen("<head>", &head, 1);
        let mut answer = http::rewrite(answer, noted);
        let policy =
            "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:";
        let policy = HeaderValue::from_static(policy);
        answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::paper;

    #[test]
    fn on_paper_nothing_runs_and_nothing_leads_out() -> anyhow::Result<()> {
        let page = "<script>window\n.print()</script><a href=\"#eq-x\">(1.1)</a>\
                    <script src=\"a.js\"></script>\
                    <a href=\"source/src/x.rs.html#L1\" title=\"x\">x</a>";
        let want = "<a href=\"#eq-x\">(1.1)</a><a title=\"x\">x</a>";
        assert_eq!(paper(page)?, want);
        Ok(())
    }
}
