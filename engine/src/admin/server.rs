//! The admin port's listener and its bounds, on a thread of its own.

use super::Health;
use super::pages::{Page, page};
use crate::metrics::Metrics;
use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

/// More clients than these wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 64;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Of a connection, whatever it does.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(60);
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// After a failed accept, such as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The admin port; closed when this is dropped.
pub struct AdminServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl AdminServer {
    pub fn start(
        listen: SocketAddr,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<AdminServer> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the admin port's runtime")?;
        let listener = runtime
            .block_on(TcpListener::bind(listen))
            .with_context(|| format!("admin.listen = {listen}: cannot listen there"))?;
        let address = listener.local_addr().context("the admin port has no address")?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = accept(listener, health, metrics) => {}
                        _ = stopped => {}
                    }
                });
            })
            .context("cannot start the admin port's thread")?;
        Ok(AdminServer { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it really listens, also when port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the admin port ended by a panic");
        }
    }
}

async fn accept(listener: TcpListener, health: Arc<Health>, metrics: Arc<Metrics>) {
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
            let served = serve(stream, &health, &metrics);
            // A connection that ends badly or takes too long is the client's matter.
            let _ = tokio::time::timeout(CONNECTION_AGE_MAX, served).await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, health: &Health, metrics: &Metrics) -> hyper::Result<()> {
    let service = service_fn(|request: Request<Incoming>| {
        let path = request.uri().path();
        let page = page(request.method().as_str(), path, health, metrics);
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

fn answer(page: Page, head: bool) -> Response<Full<Bytes>> {
    let mut builder = Response::builder()
        .status(page.status)
        .header("content-type", page.content_type)
        .header("content-length", page.body.len())
        .header("cache-control", "no-store");
    if let Some(allow) = page.allow {
        builder = builder.header("allow", allow);
    }
    let body = if head { Bytes::new() } else { Bytes::from(page.body) };
    builder.body(Full::new(body)).expect("every part of the head is a constant or a number")
}
