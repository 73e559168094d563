//! From a request's head to its answer. The order of judgement is part of the contract: framing
//! (hyper's), path, method, key, parameters, app.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode, Version};
use proto::ErrorCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::answers::{Asking, dau, event_count, live, timeline};
use crate::health::Health;
use crate::key_table::{Grant, KeyTable};
use crate::metrics::Metrics;
use crate::params::{Params, RangeParams, TimelineParams, app_id, event_name};
use crate::redis_link::RedisLink;
use crate::reply::{AnswerBody, AnswerMemory, Refusal, json_response};
use crate::warehouse::Warehouse;

const KEY_HEADER: &str = "x-api-key";

/// Everything that a request may need. One for the whole process.
pub struct Router {
    pub warehouse: Warehouse,
    /// Where live counters may lie ready.
    pub redis: Option<RedisLink>,
    pub keys: KeyTable,
    pub health: Arc<Health>,
    pub metrics: Metrics,
    pub memory: AnswerMemory,
    /// Whether the tables are there; before that no question is asked.
    pub migrated: AtomicBool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    Dau,
    EventCount,
    Live,
    /// The user id as the path has it, percent-encoded.
    Timeline(&'a str),
    Healthz,
    Readyz,
    Version,
    Metrics,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Route<'a>> {
        match path {
            "/api/v1/analytics/dau" => Some(Route::Dau),
            "/api/v1/analytics/events/count" => Some(Route::EventCount),
            "/api/v1/analytics/live" => Some(Route::Live),
            "/healthz" => Some(Route::Healthz),
            "/readyz" => Some(Route::Readyz),
            "/version" => Some(Route::Version),
            "/metrics" => Some(Route::Metrics),
            _ => {
                let user_id = path.strip_prefix("/api/v1/users/")?.strip_suffix("/events")?;
                let one_segment = !user_id.is_empty() && !user_id.contains('/');
                one_segment.then_some(Route::Timeline(user_id))
            }
        }
    }

    fn label(self) -> &'static str {
        match self {
            Route::Dau => "dau",
            Route::EventCount => "event_count",
            Route::Live => "live",
            Route::Timeline(_) => "timeline",
            Route::Healthz => "healthz",
            Route::Readyz => "readyz",
            Route::Version => "version",
            Route::Metrics => "metrics",
        }
    }
}

