//! The command line, and the one file that is read.

use std::fmt::Write;
use std::path::PathBuf;

use bench::history;
use bench::machine::checkout;
use bench::record::{Line, history_file};
use clap::{CommandFactory, FromArgMatches, Parser};

use super::assumptions::{Assumptions, TABLE};
use super::measured::FIGURES;

/// What 10 M events a second take, or any other number of them: cores, machines, cards, brokers, partitions and shards,
/// and what happens when a machine, a zone or Kafka is lost.
///
/// Measured costs come from the newest lines of bench/history.jsonl, which `./dev bench --record` appends to. All that
/// can not be measured on one machine is an assumption with a name, a unit and a reason; both stand on the page. The
/// same history and flags give the same page, to the byte.
///
///   ./dev bench capacity                              write docs/capacity.md
///   ./dev bench capacity --check                      is it what the history gives?
///   ./dev bench capacity --set events_per_s=1e6 --set cores_per_machine=16 --out /tmp/small.md
///   ./dev bench capacity --assume cpu_us_per_event_consumer=0.8 --out /tmp/what-if.md
#[derive(Parser)]
#[command(name = "capacity", verbatim_doc_comment)]
pub struct Arguments {
    /// Recorded figures; bench/history.jsonl when not given
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// The page; docs/capacity.md when not given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write nothing; exit code 1 where the page is not what the history gives
    #[arg(long)]
    pub check: bool,
    /// Another value for a measured figure, marked on the page; may be repeated
    #[arg(long, value_name = "FIGURE=VALUE")]
    pub assume: Vec<String>,
    /// Another value for an assumption, marked on the page; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
}

impl Arguments {
    pub fn from_command_line() -> Arguments {
        let command = Arguments::command().after_long_help(names());
        let matches = command.get_matches();
        Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    pub fn out(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| checkout().join("docs/capacity.md"))
    }

    /// No file is no line: what is then missing is named with the command that measures it.
    pub fn history(&self) -> anyhow::Result<Vec<Line>> {
        let path = self.history.clone().unwrap_or_else(history_file);
        if path.exists() || self.history.is_some() { history::read(&path) } else { Ok(Vec::new()) }
    }

    /// Those that change what stands on the page, each after a space.
    pub fn flags_of_the_page(&self) -> String {
        let assumed = self.assume.iter().map(|given| format!(" --assume {given}"));
        assumed.chain(self.set.iter().map(|given| format!(" --set {given}"))).collect()
    }
}

fn names() -> String {
    let defaults = Assumptions::default();
    let mut text = String::from("Figures for --assume, and the bench that measures each:\n");
    for (bench, figure) in FIGURES {
        let _ = writeln!(text, "  {figure:<42} {bench}");
    }
    text.push_str("\nAssumptions for --set, with their values:\n");
    for known in TABLE {
        let value = defaults.value(known.name).expect("the table names fields");
        let _ =
            writeln!(text, "  {:<30} {value:>13} {:<10} {}", known.name, known.unit, known.meaning);
    }
    text
}
