//! Apps and keys: the demo is stable, the snapshot says what is valid and no more, files with
//! secrets are private.

// In a test, a panic is the report.
#![allow(clippy::unwrap_used)]

mod rig;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rig::{Rig, command, command_lines, demo, path_text, wait_for};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn snapshot(directory: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(directory.join("keys.json")).unwrap()).unwrap()
}

fn sha256(key: &Value) -> String {
    let digest = Sha256::digest(key.as_str().unwrap().as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn check_private(path: &Path) {
    let mode = std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{}", path.display());
}

#[test]
fn the_demo_is_the_same_on_each_run_and_after_the_store_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let first = demo(path);
    assert!(first["api_key"].as_str().unwrap().starts_with("umg_"));
    let expected = json!({ "version": 2, "keys": [
        { "sha256": sha256(&first["api_key"]), "app_id": first["app_id"],
          "scopes": ["ingest", "read"] }
    ]});
    assert_eq!(snapshot(path), expected);
    assert_eq!(demo(path), first);
    assert_eq!(snapshot(path), expected, "nothing changed, nor did the version");
    for name in ["demo.json", "keys.json", "apps.sqlite"] {
        check_private(&path.join(name));
    }
    for name in ["apps.sqlite", "apps.sqlite-wal", "apps.sqlite-shm", "keys.json"] {
        let _ = std::fs::remove_file(path.join(name));
    }
    assert_eq!(demo(path), first);
    assert_eq!(snapshot(path)["keys"], expected["keys"]);

    let key_id = command_lines(path, &["key", "list"])[0]["key_id"].as_str().unwrap().to_owned();
    assert!(command(path, &["key", "revoke", &key_id]).status.success());
    let renewed = demo(path);
    assert_eq!(renewed["app_id"], first["app_id"]);
    assert_ne!(renewed["api_key"], first["api_key"], "what was revoked stays revoked");
}

#[test]
fn the_snapshot_follows_every_change() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let app = command_lines(path, &["app", "create", "--name", "shop"]).remove(0);
    let app_id = app["app_id"].as_str().unwrap();
    assert_eq!(command_lines(path, &["app", "list"]), std::slice::from_ref(&app));
    let before = snapshot(path)["version"].as_i64().unwrap();
    let create = |scopes: &str| {
        command_lines(path, &["key", "create", "--app", app_id, "--scopes", scopes]).remove(0)
    };
    let (reader, sender) = (create("read"), create("ingest"));
    let both = snapshot(path);
    assert_eq!(both["version"], before + 2);
    assert_eq!(both["keys"].as_array().unwrap().len(), 2);
    assert!(command(path, &["key", "revoke", reader["key_id"].as_str().unwrap()]).status.success());
    let one = snapshot(path);
    assert_eq!(one["version"], before + 3);
    assert_eq!(
        one["keys"],
        json!([
            { "sha256": sha256(&sender["api_key"]), "app_id": app_id, "scopes": ["ingest"] }
        ])
    );
    check_private(&path.join("keys.json"));

    let listed = command(path, &["key", "list"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    let stored = std::fs::read(path.join("apps.sqlite")).unwrap();
    for key in [&reader, &sender] {
        let key = key["api_key"].as_str().unwrap();
        assert!(!listed.contains(key), "a key is shown once");
        assert!(!stored.windows(key.len()).any(|window| window == key.as_bytes()), "hashed only");
    }
}

#[test]
fn wrong_commands_say_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let check = |words: &[&str], said: &str| {
        let output = command(path, words);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(said), "{words:?}: {text}");
    };
    let nobody = "0198c0de-0000-7000-8000-000000000001";
    check(&["key", "create", "--app", nobody, "--scopes", "read"], "there is no app");
    check(&["key", "create", "--app", nobody, "--scopes", "root"], "ingest, read");
    check(&["key", "revoke", nobody], "there is no key");
    let out = path.join("demo.json");
    std::fs::write(&out, "{}").unwrap();
    check(&["demo", "--out", &path_text(&out)], "is not what `demo` writes");
    let url = "https://user:secret@example.org";
    check(&["serve", "--clickhouse-url", url], "must look like");
    let output = command(path, &["serve", "--clickhouse-url", url]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("secret"));
    let url = "http://127.0.0.1:1";
    check(&["serve", "--clickhouse-url", url, "--database", "a-b"], "--database");
}

#[test]
fn a_running_api_follows_the_command_line() {
    let rig = Rig::start();
    let path = rig.directory.path();
    let key = command_lines(path, &["key", "list"]).remove(0);
    let target = format!("/api/v1/users/u/events?app_id={}", rig.app_id);
    assert_eq!(rig.get(&target).status, 200);
    assert!(command(path, &["key", "revoke", key["key_id"].as_str().unwrap()]).status.success());
    wait_for("the key to be refused", || (rig.get(&target).status == 401).then_some(()));
    std::fs::remove_file(path.join("keys.json")).unwrap();
    wait_for("the snapshot to come back", || path.join("keys.json").exists().then_some(()));
    assert_eq!(snapshot(path)["keys"], json!([]));
}
