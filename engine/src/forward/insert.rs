//! One INSERT over HTTP, and the ping. Owns the client; knows nothing of batches and retries.

use crate::config::{Clickhouse, Secret};
use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, SizeHint};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use proto::backoff::Pace;
use proto::clickhouse::chain_text;
use proto::insert::{self, Failure, Insert, InsertFailure, sort_answer};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Of ClickHouse's answer; an exception's text is shorter.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// An idle connection is closed before ClickHouse's own keep-alive (3 s before version 24, then 30)
/// can close it under a request.
const IDLE_MAX: Duration = Duration::from_secs(2);

pub struct Inserter {
    client: Client<HttpConnector, Payloads>,
    insert_url: String,
    ping_url: String,
    user: String,
    password: Secret,
    timeout: Duration,
    connect_timeout: Duration,
}

impl Inserter {
    pub fn new(config: &Clickhouse) -> anyhow::Result<Inserter> {
        let connect_timeout = Duration::from_millis(config.connect_timeout_ms);
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(connect_timeout));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(config.inserts_in_flight_max)
            .build(connector);
        for text in [&config.user, config.password.expose()] {
            // The value itself must not get into the message.
            hyper::header::HeaderValue::from_str(text)
                .ok()
                .context("clickhouse.user and clickhouse.password must fit into an HTTP header")?;
        }
        Ok(Inserter {
            client,
            insert_url: insert_url(config),
            ping_url: format!("{}/ping", config.url),
            user: config.user.clone(),
            password: config.password.clone(),
            timeout: Duration::from_millis(config.timeout_ms),
            connect_timeout,
        })
    }

    /// `Ok` only when ClickHouse has said that it is done.
    ///
    /// `max_insert_block_size` is above `rows`, so that they are one block: the token covers all of
    /// them or none.
    pub async fn insert(&self, insert: Insert) -> Result<(), Failure> {
        let Insert { payloads, rows, token, .. } = insert;
        let url = format!(
            "{}&{}={}&{}={token}",
            self.insert_url,
            insert::SETTING_BLOCK_ROWS,
            rows + 1,
            insert::SETTING_TOKEN,
        );
        let body = Payloads::new(payloads);
        self.ask(Method::POST, &url, body, self.timeout).await
    }

    /// Whether ClickHouse answers at all.
    pub async fn ping(&self) -> Result<(), Failure> {
        let patience = self.timeout.min(2 * self.connect_timeout);
        self.ask(Method::GET, &self.ping_url, Payloads::new(Vec::new()), patience).await
    }

    async fn ask(
        &self,
        method: Method,
        url: &str,
        body: Payloads,
        patience: Duration,
    ) -> Result<(), Failure> {
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header("x-clickhouse-user", &self.user)
            .header("x-clickhouse-key", self.password.expose())
            .body(body)
            .expect("address, names and credentials were checked at the start");
        match tokio::time::timeout(patience, self.exchange(request)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let text = format!("no answer within {} ms", patience.as_millis());
                Err(Failure::new(InsertFailure::Unknown, Pace::Busy, 0, &text))
            }
        }
    }

    async fn exchange(&self, request: Request<Payloads>) -> Result<(), Failure> {
        let answer = self.client.request(request).await.map_err(|error| {
            let text = chain_text(&error);
            if error.is_connect() {
                Failure::new(InsertFailure::Retry, Pace::Away, 0, &text)
            } else {
                // The server closing the connection under us is what a restart looks like.
                Failure::new(InsertFailure::Unknown, Pace::Away, 0, &text)
            }
        })?;
        let status = answer.status().as_u16();
        let code = answer.headers().get("x-clickhouse-exception-code");
        let code = code.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| {
            let text = format!("the answer broke off: {error}");
            Failure::new(InsertFailure::Unknown, Pace::Away, 0, &text)
        })?;
        let body = body.to_bytes();
        // A ping's answer is "Ok.\n", an INSERT's is empty; an exception names its code.
        sort_answer(status, code.as_deref(), &String::from_utf8_lossy(&body))
    }
}

/// Everything but what changes from INSERT to INSERT.
fn insert_url(config: &Clickhouse) -> String {
    let query = percent_encode(&insert::statement(&config.database));
    let mut url = format!("{}/?query={query}", config.url);
    for (name, value) in insert::SETTINGS {
        url.push_str(&format!("&{name}={value}"));
    }
    url
}

fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The blocks' payloads one after the other, not joined, with their exact length.
pub struct Payloads {
    rest: VecDeque<Bytes>,
    bytes: u64,
}

impl Payloads {
    fn new(payloads: Vec<Bytes>) -> Payloads {
        let rest: VecDeque<Bytes> =
            payloads.into_iter().filter(|payload| !payload.is_empty()).collect();
        let bytes = rest.iter().map(|payload| payload.len() as u64).sum();
        Payloads { rest, bytes }
    }
}

impl Body for Payloads {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.rest.pop_front();
        self.bytes -= next.as_ref().map_or(0, |payload| payload.len() as u64);
        Poll::Ready(next.map(|payload| Ok(Frame::data(payload))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_and_its_settings_are_pinned() {
        let url = insert_url(&Clickhouse::default());
        let query = "INSERT%20INTO%20unmogrowp.events%20%28app_id%2C%20event_id%2C%20timestamp";
        for part in [query, "FORMAT%20RowBinary", "async_insert=0", "max_insert_threads=1"] {
            assert!(url.contains(part), "{part} is missing in {url}");
        }
        url.parse::<hyper::Uri>().unwrap();
    }

    #[test]
    fn the_length_is_exact_at_every_frame() {
        let parts = [&b"ab"[..], b"", b"cde"].map(Bytes::from_static);
        let mut body = Payloads::new(parts.to_vec());
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut seen = Vec::new();
        while !body.is_end_stream() {
            seen.push(body.size_hint().exact().unwrap());
            assert!(Pin::new(&mut body).poll_frame(&mut context).is_ready());
        }
        assert_eq!(seen, [5, 3]);
    }
}
