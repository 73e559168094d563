//! The flags of `unmogrowp-engine run`.

use std::path::PathBuf;

/// Take events over HTTP, journal them, forward them to Kafka or ClickHouse.
///
/// Everything can be set in a TOML file, by the environment and by flags; the later wins. A key
/// `section.key` is `UNMOGROWP_ENGINE__SECTION__KEY` in the environment and `--set section.key=value`
/// as a flag. docs/configuration.md lists every key with its range and default.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RunArgs {
    /// Read this TOML file first
    #[arg(long, value_name = "FILE", env = "UNMOGROWP_ENGINE_CONFIG")]
    pub config: Option<PathBuf>,

    /// Take events on this address [default: 127.0.0.1:8080]; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,

    /// Answer /healthz, /readyz, /metrics and /version here [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDR:PORT")]
    pub admin_listen: Option<String>,

    /// Keep the journal here [default: data/journal]
    #[arg(long, value_name = "DIR")]
    pub journal_dir: Option<PathBuf>,

    /// Read API keys from this file, which unmogrowp-api writes [default: data/keys.json]
    #[arg(long, value_name = "FILE")]
    pub keys_snapshot: Option<PathBuf>,

    /// Insert events here [default: http://127.0.0.1:8123]; a password is better given in the
    /// environment variable UNMOGROWP_CLICKHOUSE_URL, which no other user can read
    #[arg(long, value_name = "URL")]
    pub clickhouse_url: Option<String>,

    /// How sockets and disk are driven: auto, uring, epoll or glommio [default: auto]
    #[arg(long, value_name = "NAME")]
    pub driver: Option<String>,

    /// Run this many shards, one a core; 0 takes all cores [default: 0]
    #[arg(long, value_name = "N")]
    pub cores: Option<String>,

    /// Once ready, write the real addresses here, as JSON
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,

    /// Set any key, such as `--set limits.headers_max=50`; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

impl RunArgs {
    /// Flag, key and value of the flags that stand for one key.
    pub(super) fn named(&self) -> [(&'static str, &'static str, Option<String>); 8] {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        [
            ("--listen", "server.listen", self.listen.clone()),
            ("--admin-listen", "admin.listen", self.admin_listen.clone()),
            ("--journal-dir", "journal.dir", path(&self.journal_dir)),
            ("--keys-snapshot", "keys.snapshot", path(&self.keys_snapshot)),
            ("--clickhouse-url", "clickhouse.url", self.clickhouse_url.clone()),
            ("--driver", "server.driver", self.driver.clone()),
            ("--cores", "server.cores", self.cores.clone()),
            ("--ready-file", "server.ready_file", path(&self.ready_file)),
        ]
    }
}
