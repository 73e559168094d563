//! Every knob of `tuning/` on copies of what it would change: set, check, undo. Nothing of this machine
//! is changed. Kafka's tool is a stand-in here: the jars that Kafka runs from do not have it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use tests::process::checkout;

/// A machine with two cores, a card with one queue, and a disk.
const MACHINE: [(&str, &str); 30] = [
    ("proc/sys/kernel/random/boot_id", "first-boot\n"),
    ("proc/sys/kernel/io_uring_disabled", "2\n"),
    ("proc/sys/net/core/somaxconn", "128\n"),
    ("proc/sys/net/core/netdev_max_backlog", "1000\n"),
    ("proc/sys/net/core/busy_poll", "0\n"),
    ("proc/sys/net/core/busy_read", "50\n"),
    ("proc/sys/net/core/rps_sock_flow_entries", "0\n"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "512\n"),
    ("proc/sys/net/ipv4/tcp_syncookies", "1\n"),
    ("proc/sys/net/ipv4/tcp_abort_on_overflow", "1\n"),
    ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1\n"),
    ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t33554432\n"),
    ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t65536\n"),
    ("proc/sys/vm/nr_hugepages", "7\n"),
    ("proc/sys/vm/swappiness", "60\n"),
    ("proc/sys/vm/max_map_count", "65530\n"),
    ("proc/sys/vm/dirty_bytes", "0\n"),
    ("proc/sys/vm/dirty_ratio", "20\n"),
    ("proc/sys/vm/dirty_background_bytes", "0\n"),
    ("proc/sys/vm/dirty_background_ratio", "10\n"),
    ("proc/sys/fs/nr_open", "1024\n"),
    ("proc/sys/fs/file-max", "2466193\n"),
    ("proc/interrupts", " 38:  0  1  PCI-MSIX-0000:00:03.0  1-edge  virtio2-input.0\n"),
    ("proc/irq/38/smp_affinity_list", "0-1\n"),
    ("sys/devices/system/cpu/online", "0-1\n"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
    ("sys/kernel/mm/transparent_hugepage/defrag", "always defer [defer+madvise] madvise never\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
    ("sys/module/haltpoll/parameters/guest_halt_poll_ns", "0\n"),
    ("etc/security/limits.d/90-unmogrowp-files.conf", "# somebody's own, without an end of line"),
];
const DEVICES: [(&str, &str); 9] = [
    ("sys/class/net/eth0/device/msi_irqs/38", ""),
    ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n"),
    ("sys/class/net/eth0/queues/rx-0/rps_flow_cnt", "0\n"),
    ("sys/block/vda/device/name", ""),
    ("sys/block/vda/queue/scheduler", "none [mq-deadline] kyber\n"),
    ("sys/block/vda/queue/rotational", "1\n"),
    ("sys/block/vda/queue/rq_affinity", "1\n"),
    ("sys/block/vda/queue/write_cache", "write back\n"),
    ("etc/clickhouse-server/config.xml", "<clickhouse/>\n"),
];
/// What can be set on a machine with those files.
const SETTABLE: [&str; 15] = [
    "busy-poll",
    "clickhouse-server",
    "cpu-governor",
    "disk-scheduler",
    "disk-write-cache",
    "file-limits",
    "halt-poll",
    "huge-pages",
    "io-uring",
    "irq-affinity",
    "listen-backlog",
    "network-sysctls",
    "page-cache",
    "rps-xps",
    "transparent-huge-pages",
];

struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new() -> Machine {
        let folder =
            tempfile::Builder::new().prefix("unmogrowp-tuning-").tempdir().expect("folder");
        for (path, text) in MACHINE.iter().chain(&DEVICES) {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
            std::fs::write(path, text).expect("a file");
        }
        Machine { folder }
    }

    fn run(&self, knob: &str, verb: &str) -> Output {
        let mut command = Command::new(checkout().join(format!("tuning/{knob}.sh")));
        command.arg(verb).env("UNMOGROWP_TUNING_ROOT", self.folder.path());
        command.env("UNMOGROWP_POWER_LOSS_PROTECTION", "yes").output().expect("a knob starts")
    }

    fn run_ok(&self, knob: &str, verb: &str) {
        let output = self.run(knob, verb);
        assert!(output.status.success(), "{knob} {verb}: {}", words(&output));
    }

    fn write(&self, path: &str, text: &str) {
        std::fs::write(self.folder.path().join(path), text).expect("a file");
    }

    /// Every file but those that remember, with its bytes.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(self.folder.path(), &mut files);
        files.retain(|path, _| !path.starts_with(self.folder.path().join("var")));
        files
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            let bytes = std::fs::read(&path).expect("a file");
            files.insert(path, bytes);
        }
    }
}

