//! The production path as tests break it: broker, ClickHouse, api, engine and consumers, a load in the
//! background, and at the end the question whether everything that was acknowledged is there once.
//!
//! A test reads: start, load, break, mend, `assert_conserved`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::conserved::{assert_all_conserved, stored_count};
use crate::consumer::{Consumer, ConsumerOptions};
use crate::http_client::authority;
use crate::proxy::Proxy;
use crate::sender::{Senders, Sent, assert_none_failed, slowest};
use crate::servers::{Broker, Redis};
use crate::stack::{Stack, StackOptions};
use crate::wait::{seconds, wait_for};

const CLIENTS: usize = 3;
/// Of a client between two batches of 10 events: some thousand events a second together.
const PAUSE: Duration = Duration::from_millis(4);
/// From the end of a load until all of it is in the answers.
pub const DRAINED_WITHIN: Duration = seconds(30);

/// What a production path is made of.
#[derive(Clone, Debug)]
pub struct Path {
    pub consumers: usize,
    pub redis: bool,
    /// The engine reaches the broker through the proxy `broker_proxy`.
    pub broker_through_proxy: bool,
    /// Consumers reach ClickHouse through the proxy `clickhouse_proxy`; the engine does not.
    pub clickhouse_through_proxy: bool,
    /// The topic is there before the engine, with these settings.
    pub topic: Option<&'static [(&'static str, &'static str)]>,
    /// The broker is started by the test.
    pub broker_late: bool,
    /// The first consumer's fault point.
    pub consumer_fault: Option<String>,
    pub engine: StackOptions,
}

impl Default for Path {
    /// With short patience, so that a test sees failures, retries and the breaker.
    fn default() -> Path {
        let engine = StackOptions::default()
            .set("kafka.partitions=4")
            .set("kafka.replication=1")
            .set("kafka.breaker_failures=3")
            .set("kafka.breaker_open_ms=500")
            .set("kafka.stall_ms=1500")
            .set("clickhouse.retry_max_ms=500");
        Path {
            consumers: 1,
            redis: false,
            broker_through_proxy: false,
            clickhouse_through_proxy: false,
            topic: None,
            broker_late: false,
            consumer_fault: None,
            engine,
        }
    }
}

impl Path {
    pub fn set(mut self, assignment: &str) -> Path {
        self.engine = self.engine.set(assignment);
        self
    }

    pub fn consumers(mut self, count: usize) -> Path {
        self.consumers = count;
        self
    }
}

/// Fields in the order in which their processes must end.
pub struct Production {
    pub stack: Stack,
    pub consumers: Vec<Consumer>,
    pub broker_proxy: Option<Proxy>,
    pub clickhouse_proxy: Option<Proxy>,
    pub redis: Option<Redis>,
    pub broker: Broker,
    path: Path,
    consumers_started: usize,
}

impl Production {
    pub fn start(path: Path) -> Production {
        let mut broker = Broker::prepare();
        let broker_proxy = path.broker_through_proxy.then(|| Proxy::start(&broker.led_address()));
        if let Some(proxy) = &broker_proxy {
            broker.lead_through(&proxy.address());
        }
        if !path.broker_late {
            broker.start_again();
        }
        if let Some(settings) = path.topic {
            broker.create_topic("events", 4, settings);
        }
        let brokers = broker_proxy.as_ref().map_or_else(|| broker.address(), Proxy::address);
        let redis = path.redis.then(Redis::start);
        let mut engine = path.engine.clone().set(&format!("kafka.brokers={brokers}"));
        engine.redis = redis.as_ref().map(Redis::url);
        let stack = Stack::start(engine);
        let clickhouse_proxy =
            path.clickhouse_through_proxy.then(|| Proxy::start(authority(&stack.clickhouse)));
        let mut production = Production {
            stack,
            consumers: Vec::new(),
            broker_proxy,
            clickhouse_proxy,
            redis,
            broker,
            path,
            consumers_started: 0,
        };
        for number in 0..production.path.consumers {
            let fault = production.path.consumer_fault.clone().filter(|_| number == 0);
            production.add_consumer(fault.as_deref());
        }
        production
    }

