//! Events and batches as a client would write them.

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::wait::{seconds, wait_for};

#[derive(Clone, Debug)]
pub struct Event {
    pub event_id: Uuid,
    pub event_name: String,
    pub user_id: String,
    pub timestamp: String,
    /// JSON text, sent as it is.
    pub properties: Option<String>,
}

impl Event {
    /// A new event, now.
    pub fn new(event_name: &str, user_id: &str) -> Event {
        Event {
            event_id: Uuid::new_v4(),
            event_name: event_name.to_owned(),
            user_id: user_id.to_owned(),
            timestamp: now_plus(Duration::ZERO),
            properties: None,
        }
    }

    pub fn at(mut self, timestamp: &str) -> Event {
        self.timestamp = timestamp.to_owned();
        self
    }

    pub fn with(mut self, properties: &str) -> Event {
        self.properties = Some(properties.to_owned());
        self
    }

    pub fn json(&self) -> String {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let mut json = format!(
            r#"{{"event_id":"{}","event_name":{},"user_id":{},"timestamp":"{}""#,
            self.event_id,
            text(&self.event_name),
            text(&self.user_id),
            self.timestamp
        );
        if let Some(properties) = &self.properties {
            json.push_str(&format!(r#","properties":{properties}"#));
        }
        json.push('}');
        json
    }
}

#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub events: Vec<Event>,
}

impl Batch {
    pub fn one(event: Event) -> Batch {
        Batch { events: vec![event] }
    }

    /// `count` new events of one name, spread over `users` users.
    pub fn of(count: usize, event_name: &str, users: usize) -> Batch {
        let user = |index: usize| format!("user-{}", index % users);
        Batch { events: (0..count).map(|index| Event::new(event_name, &user(index))).collect() }
    }

    pub fn json(&self, app_id: &str) -> String {
        let events: Vec<String> = self.events.iter().map(Event::json).collect();
        format!(r#"{{"app_id":"{app_id}","events":[{}]}}"#, events.join(","))
    }
}

/// RFC 3339, UTC.
pub fn now_plus(offset: Duration) -> String {
    let moment = OffsetDateTime::now_utc() + offset;
    moment.format(&Rfc3339).expect("a moment of our time has a text")
}

/// `YYYY-MM-DD` of today in UTC, so many days later.
pub fn day_plus(days: i64) -> String {
    let date = (OffsetDateTime::now_utc() + Duration::days(days)).date();
    date.to_string()
}

/// For tests that send events of today and ask for today: midnight (UTC) does not come in between.
pub fn wait_out_midnight() {
    const TEST_TAKES_S: i64 = 60;
    wait_for("midnight is over", seconds(2 * TEST_TAKES_S as u64), || {
        let day_s = 24 * 60 * 60;
        let left_s = day_s - OffsetDateTime::now_utc().unix_timestamp() % day_s;
        (left_s > TEST_TAKES_S).then_some(())
    });
}
