//! What the project promises about its own source. Each rule says what it found and where.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use tests::process::checkout;
use tests::sources::{Source, sources};

/// Where `unsafe` may stand; every other file is safe Rust.
const UNSAFE_ALLOWED: [&str; 9] = [
    // The ring, the poller and the sockets.
    "engine/src/driver/",
    // SIMD kernels and their run-time dispatch.
    "engine/src/http/scan.rs",
    "engine/src/http/scan/",
    "engine/src/json/kernel/",
    // Aligned buffers that the kernel reads and writes while they are lent to it.
    "engine/src/journal/buffer.rs",
    // The C interface of the ClickHouse library.
    "embedded/src/chdb.rs",
    "embedded/src/chdb/",
    // An allocator that counts, in one test binary.
    "engine/tests/counting_allocator/",
    // Criterion benches pin the process; nothing that users run.
    "bench/benches/",
];

/// What the simulation runs: here time, randomness and threads come from outside alone.
const SIMULATED: [&str; 19] = [
    "proto/src/",
    "engine/src/connection.rs",
    "engine/src/feed_source.rs",
    "engine/src/http/",
    "engine/src/inflate.rs",
    "engine/src/json/",
    "engine/src/journal/",
    "engine/src/shard/",
    "engine/src/forward/batcher.rs",
    "engine/src/forward/direct/",
    "engine/src/forward/source.rs",
    "engine/src/forward/kafka/circuit.rs",
    "engine/src/forward/kafka/lane.rs",
    "engine/src/forward/kafka/ledger.rs",
    "engine/src/forward/kafka/route.rs",
    "engine/src/forward/kafka/slot.rs",
    "consumer/src/desk.rs",
    "consumer/src/partition.rs",
    "consumer/src/worker",
];
/// The real disk and the real thread behind the journal; the simulation has its own.
const NOT_SIMULATED: [&str; 3] = [
    "engine/src/journal/keeper_thread.rs",
    "engine/src/journal/lock.rs",
    "engine/src/journal/storage.rs",
];

/// Past this many lines a file's header says why it is that long.
const FILE_LINES_MAX: usize = 600;
const FILE_LINES_NEVER_PAST: usize = 1_000;
const ADR_LINES_MAX: usize = 80;

const LICENCES_ALLOWED: [&str; 13] = [
    "Apache-2.0",
    "MIT",
    "MIT-0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "0BSD",
];

/// Used unchanged, which is all that its licence asks of those who do not change it: glommio needs it.
const LICENCE_EXCEPTIONS: [(&str, &str); 1] = [("bitmaps", "MPL-2.0+")];

