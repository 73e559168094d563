//! The forwarder against a stand-in for ClickHouse's HTTP: nothing lost, nothing marked early.
#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, which misses their helper functions"
)]

mod forward_stand_in;

use engine::admin::{Component, Health, Level};
use engine::config::Config;
use engine::forward::dead::read_dead_letters;
use engine::forward::{BlockSource, Forwarder, SourceError};
use engine::metrics::ForwardCounters;
use forward_stand_in::{Feed, MemorySource, Reply, SharedFeed, StandIn, block, wait_until};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A running forwarder with sources in memory.
struct Stage {
    forwarder: Option<Forwarder>,
    feeds: Vec<SharedFeed>,
    counters: Arc<ForwardCounters>,
    health: Arc<Health>,
    directory: tempfile::TempDir,
}

fn stage(url: &str, feeds: Vec<SharedFeed>, change: impl FnOnce(&mut Config)) -> Stage {
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.journal.dir = directory.path().to_owned();
    config.clickhouse.url = url.to_owned();
    config.clickhouse.linger_ms = 20;
    config.clickhouse.retry_min_ms = 5;
    config.clickhouse.breaker_open_ms = 50;
    change(&mut config);
    let sources: Vec<Box<dyn BlockSource>> = feeds
        .iter()
        .map(|feed| Box::new(MemorySource(feed.clone())) as Box<dyn BlockSource>)
        .collect();
    let (counters, health) = (Arc::<ForwardCounters>::default(), Health::new(0));
    let forwarder = Forwarder::start(&config, sources, counters.clone(), health.clone()).unwrap();
    Stage { forwarder: Some(forwarder), feeds, counters, health, directory }
}

impl Stage {
    fn last_mark(&self, source: usize) -> u64 {
        self.feeds[source].lock().unwrap().marked.last().copied().unwrap_or(0)
    }

    fn reason(&self, component: Component) -> String {
        let report = self.health.report();
        let found = report.ailments.into_iter().find(|ailment| ailment.component == component);
        found.map_or(String::new(), |ailment| ailment.reason)
    }
}

/// Blocks 1, 2, … of ten rows each; users go on from source to source.
fn feed(source: u8, blocks: u64, first_user: u64) -> SharedFeed {
    let feed = SharedFeed::default();
    for index in 0..blocks {
        let begin = first_user + index * 10;
        feed.lock().unwrap().blocks.push_back(block(source, index + 1, begin..begin + 10, false));
    }
    feed
}

fn once_each(users: Range<u64>) -> BTreeMap<u64, u64> {
    users.map(|user| (user, 1)).collect()
}

#[test]
fn every_block_of_every_source_is_inserted_once_and_marked() {
    let clickhouse = StandIn::start(|_| Reply::Take);
    let feeds = vec![feed(1, 50, 0), feed(2, 30, 500)];
    let stage = stage(&clickhouse.url(), feeds, |config| {
        config.clickhouse.rows_per_insert_max = 70;
    });
    wait_until("all is marked", || (stage.last_mark(0), stage.last_mark(1)) == (50, 30));
    assert_eq!(clickhouse.stored(), once_each(0..800));
    let seen = clickhouse.seen.lock().unwrap();
    assert!(seen.inserts.iter().all(|insert| insert.users.len() <= 70), "rows_per_insert_max");
    assert!(seen.in_flight_max <= 2, "inserts_in_flight_max: {}", seen.in_flight_max);
    assert_eq!(stage.counters.rows.load(Ordering::Relaxed), 800);
    assert_eq!(stage.health.level(Component::Clickhouse), Level::Ok);
}