    /// Starts one more member of the group.
    pub fn add_consumer(&mut self, fault: Option<&str>) -> &mut Consumer {
        self.consumers_started += 1;
        let mut options = ConsumerOptions::of(&self.broker.address());
        options.fault = fault.map(str::to_owned);
        options.clickhouse =
            self.clickhouse_proxy.as_ref().map(|proxy| format!("http://{}", proxy.address()));
        let name = format!("consumer-{}", self.consumers_started);
        self.consumers.push(Consumer::start(&self.stack, &name, &options));
        self.consumers.last_mut().expect("pushed above")
    }

    /// The proxy between the engine and the broker.
    pub fn to_broker(&self) -> &Proxy {
        self.broker_proxy.as_ref().expect("the path has broker_through_proxy")
    }

    /// The proxy between the consumers and ClickHouse.
    pub fn to_clickhouse(&self) -> &Proxy {
        self.clickhouse_proxy.as_ref().expect("the path has clickhouse_through_proxy")
    }

    /// Starts clients that send events of this name until [`Load::finish`].
    pub fn load(&self, name: &str) -> Load {
        let senders = Senders::start_paced(&self.stack, CLIENTS, name, PAUSE);
        Load { senders, name: name.to_owned() }
    }

    /// Waits until so many events of a name are in the answers.
    pub fn wait_stored(&self, name: &str, count: u64) {
        wait_for(&format!("{count} events of {name} are stored"), DRAINED_WITHIN, || {
            (stored_count(&self.stack, name)? >= count).then_some(())
        });
    }

    /// Waits until the whole path, from the request to ClickHouse, has carried events of this load.
    pub fn wait_flowing(&self, load: &Load) {
        self.wait_stored(&load.name, 1);
    }

    /// Waits until Kafka holds more records than now.
    pub fn wait_records(&self, more: i64) {
        let topic = "events";
        let count = || self.broker.partitions(topic).map(|_| self.broker.record_count(topic));
        let before = count().unwrap_or(0);
        wait_for("Kafka takes records", DRAINED_WITHIN, || {
            (count()? >= before + more).then_some(())
        });
    }

    /// Waits until a metric of the engine is what `holds` wants.
    pub fn wait_engine(&self, name: &str, holds: impl Fn(f64) -> bool) {
        wait_for(&format!("the engine's {name}"), DRAINED_WITHIN, || {
            holds(self.stack.metric(name)?).then_some(())
        });
    }

    /// Ends the load; no request of it failed, and every event of it is stored once.
    pub fn assert_conserved(&self, load: Load) -> Vec<Sent> {
        let (name, sent) = load.finish();
        println!("{name}: the slowest 200 took {:?}", slowest(&sent));
        assert_none_failed(&sent);
        assert_all_conserved(&self.stack, &name, &sent, DRAINED_WITHIN);
        sent
    }

    /// The same where requests may fail, because the engine itself was broken.
    pub fn assert_acknowledged_conserved(&self, name: &str, sent: &[Sent]) {
        assert_all_conserved(&self.stack, name, sent, DRAINED_WITHIN);
    }
}

/// A failing test shows what the path says of itself: where the events are that were missed.
impl Drop for Production {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!("--- of the engine: {}", self.stack.told());
        for (number, consumer) in self.consumers.iter().enumerate() {
            eprintln!("--- of consumer-{}: {}", number + 1, consumer.told());
        }
        // A broker that is away makes the harness panic: a second time, where one is enough.
        let offsets = || self.broker.uncommitted("events", "unmogrowp");
        match catch_unwind(AssertUnwindSafe(offsets)) {
            Ok(offsets) => eprintln!("--- committed and next offset by partition: {offsets:?}"),
            Err(_) => eprintln!("--- the broker does not answer"),
        }
    }
}

/// Clients that send.
pub struct Load {
    senders: Senders,
    name: String,
}

impl Load {
    /// Waits until so many more batches were answered 200.
    pub fn wait_batches(&self, more: usize) {
        let until = self.senders.acknowledged_batches() + more;
        wait_for("batches are answered 200", seconds(20), || {
            (self.senders.acknowledged_batches() >= until).then_some(())
        });
    }

    /// Goes on for so long, with the clients sending: how long a fault lasts.
    pub fn go_on_for(&self, time: Duration) {
        let before = self.senders.acknowledged_batches();
        std::thread::sleep(time);
        let answered = self.senders.acknowledged_batches() - before;
        assert!(answered > 0, "{}: no batch was answered 200 in {time:?}", self.name);
        println!("{}: {answered} batches in {time:?}", self.name);
    }

    pub fn finish(self) -> (String, Vec<Sent>) {
        (self.name, self.senders.finish())
    }
}
