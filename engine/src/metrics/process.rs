//! The process's own figures under the names that every Prometheus client library uses, so that
//! ready-made dashboards and alerts find them.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt;
use std::fs;

#[derive(Debug)]
pub(super) struct ProcessFigures;

impl Collector for ProcessFigures {
    /// What `/proc` does not tell is left out.
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(seconds) = cpu_seconds() {
            let (name, help) = ("process_cpu", "User and system time of all threads");
            let metric = ConstCounter::new(seconds);
            let kind = metric.metric_type();
            metric.encode(encoder.encode_descriptor(name, help, Some(&Unit::Seconds), kind)?)?;
        }
        if let Some(bytes) = resident_bytes() {
            gauge(
                &mut encoder,
                "process_resident_memory",
                "Memory in use",
                Some(Unit::Bytes),
                bytes,
            )?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            let open = open.count() as u64;
            gauge(&mut encoder, "process_open_fds", "Descriptors in use", None, open)?;
        }
        Ok(())
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    value: u64,
) -> fmt::Result {
    let metric = ConstGauge::new(value);
    let kind = metric.metric_type();
    metric.encode(encoder.encode_descriptor(name, help, unit.as_ref(), kind)?)
}

/// From the kernel's count of clock ticks (proc(5), fields 14 and 15 of `stat`).
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages = statm.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_time() {
        let resident = resident_bytes().unwrap();
        assert!((1 << 20..1 << 40).contains(&resident), "{resident}");
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let before = cpu_seconds().unwrap();
        while cpu_seconds().unwrap() <= before {
            assert!(std::time::Instant::now() < until, "spinning costs time");
        }
    }
}
