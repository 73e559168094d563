//! What the journal costs: rows into a block in memory, a group commit on the disk, and the ways to
//! make bytes durable. `cargo bench -p bench --bench journal`; the disk is that of `TMPDIR`.

use std::fs::OpenOptions;
use std::hint::black_box;
use std::io::IoSlice;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::journal::storage::{Access, DiskStorage, Storage};
use engine::journal::{AlignedBytes, Journal, JournalConfig, OpenedJournal, Write};
use proto::limits::BLOCK_PAYLOAD_BYTES_MAX;

const ROW_BYTES: usize = 270;
const O_DSYNC: i32 = 0o10000;

fn open(dir: &Path) -> (Journal, OpenedJournal) {
    let config = JournalConfig {
        segments_ahead: 2,
        keep_forwarded: Duration::ZERO,
        checkpoint_interval: Duration::ZERO,
        tail_bytes_max: 0,
        backlog_bytes_max: Some(4 << 30),
        ..JournalConfig::default()
    };
    let journal = Journal::open(dir, config).expect("the bench has a directory of its own");
    let shard = journal.open_shard(0).expect("an empty directory is a good journal");
    (journal, shard)
}

/// Waits for the keeper where it is slower than the bench.
fn wait_for_room(shard: &mut OpenedJournal, bytes: usize) {
    while shard.appender.room(bytes).is_err() {
        std::thread::yield_now();
    }
}

fn complete(shard: &mut OpenedJournal, write: Write) {
    let result = write.write_blocking();
    shard.appender.on_write_done(write, result).expect("the disk works");
}

/// All is forwarded as soon as it is durable, so that segments are used again. Reading it back is not
/// what is measured.
fn forward(shard: &mut OpenedJournal) {
    while shard.feed.next_block().expect("the disk works").is_some() {}
    let synced = shard.appender.synced_through();
    shard.feed.mark_forwarded(synced).expect("the disk works");
}

/// Rows into the open block: taken back each time, so that it is the calls and the copy alone; then
/// committed, with the sealing (checksum) of each full block.
fn append(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (_journal, mut shard) = open(dir.path());
    let row = [7; ROW_BYTES];
    let mut group = c.benchmark_group("journal");
    group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    group.throughput(Throughput::Bytes(ROW_BYTES as u64));
    group.bench_function("room_copy_270_bytes", |b| {
        b.iter(|| {
            let room = shard.appender.room(ROW_BYTES).expect("the open block has room");
            room[..ROW_BYTES].copy_from_slice(black_box(&row));
            black_box(shard.appender.commit(0, 0))
        });
    });
    group.bench_function("room_copy_commit_seal_270_bytes", |b| {
        b.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            let mut left = iterations;
            while left > 0 {
                let count = left.min((BLOCK_PAYLOAD_BYTES_MAX / ROW_BYTES) as u64);
                wait_for_room(&mut shard, BLOCK_PAYLOAD_BYTES_MAX);
                let start = Instant::now();
                for _ in 0..count {
                    let room = shard.appender.room(ROW_BYTES).expect("the block was just opened");
                    room[..ROW_BYTES].copy_from_slice(black_box(&row));
                    black_box(shard.appender.commit(ROW_BYTES, 1));
                }
                let write = shard.appender.next_write().expect("rows were committed");
                spent += start.elapsed();
                complete(&mut shard, write);
                forward(&mut shard);
                left -= count;
            }
            spent
        });
    });
    group.finish();
}

fn group_commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("journal_commit");
    group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    group.sample_size(20);
    for (name, bytes) in [("4KiB", 4096 - 64), ("512KiB", BLOCK_PAYLOAD_BYTES_MAX)] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (_journal, mut shard) = open(dir.path());
        group.throughput(Throughput::Bytes(bytes as u64 + 64));
        group.bench_function(BenchmarkId::new("append_seal_write", name), |b| {
            b.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                for _ in 0..iterations {
                    wait_for_room(&mut shard, bytes);
                    let start = Instant::now();
                    shard.appender.room(bytes).expect("there was room").fill(7);
                    shard.appender.commit(bytes, 1);
                    let write = shard.appender.next_write().expect("a row was committed");
                    complete(&mut shard, write);
                    spent += start.elapsed();
                    forward(&mut shard);
                }
                spent
            });
        });
    }
    group.finish();
}

/// O_DIRECT|O_DSYNC against write and fdatasync, into a preallocated, zeroed file.
fn durable_writes(c: &mut Criterion) {
    const FILE_BYTES: u64 = 64 << 20;
    let dir = tempfile::tempdir().expect("a temporary directory");
    // A file each: pages in the cache would slow the direct writes down.
    let zeroed = |name: &str, flags: i32| {
        let path = dir.path().join(name);
        std::fs::write(&path, vec![0; FILE_BYTES as usize]).expect("room for the file");
        let file = OpenOptions::new().write(true).custom_flags(flags).open(&path);
        let file = file.expect("it was just written");
        file.sync_all().expect("the disk works");
        (path, file)
    };
    let (_, buffered) = zeroed("buffered", 0);
    let (_, dsync) = zeroed("dsync", O_DSYNC);
    let (path, _) = zeroed("direct", 0);
    let direct = DiskStorage.open(&path, Access::Append).expect("it was just written");
    let mut group = c.benchmark_group("durable_write");
    group.measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    group.sample_size(20);
    for (name, bytes) in [("4KiB", 4 << 10), ("512KiB", 512 << 10), ("4MiB", 4 << 20)] {
        let mut memory = AlignedBytes::zeroed(bytes);
        memory.fill(7);
        group.throughput(Throughput::Bytes(bytes as u64));
        let mut offset = 0;
        let mut next = || {
            offset = (offset + bytes as u64) % FILE_BYTES;
            offset
        };
        group.bench_function(BenchmarkId::new("direct_dsync", name), |b| {
            b.iter(|| {
                let written = direct.write_at(&[IoSlice::new(&memory)], next());
                assert_eq!(written.expect("the disk works"), bytes);
            });
        });
        group.bench_function(BenchmarkId::new("write_fdatasync", name), |b| {
            b.iter(|| {
                buffered.write_all_at(&memory, next()).expect("the disk works");
                buffered.sync_data().expect("the disk works");
            });
        });
        group.bench_function(BenchmarkId::new("buffered_dsync", name), |b| {
            b.iter(|| dsync.write_all_at(&memory, next()).expect("the disk works"));
        });
    }
    group.finish();
}

criterion_group!(benches, append, group_commit, durable_writes);
criterion_main!(benches);
