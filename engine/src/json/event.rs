//! Stage 2, the usual case: whole good events straight from the body to rows. Whatever is out of the
//! ordinary (a broken rule, a fault in the grammar, an escape where it matters, an event that is not
//! all there) is left to `walk`, which looks at the same event again from its first token; nothing
//! is decided here but that a row is good.

use proto::limits::{
    EVENT_BYTES_MAX, EVENT_NAME_CHARS_MAX, EVENTS_PER_BATCH_MAX, ROW_BYTES_MAX, USER_ID_CHARS_MAX,
};

use super::escape::{count_chars, measure};
use super::kernel::Isa;
use super::member::{self, Text, word};
use super::row::{self, Event, OUT_SLACK_BYTES, Shared, Span};
use super::timestamp::{self, DateMemo};
use super::token::Quotes;

/// Depth of an event's object: in the batch's object, in the array.
pub const EVENT_DEPTH: u32 = 3;

/// A run over as many events as are usual. All offsets are those in `body`.
pub struct Events<'a> {
    /// The request's body from somewhere on.
    pub body: &'a [u8],
    pub quotes: Quotes<'a>,
    /// Where an event should begin.
    pub start: u32,
    /// Up to here the quotes mean something.
    pub limit: u32,
    pub out: &'a mut [u8],
    /// Bytes of `out` in use.
    pub written: usize,
    /// Events of this batch so far.
    pub event_count: usize,
    /// No event is begun from here on.
    pub pause_at: usize,
    pub timestamp_min_ms: i64,
    pub timestamp_max_ms: i64,
    pub shared: Shared,
    pub memo: &'a mut DateMemo,
}

/// How far a run came.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The next event's first byte, or the one past the last event's `}`.
    pub at: u32,
    pub written: usize,
    pub events: u32,
    pub stop: Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// What follows the last event is not known to be another.
    AfterEvent,
    /// Something to look at closely, or not all there.
    AtEvent,
    /// Budget or room are used up before the next event.
    Pause,
}

/// Room that an event at `start` needs in `out` before it is begun.
pub fn room_needed(body: &[u8], start: usize) -> usize {
    ROW_BYTES_MAX.min(body.len() - start) + OUT_SLACK_BYTES
}

/// Takes events until one is not usual.
#[inline(always)]
pub fn run<I: Isa>(isa: I, events: &mut Events<'_>) -> Progress {
    let text = Text { body: events.body, quotes: events.quotes };
    let mut at = events.start;
    let mut written = events.written;
    let mut count = 0u32;
    let stop = loop {
        let start = at as usize;
        if start >= events.pause_at || events.out.len() - written < room_needed(text.body, start) {
            break Stop::Pause;
        }
        if events.event_count + count as usize >= EVENTS_PER_BATCH_MAX {
            break Stop::AtEvent;
        }
        let Some((event, end)) = read(isa, text, at, events) else {
            break Stop::AtEvent;
        };
        written = row::write(text.body, &event, events.shared, events.out, written);
        events.shared.received_at_ns += 1;
        count += 1;
        let (comma, byte) = text.token(end);
        let (next, _) = text.token(comma + 1);
        if byte != b',' || next >= events.limit {
            at = end;
            break Stop::AfterEvent;
        }
        at = next;
    };
    Progress { at, written, events: count, stop }
}

const EVENT_ID: u32 = 1;
const EVENT_NAME: u32 = 2;
const USER_ID: u32 = 4;
const TIMESTAMP: u32 = 8;
const PROPERTIES: u32 = 16;
const REQUIRED: u32 = EVENT_ID | EVENT_NAME | USER_ID | TIMESTAMP;

/// An event while it is read.
#[derive(Default)]
struct Read {
    event: Event,
    /// Which members were there.
    seen: u32,
}

