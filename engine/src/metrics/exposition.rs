//! The counters as Prometheus text.

use super::histogram::Merged;
use super::process::ProcessFigures;
use super::{FRAMING_REJECTS_MAX, ForwardCounters, KafkaCounters, ShardCounters, TimeoutKind};
use super::{get, outcome_index};
use crate::admin::{Health, Level};
use crate::forward::kafka::SendFailure;
use crate::keys::KeyStats;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use proto::ErrorCode;
use proto::insert::InsertFailure;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

pub const PROMETHEUS_CONTENT_TYPE: &str =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that is counted, and the text of it.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Without our prefix: these names are everyone's.
    process: Registry,
    shards: Vec<Arc<ShardCounters>>,
    forward: Arc<ForwardCounters>,
    lanes: Vec<Arc<KafkaCounters>>,
    keys: Arc<KeyStats>,
}

impl Metrics {
    /// `framing_labels[i]` names what [`ShardCounters::framing_rejects`] counts at `i`.
    pub fn new(
        shards: usize,
        framing_labels: &'static [&'static str],
        health: Arc<Health>,
    ) -> Self {
        Metrics::with_lanes(shards, 0, framing_labels, health)
    }

    /// The same, with so many lanes to Kafka.
    pub fn with_lanes(
        shards: usize,
        lanes: usize,
        framing_labels: &'static [&'static str],
        health: Arc<Health>,
    ) -> Self {
        assert!(
            framing_labels.len() <= FRAMING_REJECTS_MAX,
            "every framing reject has its counter"
        );
        let shards: Vec<Arc<ShardCounters>> = (0..shards).map(|_| Arc::default()).collect();
        let forward = Arc::<ForwardCounters>::default();
        let keys = Arc::<KeyStats>::default();
        let lanes: Vec<Arc<KafkaCounters>> = (0..lanes).map(|_| Arc::default()).collect();
        let mut registry = Registry::with_prefix("unmogrowp");
        registry.register_collector(Box::new(Scrape {
            shards: shards.clone(),
            forward: forward.clone(),
            lanes: lanes.clone(),
            keys: keys.clone(),
            framing_labels,
            health,
        }));
        let mut process = Registry::default();
        process.register_collector(Box::new(ProcessFigures));
        Metrics { registry, process, shards, forward, lanes, keys }
    }

    pub fn shard(&self, index: usize) -> Arc<ShardCounters> {
        self.shards[index].clone()
    }

    pub fn forward(&self) -> Arc<ForwardCounters> {
        self.forward.clone()
    }

    pub fn lane(&self, index: usize) -> Arc<KafkaCounters> {
        self.lanes[index].clone()
    }

    pub fn keys(&self) -> Arc<KeyStats> {
        self.keys.clone()
    }

    /// The text of a scrape, of type [`PROMETHEUS_CONTENT_TYPE`].
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(32 * 1024);
        text::encode_registry(&mut text, &self.registry)?;
        text::encode_registry(&mut text, &self.process)?;
        text::encode_eof(&mut text)?;
        Ok(text)
    }
}

#[derive(Debug)]
struct Scrape {
    shards: Vec<Arc<ShardCounters>>,
    forward: Arc<ForwardCounters>,
    lanes: Vec<Arc<KafkaCounters>>,
    keys: Arc<KeyStats>,
    framing_labels: &'static [&'static str],
    health: Arc<Health>,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Page { encoder };
        self.encode_http(&mut out)?;
        self.encode_journal(&mut out)?;
        self.encode_forwarder(&mut out)?;
        if !self.lanes.is_empty() {
            self.encode_kafka(&mut out)?;
        }
        self.encode_keys(&mut out)?;
        self.encode_health(&mut out)
    }
}

