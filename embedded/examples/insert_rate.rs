//! RowBinary against Native: rows a second into the events table, through the HTTP door.
//!
//! `cargo run --release -p embedded --example insert_rate -- http://127.0.0.1:8123 default PASSWORD`
//! with `unmogrowp-clickhouse` running there. Five runs each, interleaved, 100,000 rows a request;
//! each run prints one JSON line, the last lines are medians and sizes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Context, bail};

const ROWS: usize = 100_000;
const RUNS: usize = 5;
const COLUMNS: &str = "app_id, event_id, timestamp, received_at, event_name, user_id, properties";
const SETTINGS: &str = "async_insert=0&max_insert_threads=1&max_partitions_per_insert_block=0\
    &min_insert_block_size_rows=0&min_insert_block_size_bytes=0&max_insert_block_size=2000000";

struct Event {
    app_id: u128,
    event_id: u128,
    timestamp_ms: i64,
    received_at_ms: i64,
    name: String,
    user_id: String,
    properties: String,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what| arguments.next().with_context(|| format!("argument missing: {what}"));
    let (url, user, password) = (next("URL")?, next("user")?, next("password")?);
    let client = Client { address: url.replace("http://", ""), user, password };
    let mut rates: [Vec<f64>; 2] = Default::default();
    let mut sizes = [(0, 0); 2];
    for table in ["events_rowbinary", "events_native"] {
        client.post("/", format!("DROP TABLE IF EXISTS {table} SYNC").as_bytes())?;
        client.post("/", create_table(table).as_bytes())?;
    }
    for run in 0..RUNS {
        let events = make_events(run as u64);
        for (index, format) in ["RowBinary", "Native"].into_iter().enumerate() {
            let encode_start = Instant::now();
            let body = if index == 0 { encode_rows(&events) } else { encode_native(&events) };
            let encode_ms = encode_start.elapsed().as_secs_f64() * 1e3;
            sizes[index] = (body.len(), lz4_flex::block::compress(&body).len());
            let table = format!("events_{}", format.to_lowercase());
            let query =
                format!("INSERT INTO {table} ({COLUMNS}) FORMAT {format}").replace(' ', "+");
            let target = format!("/?{SETTINGS}&insert_deduplication_token=run-{run}&query={query}");
            let start = Instant::now();
            client.post(&target, &body)?;
            let rate = ROWS as f64 / start.elapsed().as_secs_f64();
            rates[index].push(rate);
            println!(
                "{{\"format\":\"{format}\",\"run\":{run},\"rows_per_s\":{rate:.0},\"encode_ms\":{encode_ms:.1}}}"
            );
        }
    }
    for (index, format) in ["RowBinary", "Native"].into_iter().enumerate() {
        rates[index].sort_by(f64::total_cmp);
        let median = rates[index][RUNS / 2];
        let (bytes, lz4) = sizes[index];
        println!(
            "{{\"format\":\"{format}\",\"median_rows_per_s\":{median:.0},\"bytes\":{bytes},\"lz4_bytes\":{lz4}}}"
        );
        let table = format!("events_{}", format.to_lowercase());
        let count = client
            .post("/", format!("SELECT count(), min(version) > 0 FROM {table}").as_bytes())?;
        println!("{table}: {}", count.trim());
    }
    Ok(())
}

fn create_table(name: &str) -> String {
    format!(
        "CREATE TABLE {name} (app_id UUID, event_id UUID, timestamp DateTime64(3, 'UTC'), \
         received_at DateTime64(3, 'UTC'), event_name String, user_id String, properties String, \
         version UInt64 MATERIALIZED 18446744073709551615 - toUnixTimestamp64Milli(received_at)) \
         ENGINE = ReplacingMergeTree(version) PARTITION BY toYYYYMM(timestamp) \
         ORDER BY (app_id, toDate(timestamp), event_name, user_id, event_id) \
         SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, \
         fsync_part_directory = 1"
    )
}