#[test]
fn an_insert_is_what_the_settings_and_names_say() {
    let clickhouse = StandIn::start(|_| Reply::Take);
    let stage = stage(&clickhouse.url(), vec![feed(1, 1, 0)], |config| {
        config.clickhouse.user = "loader".to_owned();
        config.clickhouse.password = engine::config::Secret::new("s3cret");
        config.clickhouse.database = "shop".to_owned();
    });
    wait_until("marked", || stage.last_mark(0) == 1);
    let seen = clickhouse.seen.lock().unwrap();
    let insert = &seen.inserts[0];
    let query = "query=insert%20into%20shop.events%20%28app_id%2c%20event_id%2c";
    let settings = ["async_insert=0", "max_insert_threads=1", "min_insert_block_size_rows=0"];
    for part in [query].iter().chain(&settings) {
        assert!(insert.target.contains(part), "{part} is missing in {}", insert.target);
    }
    for line in ["x-clickhouse-user: loader", "x-clickhouse-key: s3cret", "content-length: "] {
        assert!(insert.head.contains(line), "{line} is missing in {}", insert.head);
    }
    assert_eq!(insert.token.len(), 64);
}

#[test]
fn a_failed_insert_is_repeated_with_the_same_token_and_rows() {
    for code in [252, 202, 241, 209, 210] {
        let mut failures = 3;
        let clickhouse = StandIn::start(move |_| {
            failures -= 1;
            if failures >= 0 { Reply::Refuse(500, code) } else { Reply::Take }
        });
        let stage = stage(&clickhouse.url(), vec![feed(1, 5, 0)], |_| {});
        wait_until("marked", || stage.last_mark(0) == 5);
        let seen = clickhouse.seen.lock().unwrap();
        let first = &seen.inserts[0];
        let same = |insert: &&forward_stand_in::Insert| insert.token == first.token;
        let repeated: Vec<_> = seen.inserts.iter().filter(same).collect();
        assert!(repeated.len() >= 2, "{code}");
        assert!(repeated.iter().all(|insert| insert.users == first.users), "{code}");
        drop(seen);
        assert_eq!(clickhouse.stored(), once_each(0..50), "{code}");
        assert_eq!(stage.counters.dead_rows.load(Ordering::Relaxed), 0, "{code}");
    }
}

#[test]
fn an_insert_of_unknown_outcome_is_not_doubled() {
    let mut answers = [Reply::TakeAndClose, Reply::Hang].into_iter();
    let clickhouse = StandIn::start(move |_| answers.next().unwrap_or(Reply::Take));
    let stage = stage(&clickhouse.url(), vec![feed(1, 3, 0)], |config| {
        config.clickhouse.timeout_ms = 200;
    });
    wait_until("marked", || stage.last_mark(0) == 3);
    assert_eq!(clickhouse.stored(), once_each(0..30));
    assert!(clickhouse.seen.lock().unwrap().inserts.len() >= 3);
}

#[test]
fn a_bad_row_is_put_aside_before_its_block_is_marked() {
    let clickhouse = StandIn::start(|insert| {
        if insert.users.contains(&17) { Reply::Refuse(400, 33) } else { Reply::Take }
    });
    let stage = stage(&clickhouse.url(), vec![feed(1, 4, 0)], |_| {});
    wait_until("marked", || stage.last_mark(0) == 4);
    let expected: BTreeMap<u64, u64> = (0..40).filter(|user| *user != 17).map(|u| (u, 1)).collect();
    assert_eq!(clickhouse.stored(), expected);
    let letters = read_dead_letters(&stage.directory.path().join("dead")).unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].block.sequence, letters[0].row_index, letters[0].code), (2, 7, 33));
    assert!(letters[0].reason.contains("scripted"), "{}", letters[0].reason);
    assert_eq!(stage.counters.dead_rows.load(Ordering::Relaxed), 1);
    assert_eq!(stage.health.level(Component::Forwarder), Level::Ok);
}

