//! Servers that exist for one bench. They are the bench's own executable, started again with another
//! argument: no binary of the project is one of them, so nobody can deploy one by mistake.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::load::Target;
use crate::{bare_receive, null_engine};

const SERVE: &str = "serve-for-bench";
const APP_ID: &str = "0190f0e0-7b1c-7c3e-8f00-000000000001";
const API_KEY: &str = "umg_bench";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    NullEngine,
    BareReceive,
}

impl Kind {
    const ALL: [Kind; 2] = [Kind::NullEngine, Kind::BareReceive];

    const fn name(self) -> &'static str {
        match self {
            Kind::NullEngine => "null-engine",
            Kind::BareReceive => "bare-receive",
        }
    }

    fn start(self) -> anyhow::Result<SocketAddr> {
        match self {
            Kind::NullEngine => null_engine::start(APP_ID, API_KEY),
            Kind::BareReceive => Ok(bare_receive::start()?),
        }
    }
}

/// The first thing that the bench's main does. Does not return where this process is such a server;
/// it ends with whoever started it.
pub fn serve_if_asked() {
    let words: Vec<String> = std::env::args().collect();
    let [_, serve, name] = words.as_slice() else { return };
    if serve != SERVE {
        return;
    }
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name).expect("a known server");
    let address = kind.start().expect("the server starts");
    println!("http://{address}");
    std::io::stdout().flush().expect("somebody waits for the address");
    // The other end is closed when the bench ends, however it does.
    let _ = std::io::stdin().read(&mut [0]);
    std::process::exit(0);
}

/// A running one; ended when this is dropped.
pub struct Served {
    child: Child,
    url: String,
}

impl Served {
    pub fn start(kind: Kind) -> Served {
        let bench = std::env::current_exe().expect("a bench knows its own path");
        let mut child = Command::new(bench)
            .args([SERVE, kind.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the bench can be started again");
        let mut url = String::new();
        let output = child.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut url).expect("the address");
        assert!(url.starts_with("http://"), "{} did not start", kind.name());
        Served { child, url: url.trim().to_owned() }
    }

    pub fn target(&self) -> Target {
        Target {
            url: self.url.clone(),
            app_id: APP_ID.to_owned(),
            api_key: API_KEY.to_owned(),
            server_pid: Some(self.child.id()),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
