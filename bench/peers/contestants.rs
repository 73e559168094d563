//! The servers that are compared: our engine, and in `bench/peers/` what others would use in its place.
//!
//! Owns how each is built, started on a free port and ended; [`contract`] has what all of them but
//! nginx must answer. Must not know how they are measured. A tool that is missing is an error that
//! names it, never a server less.

pub mod contract;

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bench::load::Target;
use bench::servers::commit_of_engine;
use tempfile::TempDir;
use tests::process::checkout;
use tests::servers::ReservedPort;
use tests::wait::{seconds, wait_for};
use tests::{Process, Stack, StackOptions};

const READY_WITHIN: Duration = seconds(30);
const STOP_WITHIN: Duration = seconds(20);
/// As `./dev up` starts the engine: its forwarder gives way to the shards.
const BACKGROUND_NICENESS: u32 = 10;
const KAFKA_TOPIC: &str = "events";
const KAFKA_PARTITIONS: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contestant {
    Engine,
    Hyper,
    Go,
    Nginx,
}

impl Contestant {
    pub const ALL: [Contestant; 4] =
        [Contestant::Engine, Contestant::Hyper, Contestant::Go, Contestant::Nginx];
    pub const WITH_KAFKA: [Contestant; 3] = [Contestant::Engine, Contestant::Hyper, Contestant::Go];

    pub const fn name(self) -> &'static str {
        match self {
            Contestant::Engine => "engine",
            Contestant::Hyper => "hyper",
            Contestant::Go => "go",
            Contestant::Nginx => "nginx",
        }
    }

    /// Makes its program, if it is one of ours to make; says what it is.
    pub fn build(self) -> String {
        match self {
            Contestant::Engine => said_by(
                Command::new(tests::process::binary("unmogrowp-engine")).arg("--version"),
                "./dev builds it",
            ),
            Contestant::Hyper => build_hyper(),
            Contestant::Go => build_go(),
            Contestant::Nginx => said_by(
                Command::new(nginx_program()).arg("-v"),
                "install Debian's package nginx, or name the program in UNMOGROWP_NGINX",
            ),
        }
    }
}

/// One of them, running, and what a client of it sends.
pub struct Server {
    pub target: Target,
    /// The engine with all that belongs to it; none for a peer.
    stack: Option<Stack>,
    process: Option<Process>,
    _port: Option<ReservedPort>,
    _folder: Option<TempDir>,
}

impl Server {
    /// The engine comes with embedded ClickHouse and api as `./dev up` starts them, and forwards; a
    /// peer checks events and forgets them.
    pub fn start(contestant: Contestant) -> Server {
        Server::start_with(contestant, None)
    }

    /// With Kafka behind it. Its topic's name is the contestant's own.
    pub fn start_on_kafka(contestant: Contestant, brokers: &str) -> Server {
        Server::start_with(contestant, Some(brokers))
    }

    fn start_with(contestant: Contestant, brokers: Option<&str>) -> Server {
        if contestant == Contestant::Engine {
            return start_engine(brokers);
        }
        let folder = tempfile::Builder::new().prefix("unmogrowp-peer-").tempdir().expect("folder");
        let port = ReservedPort::take();
        let address = port.address().to_string();
        let (app_id, api_key) = (new_id(), format!("umg_{}", new_id()));
        // It ends with us, however we end; nginx's workers would outlive a master that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]);
        match contestant {
            Contestant::Hyper => command.arg(hyper_program()),
            Contestant::Go => command.arg(go_program()),
            Contestant::Nginx => command.args(nginx(folder.path(), &address)),
            Contestant::Engine => unreachable!("started above"),
        };
        if contestant != Contestant::Nginx {
            command.args(["--listen", &address, "--app-id", &app_id]).env("PEER_API_KEY", &api_key);
        }
        if let Some(brokers) = brokers {
            command.args(["--sink", "kafka", "--brokers", brokers, "--topic", &topic(contestant)]);
        }
        let log = folder.path().join("log");
        let mut process = Process::start(contestant.name(), log, &mut command);
        wait_for(&format!("{} is ready", contestant.name()), READY_WITHIN, || {
            if let Some(status) = process.exited() {
                panic!("{} ended: {status}\n{}", contestant.name(), process.log_text());
            }
            TcpStream::connect(&address).ok()
        });
        Server {
            // Without a pid, all that listens there: nginx has several processes.
            target: Target { url: format!("http://{address}"), app_id, api_key, server_pid: None },
            stack: None,
            process: Some(process),
            _port: Some(port),
            _folder: Some(folder),
        }
    }

    /// What the engine says that it was built from; none for a peer.
    pub fn engine_commit(&self) -> Option<String> {
        self.stack.as_ref().map(|stack| commit_of_engine(&stack.admin))
    }

