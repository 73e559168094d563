//! The hyper peer: the ingestion endpoint as a good Rust team would write it without us, with hyper on
//! tokio's multi-threaded runtime, serde_json and rdkafka.
//!
//! It owns the command line and HTTP; `batch.rs` has the contract of a batch, `sink.rs` the way to
//! Kafka. It must not use a line of the engine or of `proto`: it is what the engine is compared with.

mod batch;
mod sink;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use clap::Parser;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

use batch::Batch;
use sink::{Sink, SinkName};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As the engine's own limit of a body.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Parser)]
struct Arguments {
    /// Address to serve on
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,

    /// The app whose events are taken
    #[arg(long)]
    app_id: Uuid,

    #[arg(long, env = "PEER_API_KEY", hide_env_values = true)]
    api_key: String,

    /// none: events end once they are checked; kafka: a 200 says that Kafka has them
    #[arg(long, value_enum, default_value = "none")]
    sink: SinkName,

    #[arg(long, default_value = "127.0.0.1:9092")]
    brokers: String,

    #[arg(long, default_value = "events")]
    topic: String,
}

struct Service {
    apps: HashMap<String, Uuid>,
    sink: Sink,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let sink = Sink::open(arguments.sink, &arguments.brokers, &arguments.topic)?;
    let apps = HashMap::from([(arguments.api_key, arguments.app_id)]);
    let service = Arc::new(Service { apps, sink });
    let listener = TcpListener::bind(arguments.listen).await.context("--listen")?;
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(serve(stream, Arc::clone(&service)));
                }
                // Such as too many open files: connections that end make room.
                Err(error) => eprintln!("accepting: {error}"),
            },
            _ = terminate.recv() => break,
        }
    }
    service.sink.flush()
}

async fn serve(stream: TcpStream, service: Arc<Service>) {
    let _ = stream.set_nodelay(true);
    let respond = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(service.respond(request).await) }
    });
    let mut http = http1::Builder::new();
    http.pipeline_flush(true);
    // A client that goes away in the middle is its own affair.
    let _ = http.serve_connection(TokioIo::new(stream), respond).await;
}

impl Service {
    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let received = Instant::now();
        match self.ingest(request).await {
            Ok(count) => {
                let processing_time_ms = received.elapsed().as_micros() as f64 / 1000.0;
                let data = SuccessData { events_received: count, status: "processing" };
                let meta = SuccessMeta { processing_time_ms, count };
                answer(StatusCode::OK, &Success { status: "success", data, meta })
            }
            Err(refusal) => {
                let Refusal { status, code, text } = refusal;
                answer(status, &Failure { status: "error", error: text, code, details: "" })
            }
        }
    }

    /// Gives how many events were taken.
    async fn ingest(&self, request: Request<Incoming>) -> Result<usize, Refusal> {
        if request.uri().path() != "/api/v1/events" {
            return Err(Refusal::new(StatusCode::NOT_FOUND, "NOT_FOUND", "nothing is here"));
        }
        if request.method() != Method::POST {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            return Err(Refusal::new(status, "METHOD_NOT_ALLOWED", "only POST"));
        }
        let key = request.headers().get("x-api-key").and_then(|key| key.to_str().ok());
        let app = key.and_then(|key| self.apps.get(key)).ok_or_else(|| {
            Refusal::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "the key is not valid")
        })?;
        let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| {
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", error)
        })?;
        let body = body.to_bytes();
        let batch: Batch<'_> = serde_json::from_slice(&body)
            .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, "INVALID_REQUEST", error))?;
        if batch.app_id != *app {
            let text = "the key belongs to another app";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "FORBIDDEN", text));
        }
        let received_at = OffsetDateTime::now_utc();
        batch
            .check(received_at)
            .map_err(|fault| Refusal::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", fault))?;
        self.sink.store(&batch, received_at).await.map_err(|error| {
            eprintln!("storing a batch: {error:#}");
            let text = "the batch could not be stored";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", text)
        })?;
        Ok(batch.events.len())
    }
}

struct Refusal {
    status: StatusCode,
    code: &'static str,
    text: String,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, text: impl ToString) -> Refusal {
        Refusal { status, code, text: text.to_string() }
    }
}

#[derive(Serialize)]
struct Success {
    status: &'static str,
    data: SuccessData,
    meta: SuccessMeta,
}

#[derive(Serialize)]
struct SuccessData {
    events_received: usize,
    status: &'static str,
}

#[derive(Serialize)]
struct SuccessMeta {
    processing_time_ms: f64,
    count: usize,
}

#[derive(Serialize)]
struct Failure {
    status: &'static str,
    error: String,
    code: &'static str,
    details: &'static str,
}

fn answer(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(body).expect("plain structs become JSON");
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
