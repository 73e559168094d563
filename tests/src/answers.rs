//! The analytics questions, as the tests ask them.

use serde_json::Value;

use crate::batch::day_plus;
use crate::http_client::{Client, Response};
use crate::stack::Stack;

impl Stack {
    /// Asks the API; the key of the demo app is sent.
    pub fn ask(&self, path_and_query: &str) -> Response {
        let headers = [("X-API-Key", self.api_key.as_str())];
        Client::connect(&self.api).request("GET", path_and_query, &headers, b"")
    }

    fn ask_ok(&self, path_and_query: &str) -> Value {
        let answer = self.ask(path_and_query);
        assert_eq!(answer.status, 200, "{path_and_query}: {}", answer.text());
        answer.json()
    }

    /// Events of one name over all the days that tests use.
    pub fn count(&self, event_name: &str) -> u64 {
        let answer = self.ask_ok(&format!(
            "/api/v1/analytics/events/count?app_id={}&start_date={}&end_date={}&event_name={event_name}",
            self.app_id,
            day_plus(-300),
            day_plus(1)
        ));
        answer["data"]["count"].as_u64().expect("a count is a number")
    }

    /// Users of each day, in order.
    pub fn dau(&self, from_days: i64, to_days: i64) -> Vec<(String, u64)> {
        let answer = self.ask_ok(&format!(
            "/api/v1/analytics/dau?app_id={}&start_date={}&end_date={}",
            self.app_id,
            day_plus(from_days),
            day_plus(to_days)
        ));
        let days = answer["data"].as_array().expect("data is a list of days");
        let day = |day: &Value| {
            let date = day["date"].as_str().expect("a date is text").to_owned();
            (date, day["dau"].as_u64().expect("dau is a number"))
        };
        days.iter().map(day).collect()
    }

    /// One user's events, newest first, at most 1,000.
    pub fn timeline(&self, user_id: &str) -> Vec<Value> {
        let answer = self
            .ask_ok(&format!("/api/v1/users/{user_id}/events?app_id={}&limit=1000", self.app_id));
        answer["data"].as_array().expect("data is a list of events").clone()
    }

    /// The event ids of a timeline, sorted, repeated ones repeated.
    pub fn timeline_ids(&self, user_id: &str) -> Vec<String> {
        let id = |event: &Value| event["event_id"].as_str().unwrap_or_default().to_lowercase();
        let mut ids: Vec<String> = self.timeline(user_id).iter().map(id).collect();
        ids.sort();
        ids
    }

    /// Runs a statement in ClickHouse itself; `body` is the data of an INSERT, or the query.
    pub fn clickhouse(&self, query: &str, body: &str) -> Response {
        self.try_clickhouse(query, body).expect("ClickHouse answers")
    }

    pub fn try_clickhouse(&self, query: &str, body: &str) -> std::io::Result<Response> {
        let target = format!("/?database=unmogrowp&query={}", percent_encode(query));
        let headers =
            [("X-ClickHouse-User", "unmogrowp"), ("X-ClickHouse-Key", self.password.as_str())];
        Client::try_connect(&self.clickhouse)?.try_request(
            "POST",
            &target,
            &headers,
            body.as_bytes(),
        )
    }
}

pub fn percent_encode(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => (byte as char).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}
