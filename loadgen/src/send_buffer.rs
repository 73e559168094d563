//! The requests of one connection that are being written, ready to hand to the socket as one run
//! of bytes: patching in place is the only work, nothing is copied on our side.
//!
//! A connection holds a buffer only while something in it is unwritten. Most writes are taken whole,
//! so that one buffer serves all connections of a thread and stays in the processor's cache.

use crate::mix::Mix;
use crate::template::Stamp;

/// Requests are gathered into one write up to about this size; larger ones go one by one.
const GATHER_BYTES: usize = 256 * 1024;

/// The buffers that no connection holds; at most one for each connection ever exists.
pub struct BufferPool<'a> {
    mix: &'a Mix,
    pipeline: u64,
    free: Vec<SendBuffer>,
}

impl<'a> BufferPool<'a> {
    pub fn new(mix: &'a Mix, pipeline: u64) -> Self {
        BufferPool { mix, pipeline, free: Vec::new() }
    }

    /// An empty buffer, the one most recently used.
    pub fn take(&mut self) -> SendBuffer {
        self.free.pop().unwrap_or_else(|| SendBuffer::new(self.mix, self.pipeline))
    }

    pub fn put_back(&mut self, mut buffer: SendBuffer) {
        buffer.reset();
        self.free.push(buffer);
    }
}

/// A place in the buffer and what lies there.
struct Slot {
    start: usize,
    end: usize,
    /// Which of the mix's requests.
    choice: usize,
    /// Which refresh of the timestamp.
    refresh: u32,
}

pub struct SendBuffer {
    bytes: Box<[u8]>,
    /// One after the other; those behind the filled ones hold what an earlier round left there,
    /// which need not be copied when the same is asked for again.
    slots: Vec<Slot>,
    slot_count: usize,
    request_bytes_max: usize,
    /// Slots that hold a request which is not wholly written, from the first on.
    filled: usize,
    /// Of those, the ones of which a byte is written.
    begun: usize,
    written_bytes: usize,
}

impl SendBuffer {
    fn new(mix: &Mix, pipeline: u64) -> Self {
        let request_bytes_max = mix.request_bytes_max();
        let slot_count = pipeline as usize;
        let wanted = request_bytes_max.saturating_mul(slot_count).min(GATHER_BYTES);
        SendBuffer {
            bytes: vec![0; wanted.max(request_bytes_max)].into(),
            slots: Vec::with_capacity(slot_count),
            slot_count,
            request_bytes_max,
            filled: 0,
            begun: 0,
            written_bytes: 0,
        }
    }

    fn filled_bytes(&self) -> usize {
        self.filled.checked_sub(1).map_or(0, |last| self.slots[last].end)
    }

    pub fn has_room(&self) -> bool {
        self.filled < self.slot_count
            && self.filled_bytes() + self.request_bytes_max <= self.bytes.len()
    }

    /// Writes the connection's request `number`, which is the mix's `choice`, behind the others;
    /// there must be room.
    pub fn fill(&mut self, mix: &Mix, choice: usize, connection: u64, number: u64, stamp: &Stamp) {
        let template = &mix.get(choice).template;
        let start = self.filled_bytes();
        let end = start + template.bytes().len();
        let kept = self.slots.get(self.filled);
        if kept.is_none_or(|slot| (slot.start, slot.choice) != (start, choice)) {
            self.bytes[start..end].copy_from_slice(template.bytes());
            // What lay behind it may be overwritten in part.
            self.slots.truncate(self.filled);
            self.slots.push(Slot { start, end, choice, refresh: 0 });
        }
        let request = &mut self.bytes[start..end];
        template.patch(request, connection, number);
        let slot = &mut self.slots[self.filled];
        if slot.refresh != stamp.refresh {
            template.patch_timestamps(request, stamp);
            slot.refresh = stamp.refresh;
        }
        self.filled += 1;
    }

    pub fn unwritten(&self) -> &[u8] {
        &self.bytes[self.written_bytes..self.filled_bytes()]
    }

    /// Notes that the socket took `bytes`; says how many requests thereby had their first byte
    /// taken.
    pub fn advance(&mut self, bytes: usize) -> usize {
        self.written_bytes += bytes;
        debug_assert!(self.written_bytes <= self.filled_bytes());
        let filled = &self.slots[..self.filled];
        let begun = filled[self.begun..].iter().take_while(|slot| slot.start < self.written_bytes);
        let begun = begun.count();
        self.begun += begun;
        if self.written_bytes == self.filled_bytes() {
            self.reset();
        }
        begun
    }

    fn reset(&mut self) {
        self.filled = 0;
        self.begun = 0;
        self.written_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mix::tests::mix;

    #[test]
    fn any_split_of_the_writes_sends_the_same_requests() {
        for batch in ["2", "1:50%,3:25%,7:25%"] {
            check_splits(&mix(batch, "uniform:200..300"));
            check_splits(&mix(batch, "250"));
        }
    }

    fn check_splits(mix: &Mix) {
        // A new one after every eighth request, so that some places are filled with one and then
        // with another.
        let stamps = [1, 2, 3, 4].map(|refresh| {
            let at = time::OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(refresh.into());
            Stamp::new(at, refresh)
        });
        let (mut expected, mut ends) = (Vec::new(), Vec::new());
        for number in 0..30 {
            let stamp = &stamps[number as usize / 8];
            let template = &mix.get(mix.choose(4, number)).template;
            let mut request = template.bytes().to_vec();
            template.patch(&mut request, 4, number);
            template.patch_timestamps(&mut request, stamp);
            expected.extend(request);
            ends.push(expected.len());
        }
        let length = ends[0];
        for step in [1, 100, length - 1, length, length + 1, 2 * length + 3, 9 * length] {
            let mut buffer = SendBuffer::new(mix, 3);
            let (mut sent, mut number, mut begun) = (Vec::new(), 0, 0);
            while sent.len() < expected.len() {
                while buffer.has_room() && number < 30 {
                    let stamp = &stamps[number as usize / 8];
                    buffer.fill(mix, mix.choose(4, number), 4, number, stamp);
                    number += 1;
                }
                let taken = step.min(buffer.unwritten().len());
                sent.extend_from_slice(&buffer.unwritten()[..taken]);
                begun += buffer.advance(taken);
                let whole = ends.iter().filter(|&&end| end <= sent.len()).count();
                let cut = usize::from(!ends.contains(&sent.len()));
                assert_eq!(begun, whole + cut);
            }
            assert!(sent == expected, "step {step}");
        }
    }

    #[test]
    fn gathering_is_bounded() {
        let slots = |batch: &str, pipeline| {
            let mix = mix(batch, "250");
            let mut buffer = SendBuffer::new(&mix, pipeline);
            let stamp = Stamp::new(time::OffsetDateTime::UNIX_EPOCH, 1);
            let numbers = (0..).take_while(|&number| {
                let room = buffer.has_room();
                if room {
                    buffer.fill(&mix, mix.choose(0, number), 0, number, &stamp);
                }
                room
            });
            numbers.count()
        };
        assert_eq!(slots("1", 16), 16);
        assert_eq!(slots("1", 1), 1);
        assert_eq!(slots("100", 100), 10);
        assert_eq!(slots("1000", 4), 1);
        assert_eq!(slots("1:90%,100:10%", 4), 4, "though more of the small ones would fit");
    }
}
