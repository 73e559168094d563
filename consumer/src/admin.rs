//! The admin port: `/healthz`, `/readyz`, `/metrics`, `/version`. It asks nobody for a key, so its
//! address belongs on loopback.

use crate::health::Health;
use crate::metrics::Metrics;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use proto::ErrorCode;
use proto::error_code::push_error_body;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// More clients than these wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 64;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Of a connection, whatever it does.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60);
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// After a failed accept, such as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const JSON: &str = "application/json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const ALLOW: &str = "GET, HEAD";
const PATHS: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/version"];

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, health: Arc<Health>, metrics: Arc<Metrics>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin port cannot take a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (health, metrics) = (health.clone(), metrics.clone());
        tokio::spawn(async move {
            let served = serve_connection(stream, &health, &metrics);
            // A connection that ends badly or takes too long is the client's matter.
            let _ = tokio::time::timeout(CONNECTION_AGE_MAX, served).await;
            drop(place);
        });
    }
}

async fn serve_connection(
    stream: TcpStream,
    health: &Health,
    metrics: &Metrics,
) -> hyper::Result<()> {
    let service = service_fn(|request: Request<Incoming>| {
        let page = page(request.method(), request.uri().path(), health, metrics);
        let answer = answer(page, request.method() == Method::HEAD);
        async move { Ok::<_, Infallible>(answer) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

struct Page {
    status: u16,
    content_type: &'static str,
    body: Vec<u8>,
}

fn page(method: &Method, path: &str, health: &Health, metrics: &Metrics) -> Page {
    let json = |status, body| Page { status, content_type: JSON, body };
    let refusal = |code: ErrorCode, error, details: &str| {
        let mut body = Vec::new();
        push_error_body(&mut body, code, error, details);
        json(code.http_status(), body)
    };
    if !PATHS.contains(&path) {
        return refusal(ErrorCode::NotFound, "no such path", &PATHS.join(", "));
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        return refusal(ErrorCode::MethodNotAllowed, "this path is read with GET", ALLOW);
    }
    let (ready, report) = health.report();
    match path {
        "/healthz" => json(200, b"{\"status\":\"ok\"}".to_vec()),
        "/readyz" => json(if ready { 200 } else { 503 }, report),
        "/version" => json(200, version()),
        _ => {
            let body = metrics.text(ready).into_bytes();
            Page { status: 200, content_type: OPEN_METRICS, body }
        }
    }
}

fn version() -> Vec<u8> {
    let commit = option_env!("UNMOGROWP_COMMIT").unwrap_or("unknown");
    let version = env!("CARGO_PKG_VERSION");
    format!("{{\"name\":\"unmogrowp-consumer\",\"version\":\"{version}\",\"commit\":\"{commit}\"}}")
        .into_bytes()
}

fn answer(page: Page, head: bool) -> Response<Full<Bytes>> {
    let mut builder = Response::builder()
        .status(page.status)
        .header("content-type", page.content_type)
        .header("content-length", page.body.len())
        .header("cache-control", "no-store");
    if page.status == ErrorCode::MethodNotAllowed.http_status() {
        builder = builder.header("allow", ALLOW);
    }
    let body = if head { Bytes::new() } else { Bytes::from(page.body) };
    builder.body(Full::new(body)).expect("every part of the head is a constant or a number")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Component;

    #[test]
    fn each_path_has_its_page() {
        let (health, metrics) = (Health::starting(), Metrics::new());
        let check = |method: Method, path, status, part: &str| {
            let page = page(&method, path, &health, &metrics);
            let body = String::from_utf8(page.body).unwrap();
            assert_eq!(page.status, status, "{path}");
            assert!(body.contains(part), "{path}: {body}");
        };
        check(Method::GET, "/healthz", 200, "ok");
        check(Method::GET, "/readyz", 503, "not reached yet");
        check(Method::GET, "/metrics", 200, "unmogrowp_consumer_ready 0");
        check(Method::GET, "/version", 200, "unmogrowp-consumer");
        check(Method::POST, "/readyz", 405, "METHOD_NOT_ALLOWED");
        check(Method::GET, "/", 404, "NOT_FOUND");
        health.set_up(Component::Kafka);
        health.set_up(Component::Clickhouse);
        check(Method::HEAD, "/readyz", 200, "ready");
    }
}
