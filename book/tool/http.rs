//! Requests and answers over HTTP: the files of a folder, and what a program
//! adds to them.

use anyhow::Result;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use std::convert::Infallible;
use std::fs;
use std::net::TcpListener;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// What is asked, with its whole body.
pub(crate) type Request = hyper::Request<Bytes>;
/// What is answered.
pub(crate) type Response = hyper::Response<Bytes>;

/// Connections at a time; a page that waits for a change keeps one.
const MOST: usize = 64;
/// How long the head of a request may take to come, and then its body.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes in a request's body: a report on every page has some 100 kB.
const BODY: usize = 1 << 24;

/// Answers on this thread, for ever. It takes [`MOST`] connections at a time,
/// and the others wait. One whose request does not come is closed.
pub(crate) fn serve<F>(
    listener: TcpListener,
    answer: impl Fn(Request) -> F + Clone + Send + 'static,
) -> Result<()>
where
    F: Future<Output = Response> + Send + 'static,
{
    listener.set_nonblocking(true)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(accept(listener, answer))
}

async fn accept<F>(
    listener: TcpListener,
    answer: impl Fn(Request) -> F + Clone + Send + 'static,
) -> Result<()>
where
    F: Future<Output = Response> + Send + 'static,
{
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let free = Arc::new(Semaphore::new(MOST));
    loop {
        let turn = free.clone().acquire_owned().await?;
        let Ok((stream, _)) = listener.accept().await else {
            // Out of handles, perhaps: some of them will be closed.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let answer = answer.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let answer = answer.clone();
            async move {
                let answer = match whole(request).await {
                    Ok(request) => answer(request).await,
                    Err(refused) => refused,
                };
                Ok::<_, Infallible>(answer.map(Full::new))
            }
        });
        tokio::spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
            // That a browser left is no error.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
            drop(turn);
        });
    }
}

/// The request with its whole body, or why there is none.
async fn whole(request: hyper::Request<Incoming>) -> Result<Request, Response> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY).collect();
    match timeout(PATIENCE, body).await {
        Ok(Ok(body)) => Ok(Request::from_parts(head, body.to_bytes())),
        Ok(Err(e)) => Err(text(StatusCode::BAD_REQUEST, &format!("{e}\n"))),
        Err(_) => Err(text(
            StatusCode::REQUEST_TIMEOUT,
            "the body of the request did not come\n",
        )),
    }
}

/// A file of the folder; what is not there is answered by its 404.html.
pub(crate) fn file(folder: &Path, request: &Request) -> Response {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let words = "a page can be got, and nothing else\n";
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, words);
        let allowed = HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, allowed);
        return refused;
    }
    let asked = request.uri().path();
    let found = inside(asked).map(|path| folder.join(path));
    let Some(mut path) = found.filter(|path| path.exists()) else {
        return missing(folder);
    };
    if path.is_dir() {
        if !asked.ends_with('/') {
            return leads_into(asked);
        }
        path.push("index.html");
    }
    match fs::read(&path) {
        Ok(bytes) => with_type(&path, bytes),
        Err(_) => missing(folder),
    }
}

/// The path below the folder that an address names; none if it would leave it.
fn inside(asked: &str) -> Option<PathBuf> {
    let decoded = percent_decode_str(asked).decode_utf8().ok()?;
    let path = Path::new(decoded.trim_start_matches('/'));
    let plain = |part| matches!(part, Component::Normal(_));
    (path.components().all(plain) && !decoded.contains(['\\', '\0']))
        .then(|| path.to_path_buf())
}

/// A folder's pages link to each other from inside it. The new address is
/// relative, so that it cannot name another host.
fn leads_into(asked: &str) -> Response {
    let last = asked.rsplit('/').next().unwrap_or_default();
    let mut answer = text(StatusCode::TEMPORARY_REDIRECT, "");
    match HeaderValue::from_str(&format!("./{last}/")) {
        Ok(to) => {
            answer.headers_mut().insert(LOCATION, to);
        }
        Err(_) => *answer.status_mut() = StatusCode::BAD_REQUEST,
    }
    answer
}

fn missing(folder: &Path) -> Response {
    let page = folder.join("404.html");
    let Ok(bytes) = fs::read(&page) else {
        return text(StatusCode::NOT_FOUND, "there is no such page\n");
    };
    let mut answer = with_type(&page, bytes);
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer
}

/// Bytes of the type that a file's name says: of those that a book has.
fn with_type(path: &Path, bytes: Vec<u8>) -> Response {
    let extension = path.extension().and_then(|e| e.to_str());
    let kind = match extension.unwrap_or_default() {
        "css" => "text/css",
        "html" => "text/html",
        "js" => "text/javascript",
        "json" => "application/json",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "txt" => "text/plain",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    };
    typed(kind, bytes)
}

/// Bytes of this type.
pub(crate) fn typed(kind: &str, bytes: impl Into<Bytes>) -> Response {
    let mut answer = Response::new(bytes.into());
    if let Ok(kind) = HeaderValue::from_str(kind) {
        answer.headers_mut().insert(CONTENT_TYPE, kind);
    }
    answer
}

/// A page made by the program.
pub(crate) fn page(html: &str) -> Response {
    typed("text/html; charset=utf-8", html.to_string())
}

/// A few words.
pub(crate) fn text(status: StatusCode, words: &str) -> Response {
    let mut answer = typed("text/plain; charset=utf-8", words.to_string());
    *answer.status_mut() = status;
    answer
}

/// Has `change` rewrite the answer if it is a page; others stay as they are.
pub(crate) fn rewrite(
    answer: Response, change: impl FnOnce(&str) -> String,
) -> Response {
    let kind = answer.headers().get(CONTENT_TYPE);
    if !kind.is_some_and(|t| t.as_bytes().starts_with(b"text/html")) {
        return answer;
    }
    answer.map(|page| change(&String::from_utf8_lossy(&page)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_leaves_the_folder() -> Result<()> {
        let top = tempfile::tempdir()?;
        let html = top.path().join("html");
        fs::create_dir_all(html.join("in"))?;
        fs::write(top.path().join("secret"), "secret")?;
        fs::write(html.join("a b.html"), "here")?;
        fs::write(html.join("in/index.html"), "here")?;
        let get = |method: Method, path: &str| {
            let request = hyper::Request::builder().method(method).uri(path);
            request.body(Bytes::new()).map(|r| file(&html, &r))
        };
        for (path, status) in [
            ("/a%20b.html", 200),
            ("/a%20b.html?x=../secret", 200),
            ("/in/", 200),
            ("/in", 307),
            ("//in", 307),
            ("/../secret", 404),
            ("/%2e%2e/secret", 404),
            ("/..%2fsecret", 404),
            ("/in/../../secret", 404),
            ("/in/..%5c..%5csecret", 404),
            ("/%2fetc/hostname", 404),
            ("/%ff", 404),
            ("/a%00", 404),
            ("/nothing.html", 404),
        ] {
            let answer = get(Method::GET, path)?;
            assert_eq!(answer.status().as_u16(), status, "{path}");
            let to = answer.headers().get(LOCATION);
            assert!(
                to.is_none_or(|to| to == "./in/"),
                "{path} leads to {to:?}"
            );
        }
        assert_eq!(get(Method::POST, "/in/")?.status().as_u16(), 405);
        Ok(())
    }
}