    /// Blocks that the engine has still to hand on; a peer has none.
    pub fn backlog_blocks(&self) -> f64 {
        let metric = |stack: &Stack| stack.metric("unmogrowp_journal_backlog_blocks");
        self.stack
            .as_ref()
            .map_or(0.0, |stack| metric(stack).expect("the engine tells its backlog"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            process.terminate(STOP_WITHIN);
        }
    }
}

/// Each contestant's own, so that none reads or extends another's log.
pub fn topic(contestant: Contestant) -> String {
    match contestant {
        Contestant::Engine => KAFKA_TOPIC.to_owned(),
        other => format!("{KAFKA_TOPIC}-{}", other.name()),
    }
}

/// All topics alike, made before anyone starts.
pub fn create_topics(broker: &tests::Broker) {
    for contestant in Contestant::WITH_KAFKA {
        let partitions = i32::try_from(KAFKA_PARTITIONS).expect("a few");
        broker.create_topic(&topic(contestant), partitions, &[("max.message.bytes", "1048576")]);
    }
}

fn start_engine(brokers: Option<&str>) -> Server {
    let mut options = match brokers {
        // Kafka's side is what counts there; the consumer and ClickHouse would only take its CPU.
        Some(brokers) => StackOptions::engine_alone()
            .set(&format!("kafka.brokers={brokers}"))
            .set(&format!("kafka.partitions={KAFKA_PARTITIONS}"))
            .set("kafka.replication=1"),
        None => StackOptions::default(),
    };
    options.cores = 0;
    let stack = Stack::start(options.set(&format!("server.nice={BACKGROUND_NICENESS}")));
    if let Some(clickhouse) = &stack.clickhouse_process {
        run_idle(clickhouse.pid());
    }
    Server {
        target: Target::from(&stack),
        stack: Some(stack),
        process: None,
        _port: None,
        _folder: None,
    }
}

/// As `./dev up` runs it: all threads it has, and those that they make later.
fn run_idle(pid: u32) {
    let status = Command::new("chrt")
        .args(["--idle", "--all-tasks", "--pid", "0", &pid.to_string()])
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.is_ok_and(|status| status.success()), "ClickHouse keeps its scheduling policy");
}

/// Where this bench or test was compiled to: `PROFILE/deps/NAME`.
fn profile_folder() -> PathBuf {
    let own = std::env::current_exe().expect("a process knows its own path");
    own.ancestors().nth(2).expect("it lies in PROFILE/deps").to_owned()
}

fn hyper_program() -> PathBuf {
    let path = profile_folder().join("examples/peer-hyper");
    assert!(path.exists(), "{} is not there: cargo build -p bench --examples", path.display());
    path
}

/// With the profile that the bench itself was compiled with, which is that of release.
fn build_hyper() -> String {
    let folder = profile_folder();
    let profile = folder.file_name().and_then(|name| name.to_str()).expect("it has a name");
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--profile", profile, "--locked", "--quiet", "-p", "bench"]);
    command.args(["--example", "peer-hyper"]).current_dir(checkout());
    run(&mut command, "it builds with the workspace");
    let dependencies = ["hyper", "tokio", "serde_json", "rdkafka"].map(|name| {
        let lock = include_str!("../../Cargo.lock");
        let entry = lock.split("[[package]]").find(|e| e.contains(&format!("name = \"{name}\"\n")));
        let version = entry.and_then(|entry| entry.split("version = \"").nth(1)?.split('"').next());
        format!("{name} {}", version.unwrap_or("of unknown version"))
    });
    dependencies.join(", ")
}

fn go_program() -> PathBuf {
    profile_folder().join("peer-go")
}

fn build_go() -> String {
    const HOW: &str = "Go 1.25 or newer must be in PATH";
    let folder = checkout().join("bench/peers/go");
    let mut command = Command::new("go");
    command.args(["build", "-trimpath", "-o"]).arg(go_program()).arg(".").current_dir(&folder);
    run(&mut command, HOW);
    let modules = ["github.com/gofiber/fiber/v3", "github.com/segmentio/kafka-go"];
    let go = said_by(Command::new("go").args(["env", "GOVERSION"]), HOW);
    let mut list = Command::new("go");
    list.args(["list", "-m"]).args(modules).current_dir(&folder);
    format!("{go}, {}", said_by(&mut list, HOW))
}

fn nginx_program() -> PathBuf {
    if let Some(named) = std::env::var_os("UNMOGROWP_NGINX") {
        return PathBuf::from(named);
    }
    // Debian keeps it out of the PATH of ordinary users.
    let debian = PathBuf::from("/usr/sbin/nginx");
    if debian.exists() { debian } else { PathBuf::from("nginx") }
}

fn nginx(folder: &Path, address: &str) -> [PathBuf; 5] {
    let template = std::fs::read_to_string(checkout().join("bench/peers/nginx.conf"));
    let config = template
        .expect("bench/peers/nginx.conf")
        .replace("@FOLDER@", &folder.display().to_string())
        .replace("@ADDRESS@", address);
    let path = folder.join("nginx.conf");
    std::fs::write(&path, config).expect("a file in a folder of our own");
    [nginx_program(), "-p".into(), folder.to_owned(), "-c".into(), path]
}

fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Its standard output and error in one line.
fn said_by(command: &mut Command, how: &str) -> String {
    let (output, errors) = run(command, how);
    format!("{output} {errors}").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn run(command: &mut Command, how: &str) -> (String, String) {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{program} could not be started: {error}; {how}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program}: {}; {how}\n{said}{errors}", output.status);
    (said, errors)
}
