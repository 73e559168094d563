//! Stage 2, the usual case: whole events whose members are in order, valid and unescaped, straight
//! from tokens to rows. Whatever is out of the ordinary (a broken rule, a fault in the grammar, an
//! escape in a field, tokens that are not all there) is left to `walk`, which looks at the same
//! event again from its first token; nothing is decided here but that a row is good.

use proto::limits::{
    EVENT_BYTES_MAX, EVENT_NAME_CHARS_MAX, EVENTS_PER_BATCH_MAX, JSON_DEPTH_MAX, ROW_BYTES_MAX,
    USER_ID_CHARS_MAX,
};

use super::escape::count_chars;
use super::kernel::Isa;
use super::row::{self, Event, OUT_SLACK_BYTES, Shared, Span};
use super::timestamp::{self, DateMemo};
use super::value::{byte_at, check_literal, check_number, closing_quote};

/// Depth of an event's object: in the batch's object, in the array.
pub const EVENT_DEPTH: u32 = 3;

/// A run over as many events as are usual.
pub struct Events<'a> {
    pub body: &'a [u8],
    /// From the token that an event should begin at; the last one only ends the one before it.
    pub tokens: &'a [u32],
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
    /// Tokens used up: up to the one after the last event's `}`, or after its comma.
    pub tokens: usize,
    pub written: usize,
    pub events: u32,
    pub stop: Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The next token ends the last event's place in the array.
    AfterEvent,
    /// The next token begins something to look at closely.
    AtEvent,
    /// The same, and its tokens may just not all be there.
    Starved,
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
    let body = events.body;
    let tokens = events.tokens;
    let mut at = 0;
    let mut written = events.written;
    let mut count = 0u32;
    let stop = loop {
        let Some(start) = tokens.get(at).map(|start| *start as usize) else {
            break Stop::Starved;
        };
        if start >= events.pause_at || events.out.len() - written < room_needed(body, start) {
            break Stop::Pause;
        }
        if events.event_count + count as usize >= EVENTS_PER_BATCH_MAX {
            break Stop::AtEvent;
        }
        let (event, used) = match read(isa, body, &tokens[at..], events) {
            Ok(read) => read,
            Err(Unusual::Starved) => break Stop::Starved,
            Err(Unusual::Other) => break Stop::AtEvent,
        };
        written = row::write(body, &event, &events.shared, events.out, written);
        at += used;
        count += 1;
        let next = tokens.get(at).map(|next| byte_at(body, *next));
        if next != Some(b',') || at + 1 >= tokens.len() {
            break Stop::AfterEvent;
        }
        at += 1;
    };
    Progress { tokens: at, written, events: count, stop }
}

/// Why an event is left to `walk`.
enum Unusual {
    Starved,
    Other,
}

const EVENT_ID: u32 = 1;
const EVENT_NAME: u32 = 2;
const USER_ID: u32 = 4;
const TIMESTAMP: u32 = 8;
const PROPERTIES: u32 = 16;
const REQUIRED: u32 = EVENT_ID | EVENT_NAME | USER_ID | TIMESTAMP;

/// A little-endian word with `text` at its start, to compare names by.
const fn word(text: &[u8]) -> u64 {
    let mut word = [0; 8];
    let mut at = 0;
    while at < text.len() {
        word[at] = text[at];
        at += 1;
    }
    u64::from_le_bytes(word)
}

/// Which member a name that starts with these bytes (after its quote) is. 0 for none.
#[inline(always)]
fn member(first: u64, second: u64) -> u32 {
    const fn low(bytes: u32) -> u64 {
        (1 << (8 * bytes)) - 1
    }
    if first == word(b"event_id") && second & low(1) == word(b"\"") {
        EVENT_ID
    } else if first == word(b"event_na") && second & low(3) == word(b"me\"") {
        EVENT_NAME
    } else if first == word(b"user_id\"") {
        USER_ID
    } else if first == word(b"timestam") && second & low(2) == word(b"p\"") {
        TIMESTAMP
    } else if first == word(b"properti") && second & low(3) == word(b"es\"") {
        PROPERTIES
    } else {
        0
    }
}