#[test]
fn an_insert_that_began_before_a_refusal_is_no_witness() {
    let gate = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let opens = gate.clone();
    let clickhouse = StandIn::start(move |insert| match insert.users[0] {
        0 => Reply::TakeWhen(opens.clone()),
        500 => Reply::Refuse(400, 33),
        _ => Reply::Take,
    });
    let feeds = vec![feed(1, 1, 0), SharedFeed::default()];
    let stage = stage(&clickhouse.url(), feeds, |_| {});
    let sent = |user| {
        let seen = clickhouse.seen.lock().unwrap();
        seen.inserts.iter().filter(|insert| insert.users[0] == user).count()
    };
    wait_until("the early one is under way", || sent(0) == 1);
    stage.feeds[1].lock().unwrap().blocks.push_back(block(2, 1, 500..501, false));
    wait_until("the other is refused", || sent(500) >= 2);
    gate.store(true, Ordering::Release);
    wait_until("the early one is taken", || stage.last_mark(0) == 1);
    let before = sent(500);
    wait_until("the other is refused again", || sent(500) >= before + 3);
    assert_eq!(stage.last_mark(1), 0, "nobody has shown that the row is bad");
    stage.feeds[0].lock().unwrap().blocks.push_back(block(1, 2, 10..11, false));
    wait_until("the later one shows it", || stage.last_mark(1) == 1);
    assert_eq!(stage.counters.dead_rows.load(Ordering::Relaxed), 1);
}

/// Refuses everything with this code until told to take it; nothing may be lost or put aside.
fn check_wait(code: u32) {
    let open = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let opened = open.clone();
    let clickhouse = StandIn::start(move |_| {
        if opened.load(Ordering::Acquire) { Reply::Take } else { Reply::Refuse(404, code) }
    });
    let stage = stage(&clickhouse.url(), vec![feed(1, 6, 0)], |_| {});
    wait_until("the state is visible", || !stage.reason(Component::Forwarder).is_empty());
    let reason = stage.reason(Component::Forwarder);
    assert!(reason.contains(&format!("Code: {code}")), "{reason}");
    assert_eq!(stage.counters.stopped.load(Ordering::Relaxed), 1, "{code}");
    assert_eq!(stage.last_mark(0), 0, "{code}");
    open.store(true, Ordering::Release);
    wait_until("marked", || stage.last_mark(0) == 6);
    assert_eq!(clickhouse.stored(), once_each(0..60), "{code}");
    assert_eq!(read_dead_letters(&stage.directory.path().join("dead")).unwrap(), [], "{code}");
    assert_eq!(stage.counters.stopped.load(Ordering::Relaxed), 0, "{code}");
    assert_eq!(stage.reason(Component::Forwarder), "", "{code}");
}

#[test]
fn a_missing_table_missing_rights_and_whole_refusals_are_waited_out() {
    [60, 81, 516, 497, 33].into_iter().for_each(check_wait);
}

#[test]
fn the_drain_resumes_soon_after_clickhouse_is_back() {
    // An address that refuses connections, which is where ClickHouse comes back later.
    let address = {
        let stand_in = StandIn::start(|_| Reply::Take);
        stand_in.address
    };
    let feeds = vec![feed(1, 40, 0)];
    let stage = stage(&format!("http://{address}"), feeds, |config| {
        config.clickhouse.rows_per_insert_max = 50;
        config.clickhouse.retry_min_ms = 100;
        config.clickhouse.breaker_open_ms = 1_000;
    });
    wait_until("the breaker is open", || {
        stage.counters.breaker_state.load(Ordering::Relaxed) == 2
            && stage.health.level(Component::Clickhouse) == Level::Degraded
    });
    assert!(!stage.reason(Component::Clickhouse).is_empty());
    let clickhouse = StandIn::start_at(address, Arc::default(), |_| Reply::Take);
    let back = Instant::now();
    wait_until("marked", || stage.last_mark(0) == 40);
    assert!(back.elapsed() < Duration::from_secs(2), "drained after {:?}", back.elapsed());
    assert_eq!(clickhouse.stored(), once_each(0..400));
    assert_eq!(stage.counters.breaker_state.load(Ordering::Relaxed), 0);
    assert_eq!(stage.health.level(Component::Clickhouse), Level::Ok);
}

