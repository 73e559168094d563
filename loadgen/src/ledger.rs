//! Which of a connection's requests were acknowledged, kept as ranges of request numbers: answers
//! come in order, so an undisturbed connection needs one range however long it runs.

use std::ops::Range;

#[derive(Debug, Default, Clone)]
pub struct Ledger {
    /// Ascending, not touching each other.
    acknowledged: Vec<Range<u64>>,
    /// Requests begun; numbers are 0 to this.
    pub request_count: u64,
}

impl Ledger {
    /// Numbers must come in ascending order.
    pub fn acknowledge(&mut self, request: u64) {
        match self.acknowledged.last_mut() {
            Some(last) if last.end == request => last.end += 1,
            last => {
                debug_assert!(last.is_none_or(|last| last.end < request));
                self.acknowledged.push(request..request + 1);
            }
        }
    }

    pub fn is_acknowledged(&self, request: u64) -> bool {
        let at = self.acknowledged.partition_point(|range| range.end <= request);
        self.acknowledged.get(at).is_some_and(|range| range.contains(&request))
    }

    /// How many acknowledged events have a number that leaves `residue` when divided by `modulus`.
    pub fn acknowledged_events(&self, batch: u64, residue: u64, modulus: u64) -> u64 {
        let below = |end: u64| (end + modulus - 1 - residue) / modulus;
        let ranges = self.acknowledged.iter();
        ranges.map(|range| below(range.end * batch) - below(range.start * batch)).sum()
    }

    /// The same of all events of requests that were begun.
    pub fn begun_events(&self, batch: u64, residue: u64, modulus: u64) -> u64 {
        (self.request_count * batch + modulus - 1 - residue) / modulus
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_grow_and_count() {
        let mut ledger = Ledger { request_count: 12, ..Ledger::default() };
        let acknowledged = [0, 1, 2, 5, 7, 8, 11];
        for request in acknowledged {
            ledger.acknowledge(request);
        }
        assert_eq!(ledger.acknowledged, [0..3, 5..6, 7..9, 11..12]);
        for request in 0..15 {
            assert_eq!(ledger.is_acknowledged(request), acknowledged.contains(&request));
        }
        for batch in [1, 3, 10, 100] {
            for residue in 0..10 {
                let events = acknowledged.iter().flat_map(|r| r * batch..(r + 1) * batch);
                let expected = events.filter(|event| event % 10 == residue).count() as u64;
                assert_eq!(ledger.acknowledged_events(batch, residue, 10), expected);
                let begun = (0..12 * batch).filter(|event| event % 10 == residue).count() as u64;
                assert_eq!(ledger.begun_events(batch, residue, 10), begun);
            }
        }
    }
}