/// Reads the event at the first of `tokens`; gives it and the tokens it takes.
#[inline(always)]
fn read<I: Isa>(
    isa: I,
    body: &[u8],
    tokens: &[u32],
    events: &mut Events<'_>,
) -> Result<(Event, usize), Unusual> {
    if byte_at(body, tokens[0]) != b'{' {
        return Err(Unusual::Other);
    }
    let mut event = Event::default();
    let mut seen = 0;
    let mut at = 1;
    let end = loop {
        let [name, colon, value, next] = *tokens[at..].first_chunk().ok_or(Unusual::Starved)?;
        let text: &[u8; 24] =
            body.get(name as usize..).and_then(|text| text.first_chunk()).ok_or(Unusual::Other)?;
        let first = u64::from_le_bytes(*text[1..].first_chunk().expect("24 bytes"));
        let second = u64::from_le_bytes(*text[9..].first_chunk().expect("24 bytes"));
        let member = member(first, second);
        if text[0] != b'"' || member == 0 || seen & member != 0 {
            return Err(Unusual::Other);
        }
        seen |= member;
        if byte_at(body, colon) != b':' {
            return Err(Unusual::Other);
        }
        let kind = byte_at(body, value);
        let next = if member == PROPERTIES {
            at += 2;
            if kind == b'{' {
                at += container(isa, body, &tokens[at..])?;
                event.properties = Some(Span { start: value, end: tokens[at - 1] + 1 });
            } else {
                // Anything but null breaks a rule.
                check_literal_null(body, value, next)?;
                at += 1;
            }
            *tokens.get(at).ok_or(Unusual::Starved)?
        } else {
            if kind != b'"' {
                return Err(Unusual::Other);
            }
            let content = Span { start: value + 1, end: closing_quote(body, value, next) };
            match member {
                EVENT_ID => event.event_id = uuid(isa, body, content)?,
                EVENT_NAME => {
                    check_text(isa, body, content, EVENT_NAME_CHARS_MAX)?;
                    event.event_name = content;
                }
                USER_ID => {
                    check_text(isa, body, content, USER_ID_CHARS_MAX)?;
                    event.user_id = content;
                }
                _ => {
                    let ms = moment(body, content, events.memo)?;
                    if (ms < events.timestamp_min_ms) | (ms > events.timestamp_max_ms) {
                        return Err(Unusual::Other);
                    }
                    event.timestamp_ms = ms;
                }
            }
            at += 3;
            next
        };
        match byte_at(body, next) {
            b',' => at += 1,
            b'}' => break next,
            _ => return Err(Unusual::Other),
        }
    };
    let length = (end - tokens[0]) as usize + 1;
    if seen & REQUIRED != REQUIRED || length > EVENT_BYTES_MAX {
        return Err(Unusual::Other);
    }
    Ok((event, at + 1))
}

#[inline(always)]
fn uuid<I: Isa>(isa: I, body: &[u8], content: Span) -> Result<[u8; 16], Unusual> {
    let text = content.of(body).try_into().map_err(|_| Unusual::Other)?;
    let uuid = isa.uuid(text).ok_or(Unusual::Other)?;
    if uuid == [0; 16] { Err(Unusual::Other) } else { Ok(uuid) }
}

#[inline(always)]
fn moment(body: &[u8], content: Span, memo: &mut DateMemo) -> Result<i64, Unusual> {
    let usual = body
        .get(content.start as usize..)
        .and_then(|text| text.first_chunk())
        .and_then(|text| timestamp::parse_usual(text, content.len(), memo));
    match usual {
        Some(ms) => Ok(ms),
        None => timestamp::parse(content.of(body)).ok_or(Unusual::Other),
    }
}

/// Takes a text without escapes whose length in code points is 1 to `chars_max`.
#[inline(always)]
fn check_text<I: Isa>(isa: I, body: &[u8], content: Span, chars_max: usize) -> Result<(), Unusual> {
    let length = content.len();
    if let Some(text) = body.get(content.start as usize..).and_then(|text| text.first_chunk())
        && (1..=32).contains(&length)
        && isa.unplain(text) << (32 - length) == 0
    {
        return Ok(());
    }
    check_longer_text(content.of(body), chars_max)
}