fn make_events(run: u64) -> Vec<Event> {
    let mut state = run.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let names = ["page_view", "button_click", "purchase_completed", "session_start", "search"];
    let pages = ["/home", "/pricing", "/docs/getting-started", "/cart", "/account/settings"];
    (0..ROWS)
        .map(|index| {
            let pick = random();
            let received_at_ms = 1_760_000_000_000 + index as i64;
            Event {
                app_id: 0x0191_2345_6789_7abc_8def_0123_4567_89ab,
                event_id: u128::from(random()) << 64 | u128::from(random()),
                timestamp_ms: received_at_ms - (pick % 60_000) as i64,
                received_at_ms,
                name: names[pick as usize % names.len()].to_owned(),
                user_id: format!("user_{:08}", random() % 1_000_000),
                properties: format!(
                    "{{\"page\":\"{}\",\"duration_ms\":{},\"referrer\":\"https://example.com/{}\",\"plan\":\"pro\"}}",
                    pages[pick as usize / 8 % pages.len()],
                    random() % 100_000,
                    random() % 1_000,
                ),
            }
        })
        .collect()
}

/// ClickHouse keeps a UUID as two little-endian halves, the high one first.
fn push_uuid(target: &mut Vec<u8>, uuid: u128) {
    target.extend_from_slice(&((uuid >> 64) as u64).to_le_bytes());
    target.extend_from_slice(&(uuid as u64).to_le_bytes());
}

fn push_varint(target: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        target.push(value as u8 | 0x80);
        value >>= 7;
    }
    target.push(value as u8);
}

fn push_string(target: &mut Vec<u8>, text: &str) {
    push_varint(target, text.len());
    target.extend_from_slice(text.as_bytes());
}

fn encode_rows(events: &[Event]) -> Vec<u8> {
    let mut body = Vec::with_capacity(events.len() * 256);
    for event in events {
        push_uuid(&mut body, event.app_id);
        push_uuid(&mut body, event.event_id);
        body.extend_from_slice(&event.timestamp_ms.to_le_bytes());
        body.extend_from_slice(&event.received_at_ms.to_le_bytes());
        push_string(&mut body, &event.name);
        push_string(&mut body, &event.user_id);
        push_string(&mut body, &event.properties);
    }
    body
}

/// One block: columns, rows, then each column with name, type and values.
fn encode_native(events: &[Event]) -> Vec<u8> {
    let mut body = Vec::with_capacity(events.len() * 256);
    push_varint(&mut body, 7);
    push_varint(&mut body, events.len());
    let time = "DateTime64(3, 'UTC')";
    let mut column = |name: &str, ty: &str, push: &dyn Fn(&mut Vec<u8>, &Event)| {
        push_string(&mut body, name);
        push_string(&mut body, ty);
        events.iter().for_each(|event| push(&mut body, event));
    };
    column("app_id", "UUID", &|body, event| push_uuid(body, event.app_id));
    column("event_id", "UUID", &|body, event| push_uuid(body, event.event_id));
    column("timestamp", time, &|body, event| {
        body.extend_from_slice(&event.timestamp_ms.to_le_bytes());
    });
    column("received_at", time, &|body, event| {
        body.extend_from_slice(&event.received_at_ms.to_le_bytes());
    });
    column("event_name", "String", &|body, event| push_string(body, &event.name));
    column("user_id", "String", &|body, event| push_string(body, &event.user_id));
    column("properties", "String", &|body, event| push_string(body, &event.properties));
    body
}

struct Client {
    address: String,
    user: String,
    password: String,
}

impl Client {
    fn post(&self, target: &str, body: &[u8]) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-ClickHouse-User: {}\r\n\
             X-ClickHouse-Key: {}\r\nContent-Length: {}\r\n\r\n",
            self.user,
            self.password,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        if !reply.starts_with("HTTP/1.1 200") {
            bail!("{reply}");
        }
        let body = reply.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        // Chunked: one short chunk at most in what is asked here.
        Ok(body.lines().nth(1).unwrap_or_default().to_owned())
    }
}
