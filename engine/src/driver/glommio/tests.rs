use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use ::glommio::timer::Timer;
use ::glommio::{LocalExecutorBuilder, Placement};

use super::super::{Control, Exit, Seat, bind_listeners};
use super::watch::Watch;
use super::{Glommio, waker_of};
use crate::admin::Health;
use crate::config::Config;
use crate::journal::{Journal, JournalConfig};
use crate::keys::{KeyCache, Keys};
use crate::metrics::ShardCounters;
use crate::shard::{Shard, ShardLimits};

const DEADLINE: Duration = Duration::from_secs(60);

/// With so short a time to its preempt timer glommio often sleeps over work: of three runs without the watch
/// two hung in each of the two tests that use it. At 10 us it never comes to run a task.
const PREEMPTED_OFTEN: Duration = Duration::from_micros(50);

#[test]
fn an_executor_that_sleeps_with_work_to_do_is_woken() {
    let (end, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .preempt_timer(PREEMPTED_OFTEN)
            .make()
            .unwrap();
        let watch = Watch::start(waker_of(&executor), Duration::from_millis(5)).unwrap();
        executor.run(async move {
            for _ in 0..400 {
                Timer::new(Duration::from_micros(200)).await;
            }
            drop(watch);
        });
        end.send(()).unwrap();
    });
    ended.recv_timeout(DEADLINE).expect("every timer wakes its task");
}

fn seat(journal: &Journal, control: &Arc<Control>, config: &Config) -> Seat {
    let shard = Shard::new(
        0,
        ShardLimits::from(config),
        config.cors.origins.clone().into(),
        journal.open_shard(0).unwrap().appender,
        KeyCache::new(Keys::new()),
        Health::new(1),
        Arc::new(ShardCounters::default()),
    );
    Seat {
        shard,
        listener: bind_listeners("127.0.0.1:0".parse().unwrap(), 1).unwrap().pop(),
        control: Arc::clone(control),
        writes_in_flight_max: 2,
        gather_us: 0,
        spin_us: 0,
        drain_deadline: Duration::from_secs(5),
        on_journal_failed: None,
    }
}

/// A head's deadline is told by a tick, and nothing but each of the forty before it calls for the next.
#[test]
fn a_shard_that_sleeps_with_work_to_do_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let journal_config =
        JournalConfig { segment_bytes: 8 << 20, segments_ahead: 1, ..JournalConfig::default() };
    let journal = Journal::open(dir.path(), journal_config).unwrap();
    let mut config = Config::default();
    config.limits.head_timeout_ms = 2_000;
    let control = Control::new().unwrap();
    let seat = seat(&journal, &control, &config);
    let address = seat.listener.as_ref().unwrap().local_addr().unwrap();
    let (end, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let driver = Glommio::looking_at_rings_after(PREEMPTED_OFTEN, seat).unwrap();
        end.send(driver.run().unwrap()).unwrap();
    });
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer and an end");
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    control.stop();
    assert!(matches!(ended.recv_timeout(DEADLINE), Ok(Exit::Drained)));
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn only_a_shard_that_stands_still_is_woken() {
    let woken = Arc::new(Woken::default());
    let watch = Watch::start(Waker::from(Arc::clone(&woken)), Duration::from_millis(300)).unwrap();
    let until = Instant::now() + Duration::from_millis(700);
    while Instant::now() < until {
        watch.on_turn();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    let until = Instant::now() + DEADLINE;
    while woken.0.load(Ordering::Relaxed) < 2 {
        assert!(Instant::now() < until, "one that stands still is woken again and again");
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(watch);
    assert_eq!(Arc::strong_count(&woken), 1, "the waker goes with the watch");
}
