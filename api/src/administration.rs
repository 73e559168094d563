//! The subcommands that change apps and keys. Each prints one line of JSON an item, so that scripts
//! can read them, and leaves the keys snapshot as new as the store.

use anyhow::Context;
use serde_json::json;
use uuid::Uuid;

use crate::api_key::ApiKey;
use crate::cli::{App, AppCommand, Key, KeyCommand, StorePaths};
use crate::clock::rfc3339;
use crate::keys_snapshot;
use crate::store::{self, Store};

pub async fn app(options: App) -> anyhow::Result<()> {
    match options.command {
        AppCommand::Create { paths, name } => {
            let mut store = Store::open(&paths.store).await?;
            let app = store.create_app(Uuid::new_v4(), &name).await?;
            publish(&mut store, &paths).await?;
            println!("{}", app_line(&app));
        }
        AppCommand::List { paths } => {
            for app in Store::open(&paths.store).await?.apps().await? {
                println!("{}", app_line(&app));
            }
        }
    }
    Ok(())
}

pub async fn key(options: Key) -> anyhow::Result<()> {
    match options.command {
        KeyCommand::Create { paths, app, scopes, name } => {
            let mut store = Store::open(&paths.store).await?;
            let key = ApiKey::random().context("the system gives no random bytes")?;
            let stored = store.create_key(&key, app, &name, scopes).await?;
            publish(&mut store, &paths).await?;
            let mut line = key_line(&stored);
            line["api_key"] = json!(key.as_str());
            println!("{line}");
        }
        KeyCommand::List { paths } => {
            for key in Store::open(&paths.store).await?.keys().await? {
                println!("{}", key_line(&key));
            }
        }
        KeyCommand::Revoke { paths, id } => {
            let mut store = Store::open(&paths.store).await?;
            store.revoke_key(id).await?;
            publish(&mut store, &paths).await?;
        }
    }
    Ok(())
}

async fn publish(store: &mut Store, paths: &StorePaths) -> anyhow::Result<()> {
    keys_snapshot::write(store, &paths.keys_snapshot)
        .await
        .context("the change is stored, but the engine was not told; `serve` will tell it")?;
    Ok(())
}

fn app_line(app: &store::App) -> serde_json::Value {
    json!({ "app_id": app.id, "name": app.name, "created_at": rfc3339(app.created_at_ms) })
}

fn key_line(key: &store::Key) -> serde_json::Value {
    json!({
        "key_id": key.id,
        "first_chars": key.first_chars,
        "app_id": key.app_id,
        "name": key.name,
        "scopes": key.scopes.names(),
        "created_at": rfc3339(key.created_at_ms),
        "revoked_at": key.revoked_at_ms.map(rfc3339),
    })
}
