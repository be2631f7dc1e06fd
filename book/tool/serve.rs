//! Serves the book; when a file is saved, builds it anew and reloads the
//! pages. What cannot be built says so in the page, which stays as it was.

use crate::http::{self, Request, Response};
use crate::make::{self, Mode};
use crate::measure;
use crate::text::escape;
use anyhow::{Context, Result};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HOST, HeaderValue};
use notify::{Event, RecursiveMode, Watcher};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// What is wrong with the last edit, if anything.
#[derive(Default)]
struct Faults {
    build: Option<String>,
    measure: Option<String>,
}

type Told = Arc<Mutex<Faults>>;

fn lock(told: &Told) -> MutexGuard<'_, Faults> {
    told.lock().unwrap_or_else(|e| e.into_inner())
}

/// A page asks for this and the number of the build that made it, and gets an
/// answer when there is another build.
const CHANGED: &str = "/--changed/";

/// Serves the book of the project at `root` until it is stopped.
pub fn serve(root: &Path, mode: Mode, address: &str) -> Result<()> {
    // Before the book is built, which may take minutes.
    let listener = TcpListener::bind(address).with_context(|| {
        format!(
            "{address} cannot be listened on; name another: \
             cargo book serve 127.0.0.1:3001"
        )
    })?;
    let bound = listener.local_addr()?;
    let html = root.join("target/book/html");
    let told = Told::default();
    attempt(root, mode, &told);
    // A server that was started anew is another build, too.
    let started = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let (built, builds) = watch::channel(started.as_millis());
    let (send, changes) = channel();
    let _watcher = watch(root, send.clone())?;
    let (top, tell_of) = (root.to_path_buf(), told.clone());
    std::thread::spawn(move || {
        rebuild(&top, mode, (&send, &changes), &tell_of, &built)
    });
    println!("the book is at http://{bound}; edit, and it reloads");
    http::serve(listener, move |request| {
        answer(bound, html.clone(), told.clone(), builds.clone(), request)
    })
}