#[test]
fn a_backlog_of_100_000_events_is_in_within_two_seconds() {
    let clickhouse = StandIn::start(|_| Reply::Take);
    let feed = SharedFeed::default();
    for index in 0..50 {
        let begin = index * 2_000;
        feed.lock().unwrap().blocks.push_back(block(1, index + 1, begin..begin + 2_000, false));
    }
    let begin = Instant::now();
    let stage = stage(&clickhouse.url(), vec![feed], |config| config.clickhouse.linger_ms = 200);
    wait_until("marked", || stage.last_mark(0) == 50);
    assert!(begin.elapsed() < Duration::from_secs(2), "after {:?}", begin.elapsed());
    assert_eq!(clickhouse.stored().len(), 100_000);
}

#[test]
fn a_chain_arrives_in_one_insert() {
    let clickhouse = StandIn::start(|_| Reply::Take);
    let feed = SharedFeed::default();
    for (sequence, continues) in [(1, true), (2, true), (3, false)] {
        let users = (sequence - 1) * 10..sequence * 10;
        feed.lock().unwrap().blocks.push_back(block(1, sequence, users, continues));
    }
    let stage = stage(&clickhouse.url(), vec![feed], |config| {
        config.clickhouse.rows_per_insert_max = 5;
    });
    wait_until("marked", || stage.last_mark(0) == 3);
    let seen = clickhouse.seen.lock().unwrap();
    assert_eq!(seen.inserts.len(), 1);
    assert_eq!(seen.inserts[0].users, (0..30).collect::<Vec<_>>());
}

#[test]
fn a_source_that_fails_for_now_is_asked_again_and_a_failed_mark_repeated() {
    let clickhouse = StandIn::start(|_| Reply::Take);
    let feeds = vec![feed(1, 2, 0)];
    feeds[0].lock().unwrap().fail_next = Some(SourceError::Retry("scripted".to_owned()));
    feeds[0].lock().unwrap().fail_marks = 1;
    let stage = stage(&clickhouse.url(), feeds, |_| {});
    wait_until("marked", || stage.last_mark(0) == 2);
    assert_eq!(clickhouse.stored(), once_each(0..20));
}

/// `journal drain` ends when the forwarder is idle: it must not be while a source rests.
#[test]
fn a_source_that_rests_after_an_error_is_not_idle() {
    let clickhouse = StandIn::start(|_| Reply::Take);
    let feeds = vec![feed(1, 2, 0)];
    feeds[0].lock().unwrap().fail_next = Some(SourceError::Retry("scripted".to_owned()));
    let stage = stage(&clickhouse.url(), feeds, |_| {});
    let forwarder = stage.forwarder.as_ref().unwrap();
    wait_until("the forwarder says that it is idle", || forwarder.is_idle());
    assert_eq!((stage.last_mark(0), clickhouse.stored()), (2, once_each(0..20)));
}

#[test]
fn an_insert_without_an_answer_is_told_of_long_before_it_is_given_up() {
    let clickhouse = StandIn::start(|_| Reply::Hang);
    let stage = stage(&clickhouse.url(), vec![feed(1, 1, 0)], |config| {
        config.clickhouse.timeout_ms = 600_000;
    });
    wait_until("the silence is told of", || {
        stage.reason(Component::Clickhouse).contains("had no answer for")
    });
}

#[test]
fn a_damaged_source_is_reported_and_does_not_stop_the_others() {
    let clickhouse = StandIn::start(|_| Reply::Take);
    let feeds = vec![feed(1, 2, 0), feed(2, 2, 20)];
    feeds[0].lock().unwrap().fail_next = Some(SourceError::Fatal("scripted damage".to_owned()));
    let stage = stage(&clickhouse.url(), feeds, |_| {});
    wait_until("the other is marked", || stage.last_mark(1) == 2);
    let reason = stage.reason(Component::Forwarder);
    assert!(reason.contains("shard 0") && reason.contains("scripted damage"), "{reason}");
    assert_eq!(clickhouse.stored(), once_each(20..40));
}

#[test]
fn a_forwarder_that_panics_is_told_of() {
    let clickhouse = StandIn::start(|_| Reply::Take);
    let mut stage = stage(&clickhouse.url(), vec![feed(1, 1, 0)], |_| {});
    wait_until("marked", || stage.last_mark(0) == 1);
    stage.feeds[0].lock().unwrap().panic_next = true;
    wait_until("it is told of", || stage.reason(Component::Forwarder).contains("panic"));
    assert_eq!(stage.health.level(Component::Forwarder), Level::Degraded);
    assert!(!stage.forwarder.take().unwrap().stop(Instant::now()), "something may be left");
}

