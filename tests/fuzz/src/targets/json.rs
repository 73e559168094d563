//! Any bytes as the body of `POST /api/v1/events`.
//!
//! Laws: serde_json agrees on what is JSON, but for the named places; an event is stored exactly if
//! the contract's rules, applied to serde_json's value, take it; rows are walked back to these values,
//! and properties are text of the body; every kernel, the fast way and the slow one, and a pass that
//! pauses come to the same verdict, rows and rejections; a body that is refused as a whole in strict
//! mode would have lost an event in partial mode.

use std::cell::RefCell;

use engine::json::{BatchPass, BatchStart, JsonError, OUT_SLACK_BYTES, Rejection, Step, Verdict};
use proto::limits::{
    EVENT_BYTES_MAX, EVENT_NAME_CHARS_MAX, EVENTS_PER_BATCH_MAX, PARTIAL_ERRORS_MAX,
    USER_ID_CHARS_MAX,
};
use proto::random::SplitMix64;
use proto::row::{Row, Rows};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::Target;
use crate::draw::{below, draw};

pub const TARGET: Target = Target {
    name: "json",
    run: target,
    dictionary: &[
        br#""app_id""#,
        br#""018f4c1e-7a2b-7c3d-8e4f-5a6b7c8d9e0f""#,
        br#""018F4C1E-7A2B-7C3D-8E4F-5A6B7C8D9E0F""#,
        br#""00000000-0000-0000-0000-000000000000""#,
        br#""events":["#,
        br#""event_id":"018f4c1e-7a2b-7c3d-8e4f-00000000abcd","#,
        br#""event_name":"click","#,
        br#""event_\u006eame":"#,
        br#""user_id":"u","#,
        br#""timestamp":"2025-06-01T12:00:00Z""#,
        br#""2025-12-31T23:59:60.999999999+14:00""#,
        br#""2024-12-31T23:59:59.999Z""#,
        br#""properties":{}"#,
        br#""properties":null"#,
        br#","x":[1,2,{"y":"z"}]"#,
        b"\\u0000",
        b"\\ud83d\\ude00",
        b"\\ud800",
        b"\\udc00",
        b"\\u00e",
        b"\\\"",
        b"\\\\",
        b"\\/",
        b"\\x",
        b"\xc3\xa9",
        b"\xf0\x9f\x98\x80",
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\xf4\x90\x80\x80",
        b"\xef\xbb\xbf",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"[[[[[[[[[[[[[[[[",
        b"]]]]]]]]]]]]]]]]",
        b"-0",
        b"01",
        b"1e5",
        b"1.",
        b"-",
        b"1E400",
        b"12345678901234567890",
        b"true",
        b"false",
        b"null",
        b"nul",
        b"NaN",
        b" \t\r\n",
    ],
    input_bytes_max: 4_000,
    test_cases: 12_000,
};

const APP: [u8; 16] = *b"\x01\x8f\x4c\x1e\x7a\x2b\x7c\x3d\x8e\x4f\x5a\x6b\x7c\x8d\x9e\x0f";
/// 2026-01-01T00:00:00Z; all days of 2025 are allowed.
const RECEIVED_AT_MS: i64 = 1_767_225_600_000;
const RECEIVED_AT_NS: i64 = RECEIVED_AT_MS * 1_000_000;
const TIMESTAMP_MIN_MS: i64 = RECEIVED_AT_MS - 365 * 86_400_000;

thread_local! {
    /// A pass has a quarter of a megabyte of scratch memory, and forgets when it begins.
    static WAYS: RefCell<Vec<BatchPass>> = RefCell::new(BatchPass::every_way());
}

/// All that a pass says of a body. Rows only where they count.
#[derive(Clone, Debug, PartialEq)]
struct Judgement {
    verdict: Verdict,
    rows: Vec<u8>,
    row_count: u32,
    rejections: Vec<Rejection>,
}

