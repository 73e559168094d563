//! The demo app and its key, the same on every run for one `--out` file.
//!
//! The file is the source, the store follows it: it is written before the store is touched, so a
//! run that was cut short is completed by the next one, and a store that was lost gets the same app
//! and key again. A demo key that somebody revoked stays revoked and is replaced by a new one.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api_key::{ApiKey, Scopes};
use crate::cli::Demo;
use crate::store::Store;
use crate::{keys_snapshot, private_file};

const DEMO_NAME: &str = "demo";
const DEMO_SCOPES: Scopes = Scopes { ingest: true, read: true };

#[derive(Serialize, Deserialize)]
struct DemoFile {
    app_id: Uuid,
    api_key: String,
}

pub async fn run(options: Demo) -> anyhow::Result<()> {
    let mut store = Store::open(&options.paths.store).await?;
    let (app_id, key) = ensure(&mut store, &options.out).await?;
    keys_snapshot::write(&mut store, &options.paths.keys_snapshot).await?;
    println!("{}", encode(app_id, &key)?);
    Ok(())
}

async fn ensure(store: &mut Store, out: &Path) -> anyhow::Result<(Uuid, ApiKey)> {
    let noted = read(out)?;
    let stored = store.keys().await?;
    let revoked = |key: &ApiKey| {
        stored.iter().any(|other| other.hash == key.hash() && other.revoked_at_ms.is_some())
    };
    let (app_id, key) = match noted {
        Some((app_id, key)) if !revoked(&key) => (app_id, key),
        other => {
            let app_id = other.map_or_else(Uuid::new_v4, |(app_id, _)| app_id);
            let key = ApiKey::random().context("the system gives no random bytes")?;
            private_file::create_directory_of(out)?;
            private_file::replace(out, encode(app_id, &key)?.as_bytes())
                .with_context(|| format!("cannot write {}", out.display()))?;
            (app_id, key)
        }
    };
    if !store.apps().await?.iter().any(|app| app.id == app_id) {
        store.create_app(app_id, DEMO_NAME).await?;
    }
    if !stored.iter().any(|other| other.hash == key.hash()) {
        store.create_key(&key, app_id, DEMO_NAME, DEMO_SCOPES).await?;
    }
    Ok((app_id, key))
}

fn encode(app_id: Uuid, key: &ApiKey) -> anyhow::Result<String> {
    let file = DemoFile { app_id, api_key: key.as_str().to_owned() };
    Ok(serde_json::to_string(&file)?)
}

fn read(out: &Path) -> anyhow::Result<Option<(Uuid, ApiKey)>> {
    let text = match std::fs::read_to_string(out) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", out.display())),
    };
    let file: Option<DemoFile> = serde_json::from_str(&text).ok();
    let parsed = file.and_then(|file| Some((file.app_id, ApiKey::from_text(&file.api_key)?)));
    let Some(parsed) = parsed else {
        bail!("{} is not what `demo` writes; remove it to get a new demo app", out.display());
    };
    Ok(Some(parsed))
}
