//! The HTTP side: accepting, and joining a request with its executing thread.
//!
//! Order of judgement: the head (see `judge`), a free connection to the engine, the body. Bounds:
//! connections, requests that run, requests that wait and for how long.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::body::{self, BodyReader, ContentCoding};
use crate::doors::Credentials;
use crate::engine::Engine;
use crate::exception::{Code, Exception};
use crate::judge::{Judged, Query, header_text, judge};
use crate::output::{Encoding, Head, Output, QUEUE_PIECES, Sink};
use crate::response::{OutputBody, content_type, summary};
use crate::url_params::UrlParams;
use crate::{execute, form};

/// Open connections; a further client waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
/// Requests that wait for a place; further ones are refused at once.
const WAITING_MAX: usize = 64;
const WAIT_MAX: Duration = Duration::from_secs(10);
const HEAD_WAIT_MAX: Duration = Duration::from_secs(10);
const DISPLAY_NAME: &str = "unmogrowp-clickhouse (chDB)";

type ResponseBody = UnsyncBoxBody<Bytes, std::io::Error>;
type Response = hyper::Response<ResponseBody>;

pub struct Server {
    pub engine: Arc<Engine>,
    pub credentials: Credentials,
    running: Arc<Semaphore>,
    waiting: Semaphore,
    running_max: usize,
}

impl Server {
    pub fn new(engine: Arc<Engine>, credentials: Credentials, running_max: usize) -> Server {
        Server {
            engine,
            credentials,
            running: Arc::new(Semaphore::new(running_max)),
            waiting: Semaphore::new(WAITING_MAX),
            running_max,
        }
    }