pub fn target(bytes: &[u8]) {
    WAYS.with_borrow_mut(|ways| {
        let mut random = draw(bytes);
        let partial = judged_alike(ways, bytes, true, &mut random);
        let strict = judged_alike(ways, bytes, false, &mut random);
        together(&partial, &strict);
        let theirs = serde_json::from_slice::<Value>(bytes);
        as_serde_json_has_it(&partial, theirs, bytes);
    });
}

/// The judgement of the oracle, after all the other ways have come to the same.
fn judged_alike(
    ways: &mut [BatchPass],
    body: &[u8],
    partial: bool,
    random: &mut SplitMix64,
) -> Judgement {
    let (oracle, others) = ways.split_first_mut().expect("there is always the scalar way");
    let room = body.len() + OUT_SLACK_BYTES;
    let expected = judge(oracle, body, partial, room, || usize::MAX);
    let least_room = body.len().min(EVENT_BYTES_MAX) + OUT_SLACK_BYTES;
    for way in others {
        assert_eq!(judge(way, body, partial, room, || usize::MAX), expected, "at once");
        let budget = || below(random, 200);
        assert_eq!(judge(way, body, partial, least_room, budget), expected, "with pauses");
    }
    expected
}

fn judge(
    pass: &mut BatchPass,
    body: &[u8],
    partial: bool,
    room: usize,
    mut budget_bytes: impl FnMut() -> usize,
) -> Judgement {
    pass.begin(BatchStart {
        app_id: APP,
        received_at_ns: RECEIVED_AT_NS,
        timestamp_min_ms: TIMESTAMP_MIN_MS,
        timestamp_max_ms: RECEIVED_AT_MS,
        partial,
    });
    let (mut out, mut rows, mut row_count) = (vec![0; room], Vec::new(), 0);
    for _ in 0..body.len() + 2 {
        let step = pass.run(body, &mut out, budget_bytes());
        let (Step::Paused { written, rows: count } | Step::Done { written, rows: count, .. }) =
            step;
        rows.extend_from_slice(&out[..written]);
        row_count += count;
        if let Step::Done { verdict, .. } = step {
            let counts = matches!(verdict, Verdict::Accepted { .. });
            return Judgement {
                verdict,
                rows: if counts { rows } else { Vec::new() },
                row_count: if counts { row_count } else { 0 },
                rejections: if counts { pass.rejections().to_vec() } else { Vec::new() },
            };
        }
    }
    panic!("a pass that pauses gets no further");
}

/// What strict and partial mode have to do with each other.
fn together(partial: &Judgement, strict: &Judgement) {
    match partial.verdict {
        Verdict::Accepted { stored, rejected } => {
            assert_eq!(partial.row_count, stored);
            assert_eq!(partial.rejections.len(), (rejected as usize).min(PARTIAL_ERRORS_MAX));
            if rejected == 0 {
                assert_eq!(strict, partial);
            } else {
                assert!(matches!(strict.verdict, Verdict::Invalid(_)), "{:?}", strict.verdict);
            }
        }
        // Grammar, application and batch-level rules know no modes.
        verdict => assert_eq!(strict.verdict, verdict),
    }
}

/// The verdicts on the grammar that may differ from serde_json's.
fn may_differ(ours: Verdict, theirs: &Result<Value, serde_json::Error>) -> bool {
    match (ours, theirs) {
        // 64 levels are allowed here, 127 there.
        (Verdict::Malformed { error: JsonError::TooDeep, .. }, Ok(_)) => true,
        // Of two members of one name there the last counts; the schema's may not be repeated here.
        (Verdict::Malformed { error: JsonError::RepeatedMember, .. }, _) => true,
        // RFC 8259 has no largest number.
        (verdict, Err(error)) if error.to_string().starts_with("number out of range") => {
            !matches!(verdict, Verdict::Malformed { .. })
        }
        _ => false,
    }
}

