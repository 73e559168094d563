//! What a request's head comes to, before anything of its body is read.
//!
//! Owns the order of judgement: Host and Origin, path, method, password, parameters, coding. A pure
//! function of head and credentials: it must not know the engine, and nothing here waits.

use hyper::Method;
use hyper::http::request::Parts;

use crate::body::ContentCoding;
use crate::doors::{self, Credentials};
use crate::exception::{Code, Exception};
use crate::form;
use crate::url_params::{self, UrlParams};

#[derive(Debug)]
pub enum Judged {
    /// Asks whether the server is there, which needs no password.
    Alive,
    NoSuchPath,
    NoSuchMethod,
    /// Of a client that knows the password.
    Query(Box<Query>),
}

#[derive(Debug)]
pub struct Query {
    pub params: UrlParams,
    pub coding: ContentCoding,
    /// The body is a form.
    pub boundary: Option<String>,
}

pub fn judge(parts: &Parts, credentials: &Credentials) -> Result<Judged, Exception> {
    doors::check_origin(&parts.headers)?;
    let is_read = parts.method == Method::GET || parts.method == Method::HEAD;
    match parts.uri.path() {
        "/ping" | "/replicas_status" => return Ok(Judged::Alive),
        "/" if is_read && parts.uri.query().is_none() => return Ok(Judged::Alive),
        "/" => {}
        _ => return Ok(Judged::NoSuchPath),
    }
    if parts.method != Method::GET && parts.method != Method::POST {
        return Ok(Judged::NoSuchMethod);
    }
    judge_query(parts, credentials).map(|query| Judged::Query(Box::new(query)))
}

fn judge_query(parts: &Parts, credentials: &Credentials) -> Result<Query, Exception> {
    let params = url_params::parse(parts.uri.query().unwrap_or_default());
    let from_url = params.as_ref().map(|params| &params.credentials);
    let no_credentials = Default::default();
    credentials.check(&parts.headers, from_url.unwrap_or(&no_credentials))?;
    let mut params = params?;
    params.request.read_only = parts.method == Method::GET;
    if params.request.database.is_none() {
        params.request.database = header_text(parts, "x-clickhouse-database");
    }
    if let Some(format) = header_text(parts, "x-clickhouse-format") {
        params.request.default_format.get_or_insert(format);
    }
    let coding = match header_text(parts, "content-encoding") {
        None => ContentCoding::Identity,
        Some(name) => ContentCoding::parse(&name).ok_or_else(|| {
            let message = format!("Unknown compression method: Content-Encoding {name}");
            Exception::new(Code::UnknownCompressionMethod, message)
        })?,
    };
    let boundary = form::boundary(header_text(parts, "content-type").as_deref());
    Ok(Query { params, coding, boundary })
}

pub fn header_text(parts: &Parts, name: &str) -> Option<String> {
    parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}
