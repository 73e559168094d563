use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use proto::block::FLAG_CONTINUES;
use proto::{BlockHeader, BlockId, JournalId};

const LIMITS: BatchLimits = BatchLimits {
    rows_max: 10,
    bytes_max: 1_000,
    chain_bytes_max: 2_000,
    linger: Duration::from_millis(200),
    chain_wait: None,
};

fn block(source: usize, sequence: u64, rows: u32, bytes: usize, continues: bool) -> Block {
    let id = BlockId { journal_id: JournalId([source as u8; 16]), epoch: 1, sequence };
    let payload = Bytes::from(vec![0; bytes]);
    let flags = if continues { FLAG_CONTINUES } else { 0 };
    Block { header: BlockHeader::seal(id, 0, 0, flags, rows, &payload), payload }
}

fn sequences(batch: &Batch) -> Vec<u64> {
    batch.blocks.iter().map(|entry| entry.block.header.id.sequence).collect()
}

#[test]
fn nothing_waits_for_lost_blocks() {
    let now = Instant::now();
    let mut batcher = Batcher::new(LIMITS, 1);
    assert_eq!(batcher.lost(0, 3, now), Some(3), "nothing is before them");
    batcher.push(0, block(0, 4, 1, 10, false), now);
    batcher.push(0, block(0, 5, 1, 10, true), now);
    assert_eq!(batcher.lost(0, 7, now), None, "others are under way before them");
    let batch = batcher.take(now, true).unwrap();
    assert_eq!(sequences(&batch), [4, 5], "a chain that lost its end ends");
    assert_eq!(batcher.done(batch.id), [(0, 7)]);
}

#[test]
fn a_batch_waits_until_it_is_full_or_has_lingered() {
    let start = Instant::now();
    let mut batcher = Batcher::new(LIMITS, 1);
    batcher.push(0, block(0, 1, 4, 10, false), start);
    assert!(batcher.take(start, false).is_none());
    assert_eq!(batcher.due(), Some(start + LIMITS.linger));
    batcher.push(0, block(0, 2, 4, 10, false), start + LIMITS.linger / 2);
    let batch = batcher.take(start + LIMITS.linger, false).unwrap();
    assert_eq!((sequences(&batch), batch.rows, batch.bytes), (vec![1, 2], 8, 20));
    batcher.push(0, block(0, 3, 10, 10, false), start);
    assert_eq!(sequences(&batcher.take(start, false).unwrap()), [3]);
    batcher.push(0, block(0, 4, 1, 10, false), start);
    assert_eq!(sequences(&batcher.take(start, true).unwrap()), [4], "flushed");
}

#[test]
fn a_full_batch_stops_the_flow() {
    let now = Instant::now();
    let mut batcher = Batcher::new(LIMITS, 2);
    batcher.push(0, block(0, 1, 6, 10, false), now);
    assert!(batcher.wants(0) && batcher.wants(1));
    batcher.push(1, block(1, 1, 6, 10, false), now);
    assert!(!batcher.wants(0) && !batcher.wants(1));
    batcher.take(now, false).unwrap();
    assert!(batcher.wants(0) && batcher.wants(1));
}

#[test]
fn a_chain_goes_whole_even_above_the_bounds_and_waits_for_its_end() {
    let now = Instant::now();
    let mut batcher = Batcher::new(LIMITS, 2);
    batcher.push(0, block(0, 1, 8, 600, true), now);
    assert!(batcher.take(now, true).is_none(), "half a request is never sent");
    assert!(batcher.is_empty());
    batcher.push(1, block(1, 1, 1, 10, false), now);
    batcher.push(0, block(0, 2, 8, 600, false), now);
    let first = batcher.take(now, true).unwrap();
    let second = batcher.take(now, true).unwrap();
    assert_eq!((sequences(&first), first.rows), (vec![1], 1), "the other source does not wait");
    assert_eq!((sequences(&second), second.rows), (vec![1, 2], 16));
}

#[test]
fn a_chain_without_end_is_cut() {
    let now = Instant::now();
    let mut batcher = Batcher::new(LIMITS, 1);
    for sequence in 1..=3 {
        batcher.push(0, block(0, sequence, 1, 700, true), now);
    }
    assert_eq!(sequences(&batcher.take(now, false).unwrap()), [1, 2, 3]);
}

#[test]
fn marks_are_the_contiguous_prefix() {
    let now = Instant::now();
    let mut batcher = Batcher::new(LIMITS, 1);
    let mut ids = Vec::new();
    for sequence in [5, 6, 9] {
        batcher.push(0, block(0, sequence, 10, 10, false), now);
        ids.push(batcher.take(now, false).unwrap().id);
    }
    assert_eq!(batcher.done(ids[1]), []);
    assert_eq!(batcher.done(ids[2]), []);
    assert_eq!(batcher.done(ids[0]), [(0, 9)]);
    assert!(batcher.is_empty());
}

