//! Answers that wait for Kafka: a 200 goes when its blocks are synced here and either Kafka has
//! acknowledged them, or their deadline is over, or Kafka's acknowledgements are not to be had.
//!
//! Pure but for the atomics that the shard shares with the lane that sends its blocks. Without Kafka
//! none of this is there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a shard and its lane tell each other. How far Kafka has the shard's blocks is the journal's
/// forwarded mark.
#[derive(Debug, Default)]
pub struct DeliveryWatch {
    /// Kafka's acknowledgements come in time just now.
    acks: AtomicBool,
    /// The lowest sequence that an answer waits for; 0 for none.
    awaited: AtomicU64,
}

impl DeliveryWatch {
    /// For the lane: gives whether the shard must be told.
    pub fn set_acks(&self, acks: bool) -> bool {
        let before = self.acks.swap(acks, Ordering::AcqRel);
        before && !acks
    }

    pub fn acks(&self) -> bool {
        self.acks.load(Ordering::Acquire)
    }

    /// For the lane, after the mark has moved to `sequence`: whether somebody waits for that.
    pub fn is_awaited(&self, sequence: u64) -> bool {
        let awaited = self.awaited.load(Ordering::SeqCst);
        awaited != 0 && awaited <= sequence
    }
}

/// A shard's answers that wait.
pub(super) struct DeliveryWait {
    watch: Arc<DeliveryWatch>,
    deadline_us: u64,
    /// Blocks whose requests wait, in order, and until when at most: a deadline is that of the last
    /// request in its block, so that none is answered before its time.
    waits: VecDeque<(u64, u64)>,
    /// All answers up to this block may go.
    acked_through: u64,
    synced_through: u64,
}

impl DeliveryWait {
    pub fn new(watch: Arc<DeliveryWatch>, deadline_us: u64, synced_through: u64) -> DeliveryWait {
        let waits = VecDeque::new();
        DeliveryWait { watch, deadline_us, waits, acked_through: synced_through, synced_through }
    }

    pub fn acked_through(&self) -> u64 {
        self.acked_through
    }

    /// A request's rows went to block `sequence`.
    pub fn on_accepted(&mut self, sequence: u64, now_us: u64) {
        if sequence <= self.acked_through {
            return;
        }
        let until_us = now_us + self.deadline_us;
        match self.waits.back_mut() {
            Some((last, until)) if *last == sequence => *until = until_us,
            _ => self.waits.push_back((sequence, until_us)),
        }
    }

    /// Moves the watermark as far as sync, `delivered` and deadlines allow.
    pub fn advance(&mut self, synced_through: u64, delivered: impl Fn() -> u64, now_us: u64) {
        self.synced_through = synced_through;
        loop {
            let delivered_through = if self.watch.acks() { delivered() } else { u64::MAX };
            let mut through = self.acked_through.max(delivered_through.min(synced_through));
            while let Some((sequence, until_us)) = self.waits.front().copied()
                && sequence <= synced_through
                && (sequence <= through || now_us >= until_us)
            {
                through = through.max(sequence);
                self.waits.pop_front();
            }
            self.acked_through = through;
            let awaited = self.waits.front().map_or(0, |(sequence, _)| *sequence);
            self.watch.awaited.store(awaited, Ordering::SeqCst);
            // What was delivered before the lane could see that it is waited for. Where the order of
            // the two is lost, the deadline finds it.
            if awaited == 0 || awaited > synced_through || awaited > delivered() {
                return;
            }
        }
    }

    pub fn is_waiting(&self) -> bool {
        !self.waits.is_empty()
    }

    /// When an answer goes though Kafka has said nothing. One whose block is not synced waits for
    /// that alone.
    pub fn next_deadline_us(&self) -> u64 {
        match self.waits.front() {
            Some((sequence, until_us)) if *sequence <= self.synced_through => *until_us,
            _ => u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(acks: bool) -> DeliveryWait {
        let watch = Arc::new(DeliveryWatch::default());
        watch.set_acks(acks);
        DeliveryWait::new(watch, 5_000, 10)
    }

    #[track_caller]
    fn check(wait: &mut DeliveryWait, synced: u64, delivered: u64, now_us: u64, acked: u64) {
        wait.advance(synced, || delivered, now_us);
        assert_eq!(wait.acked_through(), acked);
    }

    #[test]
    fn nothing_goes_before_its_sync() {
        let mut wait = waiting(true);
        wait.on_accepted(11, 0);
        check(&mut wait, 10, 99, 0, 10);
        check(&mut wait, 10, 10, 9_000, 10);
        assert_eq!(wait.next_deadline_us(), u64::MAX, "time alone cannot help it");
        check(&mut wait, 11, 10, 9_000, 11);
    }

    #[test]
    fn delivery_lets_go_what_is_synced() {
        let mut wait = waiting(true);
        wait.on_accepted(11, 0);
        wait.on_accepted(12, 100);
        check(&mut wait, 12, 10, 200, 10);
        assert_eq!(wait.next_deadline_us(), 5_000);
        assert!(wait.watch.is_awaited(11) && !wait.watch.is_awaited(10));
        check(&mut wait, 12, 11, 300, 11);
        assert_eq!(wait.next_deadline_us(), 5_100);
        check(&mut wait, 12, 12, 300, 12);
        assert!(!wait.is_waiting() && !wait.watch.is_awaited(u64::MAX));
    }

    #[test]
    fn the_deadline_is_the_last_requests_of_a_block() {
        let mut wait = waiting(true);
        wait.on_accepted(11, 0);
        wait.on_accepted(11, 900);
        check(&mut wait, 11, 10, 5_000, 10);
        check(&mut wait, 11, 10, 5_900, 11);
    }

    #[test]
    fn without_kafkas_word_the_sync_is_enough() {
        let mut wait = waiting(false);
        wait.on_accepted(11, 0);
        wait.on_accepted(12, 0);
        check(&mut wait, 11, 10, 1, 11);
        wait.watch.set_acks(true);
        check(&mut wait, 12, 10, 1, 11);
        assert!(wait.watch.set_acks(false), "somebody waits: the shard must turn");
        check(&mut wait, 12, 10, 1, 12);
    }
}
