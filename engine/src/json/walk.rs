//! Stage 2, any case: the whole grammar and the batch's rules, one token at a time. It can stop
//! after every token, so that a body may be scanned in parts and a long event cannot hold a shard.
//!
//! A token is taken together with the offset of the next one, which ends its text. Strings have
//! passed stage 1: they close, their escapes are whole.

use proto::limits::{EVENTS_PER_BATCH_MAX, JSON_DEPTH_MAX, PARTIAL_ERRORS_MAX};

use super::error::{Field, JsonError, Rejection, Rule, RuleError};
use super::event::EVENT_DEPTH;
use super::row::{Event, Span};
use super::rules::{self, EventState};
use super::value::{Malformed, byte_at, check_literal, check_number, closing_quote};
use super::{BatchStart, Verdict};

/// What the grammar allows next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrClose,
    Name,
    NameOrClose,
    Colon,
    /// A comma or the end of the container.
    Next,
    /// The body is over.
    End,
}

/// What the open container is to the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Outside of all containers.
    Outside,
    Batch,
    Events,
    Event,
    /// Anything below, where only the grammar matters.
    Other,
}

/// A value as the schema sees it: containers when they open.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// The content between the quotes.
    Text(Span),
    Object {
        start: u32,
    },
    Array,
    Null,
    /// A number, `true` or `false`.
    Other,
}

#[derive(Clone, Copy, Debug)]
enum AppId {
    Missing,
    Wrong(Rule),
    /// As the row stores it.
    Is([u8; 16]),
}

/// Where a batch's walk stands.
pub struct Walk {
    expect: Expect,
    depth: u32,
    /// Bit `n` is set when the container at depth `n + 1` is an object.
    objects: u64,
    place: Place,
    /// The depth at which `place` became `Other`.
    other_depth: u32,
    /// The member that the next value belongs to, in the batch's object or an event's.
    field: Option<Field>,
    app_id: AppId,
    app_id_seen: bool,
    events_seen: bool,
    body_is_object: bool,
    event_count: usize,
    event: EventState,
    stored: u32,
    rejected: u32,
    /// The first violation that concerns the whole batch; without `partial` that is any.
    violation: Option<RuleError>,
    partial: bool,
}

impl Walk {
    pub fn new(start: &BatchStart) -> Walk {
        Walk {
            expect: Expect::Value,
            depth: 0,
            objects: 0,
            place: Place::Outside,
            other_depth: 0,
            field: None,
            app_id: AppId::Missing,
            app_id_seen: false,
            events_seen: false,
            body_is_object: false,
            event_count: 0,
            event: EventState::default(),
            stored: 0,
            rejected: 0,
            violation: None,
            partial: start.partial,
        }
    }

    /// Whether the next token may be the `{` of an event that is still worth a row.
    pub fn before_event(&self) -> bool {
        self.place == Place::Events
            && matches!(self.expect, Expect::Value | Expect::ValueOrClose)
            && self.violation.is_none()
    }

    /// Where the event that the walk is in begins.
    pub fn event_start(&self) -> Option<u32> {
        (self.depth >= EVENT_DEPTH && self.event.open).then_some(self.event.start)
    }

    pub fn event_count(&self) -> usize {
        self.event_count
    }

    /// Takes note of `count` events that went straight to rows; the last one's comma too, or not.
    pub fn skip_events(&mut self, count: u32, comma_too: bool) {
        self.event_count += count as usize;
        self.stored += count;
        if count > 0 {
            self.expect = if comma_too { Expect::Value } else { Expect::Next };
        }
    }