fn words(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn what_is_set_is_checked_and_undone_to_the_byte() {
    for knob in SETTABLE {
        let machine = Machine::new();
        let before = machine.files();
        assert_eq!(machine.run(knob, "check").status.code(), Some(1), "{knob} differs at first");
        assert_eq!(machine.files(), before, "{knob} check changes nothing");
        machine.run_ok(knob, "set");
        machine.run_ok(knob, "check");
        let set = machine.files();
        assert_ne!(set, before, "{knob} set");
        machine.run_ok(knob, "set");
        assert_eq!(machine.files(), set, "{knob} set again");
        machine.run_ok(knob, "undo");
        assert_eq!(machine.files(), before, "{knob} undo");
        machine.run_ok(knob, "undo");
        assert_eq!(machine.files(), before, "{knob} undo again");
    }
}

/// After a reboot the kernel's values are its own again, and what was there before it is history.
#[test]
fn a_reboot_is_not_undone() {
    let machine = Machine::new();
    machine.run_ok("listen-backlog", "set");
    machine.write("proc/sys/kernel/random/boot_id", "second-boot\n");
    machine.write("proc/sys/net/core/somaxconn", "4096\n");
    let booted = machine.files();
    machine.run_ok("listen-backlog", "undo");
    assert_eq!(machine.files(), booted);
}

#[test]
fn a_write_cache_is_believed_only_on_the_operators_word() {
    let machine = Machine::new();
    let mut command = Command::new(checkout().join("tuning/disk-write-cache.sh"));
    command.arg("set").env("UNMOGROWP_TUNING_ROOT", machine.folder.path());
    let output = command.env_remove("UNMOGROWP_POWER_LOSS_PROTECTION").output().expect("starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output).contains("UNMOGROWP_POWER_LOSS_PROTECTION=yes"), "{}", words(&output));
}

#[test]
fn the_table_has_every_knob() {
    let output = Command::new(checkout().join("tuning/check")).output().expect("starts");
    let text = words(&output);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{text}");
    for entry in std::fs::read_dir(checkout().join("tuning")).expect("tuning").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(knob) = name.strip_suffix(".sh").filter(|knob| *knob != "lib") else { continue };
        assert!(text.lines().any(|line| line.starts_with(knob)), "{knob} is not in\n{text}");
        let mode = entry.metadata().expect("a file").permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{name} can be run");
        let explained = Command::new(entry.path()).arg("explain").output().expect("starts");
        for part in ["Why: ", "When not: ", "Effect: "] {
            assert!(words(&explained).contains(part), "{name} explain has no '{part}'");
        }
    }
}

/// kafka-configs.sh is a stand-in that keeps one override in a file.
#[test]
fn a_topic_gets_back_what_it_had() {
    let folder = tempfile::tempdir().expect("folder");
    let kept = folder.path().join("kept");
    std::fs::write(&kept, "retention.ms=60000\n").expect("a file");
    let tool = folder.path().join("kafka-configs.sh");
    let script = r#"#!/bin/bash
kept=$(dirname "$0")/kept
while (($#)); do
  case $1 in
    --add-config) sed -i "/^${2%%=*}=/d" "$kept"; echo "$2" >>"$kept"; exit ;;
    --delete-config) sed -i "/^$2=/d" "$kept"; exit ;;
  esac
  shift
done
for line in max.message.bytes=1048588 unclean.leader.election.enable=false compression.type=lz4 retention.ms=1; do
  own=$(grep "^${line%%=*}=" "$kept")
  echo "  ${own:-$line} sensitive=false synonyms={${own:+DYNAMIC_TOPIC_CONFIG:$own, }DEFAULT_CONFIG:$line}"
done
"#;
    std::fs::write(&tool, script).expect("a file");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&tool, mode).expect("a stand-in that runs");
    let run = |verb: &str, code: i32| {
        let mut command = Command::new(checkout().join("tuning/kafka-topic.sh"));
        command.arg(verb).env("UNMOGROWP_TUNING_STATE", folder.path().join("state"));
        command.env("UNMOGROWP_KAFKA_TOOLS", folder.path());
        let output = command.env("UNMOGROWP_KAFKA_BROKERS", "stand-in:1").output().expect("starts");
        assert_eq!(output.status.code(), Some(code), "{verb}: {}", words(&output));
    };
    run("check", 1);
    run("set", 0);
    run("check", 0);
    let set = std::fs::read_to_string(&kept).expect("kept");
    assert!(set.contains("retention.ms=604800000") && set.contains("compression.type=producer"));
    run("undo", 0);
    assert_eq!(std::fs::read_to_string(&kept).expect("kept"), "retention.ms=60000\n");
}
