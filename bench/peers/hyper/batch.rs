//! A batch as it comes in, borrowed from its body, and the rules of the contract that it must keep
//! (docs/http-api.md). Knows neither HTTP nor Kafka.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

const EVENTS_PER_BATCH_MAX: usize = 1_000;
const NAME_CHARS_MAX: usize = 100;
const USER_CHARS_MAX: usize = 255;
const PAST_MAX: Duration = Duration::days(400);
const FUTURE_MAX: Duration = Duration::minutes(5);

#[derive(Deserialize)]
pub struct Batch<'a> {
    pub app_id: Uuid,
    #[serde(borrow)]
    pub events: Vec<Event<'a>>,
}

#[derive(Deserialize)]
pub struct Event<'a> {
    pub event_id: Uuid,
    #[serde(borrow)]
    pub event_name: Cow<'a, str>,
    #[serde(borrow)]
    pub user_id: Cow<'a, str>,
    #[serde(borrow)]
    pub timestamp: Cow<'a, str>,
    /// None for `null`, too.
    #[serde(borrow)]
    pub properties: Option<&'a RawValue>,
}

/// The first rule that is broken.
pub enum Fault {
    EventCount(usize),
    Field { index: usize, field: &'static str, why: &'static str },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::EventCount(count) => {
                write!(f, "events: {count} of them, not 1 to {EVENTS_PER_BATCH_MAX}")
            }
            Fault::Field { index, field, why } => write!(f, "events[{index}].{field}: {why}"),
        }
    }
}

impl Batch<'_> {
    pub fn check(&self, now: OffsetDateTime) -> Result<(), Fault> {
        if !(1..=EVENTS_PER_BATCH_MAX).contains(&self.events.len()) {
            return Err(Fault::EventCount(self.events.len()));
        }
        for (index, event) in self.events.iter().enumerate() {
            event.check(now).map_err(|(field, why)| Fault::Field { index, field, why })?;
        }
        Ok(())
    }
}

impl Event<'_> {
    fn check(&self, now: OffsetDateTime) -> Result<(), (&'static str, &'static str)> {
        if self.event_id.is_nil() {
            return Err(("event_id", "nil"));
        }
        if !fits(&self.event_name, NAME_CHARS_MAX) {
            return Err(("event_name", "empty or too long"));
        }
        if !fits(&self.user_id, USER_CHARS_MAX) {
            return Err(("user_id", "empty or too long"));
        }
        let timestamp = OffsetDateTime::parse(&self.timestamp, &Rfc3339)
            .map_err(|_| ("timestamp", "not RFC 3339"))?;
        if timestamp < now - PAST_MAX || timestamp > now + FUTURE_MAX {
            return Err(("timestamp", "too old or in the future"));
        }
        match self.properties {
            Some(properties) if !properties.get().starts_with('{') => {
                Err(("properties", "not an object"))
            }
            _ => Ok(()),
        }
    }
}

fn fits(text: &str, chars_max: usize) -> bool {
    !text.is_empty() && (text.len() <= chars_max || text.chars().count() <= chars_max)
}