    /// Takes one token. Gives the event that it ends, if that is to be stored.
    pub fn take(
        &mut self,
        body: &[u8],
        token: u32,
        next: u32,
        start: &BatchStart,
        rejections: &mut Vec<Rejection>,
    ) -> Result<Option<Event>, Malformed> {
        let byte = byte_at(body, token);
        let unexpected = || Err(Malformed::at(token as usize, JsonError::UnexpectedByte));
        match self.expect {
            Expect::Value => self.value(body, token, next, start, rejections)?,
            Expect::ValueOrClose if byte == b']' => return Ok(self.close(token, rejections)),
            Expect::ValueOrClose => self.value(body, token, next, start, rejections)?,
            Expect::NameOrClose if byte == b'}' => return Ok(self.close(token, rejections)),
            Expect::Name | Expect::NameOrClose => {
                if byte != b'"' {
                    return unexpected();
                }
                self.name(body, token, next)?;
                self.expect = Expect::Colon;
            }
            Expect::Colon if byte == b':' => self.expect = Expect::Value,
            Expect::Colon => return unexpected(),
            Expect::Next => {
                let in_object = self.in_object();
                match byte {
                    b',' if in_object => self.expect = Expect::Name,
                    b',' => self.expect = Expect::Value,
                    b'}' if in_object => return Ok(self.close(token, rejections)),
                    b']' if !in_object => return Ok(self.close(token, rejections)),
                    _ => return unexpected(),
                }
            }
            Expect::End => {
                return Err(Malformed::at(token as usize, JsonError::TrailingBytes));
            }
        }
        Ok(None)
    }

    fn in_object(&self) -> bool {
        self.objects >> (self.depth - 1) & 1 == 1
    }

    fn name(&mut self, body: &[u8], token: u32, next: u32) -> Result<(), Malformed> {
        let content = Span { start: token + 1, end: closing_quote(body, token, next) };
        let seen = match self.place {
            Place::Batch => {
                self.field = rules::batch_member(content.of(body));
                match self.field {
                    Some(Field::AppId) => std::mem::replace(&mut self.app_id_seen, true),
                    Some(_) => std::mem::replace(&mut self.events_seen, true),
                    None => false,
                }
            }
            Place::Event => {
                self.field = rules::event_member(content.of(body));
                self.field.is_some_and(|field| self.event.mark_seen(field))
            }
            _ => false,
        };
        if seen {
            return Err(Malformed::at(token as usize, JsonError::RepeatedMember));
        }
        Ok(())
    }

    fn value(
        &mut self,
        body: &[u8],
        token: u32,
        next: u32,
        start: &BatchStart,
        rejections: &mut Vec<Rejection>,
    ) -> Result<(), Malformed> {
        let value = match byte_at(body, token) {
            b'"' => Value::Text(Span { start: token + 1, end: closing_quote(body, token, next) }),
            b'{' => Value::Object { start: token },
            b'[' => Value::Array,
            b'-' | b'0'..=b'9' => {
                check_number(body, token, next)?;
                Value::Other
            }
            byte @ (b't' | b'f' | b'n') => {
                check_literal(body, token, next)?;
                if byte == b'n' { Value::Null } else { Value::Other }
            }
            _ => return Err(Malformed::at(token as usize, JsonError::UnexpectedByte)),
        };
        let inner = self.judge(body, value, start, rejections);
        match value {
            Value::Object { .. } | Value::Array => {
                self.open(token, matches!(value, Value::Object { .. }), inner)?;
            }
            _ => self.expect = if self.depth == 0 { Expect::End } else { Expect::Next },
        }
        Ok(())
    }

    fn open(&mut self, token: u32, object: bool, inner: Place) -> Result<(), Malformed> {
        if self.depth as usize == JSON_DEPTH_MAX {
            return Err(Malformed::at(token as usize, JsonError::TooDeep));
        }
        let bit = 1 << self.depth;
        self.objects = if object { self.objects | bit } else { self.objects & !bit };
        self.depth += 1;
        if inner == Place::Other && self.place != Place::Other {
            self.other_depth = self.depth;
        }
        self.place = if self.place == Place::Other { Place::Other } else { inner };
        self.expect = if object { Expect::NameOrClose } else { Expect::ValueOrClose };
        Ok(())
    }

