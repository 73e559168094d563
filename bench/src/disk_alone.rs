//! What the disk alone makes of writes like the journal's: of the same size, as many a second, each synced, into files
//! that were written before, with nothing else running. What a latency could not be better than.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use engine::journal::AlignedBytes;
use engine::journal::storage::{Access, DiskStorage, Storage, StorageFile};

use crate::percentile::percentile;

/// What the journal aligns to.
const PAGE_BYTES: usize = 4096;
/// Of one thread's file; written in a circle.
const FILE_BYTES: u64 = 256 << 20;
const FILL_BYTES: usize = 4 << 20;

#[derive(Clone, Copy, Debug)]
pub struct Writes {
    pub per_s: f64,
    /// Of each; rounded up to whole pages.
    pub bytes: f64,
    /// Under way at once, at most.
    pub in_flight: usize,
}

/// From when each write was due until it was durable.
pub struct Latencies {
    ms: Vec<f64>,
}

impl Latencies {
    /// 9_999 for the p99.99.
    pub fn ms(&self, per_ten_thousand: usize) -> f64 {
        percentile(&self.ms, per_ten_thousand)
    }
}

/// Keeps it up for `seconds`, with files of its own in `dir`. A disk that is slower than the rate does what
/// was due until then, and no less: the lateness is in the latencies.
pub fn measure(dir: &Path, writes: Writes, seconds: f64) -> Latencies {
    let bytes = (writes.bytes as usize).next_multiple_of(PAGE_BYTES);
    let files: Vec<_> = (0..writes.in_flight).map(|index| file_of_zeros(dir, index)).collect();
    let every = Duration::from_secs_f64(writes.in_flight as f64 / writes.per_s);
    let count = (seconds / every.as_secs_f64()) as u32;
    let start = Instant::now();
    let writers = files.into_iter().enumerate().map(|(index, file)| {
        // Beside each other, and not all at once.
        let first = start + every.mul_f64(index as f64 / writes.in_flight as f64);
        thread::spawn(move || write(&*file, bytes, first, every, count))
    });
    // All are started before the first is waited for.
    let writers: Vec<_> = writers.collect();
    let ms = writers.into_iter().flat_map(|writer| writer.join().expect("a writer's thread"));
    Latencies { ms: ms.collect() }
}

fn file_of_zeros(dir: &Path, index: usize) -> Arc<dyn StorageFile> {
    let path = dir.join(format!("disk-alone-{index}"));
    let file = DiskStorage.open(&path, Access::Prepare).expect("a file for the disk alone");
    let zeros = AlignedBytes::zeroed(FILL_BYTES);
    for offset in (0..FILE_BYTES).step_by(FILL_BYTES) {
        let written = file.write_at(&[IoSlice::new(&zeros)], offset).expect("room for the file");
        assert_eq!(written, FILL_BYTES, "the disk takes whole pieces");
    }
    file.sync().expect("the disk works");
    DiskStorage.open(&path, Access::Append).expect("it was just written")
}

fn write(
    file: &dyn StorageFile,
    bytes: usize,
    first: Instant,
    every: Duration,
    count: u32,
) -> Vec<f64> {
    let mut memory = AlignedBytes::zeroed(bytes);
    memory.fill(7);
    let mut offset = 0;
    let mut ms = Vec::with_capacity(count as usize);
    for number in 0..count {
        let due = first + every * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if offset + bytes as u64 > FILE_BYTES {
            offset = 0;
        }
        let written = file.write_at(&[IoSlice::new(&memory)], offset).expect("the disk works");
        assert_eq!(written, bytes, "the disk takes whole writes");
        offset += bytes as u64;
        ms.push(due.elapsed().as_secs_f64() * 1e3);
    }
    ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_writes_as_were_due_each_with_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let writes = Writes { per_s: 200.0, bytes: 5_000.0, in_flight: 2 };
        let start = Instant::now();
        let latencies = measure(dir.path(), writes, 0.5);
        assert!(start.elapsed() >= Duration::from_millis(480), "the last was not due before");
        assert_eq!(latencies.ms.len(), 100);
        assert!(latencies.ms(1) > 0.0 && latencies.ms(1) <= latencies.ms(10_000));
        let mut files = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path());
        let bytes = std::fs::read(files.next().unwrap()).unwrap();
        assert_eq!(bytes.iter().filter(|byte| **byte == 7).count(), 50 * 8_192, "whole pages");
    }
}
