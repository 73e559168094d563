use super::*;
use crate::samples::record;

fn line() -> Value {
    serde_json::json!({
        "journal_id": "09".repeat(16),
        "epoch": 1,
        "sequence": "18446744073709551615",
        "row_index": 4,
        "partition": 2,
        "offset": 77,
        "layout": 1,
        "code": 33,
        "reason": "bad\nrow",
        "raw": "00FF",
        "died_at_ms": 1_771_000_000_123i64,
        "retried_at_ms": 0,
    })
}

#[test]
fn a_line_of_the_table_is_a_letter_again() {
    let letter = letter(&line()).unwrap();
    assert_eq!((letter.partition, letter.offset, letter.row_index, letter.code), (2, 77, 4, 33));
    assert_eq!((letter.block.sequence, &letter.raw[..]), (u64::MAX, &[0, 255][..]));
    assert_eq!(letter.id(), format!("{}-1-18446744073709551615-4-2-77", "09".repeat(16)));
    let mut broken = line();
    broken["raw"] = "0".into();
    assert!(super::letter(&broken).is_err());
}

#[test]
fn a_letter_is_shown_on_one_line() {
    let letter = letter(&line()).unwrap();
    let text = line_of_text(&letter);
    assert!(text.contains("2026-02-13T16:26:40.123Z  dead") && !text.contains('\n'), "{text}");
    let json: Value = serde_json::from_str(&line_of_json(&letter)).unwrap();
    assert_eq!((&json["reason"], &json["retried_at"]), (&"bad\nrow".into(), &Value::Null));
}

#[test]
fn a_letter_gives_its_rows_where_this_version_knows_them() {
    let whole = record(1, 0..3);
    let payload = whole[proto::block::HEADER_BYTES..].to_vec();
    let check = |layout, raw: &[u8], expected: Option<usize>| {
        let raw = Bytes::copy_from_slice(raw);
        let letter = Letter { layout, raw, ..letter(&line()).unwrap() };
        assert_eq!(rows_of(&letter).ok().map(|(_, rows)| rows), expected, "layout {layout}");
    };
    check(WHOLE_RECORD, &whole, Some(3));
    check(WHOLE_RECORD, b"never a block", None);
    check(1, &payload, Some(3));
    check(1, &payload[1..], None);
    check(2, &payload, None);
}