impl Router {
    pub async fn answer(&self, head: &Parts, peer: IpAddr) -> Response<AnswerBody> {
        let started = Instant::now();
        let route = Route::of(head.uri.path());
        let response = match self.judge(head, route, peer, started).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        };
        let label = route.map_or("none", Route::label);
        self.metrics.observe(label, response.status().as_u16(), started.elapsed());
        response
    }

    async fn judge(
        &self,
        head: &Parts,
        route: Option<Route<'_>>,
        peer: IpAddr,
        started: Instant,
    ) -> Result<Response<AnswerBody>, Refusal> {
        check_host(head)?;
        let route = route
            .ok_or_else(|| Refusal::new(ErrorCode::NotFound, "there is nothing at this path"))?;
        if head.method != Method::GET && head.method != Method::HEAD {
            return Err(Refusal::new(ErrorCode::MethodNotAllowed, "this path takes GET and HEAD"));
        }
        let body = match route {
            Route::Healthz => {
                return Ok(value_response(StatusCode::OK, &json!({ "status": "ok" })));
            }
            Route::Readyz => return Ok(self.readiness()),
            Route::Version => return Ok(version()),
            Route::Metrics => return self.scrape(peer),
            Route::Dau | Route::EventCount => {
                let grant = self.authorise(head)?;
                let params = Params::parse(head.uri.query())?;
                let range = RangeParams::from(&params)?;
                let name = event_name(&params)?;
                check_app(grant, range.app_id)?;
                let asking = self.asking(started)?;
                if route == Route::Dau {
                    dau::answer(&asking, &range).await?
                } else {
                    event_count::answer(&asking, &range, name).await?
                }
            }
            Route::Live => {
                let grant = self.authorise(head)?;
                let app_id = app_id(&Params::parse(head.uri.query())?)?;
                check_app(grant, app_id)?;
                let asking = self.asking(started)?;
                live::answer(&asking, self.redis.as_ref(), &self.metrics.live, app_id).await?
            }
            Route::Timeline(raw_user_id) => {
                let grant = self.authorise(head)?;
                let params = Params::parse(head.uri.query())?;
                let timeline = TimelineParams::from(&params, raw_user_id)?;
                check_app(grant, timeline.app_id)?;
                timeline::answer(&self.asking(started)?, &timeline).await?
            }
        };
        Ok(json_response(StatusCode::OK, body))
    }

    fn authorise(&self, head: &Parts) -> Result<Grant, Refusal> {
        let unauthorized = |error| Refusal::new(ErrorCode::Unauthorized, error);
        let mut given = head.headers.get_all(KEY_HEADER).iter();
        let key = match (given.next(), given.next()) {
            (Some(key), None) => key,
            (None, _) => {
                return Err(
                    unauthorized("an API key is needed").details("send it in the header X-API-Key")
                );
            }
            (Some(_), Some(_)) => return Err(unauthorized("X-API-Key is given twice")),
        };
        let grant = self
            .keys
            .find(key.as_bytes())
            .ok_or_else(|| unauthorized("the API key is not valid"))?;
        if !grant.scopes.read {
            return Err(Refusal::new(ErrorCode::Forbidden, "the API key may not read")
                .details(format!("its scopes: {}", grant.scopes)));
        }
        Ok(grant)
    }

    fn asking(&self, started: Instant) -> Result<Asking<'_>, Refusal> {
        if !self.migrated.load(Ordering::Acquire) {
            return Err(Refusal::new(ErrorCode::Unavailable, "not ready yet")
                .details("the event store is being prepared; /readyz tells more"));
        }
        Ok(Asking { warehouse: &self.warehouse, memory: &self.memory, started })
    }

    fn readiness(&self) -> Response<AnswerBody> {
        let (ready, report) = self.health.report();
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        value_response(status, &report)
    }

    /// Figures are for the machine's own scraper: this port may be open to the world.
    fn scrape(&self, peer: IpAddr) -> Result<Response<AnswerBody>, Refusal> {
        if !peer.to_canonical().is_loopback() {
            return Err(Refusal::new(ErrorCode::Forbidden, "metrics are for this machine only"));
        }
        let text = self.metrics.text(self.health.report().0);
        let mut response = json_response(StatusCode::OK, AnswerBody::from(text.into_bytes()));
        let text_format =
            HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, text_format);
        Ok(response)
    }
}

/// RFC 9112, 3.2: a request of HTTP/1.1 has one Host, and none has two.
fn check_host(head: &Parts) -> Result<(), Refusal> {
    let host_count = head.headers.get_all(HOST).iter().count();
    if host_count > 1 || (host_count == 0 && head.version == Version::HTTP_11) {
        return Err(Refusal::new(ErrorCode::InvalidRequest, "the request needs one Host header"));
    }
    Ok(())
}

fn check_app(grant: Grant, app_id: Uuid) -> Result<(), Refusal> {
    if grant.app_id != app_id {
        return Err(Refusal::new(ErrorCode::Forbidden, "the API key belongs to another app")
            .details(format!("app_id={app_id}")));
    }
    Ok(())
}

fn version() -> Response<AnswerBody> {
    let version = json!({ "name": "unmogrowp-api", "version": env!("CARGO_PKG_VERSION") });
    value_response(StatusCode::OK, &version)
}

fn value_response(status: StatusCode, value: &Value) -> Response<AnswerBody> {
    json_response(status, AnswerBody::from(value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_as_they_are() {
        let check = |path, expected| assert_eq!(Route::of(path), expected, "{path}");
        check("/api/v1/analytics/dau", Some(Route::Dau));
        check("/api/v1/analytics/live", Some(Route::Live));
        check("/api/v1/users/a%2Fb/events", Some(Route::Timeline("a%2Fb")));
        check("/api/v1/users/events/events", Some(Route::Timeline("events")));
        for path in [
            "",
            "*",
            "/",
            "/api/v1/analytics/dau/",
            "/API/v1/analytics/dau",
            "/api/v1/users//events",
            "/api/v1/users/a/b/events",
            "/api/v1/users/events",
            "/api/v1/users/a/events/",
            "//healthz",
            "/healthz%20",
        ] {
            check(path, None);
        }
    }
}
