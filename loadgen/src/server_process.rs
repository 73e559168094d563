//! What the server used during a run: CPU time and memory of the given process, of whoever owns the
//! listening socket (found through `/proc`), or as a Prometheus page says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;

use serde::Serialize;

use crate::api_client::ApiClient;
use crate::cpu_time::CpuTime;
use crate::plan::ServerFigures;
use crate::target::Target;

/// None where it could not be found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ServerUse {
    /// User and system time of all threads during the run.
    pub cpu_s: Option<f64>,
    /// The two parts of `cpu_s`, where they are known.
    pub cpu_user_s: Option<f64>,
    pub cpu_system_s: Option<f64>,
    /// The most that was seen, sampled once a second.
    pub rss_bytes: Option<u64>,
}

pub struct ServerProbe {
    source: Source,
    before: ServerUse,
    rss_bytes_max: Option<u64>,
}

enum Source {
    Processes(BTreeSet<u32>),
    Metrics(Target),
}

impl ServerProbe {
    pub fn start(figures: &ServerFigures, address: SocketAddr) -> Self {
        let source = match figures {
            ServerFigures::Pid(pid) => Source::Processes(BTreeSet::from([*pid])),
            ServerFigures::Metrics(target) => Source::Metrics(target.clone()),
            ServerFigures::WhoListens if address.ip().is_loopback() => {
                Source::Processes(listening_processes(address.port()))
            }
            ServerFigures::WhoListens => Source::Processes(BTreeSet::new()),
        };
        let now = source.read();
        ServerProbe { source, before: now, rss_bytes_max: now.rss_bytes }
    }

    pub fn sample(&mut self) {
        let seen = match &self.source {
            Source::Processes(pids) => sum(pids, rss_bytes),
            Source::Metrics(_) => self.source.read().rss_bytes,
        };
        self.rss_bytes_max = self.rss_bytes_max.max(seen);
    }

    pub fn finish(mut self) -> ServerUse {
        let now = self.source.read();
        self.rss_bytes_max = self.rss_bytes_max.max(now.rss_bytes);
        let spent = |of: fn(&ServerUse) -> Option<f64>| Some(of(&now)? - of(&self.before)?);
        ServerUse {
            cpu_s: spent(|used| used.cpu_s),
            cpu_user_s: spent(|used| used.cpu_user_s),
            cpu_system_s: spent(|used| used.cpu_system_s),
            rss_bytes: self.rss_bytes_max,
        }
    }
}

impl Source {
    fn read(&self) -> ServerUse {
        match self {
            Source::Processes(pids) => {
                let cpu = sum(pids, CpuTime::of_process);
                ServerUse {
                    cpu_s: cpu.map(CpuTime::total_s),
                    cpu_user_s: cpu.map(|cpu| cpu.user_s),
                    cpu_system_s: cpu.map(|cpu| cpu.system_s),
                    rss_bytes: sum(pids, rss_bytes),
                }
            }
            Source::Metrics(target) => {
                let page = ApiClient::connect(target, None).and_then(|mut client| client.get(""));
                page.map_or(ServerUse::default(), |(_, body)| read_metrics(&body))
            }
        }
    }
}

/// None when there is no process, or one of them can not be read.
fn sum<T: std::iter::Sum<T>>(pids: &BTreeSet<u32>, read: fn(u32) -> Option<T>) -> Option<T> {
    if pids.is_empty() { None } else { pids.iter().map(|&pid| read(pid)).sum() }
}

fn rss_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The processes that hold a listening TCP socket on `port`; those of other users are only seen
/// with their rights.
fn listening_processes(port: u16) -> BTreeSet<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let links: BTreeSet<String> = tables
        .iter()
        .flatten()
        .flat_map(|table| table.lines())
        .filter_map(|line| listening_inode(line, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let holds_one = |pid: &u32| {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        files.flatten().any(|file| {
            fs::read_link(file.path())
                .is_ok_and(|link| link.to_str().is_some_and(|link| links.contains(link)))
        })
    };
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeSet::new() };
    let names = entries.flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).filter(holds_one).collect()
}

/// The inode of a line of `/proc/net/tcp` that is a listener on `port`.
fn listening_inode(line: &str, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    let local_port = fields.get(1)?.rsplit_once(':')?.1;
    if *fields.get(3)? != LISTEN || u16::from_str_radix(local_port, 16).ok()? != port {
        return None;
    }
    fields.get(9)?.parse().ok()
}

fn read_metrics(page: &[u8]) -> ServerUse {
    let page = String::from_utf8_lossy(page);
    let mut values: BTreeMap<&str, f64> = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_ascii_whitespace();
        if let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) {
            values.insert(name, value);
        }
    }
    ServerUse {
        cpu_s: values.get("process_cpu_seconds_total").copied(),
        rss_bytes: values.get("process_resident_memory_bytes").map(|&bytes| bytes as u64),
        ..ServerUse::default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_owner_of_a_listener_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(listening_processes(address.port()).contains(&std::process::id()));
        let mut probe = ServerProbe::start(&ServerFigures::WhoListens, address);
        probe.sample();
        let seen = probe.finish();
        assert!(seen.cpu_s.unwrap() >= 0.0);
        let parts = seen.cpu_user_s.unwrap() + seen.cpu_system_s.unwrap();
        assert!((parts - seen.cpu_s.unwrap()).abs() < 1e-6);
        assert!(seen.rss_bytes.unwrap() > 100_000);
    }

    #[test]
    fn what_is_not_there_is_none() {
        let elsewhere = "192.0.2.1:80".parse().unwrap();
        let probe = ServerProbe::start(&ServerFigures::WhoListens, elsewhere);
        assert_eq!(probe.finish(), ServerUse::default());
        let probe = ServerProbe::start(&ServerFigures::Pid(u32::MAX), elsewhere);
        assert_eq!(probe.finish(), ServerUse::default());
    }

    #[test]
    fn listeners_are_told_from_connections() {
        let line = |state: &str| {
            format!("0: 0100007F:1F90 00000000:0000 {state} 0:0 00:0 0 0 0 4711 1 0 100 0 0 10 0")
        };
        assert_eq!(listening_inode(&line("0A"), 8080), Some(4711));
        assert_eq!(listening_inode(&line("01"), 8080), None);
        assert_eq!(listening_inode(&line("0A"), 8081), None);
        assert_eq!(listening_inode("sl local_address rem_address st", 8080), None);
    }

    #[test]
    fn metrics_pages() {
        let page = b"# TYPE x\nprocess_cpu_seconds_total 1.5\nprocess_resident_memory_bytes 2e6\n";
        let expected =
            ServerUse { cpu_s: Some(1.5), rss_bytes: Some(2_000_000), ..ServerUse::default() };
        assert_eq!(read_metrics(page), expected);
        assert_eq!(read_metrics(b"x{a=\"b\"} 1"), ServerUse::default());
    }
}
