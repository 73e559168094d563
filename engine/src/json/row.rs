//! Writes one event as a row of `proto::row` layout 1. Stores may run past the row's end inside
//! `out`, by less than [`OUT_SLACK_BYTES`]; what they leave there is overwritten or not part of
//! `out[..written]`.

use proto::row::FIXED_BYTES;

use super::escape::{measure, unescape_into};

/// Room that callers give past what rows need.
pub const OUT_SLACK_BYTES: usize = 64;

/// Bytes that one wide copy moves. None writes this much past its text's end.
const WIDE: usize = OUT_SLACK_BYTES;
const SHORT: usize = 32;
const TWICE: usize = 2 * WIDE;
/// The fixed columns, and a short name and user with their lengths. The JSON of an event is longer
/// than this without the slack, as the row layout says.
const HEAD_BYTES: usize = FIXED_BYTES + 2 * (1 + SHORT);

/// A string's content or an object's text, by its place in the body.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    #[inline(always)]
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    pub fn of(self, body: &[u8]) -> &[u8] {
        &body[self.start as usize..self.end as usize]
    }
}

/// An event whose rules have all been checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Event {
    /// In memory as the row stores it; a number, as it then travels in registers.
    pub event_id: u128,
    pub timestamp_ms: i64,
    pub event_name: Span,
    pub user_id: Span,
    /// `None` stands for `{}`.
    pub properties: Option<Span>,
    /// Whether the name or the user has a backslash in it.
    pub escaped: bool,
}

/// The columns that come from the request: the application, as it is stored, and when the next row
/// is received.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shared {
    pub app_id: [u8; 16],
    pub received_at_ns: i64,
}

/// Writes the row at `out[at..]` and gives its end. `out` has room for the event's JSON text and
/// [`OUT_SLACK_BYTES`] from there on.
#[inline(always)]
pub fn write(body: &[u8], event: &Event, shared: Shared, out: &mut [u8], at: usize) -> usize {
    let head: &mut [u8; HEAD_BYTES] =
        out[at..].first_chunk_mut().expect("room for the event's JSON");
    head[..16].copy_from_slice(&shared.app_id);
    head[16..32].copy_from_slice(&event.event_id.to_ne_bytes());
    head[32..40].copy_from_slice(&event.timestamp_ms.to_le_bytes());
    head[40..FIXED_BYTES].copy_from_slice(&shared.received_at_ns.to_le_bytes());
    let mut at = at + FIXED_BYTES;
    if let Some(length) = write_short_names(body, event, head) {
        at += length;
    } else if event.escaped {
        at = write_unescaped(event.event_name.of(body), out, at);
        at = write_unescaped(event.user_id.of(body), out, at);
    } else {
        at = write_text(body, event.event_name, out, at);
        at = write_text(body, event.user_id, out, at);
    }
    match event.properties {
        Some(text) => write_text(body, text, out, at),
        None => {
            out[at..at + 3].copy_from_slice(b"\x02{}");
            at + 3
        }
    }
}

/// Writes name and user where both are short, as most are, in two wide copies whose length need not
/// be guessed right by the CPU.
#[inline(always)]
fn write_short_names(body: &[u8], event: &Event, head: &mut [u8; HEAD_BYTES]) -> Option<usize> {
    let (name, user) = (event.event_name.len(), event.user_id.len());
    if event.escaped || name > SHORT || user > SHORT {
        return None;
    }
    let wide = |text: Span| body.get(text.start as usize..text.start as usize + SHORT);
    let (name_text, user_text) = (wide(event.event_name)?, wide(event.user_id)?);
    let head = &mut head[FIXED_BYTES..];
    head[0] = name as u8;
    head[1..1 + SHORT].copy_from_slice(name_text);
    head[1 + name] = user as u8;
    head[2 + name..2 + name + SHORT].copy_from_slice(user_text);
    Some(2 + name + user)
}

/// A length as LEB128, of at most three bytes, and the text.
#[inline(always)]
fn write_text(body: &[u8], text: Span, out: &mut [u8], at: usize) -> usize {
    let start = write_length(text.len(), out, at);
    copy(body, text, out, start);
    start + text.len()
}

#[inline(always)]
fn write_length(length: usize, out: &mut [u8], at: usize) -> usize {
    if length < 0x80 {
        out[at] = length as u8;
        return at + 1;
    }
    if length < 0x4000 {
        out[at..at + 2].copy_from_slice(&[length as u8 | 0x80, (length >> 7) as u8]);
        return at + 2;
    }
    let bytes = [length as u8 | 0x80, (length >> 7) as u8 | 0x80, (length >> 14) as u8];
    out[at..at + 3].copy_from_slice(&bytes);
    at + 3
}

/// Copies wide while both sides have the room, so that the length need not be guessed right by the
/// CPU.
#[inline(always)]
fn copy(body: &[u8], text: Span, out: &mut [u8], at: usize) {
    let length = text.len();
    let (from, to) = (&body[text.start as usize..], &mut out[at..]);
    let copied = if length <= SHORT {
        copy_chunk::<SHORT>(from, to)
    } else if length <= WIDE {
        copy_chunk::<WIDE>(from, to)
    } else if length <= TWICE {
        copy_chunk::<TWICE>(from, to)
    } else {
        copy_chunks(from, to, length)
    };
    if !copied {
        to[..length].copy_from_slice(&from[..length]);
    }
}

/// False when there is no room.
#[inline(always)]
fn copy_chunk<const N: usize>(from: &[u8], to: &mut [u8]) -> bool {
    match (from.first_chunk::<N>(), to.first_chunk_mut::<N>()) {
        (Some(from), Some(to)) => {
            *to = *from;
            true
        }
        _ => false,
    }
}

#[inline(always)]
fn copy_chunks(from: &[u8], to: &mut [u8], length: usize) -> bool {
    let rounded = length.next_multiple_of(WIDE);
    if rounded > from.len() || rounded > to.len() {
        return false;
    }
    let (from, to) =
        (from[..rounded].as_chunks::<WIDE>().0, to[..rounded].as_chunks_mut::<WIDE>().0);
    for (from, to) in from.iter().zip(to) {
        *to = *from;
    }
    true
}

fn write_unescaped(content: &[u8], out: &mut [u8], at: usize) -> usize {
    let (_, length) = measure(content);
    let start = write_length(length, out, at);
    unescape_into(content, &mut out[start..]).expect("unescaped text is no longer than its JSON");
    start + length
}
