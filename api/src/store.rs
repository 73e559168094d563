//! Apps and API keys in one SQLite file.
//!
//! Owns the file's schema and every statement on it. Several processes may have the file open: the
//! server reads it, the command line changes it. Invariants: a key is stored as its SHA-256 only;
//! `key_set.version` grows in the transaction that changes the keys, so that who has seen a version
//! has seen its keys.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Row};
use uuid::Uuid;

use crate::api_key::{ApiKey, KeyHash, Scopes};
use crate::clock::now_ms;
use crate::private_file;

/// How long a statement waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const SCHEMA_VERSION: i64 = 1;
const SCHEMA: &str = "
    CREATE TABLE apps (
        id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL, created_at_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE keys (
        id TEXT PRIMARY KEY NOT NULL,
        sha256 BLOB NOT NULL UNIQUE CHECK (length(sha256) = 32),
        first_chars TEXT NOT NULL,
        app_id TEXT NOT NULL REFERENCES apps (id),
        name TEXT NOT NULL,
        scopes TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        revoked_at_ms INTEGER
    ) STRICT;
    CREATE TABLE key_set (only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        version INTEGER NOT NULL) STRICT;
    INSERT INTO key_set VALUES (1, 1);
    PRAGMA user_version = 1;
";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody has to mend the file or its directory.
    #[error("cannot open {path}: {cause}")]
    Open { path: String, cause: String },
    /// May pass: another process holds the file, or the disk is full.
    #[error("the store of apps and keys failed: {0}")]
    Sqlite(#[from] sqlx::Error),
    #[error("the store has schema {0}, made by a newer version of this program; this one knows 1")]
    Newer(i64),
    /// The file was changed by other means than this program.
    #[error("the store holds a {0} that cannot be read")]
    Content(&'static str),
    #[error("there is no {what} {id}")]
    Missing { what: &'static str, id: Uuid },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    pub id: Uuid,
    pub name: String,
    pub created_at_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub id: Uuid,
    pub hash: KeyHash,
    pub first_chars: String,
    pub app_id: Uuid,
    pub name: String,
    pub scopes: Scopes,
    pub created_at_ms: i64,
    pub revoked_at_ms: Option<i64>,
}

/// The keys that are valid, and the version that tells this set from every other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySet {
    pub version: i64,
    pub keys: Vec<Key>,
}

pub struct Store {
    connection: SqliteConnection,
}

impl Store {
    /// Opens the file, or makes it (0600, in a directory of 0700), and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Store, StoreError> {
        let refused = |cause: &dyn std::fmt::Display| StoreError::Open {
            path: path.display().to_string(),
            cause: cause.to_string(),
        };
        // SQLite gives its side files the mode of the main one.
        private_file::create_directory_of(path)
            .and_then(|()| private_file::touch(path))
            .map_err(|cause| refused(&cause))?;
        let connection = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(BUSY_TIMEOUT)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .disable_statement_logging()
            .connect()
            .await
            .map_err(|cause| refused(&cause))?;
        let mut store = Store { connection };
        store.migrate().await?;
        Ok(store)
    }

    async fn migrate(&mut self) -> Result<(), StoreError> {
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        let found: i64 =
            sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *transaction).await?;
        match found {
            SCHEMA_VERSION => {}
            0 => {
                sqlx::raw_sql(SCHEMA).execute(&mut *transaction).await?;
            }
            newer => return Err(StoreError::Newer(newer)),
        }
        transaction.commit().await?;
        Ok(())
    }

    pub async fn create_app(&mut self, id: Uuid, name: &str) -> Result<App, StoreError> {
        let app = App { id, name: name.to_owned(), created_at_ms: now_ms() };
        sqlx::query("INSERT INTO apps (id, name, created_at_ms) VALUES (?, ?, ?)")
            .bind(app.id.to_string())
            .bind(&app.name)
            .bind(app.created_at_ms)
            .execute(&mut self.connection)
            .await?;
        Ok(app)
    }

    pub async fn apps(&mut self) -> Result<Vec<App>, StoreError> {
        let rows =
            sqlx::query("SELECT id, name, created_at_ms FROM apps ORDER BY created_at_ms, id")
                .fetch_all(&mut self.connection)
                .await?;
        rows.iter()
            .map(|row| {
                Ok(App {
                    id: uuid_in(row, "id")?,
                    name: row.try_get("name")?,
                    created_at_ms: row.try_get("created_at_ms")?,
                })
            })
            .collect()
    }

    /// Stores a key's hash for an app that exists.
    pub async fn create_key(
        &mut self,
        key: &ApiKey,
        app_id: Uuid,
        name: &str,
        scopes: Scopes,
    ) -> Result<Key, StoreError> {
        let stored = Key {
            id: Uuid::new_v4(),
            hash: key.hash(),
            first_chars: key.first_chars().to_owned(),
            app_id,
            name: name.to_owned(),
            scopes,
            created_at_ms: now_ms(),
            revoked_at_ms: None,
        };
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        let app_exists: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM apps WHERE id = ?)")
                .bind(app_id.to_string())
                .fetch_one(&mut *transaction)
                .await?;
        if !app_exists {
            return Err(StoreError::Missing { what: "app", id: app_id });
        }
        sqlx::query(
            "INSERT INTO keys (id, sha256, first_chars, app_id, name, scopes, created_at_ms)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(stored.id.to_string())
        .bind(stored.hash.0.as_slice())
        .bind(&stored.first_chars)
        .bind(app_id.to_string())
        .bind(name)
        .bind(scopes.to_string())
        .bind(stored.created_at_ms)
        .execute(&mut *transaction)
        .await?;
        advance_key_set(&mut transaction).await?;
        transaction.commit().await?;
        Ok(stored)
    }

    /// Every key, the revoked ones too, oldest first.
    pub async fn keys(&mut self) -> Result<Vec<Key>, StoreError> {
        keys_in(&mut self.connection).await
    }

    /// Revoking twice keeps the first time.
    pub async fn revoke_key(&mut self, id: Uuid) -> Result<(), StoreError> {
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        let found =
            sqlx::query("UPDATE keys SET revoked_at_ms = coalesce(revoked_at_ms, ?) WHERE id = ?")
                .bind(now_ms())
                .bind(id.to_string())
                .execute(&mut *transaction)
                .await?;
        if found.rows_affected() == 0 {
            return Err(StoreError::Missing { what: "key", id });
        }
        advance_key_set(&mut transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    pub async fn key_set_version(&mut self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT version FROM key_set")
            .fetch_one(&mut self.connection)
            .await?)
    }

    /// Hands the valid keys to `publish` while every other process is kept from changing them, so
    /// that an older set can never be published over a newer one.
    pub async fn publish_keys<E>(
        &mut self,
        publish: impl FnOnce(&KeySet) -> Result<(), E>,
    ) -> Result<Result<KeySet, E>, StoreError> {
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        let version =
            sqlx::query_scalar("SELECT version FROM key_set").fetch_one(&mut *transaction).await?;
        let mut keys = keys_in(&mut transaction).await?;
        keys.retain(|key| key.revoked_at_ms.is_none());
        let key_set = KeySet { version, keys };
        let published = publish(&key_set);
        transaction.rollback().await?;
        Ok(published.map(|()| key_set))
    }
}

async fn advance_key_set(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query("UPDATE key_set SET version = version + 1").execute(connection).await?;
    Ok(())
}

async fn keys_in(connection: &mut SqliteConnection) -> Result<Vec<Key>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, sha256, first_chars, app_id, name, scopes, created_at_ms, revoked_at_ms
         FROM keys ORDER BY created_at_ms, id",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(key_in).collect()
}

fn key_in(row: &SqliteRow) -> Result<Key, StoreError> {
    let hash: Vec<u8> = row.try_get("sha256")?;
    let scopes: String = row.try_get("scopes")?;
    Ok(Key {
        id: uuid_in(row, "id")?,
        hash: KeyHash(hash.try_into().map_err(|_| StoreError::Content("sha256"))?),
        first_chars: row.try_get("first_chars")?,
        app_id: uuid_in(row, "app_id")?,
        name: row.try_get("name")?,
        scopes: scopes.parse().map_err(|_| StoreError::Content("scopes"))?,
        created_at_ms: row.try_get("created_at_ms")?,
        revoked_at_ms: row.try_get("revoked_at_ms")?,
    })
}

fn uuid_in(row: &SqliteRow, column: &'static str) -> Result<Uuid, StoreError> {
    let text: String = row.try_get(column)?;
    Uuid::parse_str(&text).map_err(|_| StoreError::Content(column))
}