impl Scrape {
    fn sum(&self, field: impl Fn(&ShardCounters) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| get(field(shard))).sum()
    }

    fn encode_http(&self, out: &mut Page<'_>) -> fmt::Result {
        let sum = |field: fn(&ShardCounters) -> &AtomicU64| self.sum(field);
        out.counter(
            "connections_accepted",
            "Connections taken",
            None,
            sum(|s| &s.connections_accepted),
        )?;
        out.gauge("connections_open", "Connections open now", None, sum(|s| &s.connections_open))?;
        out.counter(
            "connections_refused",
            "Connections closed at once because limits.connections_max was reached",
            None,
            sum(|s| &s.connections_refused),
        )?;
        let ok = ("ok".to_owned(), self.sum(|s| &s.requests[outcome_index(None)]));
        let refused = ErrorCode::ALL.into_iter().map(|code| {
            let count = self.sum(|s| &s.requests[outcome_index(Some(code))]);
            (code.as_str().to_ascii_lowercase(), count)
        });
        let outcomes = std::iter::once(ok).chain(refused);
        out.counters("requests", "Requests answered, by outcome", "outcome", outcomes)?;
        let rejects =
            self.framing_labels.iter().enumerate().map(|(index, label)| {
                ((*label).to_owned(), self.sum(|s| &s.framing_rejects[index]))
            });
        out.counters("framing_rejects", "Requests refused by HTTP framing", "reason", rejects)?;
        let timeouts = TimeoutKind::ALL
            .into_iter()
            .map(|kind| (kind.as_str().to_owned(), self.sum(|s| &s.timeouts[kind as usize])));
        out.counters("timeouts", "Connections given up for time", "kind", timeouts)?;
        out.counter("events_accepted", "Events acknowledged", None, sum(|s| &s.events_accepted))?;
        out.counter(
            "events_rejected",
            "Events refused by a rule",
            None,
            sum(|s| &s.events_rejected),
        )?;
        let bytes = Some(Unit::Bytes);
        out.counter("body", "Bodies as received", bytes.clone(), sum(|s| &s.body_bytes))?;
        out.counter("inflated", "Compressed bodies, inflated", bytes, sum(|s| &s.inflated_bytes))?;
        out.counter(
            "body_budget_refused",
            "Requests refused because limits.body_budget_bytes was in use",
            None,
            sum(|s| &s.body_budget_refused),
        )?;
        let acks = Merged::of(self.shards.iter().map(|shard| &shard.ack_latency_us));
        out.histogram("ack_latency", "From the last byte of a request to its 200", &acks)
    }

    fn encode_journal(&self, out: &mut Page<'_>) -> fmt::Result {
        let sum = |field: fn(&ShardCounters) -> &AtomicU64| self.sum(field);
        let bytes = Some(Unit::Bytes);
        out.counter(
            "blocks_sealed",
            "Blocks handed to the journal",
            None,
            sum(|s| &s.blocks_sealed),
        )?;
        out.counter("journal_writes", "Synced journal writes", None, sum(|s| &s.journal_writes))?;
        out.counter("journal_written", "Bytes written", bytes.clone(), sum(|s| &s.journal_bytes))?;
        out.gauge(
            "journal_backlog",
            "Not yet forwarded",
            bytes,
            sum(|s| &s.journal_backlog_bytes),
        )?;
        out.gauge(
            "journal_backlog_blocks",
            "Blocks not yet forwarded",
            None,
            sum(|s| &s.journal_backlog_blocks),
        )?;
        out.gauge(
            "journal_damaged_blocks",
            "Acknowledged blocks that recovery could not read at this start",
            None,
            sum(|s| &s.journal_damaged_blocks),
        )?;
        out.counter(
            "journal_full_refused",
            "Requests refused because the backlog had reached its bound",
            None,
            sum(|s| &s.journal_full_refused),
        )?;
        out.counter(
            "buffers_busy_stalls",
            "Times that a request waited for a free block buffer",
            None,
            sum(|s| &s.buffers_busy_stalls),
        )?;
        let syncs = Merged::of(self.shards.iter().map(|shard| &shard.journal_sync_us));
        out.histogram("journal_sync", "From submitting a journal write to its sync", &syncs)
    }

    fn encode_forwarder(&self, out: &mut Page<'_>) -> fmt::Result {
        let forward = &self.forward;
        let bytes = Some(Unit::Bytes);
        out.counter(
            "forward_inserts",
            "INSERTs that ClickHouse took",
            None,
            get(&forward.inserts),
        )?;
        out.counter("forward_rows", "Rows that ClickHouse took", None, get(&forward.rows))?;
        out.counter("forward_blocks", "Blocks forwarded", None, get(&forward.blocks))?;
        out.counter(
            "forward_sent",
            "Rows' bytes that ClickHouse took",
            bytes,
            get(&forward.bytes),
        )?;
        let failures = InsertFailure::ALL
            .into_iter()
            .map(|kind| (kind.as_str().to_owned(), get(&forward.failures[kind as usize])));
        out.counters("forward_failures", "INSERTs that failed, by what follows", "kind", failures)?;
        let inserts = Merged::of(std::iter::once(&forward.insert_us));
        out.histogram("forward_insert", "From sending an INSERT to its 200", &inserts)?;
        out.counter(
            "forward_dead_rows",
            "Rows that ClickHouse refused and that were put aside",
            None,
            get(&forward.dead_rows),
        )?;
        out.gauge(
            "forward_inserts_in_flight",
            "INSERTs under way",
            None,
            get(&forward.inserts_in_flight),
        )?;
        out.gauge(
            "forward_breaker_state",
            "Circuit breaker to ClickHouse: 0 closed, 1 half-open, 2 open",
            None,
            get(&forward.breaker_state),
        )?;
        out.gauge(
            "forward_stopped",
            "1 while ClickHouse refuses everything that is sent: somebody must look",
            None,
            get(&forward.stopped),
        )
    }

    fn encode_kafka(&self, out: &mut Page<'_>) -> fmt::Result {
        let sum = |field: fn(&KafkaCounters) -> &AtomicU64| {
            self.lanes.iter().map(|lane| get(field(lane))).sum()
        };
        let bytes = Some(Unit::Bytes);
        out.counter("kafka_records", "Blocks that Kafka has", None, sum(|l| &l.records))?;
        out.counter("kafka_sent", "Their bytes", bytes.clone(), sum(|l| &l.bytes))?;
        let failures = SendFailure::ALL.into_iter().map(|kind| {
            let of_kind = self.lanes.iter().map(|lane| get(&lane.failures[kind as usize]));
            (kind.as_str().to_owned(), of_kind.sum())
        });
        out.counters("kafka_failures", "Records not delivered, by what follows", "kind", failures)?;
        let delivery = Merged::of(self.lanes.iter().map(|lane| &lane.delivery_us));
        out.histogram("kafka_delivery", "From sending a record to its acknowledgement", &delivery)?;
        out.gauge(
            "kafka_in_flight",
            "Blocks sent and not acknowledged",
            bytes,
            sum(|l| &l.in_flight_bytes),
        )?;
        out.counter(
            "kafka_direct_blocks",
            "Blocks handed on to be inserted directly",
            None,
            sum(|l| &l.direct_blocks),
        )?;
        out.counter(
            "kafka_producers_remade",
            "Producers made anew after a fatal error",
            None,
            sum(|l| &l.producers_remade),
        )?;
        let each = |field: fn(&KafkaCounters) -> &AtomicU64| {
            let values = self.lanes.iter().map(move |lane| get(field(lane)));
            values.enumerate().map(|(index, value)| (index.to_string(), value))
        };
        out.gauges(
            "kafka_breaker_state",
            "Circuit breaker to Kafka: 0 closed, 1 half-open, 2 open",
            "producer",
            each(|l| &l.breaker_state),
        )?;
        out.gauges(
            "kafka_route",
            "How blocks go: 0 through Kafka, 1 directly into ClickHouse",
            "producer",
            each(|l| &l.route),
        )
    }

    fn encode_keys(&self, out: &mut Page<'_>) -> fmt::Result {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let checked = get(&self.keys.checked_at_s);
        let age = if checked == 0 { 0 } else { now.saturating_sub(checked) };
        out.gauge(
            "keys_version",
            "Version of the key snapshot in use",
            None,
            get(&self.keys.version),
        )?;
        out.gauge("keys_count", "API keys in the snapshot", None, get(&self.keys.keys))?;
        out.gauge(
            "keys_age",
            "Since the snapshot file was last found good",
            Some(Unit::Seconds),
            age,
        )?;
        out.counter(
            "keys_read_failures",
            "Times that the snapshot file was missing or damaged",
            None,
            get(&self.keys.failures),
        )
    }

    fn encode_health(&self, out: &mut Page<'_>) -> fmt::Result {
        let report = self.health.report();
        out.gauge("ready", "1 while a valid batch would get a 200", None, u64::from(report.ready))?;
        let levels = self.health.shard_levels().enumerate();
        let down = levels.map(|(index, level)| {
            (index.to_string(), u64::from(matches!(level, Level::Down | Level::Failed)))
        });
        out.gauges("shard_down", "1 while a shard takes no events", "shard", down)?;
        let ailments = report.ailments.into_iter();
        let reasons = ailments.map(|ailment| {
            let labels = [
                ("component".to_owned(), ailment.component.to_string()),
                ("level".to_owned(), ailment.level.as_str().to_owned()),
                ("reason".to_owned(), ailment.reason.chars().take(200).collect()),
            ];
            (labels, 1)
        });
        out.labelled_gauges("ailment", "What is not well, and why", reasons)
    }
}

