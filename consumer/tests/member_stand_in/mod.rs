//! Stand-ins around a member of the group: librdkafka's own mock cluster for Kafka, and a scripted
//! HTTP server for ClickHouse. The real servers come in the integration tests.

use bytes::Bytes;
use consumer::dead::{DeadSink, DeadTopic};
use consumer::deliver::Deliverer;
use consumer::desk::DeskLimits;
use consumer::health::Health;
use consumer::kafka::{self, Kafka};
use consumer::metrics::Metrics;
use consumer::partition::RangeLimits;
use consumer::run::{Member, Positions};
use consumer::warehouse::{Address, Inserter};
use consumer::worker::WorkerLimits;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use proto::samples;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// What ClickHouse does with one INSERT of events, by its users.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    Take,
    /// Nothing is stored; this exception code.
    Refuse(u32),
    /// Nothing is stored, nothing answered.
    Hang,
}

type Script = Box<dyn FnMut(&[u64]) -> Reply + Send>;

#[derive(Default)]
pub struct Seen {
    /// How often each user's row was stored, tokens deduplicated as ClickHouse does.
    pub stored: BTreeMap<u64, u64>,
    pub dead_inserts: usize,
    pub targets: Vec<String>,
    tokens: HashSet<String>,
}

pub struct World {
    runtime: Runtime,
    cluster: MockCluster<'static, DefaultProducerContext>,
    url: String,
    pub seen: Arc<Mutex<Seen>>,
    pub topic: &'static str,
}

pub struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
}

impl World {
    pub fn start(
        topic: &'static str,
        partitions: i32,
        script: impl FnMut(&[u64]) -> Reply + Send + 'static,
    ) -> World {
        let runtime = Runtime::new().unwrap();
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(topic, partitions, 1).unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let memory = Arc::clone(&seen);
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, seen) = (Arc::clone(&script), Arc::clone(&memory));
                let service = hyper::service::service_fn(move |request| {
                    answer(request, Arc::clone(&script), Arc::clone(&seen))
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        World { runtime, cluster, url, seen, topic }
    }

    fn kafka(&self) -> Kafka {
        Kafka::new(&self.cluster.bootstrap_servers(), &[]).unwrap()
    }

    /// The next answers to who asks for committed offsets.
    pub fn refuse_positions(&self, times: usize) {
        let errors = vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; times];
        self.cluster.request_errors(RDKafkaApiKey::OffsetFetch, &errors);
    }

    pub fn produce(&self, partition: i32, values: &[Vec<u8>]) {
        let producer: BaseProducer = self.kafka().producer().create().unwrap();
        for value in values {
            let record: BaseRecord<'_, (), [u8]> =
                BaseRecord::to(self.topic).partition(partition).payload(value);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(10)).unwrap();
    }

    pub fn member(&self) -> Running {
        self.member_holding(16 << 20)
    }

    /// With so many bytes for all partitions together.
    pub fn member_holding(&self, bytes_max: usize) -> Running {
        let (health, metrics) = (Arc::new(Health::starting()), Arc::new(Metrics::new()));
        let kafka = self.kafka();
        let address = Address::parse(&self.url).unwrap();
        let inserter = Inserter::new(&address, "unmogrowp", Duration::from_secs(2));
        let dead_topic = DeadTopic::new(&kafka, "dead").unwrap();
        let letters = inserter.clone();
        let dead = DeadSink::new(Some(dead_topic), letters, "unmogrowp");
        let deliverer = Deliverer::new(inserter, dead, Arc::clone(&metrics));
        let config = kafka.reader("group", false);
        let stop = Arc::new(AtomicBool::new(false));
        let member = Member {
            reader: kafka::open(&config, Some(Arc::clone(&health))).unwrap(),
            topic: self.topic.to_owned(),
            accept_gap: false,
            deliverer: Arc::new(deliverer),
            health: Arc::clone(&health),
            metrics: Arc::clone(&metrics),
            positions: Positions::default(),
            stop: Arc::clone(&stop),
            runtime: self.runtime.handle().clone(),
        };
        let linger = Duration::from_millis(20);
        let desk = DeskLimits {
            range: RangeLimits { rows_max: 100, bytes_max: 1 << 20, linger },
            inserts_max: 2,
            bytes_max,
            hold_max: Duration::from_millis(100),
        };
        let revoke_patience = Duration::from_millis(500);
        let limits = WorkerLimits { revoke_patience, ..WorkerLimits::of(desk) };
        let thread = Some(std::thread::spawn(move || member.run(limits)));
        Running { stop, thread, health, metrics }
    }

    /// Users stored, and how often the one stored most often was.
    pub fn stored(&self) -> (Vec<u64>, u64) {
        let seen = self.seen.lock().unwrap();
        (seen.stored.keys().copied().collect(), seen.stored.values().copied().max().unwrap_or(0))
    }
}

impl Running {
    /// As SIGTERM does; gives how the member ended.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    script: Arc<Mutex<Script>>,
    seen: Arc<Mutex<Seen>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let target = request.uri().to_string();
    let Ok(body) = request.into_body().collect().await else {
        return Ok(Response::default());
    };
    let body = body.to_bytes();
    if target.contains("events_dead") {
        seen.lock().unwrap().dead_inserts += 1;
        return Ok(Response::default());
    }
    let Some(token) = target.split("insert_deduplication_token=").nth(1) else {
        return Ok(Response::default());
    };
    let token = token.split('&').next().unwrap().to_owned();
    let users = samples::users(&body);
    let reply = (script.lock().unwrap())(&users);
    match reply {
        Reply::Take => {
            let mut seen = seen.lock().unwrap();
            seen.targets.push(target);
            if seen.tokens.insert(token) {
                users.iter().for_each(|user| *seen.stored.entry(*user).or_default() += 1);
            }
            Ok(Response::default())
        }
        Reply::Refuse(code) => {
            let text = format!("Code: {code}. DB::Exception: scripted");
            let mut response = Response::new(Full::from(text));
            *response.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
            let code = hyper::header::HeaderValue::from(code);
            response.headers_mut().insert("x-clickhouse-exception-code", code);
            Ok(response)
        }
        Reply::Hang => std::future::pending().await,
    }
}

/// A record with a row for each of `users`.
pub fn record(sequence: u64, users: std::ops::Range<u64>) -> Vec<u8> {
    samples::frame(&samples::block(9, sequence, users, false))
}

#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
