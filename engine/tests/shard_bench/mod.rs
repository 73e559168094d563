//! The shard driven by hand: no socket, no thread, the journal's writes carried out when the test
//! says so.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;
use std::sync::Arc;

use engine::admin::{Component, Health, Level};
use engine::config::Config;
use engine::connection::ConnectionId;
use engine::journal::{Feed, Journal, JournalConfig, OpenedJournal, ShardStatus};
use engine::keys::{KeyCache, KeySnapshot, Keys};
use engine::metrics::ShardCounters;
use engine::shard::{Action, Now, Shard, ShardLimits};
use proto::row::Rows;

pub const APP: &str = "0190f0e0-7b1c-7c3e-8f00-000000000001";
pub const KEY: &str = "umg_test";
pub const NOW_MS: i64 = 1_763_800_000_000;

pub fn keys() -> Arc<Keys> {
    use sha2::{Digest, Sha256};
    let hex: String = Sha256::digest(KEY).iter().map(|byte| format!("{byte:02x}")).collect();
    let snapshot = format!(
        r#"{{"version":1,"keys":[{{"sha256":"{hex}","app_id":"{APP}","scopes":["ingest"]}}]}}"#
    );
    let keys = Keys::new();
    keys.swap(KeySnapshot::parse(snapshot.as_bytes()).unwrap());
    keys
}

pub struct Bench {
    pub journal: Journal,
    pub health: Arc<Health>,
    pub status: ShardStatus,
    pub shard: Shard,
    pub feed: Feed,
    pub now_us: u64,
    pub closed: Vec<ConnectionId>,
    pub half_closed: Vec<ConnectionId>,
    pub sent: Vec<(ConnectionId, Vec<u8>)>,
}

impl Bench {
    pub fn new(dir: &Path, change: impl FnOnce(&mut Config)) -> Bench {
        Bench::with_segments(dir, 1, change)
    }

    /// A chain needs segments for all of it before its first block is written.
    pub fn with_segments(
        dir: &Path,
        segments_ahead: usize,
        change: impl FnOnce(&mut Config),
    ) -> Bench {
        Bench::with_backlog(dir, segments_ahead, 1 << 30, change)
    }

    pub fn with_backlog(
        dir: &Path,
        segments_ahead: usize,
        backlog_bytes_max: u64,
        change: impl FnOnce(&mut Config),
    ) -> Bench {
        let mut config = Config::default();
        change(&mut config);
        let journal_config = JournalConfig {
            segment_bytes: 1 << 20,
            segments_ahead,
            keeper_thread: false,
            backlog_bytes_max: Some(backlog_bytes_max),
            ..JournalConfig::default()
        };
        let journal = Journal::open(dir, journal_config).unwrap();
        let OpenedJournal { appender, feed, status, .. } = journal.open_shard(0).unwrap();
        journal.keep();
        let health = Health::new(1);
        health.set(Component::Shard(0), Level::Ok, "");
        health.set(Component::Keys, Level::Ok, "");
        let shard = Shard::new(
            0,
            ShardLimits::from(&config),
            config.cors.origins.clone().into(),
            appender,
            KeyCache::new(keys()),
            Arc::clone(&health),
            Arc::new(ShardCounters::default()),
        );
        let mut bench = Bench {
            journal,
            health,
            status,
            shard,
            feed,
            now_us: 1,
            closed: Vec::new(),
            half_closed: Vec::new(),
            sent: Vec::new(),
        };
        bench.advance(0);
        bench
    }

    pub fn advance(&mut self, us: u64) {
        self.now_us += us;
        let unix_ns = NOW_MS * 1_000_000 + self.now_us as i64 * 1_000;
        self.shard.set_now(Now { monotonic_us: self.now_us, unix_ns });
    }

    /// Sends whatever the shard wants sent, without touching the journal.
    pub fn perform(&mut self) {
        let mut actions = Vec::new();
        loop {
            self.shard.take_actions(&mut actions);
            if actions.is_empty() {
                return;
            }
            for action in actions.drain(..) {
                match action {
                    Action::Send(id) => {
                        if let Some(output) = self.shard.take_output(id) {
                            self.sent.push((id, output.clone()));
                            self.shard.on_sent(id, output);
                        }
                    }
                    Action::Close(id) => self.closed.push(id),
                    Action::HalfClose(id) => self.half_closed.push(id),
                    Action::Read(..) => {}
                }
            }
        }
    }

    /// Carries out journal writes and slices of work until nothing is left to do.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            self.journal.keep();
            self.shard.turn();
            let mut moved = self.shard.has_work();
            while let Some(write) = self.shard.next_write() {
                let result = write.write_blocking();
                self.shard.on_write_done(write, result).unwrap();
                moved = true;
            }
            self.perform();
            if !moved {
                return;
            }
        }
        panic!("the shard never came to rest");
    }

    pub fn answers(&self, id: ConnectionId) -> String {
        let bytes: Vec<u8> =
            self.sent.iter().filter(|(to, _)| *to == id).flat_map(|(_, b)| b.clone()).collect();
        String::from_utf8(bytes).unwrap()
    }

    pub fn journal_end(&self) -> u64 {
        self.status.synced_through()
    }

    /// Event names of all that is durable, in order.
    pub fn stored(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(block) = self.feed.next_block().unwrap() {
            for row in Rows::new(block.payload()) {
                names.push(String::from_utf8(row.unwrap().event_name.to_vec()).unwrap());
            }
        }
        names
    }
}

pub fn event(name: &str, padding: usize) -> String {
    format!(
        r#"{{"event_id":"0190f0e0-7b1c-7c3e-8f00-00000000abcd","event_name":"{name}","user_id":"u","timestamp":"2025-11-22T08:00:00Z","properties":{{"p":"{}"}}}}"#,
        "x".repeat(padding)
    )
}

pub fn batch(events: &[String]) -> String {
    format!(r#"{{"app_id":"{APP}","events":[{}]}}"#, events.join(","))
}

pub fn post(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: h\r\nX-API-Key: {KEY}\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

pub fn statuses(answers: &str) -> Vec<u16> {
    answers
        .match_indices("HTTP/1.1 ")
        .map(|(at, _)| answers[at + 9..at + 12].parse().unwrap())
        .collect()
}

pub fn gzipped() -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(batch(&[event("zipped", 9)]).as_bytes()).unwrap();
    post("Content-Encoding: gzip\r\n", &encoder.finish().unwrap())
}
