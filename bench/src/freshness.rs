//! How old an event is when the analytics answers first show it: single events with names of their
//! own are posted beside the load, and the count of each name is asked for until it is 1.

use std::time::{Duration, Instant};

use ::tests::batch::day_plus;
use ::tests::{Batch, Client, Event};

/// Between an event that was seen and the next.
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// What an answer says can not be known to be fresher than this.
const ASK_EVERY: Duration = Duration::from_millis(20);
const VISIBLE_WITHIN: Duration = Duration::from_secs(120);

pub struct Probe {
    pub ingest: String,
    pub api: String,
    pub app_id: String,
    pub api_key: String,
}

impl Probe {
    /// Milliseconds of each event, posted until `time` has passed; at least one.
    pub fn measure(&self, time: Duration) -> Vec<f64> {
        let began = Instant::now();
        let mut seen_ms = Vec::new();
        while seen_ms.is_empty() || began.elapsed() < time {
            seen_ms.push(self.one(seen_ms.len()));
            std::thread::sleep(PROBE_EVERY);
        }
        seen_ms
    }

    fn one(&self, number: usize) -> f64 {
        let name = format!("probe_{number}");
        let body = Batch::one(Event::new(&name, "probe")).json(&self.app_id);
        let headers = [("X-API-Key", self.api_key.as_str())];
        let sent = Instant::now();
        let mut client = Client::connect(&self.ingest);
        let answer = client.request("POST", "/api/v1/events", &headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        while self.count(&name) == 0 {
            assert!(sent.elapsed() < VISIBLE_WITHIN, "{name} is not visible in {VISIBLE_WITHIN:?}");
            std::thread::sleep(ASK_EVERY);
        }
        sent.elapsed().as_secs_f64() * 1e3
    }

    fn count(&self, name: &str) -> u64 {
        let path = format!(
            "/api/v1/analytics/events/count?app_id={}&start_date={}&end_date={}&event_name={name}",
            self.app_id,
            day_plus(-1),
            day_plus(1)
        );
        let headers = [("X-API-Key", self.api_key.as_str())];
        let answer = Client::connect(&self.api).request("GET", &path, &headers, b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["data"]["count"].as_u64().expect("a count is a number")
    }
}
