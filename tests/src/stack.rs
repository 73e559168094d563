//! The system under test: embedded ClickHouse, engine and api, each a real process on a free port,
//! all in one temporary folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::batch::Batch;
use crate::http_client::{Client, Response};
use crate::process::{Process, binary, libchdb};
use crate::servers::ReservedPort;
use crate::wait::seconds;

/// Loading the ClickHouse library from a cold disk is the slowest start.
const READY_WITHIN: Duration = seconds(90);
pub const STOP_WITHIN: Duration = seconds(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    Uring,
    Epoll,
    Glommio,
    Auto,
}

impl Driver {
    /// `Auto` is one of them.
    pub const ALL: [Driver; 3] = [Driver::Epoll, Driver::Uring, Driver::Glommio];

    pub const fn name(self) -> &'static str {
        match self {
            Driver::Uring => "uring",
            Driver::Epoll => "epoll",
            Driver::Glommio => "glommio",
            Driver::Auto => "auto",
        }
    }
}

#[derive(Clone, Debug)]
pub struct StackOptions {
    pub driver: Driver,
    pub cores: u32,
    /// Further `--set section.key=value` of the engine.
    pub set: Vec<String>,
    /// Without ClickHouse and api: what the engine answers needs neither.
    pub engine_alone: bool,
    /// Where the journal lies, if not in the stack's own folder.
    pub journal_dir: Option<PathBuf>,
    /// The api's Redis.
    pub redis: Option<String>,
    /// Where the engine thinks that ClickHouse is, if not where it is: a proxy's address.
    pub engine_clickhouse: Option<String>,
}

impl Default for StackOptions {
    fn default() -> Self {
        StackOptions {
            driver: Driver::Auto,
            cores: 1,
            set: Vec::new(),
            engine_alone: false,
            journal_dir: None,
            redis: None,
            engine_clickhouse: None,
        }
    }
}

impl StackOptions {
    pub fn engine_alone() -> StackOptions {
        StackOptions { engine_alone: true, ..StackOptions::default() }
    }

    pub fn driver(mut self, driver: Driver) -> StackOptions {
        self.driver = driver;
        self
    }

    pub fn set(mut self, assignment: &str) -> StackOptions {
        self.set.push(assignment.to_owned());
        self
    }
}

/// Fields in the order in which their processes must end.
pub struct Stack {
    pub engine_process: Option<Process>,
    pub api_process: Option<Process>,
    pub clickhouse_process: Option<Process>,
    pub ingest: String,
    pub admin: String,
    pub api: String,
    pub clickhouse: String,
    pub password: String,
    pub app_id: String,
    pub api_key: String,
    /// ClickHouse's own while it is away, too.
    clickhouse_port: ReservedPort,
    options: StackOptions,
    folder: TempDir,
}

