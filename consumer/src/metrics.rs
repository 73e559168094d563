//! What the consumer counts about itself, in the Prometheus text format.
//!
//! Labels are partitions and kinds of failures: nothing in a record can make a new series.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use proto::insert::InsertFailure;

const ROW_BUCKETS: [f64; 9] =
    [1.0, 10.0, 100.0, 1_000.0, 5_000.0, 10_000.0, 25_000.0, 50_000.0, 100_000.0];
/// 1 KiB to 64 MiB.
const BYTE_BUCKETS: [f64; 9] = [
    1024.0,
    16_384.0,
    131_072.0,
    524_288.0,
    2_097_152.0,
    8_388_608.0,
    16_777_216.0,
    33_554_432.0,
    67_108_864.0,
];
/// Seconds.
const TIME_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabel {
    partition: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

type Level = Gauge<f64, AtomicU64>;

pub struct Metrics {
    registry: Mutex<Registry>,
    pub inserts: Counter,
    pub rows: Counter,
    pub bytes: Counter,
    pub insert_rows: Histogram,
    pub insert_bytes: Histogram,
    pub insert_seconds: Histogram,
    pub dead_rows: Counter,
    pub dead_records: Counter,
    pub offset_gaps: Counter,
    pub rebalances: Counter,
    pub commits: Counter,
    pub commit_failures: Counter,
    pub paused_partitions: Gauge,
    pub buffered_bytes: Gauge,
    pub inserts_in_flight: Gauge,
    pub stalled: Gauge,
    pub breaker_state: Gauge,
    failures: Family<KindLabel, Counter>,
    lag: Family<PartitionLabel, Gauge>,
    lag_sum: Gauge,
    freshness: Level,
    ready: Gauge,
    newest_received_at_ns: AtomicI64,
}

impl Metrics {
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("unmogrowp_consumer");
        let histogram = |buckets: &[f64]| Histogram::new(buckets.iter().copied());
        let metrics = Metrics {
            inserts: register(&mut registry, "inserts", "INSERTs that are done"),
            rows: register(&mut registry, "rows", "Rows inserted"),
            bytes: register(&mut registry, "bytes", "Bytes of rows inserted"),
            insert_rows: histogram(&ROW_BUCKETS),
            insert_bytes: histogram(&BYTE_BUCKETS),
            insert_seconds: histogram(&TIME_BUCKETS),
            dead_rows: register(&mut registry, "dead_rows", "Rows that ClickHouse refused"),
            dead_records: register(&mut registry, "dead_records", "Records that were no block"),
            offset_gaps: register(&mut registry, "offset_gaps", "Jumps over missing records"),
            rebalances: register(&mut registry, "rebalances", "Changes of what is assigned"),
            commits: register(&mut registry, "commits", "Offsets committed"),
            commit_failures: register(&mut registry, "commit_failures", "Commits that failed"),
            paused_partitions: register(&mut registry, "paused_partitions", "Paused: buffer full"),
            buffered_bytes: register(&mut registry, "buffered_bytes", "Held, in flight included"),
            inserts_in_flight: register(&mut registry, "inserts_in_flight", "Ranges on their way"),
            stalled: register(&mut registry, "stalled", "Ranges that need somebody's hand"),
            breaker_state: register(&mut registry, "breaker_state", "0 closed, 1 half, 2 open"),
            failures: register(&mut registry, "insert_failures", "INSERTs that failed, by kind"),
            lag: register(&mut registry, "lag_records", "Records not yet inserted"),
            lag_sum: register(&mut registry, "lag_records_sum", "The same of all partitions"),
            freshness: register(
                &mut registry,
                "freshness_seconds",
                "Now minus received_at of the newest row inserted; absent before the first",
            ),
            ready: register(&mut registry, "ready", "1 while /readyz is 200"),
            registry: Mutex::new(Registry::default()),
            newest_received_at_ns: AtomicI64::new(i64::MIN),
        };
        let histograms = [
            ("insert_rows", "Rows of an INSERT", &metrics.insert_rows),
            ("insert_bytes", "Bytes of an INSERT", &metrics.insert_bytes),
            ("insert_seconds", "Time of an INSERT", &metrics.insert_seconds),
        ];
        for (name, help, histogram) in histograms {
            registry.register(name, help, histogram.clone());
        }
        for kind in InsertFailure::ALL {
            let _ = metrics.failures.get_or_create(&KindLabel { kind: kind.as_str() });
        }
        metrics.freshness.set(f64::NAN);
        Metrics { registry: Mutex::new(registry), ..metrics }
    }

    pub fn on_insert(&self, rows: usize, bytes: usize, elapsed: Duration) {
        self.inserts.inc();
        self.rows.inc_by(rows as u64);
        self.bytes.inc_by(bytes as u64);
        self.insert_rows.observe(rows as f64);
        self.insert_bytes.observe(bytes as f64);
        self.insert_seconds.observe(elapsed.as_secs_f64());
    }

    pub fn on_failure(&self, kind: InsertFailure) {
        self.failures.get_or_create(&KindLabel { kind: kind.as_str() }).inc();
    }

    pub fn saw_row(&self, received_at_ns: i64) {
        self.newest_received_at_ns.fetch_max(received_at_ns, Ordering::Relaxed);
    }

    /// Of the partitions that are ours, and of no other.
    pub fn set_lag(&self, lag: &[(i32, i64)]) {
        self.lag.clear();
        for (partition, records) in lag {
            let label = PartitionLabel { partition: (*partition).max(0) as u32 };
            self.lag.get_or_create(&label).set(*records);
        }
        self.lag_sum.set(lag.iter().map(|(_, records)| records).sum());
    }

    pub fn text(&self, ready: bool) -> String {
        self.ready.set(ready.into());
        let newest = self.newest_received_at_ns.load(Ordering::Relaxed);
        if newest != i64::MIN {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.freshness.set((now.as_nanos() as i64).saturating_sub(newest) as f64 / 1e9);
        }
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        encode(&mut text, &registry).expect("writing to a string does not fail");
        text
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

fn register<M>(registry: &mut Registry, name: &str, help: &str) -> M
where
    M: prometheus_client::registry::Metric + Clone + Default,
{
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_its_series() {
        let metrics = Metrics::new();
        metrics.on_insert(7, 700, Duration::from_millis(3));
        metrics.on_failure(InsertFailure::Refused);
        metrics.set_lag(&[(0, 5), (3, 6)]);
        metrics.set_lag(&[(3, 6), (4, 1)]);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        metrics.saw_row(now.as_nanos() as i64 - 2_000_000_000);
        let text = metrics.text(true);
        for line in [
            "unmogrowp_consumer_rows_total 7",
            "unmogrowp_consumer_insert_failures_total{kind=\"refused\"} 1",
            "unmogrowp_consumer_insert_failures_total{kind=\"schema\"} 0",
            "unmogrowp_consumer_lag_records{partition=\"3\"} 6",
            "unmogrowp_consumer_lag_records_sum 7",
            "unmogrowp_consumer_insert_rows_count 1",
            "unmogrowp_consumer_freshness_seconds 2.",
            "unmogrowp_consumer_ready 1",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
        assert!(!text.contains("partition=\"0\""), "not ours any more");
    }
}