/// One family after the other, in the exposition's own words.
struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, unit: Option<Unit>, value: u64) -> fmt::Result {
        let metric = ConstCounter::new(value);
        let kind = metric.metric_type();
        metric.encode(self.encoder.encode_descriptor(name, help, unit.as_ref(), kind)?)
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, value: u64) -> fmt::Result {
        let metric = ConstGauge::new(value);
        let kind = metric.metric_type();
        metric.encode(self.encoder.encode_descriptor(name, help, unit.as_ref(), kind)?)
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (String, u64)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value, count) in values {
            let labels = [(label, value.as_str())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (String, u64)>,
    ) -> fmt::Result {
        let labelled = values.map(|(value, level)| ([(label.to_owned(), value)], level));
        self.labelled_gauges(name, help, labelled)
    }

    fn labelled_gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = ([(String, String); N], u64)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, level) in values {
            ConstGauge::new(level).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, merged: &Merged) -> fmt::Result {
        let kind = MetricType::Histogram;
        let unit = Some(&Unit::Seconds);
        let mut metric = self.encoder.encode_descriptor(name, help, unit, kind)?;
        let buckets = merged.buckets();
        metric.encode_histogram::<NoLabelSet>(merged.sum_s(), merged.count(), &buckets, None)
    }
}
