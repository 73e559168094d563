//! `./dev bench capacity`: what so many events a second take, from measured costs. Writes docs/capacity.md, or with
//! --check tells whether it is what history gives. One history and the same flags give the same page.

#[path = "../capacity/mod.rs"]
mod capacity;

use std::process::ExitCode;

use anyhow::{Context, bail};

use capacity::{Arguments, Assumptions, Measured, page};

fn main() -> ExitCode {
    match run(&Arguments::from_command_line()) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("capacity: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<String> {
    let assumptions = Assumptions::with(&arguments.set)?;
    let history = arguments.history()?;
    let measured = Measured::from(&history, &arguments.assume)?;
    let made = page::page(&measured, &assumptions, &arguments.flags_of_the_page());
    let out = arguments.out();
    if !arguments.check {
        std::fs::write(&out, made).with_context(|| format!("writing {}", out.display()))?;
        return Ok(format!("{} is written", out.display()));
    }
    let there = std::fs::read_to_string(&out).unwrap_or_default();
    if there != made {
        let first = there.lines().zip(made.lines()).position(|(a, b)| a != b);
        let line = first.unwrap_or(there.lines().count().min(made.lines().count())) + 1;
        bail!(
            "{} is not what the recorded figures give, from line {line} on: ./dev bench capacity{} makes it again",
            out.display(),
            arguments.flags_of_the_page()
        );
    }
    Ok(format!("{} is what the recorded figures give", out.display()))
}
