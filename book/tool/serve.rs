//! Serves the book; when a file is saved, builds it anew and reloads the
//! pages. What cannot be built says so in the page, which stays as it was.

use crate::directives::escape;
use crate::make::{self, Mode};
use crate::measure;
use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;
use notify::{Event, RecursiveMode, Watcher};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower_http::services::{ServeDir, ServeFile};
use tower_livereload::{LiveReloadLayer, Reloader};

/// What is wrong with the last edit, if anything.
type Fault = Arc<Mutex<Option<String>>>;

/// Serves the book of the project at `root` until it is stopped.
pub fn serve(root: &Path, mode: Mode, address: &str) -> Result<()> {
    let html = root.join("target/book/html");
    let fault = Fault::default();
    attempt(root, mode, &fault);
    let livereload = LiveReloadLayer::new();
    let (changes, _watcher) = watch(root)?;
    let reloader = livereload.reloader();
    let (top, told) = (root.to_path_buf(), fault.clone());
    std::thread::spawn(move || rebuild(&top, mode, &changes, &told, &reloader));

    let missing = ServeFile::new(html.join("404.html"));
    let files = ServeDir::new(&html).not_found_service(missing);
    let app = Router::new()
        .fallback_service(files)
        .layer(axum::middleware::map_response(move |response| {
            tell(fault.clone(), response)
        }))
        .layer(livereload);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .with_context(|| {
                format!(
                    "{address} cannot be listened on; name another: \
                     cargo book serve 127.0.0.1:3001"
                )
            })?;
        println!("the book is at http://{address}; edit, and it reloads");
        Ok(axum::serve(listener, app).await?)
    })
}

/// Watches all that the book is made of.
fn watch(root: &Path) -> Result<(Receiver<()>, notify::RecommendedWatcher)> {
    let (send, changes) = channel();
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
    Ok((changes, watcher))
}

/// Builds at each change; then, if the sources changed, measures them and
/// builds again. Until that is done the book marks the old numbers.
fn rebuild(
    root: &Path, mode: Mode, changes: &Receiver<()>, fault: &Fault,
    reloader: &Reloader,
) {
    loop {
        if !measure::last(root).current {
            let measured = measure::measure(root);
            if let Err(e) = &measured {
                eprintln!("error: {e:#}");
            }
            if measured.is_ok() {
                attempt(root, mode, fault);
                reloader.reload();
            }
        }
        if changes.recv().is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100)); // one save, many events
        changes.try_iter().for_each(drop);
        attempt(root, mode, fault);
        reloader.reload();
    }
}

fn attempt(root: &Path, mode: Mode, fault: &Fault) {
    let built = make::build(root, mode).err().map(|e| format!("{e:#}"));
    if let Some(e) = &built {
        eprintln!("error: {e}");
    }
    *fault.lock().unwrap_or_else(|e| e.into_inner()) = built;
}

/// Puts the fault at the top of a page.
async fn tell(fault: Fault, response: Response) -> Response {
    let fault = fault.lock().unwrap_or_else(|e| e.into_inner()).clone();
    let page = response.headers().get(CONTENT_TYPE);
    let page = page.is_some_and(|t| t.as_bytes().starts_with(b"text/html"));
    let Some(fault) = fault.filter(|_| page) else { return response };
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let notice = format!(
        "<pre role=\"alert\" style=\"position:fixed;inset:0 0 auto 0;\
         z-index:9999;margin:0;padding:1em;max-height:60vh;overflow:auto;\
         white-space:pre-wrap;background:#7d1020;color:#fff\">\
         The last edit cannot be built; below is the book before it.\n{}\
         </pre>",
        escape(&fault)
    );
    let text = match text.rsplit_once("</body>") {
        Some((before, after)) => format!("{before}{notice}</body>{after}"),
        None => format!("{text}{notice}"),
    };
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(text))
}
