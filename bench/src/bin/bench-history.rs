//! `./dev bench compare`, `./dev bench table`, and the recording of criterion's benches.

use std::process::ExitCode;

use bench::machine::{checkout, head_commit};
use bench::record::history_file;
use bench::{criterion_rounds, history, readme};

const USAGE: &str = "\
usage: compare A B          figures of two commits side by side; A and B are commits, HEAD, `last` or
                            numbers of lines of bench/history.jsonl
       table [--write | --check]
                            the newest figures as a table; into bench/README.md, or whether it is there
       criterion NAME... [--record]
                            criterion's benches in five interleaved rounds";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["compare", a, b] => compare(a, b),
        ["compare", ..] => return refuse("compare takes two: A and B"),
        ["table"] => table(),
        ["table", "--write"] => write_table(),
        ["table", "--check"] => check_table(),
        ["criterion", names @ ..] if !names.is_empty() => {
            let names = names.iter().filter(|name| !name.starts_with("--"));
            criterion_rounds::record(&names.map(|name| (*name).to_owned()).collect::<Vec<_>>())
        }
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
