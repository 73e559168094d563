//! Everything that can break on the production path breaks, in an order drawn from a printed seed, with
//! a load going on; after each round all that was acknowledged is there once.
//!
//! `UNMOGROWP_CHAOS_SEED` repeats the faults of a run and `UNMOGROWP_CHAOS_SECONDS` says how long it
//! goes on (`./dev chaos` sets both); when exactly a fault meets which event is up to the machine.

use std::time::{Duration, Instant};

use tests::production::Load;
use tests::sender::assert_none_failed;
use tests::wait::seconds;
use tests::{Fault, Path, Production};

const SECONDS_DEFAULT: u64 = 20;
/// A round's ids are held in memory, and drained and looked up at its end.
const ROUND: Duration = seconds(20);

/// SplitMix64: any seed gives a good sequence.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[(self.next() % of.len() as u64) as usize]
    }

    fn between(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(from_ms + self.next() % (to_ms - from_ms))
    }
}

#[derive(Clone, Copy, Debug)]
enum Mishap {
    BrokerStopped,
    BrokerKilled,
    BrokerPaused,
    NetworkToBroker(Fault),
    NetworkToClickhouse(Fault),
    ConnectionsCut,
    ClickhouseKilled,
    ClickhousePaused,
    ConsumerKilled,
    ConsumerReplaced,
    RedisKilled,
    EngineKilled,
}

const MISHAPS: [Mishap; 19] = [
    Mishap::BrokerStopped,
    Mishap::BrokerKilled,
    Mishap::BrokerPaused,
    Mishap::BrokerPaused,
    Mishap::NetworkToBroker(Fault::Delay(Duration::from_millis(200))),
    Mishap::NetworkToBroker(Fault::Throttle { bytes_per_s: 100_000 }),
    Mishap::NetworkToBroker(Fault::HalfOpen),
    Mishap::NetworkToBroker(Fault::Refuse),
    Mishap::NetworkToBroker(Fault::Stall),
    Mishap::NetworkToClickhouse(Fault::Delay(Duration::from_millis(200))),
    Mishap::NetworkToClickhouse(Fault::Throttle { bytes_per_s: 100_000 }),
    Mishap::NetworkToClickhouse(Fault::Refuse),
    Mishap::ConnectionsCut,
    Mishap::ClickhouseKilled,
    Mishap::ClickhousePaused,
    Mishap::ConsumerKilled,
    Mishap::ConsumerReplaced,
    Mishap::RedisKilled,
    Mishap::EngineKilled,
];

fn environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}; it must be a number")))
}

/// Breaks one thing, lets it be broken for a while, and mends it.
fn suffer(production: &mut Production, mishap: Mishap, lasts: Duration) {
    let last = || std::thread::sleep(lasts);
    match mishap {
        Mishap::BrokerStopped => {
            production.broker.stop();
            last();
            production.broker.start_again();
        }
        Mishap::BrokerKilled => {
            production.broker.kill();
            last();
            production.broker.start_again();
        }
        Mishap::BrokerPaused => {
            production.broker.pause();
            last();
            production.broker.resume();
        }
        Mishap::NetworkToBroker(fault) => {
            production.to_broker().set(fault);
            last();
            production.to_broker().set(Fault::None);
        }
        Mishap::NetworkToClickhouse(fault) => {
            production.to_clickhouse().set(fault);
            last();
            production.to_clickhouse().set(Fault::None);
        }
        Mishap::ConnectionsCut => {
            production.to_broker().cut();
            production.to_clickhouse().cut();
        }
        Mishap::ClickhouseKilled => {
            production.stack.clickhouse_process.as_mut().expect("ClickHouse runs").kill_9();
            last();
            production.stack.restart_clickhouse();
        }
        Mishap::ClickhousePaused => {
            let clickhouse = production.stack.clickhouse_process.as_ref().expect("ClickHouse runs");
            clickhouse.signal("STOP");
            last();
            clickhouse.signal("CONT");
        }
        Mishap::ConsumerKilled => {
            production.consumers.remove(0).process.kill_9();
            last();
            production.add_consumer(None);
        }
        Mishap::ConsumerReplaced => {
            production.add_consumer(None);
            last();
            production.consumers.remove(0).stop();
        }
        Mishap::RedisKilled => {
            let redis = production.redis.as_mut().expect("the path has Redis");
            redis.kill();
            last();
            redis.start_again();
        }
        Mishap::EngineKilled => {
            production.stack.engine().kill_9();
            production.stack.start_engine();
        }
    }
}

/// One load and its mishaps until `until` or until the engine dies, then the verdict.
fn round(production: &mut Production, random: &mut Random, name: &str, until: Instant) {
    let load: Load = production.load(name);
    let mut engine_killed = false;
    load.wait_batches(20);
    while Instant::now() < until && !engine_killed {
        let (mishap, lasts) = (random.pick(&MISHAPS), random.between(200, 2_500));
        println!("{name}: {mishap:?} for {lasts:?}");
        suffer(production, mishap, lasts);
        engine_killed = matches!(mishap, Mishap::EngineKilled);
        if !engine_killed {
            load.wait_batches(10);
        }
    }
    let (_, sent) = load.finish();
    if !engine_killed {
        assert_none_failed(&sent);
    }
    production.assert_acknowledged_conserved(name, &sent);
}

#[test]
fn whatever_happens_events_are_there_once() {
    let drawn = u64::from(getrandom::u32().expect("the system gives random bytes"));
    let seed = environment("UNMOGROWP_CHAOS_SEED").unwrap_or(drawn);
    let lasts = seconds(environment("UNMOGROWP_CHAOS_SECONDS").unwrap_or(SECONDS_DEFAULT));
    println!("UNMOGROWP_CHAOS_SEED={seed} UNMOGROWP_CHAOS_SECONDS={}", lasts.as_secs());
    let mut random = Random(seed);
    let path = Path {
        redis: true,
        broker_through_proxy: true,
        clickhouse_through_proxy: true,
        ..Path::default().consumers(2).set("kafka.direct_insert_after_ms=3000")
    };
    let mut production = Production::start(path);
    let end = Instant::now() + lasts;
    let mut rounds = 0;
    while Instant::now() < end {
        rounds += 1;
        let until = end.min(Instant::now() + ROUND);
        round(&mut production, &mut random, &format!("round-{rounds}"), until);
    }
    println!("{rounds} rounds with seed {seed}");
}