/// Reads the event at `start`; gives it and where it ends.
#[inline(always)]
fn read<I: Isa>(
    isa: I,
    text: Text<'_>,
    start: u32,
    events: &mut Events<'_>,
) -> Option<(Event, u32)> {
    let mut read = Read::default();
    let mut end = start;
    let mut before = b'{';
    loop {
        let (known, value, first) = match compact_member(text, end, before) {
            (0, _) => {
                let (at, byte) = text.token(end);
                if byte != before {
                    end = at;
                    if byte != b'}' || read.seen & REQUIRED != REQUIRED {
                        return None;
                    }
                    break;
                }
                loose_member(text, at + 1)?
            }
            (PROPERTIES, value) => (PROPERTIES, value, b'{'),
            (known, value) => (known, value, b'"'),
        };
        end = match known {
            PROPERTIES => properties(isa, text, value, first, &mut read)?,
            0 => member::value(isa, text, value, first)?,
            // Anything else breaks a rule.
            _ if first != b'"' => return None,
            EVENT_ID => event_id(isa, text, value, &mut read)?,
            EVENT_NAME => event_name(isa, text, value, &mut read, events.limit)?,
            USER_ID => user_id(isa, text, value, &mut read, events.limit)?,
            _ => timestamp(text, value, &mut read, events)?,
        };
        before = b',';
    }
    let good = end < events.limit && ((end - start) as usize) < EVENT_BYTES_MAX;
    good.then_some((read.event, end + 1))
}

/// The member of the schema behind the `before` at `at` and its value's place, if they stand as in
/// a compact body: one look takes in name, colon and the value's first byte.
#[inline(always)]
fn compact_member(text: Text<'_>, at: u32, before: u8) -> (u32, u32) {
    let Some([found, name @ ..]) = text.chunk::<17>(at) else { return (0, 0) };
    if *found != before {
        return (0, 0);
    }
    let rests: [&[u8]; 5] = [b"d\":\"", b"ame\":\"", b"\":\"", b"mp\":\"", b"ies\":{"];
    match known_member(name, rests) {
        EVENT_ID => (EVENT_ID, at + 12),
        EVENT_NAME => (EVENT_NAME, at + 14),
        USER_ID => (USER_ID, at + 11),
        TIMESTAMP => (TIMESTAMP, at + 13),
        PROPERTIES => (PROPERTIES, at + 14),
        _ => (0, 0),
    }
}

/// Which member is at `at` or behind white space there, 0 for none of the schema; its value's place
/// and first byte.
#[inline(always)]
fn loose_member(text: Text<'_>, at: u32) -> Option<(u32, u32, u8)> {
    let (at, quote) = text.token(at);
    if quote != b'"' {
        return None;
    }
    let rests: [&[u8]; 5] = [b"d\"", b"ame\"", b"\"", b"mp\"", b"ies\""];
    let known = known_member(text.chunk(at)?, rests);
    let close = text.close(at)?;
    // With escapes it may be one of the schema's after all.
    let name = Span { start: at + 1, end: close };
    if known == 0 && name.of(text.body).contains(&b'\\') {
        return None;
    }
    let (value, first) = text.member_value(close + 1)?;
    Some((known, value, first))
}

/// Which member's name and what is behind it a text starts with, the first eight bytes being those
/// of each name with its quote, the rest being `rests`. 0 for none.
#[inline(always)]
fn known_member(text: &[u8; 16], rests: [&[u8]; 5]) -> u32 {
    let half = |at: usize| u64::from_le_bytes(*text[at..].first_chunk().expect("16 bytes"));
    let (first, second) = (half(0), half(8));
    let goes_on = |rest: &[u8]| (second ^ word(rest)) << (64 - 8 * rest.len()) == 0;
    if first == word(b"\"event_i") && goes_on(rests[0]) {
        EVENT_ID
    } else if first == word(b"\"event_n") && goes_on(rests[1]) {
        EVENT_NAME
    } else if first == word(b"\"user_id") && goes_on(rests[2]) {
        USER_ID
    } else if first == word(b"\"timesta") && goes_on(rests[3]) {
        TIMESTAMP
    } else if first == word(b"\"propert") && goes_on(rests[4]) {
        PROPERTIES
    } else {
        0
    }
}

impl Read {
    #[inline(always)]
    fn once(&mut self, member: u32) -> Option<()> {
        let seen = self.seen & member != 0;
        self.seen |= member;
        if seen { None } else { Some(()) }
    }
}

