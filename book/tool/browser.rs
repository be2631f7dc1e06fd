//! The built book in a real browser: every page wide and light, and as narrow
//! as a phone and dark. Nothing may scroll sideways, complain, be missing, or
//! be pale in any theme.

use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::header::{
    CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{Html, Response};
use axum::routing::{get, post};
use regex::Regex;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tower_http::services::ServeDir;

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
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let axe = axe(&html.with_file_name("axe"));
    if axe.is_none() {
        println!(
            "no axe-core here: it does not look at the pages (npm gets it: \
             install Node.js, and be online once)"
        );
    }
    let faults = runtime.block_on(visit(name, html, pages, axe))?;
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
    let page = Html(paper(&std::fs::read_to_string(html.join("print.html"))?)?);
    let app = Router::new()
        .route("/--paper", get(async move || page))
        .fallback_service(ServeDir::new(html));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}/--paper", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, app).await });
        let mut command = Command::new(name);
        command.args(FLAGS).arg("--no-pdf-header-footer");
        command.arg("--generate-pdf-document-outline");
        command.arg(format!("--print-to-pdf={}", file.display()));
        command.arg(address).stdout(Stdio::null()).stderr(Stdio::null());
        let status =
            tokio::task::spawn_blocking(move || command.status()).await??;
        ensure!(
            status.success() && file.exists(),
            "{name} printed nothing: {status}"
        );
        Ok(())
    })
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
    let page = Html(format!(
        "<!DOCTYPE html><body style=\"margin:0\"><iframe \
         src=\"rmsnorm.html#eq-rmsnorm-backward\" \
         style=\"border:0;width:{width}px;height:{height}px\"></iframe>"
    ));
    let app = Router::new()
        .route("/--picture", get(async move || page))
        .fallback_service(ServeDir::new(html));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}/--picture", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, app).await });
        let mut command = Command::new(name);
        command.args(FLAGS).arg("--hide-scrollbars");
        command.arg(format!("--window-size={width},{height}"));
        command.arg("--virtual-time-budget=10000");
        command.arg(format!("--screenshot={}", file.display()));
        command.arg(address).stdout(Stdio::null()).stderr(Stdio::null());
        let status =
            tokio::task::spawn_blocking(move || command.status()).await??;
        ensure!(status.success(), "{name} took no picture: {status}");
        Ok(())
    })
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

/// What a page could not get, and what it says itself.
type Missing = Arc<Mutex<Vec<String>>>;

async fn visit(
    browser: &str, html: &Path, pages: Vec<String>, axe: Option<String>,
) -> Result<Vec<String>> {
    let missing = Missing::default();
    let (send, mut report) = unbounded_channel::<String>();
    let harness = include_str!("browser.html")
        .replace("PAGES", &serde_json::to_string(&pages)?)
        .replace("AXE", if axe.is_some() { "true" } else { "false" });
    let axe = axe.unwrap_or_default();
    let script = ([(CONTENT_TYPE, "text/javascript")], axe);
    let served = missing.clone();
    let files = Router::new().fallback_service(ServeDir::new(html)).layer(
        axum::middleware::from_fn(move |request, next| {
            watched(served.clone(), request, next)
        }),
    );
    let app = Router::new()
        .route("/--check", get(async move || Html(harness)))
        .route("/--axe.js", get(async move || script))
        .route("/--at", post(told))
        .route("/--report", post(reported))
        .with_state(send)
        .fallback_service(files);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}/--check", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });
    let profile = html.with_file_name("browser");
    let mut child = start(browser, &profile, &address)?;
    let answer = tokio::time::timeout(PATIENCE, report.recv()).await;
    let _ = child.kill();
    let _ = child.wait();
    let _ = std::fs::remove_dir_all(profile);
    let answer = answer.context("the browser gave no answer in an hour")?;
    let answer = answer.context("the browser gave no answer")?;
    let mut faults: Vec<String> = serde_json::from_str(&answer)?;
    faults.append(&mut missing.lock().unwrap_or_else(|e| e.into_inner()));
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

/// Tells which page is looked at: all of them take some minutes.
async fn told(page: String) {
    eprintln!("{page}");
}
async fn reported(State(send): State<UnboundedSender<String>>, body: String) {
    let _ = send.send(body);
}

/// Notes what is not found, forbids every other host, and has each page note
/// what goes wrong in it.
async fn watched(
    missing: Missing, request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let uri: Uri = request.uri().clone();
    let response = next.run(request).await;
    if response.status() == StatusCode::NOT_FOUND {
        let mut missing = missing.lock().unwrap_or_else(|e| e.into_inner());
        missing.push(format!("{uri}: a page asks for it, and it is not there"));
    }
    let page = response.headers().get(CONTENT_TYPE);
    if !page.is_some_and(|t| t.as_bytes().starts_with(b"text/html")) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let note = include_str!("browser.js");
    let head = format!("<head><script>{note}</script>");
    let text = text.replacen("<head>", &head, 1);
    parts.headers.remove(CONTENT_LENGTH);
    let policy = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:";
    let policy = HeaderValue::from_static(policy);
    parts.headers.insert(CONTENT_SECURITY_POLICY, policy);
    Response::from_parts(parts, Body::from(text))
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
