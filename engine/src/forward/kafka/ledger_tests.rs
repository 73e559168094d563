use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[test]
fn the_mark_moves_over_done_blocks_alone() {
    let mut ledger = Ledger::default();
    for sequence in 5..9 {
        ledger.on_sent(sequence);
    }
    ledger.on_delivered(6);
    assert_eq!(ledger.take_mark(), None);
    ledger.on_delivered(5);
    assert_eq!(ledger.take_mark(), Some(6));
    assert_eq!(ledger.take_mark(), None, "told once");
    ledger.on_failed(7);
    ledger.on_delivered(8);
    assert_eq!((ledger.take_mark(), ledger.next_for_kafka()), (None, Wanted::Again(7)));
    ledger.on_sent(7);
    ledger.on_delivered(7);
    assert_eq!(ledger.take_mark(), Some(8));
    assert!(ledger.is_empty());
}

#[test]
fn a_block_that_kafka_refuses_holds_nothing_else_up() {
    let mut ledger = Ledger::default();
    ledger.on_sent(1);
    ledger.on_rejected(1);
    assert_eq!((ledger.next_alone(), ledger.direct_only()), (Some(1), 0), "once more, alone");
    assert_eq!(ledger.next_for_kafka(), Wanted::Unread);
    ledger.on_sent(1);
    ledger.on_failed(1);
    assert_eq!(ledger.next_alone(), Some(1), "that says nothing of the block");
    ledger.on_sent(1);
    ledger.on_rejected(1);
    assert_eq!((ledger.next_alone(), ledger.next_for_kafka()), (None, Wanted::Unread));
    assert_eq!((ledger.next_direct_only(), ledger.direct_only()), (Some(1), 1));
    ledger.on_handed(1);
    assert_eq!((ledger.next_direct_only(), ledger.next_for_direct()), (None, Wanted::Unread));
    ledger.reclaim_handed();
    assert_eq!(ledger.next_for_kafka(), Wanted::Unread, "Kafka will not take it back either");
    ledger.on_direct_done(1);
    assert_eq!((ledger.take_mark(), ledger.direct_only()), (Some(1), 0));
}

#[test]
fn what_both_routes_have_is_done_with_the_first() {
    let mut ledger = Ledger::default();
    ledger.on_handed(1);
    ledger.reclaim_handed();
    assert!(ledger.is_with_direct(1));
    ledger.on_sent(1);
    ledger.on_direct_done(1);
    assert_eq!(ledger.take_mark(), Some(1));
    ledger.on_failed(1);
    ledger.on_delivered(1);
    assert!(ledger.is_empty() && !ledger.has_handed());
}

#[test]
fn lost_blocks_are_not_waited_for() {
    let mut ledger = Ledger::default();
    for sequence in 1..5 {
        ledger.on_sent(sequence);
    }
    ledger.on_producer_gone();
    ledger.on_lost(1, 3);
    assert_eq!((ledger.take_mark(), ledger.next_for_kafka()), (Some(3), Wanted::Again(4)));
}

/// Nothing may come behind them that would move the mark over them.
#[test]
fn lost_blocks_at_the_end_hold_nothing_up() {
    let mut ledger = Ledger::default();
    ledger.on_sent(1);
    ledger.on_lost(2, 3);
    assert_eq!((ledger.take_mark(), ledger.is_empty()), (None, false), "1 is under way");
    ledger.on_delivered(1);
    assert_eq!((ledger.take_mark(), ledger.is_empty()), (Some(3), true));
    ledger.on_lost(4, 6);
    assert_eq!((ledger.take_mark(), ledger.is_empty()), (Some(6), true));
}

/// The direct route's is the last one, so that the mark waits for it.
#[test]
fn a_lost_block_that_the_direct_route_has_is_waited_for() {
    let mut ledger = Ledger::default();
    ledger.on_handed(1);
    ledger.on_sent(2);
    ledger.reclaim_handed();
    ledger.on_failed(2);
    ledger.on_lost(1, 2);
    assert_eq!((ledger.take_mark(), ledger.next_for_kafka()), (None, Wanted::Unread));
    ledger.reclaim_handed();
    assert_eq!(ledger.next_for_direct(), Wanted::Unread, "nobody reads it again");
    ledger.on_direct_done(1);
    assert_eq!((ledger.take_mark(), ledger.direct_only()), (Some(2), 0));
    assert!(ledger.is_empty());
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send,
    Hand,
    Deliver(u8),
    Fail(u8),
    Reject(u8),
    DirectDone(u8),
    Reclaim,
    ProducerGone,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Send),
        2 => Just(Step::Hand),
        4 => any::<u8>().prop_map(Step::Deliver),
        2 => any::<u8>().prop_map(Step::Fail),
        1 => any::<u8>().prop_map(Step::Reject),
        3 => any::<u8>().prop_map(Step::DirectDone),
        1 => Just(Step::Reclaim),
        1 => Just(Step::ProducerGone),
    ];
    proptest::collection::vec(step, 1..200)
}