fn check_longer_text(text: &[u8], chars_max: usize) -> Result<(), Unusual> {
    let fits = (1..=4 * chars_max).contains(&text.len())
        && !text.contains(&b'\\')
        && count_chars(text) <= chars_max;
    if fits { Ok(()) } else { Err(Unusual::Other) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Text,
    Number,
    Literal,
    Container,
}

/// What a value that starts with each byte is. By table, as comparisons would branch on whether a
/// flag is true, which the CPU guesses wrong every other time.
static KINDS: [Kind; 256] = {
    let mut kinds = [Kind::None; 256];
    let mut digit = b'0';
    while digit <= b'9' {
        kinds[digit as usize] = Kind::Number;
        digit += 1;
    }
    kinds[b'-' as usize] = Kind::Number;
    kinds[b'"' as usize] = Kind::Text;
    kinds[b't' as usize] = Kind::Literal;
    kinds[b'f' as usize] = Kind::Literal;
    kinds[b'n' as usize] = Kind::Literal;
    kinds[b'{' as usize] = Kind::Container;
    kinds[b'[' as usize] = Kind::Container;
    kinds
};

/// Checks the grammar of the object at the first of `tokens`, which stands in an event; gives the
/// tokens it takes.
#[inline(always)]
fn container<I: Isa>(isa: I, body: &[u8], tokens: &[u32]) -> Result<usize, Unusual> {
    // Bit `n` is set when the n-th open container is an object; the outermost is bit 0.
    let mut objects = 1u64;
    let mut depth = 0u32;
    let mut in_object = true;
    let mut rest = tokens.get(1..).ok_or(Unusual::Starved)?;
    let mut opened = true;
    loop {
        // The token that ends a container's last value or opens and closes it at once.
        let mut end = byte_at(body, *rest.first().ok_or(Unusual::Starved)?);
        if !opened || end != closing(in_object) {
            let (value, next);
            if in_object {
                let Some((&[_, colon, v, n], after)) = rest.split_first_chunk() else {
                    return Err(Unusual::Starved);
                };
                if (end != b'"') | (byte_at(body, colon) != b':') {
                    return Err(Unusual::Other);
                }
                (value, next) = (v, n);
                rest = after;
            } else {
                let Some((&[v, n], after)) = rest.split_first_chunk() else {
                    return Err(Unusual::Starved);
                };
                (value, next) = (v, n);
                rest = after;
            }
            // `rest` is past `next`, the comma if all is well.
            let kind = byte_at(body, value);
            match KINDS[kind as usize] {
                Kind::Text => {}
                Kind::Number => number(isa, body, value, next)?,
                Kind::Literal => literal(body, value, next)?,
                Kind::Container => {
                    depth += 1;
                    if depth + EVENT_DEPTH >= JSON_DEPTH_MAX as u32 {
                        return Err(Unusual::Other);
                    }
                    in_object = kind == b'{';
                    objects = objects & !(1 << depth) | u64::from(in_object) << depth;
                    opened = true;
                    rest = &tokens[tokens.len() - rest.len() - 1..];
                    continue;
                }
                Kind::None => return Err(Unusual::Other),
            }
            opened = false;
            end = byte_at(body, next);
            if end == b',' {
                continue;
            }
            rest = &tokens[tokens.len() - rest.len() - 1..];
        }
        // Close this one, and all whose last value it was.
        opened = false;
        loop {
            if end != closing(in_object) {
                return Err(Unusual::Other);
            }
            rest = &rest[1..];
            if depth == 0 {
                return Ok(tokens.len() - rest.len());
            }
            depth -= 1;
            in_object = objects >> depth & 1 == 1;
            end = byte_at(body, *rest.first().ok_or(Unusual::Starved)?);
            if end == b',' {
                rest = &rest[1..];
                break;
            }
        }
    }
}

#[inline(always)]
fn closing(in_object: bool) -> u8 {
    if in_object { b'}' } else { b']' }
}

/// Integers and decimals of up to 16 bytes by their digits' mask, the rest byte by byte.
#[inline(always)]
fn number<I: Isa>(isa: I, body: &[u8], start: u32, next: u32) -> Result<(), Unusual> {
    let length = next - start;
    if let Some(text) = body.get(start as usize..).and_then(|text| text.first_chunk::<16>())
        && length <= 16
    {
        let others = !isa.digits(text) & ((1 << length) - 1);
        let zero_first = text[0] == b'0' && length > 1;
        if others == 0 && !zero_first {
            return Ok(());
        }
        let point = others.trailing_zeros();
        if others & others.wrapping_sub(1) == 0
            && point > 0
            && point + 1 < length
            && text[point as usize & 15] == b'.'
            && (point == 1 || !zero_first)
        {
            return Ok(());
        }
    }
    check_number(body, start, next).map_err(|_| Unusual::Other)
}

/// Without a branch for which literal it is: nobody can guess a flag.
#[inline(always)]
fn literal(body: &[u8], start: u32, next: u32) -> Result<(), Unusual> {
    if let Some(text) = body.get(start as usize..).and_then(|text| text.first_chunk::<8>()) {
        let text = u64::from_le_bytes(*text);
        let four = text & 0xffff_ffff;
        let is_four = (next - start == 4) & ((four == word(b"true")) | (four == word(b"null")));
        let is_five = (next - start == 5) & (text & 0xff_ffff_ffff == word(b"false"));
        if is_four | is_five {
            return Ok(());
        }
    }
    check_literal(body, start, next).map_err(|_| Unusual::Other)
}

fn check_literal_null(body: &[u8], start: u32, next: u32) -> Result<(), Unusual> {
    if byte_at(body, start) == b'n' && check_literal(body, start, next).is_ok() {
        Ok(())
    } else {
        Err(Unusual::Other)
    }
}
