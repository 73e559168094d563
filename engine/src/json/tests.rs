//! The pass as a whole: verdicts by table, and that neither kernel, nor path, nor slicing matters.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

#[allow(dead_code, reason = "the rows are for the differential test")]
#[path = "../../tests/json_bodies/mod.rs"]
mod json_bodies;

use json_bodies::{APP, APP_TEXT, RECEIVED_AT_MS, RECEIVED_AT_NS, TIMESTAMP_MIN_MS, batch, damage};

fn start(partial: bool) -> BatchStart {
    BatchStart {
        app_id: APP,
        received_at_ns: RECEIVED_AT_NS,
        timestamp_min_ms: TIMESTAMP_MIN_MS,
        timestamp_max_ms: RECEIVED_AT_MS,
        partial,
    }
}

fn run_with(pass: &mut BatchPass, body: &[u8], partial: bool) -> (Verdict, Vec<u8>) {
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

/// Every path and kernel, in one call and in many; all agree.
fn run(body: &[u8], partial: bool) -> (Verdict, Vec<u8>, Vec<Rejection>) {
    let mut pass = BatchPass::new();
    let (verdict, rows) = run_with(&mut pass, body, partial);
    let rejections = pass.rejections().to_vec();
    for kernel in Kernel::all() {
        for walk_only in [false, true] {
            let mut other = BatchPass::with_kernel(kernel);
            other.walk_only = walk_only;
            let (other_verdict, other_rows) = run_with(&mut other, body, partial);
            assert_eq!(other_verdict, verdict, "{kernel:?}, walk only: {walk_only}");
            assert_eq!(other.rejections(), rejections);
            if matches!(verdict, Verdict::Accepted { .. }) {
                assert_eq!(other_rows, rows, "{kernel:?}, walk only: {walk_only}");
            }
        }
    }
    (verdict, rows, rejections)
}

/// Runs in steps of `budget` with `room` bytes more than the least that a step may need.
fn run_sliced(body: &[u8], partial: bool, budget: usize, room: usize) -> (Verdict, Vec<u8>) {
    let mut pass = BatchPass::new();
    pass.begin(start(partial));
    let mut rows = Vec::new();
    let mut row_count = 0;
    let mut out = vec![0; body.len().min(proto::limits::ROW_BYTES_MAX) + OUT_SLACK_BYTES + room];
    for _ in 0..2 * body.len() + 2 {
        match pass.run(body, &mut out, budget) {
            Step::Paused { written, rows: count } => {
                rows.extend_from_slice(&out[..written]);
                row_count += count;
            }
            Step::Done { written, rows: count, verdict } => {
                rows.extend_from_slice(&out[..written]);
                if let Verdict::Accepted { stored, .. } = verdict {
                    assert_eq!(stored, row_count + count);
                }
                return (verdict, rows);
            }
        }
    }
    panic!("no end in sight");
}

const GOOD: &str = r#"{"event_id":"7f6fd8f0-9c5e-4f61-8a3b-2f0f5a1c9d3e","event_name":"a","user_id":"u","timestamp":"2025-06-01T12:00:00Z"}"#;

fn body_with(event: &str) -> String {
    format!(r#"{{"app_id":"{APP_TEXT}","events":[{GOOD},{event}]}}"#)
}

fn check_verdict(body: impl AsRef<[u8]>, expected: Verdict) {
    let body = body.as_ref();
    let text = || String::from_utf8_lossy(&body[..body.len().min(400)]).into_owned();
    assert_eq!(run(body, false).0, expected, "{}", text());
}

fn check_malformed(body: impl AsRef<[u8]>, offset: usize, error: JsonError) {
    check_verdict(&body, Verdict::Malformed { offset, error });
    assert_eq!(run(body.as_ref(), true).0, Verdict::Malformed { offset, error });
}

/// The second of two events with `from` replaced breaks one rule, in partial mode alone.
fn check_rule(from: &str, to: &str, field: Field, rule: Rule) {
    let event = GOOD.replacen(from, to, 1);
    assert_ne!(event, GOOD);
    let body = body_with(&event);
    check_verdict(&body, Verdict::Invalid(RuleError { index: Some(1), field, rule }));
    let (verdict, _, rejections) = run(body.as_bytes(), true);
    assert_eq!(verdict, Verdict::Accepted { stored: 1, rejected: 1 }, "{body}");
    assert_eq!(rejections, [Rejection { index: 1, field, rule }]);
}

fn check_batch_rule(body: &str, field: Field, rule: Rule) {
    let expected = Verdict::Invalid(RuleError { index: None, field, rule });
    check_verdict(body, expected);
    assert_eq!(run(body.as_bytes(), true).0, expected);
}

fn check_good(event: &str) {
    check_verdict(body_with(event), Verdict::Accepted { stored: 2, rejected: 0 });
}

#[test]
fn grammar_faults_are_found_where_they_are() {
    use JsonError::*;
    check_malformed("", 0, UnexpectedEnd);
    check_malformed(" \n", 2, UnexpectedEnd);
    check_malformed("\u{feff}{}", 0, ByteOrderMark);
    check_malformed("{}x", 2, TrailingBytes);
    check_malformed("{} {}", 3, TrailingBytes);
    check_malformed("{", 1, UnexpectedEnd);
    check_malformed("{\"a\"", 4, UnexpectedEnd);
    check_malformed("{\"a\":", 5, UnexpectedEnd);
    check_malformed("{\"a\":1", 6, UnexpectedEnd);
    check_malformed("{\"a\":1,", 7, UnexpectedEnd);
    check_malformed("{\"a\":1,}", 7, UnexpectedByte);
    check_malformed("{\"a\":1]", 6, UnexpectedByte);
    check_malformed("{\"a\" 1}", 5, UnexpectedByte);
    check_malformed("{a:1}", 1, UnexpectedByte);
    check_malformed("{1:1}", 1, UnexpectedByte);
    check_malformed("{,}", 1, UnexpectedByte);
    check_malformed("[1 2]", 3, UnexpectedByte);
    check_malformed("[1,]", 3, UnexpectedByte);
    check_malformed("[,1]", 1, UnexpectedByte);
    check_malformed("[1}", 2, UnexpectedByte);
    check_malformed("]", 0, UnexpectedByte);
    check_malformed("'a'", 0, UnexpectedByte);
    check_malformed("[\u{c}1]", 1, UnexpectedByte);
    check_malformed("\u{1a}", 0, UnexpectedByte);
    check_malformed("[\"a\"\"b\"]", 4, UnexpectedByte);
    check_malformed("[\"a\"b]", 4, UnexpectedByte);
    check_malformed("[01]", 2, Number);
    check_malformed("[1\"a\"]", 2, Number);
    check_malformed("[tru]", 4, Literal);
    check_malformed("[nul\u{0}]", 4, Literal);
    check_malformed("\"abc", 4, UnexpectedEnd);
    check_malformed("\"abc\\", 5, UnexpectedEnd);
    check_malformed("\"abc\\\"", 6, UnexpectedEnd);
    check_malformed("[\"a\nb\"]", 3, ControlInString);
    check_malformed("[\"\\x\"]", 2, Escape);
    check_malformed("[\"\\ud800\"]", 2, LoneSurrogate);
    check_malformed("{\"\\udc00\":1}", 2, LoneSurrogate);
    check_malformed(b"[\"\xff\"]", 2, Utf8);
    check_malformed(b"[\"ab\xc3\"]", 4, Utf8);
    check_malformed(b"[\"\xed\xa0\x80\"]", 2, Utf8);
    check_malformed(b"[\"\xc3", 2, Utf8);
    check_malformed(body_with(GOOD) + "}", body_with(GOOD).len(), TrailingBytes);
}

#[test]
fn grammar_is_judged_before_everything_else() {
    let wrong_app = body_with(GOOD).replace(APP_TEXT, &APP_TEXT.replace('0', "1"));
    check_verdict(&wrong_app, Verdict::WrongApp);
    let both = wrong_app.replace("\"a\"", "\"\"");
    check_verdict(&both, Verdict::WrongApp);
    check_malformed(&both[..both.len() - 1], both.len() - 1, JsonError::UnexpectedEnd);
}

#[test]
fn repeated_members_of_the_schema_are_no_json() {
    for member in ["event_id", "event_name", "user_id", "timestamp", "properties", "user\\u005fid"]
    {
        let event = format!("{},\"properties\":{{}},\"{member}\":1}}", &GOOD[..GOOD.len() - 1]);
        let body = body_with(&event);
        let offset = body.rfind(member).unwrap() - 1;
        check_malformed(&body, offset, JsonError::RepeatedMember);
    }
    let members = GOOD[1..GOOD.len() - 1].split(',').chain(["\"properties\":{}"]);
    for member in members {
        let event = format!("{},\"properties\":{{}},{member}}}", &GOOD[..GOOD.len() - 1]);
        let body = body_with(&event);
        check_malformed(&body, body.rfind(member).unwrap(), JsonError::RepeatedMember);
    }
    check_malformed(r#"{"app_id":1,"app\u005fid":1}"#, 12, JsonError::RepeatedMember);
    check_malformed(r#"{"events":[],"events":[]}"#, 13, JsonError::RepeatedMember);
    check_good(&GOOD.replacen('{', r#"{"x":1,"x":{"event_id":1,"event_id":2},"#, 1));
}

#[test]
fn depth_counts_from_the_outermost() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let rule = RuleError { index: None, field: Field::Body, rule: Rule::NotObject };
    check_verdict(nested(64), Verdict::Invalid(rule));
    check_malformed(nested(65), 64, JsonError::TooDeep);
    let event = |depth: usize| {
        let properties = format!(",\"properties\":{{\"a\":{}}}}}", nested(depth));
        GOOD.replace('}', &properties)
    };
    check_good(&event(60));
    let body = body_with(&event(61));
    check_malformed(&body, body.rfind("[]").unwrap(), JsonError::TooDeep);
}

#[test]
fn batch_rules() {
    let app = format!(r#""app_id":"{APP_TEXT}""#);
    check_batch_rule("1", Field::Body, Rule::NotObject);
    check_batch_rule("[]", Field::Body, Rule::NotObject);
    check_batch_rule("\"\"", Field::Body, Rule::NotObject);
    check_batch_rule("{}", Field::AppId, Rule::Required);
    check_batch_rule(&format!(r#"{{"events":[{GOOD}]}}"#), Field::AppId, Rule::Required);
    check_batch_rule(r#"{"app_id":1}"#, Field::AppId, Rule::NotString);
    check_batch_rule(r#"{"app_id":{}}"#, Field::AppId, Rule::NotString);
    check_batch_rule(r#"{"app_id":""}"#, Field::AppId, Rule::NotUuid);
    let nil = r#"{"app_id":"00000000-0000-0000-0000-000000000000"}"#;
    check_batch_rule(nil, Field::AppId, Rule::NilUuid);
    check_batch_rule(&format!("{{{app}}}"), Field::Events, Rule::Required);
    check_batch_rule(&format!("{{{app},\"events\":null}}"), Field::Events, Rule::NotArray);
    check_batch_rule(&format!("{{{app},\"events\":{{}}}}"), Field::Events, Rule::NotArray);
    check_batch_rule(&format!("{{{app},\"events\":[ ]}}"), Field::Events, Rule::Empty);
}

#[test]
fn a_batch_has_up_to_a_thousand_events() {
    let body = |count: usize| {
        format!(r#"{{"events":[{}],"app_id":"{APP_TEXT}"}}"#, vec![GOOD; count].join(","))
    };
    check_verdict(body(1000), Verdict::Accepted { stored: 1000, rejected: 0 });
    check_batch_rule(&body(1001), Field::Events, Rule::TooMany);
    let numbers = format!(r#"{{"app_id":"{APP_TEXT}","events":[{}1]}}"#, "1,".repeat(149));
    let (verdict, _, rejections) = run(numbers.as_bytes(), true);
    assert_eq!(verdict, Verdict::Accepted { stored: 0, rejected: 150 });
    assert_eq!(rejections.len(), 100);
    assert_eq!(rejections[99], Rejection { index: 99, field: Field::Event, rule: Rule::NotObject });
}

#[test]
fn a_row_holds_what_was_sent() {
    let event = GOOD
        .replace("\"a\"", r#""caf\u00e9""#)
        .replace('}', r#", "properties" : { "b":[1, {}] ,"a":"\n" } }"#);
    let (verdict, rows, _) = run(body_with(&event).as_bytes(), false);
    assert_eq!(verdict, Verdict::Accepted { stored: 2, rejected: 0 });
    let rows: Vec<_> = proto::row::Rows::new(&rows).map(|row| row.unwrap()).collect();
    let event_id = 0x7f6f_d8f0_9c5e_4f61_8a3b_2f0f_5a1c_9d3eu128.to_be_bytes();
    let plain = proto::row::Row {
        app_id: APP,
        event_id,
        timestamp_ms: 1_748_779_200_000,
        received_at_ns: RECEIVED_AT_NS,
        event_name: b"a",
        user_id: b"u",
        properties: b"{}",
    };
    let properties = br#"{ "b":[1, {}] ,"a":"\n" }"#;
    let received_at_ns = RECEIVED_AT_NS + 1;
    let event_name = "café".as_bytes();
    let second = proto::row::Row { event_name, properties, received_at_ns, ..plain };
    assert_eq!(rows, [plain, second]);
}

#[test]
fn event_rules() {
    use Field::*;
    use Rule::*;
    let id = "7f6fd8f0-9c5e-4f61-8a3b-2f0f5a1c9d3e";
    let moment = "2025-06-01T12:00:00Z";
    check_rule(GOOD, "[]", Event, NotObject);
    check_rule(GOOD, "null", Event, NotObject);
    check_rule("event_id", "event_ie", EventId, Required);
    check_rule("event_name", "Event_name", EventName, Required);
    check_rule("user_id", "user_id ", UserId, Required);
    check_rule("timestamp", "timestamp\\u0000", Timestamp, Required);
    check_rule(&format!("\"{id}\""), "7", EventId, NotString);
    check_rule(id, &id[1..], EventId, NotUuid);
    check_rule(id, &format!("{id}0"), EventId, NotUuid);
    check_rule(id, &id.replace('-', ""), EventId, NotUuid);
    check_rule(id, &id.replace('7', "g"), EventId, NotUuid);
    check_rule(id, "00000000-0000-0000-0000-000000000000", EventId, NilUuid);
    check_rule("\"a\"", "\"\"", EventName, Empty);
    check_rule("\"a\"", "null", EventName, NotString);
    check_rule("\"a\"", &format!("\"{}\"", "x".repeat(101)), EventName, TooLong);
    check_rule("\"a\"", &format!("\"{}\"", "€".repeat(101)), EventName, TooLong);
    check_rule("\"a\"", &format!("\"{}\"", "\\n".repeat(101)), EventName, TooLong);
    check_rule("\"u\"", "{\"u\":[]}", UserId, NotString);
    check_rule("\"u\"", &format!("\"{}\"", "x".repeat(256)), UserId, TooLong);
    check_rule("\"u\"", &format!("\"{}\"", "😀".repeat(256)), UserId, TooLong);
    check_rule(&format!("\"{moment}\""), "1748779200000", Timestamp, NotString);
    check_rule(moment, "2025-06-31T12:00:00Z", Timestamp, NotTimestamp);
    check_rule(moment, "2024-12-31T23:59:59.999Z", Timestamp, TooOld);
    check_rule(moment, "2026-01-01T00:00:00.001Z", Timestamp, InFuture);
    check_rule("}", ",\"properties\":[]}", Properties, NotObject);
    check_rule("}", ",\"properties\":\"{}\"}", Properties, NotObject);
    check_rule("}", ",\"properties\":false}", Properties, NotObject);
    check_rule("\"a\",\"user_id\":\"u\"", "1,\"user_id\":2", EventName, NotString);
}

#[test]
fn good_events_of_many_kinds() {
    check_good(&GOOD.replace("\"a\"", &format!("\"{}\"", "€".repeat(100))));
    check_good(&GOOD.replace("\"a\"", &format!("\"{}\"", "\\ud83d\\ude00".repeat(100))));
    check_good(&GOOD.replace("\"u\"", &format!("\"{}\"", "😀".repeat(255))));
    check_good(&GOOD.replace("\"u\"", "\"\\u0000\""));
    check_good(&GOOD.replace("2025-06-01T12:00:00Z", "2025-01-01T00:00:00.000Z"));
    check_good(&GOOD.replace("2025-06-01T12:00:00Z", "2026-01-01T00:00:00.000999Z"));
    check_good(&GOOD.replace("2025", "\\u0032025"));
    check_good(&GOOD.replace("7f6fd8f0", "\\u0037F6fD8\\u00660"));
    check_good(&GOOD.replace('}', ",\"properties\":null }"));
    check_good(&GOOD.replace('}', ",\"properties\" : { } }"));
}

#[test]
fn escapes_lie_anywhere_in_a_block() {
    for padding in 0..130 {
        for escape in [r#"\""#, r"\\", r"\ud83d\ude00", r#"\\\""#] {
            let text = format!("{}{escape}", "x".repeat(padding));
            check_good(&GOOD.replace('}', &format!(r#","properties":{{"a":"{text}","b":"]"}}}}"#)));
        }
    }
}

#[test]
fn values_in_properties_are_checked() {
    let event = |value: &str| GOOD.replace('}', &format!(",\"properties\":{{\"a\":{value}}}}}"));
    for good in ["0", "-0", "0.5", "10.25", "1234567890123456", "1e9", "true", "false", "null"] {
        let body = body_with(&format!("{},{GOOD}", event(good)));
        check_verdict(body, Verdict::Accepted { stored: 3, rejected: 0 });
    }
    let bad = ["00", "00.5", "01.5", "1.", ".5", "1.2.3", "-", "1-2", "0x1", "tru", "truee", "nul"];
    for bad in bad {
        // Another event after it: at the body's end there is no room for the wide look.
        let body = body_with(&format!("{},{GOOD}", event(bad)));
        let (verdict, ..) = run(body.as_bytes(), false);
        assert!(matches!(verdict, Verdict::Malformed { .. }), "{bad}");
    }
}

#[test]
fn an_event_is_at_most_64_kib_of_text() {
    let event = |bytes: usize| {
        let padding = bytes - GOOD.len() - r#","properties":{"a":""}"#.len();
        GOOD.replace('}', &format!(r#","properties":{{"a":"{}"}}}}"#, "x".repeat(padding)))
    };
    check_good(&event(65_536));
    let rule = RuleError { index: Some(1), field: Field::Event, rule: Rule::TooLong };
    check_verdict(body_with(&event(65_537)), Verdict::Invalid(rule));
    check_verdict(body_with(&event(300_000)), Verdict::Invalid(rule));
    let many = format!("{0},{0},{1},{0}", event(60_000), event(70_000));
    let (verdict, ..) = run(body_with(&many).as_bytes(), true);
    assert_eq!(verdict, Verdict::Accepted { stored: 4, rejected: 1 });
    let (verdict, _) = run_sliced(body_with(&many).as_bytes(), true, 1, 0);
    assert_eq!(verdict, Verdict::Accepted { stored: 4, rejected: 1 });
}

#[test]
fn a_pass_is_ready_again_after_any_body() {
    let mut pass = BatchPass::new();
    let good = body_with(GOOD);
    let mut out = vec![0; good.len() + OUT_SLACK_BYTES];
    for other in ["{\"a\":\"\\u00", "[[[", "\"", &good[..60], &good] {
        pass.begin(start(true));
        let _ = pass.run(other.as_bytes(), &mut out, 1);
        let (verdict, _) = run_with(&mut pass, good.as_bytes(), false);
        assert_eq!(verdict, Verdict::Accepted { stored: 2, rejected: 0 });
    }
}

#[test]
fn hostile_bodies_end_soon() {
    let bytes = 16 << 20;
    let piece = |piece: &str| piece.repeat(bytes / piece.len());
    let head = format!(r#"{{"app_id":"{APP_TEXT}","events":["#);
    let in_event =
        |text: String| head.clone() + &GOOD.replace('}', ",\"properties\":{\"a\":") + &text;
    let bodies = [
        piece("["),
        piece("{\"a\":"),
        piece("\""),
        piece("\\"),
        piece("\"\\"),
        piece("9"),
        piece(" "),
        piece("\u{80}"),
        format!("[{}1]", piece("1,")),
        format!("[{}1]", piece("[],")),
        format!("\"{}\"", piece("\\\\")),
        format!("\"{}\"", piece("\\ud83d\\ude00")),
        format!("\"{}\"", piece("é")),
        format!("[{}\"\"]", piece("\"\" ,")),
        in_event(piece("[1,")),
        in_event(format!("[{}1]", piece("1,"))),
        head.clone() + &piece("{\"event_id\":"),
        head.clone() + &piece("{},"),
        head.clone() + &piece(&(GOOD.replace("\"a\"", "\"\"") + ",")),
    ];
    let begun = Instant::now();
    let mut pass = BatchPass::new();
    for body in &bodies {
        run_with(&mut pass, body.as_bytes(), true);
    }
    // A second is plenty for 300 MB on an idle machine; quadratic work would take hours.
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_slicing_gives_the_same(seed: u64, event_count in 1usize..40, budget in 0usize..3000, room in 0usize..5000, partial: bool, damaged in 0u64..2) {
        let mut body = batch(seed, event_count).text.into_bytes();
        if damaged == 1 {
            damage(seed, &mut body);
        }
        let (verdict, rows, _) = run(&body, partial);
        let (sliced_verdict, sliced_rows) = run_sliced(&body, partial, budget, room);
        prop_assert_eq!(sliced_verdict, verdict);
        if matches!(verdict, Verdict::Accepted { .. }) {
            prop_assert_eq!(sliced_rows, rows);
        }
    }

    #[test]
    fn every_prefix_is_unfinished(seed: u64, cut in any::<prop::sample::Index>()) {
        let text = batch(seed, 2).text;
        let body = &text.as_bytes()[..cut.index(text.len())];
        let (verdict, ..) = run(body, false);
        prop_assert!(matches!(verdict, Verdict::Malformed { .. }), "{verdict:?}");
    }
}
