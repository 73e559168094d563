//! For measuring and trying out: makes blocks of events and puts them into a topic, or straight into
//! ClickHouse in INSERTs of 100,000 rows, and says how long it took. The same seed makes the same
//! bytes.
//!
//! `fill_topic kafka BROKERS TOPIC BLOCKS [SEED]`, `fill_topic clickhouse IN_FLIGHT DATABASE BLOCKS
//! [SEED]` (with `UNMOGROWP_CLICKHOUSE_URL`), `fill_topic bad BROKERS TOPIC TEXT`.

use anyhow::{Context, bail};
use bytes::Bytes;
use consumer::kafka::Kafka;
use consumer::warehouse::{Address, Inserter};
use proto::block::HEADER_BYTES;
use proto::insert::Delivery;
use proto::row::Row;
use proto::{Block, BlockHeader, BlockId, JournalId};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const ROWS_PER_BLOCK: u64 = 1_600;
const BLOCKS_PER_INSERT: usize = 62;

fn block(seed: u64, sequence: u64) -> Block {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut payload = Vec::with_capacity(512 * 1024);
    for index in 0..ROWS_PER_BLOCK {
        let number = sequence * ROWS_PER_BLOCK + index;
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed;
        let mut event_id = [0; 16];
        event_id[..8].copy_from_slice(&spread.to_be_bytes());
        event_id[8..].copy_from_slice(&(number ^ (seed << 40)).to_be_bytes());
        let user_id = format!("user-{:08}", spread % 1_000_000);
        let properties = format!(
            "{{\"plan\":\"pro\",\"amount\":{},\"country\":\"DE\",\"referrer\":\"https://example.com/\
             campaign/{}\",\"screen\":\"checkout\"}}",
            spread % 10_000,
            spread % 977
        );
        let row = Row {
            app_id: [7; 16],
            event_id,
            timestamp_ms: now.as_millis() as i64 - (spread % 86_400_000) as i64,
            received_at_ns: now.as_nanos() as i64 + index as i64,
            event_name: ["page_view", "click", "purchase", "sign_up"][(spread % 4) as usize]
                .as_bytes(),
            user_id: user_id.as_bytes(),
            properties: properties.as_bytes(),
        };
        row.encode(&mut payload);
    }
    let journal_id = JournalId([seed as u8; 16]);
    let id = BlockId { journal_id, epoch: seed, sequence: sequence + 1 };
    let header = BlockHeader::seal(id, 0, 0, 0, ROWS_PER_BLOCK as u32, &payload);
    Block { header, payload: payload.into() }
}

fn produce(producer: &BaseProducer, topic: &str, value: &[u8]) -> anyhow::Result<()> {
    let mut record: BaseRecord<'_, (), [u8]> = BaseRecord::to(topic).payload(value);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                record = again;
                producer.poll(Duration::from_millis(20));
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

async fn insert(in_flight: usize, database: &str, blocks: Vec<Block>) -> anyhow::Result<()> {
    let url = std::env::var("UNMOGROWP_CLICKHOUSE_URL").context("UNMOGROWP_CLICKHOUSE_URL")?;
    let inserter = Inserter::new(&Address::parse(&url)?, database, Duration::from_secs(60));
    let mut running = tokio::task::JoinSet::new();
    for part in blocks.chunks(BLOCKS_PER_INSERT) {
        if running.len() >= in_flight {
            running.join_next().await.context("an INSERT runs")??;
        }
        let (inserter, delivery) = (inserter.clone(), Delivery::new(part.to_vec()));
        running.spawn(async move {
            let (payloads, rows) = (delivery.payloads(), delivery.row_count());
            let outcome = inserter.insert(payloads, rows, &delivery.token()).await;
            outcome.expect("a measurement needs a ClickHouse that takes rows");
        });
    }
    while let Some(ended) = running.join_next().await {
        ended?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (first, second, third) = match words[..] {
        [_, first, second, third, ..] => (first, second, third),
        _ => bail!("see the head of fill_topic.rs"),
    };
    let seed: u64 = words.get(4).map_or(Ok(1), |seed| seed.parse())?;
    if words[0] == "bad" {
        let producer: BaseProducer = Kafka::new(first, &[])?.producer().create()?;
        produce(&producer, second, third.as_bytes())?;
        return Ok(producer.flush(Duration::from_secs(20))?);
    }
    let count: u64 = third.parse().context("BLOCKS is a number")?;
    let blocks: Vec<Block> = (0..count).map(|sequence| block(seed, sequence)).collect();
    let bytes: usize = blocks.iter().map(|block| block.payload.len() + HEADER_BYTES).sum();
    let started = Instant::now();
    match words[0] {
        "kafka" => {
            let producer: BaseProducer = Kafka::new(first, &[])?.producer().create()?;
            for block in &blocks {
                let value = [&block.header.encode()[..], &block.payload].concat();
                produce(&producer, second, &Bytes::from(value))?;
            }
            producer.flush(Duration::from_secs(60))?;
        }
        "clickhouse" => {
            insert(first.parse().context("IN_FLIGHT is a number")?, second, blocks).await?
        }
        _ => bail!("kafka, clickhouse or bad"),
    }
    let (seconds, rows) = (started.elapsed().as_secs_f64(), count * ROWS_PER_BLOCK);
    println!(
        "{rows} rows, {} MiB in {seconds:.2} s: {:.0} rows/s, {:.0} MiB/s",
        bytes >> 20,
        rows as f64 / seconds,
        bytes as f64 / seconds / f64::from(1 << 20)
    );
    Ok(())
}
