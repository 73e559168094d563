//! The contract's rules for the members of the schema, one value at a time, for `walk`. Members are
//! known by their unescaped names, values are what they are after unescaping.

use proto::limits::{EVENT_BYTES_MAX, EVENT_NAME_CHARS_MAX, USER_ID_CHARS_MAX};

use super::BatchStart;
use super::error::{Field, Rule};
use super::escape::{measure, unescape_into};
use super::kernel::parse_uuid;
use super::row::{Event, Span};
use super::timestamp;
use super::walk::Value;

/// No member of the schema, UUID or timestamp is longer.
const SHORT_BYTES_MAX: usize = 64;

/// In the order in which missing members are named.
const EVENT_MEMBERS: [Field; 5] =
    [Field::EventId, Field::EventName, Field::UserId, Field::Timestamp, Field::Properties];

pub fn batch_member(name: &[u8]) -> Option<Field> {
    known_member(name, &[Field::AppId, Field::Events])
}

pub fn event_member(name: &[u8]) -> Option<Field> {
    known_member(name, &EVENT_MEMBERS)
}

fn known_member(name: &[u8], members: &[Field]) -> Option<Field> {
    let mut plain = [0; SHORT_BYTES_MAX];
    let name = short(name, &mut plain)?;
    members.iter().copied().find(|member| member.name().as_bytes() == name)
}

/// `content` unescaped, if it is short.
fn short<'a>(content: &'a [u8], plain: &'a mut [u8; SHORT_BYTES_MAX]) -> Option<&'a [u8]> {
    // A unit of six bytes may stand for one, so the content itself may be longer.
    let length = unescape_into(content, plain)?;
    Some(&plain[..length])
}

/// A UUID that is not nil, as the row stores it.
pub fn uuid(body: &[u8], value: Value) -> Result<[u8; 16], Rule> {
    let Value::Text(content) = value else { return Err(Rule::NotString) };
    let mut plain = [0; SHORT_BYTES_MAX];
    let text = short(content.of(body), &mut plain).ok_or(Rule::NotUuid)?;
    let uuid = text.try_into().ok().and_then(parse_uuid).ok_or(Rule::NotUuid)?;
    if uuid == [0; 16] { Err(Rule::NilUuid) } else { Ok(uuid) }
}

fn moment(body: &[u8], value: Value, start: &BatchStart) -> Result<i64, Rule> {
    let Value::Text(content) = value else { return Err(Rule::NotString) };
    let mut plain = [0; SHORT_BYTES_MAX];
    let text = short(content.of(body), &mut plain).ok_or(Rule::NotTimestamp)?;
    let ms = timestamp::parse(text).ok_or(Rule::NotTimestamp)?;
    if ms < start.timestamp_min_ms {
        return Err(Rule::TooOld);
    }
    if ms > start.timestamp_max_ms {
        return Err(Rule::InFuture);
    }
    Ok(ms)
}

fn text(body: &[u8], value: Value, chars_max: usize) -> Result<Span, Rule> {
    let Value::Text(content) = value else { return Err(Rule::NotString) };
    match measure(content.of(body)).0 {
        0 => Err(Rule::Empty),
        chars if chars > chars_max => Err(Rule::TooLong),
        _ => Ok(content),
    }
}

/// An event while `walk` is in it.
#[derive(Clone, Copy, Default)]
pub struct EventState {
    pub start: u32,
    pub open: bool,
    /// The first rule that it broke.
    pub violation: Option<(Field, Rule)>,
    event: Event,
    /// Bit `n` for the n-th of [`EVENT_MEMBERS`].
    seen: u8,
    /// Where the properties' object begins, while it is open.
    properties_start: Option<u32>,
}

impl EventState {
    pub fn begin(&mut self, start: u32) {
        self.start = start;
        self.open = true;
    }

    /// Whether the member was there already.
    pub fn mark_seen(&mut self, field: Field) -> bool {
        let bit = EVENT_MEMBERS.iter().position(|member| *member == field).map_or(0, |at| 1 << at);
        let seen = self.seen & bit != 0;
        self.seen |= bit;
        seen
    }

    /// Takes the value of a member of the schema.
    pub fn take(&mut self, body: &[u8], field: Field, value: Value, start: &BatchStart) {
        if let Err(rule) = self.store(body, field, value, start) {
            self.violate(field, rule);
        }
    }

    fn store(
        &mut self,
        body: &[u8],
        field: Field,
        value: Value,
        start: &BatchStart,
    ) -> Result<(), Rule> {
        match field {
            Field::EventId => self.event.event_id = u128::from_ne_bytes(uuid(body, value)?),
            Field::EventName => self.event.event_name = text(body, value, EVENT_NAME_CHARS_MAX)?,
            Field::UserId => self.event.user_id = text(body, value, USER_ID_CHARS_MAX)?,
            Field::Timestamp => self.event.timestamp_ms = moment(body, value, start)?,
            Field::Properties => match value {
                Value::Object { start } => self.properties_start = Some(start),
                Value::Null => {}
                _ => return Err(Rule::NotObject),
            },
            Field::Body | Field::AppId | Field::Events | Field::Event => {}
        }
        let escaped = |span: Span| span.of(body).contains(&b'\\');
        if let (Field::EventName | Field::UserId, Value::Text(content)) = (field, value) {
            self.event.escaped |= escaped(content);
        }
        Ok(())
    }

    /// The container that was the last value of this event closes at `token`.
    pub fn end_value(&mut self, token: u32) {
        if let Some(start) = self.properties_start.take() {
            self.event.properties = Some(Span { start, end: token + 1 });
        }
    }

    /// The event's own object closes at `token`.
    pub fn end(&mut self, token: u32) {
        for (at, field) in EVENT_MEMBERS.into_iter().enumerate() {
            if self.seen >> at & 1 == 0 && field != Field::Properties {
                self.violate(field, Rule::Required);
            }
        }
        if (token - self.start) as usize + 1 > EVENT_BYTES_MAX {
            self.violate(Field::Event, Rule::TooLong);
        }
    }

    fn violate(&mut self, field: Field, rule: Rule) {
        self.violation.get_or_insert((field, rule));
    }

    pub fn result(&self) -> Result<Event, (Field, Rule)> {
        match self.violation {
            Some(violation) => Err(violation),
            None => Ok(self.event),
        }
    }
}
