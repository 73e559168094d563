//! Every target over its corpus and a fixed row of cases. What breaks a law is printed as bytes, and
//! belongs into the corpus once it is mended.

use fuzz::campaign::{Campaign, Failure, run_corpus};
use fuzz::{TARGETS, corpus};

const SEED: u64 = 20_250_101;

fn fail(name: &str, failure: &Failure) -> ! {
    let input: String = failure.input.iter().map(|byte| byte.escape_ascii().to_string()).collect();
    let (broken, origin) = (&failure.broken, &failure.origin);
    panic!("{name}: {}: {}\n{origin:?}, made smaller: b\"{input}\"", broken.place, broken.message);
}

#[track_caller]
fn check(name: &str) {
    let target = TARGETS.into_iter().find(|target| target.name == name).expect("a target's name");
    let inputs = corpus::load(name).expect("its corpus");
    run_corpus(&target, &inputs).unwrap_or_else(|failure| fail(name, &failure));
    let mut campaign = Campaign::new(&target, &inputs, SEED);
    while campaign.cases() < target.test_cases {
        campaign.next_input();
        campaign.run().unwrap_or_else(|failure| fail(name, &failure));
    }
}

#[test]
fn head() {
    check("head");
}

#[test]
fn chunked() {
    check("chunked");
}

#[test]
fn block() {
    check("block");
}

#[test]
fn json() {
    check("json");
}

#[test]
fn journal() {
    check("journal");
}

#[test]
fn embedded() {
    check("embedded");
}

#[test]
fn corpora_are_small_and_of_known_targets() {
    let mut bytes = 0;
    for target in TARGETS {
        for input in corpus::load(target.name).expect("its corpus") {
            assert!(input.bytes.len() <= target.input_bytes_max, "{}/{}", target.name, input.name);
            bytes += input.bytes.len();
        }
    }
    assert!(bytes < 300 * 1024, "{bytes} bytes");
    let folders = std::fs::read_dir(corpus::folder("")).expect("the corpus").flatten();
    for folder in folders {
        let name = folder.file_name().to_string_lossy().into_owned();
        assert!(TARGETS.iter().any(|target| target.name == name), "no target is called {name}");
    }
}
