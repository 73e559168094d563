//! Row layout 1: golden bytes, round trips, truncation, hostile lengths.

#![allow(clippy::unwrap_used, reason = "a test panics on what it does not expect")]

use proptest::prelude::*;
use proto::row::{
    APP_ID_OFFSET, EVENT_ID_OFFSET, FIXED_BYTES, RECEIVED_AT_OFFSET, Row, RowError, Rows,
    TIMESTAMP_OFFSET, push_length, uuid_from_row, uuid_to_row,
};

/// A row as version 1 wrote it, and as ClickHouse reads it. Never change it.
const GOLDEN: &str = concat!(
    "7766554433221100ffeeddccbbaa9988", // 00112233-4455-6677-8899-aabbccddeeff
    "efcdab8967452301efcdab8967452301", // 01234567-89ab-cdef-0123-456789abcdef
    "7b68e5cf8b010000",                 // 2023-11-14 22:13:20.123
    "140c6451fe9c9717",                 // 2023-11-14 22:13:20.456789012
    "087075726368617365",               // purchase
    "03752d31",                         // u-1
    "077b2261223a317d",                 // {"a":1}
);

fn golden_bytes() -> Vec<u8> {
    (0..GOLDEN.len() / 2)
        .map(|at| u8::from_str_radix(&GOLDEN[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

fn golden_row() -> Row<'static> {
    Row {
        app_id: 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128.to_be_bytes(),
        event_id: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef_u128.to_be_bytes(),
        timestamp_ms: 1_700_000_000_123,
        received_at_ns: 1_700_000_000_456_789_012,
        event_name: b"purchase",
        user_id: b"u-1",
        properties: br#"{"a":1}"#,
    }
}

fn encoded(row: &Row<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    row.encode(&mut out);
    out
}

#[test]
fn old_rows_stay_readable_and_new_ones_are_the_same() {
    let bytes = golden_bytes();
    assert_eq!(Row::decode(&bytes), Ok((golden_row(), bytes.len())));
    assert_eq!(encoded(&golden_row()), bytes);
}

#[test]
fn fixed_columns_lie_where_their_offsets_say() {
    let (bytes, row) = (golden_bytes(), golden_row());
    assert_eq!(bytes[APP_ID_OFFSET..][..16], uuid_to_row(row.app_id));
    assert_eq!(bytes[EVENT_ID_OFFSET..][..16], uuid_to_row(row.event_id));
    assert_eq!(bytes[TIMESTAMP_OFFSET..][..8], row.timestamp_ms.to_le_bytes());
    assert_eq!(bytes[RECEIVED_AT_OFFSET..][..8], row.received_at_ns.to_le_bytes());
    assert_eq!(bytes[FIXED_BYTES], 8, "the name's length");
}

#[test]
fn a_row_cut_short_is_no_row() {
    let bytes = golden_bytes();
    for length in 0..bytes.len() {
        assert_eq!(Row::decode(&bytes[..length]), Err(RowError::Truncated), "{length} bytes");
    }
}

#[test]
fn lengths_are_one_to_four_bytes() {
    let check = |length: usize, expected: &[u8]| {
        let mut out = Vec::new();
        push_length(&mut out, length);
        assert_eq!(out, expected, "{length}");
    };
    check(0, &[0]);
    check(127, &[0x7f]);
    check(128, &[0x80, 1]);
    check(16_383, &[0xff, 0x7f]);
    check(16_384, &[0x80, 0x80, 1]);
    check((1 << 28) - 1, &[0xff, 0xff, 0xff, 0x7f]);
}

#[test]
fn hostile_lengths_are_refused() {
    let check = |lengths: &[u8], expected| {
        let bytes = [&golden_bytes()[..FIXED_BYTES], lengths].concat();
        assert_eq!(Row::decode(&bytes).err(), Some(expected), "{lengths:?}");
    };
    check(&[0xff, 0xff, 0xff, 0xff, 0x01], RowError::Length);
    check(&[0x80, 0x80, 0x80, 0x80], RowError::Length);
    check(&[0x80, 0x80], RowError::Truncated);
    check(&[0xff, 0xff, 0xff, 0x7f], RowError::Truncated);
    check(&[0, 0], RowError::Truncated);
}

#[test]
fn a_walk_ends_at_its_first_error() {
    let mut bytes = golden_bytes();
    bytes.extend_from_slice(&golden_bytes()[..60]);
    let walked: Vec<_> = Rows::new(&bytes).collect();
    assert_eq!(walked, [Ok(golden_row()), Err(RowError::Truncated)]);
    assert_eq!(Rows::new(&[]).count(), 0);
}

type Texts = (Vec<u8>, Vec<u8>, Vec<u8>);

proptest! {
    #[test]
    fn any_rows_are_walked_back(
        rows in prop::collection::vec(
            (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<(i64, i64)>(), any::<Texts>()),
            0..8,
        ),
    ) {
        let rows: Vec<Row<'_>> = rows
            .iter()
            .map(|(app_id, event_id, (timestamp_ms, received_at_ns), (name, user, properties))| Row {
                app_id: *app_id,
                event_id: *event_id,
                timestamp_ms: *timestamp_ms,
                received_at_ns: *received_at_ns,
                event_name: name,
                user_id: user,
                properties,
            })
            .collect();
        let bytes: Vec<u8> = rows.iter().flat_map(encoded).collect();
        let walked: Result<Vec<Row<'_>>, RowError> = Rows::new(&bytes).collect();
        prop_assert_eq!(walked, Ok(rows));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let walked: usize = Rows::new(&bytes).count();
        prop_assert!(walked <= bytes.len() / (FIXED_BYTES + 3) + 1);
    }

    #[test]
    fn a_uuid_comes_back(uuid in any::<[u8; 16]>()) {
        prop_assert_eq!(uuid_from_row(uuid_to_row(uuid)), uuid);
    }
}
