//! What each path answers. Pure: no socket, no clock.

use super::{Health, HealthReport};
use crate::metrics::{Metrics, PROMETHEUS_CONTENT_TYPE};
use proto::ErrorCode;
use proto::error_code::{push_error_body, push_json_escaped};

const JSON: &str = "application/json";
const ALLOW: &str = "GET, HEAD";
const PATHS: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/version"];

/// An answer, of which HEAD leaves the body out.
pub(super) struct Page {
    pub status: u16,
    pub content_type: &'static str,
    pub allow: Option<&'static str>,
    pub body: Vec<u8>,
}

impl Page {
    fn json(status: u16, body: Vec<u8>) -> Page {
        Page { status, content_type: JSON, allow: None, body }
    }

    fn error(code: ErrorCode, error: &str, details: &str) -> Page {
        let mut body = Vec::new();
        push_error_body(&mut body, code, error, details);
        Page::json(code.http_status(), body)
    }
}

pub(super) fn page(method: &str, path: &str, health: &Health, metrics: &Metrics) -> Page {
    if !PATHS.contains(&path) {
        return Page::error(ErrorCode::NotFound, "no such path", &PATHS.join(", "));
    }
    if !matches!(method, "GET" | "HEAD") {
        let page = Page::error(ErrorCode::MethodNotAllowed, "this path is read with GET", ALLOW);
        return Page { allow: Some(ALLOW), ..page };
    }
    match path {
        "/healthz" => Page::json(200, b"{\"status\":\"ok\"}".to_vec()),
        "/readyz" => ready(&health.report()),
        "/version" => Page::json(200, version()),
        _ => match metrics.encode() {
            Ok(text) => Page {
                status: 200,
                content_type: PROMETHEUS_CONTENT_TYPE,
                allow: None,
                body: text.into_bytes(),
            },
            Err(_) => Page::error(ErrorCode::InternalError, "metrics cannot be encoded", ""),
        },
    }
}

fn ready(report: &HealthReport) -> Page {
    Page::json(if report.ready { 200 } else { 503 }, readiness_body(report))
}

/// `{"status":"ready","degraded":[{"component":…,"level":…,"reason":…}]}`
pub fn readiness_body(report: &HealthReport) -> Vec<u8> {
    let status = if report.ready { "ready" } else { "not ready" };
    let mut body = format!("{{\"status\":\"{status}\",\"degraded\":[").into_bytes();
    for (index, ailment) in report.ailments.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        let (component, level) = (ailment.component, ailment.level.as_str());
        let head = format!("{{\"component\":\"{component}\",\"level\":\"{level}\",\"reason\":\"");
        body.extend_from_slice(head.as_bytes());
        push_json_escaped(&mut body, &ailment.reason);
        body.extend_from_slice(b"\"}");
    }
    body.extend_from_slice(b"]}");
    body
}

fn version() -> Vec<u8> {
    let commit = option_env!("UNMOGROWP_COMMIT").unwrap_or("unknown");
    let version = env!("CARGO_PKG_VERSION");
    format!("{{\"name\":\"unmogrowp-engine\",\"version\":\"{version}\",\"commit\":\"{commit}\"}}")
        .into_bytes()
}
