//! The JSON pass against sonic-rs and serde_json doing the same job: one body in, validated rows of
//! layout 1 out, with the rules of the contract checked.
//!
//! The peers parse into borrowed strings and keep the properties' text as a raw value. Their UUIDs
//! and timestamps are parsed by plain code of this file, which with the rows is a fifth of what
//! sonic-rs takes. serde_json checks the grammar of what it skips; sonic-rs does not do all of it.
//! Nor could its strings have escapes, as they are `&str`: a `Cow` costs it 4 %. Both to its
//! advantage here. Rows made in a visitor, without the list of events, were slower.

use std::borrow::Cow;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::json::{BatchPass, BatchStart, OUT_SLACK_BYTES, Step, Verdict};
use proto::limits::{EVENT_NAME_CHARS_MAX, EVENTS_PER_BATCH_MAX, USER_ID_CHARS_MAX};
use proto::row::Row;
use serde::Deserialize;

const APP: [u8; 16] = *b"\x01\x8f\x4c\x1e\x7a\x2b\x7c\x3d\x8e\x4f\x5a\x6b\x7c\x8d\x9e\x0f";
const APP_TEXT: &str = "018f4c1e-7a2b-7c3d-8e4f-5a6b7c8d9e0f";
const DAY_MS: i64 = 86_400_000;
/// 2026-01-15T00:00:00Z.
const RECEIVED_AT_MS: i64 = 1_768_435_200_000;
const RECEIVED_AT_NS: i64 = RECEIVED_AT_MS * 1_000_000;

fn start() -> BatchStart {
    BatchStart {
        app_id: APP,
        received_at_ns: RECEIVED_AT_NS,
        timestamp_min_ms: RECEIVED_AT_MS - 400 * DAY_MS,
        timestamp_max_ms: RECEIVED_AT_MS + 300_000,
        partial: false,
    }
}

const ESCAPED: &str = r#""title":"Größe \"L\" \u0026 mehr","share":-12.5e-3,"plan":"#;

/// How a batch is written.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Compact,
    /// With a space after each separator, as Python writes.
    Spaced,
    /// With escapes, letters beyond ASCII and an exponent in each event's properties.
    Escaped,
}

/// A batch as an SDK sends it. Names, ids, paths and numbers vary in content and length.
fn body(event_count: usize, style: Style) -> Vec<u8> {
    let names = ["page_view", "button_clicked", "checkout_started", "search", "item_added"];
    let paths = ["/pricing", "/docs/getting-started", "/", "/blog/2026/launch", "/checkout/step-2"];
    let referrers = ["google", "newsletter", "direct", "partner-site", "x"];
    let plans = ["free", "pro", "enterprise", "trial"];
    let mut word = 42u64;
    let mut next = |bound: usize| {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (word >> 33) as usize % bound
    };
    let mut text = format!(r#"{{"app_id":"{APP_TEXT}","events":["#);
    for index in 0..event_count {
        let id = format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            next(1 << 31),
            next(1 << 16),
            next(1 << 12),
            next(1 << 12),
            next(1 << 31)
        );
        let event = format!(
            concat!(
                r#"{{"event_id":"{}","event_name":"{}","user_id":"user-{:07}@mail.example.com","#,
                r#""timestamp":"2026-01-14T{:02}:{:02}:{:02}.{:03}Z","#,
                r#""properties":{{"path":"{}","referrer":"{}","duration_ms":{},"#,
                r#""plan":"{}","logged_in":{}}}}}"#
            ),
            id,
            names[next(5)],
            next(10_000_000),
            next(24),
            next(60),
            next(60),
            next(1000),
            paths[next(5)],
            referrers[next(5)],
            next(100_000),
            plans[next(4)],
            next(2) == 0
        );
        text.push_str(if index == 0 { "" } else { "," });
        text.push_str(&event);
    }
    text.push_str("]}");
    let text = match style {
        Style::Compact => text,
        Style::Spaced => text.replace("\":", "\": ").replace(",\"", ", \""),
        Style::Escaped => text.replace("\"plan\":", ESCAPED),
    };
    text.into_bytes()
}

fn ours(pass: &mut BatchPass, body: &[u8], out: &mut [u8]) -> usize {
    pass.begin(start());
    match pass.run(body, out, usize::MAX) {
        Step::Done { written, verdict: Verdict::Accepted { .. }, .. } => written,
        other => panic!("{other:?}"),
    }
}

#[derive(Deserialize)]
struct SonicBatch<'a> {
    app_id: &'a str,
    #[serde(borrow)]
    events: Vec<SonicEvent<'a>>,
}

#[derive(Deserialize)]
struct SonicEvent<'a> {
    event_id: &'a str,
    event_name: &'a str,
    user_id: &'a str,
    timestamp: &'a str,
    #[serde(borrow)]
    properties: Option<sonic_rs::LazyValue<'a>>,
}

fn sonic(body: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let batch: SonicBatch<'_> = sonic_rs::from_slice(body).ok()?;
    check_batch(batch.app_id, batch.events.len())?;
    for (index, event) in batch.events.iter().enumerate() {
        let properties = match &event.properties {
            None => "{}",
            Some(value) => value.as_raw_str(),
        };
        let (name, user) = (event.event_name, event.user_id);
        push_row(index, event.event_id, name, user, event.timestamp, properties, out)?;
    }
    Some(())
}

#[derive(Deserialize)]
struct SerdeBatch<'a> {
    app_id: &'a str,
    #[serde(borrow)]
    events: Vec<SerdeEvent<'a>>,
}

