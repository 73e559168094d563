//! Connections: taken up to a bound, served with hyper, drained at the stop.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::router::Router;
use crate::write_deadline::WriteDeadline;

/// Of a request's head, and of what hyper buffers of a connection. The longest head that our
/// limits on parameters allow is about 6 KiB; RFC 9110 asks for targets of 8,000 bytes.
const HEAD_BYTES_MAX: usize = 32 * 1024;
const HEADERS_MAX: usize = 64;
/// A client that takes no byte of its answer for this long is given up.
const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// Answers under way at the stop have this long to leave.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(9);
/// Before trying to accept again after the system refused, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Copy)]
pub struct ConnectionLimits {
    pub connections_max: u16,
    pub head_time_max: Duration,
}

/// Serves until `stop` turns true, then until the open connections are done or
/// [`DRAIN_TIME_MAX`] is over.
pub async fn serve(
    listener: TcpListener,
    router: Arc<Router>,
    limits: ConnectionLimits,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits.connections_max.into()));
    let stopped = stop.clone();
    let accepting = async {
        loop {
            let place = Arc::clone(&places).acquire_owned().await;
            let place = place.expect("this semaphore is never closed");
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (router, stopped) = (Arc::clone(&router), stopped.clone());
            tokio::spawn(async move {
                router.metrics.connections.inc();
                serve_connection(stream, peer, &router, limits.head_time_max, stopped).await;
                router.metrics.connections.dec();
                drop(place);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    drop(listener);
    let all_places = places.acquire_many(limits.connections_max.into());
    if timeout(DRAIN_TIME_MAX, all_places).await.is_err() {
        warn!("connections that were still open at the stop are cut");
    }
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: &Arc<Router>,
    head_time_max: Duration,
    mut stop: watch::Receiver<bool>,
) {
    // An answer is one write; without this its tail would wait for the peer's delayed ACK.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let router = Arc::clone(router);
        async move {
            let (head, _body) = request.into_parts();
            Ok::<_, Infallible>(router.answer(&head, peer.ip()).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time_max)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(WriteDeadline::new(stream, WRITE_STALL_MAX)), service);
    let mut connection = pin!(connection);
    let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        debug!(%error, %peer, "connection ended");
    }
}