    /// Serves until `stop` turns true, then lets running requests end until the deadline. True if
    /// all of them did.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        mut stop: watch::Receiver<bool>,
        drain_max: Duration,
    ) -> bool {
        let graceful = GracefulShutdown::new();
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT_MAX).half_close(false);
        loop {
            let accept = async {
                let permit = connections.clone().acquire_owned().await;
                (listener.accept().await, permit)
            };
            let (stream, permit) = tokio::select! {
                accepted = accept => match accepted {
                    (Ok((stream, _)), permit) => (stream, permit),
                    (Err(error), _) => {
                        tracing::warn!(%error, "accept failed");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                _ = stop.wait_for(|stop| *stop) => break,
            };
            stream.set_nodelay(true).ok();
            let server = self.clone();
            let service = hyper::service::service_fn(move |request| {
                let server = server.clone();
                async move { Ok::<_, Infallible>(server.answer(request).await) }
            });
            let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
            tokio::spawn(async move {
                let _permit = permit;
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "connection ended");
                }
            });
        }
        drop(listener);
        let drained = async {
            graceful.shutdown().await;
            self.running.acquire_many(self.running_max as u32).await.is_ok()
        };
        tokio::time::timeout(drain_max, drained).await.unwrap_or(false)
    }

    async fn answer(&self, request: hyper::Request<Incoming>) -> Response {
        let (parts, body) = request.into_parts();
        let judged = match judge(&parts, &self.credentials) {
            Ok(Judged::Query(query)) => self.query(*query, &parts, body).await,
            Ok(Judged::Alive) => return text(StatusCode::OK, "Ok.\n"),
            Ok(Judged::NoSuchPath) => {
                return text(StatusCode::NOT_FOUND, "There is nothing here. Use / or /ping.\n");
            }
            Ok(Judged::NoSuchMethod) => {
                let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Use GET or POST.\n");
                let methods = HeaderValue::from_static("GET, POST");
                response.headers_mut().insert(header::ALLOW, methods);
                return response;
            }
            Err(exception) => Err(exception),
        };
        judged.unwrap_or_else(|exception| self.refuse(exception))
    }

    async fn query(
        &self,
        query: Query,
        parts: &Parts,
        body: Incoming,
    ) -> Result<Response, Exception> {
        let Query { mut params, coding, boundary } = query;
        let permit = self.wait_for_place().await?;
        let reader = match boundary {
            Some(boundary) => {
                form::take(body, boundary, &mut params.request).await?;
                BodyReader::empty()
            }
            None => {
                let (reader, feed) = body::channel(body);
                tokio::spawn(feed);
                reader
            }
        };
        let accepted = header_text(parts, "accept-encoding").unwrap_or_default();
        let encoding = choose_encoding(&params, &accepted);
        self.run(params, reader, coding, encoding, permit).await
    }

    /// A place among the requests that run, kept until the executing thread is done.
    async fn wait_for_place(&self) -> Result<OwnedSemaphorePermit, Exception> {
        if let Ok(permit) = self.running.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let busy = |how: &str| {
            let message = format!("Too many simultaneous queries: {} run, {how}", self.running_max);
            Exception::new(Code::TooManySimultaneousQueries, message)
        };
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(busy(&format!("{WAITING_MAX} wait")));
        };
        match tokio::time::timeout(WAIT_MAX, self.running.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(busy(&format!("none ended within {} s", WAIT_MAX.as_secs()))),
        }
    }

    async fn run(
        &self,
        params: UrlParams,
        reader: BodyReader,
        coding: ContentCoding,
        encoding: Encoding,
        permit: OwnedSemaphorePermit,
    ) -> Result<Response, Exception> {
        let (sender, mut outputs) = mpsc::channel(QUEUE_PIECES);
        let version = self.engine.version.clone();
        let tag = exception_tag();
        let sink = Sink::new(sender, encoding, params.wait_end_of_query, tag, version);
        let query_id = params.query_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let engine = self.engine.clone();
        let request = params.request;
        tokio::task::spawn_blocking(move || {
            execute::execute(&engine, &request, reader, coding, sink);
            drop(permit);
        });
        let mut response = match outputs.recv().await {
            Some(Output::Head(head)) => self.success(&head, encoding, outputs),
            Some(Output::Failed(exception)) => self.refuse(exception),
            _ => self.refuse(Exception::new(Code::NetworkError, "the executing thread ended")),
        };
        insert_header(&mut response, "x-clickhouse-query-id", &query_id);
        Ok(response)
    }

    fn success(
        &self,
        head: &Head,
        encoding: Encoding,
        outputs: mpsc::Receiver<Output>,
    ) -> Response {
        let mut response = hyper::Response::new(OutputBody::new(outputs).boxed_unsync());
        insert_header(&mut response, "content-type", content_type(&head.format));
        insert_header(&mut response, "x-clickhouse-summary", &summary(&head.progress));
        insert_header(&mut response, "x-clickhouse-exception-tag", &head.exception_tag);
        if !head.format.is_empty() {
            insert_header(&mut response, "x-clickhouse-format", &head.format);
        }
        if let Some(name) = encoding.content_encoding() {
            insert_header(&mut response, "content-encoding", name);
        }
        self.identify(&mut response);
        response
    }

    fn refuse(&self, exception: Exception) -> Response {
        let status = exception.status();
        let mut response = text(status, exception.body(&self.engine.version));
        insert_header(&mut response, "x-clickhouse-exception-code", &exception.code.to_string());
        if status == StatusCode::UNAUTHORIZED {
            insert_header(&mut response, "www-authenticate", "Basic realm=\"ClickHouse\"");
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            insert_header(&mut response, "retry-after", "1");
        }
        self.identify(&mut response);
        response
    }

    fn identify(&self, response: &mut Response) {
        insert_header(response, "x-clickhouse-server-display-name", DISPLAY_NAME);
        insert_header(response, "x-clickhouse-timezone", "UTC");
    }
}

fn choose_encoding(params: &UrlParams, accepted: &str) -> Encoding {
    if params.native_blocks_out {
        return Encoding::NativeBlocks;
    }
    if !params.http_compression {
        return Encoding::Plain;
    }
    let accepts = |name: &str| {
        accepted.split(',').any(|item| {
            item.split(';').next().is_some_and(|coding| coding.trim().eq_ignore_ascii_case(name))
        })
    };
    [("lz4", Encoding::Lz4Frame), ("zstd", Encoding::Zstd), ("gzip", Encoding::Gzip)]
        .into_iter()
        .find_map(|(name, encoding)| accepts(name).then_some(encoding))
        .unwrap_or(Encoding::Plain)
}

/// Sixteen letters that a result can not hold by chance.
fn exception_tag() -> String {
    let letter = |byte: &u8| char::from(b'a' + byte % 26);
    uuid::Uuid::new_v4().as_bytes().iter().map(letter).collect()
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    let mut response = hyper::Response::new(body);
    *response.status_mut() = status;
    insert_header(&mut response, "content-type", "text/plain; charset=UTF-8");
    response
}

/// Values that a client chose (a query id, a format's name) may not be fit for a header.
fn insert_header(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
}
