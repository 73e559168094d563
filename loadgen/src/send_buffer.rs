//! The requests of one connection that are being written, ready to hand to the socket as one run
//! of bytes: patching in place is the only work, nothing is copied on our side.
//!
//! A connection holds a buffer only while something in it is unwritten. Most writes are taken whole,
//! so that one buffer serves all connections of a thread and stays in the processor's cache.

use crate::template::{RequestTemplate, Stamp};

/// Requests are gathered into one write up to about this size; larger ones go one by one.
const GATHER_BYTES: usize = 256 * 1024;

/// The buffers that no connection holds; at most one for each connection ever exists.
pub struct BufferPool<'a> {
    template: &'a RequestTemplate,
    pipeline: u64,
    free: Vec<SendBuffer>,
}

impl<'a> BufferPool<'a> {
    pub fn new(template: &'a RequestTemplate, pipeline: u64) -> Self {
        BufferPool { template, pipeline, free: Vec::new() }
    }

    /// An empty buffer, the one most recently used.
    pub fn take(&mut self) -> SendBuffer {
        self.free.pop().unwrap_or_else(|| SendBuffer::new(self.template, self.pipeline))
    }

    pub fn put_back(&mut self, mut buffer: SendBuffer) {
        buffer.reset();
        self.free.push(buffer);
    }
}

pub struct SendBuffer {
    /// `slot_count` copies of the template, one after the other.
    bytes: Vec<u8>,
    /// Which refresh of the timestamp each slot holds.
    refreshes: Vec<u32>,
    request_bytes: usize,
    /// Slots that hold a request which is not wholly written, from the first on.
    filled: usize,
    written_bytes: usize,
}

impl SendBuffer {
    fn new(template: &RequestTemplate, pipeline: u64) -> Self {
        let request_bytes = template.bytes().len();
        let slot_count = (GATHER_BYTES / request_bytes).clamp(1, pipeline as usize);
        SendBuffer {
            bytes: template.bytes().repeat(slot_count),
            refreshes: vec![0; slot_count],
            request_bytes,
            filled: 0,
            written_bytes: 0,
        }
    }

    pub fn has_room(&self) -> bool {
        self.filled < self.refreshes.len()
    }

    /// Writes the connection's request `number` into the next slot; there must be room.
    pub fn fill(
        &mut self,
        template: &RequestTemplate,
        connection: u64,
        number: u64,
        stamp: &Stamp,
    ) {
        let slot = self.filled;
        let request = &mut self.bytes[slot * self.request_bytes..][..self.request_bytes];
        template.patch(request, connection, number);
        if self.refreshes[slot] != stamp.refresh {
            template.patch_timestamps(request, stamp);
            self.refreshes[slot] = stamp.refresh;
        }
        self.filled += 1;
    }

    pub fn unwritten(&self) -> &[u8] {
        &self.bytes[self.written_bytes..self.filled * self.request_bytes]
    }

    /// Notes that the socket took `bytes`; says how many requests thereby had their first byte
    /// taken.
    pub fn advance(&mut self, bytes: usize) -> usize {
        let begun_before = self.written_bytes.div_ceil(self.request_bytes);
        self.written_bytes += bytes;
        debug_assert!(self.written_bytes <= self.filled * self.request_bytes);
        let begun = self.written_bytes.div_ceil(self.request_bytes) - begun_before;
        if self.written_bytes == self.filled * self.request_bytes {
            self.reset();
        }
        begun
    }

    fn reset(&mut self) {
        self.filled = 0;
        self.written_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_id::RunId;
    use crate::target::Target;
    use crate::template::{Traffic, Users};

    #[test]
    fn any_split_of_the_writes_sends_the_same_requests() {
        let target = Target::parse("http://h").unwrap();
        let traffic = Traffic::ordinary(Users::Shared { count: 9 });
        let template =
            RequestTemplate::new(&target, "a", "k", RunId::from_seed(1), &traffic, 2, 250).unwrap();
        let stamp = Stamp::new(time::OffsetDateTime::UNIX_EPOCH, 1);
        let length = template.bytes().len();
        let mut expected = Vec::new();
        for number in 0..30 {
            let mut request = template.bytes().to_vec();
            template.patch(&mut request, 4, number);
            template.patch_timestamps(&mut request, &stamp);
            expected.extend(request);
        }
        for step in [1, 100, length - 1, length, length + 1, 2 * length + 3, 9 * length] {
            let mut buffer = SendBuffer::new(&template, 3);
            let (mut sent, mut number, mut begun) = (Vec::new(), 0, 0);
            while sent.len() < expected.len() {
                while buffer.has_room() && number < 30 {
                    buffer.fill(&template, 4, number, &stamp);
                    number += 1;
                }
                let taken = step.min(buffer.unwritten().len());
                sent.extend_from_slice(&buffer.unwritten()[..taken]);
                begun += buffer.advance(taken);
                assert_eq!(begun, sent.len().div_ceil(length));
            }
            assert!(sent == expected, "step {step}");
        }
    }

    #[test]
    fn gathering_is_bounded() {
        let target = Target::parse("http://h").unwrap();
        let traffic = Traffic::ordinary(Users::Shared { count: 9 });
        let run = RunId::from_seed(1);
        let slots = |batch, pipeline| {
            let template =
                RequestTemplate::new(&target, "a", "k", run, &traffic, batch, 250).unwrap();
            SendBuffer::new(&template, pipeline).refreshes.len()
        };
        assert_eq!(slots(1, 16), 16);
        assert_eq!(slots(1, 1), 1);
        assert_eq!(slots(100, 100), 10);
        assert_eq!(slots(1_000, 4), 1);
        assert_eq!(slots(2_000, 4), 1);
    }
}
