//! `./dev` as a test runs it: on a folder of its own, with free ports, with the binaries under test, so
//! that nothing is built; and the processes that belong to such a run.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Process, binaries_folder, checkout, libchdb};
use crate::servers::kafka::jars;

/// A folder for the data and, beside it, the log of `./dev` itself.
pub struct DevFolder {
    data: PathBuf,
    log: PathBuf,
    _outer: TempDir,
}

impl Default for DevFolder {
    fn default() -> DevFolder {
        let outer = tempfile::Builder::new().prefix("unmogrowp-dev-").tempdir().expect("folder");
        let data = outer.path().join("data");
        std::fs::create_dir(&data).expect("folder");
        DevFolder { data, log: outer.path().join("dev.log"), _outer: outer }
    }
}

impl DevFolder {
    pub fn path(&self) -> &Path {
        &self.data
    }

    /// `./dev ARGUMENTS --data FOLDER`, not yet started.
    pub fn dev(&self, arguments: &[&str]) -> Command {
        // Signals that the test's own starter ignores (nohup does) are answered here all the same.
        let mut command = Command::new("env");
        command
            .arg("--default-signal")
            .arg(checkout().join("dev"))
            .args(arguments)
            .arg("--data")
            .arg(&self.data)
            .env("UNMOGROWP_BIN_DIR", binaries_folder())
            .env("UNMOGROWP_LIBCHDB", libchdb())
            .env("UNMOGROWP_KAFKA_JARS", jars())
            .env("UNMOGROWP_KAFKA_HEAP_MIB", "384")
            .env("UNMOGROWP_PORTS", "0");
        command
    }

    /// The same, running.
    pub fn start(&self, arguments: &[&str]) -> Process {
        Process::start("dev", self.log.clone(), &mut self.dev(arguments))
    }

    /// Every process with the folder in its command line, and that line, without `but`.
    pub fn processes(&self, but: u32) -> Vec<(u32, String)> {
        let folder = self.data.to_string_lossy().into_owned();
        let all = std::fs::read_dir("/proc").expect("/proc").flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| *pid != but)
            .filter_map(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                line.contains(&folder).then_some((pid, line))
            })
            .collect()
    }

    /// The process with this word in its command line.
    pub fn part(&self, name: &str, but: u32) -> u32 {
        let all = self.processes(but);
        let found = all.iter().find(|(_, line)| line.contains(name));
        found.unwrap_or_else(|| panic!("{name} is not among {all:?}")).0
    }

    /// Nothing runs, and the file that told where everything is is gone.
    pub fn assert_all_gone(&self, but: u32, told_in: &str) {
        let left = self.processes(but);
        assert!(left.is_empty(), "still there: {left:?}");
        assert!(!self.data.join(told_in).exists(), "{told_in} is removed");
    }
}

/// Process group and session of a living process.
pub fn group_and_session(pid: u32) -> (String, String) {
    let stat = fields_of(Path::new(&format!("/proc/{pid}/stat"))).expect("the process lives");
    (stat[2].clone(), stat[3].clone())
}

/// The scheduling policy of each thread of a living process, as Linux numbers them: 0 the usual one,
/// 5 that of idle tasks.
pub fn scheduling_policies(pid: u32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    // Threads come and go.
    let stats = threads.flatten().filter_map(|thread| fields_of(&thread.path().join("stat")));
    stats.map(|stat| stat[38].clone()).collect()
}

/// Those of a `stat` in `/proc` from the third on, the state; None where nothing lives there.
fn fields_of(stat: &Path) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(stat).ok()?;
    let (_, rest) = stat.rsplit_once(") ").expect("a name in parentheses");
    Some(rest.split(' ').map(str::to_owned).collect())
}
