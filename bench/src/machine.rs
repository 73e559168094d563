//! What a figure depends on beside the code: the commit, the kernel, the processor, the memory.
//!
//! Read once, when a bench begins. What can not be read is "unknown" and never invented.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of history themselves do not make a checkout dirty: benches that are recorded one after
/// the other all measure the same commit.
const CHANGES_THAT_COUNT: [&str; 2] = [".", ":(exclude)bench/history.jsonl"];

const UNKNOWN: &str = "unknown";

/// Flags of /proc/cpuinfo and what they are called, the widest first.
const VECTORS: [(&str, &str); 2] = [("avx512bw", "AVX-512"), ("avx2", "AVX2")];

#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// 40 hexadecimal digits.
    pub commit: String,
    /// Something differs from the commit.
    pub dirty: bool,
    pub kernel: String,
    /// The model as it names itself, and the widest vectors that it has: many virtual machines name
    /// processors that differ in them alike.
    pub cpu: String,
    pub cores: usize,
    pub memory_gib: u64,
}

impl Machine {
    pub fn this() -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let changes = [&["status", "--porcelain", "--"][..], &CHANGES_THAT_COUNT[..]].concat();
        Machine {
            commit: head_commit(),
            dirty: git(&changes).is_none_or(|changed| !changed.is_empty()),
            kernel: known(read("/proc/sys/kernel/osrelease").trim()),
            cpu: cpu(&read("/proc/cpuinfo")),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: memory_gib(&read("/proc/meminfo")),
        }
    }
}

/// The root of the checkout that this bench was compiled in.
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("bench/ lies in the checkout").to_owned()
}

pub fn head_commit() -> String {
    known(&git(&["rev-parse", "HEAD"]).unwrap_or_default())
}

/// What git prints, trimmed; `None` where it fails.
pub fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(checkout()).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

fn known(text: &str) -> String {
    if text.is_empty() { UNKNOWN.to_owned() } else { text.to_owned() }
}

fn cpu(cpuinfo: &str) -> String {
    let value = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
    };
    let model = known(value("model name"));
    let flags = value("flags");
    let widest = VECTORS.iter().find(|(flag, _)| flags.split(' ').any(|has| has == *flag));
    match widest {
        Some((_, vectors)) => format!("{model} with {vectors}"),
        None => model,
    }
}

/// Rounded to the nearest; 0 where it is not known.
fn memory_gib(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map_or(0, |kib| (kib + (1 << 19)) >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_the_kernel() {
        let epyc = |flags: &str| cpu(&format!("model name\t: AMD EPYC\nflags\t\t: {flags}\n"));
        assert_eq!(epyc("fpu avx2 avx512f avx512bw vaes"), "AMD EPYC with AVX-512");
        assert_eq!(epyc("fpu avx2 avx512f"), "AMD EPYC with AVX2");
        assert_eq!(epyc("fpu sse4_2"), "AMD EPYC");
        assert_eq!(cpu("processor\t: 0\n"), UNKNOWN);
        assert_eq!(memory_gib("MemTotal:       24683684 kB\nMemFree: 1 kB\n"), 24);
        assert_eq!(memory_gib(""), 0);
        assert_eq!(known(""), UNKNOWN);
    }

    #[test]
    fn this_machine_is_known() {
        let machine = Machine::this();
        assert!(machine.cores >= 1 && machine.memory_gib >= 1, "{machine:?}");
        assert_ne!(machine.kernel, UNKNOWN);
    }
}
