//! CPU time and memory of processes, from /proc.
//!
//! Must not know which process it is. A process that is gone is a panic: its figures would be lost.

use std::path::Path;

/// The unit of times in /proc/PID/stat on every Linux.
const TICKS_PER_S: f64 = 100.0;

/// User and system time since the process began, of all its threads, ended ones too.
pub fn process_cpu_s(pid: u32) -> f64 {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path);
    cpu_s_of(&stat.unwrap_or_else(|error| panic!("{path}: {error}; did the process end?")))
}

/// How the names of the threads begin that the engine answers with: shards, the writers and the keeper of
/// the journal, and the workers that the kernel makes for io_uring.
const SERVING: [&str; 3] = ["shard", "journal-", "iou-"];

/// Of an engine what serving took: all of it without its forwarder, admin port and watchers. Those
/// are subtracted, as they live as long as the engine, while io_uring's workers come and go.
pub fn serving_cpu_s(pid: u32) -> f64 {
    let serves = |comm: &str| SERVING.iter().any(|name| comm.starts_with(name));
    process_cpu_s(pid) - threads_cpu_s(pid, |comm| !serves(comm))
}

/// The same as [`process_cpu_s`] of those of its living threads whose name is one that counts.
fn threads_cpu_s(pid: u32, counts: impl Fn(&str) -> bool) -> f64 {
    let path = format!("/proc/{pid}/task");
    let tasks = std::fs::read_dir(&path);
    let tasks = tasks.unwrap_or_else(|error| panic!("{path}: {error}; did the process end?"));
    let named = |task: &Path| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| counts(comm.trim_end()))
    };
    let tasks = tasks.flatten().map(|entry| entry.path()).filter(|task| named(task));
    tasks
        .filter_map(|task| std::fs::read_to_string(task.join("stat")).ok())
        .map(|s| cpu_s_of(&s))
        .sum()
}

/// The most memory that was resident at a time.
pub fn rss_peak_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("KiB");
    kib / 1024.0
}

/// Fields 14 and 15; the name, field 2, is in parentheses and may hold anything.
fn cpu_s_of(stat: &str) -> f64 {
    let rest = &stat[stat.rfind(')').expect("a name in parentheses") + 1..];
    let times = rest.split_ascii_whitespace().skip(14 - 3).take(2);
    let ticks: f64 = times.map(|ticks| ticks.parse::<f64>().expect("ticks")).sum();
    ticks / TICKS_PER_S
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_line_of_stat() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 25 3 4 20 0 1 0 5 0 0";
        assert_eq!(cpu_s_of(stat), 1.75);
    }

    #[test]
    fn a_thread_that_works_is_seen_by_its_name() {
        let pid = std::process::id();
        let work = move || {
            let end = Instant::now() + Duration::from_millis(200);
            while Instant::now() < end {
                std::hint::black_box(0);
            }
            let of = |name: &'static str| threads_cpu_s(pid, move |comm| comm.starts_with(name));
            (of("shard-"), of("nobody-"), serving_cpu_s(pid))
        };
        let thread = std::thread::Builder::new().name("shard-1".to_owned()).spawn(work).unwrap();
        let (busy, nobody, serving) = thread.join().unwrap();
        // How much of the machine it got, and in how large steps that is counted, is not ours.
        assert!(busy > 0.0 && nobody == 0.0, "{busy} {nobody}");
        assert!(process_cpu_s(pid) >= busy);
        // What has ended counts as serving, the test's other threads do not.
        assert!(serving >= busy, "{serving} {busy}");
        assert!(rss_peak_mib(pid) > 1.0);
    }
}
