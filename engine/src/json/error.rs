//! What can be wrong with a body: its grammar ([`JsonError`]) or the contract's rules
//! ([`RuleError`]). Small `Copy` values; text is made only when an answer is written.

use std::fmt;

use proto::limits::{
    EVENT_BYTES_MAX, EVENT_NAME_CHARS_MAX, EVENTS_PER_BATCH_MAX, JSON_DEPTH_MAX, USER_ID_CHARS_MAX,
};

/// Why a body is not the JSON that RFC 8259 and the contract ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JsonError {
    /// Also an empty body, and a string that never closes.
    UnexpectedEnd,
    /// A token that cannot stand where it stands.
    UnexpectedByte,
    ByteOrderMark,
    /// Something other than white space after the outermost value.
    TrailingBytes,
    Number,
    Literal,
    Escape,
    LoneSurrogate,
    /// A raw byte below 0x20 in a string.
    ControlInString,
    Utf8,
    TooDeep,
    /// A member of the schema that stands twice in one object.
    RepeatedMember,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JsonError::UnexpectedEnd => f.write_str("unexpected end"),
            JsonError::UnexpectedByte => f.write_str("unexpected byte"),
            JsonError::ByteOrderMark => f.write_str("byte order mark"),
            JsonError::TrailingBytes => f.write_str("trailing bytes"),
            JsonError::Number => f.write_str("malformed number"),
            JsonError::Literal => f.write_str("malformed literal"),
            JsonError::Escape => f.write_str("malformed escape"),
            JsonError::LoneSurrogate => f.write_str("lone surrogate"),
            JsonError::ControlInString => f.write_str("control character in a string"),
            JsonError::Utf8 => f.write_str("invalid UTF-8"),
            JsonError::TooDeep => write!(f, "nested deeper than {JSON_DEPTH_MAX}"),
            JsonError::RepeatedMember => f.write_str("repeated member"),
        }
    }
}

/// The part of a body that broke a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    Body,
    AppId,
    Events,
    /// One element of `events` as a whole.
    Event,
    EventId,
    EventName,
    UserId,
    Timestamp,
    Properties,
}

impl Field {
    /// As it is written in a message; for a member of the schema its name.
    pub fn name(self) -> &'static str {
        match self {
            Field::Body => "body",
            Field::AppId => "app_id",
            Field::Events => "events",
            Field::Event => "event",
            Field::EventId => "event_id",
            Field::EventName => "event_name",
            Field::UserId => "user_id",
            Field::Timestamp => "timestamp",
            Field::Properties => "properties",
        }
    }
}

/// Which rule of the contract was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    Required,
    NotString,
    NotObject,
    NotArray,
    Empty,
    /// Longer than its field allows.
    TooLong,
    /// More events than a batch may have.
    TooMany,
    NotUuid,
    NilUuid,
    /// Not RFC 3339, or not a date or time that exists.
    NotTimestamp,
    TooOld,
    InFuture,
}

/// One broken rule: where, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleError {
    /// Of the event, from 0; `None` for the batch as a whole.
    pub index: Option<u32>,
    pub field: Field,
    pub rule: Rule,
}

impl RuleError {
    /// The rule alone, as in `longer than 100 characters`.
    fn rule_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.rule, self.field) {
            (Rule::TooLong, Field::EventName) => {
                write!(f, "longer than {EVENT_NAME_CHARS_MAX} characters")
            }
            (Rule::TooLong, Field::UserId) => {
                write!(f, "longer than {USER_ID_CHARS_MAX} characters")
            }
            (Rule::TooLong, _) => write!(f, "longer than {EVENT_BYTES_MAX} bytes"),
            (Rule::TooMany, _) => write!(f, "more than {EVENTS_PER_BATCH_MAX}"),
            (Rule::Required, _) => f.write_str("required"),
            (Rule::NotString, _) => f.write_str("not a string"),
            (Rule::NotObject, _) => f.write_str("not an object"),
            (Rule::NotArray, _) => f.write_str("not an array"),
            (Rule::Empty, _) => f.write_str("empty"),
            (Rule::NotUuid, _) => f.write_str("not a UUID"),
            (Rule::NilUuid, _) => f.write_str("the nil UUID"),
            (Rule::NotTimestamp, _) => f.write_str("not an RFC 3339 timestamp"),
            (Rule::TooOld, _) => f.write_str("too far in the past"),
            (Rule::InFuture, _) => f.write_str("in the future"),
        }
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.index, self.field) {
            (Some(index), Field::Event) => write!(f, "events[{index}]: ")?,
            (Some(index), field) => write!(f, "events[{index}].{}: ", field.name())?,
            (None, field) => write!(f, "{}: ", field.name())?,
        }
        self.rule_text(f)
    }
}

/// One event that a partial batch left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rejection {
    /// Of the event, from 0.
    pub index: u32,
    pub field: Field,
    pub rule: Rule,
}

impl Rejection {
    /// For the message, which is the same as that of a refused batch.
    pub fn error(&self) -> RuleError {
        RuleError { index: Some(self.index), field: self.field, rule: self.rule }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(index: Option<u32>, field: Field, rule: Rule, expected: &str) {
        assert_eq!(RuleError { index, field, rule }.to_string(), expected);
    }

    #[test]
    fn messages_name_index_field_and_rule() {
        let long = Rule::TooLong;
        check(Some(3), Field::EventName, long, "events[3].event_name: longer than 100 characters");
        check(Some(0), Field::UserId, long, "events[0].user_id: longer than 255 characters");
        check(Some(7), Field::Event, long, "events[7]: longer than 65536 bytes");
        check(Some(7), Field::Event, Rule::NotObject, "events[7]: not an object");
        check(None, Field::AppId, Rule::Required, "app_id: required");
        check(None, Field::Events, Rule::TooMany, "events: more than 1000");
        check(None, Field::Body, Rule::NotObject, "body: not an object");
    }
}