/// The model: for each block, in whose hands it is, kept as plainly as can be.
#[derive(Clone, Copy, Debug, Default)]
struct Model {
    in_flight: bool,
    handed: bool,
    alone: bool,
    direct_only: bool,
    done: bool,
}

struct Run {
    ledger: Ledger,
    blocks: BTreeMap<u64, Model>,
    unread: u64,
    mark: u64,
}

impl Run {
    fn take(&mut self, wanted: Wanted) -> u64 {
        match wanted {
            Wanted::Again(sequence) => {
                assert!(!self.blocks[&sequence].done, "block {sequence} is done");
                assert!(!self.blocks[&sequence].in_flight, "block {sequence} is in flight");
                sequence
            }
            Wanted::Unread => {
                self.unread += 1;
                self.blocks.insert(self.unread, Model::default());
                self.unread
            }
        }
    }

    fn pick(&self, seed: u8, of: impl Fn(&Model) -> bool) -> Option<u64> {
        let those: Vec<u64> =
            self.blocks.iter().filter(|(_, block)| of(block)).map(|(at, _)| *at).collect();
        (!those.is_empty()).then(|| those[seed as usize % those.len()])
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send => {
                let alone = self.ledger.next_alone();
                let wanted = alone.map_or(self.ledger.next_for_kafka(), Wanted::Again);
                let sequence = self.take(wanted);
                assert_eq!(self.blocks[&sequence].alone, alone.is_some(), "block {sequence}");
                let block = self.blocks.get_mut(&sequence).unwrap();
                assert!(!block.direct_only, "Kafka was asked again for block {sequence}");
                block.in_flight = true;
                self.ledger.on_sent(sequence);
            }
            Step::Hand => {
                let sequence = self.take(self.ledger.next_for_direct());
                let with_direct = self.ledger.is_with_direct(sequence);
                let block = self.blocks.get_mut(&sequence).unwrap();
                assert_eq!(with_direct, block.handed, "block {sequence}");
                block.handed = true;
                match with_direct {
                    true => self.ledger.leave_to_direct(sequence),
                    false => self.ledger.on_handed(sequence),
                }
            }
            Step::Deliver(seed) => self.answer(seed, Ledger::on_delivered, |block| {
                block.done = true;
            }),
            Step::Fail(seed) => self.answer(seed, Ledger::on_failed, |_| {}),
            Step::Reject(seed) => self.answer(seed, Ledger::on_rejected, |block| {
                block.direct_only = block.alone;
                block.alone = true;
            }),
            Step::DirectDone(seed) => {
                if let Some(sequence) = self.pick(seed, |block| block.handed) {
                    let block = self.blocks.get_mut(&sequence).unwrap();
                    (block.handed, block.done) = (false, true);
                    self.ledger.on_direct_done(sequence);
                }
            }
            Step::Reclaim => self.ledger.reclaim_handed(),
            Step::ProducerGone => {
                self.blocks.values_mut().for_each(|block| block.in_flight = false);
                self.ledger.on_producer_gone();
            }
        }
    }

    fn answer(&mut self, seed: u8, tell: fn(&mut Ledger, u64), change: fn(&mut Model)) {
        if let Some(sequence) = self.pick(seed, |block| block.in_flight) {
            let block = self.blocks.get_mut(&sequence).unwrap();
            block.in_flight = false;
            change(block);
            tell(&mut self.ledger, sequence);
        }
    }

    fn check(&mut self) {
        let first_open = self.blocks.iter().find(|(_, block)| !block.done).map(|(at, _)| *at);
        let expected = first_open.unwrap_or(self.unread + 1) - 1;
        if let Some(mark) = self.ledger.take_mark() {
            assert!(mark > self.mark, "the mark went back from {} to {mark}", self.mark);
            self.mark = mark;
        }
        assert_eq!(self.mark, expected);
        assert_eq!(self.ledger.is_empty(), first_open.is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn it_agrees_with_the_model_and_forgets_no_block(steps in steps()) {
        let ledger = Ledger::default();
        let mut run = Run { ledger, blocks: BTreeMap::new(), unread: 0, mark: 0 };
        for step in steps {
            run.step(step);
            run.check();
        }
        // Whatever happened, answers to all that is out and sending again ends it.
        run.step(Step::ProducerGone);
        run.ledger.reclaim_handed();
        let left = |ledger: &Ledger| {
            ledger.next_alone().is_some() || ledger.next_for_kafka() != Wanted::Unread
        };
        while left(&run.ledger) {
            run.step(Step::Send);
            run.step(Step::Deliver(0));
        }
        while run.ledger.next_direct_only().is_some() {
            run.step(Step::Hand);
        }
        while run.pick(0, |block| block.handed).is_some() {
            run.step(Step::DirectDone(0));
        }
        run.check();
        prop_assert!(run.ledger.is_empty() && !run.ledger.has_handed());
    }
}
