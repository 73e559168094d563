//! The JSON pass against serde_json: the same bodies are JSON, the same events are good, and rows
//! hold the same values. Named differences are listed in [`grammar_may_differ`].

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod json_bodies;

use engine::json::{BatchPass, BatchStart, JsonError, OUT_SLACK_BYTES, Step, Verdict};
use json_bodies::{APP, Expected, RECEIVED_AT_MS, RECEIVED_AT_NS, TIMESTAMP_MIN_MS, batch, damage};
use proptest::prelude::*;
use proto::row::{Row, Rows};
use serde_json::Value;

fn start(partial: bool) -> BatchStart {
    BatchStart {
        app_id: APP,
        received_at_ns: RECEIVED_AT_NS,
        timestamp_min_ms: TIMESTAMP_MIN_MS,
        timestamp_max_ms: RECEIVED_AT_MS,
        partial,
    }
}

fn run(body: &[u8], partial: bool) -> (Verdict, Vec<u8>) {
    let mut pass = BatchPass::new();
    let mut out = vec![0; body.len() + OUT_SLACK_BYTES];
    pass.begin(start(partial));
    match pass.run(body, &mut out, usize::MAX) {
        Step::Done { written, verdict, .. } => {
            out.truncate(written);
            (verdict, out)
        }
        paused => panic!("{paused:?} with room and budget"),
    }
}

fn decode(rows: &[u8]) -> Vec<Expected> {
    let expected = |(index, row): (usize, Row<'_>)| {
        let received_at_ns = RECEIVED_AT_NS + index as i64;
        assert_eq!((row.app_id, row.received_at_ns), (APP, received_at_ns));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("stored text is UTF-8");
        Expected {
            event_id: row.event_id,
            timestamp_ms: row.timestamp_ms,
            event_name: text(row.event_name),
            user_id: text(row.user_id),
            properties: text(row.properties),
        }
    };
    Rows::new(rows).map(|row| row.expect("whole rows")).enumerate().map(expected).collect()
}

/// The grammar verdicts that may differ from serde_json's, one by one.
fn grammar_may_differ(ours: Verdict, theirs: &Result<Value, serde_json::Error>) -> bool {
    match (ours, theirs) {
        // We allow 64 levels, serde_json 127.
        (Verdict::Malformed { error: JsonError::TooDeep, .. }, Ok(_)) => true,
        // A `Value` keeps the last of two equal names; for the schema's members we take none.
        (Verdict::Malformed { error: JsonError::RepeatedMember, .. }, _) => true,
        // RFC 8259 has no largest number; a `Value` holds it as an f64.
        (verdict, Err(error)) if error.to_string().starts_with("number out of range") => {
            !matches!(verdict, Verdict::Malformed { .. })
        }
        _ => false,
    }
}

/// One event by the contract's rules, in another way than the pass has them.
fn judge(event: &Value) -> Option<Expected> {
    let text = |name: &str, chars_max: usize| {
        let text = event.get(name)?.as_str()?;
        (1..=chars_max).contains(&text.chars().count()).then(|| text.to_owned())
    };
    let properties = match event.get("properties") {
        None | Some(Value::Null) => "{}".to_owned(),
        Some(Value::Object(members)) => Value::Object(members.clone()).to_string(),
        Some(_) => return None,
    };
    let timestamp_ms = moment(&text("timestamp", 64)?)?;
    let expected = Expected {
        event_id: uuid(&text("event_id", 36)?)?,
        timestamp_ms,
        event_name: text("event_name", 100)?,
        user_id: text("user_id", 255)?,
        properties,
    };
    (TIMESTAMP_MIN_MS..=RECEIVED_AT_MS).contains(&timestamp_ms).then_some(expected)
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    if lengths != [8, 4, 4, 4, 12] || text.contains('+') {
        return None;
    }
    let value = u128::from_str_radix(&parts.concat(), 16).ok()?;
    (value != 0).then(|| value.to_be_bytes())
}

