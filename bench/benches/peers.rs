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

use bench::record::Recorder;
use peers::{Contestant, Server, create_topics};
use tests::Broker;

use figures::Figures;
use load::{Case, DIRECT, KAFKA, WARM_UP_S};

const USAGE: &str = "./dev bench peers [--rounds N] [--seconds N] [--without-kafka] [--record]\n\
                     ./dev bench peers --check";

struct Plan {
    rounds: usize,
    /// Of one run, after its warm-up.
    seconds: u32,
    kafka: bool,
    check: bool,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` runs benches with this flag to see that they start.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let plan = Plan::of(&arguments).unwrap_or_else(|fault| {
        eprintln!("{fault}\n{USAGE}");
        std::process::exit(2);
    });
    let versions = Contestant::ALL.map(|contestant| {
        eprintln!("building {}", contestant.name());
        format!("{}: {}", contestant.name(), contestant.build())
    });
    println!("{}", versions.join("\n"));
    if plan.check {
        check::all();
        return;
    }
    let mut recorder = Recorder::from_args("peers");
    recorder.config(&format!(
        "{} rounds of {} s, warm-up {WARM_UP_S} s, events of 270 B, a generator of one thread on the \
         same machine; {}",
        plan.rounds,
        plan.seconds,
        versions.join("; ")
    ));
    let mut figures = Figures::default();
    direct(&plan, &mut figures);
    if plan.kafka {
        on_kafka(&plan, &mut figures);
    }
    figures.tell(&mut recorder);
    recorder.finish();
}

/// Without Kafka: the engine journals and forwards to ClickHouse, a peer forgets what it has checked.
fn direct(plan: &Plan, figures: &mut Figures) {
    for round in 0..plan.rounds {
        for case in &DIRECT {
            for contestant in in_turn(&Contestant::ALL, round) {
                say(round, plan, case, contestant);
                let server = Server::start(contestant);
                figures.add(case, contestant, load::measure(&server, case, plan.seconds));
            }
        }
    }
}

/// A 200 of a peer says that Kafka has acknowledged; the engine's events count when Kafka has them.
fn on_kafka(plan: &Plan, figures: &mut Figures) {
    let broker = Broker::start();
    create_topics(&broker);
    for round in 0..plan.rounds {
        for case in &KAFKA {
            for contestant in in_turn(&Contestant::WITH_KAFKA, round) {
                say(round, plan, case, contestant);
                let server = Server::start_on_kafka(contestant, &broker.address());
                figures.add(case, contestant, load::measure(&server, case, plan.seconds));
            }
        }
    }
}

fn in_turn(contestants: &[Contestant], round: usize) -> impl Iterator<Item = Contestant> {
    let first = round % contestants.len();
    contestants[first..].iter().chain(&contestants[..first]).copied()
}

fn say(round: usize, plan: &Plan, case: &Case, contestant: Contestant) {
    eprintln!("round {} of {}, {}: {}", round + 1, plan.rounds, case.name, contestant.name());
}

impl Plan {
    fn of(arguments: &[String]) -> Result<Plan, String> {
        let mut plan = Plan { rounds: 5, seconds: 4, kafka: true, check: false };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--rounds" => plan.rounds = number(argument, rest.next(), 100)? as usize,
                "--seconds" => plan.seconds = number(argument, rest.next(), 60)?,
                "--without-kafka" => plan.kafka = false,
                "--check" => plan.check = true,
                // The recorder's own, and what cargo adds.
                "--record" | "--bench" => {}
                other => return Err(format!("unknown argument '{other}'")),
            }
        }
        Ok(plan)
    }
}

fn number(flag: &str, value: Option<&String>, max: u32) -> Result<u32, String> {
    let number = value.and_then(|value| value.parse().ok());
    let number = number.filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| format!("{flag} needs a number from 1 to {max}"))
}