    /// Ends the open container; gives the event that it was, if that is to be stored.
    fn close(&mut self, token: u32, rejections: &mut Vec<Rejection>) -> Option<Event> {
        let place = self.place;
        let was_other_outermost = place == Place::Other && self.depth == self.other_depth;
        self.depth -= 1;
        self.expect = if self.depth == 0 { Expect::End } else { Expect::Next };
        match place {
            Place::Other if was_other_outermost => {
                self.place = match self.depth {
                    0 => Place::Outside,
                    1 if self.body_is_object => Place::Batch,
                    2 => Place::Events,
                    _ => Place::Event,
                };
                self.event.end_value(token);
                None
            }
            Place::Event => {
                self.place = Place::Events;
                self.event.end(token);
                self.finish_event(rejections)
            }
            Place::Events => {
                self.place = Place::Batch;
                if self.event_count == 0 {
                    self.violate_batch(None, Field::Events, Rule::Empty);
                }
                None
            }
            Place::Batch => {
                self.place = Place::Outside;
                None
            }
            Place::Other | Place::Outside => None,
        }
    }

    /// Applies the rules to a value where it stands; gives what a container there is.
    fn judge(
        &mut self,
        body: &[u8],
        value: Value,
        start: &BatchStart,
        rejections: &mut Vec<Rejection>,
    ) -> Place {
        let is_object = matches!(value, Value::Object { .. });
        match (self.place, self.field) {
            (Place::Outside, _) if is_object => {
                self.body_is_object = true;
                return Place::Batch;
            }
            (Place::Batch, Some(Field::AppId)) => {
                self.app_id = match rules::uuid(body, value) {
                    Ok(uuid) => AppId::Is(uuid),
                    Err(rule) => AppId::Wrong(rule),
                };
            }
            (Place::Batch, Some(_)) => {
                if matches!(value, Value::Array) {
                    return Place::Events;
                }
                self.violate_batch(None, Field::Events, Rule::NotArray);
            }
            (Place::Events, _) => return self.begin_event(value, rejections),
            (Place::Event, Some(field)) => self.event.take(body, field, value, start),
            _ => {}
        }
        Place::Other
    }

    fn begin_event(&mut self, value: Value, rejections: &mut Vec<Rejection>) -> Place {
        if self.event_count == EVENTS_PER_BATCH_MAX {
            self.violate_batch(None, Field::Events, Rule::TooMany);
        }
        self.event_count += 1;
        self.event = EventState::default();
        if let Value::Object { start } = value {
            self.event.begin(start);
            return Place::Event;
        }
        self.event.violation = Some((Field::Event, Rule::NotObject));
        self.finish_event(rejections);
        Place::Other
    }

    fn finish_event(&mut self, rejections: &mut Vec<Rejection>) -> Option<Event> {
        let index = (self.event_count - 1) as u32;
        let event = self.event.result();
        self.event.open = false;
        match event {
            _ if self.violation.is_some() => None,
            Ok(event) => {
                self.stored += 1;
                Some(event)
            }
            Err((field, rule)) if self.partial => {
                self.rejected += 1;
                if rejections.len() < PARTIAL_ERRORS_MAX {
                    rejections.push(Rejection { index, field, rule });
                }
                None
            }
            Err((field, rule)) => {
                self.violate_batch(Some(index), field, rule);
                None
            }
        }
    }

    fn violate_batch(&mut self, index: Option<u32>, field: Field, rule: Rule) {
        self.violation.get_or_insert(RuleError { index, field, rule });
    }

    /// The judgement at the body's end.
    pub fn finish(&self, body: &[u8], start: &BatchStart) -> Verdict {
        if self.expect != Expect::End {
            return Verdict::Malformed { offset: body.len(), error: JsonError::UnexpectedEnd };
        }
        let invalid = |field, rule| Verdict::Invalid(RuleError { index: None, field, rule });
        if !self.body_is_object {
            return invalid(Field::Body, Rule::NotObject);
        }
        match self.app_id {
            AppId::Missing => return invalid(Field::AppId, Rule::Required),
            AppId::Wrong(rule) => return invalid(Field::AppId, rule),
            AppId::Is(app_id) if app_id != proto::row::uuid_to_row(start.app_id) => {
                return Verdict::WrongApp;
            }
            AppId::Is(_) => {}
        }
        match self.violation {
            Some(violation) => Verdict::Invalid(violation),
            None if !self.events_seen => invalid(Field::Events, Rule::Required),
            None => Verdict::Accepted { stored: self.stored, rejected: self.rejected },
        }
    }
}