/// By the `time` crate, which also takes a space for the `T` and any number of fraction digits.
fn moment(text: &str) -> Option<i64> {
    let fraction = text.split('.').nth(1).unwrap_or("");
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    if !text.is_ascii() || digits > 9 || !matches!(text.as_bytes().get(10), Some(b'T' | b't')) {
        return None;
    }
    let format = &time::format_description::well_known::Rfc3339;
    let moment = time::OffsetDateTime::parse(text, format).ok()?;
    i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

/// Properties compared as values: the text is compared where the generator knows it.
fn normalised(mut row: Expected) -> Expected {
    row.properties =
        serde_json::from_str::<Value>(&row.properties).expect("JSON is stored").to_string();
    row
}

fn check_against_serde(body: &[u8]) {
    let theirs = serde_json::from_slice::<Value>(body);
    let (ours, rows) = run(body, true);
    if grammar_may_differ(ours, &theirs) {
        return;
    }
    let text = || String::from_utf8_lossy(body);
    let malformed = matches!(ours, Verdict::Malformed { .. });
    assert_eq!(malformed, theirs.is_err(), "{ours:?}, {theirs:?} of {}", text());
    let Ok(value) = theirs else {
        assert!(matches!(run(body, false).0, Verdict::Malformed { .. }));
        return;
    };
    let app_id = value.get("app_id").and_then(Value::as_str).and_then(uuid);
    let events = value.get("events").and_then(Value::as_array);
    let sound = value.is_object() && app_id.is_some();
    match (sound, app_id == Some(APP), events) {
        (true, false, _) => assert_eq!(ours, Verdict::WrongApp, "{}", text()),
        (true, true, Some(events)) if (1..=1000).contains(&events.len()) => {
            let good: Vec<Expected> = events.iter().filter_map(judge).collect();
            let rejected = (events.len() - good.len()) as u32;
            let expected = Verdict::Accepted { stored: good.len() as u32, rejected };
            assert_eq!(ours, expected, "{}", text());
            let found: Vec<Expected> = decode(&rows).into_iter().map(normalised).collect();
            assert_eq!(found, good, "{}", text());
            let (whole, _) = run(body, false);
            assert_eq!(matches!(whole, Verdict::Accepted { .. }), rejected == 0, "{whole:?}");
        }
        _ => assert!(matches!(ours, Verdict::Invalid(_)), "{ours:?} of {}", text()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn valid_batches_become_their_rows(seed: u64, event_count in 1usize..12) {
        let batch = batch(seed, event_count);
        for partial in [false, true] {
            let (verdict, rows) = run(batch.text.as_bytes(), partial);
            let expected = Verdict::Accepted { stored: event_count as u32, rejected: 0 };
            prop_assert_eq!(verdict, expected, "{}", batch.text);
            prop_assert_eq!(&decode(&rows), &batch.rows);
        }
        check_against_serde(batch.text.as_bytes());
    }

    #[test]
    fn damaged_batches_are_judged_like_serde_json_does(seed: u64, event_count in 1usize..4) {
        let mut body = batch(seed, event_count).text.into_bytes();
        for round in 0..8 {
            damage(seed.wrapping_add(round), &mut body);
            check_against_serde(&body);
        }
    }

    #[test]
    fn arbitrary_bytes_are_judged_like_serde_json_does(
        text in "[\\[\\]{}:,\"\\\\ \n0-9eE.+\\-tfnu\u{0}-\u{7f}é]{0,40}"
    ) {
        check_against_serde(text.as_bytes());
    }
}

#[test]
fn a_thousand_events_over_many_parts() {
    let batch = batch(7, 1000);
    let (verdict, rows) = run(batch.text.as_bytes(), false);
    assert_eq!(verdict, Verdict::Accepted { stored: 1000, rejected: 0 });
    assert_eq!(decode(&rows), batch.rows);
}
