//! `./dev bench compare`, `./dev bench table`, and the recording of criterion's benches.

use std::process::ExitCode;

use bench::criterion_rounds::{self, Rounds};
use bench::effort::Effort;
use bench::machine::{checkout, head_commit};
use bench::record::history_file;
use bench::{history, readme};

const USAGE: &str = "\
usage: compare A B          figures of two commits side by side; A and B are commits, HEAD, `last` or
                            numbers of lines of bench/history.jsonl
       table [--write | --check]
                            the newest figures as a table; into bench/README.md, or whether it is there
       criterion NAME... [--record] [--rounds N] [--seconds N]
                            criterion's benches in interleaved rounds";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["compare", a, b] => compare(a, b),
        ["compare", ..] => return refuse("compare takes two: A and B"),
        ["table"] => table(),
        ["table", "--write"] => write_table(),
        ["table", "--check"] => check_table(),
        ["criterion", words @ ..] => match criterion_plan(words) {
            Ok((names, rounds)) => criterion_rounds::record(names, rounds),
            Err(wrong) => return refuse(&wrong),
        },
        _ => return refuse("no such command"),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("bench: {why}\n{USAGE}");
    ExitCode::from(2)
}

/// Names first, flags after them.
fn criterion_plan<'a>(words: &'a [&'a str]) -> Result<(&'a [&'a str], Rounds), String> {
    let flags_at = words.iter().position(|word| word.starts_with("--")).unwrap_or(words.len());
    let (names, flags) = words.split_at(flags_at);
    if names.is_empty() {
        return Err("criterion takes the names of benches".to_owned());
    }
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let (effort, _) = Effort::parse(&flags, &[])?;
    let mut rounds = Rounds { count: effort.rounds, ..Rounds::default() };
    if flags.iter().any(|flag| flag == "--seconds") {
        rounds.measured_s = effort.load_s;
    }
    Ok((names, rounds))
}

fn compare(a: &str, b: &str) -> anyhow::Result<()> {
    let lines = history::read(&history_file())?;
    let head = head_commit();
    let (a, b) = (history::select(&lines, a, &head)?, history::select(&lines, b, &head)?);
    print!("{}", history::compare(&a, &b)?);
    Ok(())
}

fn table() -> anyhow::Result<()> {
    print!("{}", readme::table(&history::read(&history_file())?));
    Ok(())
}

/// The README as it is, and as the history makes it.
fn readmes() -> anyhow::Result<(String, String)> {
    let now = std::fs::read_to_string(checkout().join("bench/README.md"))?;
    let then = readme::with_table(&now, &readme::table(&history::read(&history_file())?))?;
    Ok((now, then))
}

fn write_table() -> anyhow::Result<()> {
    let (now, then) = readmes()?;
    if now != then {
        std::fs::write(checkout().join("bench/README.md"), then)?;
    }
    Ok(())
}

fn check_table() -> anyhow::Result<()> {
    let (now, then) = readmes()?;
    if now != then {
        anyhow::bail!(
            "bench/README.md does not show the newest figures: ./dev bench table --write"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_of_criterion() {
        let check = |line: &str, expected: Result<(&str, usize, u64), &str>| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match (criterion_plan(&words), expected) {
                (Ok((names, rounds)), Ok(expected)) => {
                    let seen = (names.join(" "), rounds.count, rounds.measured_s);
                    assert_eq!((seen.0.as_str(), seen.1, seen.2), expected, "{line}");
                }
                (Err(wrong), Err(part)) => assert!(wrong.contains(part), "{line}: {wrong}"),
                (seen, _) => panic!("{line}: {seen:?}"),
            }
        };
        check("head json --record", Ok(("head json", 5, 2)));
        check("head --rounds 1 --record", Ok(("head", 1, 2)));
        check("head --rounds 1 --seconds 3", Ok(("head", 1, 3)));
        check("--rounds 1", Err("names of benches"));
        check("head --rounds 1 json", Err("'json' is unknown"));
    }
}
