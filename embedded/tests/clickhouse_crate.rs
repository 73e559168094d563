//! The `clickhouse` crate, as it is published, with its defaults.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;
use clickhouse::{Client, Compression, Row};
use serde::{Deserialize, Serialize};
use support::{PASSWORD, Server};
use time::{Date, OffsetDateTime};
use uuid::Uuid;

#[derive(Row, Serialize, Deserialize, Debug, Clone, PartialEq)]
struct Event {
    #[serde(with = "clickhouse::serde::uuid")]
    id: Uuid,
    #[serde(with = "clickhouse::serde::time::datetime64::millis")]
    at: OffsetDateTime,
    #[serde(with = "clickhouse::serde::time::date")]
    day: Date,
    name: String,
    count: u64,
    maybe: Option<i32>,
    tags: Vec<String>,
}

const TABLE: &str = "CREATE TABLE crate_test (id UUID, at DateTime64(3, 'UTC'), day Date, name String,
    count UInt64, maybe Nullable(Int32), tags Array(String)) ENGINE = MergeTree ORDER BY (name, count)";

fn event(index: u64) -> Event {
    Event {
        id: Uuid::from_u128(u128::from(index) << 64 | 7),
        at: OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_123_000_000).unwrap(),
        day: time::macros::date!(2024 - 02 - 29),
        name: format!("it's \\ {}\n\t\0", index % 3),
        count: index,
        maybe: index.is_multiple_of(2).then_some(-1),
        tags: vec!["a'b".to_owned(), String::new()],
    }
}

fn client(server: &Server, compression: Compression) -> Client {
    Client::default()
        .with_url(format!("http://{}", server.address))
        .with_user("default")
        .with_password(PASSWORD)
        .with_compression(compression)
}

#[tokio::test]
async fn inserts_and_selects_with_and_without_compression() {
    let server = Server::start();
    for compression in [Compression::None, Compression::Lz4] {
        let client = client(&server, compression);
        client.query("DROP TABLE IF EXISTS crate_test").execute().await.unwrap();
        client.query(TABLE).execute().await.unwrap();
        let events: Vec<Event> = (0..5_000).map(event).collect();
        let mut insert = client.insert::<Event>("crate_test").await.unwrap();
        for event in &events {
            insert.write(event).await.unwrap();
        }
        insert.end().await.unwrap();

        let read: Vec<Event> = client
            .query("SELECT ?fields FROM crate_test ORDER BY count")
            .fetch_all()
            .await
            .unwrap();
        assert!(read == events);
        let name = &events[1].name;
        let count: u64 = client
            .query("SELECT count() FROM crate_test WHERE name = ? AND count < ?")
            .bind(name)
            .bind(100)
            .fetch_one()
            .await
            .unwrap();
        assert_eq!(count, 33);
        let count: u64 = client
            .query("SELECT count() FROM crate_test WHERE name = {name:String} AND day = {day:Date} AND id != {id:UUID}")
            .param("name", name)
            .param("day", "2024-02-29")
            .param("id", Uuid::nil().to_string())
            .fetch_one()
            .await
            .unwrap();
        assert_eq!(count, 1667);
        let none: Option<u64> = client
            .query("SELECT count FROM crate_test WHERE count = 5000000")
            .fetch_optional()
            .await
            .unwrap();
        assert_eq!(none, None);
    }
}

#[tokio::test]
async fn errors_come_through_early_and_late() {
    let server = Server::start();
    let client = client(&server, Compression::None);
    let early = client.query("SELECT * FROM nope").fetch_all::<u64>().await.unwrap_err();
    assert!(early.to_string().contains("UNKNOWN_TABLE"), "{early}");
    let late = client
        .query("SELECT toUInt64(number + throwIf(number = 1900000)) FROM numbers(2000000)")
        .fetch_all::<u64>()
        .await
        .unwrap_err();
    assert!(late.to_string().contains("throwIf"), "{late}");
    let wrong = client.clone().with_password("wrong");
    assert!(wrong.query("SELECT 1").execute().await.is_err());
}

#[tokio::test]
async fn large_results_arrive_whole() {
    let server = Server::start();
    let client = client(&server, Compression::None);
    let mut cursor = client.query("SELECT number FROM numbers(1000000)").fetch::<u64>().unwrap();
    let mut expected = 0;
    while let Some(number) = cursor.next().await.unwrap() {
        assert_eq!(number, expected);
        expected += 1;
    }
    assert_eq!(expected, 1_000_000);
}