#[test]
fn stopping_flushes_without_lingering() {
    let clickhouse = StandIn::start(|_| Reply::Take);
    let mut stage = stage(&clickhouse.url(), vec![feed(1, 3, 0)], |config| {
        config.clickhouse.linger_ms = 60_000;
    });
    wait_until("taken", || stage.feeds[0].lock().unwrap().blocks.is_empty());
    let forwarder = stage.forwarder.take().unwrap();
    assert!(!forwarder.is_idle());
    let begin = Instant::now();
    assert!(forwarder.stop(begin + Duration::from_secs(10)), "nothing is left");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!((stage.last_mark(0), clickhouse.stored()), (3, once_each(0..30)));
}

#[test]
fn stopping_ends_at_its_deadline_and_marks_nothing_it_does_not_know() {
    let clickhouse = StandIn::start(|_| Reply::Hang);
    let mut stage = stage(&clickhouse.url(), vec![feed(1, 3, 0)], |_| {});
    wait_until("sent", || !clickhouse.seen.lock().unwrap().inserts.is_empty());
    let begin = Instant::now();
    let forwarder = stage.forwarder.take().unwrap();
    assert!(!forwarder.stop(begin + Duration::from_millis(300)), "something is left");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert_eq!(stage.last_mark(0), 0);
}

#[test]
fn stopping_does_not_wait_for_what_is_refused() {
    let clickhouse = StandIn::start(|_| Reply::Refuse(400, 33));
    let mut stage = stage(&clickhouse.url(), vec![feed(1, 3, 0)], |config| {
        config.clickhouse.retry_min_ms = 60_000;
        config.clickhouse.retry_max_ms = 60_000;
    });
    wait_until("told of", || stage.reason(Component::Forwarder).contains("refuses"));
    drop(clickhouse);
    let begin = Instant::now();
    let forwarder = stage.forwarder.take().unwrap();
    assert!(!forwarder.stop(begin + Duration::from_secs(20)), "something is left");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(stage.last_mark(0), 0);
}

#[test]
fn a_feed_that_grows_is_followed() {
    let clickhouse = StandIn::start(|_| Reply::Take);
    let feeds = vec![Arc::new(std::sync::Mutex::new(Feed::default()))];
    let stage = stage(&clickhouse.url(), feeds, |config| config.clickhouse.linger_ms = 200);
    wait_until("idle", || stage.forwarder.as_ref().unwrap().is_idle());
    let posted = Instant::now();
    stage.feeds[0].lock().unwrap().blocks.push_back(block(1, 1, 0..1, false));
    wait_until("marked", || stage.last_mark(0) == 1);
    assert!(posted.elapsed() < Duration::from_secs(1), "visible after {:?}", posted.elapsed());
}

#[test]
fn nothing_is_marked_while_dead_letters_cannot_be_written() {
    let clickhouse = StandIn::start(|insert| {
        if insert.users.contains(&3) { Reply::Refuse(400, 33) } else { Reply::Take }
    });
    let feeds = vec![Arc::new(std::sync::Mutex::new(Feed::default()))];
    let stage = stage(&clickhouse.url(), feeds, |_| {});
    let in_the_way = stage.directory.path().join("dead");
    std::fs::write(&in_the_way, "").unwrap();
    stage.feeds[0].lock().unwrap().blocks.push_back(block(1, 1, 0..10, false));
    wait_until("the state is visible", || {
        stage.reason(Component::Forwarder).contains("dead letters cannot be written")
    });
    assert_eq!(stage.last_mark(0), 0);
    std::fs::remove_file(&in_the_way).unwrap();
    wait_until("marked", || stage.last_mark(0) == 1);
    assert_eq!(read_dead_letters(&in_the_way).unwrap().len(), 1);
    assert_eq!(stage.reason(Component::Forwarder), "");
}