/// One step of the world around a batcher.
#[derive(Clone, Debug)]
enum Action {
    Push { source: usize, rows: u32, bytes: usize, continues: bool },
    Take { flush: bool },
    Finish { which: usize },
    Wait { ms: u64 },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..3usize, 1..8u32, 1..400usize, prop::bool::weighted(0.2)).prop_map(
            |(source, rows, bytes, continues)| Action::Push { source, rows, bytes, continues }
        ),
        3 => any::<bool>().prop_map(|flush| Action::Take { flush }),
        3 => (0..8usize).prop_map(|which| Action::Finish { which }),
        1 => (0..300u64).prop_map(|ms| Action::Wait { ms }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever the order of completions: no block is lost or sent twice, marks only grow, and a
    /// mark never passes a block that is not finished.
    #[test]
    fn no_block_is_lost_doubled_or_marked_early(actions in prop::collection::vec(action(), 0..200)) {
        let mut now = Instant::now();
        let mut batcher = Batcher::new(LIMITS, 3);
        let mut pushed: [Vec<(u64, bool)>; 3] = Default::default();
        let mut sent: [Vec<u64>; 3] = Default::default();
        let mut finished: [Vec<u64>; 3] = Default::default();
        let mut marked = [0u64; 3];
        let mut flying: Vec<Batch> = Vec::new();
        let end = [Action::Take { flush: true }, Action::Finish { which: 0 }];
        let ending = end.iter().cycle().take(2 * 200).cloned();
        for action in actions.into_iter().chain(ending) {
            match action {
                Action::Push { source, rows, bytes, continues } => if batcher.wants(source) {
                    let sequence = pushed[source].len() as u64 + 1;
                    pushed[source].push((sequence, continues));
                    batcher.push(source, block(source, sequence, rows, bytes, continues), now);
                },
                Action::Take { flush } => if let Some(batch) = batcher.take(now, flush) {
                    let units = batch.blocks.iter().filter(|entry| !entry.block.header.continues());
                    let within = batch.rows <= LIMITS.rows_max && batch.bytes <= LIMITS.bytes_max;
                    prop_assert!(within || units.count() <= 1, "only one chain exceeds a bound");
                    for entry in &batch.blocks {
                        sent[entry.source].push(entry.block.header.id.sequence);
                    }
                    flying.push(batch);
                },
                Action::Finish { which } => if !flying.is_empty() {
                    let batch = flying.remove(which % flying.len());
                    for entry in &batch.blocks {
                        finished[entry.source].push(entry.block.header.id.sequence);
                    }
                    for (source, through) in batcher.done(batch.id) {
                        prop_assert!(through > marked[source], "marks only grow");
                        marked[source] = through;
                        for sequence in 1..=through {
                            prop_assert!(finished[source].contains(&sequence), "marked early");
                        }
                    }
                },
                Action::Wait { ms } => now += Duration::from_millis(ms),
            }
            for sent in &sent {
                let order: Vec<u64> = (1..=sent.len() as u64).collect();
                prop_assert_eq!(sent, &order, "each block once, in order");
            }
        }
        prop_assert!(batcher.is_empty());
        for source in 0..3 {
            // All but an unfinished chain at the end.
            let whole = pushed[source].iter().rev().skip_while(|(_, continues)| *continues).count();
            prop_assert!(marked[source] as usize >= whole, "{} of {whole}", marked[source]);
            prop_assert_eq!(marked[source] as usize, sent[source].len());
        }
    }
}

#[test]
fn blocks_may_come_again_and_out_of_order() {
    let now = Instant::now();
    let mut batcher = Batcher::new(LIMITS, 1);
    for sequence in [9, 4, 5] {
        batcher.push(0, block(0, sequence, 10, 10, false), now);
    }
    let batches: Vec<Batch> = std::iter::from_fn(|| batcher.take(now, false)).collect();
    assert_eq!(batcher.done(batches[1].id), []);
    assert_eq!(batcher.done(batches[0].id), [(0, 4)], "9 came before 4");
    assert_eq!(batcher.done(batches[2].id), [(0, 5)]);
}

#[test]
fn a_chain_whose_end_went_another_way_goes_alone_after_a_while() {
    let now = Instant::now();
    let wait = Duration::from_secs(1);
    let mut batcher = Batcher::new(BatchLimits { chain_wait: Some(wait), ..LIMITS }, 1);
    batcher.push(0, block(0, 1, 10, 10, true), now);
    assert_eq!(batcher.due(), Some(now + wait));
    assert!(batcher.take(now + wait / 2, true).is_none());
    assert_eq!(sequences(&batcher.take(now + wait, false).unwrap()), [1]);
    let mut patient = Batcher::new(LIMITS, 1);
    patient.push(0, block(0, 1, 10, 10, true), now);
    assert_eq!(patient.due(), None);
    assert!(patient.take(now + 100 * wait, true).is_none());
}
