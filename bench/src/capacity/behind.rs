//! What stands behind the engine: Kafka's brokers and partitions, consumers, ClickHouse. Each is sized by all that bounds
//! it, and says which of them asked for the most.

use super::assumptions::Assumptions;
use super::measured::Measured;
use super::sizing;

pub struct Kafka {
    pub brokers: f64,
    pub asked_by: &'static str,
    pub partitions: f64,
    /// Into the topic, once, compressed.
    pub bytes_per_s: f64,
    /// What all brokers together take, by the arrivals: a drain is never faster.
    pub take_ratio: f64,
}

pub fn kafka(a: &Assumptions) -> Kafka {
    let bytes_per_s = a.events_per_s * a.row_bytes / a.compression_ratio;
    let written = bytes_per_s * a.replication;
    // In: every copy. Out: every copy but the leader's to the followers, and once to the consumers.
    let card = a.nic_gbit_per_s * 1e9 / 8.0 * a.busy_max;
    let (by_disk, by_card) = (written / a.broker_bytes_per_s, written / card);
    let [zone_by_disk, zone_by_card] = [by_disk, by_card].map(sizing::zone_of);
    let in_zone = zone_by_disk.max(zone_by_card);
    let brokers = (in_zone * sizing::ZONES) as f64;
    let partitions = (bytes_per_s / a.partition_bytes_per_s / brokers).ceil() * brokers;
    Kafka {
        brokers,
        asked_by: if zone_by_card > zone_by_disk { "network card" } else { "disk" },
        partitions,
        bytes_per_s,
        take_ratio: brokers / by_disk.max(by_card),
    }
}

/// How much faster than the arrivals journals drain: as measured, but no faster than brokers take it.
pub fn drain_ratio(kafka: &Kafka, a: &Assumptions) -> f64 {
    a.kafka_drain_ratio.min(kafka.take_ratio)
}

pub fn consumer_cores(measured: &Measured, a: &Assumptions) -> f64 {
    a.events_per_s * measured.consumer_us * a.slower() / 1e6 / a.busy_max
}

pub struct ClickHouse {
    pub shards_by_insert: f64,
    pub shards_by_disk: f64,
    pub replicas: f64,
    /// All replicas together.
    pub bytes_per_day: f64,
    pub bytes_kept: f64,
    /// Of one machine, with as many shards as are asked for.
    pub bytes_of_machine: f64,
    pub inserts_per_shard_s: f64,
}

impl ClickHouse {
    pub fn shards(&self) -> f64 {
        self.shards_by_insert.max(self.shards_by_disk)
    }

    pub fn asked_by(&self) -> &'static str {
        if self.shards_by_disk > self.shards_by_insert { "disk" } else { "inserts" }
    }
}

pub fn clickhouse(measured: &Measured, a: &Assumptions) -> ClickHouse {
    // One replica inserts and the others fetch its parts, so a shard takes what one machine does.
    let inserts_per_shard_s = measured.inserts_per_core_s
        * a.core_speed_ratio
        * a.clickhouse_cores
        * a.clickhouse_insert_share;
    let one_copy_of_day = a.events_per_s * 86_400.0 * a.stored_bytes;
    let one_copy = one_copy_of_day * a.retention_days;
    let usable = a.clickhouse_disk_bytes * a.clickhouse_disk_full_max;
    let replicas = a.clickhouse_replicas.max(1.0).ceil();
    let mut made = ClickHouse {
        shards_by_insert: (a.events_per_s / inserts_per_shard_s).ceil(),
        shards_by_disk: (one_copy / usable).ceil(),
        replicas,
        bytes_per_day: one_copy_of_day * replicas,
        bytes_kept: one_copy * replicas,
        bytes_of_machine: 0.0,
        inserts_per_shard_s,
    };
    made.bytes_of_machine = one_copy / made.shards();
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::measured::tests::given;

    #[test]
    fn brokers_of_two_zones_are_enough() {
        // 2 GB/s of rows, a third after compression, three copies: 2 GB/s, 6.7 brokers' disks in two zones.
        let a = Assumptions::default();
        let made = kafka(&a);
        assert_eq!((made.brokers, made.asked_by, made.partitions), (12.0, "disk", 72.0));
        assert!((made.take_ratio - 1.8).abs() < 1e-9, "{}", made.take_ratio);
        assert_eq!(drain_ratio(&made, &a), made.take_ratio);
        assert_eq!(drain_ratio(&made, &Assumptions { kafka_drain_ratio: 1.2, ..a }), 1.2);
        let slow = kafka(&Assumptions { nic_gbit_per_s: 1.0, ..a });
        assert_eq!((slow.brokers, slow.asked_by), (30.0, "network card"));
    }

    #[test]
    fn disk_or_inserts_ask_for_shards_whichever_is_more() {
        let measured = given();
        let a = Assumptions::default();
        let made = clickhouse(&measured, &a);
        // 10 M × 31 B × 30 days are 804 TB in 21 TB each; 300,000 × 32 × 0.3 rows a second.
        assert_eq!((made.shards_by_disk, made.shards_by_insert), (39.0, 4.0));
        assert_eq!(made.asked_by(), "disk");
        assert!(made.bytes_of_machine <= a.clickhouse_disk_bytes * a.clickhouse_disk_full_max);
        let brief = clickhouse(&measured, &Assumptions { retention_days: 1.0, ..a });
        assert_eq!((brief.shards(), brief.asked_by()), (4.0, "inserts"));
    }

    #[test]
    fn more_events_never_take_less() {
        let mut last = (0.0, 0.0, 0.0, 0.0);
        for events_per_s in [1e5, 1e6, 3e6, 10e6, 30e6, 1e8] {
            let a = Assumptions { events_per_s, ..Assumptions::default() };
            let (kafka, measured) = (kafka(&a), given());
            let cores = consumer_cores(&measured, &a);
            let now = (kafka.brokers, kafka.partitions, cores, clickhouse(&measured, &a).shards());
            assert!(now.0 >= last.0 && now.1 >= last.1 && now.2 >= last.2 && now.3 >= last.3);
            last = now;
        }
    }
}
