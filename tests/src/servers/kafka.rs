//! Apache Kafka: one node, broker and controller in one, with the settings of `dev.d/kafka.properties`.
//!
//! Owns the process and its folder. Ports and data stay over every end and start, so that clients find
//! the same broker again.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Process, checkout};
use crate::servers::{ReservedPort, cache};
use crate::wait::{seconds, wait_for};

/// A cold start on a machine that does other work besides.
const READY_WITHIN: Duration = seconds(60);
const STOP_WITHIN: Duration = seconds(20);
const HEAP_MIB: u32 = 384;
/// One node is its own cluster; any name in this form will do.
const CLUSTER: &str = "dW5tb2dyb3dwLXRlc3RzLTAwMDE";

pub struct Broker {
    process: Option<Process>,
    port: ReservedPort,
    controller_port: ReservedPort,
    led_port: ReservedPort,
    /// Where clients of the second listener are told to go.
    led_to: Option<String>,
    /// Further lines of server.properties.
    properties: Vec<String>,
    folder: TempDir,
}

impl Broker {
    /// Started and ready.
    pub fn start() -> Broker {
        let mut broker = Broker::prepare();
        broker.start_again();
        broker
    }

    /// Has its address and is not running yet.
    pub fn prepare() -> Broker {
        let (port, controller_port) = (ReservedPort::take(), ReservedPort::take());
        let led_port = ReservedPort::take();
        let folder = tempfile::Builder::new().prefix("unmogrowp-kafka-").tempdir().expect("folder");
        std::fs::create_dir(folder.path().join("tmp")).expect("a folder for the JVM");
        let (led_to, properties) = (None, Vec::new());
        Broker { process: None, port, controller_port, led_port, led_to, properties, folder }
    }

    /// Before the start: another line of server.properties, which wins over the template's.
    pub fn property(&mut self, line: &str) {
        self.properties.push(line.to_owned());
    }

    /// Before the start: a second listener, whose clients are told to go to `address` and nowhere
    /// else. The proxy at `address` connects to [`Self::led_address`].
    pub fn lead_through(&mut self, address: &str) {
        self.led_to = Some(address.to_owned());
    }

    /// The second listener itself, which answers only after a start with [`Self::lead_through`].
    pub fn led_address(&self) -> String {
        self.led_port.address().to_string()
    }

    /// Where clients reach it directly.
    pub fn address(&self) -> String {
        self.port.address().to_string()
    }

    /// Starts it over the data that is there, on the ports it has, and waits until it is ready.
    pub fn start_again(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    /// Starts it and does not wait.
    pub fn spawn(&mut self) {
        assert!(self.process.is_none(), "Kafka is running already");
        std::fs::write(self.path("server.properties"), self.server_properties())
            .expect("server.properties can be written");
        if !self.path("log/meta.properties").exists() {
            self.format();
        }
        let mut command = self.java(HEAP_MIB);
        command.arg("kafka.Kafka").arg(self.path("server.properties"));
        self.process = Some(Process::start("kafka", self.path("kafka.log"), &mut command));
    }

    /// Its port answers once it takes part in its cluster, not before.
    pub fn wait_ready(&mut self) {
        let address = self.address();
        let process = self.process.as_mut().expect("Kafka was started");
        wait_for("Kafka is ready", READY_WITHIN, || {
            if let Some(status) = process.exited() {
                panic!("Kafka ended before it was ready: {status}\n{}", process.log_text());
            }
            TcpStream::connect(&address).ok()
        });
    }

    fn format(&self) {
        let jars = jars();
        let output = self
            .java(64)
            .args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER, "--config"])
            .arg(self.path("server.properties"))
            .output()
            .unwrap_or_else(|error| panic!("java could not be started: {error}"));
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "formatting with {}: {words}", jars.display());
    }

    fn java(&self, heap_mib: u32) -> Command {
        let mut command = Command::new("java");
        let jars = jars();
        command
            .arg(format!("@{}", checkout().join("dev.d/kafka.jvm").display()))
            .arg(format!("-Xmx{heap_mib}m"))
            .arg(format!("-Djava.io.tmpdir={}", self.path("tmp").display()))
            .arg(format!("-XX:ErrorFile={}", self.path("jvm-error.log").display()))
            .arg("-cp")
            .arg(jars.join("*"));
        command
    }

    fn server_properties(&self) -> String {
        let template = checkout().join("dev.d/kafka.properties");
        let template = std::fs::read_to_string(template).expect("dev.d/kafka.properties");
        let mut text = template
            .replace("@DATA@", &self.folder.path().display().to_string())
            .replace("@PORT@", &self.port.number().to_string())
            .replace("@CONTROLLER_PORT@", &self.controller_port.number().to_string())
            .replace("@ADVERTISED@", &self.address());
        if let Some(led_to) = &self.led_to {
            text.push_str(&format!(
                "listeners=PLAINTEXT://{},LED://{},CONTROLLER://{}\n\
                 advertised.listeners=PLAINTEXT://{},LED://{led_to}\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT,LED:PLAINTEXT,CONTROLLER:PLAINTEXT\n",
                self.address(),
                self.led_address(),
                self.controller_port.address(),
                self.address(),
            ));
        }
        for property in &self.properties {
            text.push_str(property);
            text.push('\n');
        }
        text
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("Kafka runs")
    }

    /// Whether a process is there; a paused one is.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// SIGSTOP: its connections stay, and nobody answers.
    pub fn pause(&mut self) {
        self.process().signal("STOP");
    }

    pub fn resume(&mut self) {
        self.process().signal("CONT");
    }

    /// SIGTERM, and gone when this returns.
    pub fn stop(&mut self) {
        self.process().terminate(STOP_WITHIN);
        self.process = None;
    }

    /// SIGKILL, and gone when this returns.
    pub fn kill(&mut self) {
        self.process().kill_9();
        self.process = None;
    }
}

/// The folder of Kafka's jars: `UNMOGROWP_KAFKA_JARS`, or what `./dev` put into the user's cache.
pub fn jars() -> PathBuf {
    let holds_kafka = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.any(|name| name.starts_with("kafka_") && name.ends_with(".jar"))
    };
    if let Some(folder) = std::env::var_os("UNMOGROWP_KAFKA_JARS") {
        let folder = PathBuf::from(folder);
        assert!(holds_kafka(&folder), "UNMOGROWP_KAFKA_JARS: no Kafka in {}", folder.display());
        return folder;
    }
    let kept = std::fs::read_dir(cache()).into_iter().flatten().flatten();
    let found = kept.map(|entry| entry.path()).find(|path| {
        let whole = path.extension().is_none_or(|extension| extension != "partial");
        whole && path.is_dir() && holds_kafka(path)
    });
    found.expect("Kafka's jars are in the user's cache: run ./dev test, which fetches them")
}
