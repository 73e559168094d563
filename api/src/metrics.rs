//! What the server counts about itself, in the Prometheus text format.
//!
//! Labels are routes and statuses, fixed sets: nothing a client sends can make a new series.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::live::LiveFigures;

/// Seconds; from a cached part to the time limit of a question.
const LATENCY_BUCKETS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    latency: Family<RouteLabels, Histogram, fn() -> Histogram>,
    /// Open connections.
    pub connections: Gauge,
    ready: Gauge<u64, AtomicU64>,
    pub live: LiveFigures,
}

impl Metrics {
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("unmogrowp_api");
        let requests = Family::default();
        let latency: Family<_, _, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS));
        let connections = Gauge::default();
        let ready = Gauge::default();
        registry.register("requests", "Requests answered", requests.clone());
        registry.register(
            "request_seconds",
            "Time from a request's head to its answer",
            latency.clone(),
        );
        registry.register("connections", "Open connections", connections.clone());
        registry.register("ready", "1 while questions can be answered", ready.clone());
        let live = LiveFigures::register(&mut registry);
        Metrics { registry, requests, latency, connections, ready, live }
    }

    pub fn observe(&self, route: &'static str, status: u16, elapsed: Duration) {
        self.requests.get_or_create(&RequestLabels { route, status: status.into() }).inc();
        self.latency.get_or_create(&RouteLabels { route }).observe(elapsed.as_secs_f64());
    }

    pub fn text(&self, ready: bool) -> String {
        self.ready.set(ready.into());
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}
