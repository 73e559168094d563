//! The block codec, per byte and per event: rows into a block's payload, the header with its checksum,
//! the check of a received block, and the walk from row to row that halving and dead letters need.
//!
//! `./dev bench block`; one full block of 512 KiB, rows as the JSON pass writes them of 270 B events.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use proto::limits::BLOCK_PAYLOAD_BYTES_MAX;
use proto::row::{Row, Rows};
use proto::{BlockHeader, BlockId, JournalId};

/// Of JSON, one event in 270 bytes.
const PROPERTIES: &[u8] = br#"{"path":"/docs/getting-started","referrer":"newsletter","duration_ms":48213,"plan":"enterprise"}"#;

fn row(number: u64) -> Row<'static> {
    Row {
        app_id: [1; 16],
        event_id: (u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes(),
        timestamp_ms: 1_768_435_200_000 + number as i64,
        received_at_ns: 1_768_435_200_000_000_000 + number as i64,
        event_name: b"checkout_started",
        user_id: b"user-0012345@mail.example.com",
        properties: PROPERTIES,
    }
}

/// Rows until the next one would not fit; gives how many.
fn fill(payload: &mut Vec<u8>, row_bytes: usize) -> u64 {
    payload.clear();
    let mut count = 0;
    while payload.len() + row_bytes <= BLOCK_PAYLOAD_BYTES_MAX {
        row(count).encode(payload);
        count += 1;
    }
    count
}

fn block(criterion: &mut Criterion) {
    let mut one = Vec::new();
    row(0).encode(&mut one);
    let mut payload = Vec::with_capacity(BLOCK_PAYLOAD_BYTES_MAX);
    let rows = fill(&mut payload, one.len());
    let id = BlockId { journal_id: JournalId([7; 16]), epoch: 1, sequence: 1 };
    let seal = |payload: &[u8]| BlockHeader::seal(id, 0, 0, 0, rows as u32, payload);
    let received = [&seal(&payload).encode()[..], &payload].concat();

    let mut group = criterion.benchmark_group("block");
    group.throughput(Throughput::ElementsAndBytes { elements: rows, bytes: payload.len() as u64 });
    group.bench_function("encode_rows", |bencher| {
        let mut out = Vec::with_capacity(BLOCK_PAYLOAD_BYTES_MAX);
        bencher.iter(|| fill(black_box(&mut out), one.len()));
    });
    group.bench_function("seal", |bencher| {
        bencher.iter(|| seal(black_box(&payload)).encode());
    });
    group.bench_function("check", |bencher| {
        bencher.iter(|| BlockHeader::decode_block(black_box(&received)).expect("our own").0);
    });
    group.bench_function("walk_rows", |bencher| {
        bencher.iter(|| {
            let walked = Rows::new(black_box(&payload));
            let bytes: usize = walked.map(|row| row.expect("our own").properties.len()).sum();
            assert_eq!(bytes, rows as usize * PROPERTIES.len());
        });
    });
    group.finish();
    // The head of a block alone, as recovery looks at every page.
    let mut group = criterion.benchmark_group("block_header");
    group.throughput(Throughput::Elements(1));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| BlockHeader::decode(black_box(&received)).expect("our own"));
    });
    group.finish();
}

criterion_group!(benches, block);
criterion_main!(benches);