#[derive(Deserialize)]
struct SerdeEvent<'a> {
    event_id: &'a str,
    #[serde(borrow)]
    event_name: Cow<'a, str>,
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    timestamp: &'a str,
    #[serde(borrow)]
    properties: Option<&'a serde_json::value::RawValue>,
}

fn serde(body: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let batch: SerdeBatch<'_> = serde_json::from_slice(body).ok()?;
    check_batch(batch.app_id, batch.events.len())?;
    for (index, event) in batch.events.iter().enumerate() {
        let properties = event.properties.map_or("{}", |value| value.get());
        let (name, user) = (&event.event_name, &event.user_id);
        push_row(index, event.event_id, name, user, event.timestamp, properties, out)?;
    }
    Some(())
}

fn check_batch(app_id: &str, event_count: usize) -> Option<()> {
    (uuid(app_id)? == APP && (1..=EVENTS_PER_BATCH_MAX).contains(&event_count)).then_some(())
}

fn push_row(
    index: usize,
    event_id: &str,
    event_name: &str,
    user_id: &str,
    timestamp: &str,
    properties: &str,
    out: &mut Vec<u8>,
) -> Option<()> {
    let start = start();
    let event_id = uuid(event_id)?;
    let timestamp_ms = moment(timestamp)?;
    let fits = |text: &str, chars_max: usize| {
        !text.is_empty() && (text.len() <= chars_max || text.chars().count() <= chars_max)
    };
    let good = event_id != [0; 16]
        && fits(event_name, EVENT_NAME_CHARS_MAX)
        && fits(user_id, USER_ID_CHARS_MAX)
        && (start.timestamp_min_ms..=start.timestamp_max_ms).contains(&timestamp_ms)
        && properties.starts_with('{');
    let row = Row {
        app_id: APP,
        event_id,
        timestamp_ms,
        received_at_ns: RECEIVED_AT_NS + index as i64,
        event_name: event_name.as_bytes(),
        user_id: user_id.as_bytes(),
        properties: properties.as_bytes(),
    };
    good.then(|| row.encode(out))
}

/// The value of a hexadecimal digit, 255 for any other byte.
const HEX: [u8; 256] = {
    let mut table = [255; 256];
    let mut at = 0;
    while at < 16 {
        table[b"0123456789abcdef"[at] as usize] = at as u8;
        table[b"0123456789ABCDEF"[at] as usize] = at as u8;
        at += 1;
    }
    table
};

fn uuid(text: &str) -> Option<[u8; 16]> {
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    let mut uuid = [0; 16];
    let mut wrong = text[8] ^ b'-' | text[13] ^ b'-' | text[18] ^ b'-' | text[23] ^ b'-';
    let places = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    for (byte, at) in uuid.iter_mut().zip(places) {
        let (high, low) = (HEX[text[at] as usize], HEX[text[at + 1] as usize]);
        wrong |= (high | low) & 0xf0;
        *byte = high << 4 | low & 15;
    }
    (wrong == 0).then_some(uuid)
}

/// `YYYY-MM-DDTHH:MM:SS.mmmZ` alone: less than the contract asks for, to the peers' advantage.
fn moment(text: &str) -> Option<i64> {
    let text: &[u8; 24] = text.as_bytes().try_into().ok()?;
    let mut wrong = text[4] != b'-' || text[7] != b'-' || text[10] != b'T';
    wrong |= text[13] != b':' || text[16] != b':' || text[19] != b'.' || text[23] != b'Z';
    let mut number = |from: usize, to: usize| {
        text[from..to].iter().fold(0i64, |number, byte| {
            wrong |= !byte.is_ascii_digit();
            number * 10 + i64::from(byte.wrapping_sub(b'0'))
        })
    };
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
    let ms = number(20, 23);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    wrong |= !(1..=12).contains(&month) || !(1..=days_in_month).contains(&day);
    wrong |= hour > 23 || minute > 59 || second > 59;
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = year * 365 + leap_days + (153 * month + 2) / 5 + day - 719_469;
    (!wrong).then_some(days * DAY_MS + hour * 3_600_000 + minute * 60_000 + second * 1_000 + ms)
}

type Peer = fn(&[u8], &mut Vec<u8>) -> Option<()>;

fn json(c: &mut Criterion) {
    let cases = [
        ("100", 100, Style::Compact),
        ("1000", 1000, Style::Compact),
        ("100_spaced", 100, Style::Spaced),
        ("100_escaped", 100, Style::Escaped),
    ];
    let peers: [(&str, Peer); 2] = [("sonic-rs", sonic), ("serde_json", serde)];
    let mut group = c.benchmark_group("json");
    for (name, event_count, style) in cases {
        let body = body(event_count, style);
        let mut pass = BatchPass::new();
        let mut out = vec![0; body.len() + OUT_SLACK_BYTES];
        let written = ours(&mut pass, &body, &mut out);
        let mut rows = Vec::with_capacity(body.len());
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::new("ours", name), &body, |b, body| {
            b.iter(|| ours(&mut pass, black_box(body), &mut out));
        });
        for (peer_name, peer) in peers {
            rows.clear();
            peer(&body, &mut rows).expect("the batch is good");
            assert!(rows == out[..written], "all do the same job");
            group.bench_with_input(BenchmarkId::new(peer_name, name), &body, |b, body| {
                b.iter(|| {
                    rows.clear();
                    peer(black_box(body), &mut rows)
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, json);
criterion_main!(benches);