#[inline(always)]
fn event_id<I: Isa>(isa: I, text: Text<'_>, value: u32, read: &mut Read) -> Option<u32> {
    read.once(EVENT_ID)?;
    let quoted: &[u8; UUID_QUOTED_BYTES] = text.chunk(value)?;
    let content = quoted[1..].first_chunk().expect("38 bytes");
    let uuid = isa.uuid(content)?;
    if uuid == [0; 16] || quoted[37] != b'"' {
        return None;
    }
    read.event.event_id = u128::from_ne_bytes(uuid);
    Some(value + UUID_QUOTED_BYTES as u32)
}

#[inline(always)]
fn event_name<I: Isa>(
    isa: I,
    text: Text<'_>,
    value: u32,
    read: &mut Read,
    limit: u32,
) -> Option<u32> {
    read.once(EVENT_NAME)?;
    let content = Span { start: value + 1, end: text.close(value)? };
    read.event.escaped |= check_text(isa, text, content, EVENT_NAME_CHARS_MAX, limit)?;
    read.event.event_name = content;
    Some(content.end + 1)
}

#[inline(always)]
fn user_id<I: Isa>(isa: I, text: Text<'_>, value: u32, read: &mut Read, limit: u32) -> Option<u32> {
    read.once(USER_ID)?;
    let content = Span { start: value + 1, end: text.close(value)? };
    read.event.escaped |= check_text(isa, text, content, USER_ID_CHARS_MAX, limit)?;
    read.event.user_id = content;
    Some(content.end + 1)
}

#[inline(always)]
fn timestamp(text: Text<'_>, value: u32, read: &mut Read, events: &mut Events<'_>) -> Option<u32> {
    read.once(TIMESTAMP)?;
    let (ms, end) = moment(text, value, events.memo)?;
    if (ms < events.timestamp_min_ms) | (ms > events.timestamp_max_ms) {
        return None;
    }
    read.event.timestamp_ms = ms;
    Some(end)
}

#[inline(always)]
fn properties<I: Isa>(
    isa: I,
    text: Text<'_>,
    value: u32,
    first: u8,
    read: &mut Read,
) -> Option<u32> {
    read.once(PROPERTIES)?;
    match first {
        b'{' => {
            let end = member::container(isa, text, value, b'{')?;
            read.event.properties = Some(Span { start: value, end });
            Some(end)
        }
        b'n' => member::literal(text, value),
        // Anything else breaks a rule.
        _ => None,
    }
}

const UUID_QUOTED_BYTES: usize = 38;

/// The timestamp at `value`, and where it ends.
#[inline(always)]
fn moment(text: Text<'_>, value: u32, memo: &mut DateMemo) -> Option<(i64, u32)> {
    let padded = text.chunk(value + 1);
    // The commonest length, without waiting for where the string ends.
    if let Some(padded) = padded
        && padded[24] == b'"'
        && let Some(ms) = timestamp::parse_usual(padded, 24, memo)
    {
        return Some((ms, value + 26));
    }
    let content = Span { start: value + 1, end: text.close(value)? };
    let usual = padded.and_then(|padded| timestamp::parse_usual(padded, content.len(), memo));
    let ms = usual.or_else(|| timestamp::parse(content.of(text.body)))?;
    Some((ms, content.end + 1))
}

/// Takes a text whose length in code points is 1 to `chars_max`; gives whether it has escapes.
#[inline(always)]
fn check_text<I: Isa>(
    isa: I,
    text: Text<'_>,
    content: Span,
    chars_max: usize,
    limit: u32,
) -> Option<bool> {
    let length = content.len();
    if let Some(chunk) = text.chunk(content.start)
        && length.wrapping_sub(1) < 32
        && isa.unplain(chunk) << (32 - length) == 0
    {
        return Some(false);
    }
    // Past the limit escapes may be anything.
    if content.end >= limit {
        return None;
    }
    check_longer_text(content.of(text.body), chars_max)
}

#[inline(never)]
fn check_longer_text(content: &[u8], chars_max: usize) -> Option<bool> {
    let escaped = content.contains(&b'\\');
    let chars = if escaped { measure(content).0 } else { count_chars(content) };
    (1..=chars_max).contains(&chars).then_some(escaped)
}