impl Stack {
    pub fn start(options: StackOptions) -> Stack {
        let folder = tempfile::Builder::new().prefix("unmogrowp-test-").tempdir().expect("folder");
        let mut stack = Stack {
            engine_process: None,
            api_process: None,
            clickhouse_process: None,
            ingest: String::new(),
            admin: String::new(),
            api: String::new(),
            // Port 9 answers nobody: an engine alone has a ClickHouse that is away.
            clickhouse: "http://127.0.0.1:9".to_owned(),
            password: uuid::Uuid::new_v4().simple().to_string(),
            app_id: String::new(),
            api_key: String::new(),
            clickhouse_port: ReservedPort::take(),
            options,
            folder,
        };
        stack.make_demo_app();
        if !stack.options.engine_alone {
            stack.restart_clickhouse();
            stack.start_api();
        }
        stack.start_engine();
        stack
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn journal_dir(&self) -> PathBuf {
        self.options.journal_dir.clone().unwrap_or_else(|| self.path("journal"))
    }

    /// A ClickHouse address with the stack's user and password.
    pub fn with_password(&self, url: &str) -> String {
        url.replace("://", &format!("://unmogrowp:{}@", self.password))
    }

    fn clickhouse_url(&self) -> String {
        self.with_password(&self.clickhouse)
    }

    fn store_flags(&self) -> [PathBuf; 4] {
        let flag = PathBuf::from;
        let (store, keys) = (self.path("apps.sqlite"), self.path("keys.json"));
        [flag("--store"), store, flag("--keys-snapshot"), keys]
    }

    /// Makes an app and its key in this stack's store; gives `(app_id, api_key)`.
    pub fn make_app(&self, name: &str) -> (String, String) {
        let output = Command::new(binary("unmogrowp-api"))
            .arg("demo")
            .args(self.store_flags())
            .arg("--out")
            .arg(self.path(&format!("{name}.json")))
            .output()
            .expect("unmogrowp-api starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "unmogrowp-api demo: {errors}");
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON");
        let text = |key: &str| answer[key].as_str().expect("app_id and api_key").to_owned();
        (text("app_id"), text("api_key"))
    }

    fn make_demo_app(&mut self) {
        (self.app_id, self.api_key) = self.make_app("demo");
    }

    /// Starts one of our binaries with its log and ready file in the stack's folder.
    pub fn spawn(&self, name: &str, command: &mut Command) -> (Process, PathBuf) {
        let ready = self.path(&format!("ready-{name}.json"));
        let _ = std::fs::remove_file(&ready);
        command.arg("--ready-file").arg(&ready);
        (Process::start(name, self.path(&format!("{name}.log")), command), ready)
    }

    /// On the port it had, as the others still know it by that.
    pub fn restart_clickhouse(&mut self) {
        let listen = self.clickhouse_port.address().to_string();
        let mut command = Command::new(binary("unmogrowp-clickhouse"));
        command
            .arg("--data")
            .arg(self.path("clickhouse"))
            .args(["--listen", &listen, "--user", "unmogrowp", "--lib"])
            .arg(libchdb())
            .env("UNMOGROWP_CLICKHOUSE_PASSWORD", &self.password);
        let (mut process, ready) = self.spawn("clickhouse", &mut command);
        self.clickhouse = url(&process.ready(&ready, READY_WITHIN), "clickhouse");
        self.clickhouse_process = Some(process);
    }

    fn start_api(&mut self) {
        let mut command = Command::new(binary("unmogrowp-api"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--database", "unmogrowp"])
            .args(self.store_flags())
            .env("UNMOGROWP_CLICKHOUSE_URL", self.clickhouse_url());
        if let Some(redis) = &self.options.redis {
            command.args(["--redis", redis]);
        }
        let (mut process, ready) = self.spawn("api", &mut command);
        self.api = url(&process.ready(&ready, READY_WITHIN), "api");
        self.api_process = Some(process);
    }

    /// Starts the engine, on new ports, over the journal that is there.
    pub fn start_engine(&mut self) {
        let mut command = Command::new(binary("unmogrowp-engine"));
        let clickhouse = self.options.engine_clickhouse.as_ref().unwrap_or(&self.clickhouse);
        command
            .args(["run", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--driver", self.options.driver.name()])
            .args(["--cores", &self.options.cores.to_string(), "--journal-dir"])
            .arg(self.journal_dir())
            .arg("--keys-snapshot")
            .arg(self.path("keys.json"))
            .env("UNMOGROWP_CLICKHOUSE_URL", self.with_password(clickhouse));
        for assignment in &self.options.set {
            command.args(["--set", assignment]);
        }
        let (mut process, ready) = self.spawn("engine", &mut command);
        let addresses = process.ready(&ready, READY_WITHIN);
        self.ingest = url(&addresses, "ingest");
        self.admin = url(&addresses, "admin");
        self.engine_process = Some(process);
    }

    pub fn engine(&mut self) -> &mut Process {
        self.engine_process.as_mut().expect("the engine runs")
    }

    /// A connection to the ingestion port.
    pub fn client(&self) -> Client {
        Client::connect(&self.ingest)
    }

    /// Sends a batch on a connection of its own.
    pub fn post(&self, batch: &Batch) -> Response {
        self.post_text(&batch.json(&self.app_id))
    }

    pub fn post_text(&self, body: &str) -> Response {
        self.client().request("POST", "/api/v1/events", &self.post_headers(), body.as_bytes())
    }

    pub fn post_ok(&self, batch: &Batch) {
        let answer = self.post(batch);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub fn post_headers(&self) -> [(&str, &str); 2] {
        [("X-API-Key", self.api_key.as_str()), ("Content-Type", "application/json")]
    }

    pub fn admin_get(&self, path: &str) -> Response {
        Client::connect(&self.admin).request("GET", path, &[], b"")
    }

    /// What `/readyz` and `/metrics` say, for a test that has failed.
    pub fn told(&self) -> String {
        told(&self.admin)
    }

    /// The sum of a metric's values over its labels, as `/metrics` shows it.
    pub fn metric(&self, name: &str) -> Option<f64> {
        sum_of_metric(&self.admin_get("/metrics").text(), name)
    }
}

/// What the admin port at `url` says of readiness, and its metrics that are not zero, without the
/// buckets of histograms. Never fails: it is asked where something has failed already.
pub fn told(url: &str) -> String {
    let get = |path| -> std::io::Result<String> {
        let mut client = Client::try_connect(url)?;
        Ok(client.try_request("GET", path, &[], b"")?.text())
    };
    let shown = |text: String| {
        let tells = |line: &&str| {
            !line.starts_with('#') && !line.ends_with(" 0") && !line.contains("_bucket{")
        };
        text.lines().filter(tells).collect::<Vec<_>>().join("\n")
    };
    let [ready, metrics] = ["/readyz", "/metrics"]
        .map(|path| get(path).map(shown).unwrap_or_else(|error| format!("{path}: {error}")));
    format!("{ready}\n{metrics}")
}

/// Of the text that `/metrics` answers; None where the metric is not in it.
pub fn sum_of_metric(text: &str, name: &str) -> Option<f64> {
    let values = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        (series.split('{').next()? == name).then(|| value.parse::<f64>().ok())?
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

fn url(addresses: &serde_json::Value, key: &str) -> String {
    addresses[key].as_str().unwrap_or_else(|| panic!("{key} in {addresses}")).to_owned()
}

/// Copies a folder's files, for a test that looks into a journal which goes on being written.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder for the copy");
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a file can be copied");
        }
    }
}