fn check_none(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

fn metadata() -> Value {
    // What other platforms would need was not downloaded.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(["--filter-platform", &platform])
        .current_dir(checkout())
        .output()
        .expect("cargo starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata: {errors}");
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Names of the workspace's crates, and of each the names of those it depends on.
fn our_dependencies(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let members = list(metadata, "workspace_members");
    let ours: Vec<&Value> =
        list(metadata, "packages").iter().filter(|p| members.contains(&p["id"])).collect();
    let names: BTreeSet<&str> = ours.iter().map(|package| text(package, "name")).collect();
    let needed = |package: &Value| -> BTreeSet<String> {
        let dependencies = list(package, "dependencies").iter();
        let dependencies = dependencies.filter(|d| names.contains(text(d, "name")));
        // Tests and benches of every crate may start servers with the harness.
        let dependencies =
            dependencies.filter(|d| (text(d, "name"), text(d, "kind")) != ("tests", "dev"));
        dependencies.map(|dependency| text(dependency, "name").to_owned()).collect()
    };
    ours.iter().map(|package| (text(package, "name").to_owned(), needed(package))).collect()
}

#[test]
fn crates_depend_in_one_direction() {
    let found: Vec<String> = our_dependencies(&metadata())
        .into_iter()
        .flat_map(|(name, needed)| {
            let allowed: &[&str] = match name.as_str() {
                "proto" | "embedded" => &[],
                // What a bench starts it starts as the tests do.
                "bench" => &["proto", "engine", "embedded", "api", "loadgen", "consumer", "tests"],
                "tests" => &["proto", "engine", "embedded", "api", "loadgen", "consumer"],
                "fuzz" => &["proto", "engine", "embedded"],
                "sim" => &["proto", "engine", "consumer"],
                _ => &["proto"],
            };
            let wrong = needed.into_iter().filter(|other| !allowed.contains(&other.as_str()));
            wrong.map(|other| format!("{name} → {other}")).collect::<Vec<_>>()
        })
        .collect();
    check_none("a crate depends on one that it must not know", &found);
}

#[test]
fn a_crate_is_called_as_its_folder() {
    let root = checkout();
    let found: Vec<String> = our_dependencies(&metadata())
        .into_keys()
        .filter(|name| {
            let folders = [root.join(name), root.join("tests").join(name)];
            !folders.iter().any(|folder| folder.join("Cargo.toml").exists())
        })
        .collect();
    check_none("no folder of this name at the root or in tests", &found);
}

/// `A/B`, `A OR B` and `A WITH exception` count when one alternative is allowed, `AND` when all are.
fn licence_is_allowed(expression: &str) -> bool {
    let plain = expression.replace('/', " OR ").replace(['(', ')'], " ");
    plain.split(" OR ").any(|alternative| {
        alternative.split(" AND ").all(|licence| {
            let name = licence.split(" WITH ").next().unwrap_or_default().trim();
            LICENCES_ALLOWED.contains(&name)
        })
    })
}

#[test]
fn every_crate_has_a_permissive_licence() {
    let metadata = metadata();
    let found: Vec<String> = list(&metadata, "packages")
        .iter()
        .filter(|package| !licence_is_allowed(text(package, "license")))
        .filter(|package| {
            !LICENCE_EXCEPTIONS.contains(&(text(package, "name"), text(package, "license")))
        })
        .map(|package| format!("{}: {:?}", text(package, "name"), text(package, "license")))
        .collect();
    check_none("a licence that is not on the list", &found);
    assert!(!licence_is_allowed("GPL-3.0-only"));
    assert!(!licence_is_allowed(""));
    assert!(licence_is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
}

#[test]
fn files_are_short() {
    let found: Vec<String> = sources(".rs")
        .iter()
        .filter_map(|source| {
            let count = source.text.lines().count();
            let header = source.text.lines().take_while(|line| line.starts_with("//!"));
            let says_why = header.into_iter().any(|line| line.contains("lines"));
            let long = count > FILE_LINES_MAX && !says_why || count > FILE_LINES_NEVER_PAST;
            long.then(|| format!("{}: {count} lines", source.path))
        })
        .collect();
    check_none("a file is too long, or its header does not say why it has so many lines", &found);
}

#[test]
fn modules_say_what_they_own() {
    let found: Vec<String> = sources(".rs")
        .iter()
        .filter(|source| !source.path.ends_with("build.rs") && !source.text.starts_with("//!"))
        .filter(|source| !source.is_test_file())
        .map(|source| source.path.clone())
        .collect();
    check_none("a module without a header", &found);
}

/// `path:line: code` of every line of code outside tests for which `wrong` holds.
fn code_outside_tests(wrong: impl Fn(&Source, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources(".rs").iter().filter(|source| !source.is_test_file()) {
        for (number, line) in source.code_lines() {
            if wrong(source, &line) {
                found.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    found
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let found = code_outside_tests(|_, line| line.contains(".unwrap()"));
    check_none("unwrap outside tests", &found);
}

#[test]
fn nothing_is_left_unfinished() {
    let words = ["todo!", "unimplemented!", "dbg!"];
    let found = code_outside_tests(|_, line| words.iter().any(|word| line.contains(word)));
    check_none("unfinished code", &found);
    // In two parts, or this file would break its own rule.
    let notes = [["TO", "DO"].concat(), ["FIX", "ME"].concat()];
    let mut found = Vec::new();
    for ending in [".rs", ".md", ".sh", ".toml"] {
        for source in sources(ending) {
            let lines = source.text.lines().enumerate();
            let lines = lines.filter(|(_, line)| notes.iter().any(|note| line.contains(note)));
            found.extend(
                lines.map(|(index, line)| format!("{}:{}: {line}", source.path, index + 1)),
            );
        }
    }
    check_none("a note of unfinished work", &found);
}

/// A seed says everything only where nothing else does.
#[test]
fn what_is_simulated_has_no_clock_no_randomness_and_no_thread_of_its_own() {
    let words = [
        "Instant::now",
        "SystemTime",
        ".elapsed()",
        "std::thread",
        "thread::spawn",
        "sleep(",
        "getrandom",
        "tokio",
        "RandomState",
        "std::env",
    ];
    let found = code_outside_tests(|source, line| {
        let is_in = |places: &[&str]| places.iter().any(|place| source.path.starts_with(place));
        is_in(&SIMULATED) && !is_in(&NOT_SIMULATED) && words.iter().any(|word| line.contains(word))
    });
    check_none("time, randomness or a thread in what the simulation runs", &found);
    let paths: Vec<String> = sources(".rs").into_iter().map(|source| source.path).collect();
    for place in SIMULATED.iter().chain(&NOT_SIMULATED) {
        assert!(paths.iter().any(|path| path.starts_with(place)), "nothing is at {place} any more");
    }
}

#[test]
fn unsafe_stays_in_its_places() {
    let keyword = |line: &str| {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|word| word == "unsafe")
    };
    let found = code_outside_tests(|source, line| {
        keyword(line) && !UNSAFE_ALLOWED.iter().any(|place| source.path.starts_with(place))
    });
    check_none("unsafe code where none may be", &found);
}

#[test]
fn names_say_something() {
    const EMPTY: [&str; 7] = ["utils", "util", "helpers", "helper", "common", "manager", "misc"];
    let found: Vec<String> = sources(".rs")
        .into_iter()
        .map(|source| source.path)
        .filter(|path| path.trim_end_matches(".rs").split('/').any(|part| EMPTY.contains(&part)))
        .collect();
    check_none("a module's name that says nothing", &found);
}

#[test]
fn no_binary_is_built_for_one_machine() {
    let found: Vec<String> = [".toml", ".sh"]
        .into_iter()
        .flat_map(sources)
        .filter(|source| source.text.contains("target-cpu"))
        .map(|source| source.path)
        .collect();
    check_none("target-cpu is set", &found);
}

/// Lines of a document's fenced blocks of shell.
fn shell_lines(document: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in document.lines() {
        match line.trim() {
            "```sh" | "```" if inside => inside = false,
            "```sh" => inside = true,
            command if inside && !command.is_empty() && !command.starts_with('#') => {
                lines.push(command.to_owned());
            }
            _ => {}
        }
    }
    lines
}

#[test]
fn commands_of_the_readme_exist() {
    let root = checkout();
    let readme = std::fs::read_to_string(root.join("README.md")).expect("README.md");
    let lines = shell_lines(&readme);
    assert!(lines.len() >= 2, "the README shows its commands in ```sh blocks");
    let mut found = Vec::new();
    for line in lines.iter().filter(|line| line.starts_with("./dev ")) {
        let command = line.split_whitespace().nth(1).expect("a word after ./dev");
        let help = Command::new(root.join("dev")).args([command, "--help"]).output().expect("dev");
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        let own = line.split(" -- ").next().unwrap_or_default();
        let own = own.split('#').next().unwrap_or_default();
        let mut flags = own.split_whitespace().filter(|word| word.starts_with("--"));
        if help.is_empty() || flags.any(|flag| !help.contains(flag)) {
            found.push(line.clone());
        }
    }
    check_none("a command of the README that ./dev does not know", &found);
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    let mut found = Vec::new();
    for source in sources(".md") {
        let folder = checkout().join(&source.path);
        let folder = folder.parent().expect("a file lies in a folder").to_owned();
        for link in source.text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                found.push(format!("{}: {target}", source.path));
            }
        }
    }
    check_none("a link to a file that is not there", &found);
}

/// `crate/path.rs::function` between backticks.
fn test_references(document: &str) -> Vec<(String, String)> {
    let words = document.split('`').filter_map(|word| word.split_once(".rs::"));
    words.map(|(path, function)| (format!("{path}.rs"), function.to_owned())).collect()
}

#[test]
fn every_invariant_names_its_test() {
    let root = checkout();
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let section = text.split("\n## ").find(|section| section.starts_with("Invariants"));
    let section = section.expect("ARCHITECTURE.md has a section called Invariants");
    let mut found = Vec::new();
    for item in section.split("\n- ").skip(1) {
        let first = item.lines().next().unwrap_or_default();
        let references = test_references(item);
        if references.is_empty() {
            found.push(format!("no test is named: {first}"));
        }
        for (path, function) in references {
            let source = std::fs::read_to_string(root.join(&path)).unwrap_or_default();
            if !source.contains(&format!("fn {function}")) {
                found.push(format!("{path} has no test {function}"));
            }
        }
    }
    check_none("invariants of ARCHITECTURE.md", &found);
}

#[test]
fn decisions_fit_a_page() {
    let found: Vec<String> = sources(".md")
        .into_iter()
        .filter(|source| source.path.starts_with("docs/adr/"))
        .filter(|source| source.text.lines().count() > ADR_LINES_MAX)
        .map(|source| source.path)
        .collect();
    check_none("a decision record of more than a page", &found);
}