/// Answers a request if it was meant for this server. A page from elsewhere
/// can have its own name lead here, and would then read the answer; an address
/// in numbers it cannot.
async fn answer(
    bound: SocketAddr, html: PathBuf, told: Told,
    mut builds: watch::Receiver<u128>, request: Request,
) -> Response {
    let host = request.headers().get(HOST).map(|h| h.to_str());
    if !is_us(bound, host.and_then(Result::ok).unwrap_or_default()) {
        let text =
            format!("this is the book at http://{bound}, and no other host\n");
        return http::text(StatusCode::MISDIRECTED_REQUEST, &text);
    }
    if let Some(build) = request.uri().path().strip_prefix(CHANGED) {
        let other = |now: &u128| now.to_string() != build;
        let _ = builds.wait_for(other).await;
        return http::text(StatusCode::OK, "there is another build\n");
    }
    let build = *builds.borrow();
    let page = http::file(&html, &request);
    let mut page = http::rewrite(page, |page| live(page, build, &told));
    // Nothing is kept by the browser: what has not changed since would come
    // without its faults.
    let never = HeaderValue::from_static("no-store");
    page.headers_mut().insert(CACHE_CONTROL, never);
    page
}
fn is_us(bound: SocketAddr, host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    match bare.unwrap_or(name).parse::<IpAddr>() {
        Ok(ip) => {
            // Listening on all addresses means any of them.
            let all = bound.ip().is_unspecified();
            all || ip.is_loopback() || ip == bound.ip()
        }
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

/// Watches all that the book is made of.
fn watch(root: &Path, send: Sender<()>) -> Result<notify::RecommendedWatcher> {
    let mut watcher =
        notify::recommended_watcher(move |event: notify::Result<Event>| {
            // A build reads every file; only a write calls for another.
            if event.is_ok_and(|e| !e.kind.is_access()) {
                let _ = send.send(());
            }
        })?;
    for folder in ["src", "tests", "book/src", "book/theme", "book/figures"] {
        if root.join(folder).exists() {
            watcher.watch(&root.join(folder), RecursiveMode::Recursive)?;
        }
    }
    // Editors replace files: book.toml and equations.toml by their folders.
    for folder in ["", "book"] {
        watcher.watch(&root.join(folder), RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

/// Builds at each change. If the sources changed, they are measured meanwhile,
/// and then it builds again; until that is done the book marks the old numbers.
fn rebuild(
    root: &Path, mode: Mode, (send, changes): (&Sender<()>, &Receiver<()>),
    told: &Told, built: &watch::Sender<u128>,
) {
    let (mut tried, mut measuring) = (None, None::<JoinHandle<()>>);
    loop {
        let current = measure::last(root).current;
        let key = measure::key(root).ok();
        let busy = measuring.as_ref().is_some_and(|m| !m.is_finished());
        if current {
            lock(told).measure = None;
        } else if !busy && tried != key && lock(told).build.is_none() {
            tried = key;
            lock(told).measure = None;
            let (root, send) = (root.to_path_buf(), send.clone());
            let told = told.clone();
            measuring = Some(std::thread::spawn(move || {
                let measured = measure::measure(&root);
                lock(&told).measure = measured.err().map(|e| say(&e));
                let _ = send.send(());
            }));
        }
        if changes.recv().is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100)); // one save, many events
        changes.try_iter().for_each(drop);
        attempt(root, mode, told);
        built.send_modify(|build| *build += 1);
    }
}

fn attempt(root: &Path, mode: Mode, told: &Told) {
    lock(told).build = make::build(root, mode).err().map(|e| say(&e));
}

/// An error as printed, and as told in the page.
fn say(error: &anyhow::Error) -> String {
    eprintln!("error: {error:#}");
    format!("{error:#}")
}

/// A page that reloads itself when there is another build, or the server is
/// there again; what is wrong with the last edit stands at its top.
fn live(page: &str, build: u128, told: &Told) -> String {
    let script = include_str!("serve.js");
    let script = script.replace("CHANGED", &format!("{CHANGED}{build}"));
    let mut added = format!("<script>{script}</script>");
    let fault = match &*lock(told) {
        Faults { build: Some(e), .. } => Some(format!(
            "The last edit cannot be built; below is the book before it.\n{e}"
        )),
        Faults { measure: Some(e), .. } => Some(format!(
            "The sources cannot be measured; the errors below are of those \
             before.\n{e}"
        )),
        _ => None,
    };
    if let Some(fault) = fault {
        added += &format!(
            "<pre role=\"alert\" style=\"position:fixed;inset:0 0 auto 0;\
             z-index:9999;margin:0;padding:1em;max-height:60vh;overflow:auto;\
             white-space:pre-wrap;background:#7d1020;color:#fff\">\
             {}</pre>",
            escape(&fault)
        );
    }
    match page.rsplit_once("</body>") {
        Some((before, after)) => format!("{before}{added}</body>{after}"),
        None => format!("{page}{added}"),
    }
}

#[cfg(test)]
mod tests {
    use super::is_us;

    #[test]
    fn a_name_from_elsewhere_is_not_us() {
        let local = "127.0.0.1:3000".parse().expect("an address");
        for host in [
            "localhost",
            "LOCALHOST:3000",
            "127.0.0.1:3000",
            "[::1]:3000",
            "127.0.0.1",
            "[::1]",
        ] {
            assert!(is_us(local, host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:3000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.168.1.5:3000",
            "[::1",
            "0",
        ] {
            assert!(!is_us(local, host), "{host}");
        }
        let all = "0.0.0.0:3000".parse().expect("an address");
        assert!(is_us(all, "192.168.1.5:3000") && !is_us(all, "evil.example"));
        let own = "192.168.1.5:3000".parse().expect("an address");
        assert!(is_us(own, "192.168.1.5") && !is_us(own, "192.168.1.6"));
    }
}
