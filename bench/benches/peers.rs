//! Our engine beside what others would use in its place, on this machine, with the same traffic.
//!
//! `./dev bench peers` measures, `./dev bench peers --check` only sees that all of them answer alike.
//! bench/peers/README.md says what each is and why the comparison is fair. The cases are taken in
//! turn within a round, and each round begins with another contestant, so that what the machine
//! does meanwhile falls on all of them. A run has a server of its own: what the engine has still to
//! forward burdens no one after it. Nothing else should run on the machine.

#[path = "peers/check.rs"]
mod check;
#[path = "peers/figures.rs"]
mod figures;
#[path = "peers/load.rs"]
mod load;
#[path = "../peers/contestants.rs"]
mod peers;

use bench::effort::{Effort, in_turn};
use bench::load::WARM_UP_S;
use bench::record::Recorder;
use peers::{Contestant, Server, create_topics};
use tests::Broker;

use figures::Figures;
use load::{Case, DIRECT, KAFKA};

/// No figures: only whether all do the job that they are measured at.
const CHECK: &str = "--check";
const WITHOUT_KAFKA: &str = "--without-kafka";

fn main() {
    let Some((effort, flags)) = Effort::from_args_or(&[CHECK, WITHOUT_KAFKA]) else { return };
    let versions = Contestant::ALL.map(|contestant| {
        eprintln!("building {}", contestant.name());
        format!("{}: {}", contestant.name(), contestant.build())
    });
    println!("{}", versions.join("\n"));
    if flags.contains(&CHECK) {
        check::all();
        return;
    }
    let mut recorder = Recorder::from_args("peers");
    recorder.config(&format!(
        "a server for each run, warm-up {WARM_UP_S} s, events of 270 B, the generator on the same \
         machine; {}; {}",
        effort.text(),
        versions.join("; ")
    ));
    let mut figures = Figures::default();
    direct(effort, &mut recorder, &mut figures);
    if !flags.contains(&WITHOUT_KAFKA) {
        on_kafka(effort, &mut recorder, &mut figures);
    }
    figures.tell(&mut recorder);
    recorder.finish();
}

/// Without Kafka: the engine journals and forwards to ClickHouse, a peer forgets what it has checked.
fn direct(effort: Effort, recorder: &mut Recorder, figures: &mut Figures) {
    for round in 0..effort.rounds {
        for case in &DIRECT {
            for contestant in in_turn(&Contestant::ALL, round) {
                say(round, effort, case, contestant);
                let server = Server::start(contestant);
                note_commit(&server, recorder);
                figures.add(case, contestant, load::measure(&server, case, effort.load_s));
            }
        }
    }
}

/// A 200 of a peer says that Kafka has acknowledged; the engine's events count when Kafka has them.
fn on_kafka(effort: Effort, recorder: &mut Recorder, figures: &mut Figures) {
    let broker = Broker::start();
    create_topics(&broker);
    for round in 0..effort.rounds {
        for case in &KAFKA {
            for contestant in in_turn(&Contestant::WITH_KAFKA, round) {
                say(round, effort, case, contestant);
                let server = Server::start_on_kafka(contestant, &broker.address());
                note_commit(&server, recorder);
                figures.add(case, contestant, load::measure(&server, case, effort.load_s));
            }
        }
    }
}

fn note_commit(server: &Server, recorder: &mut Recorder) {
    if let Some(commit) = server.engine_commit() {
        recorder.measured(&commit);
    }
}

fn say(round: usize, effort: Effort, case: &Case, contestant: Contestant) {
    eprintln!("round {} of {}, {}: {}", round + 1, effort.rounds, case.name, contestant.name());
}
