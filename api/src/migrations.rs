//! The ClickHouse schema: a list of versions, each applied once, in order.
//!
//! Every statement is idempotent and a version is recorded only after its statements, so a run that
//! was cut short anywhere, or two at once, end in the same schema. A released migration is never
//! edited; a change is a new one. Why the table looks as it does: `docs/adr/004-events-table.md`.

use proto::names::{TABLE_EVENTS, TABLE_EVENTS_DEAD};

use crate::warehouse::{Warehouse, WarehouseError};

struct Migration {
    version: u32,
    name: &'static str,
    statements: Vec<String>,
}

fn migrations() -> Vec<Migration> {
    vec![
        Migration { version: 1, name: "events", statements: vec![create_events()] },
        Migration { version: 2, name: "events_dead", statements: vec![create_events_dead()] },
    ]
}

/// `version` turns "the highest wins" of `ReplacingMergeTree` into "the first received wins".
fn create_events() -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {TABLE_EVENTS} (
            app_id UUID,
            event_id UUID,
            timestamp DateTime64(3, 'UTC'),
            received_at DateTime64(9, 'UTC'),
            event_name String,
            user_id String,
            properties String,
            version UInt64 MATERIALIZED
                toUInt64(9223372036854775807 - toUnixTimestamp64Nano(received_at))
        )
        ENGINE = ReplacingMergeTree(version)
        PARTITION BY toYYYYMM(timestamp)
        ORDER BY (app_id, toDate(timestamp), event_name, user_id, event_id)
        SETTINGS non_replicated_deduplication_window = 10000,
            fsync_after_insert = 1, fsync_part_directory = 1"
    )
}

/// What the consumer could not insert. A letter that is written again replaces itself, one that was
/// retried replaces the one that was not: `docs/adr/009-consumer.md`.
fn create_events_dead() -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {TABLE_EVENTS_DEAD} (
            journal_id String,
            epoch UInt64,
            sequence UInt64,
            row_index UInt32,
            partition Int32,
            offset Int64,
            layout UInt16,
            code UInt32,
            reason String,
            raw String,
            died_at DateTime64(3, 'UTC'),
            retried_at DateTime64(3, 'UTC')
        )
        ENGINE = ReplacingMergeTree(retried_at)
        ORDER BY (journal_id, epoch, sequence, row_index, partition, offset)
        SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
    )
}

const CREATE_DATABASE: &str = "CREATE DATABASE IF NOT EXISTS {database:Identifier}";

const CREATE_RECORD: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
        version UInt32,
        name String,
        applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
    )
    ENGINE = ReplacingMergeTree
    ORDER BY version
    SETTINGS fsync_after_insert = 1, fsync_part_directory = 1";

const APPLIED: &str = "SELECT version FROM schema_migrations FINAL ORDER BY version";

const RECORD: &str =
    "INSERT INTO schema_migrations (version, name) SELECT {version:UInt32}, {name:String}";

#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// Try again: the next run goes on where this one stopped.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    /// Stop: this program does not know what the tables look like.
    #[error(
        "database {database} has schema version {found}, made by a newer version of this program; \
         this one knows {known}"
    )]
    Newer { database: String, found: u32, known: u32 },
}

impl From<clickhouse::error::Error> for MigrationError {
    fn from(error: clickhouse::error::Error) -> MigrationError {
        MigrationError::Warehouse(error.into())
    }
}

/// Brings the database up to date and gives the names of what was applied.
///
/// Not cancel-safe in the sense of rollback, but safe to cut and to run again.
pub async fn apply(warehouse: &Warehouse) -> Result<Vec<&'static str>, MigrationError> {
    let database = warehouse.database();
    warehouse.server_statement(CREATE_DATABASE).param("database", database).execute().await?;
    warehouse.statement(CREATE_RECORD).execute().await?;
    let applied: Vec<u32> = warehouse.statement(APPLIED).fetch_all().await?;
    let migrations = migrations();
    let known = migrations.iter().map(|migration| migration.version).max().unwrap_or(0);
    if let Some(&found) = applied.iter().find(|version| **version > known) {
        return Err(MigrationError::Newer { database: database.to_owned(), found, known });
    }
    let mut names = Vec::new();
    for migration in migrations {
        // Also for a recorded version: a table that was dropped by hand comes back empty.
        for statement in &migration.statements {
            warehouse.statement(statement).execute().await?;
        }
        if !applied.contains(&migration.version) {
            let record = warehouse.statement(RECORD).param("version", migration.version);
            record.param("name", migration.name).execute().await?;
            names.push(migration.name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_up_from_one() {
        let versions: Vec<u32> = migrations().iter().map(|migration| migration.version).collect();
        assert_eq!(versions, (1..=versions.len() as u32).collect::<Vec<_>>());
    }

    #[test]
    fn the_table_has_the_columns_of_row_layout_1_in_their_order() {
        let sql = create_events();
        let position = |column| sql.find(&format!(" {column} ")).expect(column);
        let positions: Vec<usize> =
            proto::names::EVENTS_COLUMNS.split(", ").map(position).collect();
        assert!(positions.is_sorted(), "{positions:?}");
    }
}
