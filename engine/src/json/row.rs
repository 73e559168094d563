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
    /// As the row stores it.
    pub event_id: [u8; 16],
    pub timestamp_ms: i64,
    pub event_name: Span,
    pub user_id: Span,
    /// `None` stands for `{}`.
    pub properties: Option<Span>,
    /// Whether the name or the user has a backslash in it.
    pub escaped: bool,
}

/// The columns that all rows of a batch share, as they are stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shared {
    pub app_id: [u8; 16],
    pub received_at_ms: [u8; 8],
}

/// Writes the row at `out[at..]` and gives its end. `out` has room for the event's JSON text and
/// [`OUT_SLACK_BYTES`] from there on.
#[inline(always)]
pub fn write(body: &[u8], event: &Event, shared: &Shared, out: &mut [u8], at: usize) -> usize {
    let fixed: &mut [u8; FIXED_BYTES] =
        out[at..].first_chunk_mut().expect("room for the event's JSON");
    fixed[..16].copy_from_slice(&shared.app_id);
    fixed[16..32].copy_from_slice(&event.event_id);
    fixed[32..40].copy_from_slice(&event.timestamp_ms.to_le_bytes());
    fixed[40..].copy_from_slice(&shared.received_at_ms);
    let mut at = at + FIXED_BYTES;
    if event.escaped {
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

/// Copies wide while both sides have the room: short texts in one piece, so that their length need
/// not be guessed right by the CPU.
#[inline(always)]
fn copy(body: &[u8], text: Span, out: &mut [u8], at: usize) {
    let length = text.len();
    let from = &body[text.start as usize..];
    let to = &mut out[at..];
    if length <= SHORT
        && let (Some(from), Some(to)) = (from.first_chunk::<SHORT>(), to.first_chunk_mut::<SHORT>())
    {
        *to = *from;
        return;
    }
    let rounded = length.next_multiple_of(WIDE);
    if rounded > from.len() || rounded > to.len() {
        to[..length].copy_from_slice(&from[..length]);
        return;
    }
    let (from, to) =
        (from[..rounded].as_chunks::<WIDE>().0, to[..rounded].as_chunks_mut::<WIDE>().0);
    for (from, to) in from.iter().zip(to) {
        *to = *from;
    }
}

fn write_unescaped(content: &[u8], out: &mut [u8], at: usize) -> usize {
    let (_, length) = measure(content);
    let start = write_length(length, out, at);
    unescape_into(content, &mut out[start..]).expect("unescaped text is no longer than its JSON");
    start + length
}