fn as_serde_json_has_it(ours: &Judgement, theirs: Result<Value, serde_json::Error>, body: &[u8]) {
    let verdict = ours.verdict;
    if may_differ(verdict, &theirs) {
        return;
    }
    if let Verdict::Malformed { offset, .. } = verdict {
        assert!(offset <= body.len(), "{verdict:?}");
    }
    let Ok(value) = theirs else {
        assert!(matches!(verdict, Verdict::Malformed { .. }), "{verdict:?}, serde_json {theirs:?}");
        return;
    };
    let app_id = value.get("app_id").and_then(Value::as_str).and_then(uuid);
    let events = value.get("events").and_then(Value::as_array);
    let counts = |events: &&Vec<Value>| (1..=EVENTS_PER_BATCH_MAX).contains(&events.len());
    match (app_id, events.filter(counts)) {
        (Some(app_id), _) if app_id != APP => assert_eq!(verdict, Verdict::WrongApp),
        (Some(_), Some(events)) => {
            let good: Vec<Event> = events.iter().filter_map(event).collect();
            let rejected = (events.len() - good.len()) as u32;
            assert_eq!(verdict, Verdict::Accepted { stored: good.len() as u32, rejected });
            assert_eq!(stored(&ours.rows, body), good);
        }
        _ => assert!(matches!(verdict, Verdict::Invalid(_)), "{verdict:?} of {value}"),
    }
}

#[derive(Debug, PartialEq)]
struct Event {
    event_id: [u8; 16],
    timestamp_ms: i64,
    event_name: String,
    user_id: String,
    properties: Value,
}

/// One event by the contract's rules. No input is as long as an event may be.
fn event(value: &Value) -> Option<Event> {
    let text = |name: &str, chars_max: usize| {
        let text = value.get(name)?.as_str()?;
        (1..=chars_max).contains(&text.chars().count()).then(|| text.to_owned())
    };
    let timestamp_ms = moment(&text("timestamp", 64)?)?;
    let event = Event {
        event_id: uuid(&text("event_id", 36)?)?,
        timestamp_ms,
        event_name: text("event_name", EVENT_NAME_CHARS_MAX)?,
        user_id: text("user_id", USER_ID_CHARS_MAX)?,
        properties: match value.get("properties") {
            None | Some(Value::Null) => Value::Object(Default::default()),
            Some(object @ Value::Object(_)) => object.clone(),
            Some(_) => return None,
        },
    };
    (TIMESTAMP_MIN_MS..=RECEIVED_AT_MS).contains(&timestamp_ms).then_some(event)
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    let digits: String = text.split('-').collect();
    if lengths != [8, 4, 4, 4, 12] || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let number = u128::from_str_radix(&digits, 16).ok()?;
    (number != 0).then(|| number.to_be_bytes())
}

/// By the `time` crate, which takes more: any separator, any number of digits of a fraction.
fn moment(text: &str) -> Option<i64> {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    let separated = matches!(text.as_bytes().get(10), Some(b'T' | b't'));
    if !text.is_ascii() || !separated || digits > 9 {
        return None;
    }
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

fn stored(rows: &[u8], body: &[u8]) -> Vec<Event> {
    let event = |(index, row): (usize, Row<'_>)| {
        assert_eq!(row.app_id, APP);
        assert_eq!(row.received_at_ns, RECEIVED_AT_NS + index as i64);
        let sent = body.windows(row.properties.len()).any(|text| text == row.properties);
        assert!(sent || row.properties == b"{}", "properties that were not sent");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text is UTF-8");
        Event {
            event_id: row.event_id,
            timestamp_ms: row.timestamp_ms,
            event_name: text(row.event_name),
            user_id: text(row.user_id),
            properties: serde_json::from_slice(row.properties).expect("properties are JSON"),
        }
    };
    Rows::new(rows).map(|row| row.expect("rows are whole")).enumerate().map(event).collect()
}
