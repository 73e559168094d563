//! How much a bench is to do, from the process's arguments; and the runs that came of it.

use crate::record::{ROUNDS_DEFAULT, Recorder};

/// Of one run of one case; long enough that the generator's start and end do not show.
const LOAD_S_DEFAULT: u64 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    pub rounds: usize,
    pub load_s: u64,
}

impl Effort {
    /// `None` where nothing is to be measured: `cargo test --benches` only sees that benches start,
    /// and `cargo bench` says that it is `--bench`.
    pub fn from_args() -> Option<Effort> {
        Effort::from_args_or(&[]).map(|(effort, _)| effort)
    }

    /// For a bench with flags of its own, which have no values; gives those that are there, too.
    pub fn from_args_or(own: &[&'static str]) -> Option<(Effort, Vec<&'static str>)> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let parsed = Effort::parse(&arguments, own).unwrap_or_else(|wrong| {
            let own: String = own.iter().map(|flag| format!(", {flag}")).collect();
            eprintln!("{wrong}; this bench takes --record, --rounds N, --seconds N{own}");
            std::process::exit(2);
        });
        arguments.iter().any(|argument| argument == "--bench").then_some(parsed)
    }

    /// The effort, and which of a bench's own flags are there.
    pub fn parse(
        arguments: &[String],
        own: &[&'static str],
    ) -> Result<(Effort, Vec<&'static str>), String> {
        let mut given = Vec::new();
        let mut effort = Effort { rounds: ROUNDS_DEFAULT, load_s: LOAD_S_DEFAULT };
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut value = |range: std::ops::RangeInclusive<u64>| {
                let given = words.next().and_then(|text| text.parse().ok());
                given.filter(|number| range.contains(number)).ok_or_else(|| {
                    format!("{word} takes a number from {} to {}", range.start(), range.end())
                })
            };
            match word {
                "--rounds" => effort.rounds = value(1..=99)? as usize,
                "--seconds" => effort.load_s = value(1..=3_600)?,
                "--bench" | "--record" => {}
                other => match own.iter().find(|flag| **flag == other) {
                    Some(flag) => given.push(*flag),
                    None => return Err(format!("'{other}' is unknown")),
                },
            }
        }
        Ok((effort, given))
    }

    /// For a record's config.
    pub fn text(&self) -> String {
        format!("{} interleaved rounds, {} s of load for each run", self.rounds, self.load_s)
    }
}

/// All of them, beginning with another each round, so that what comes first is not always the same one's.
pub fn in_turn<T: Copy>(all: &[T], round: usize) -> impl Iterator<Item = T> {
    let (before, first) = all.split_at(round % all.len());
    first.iter().chain(before).copied()
}

/// Values by name, in the order in which the names first came.
#[derive(Debug, Default)]
pub struct Runs(Vec<Series>);

#[derive(Debug)]
struct Series {
    name: String,
    unit: &'static str,
    values: Vec<f64>,
}

impl Runs {
    pub fn add(&mut self, name: &str, unit: &'static str, value: f64) {
        match self.0.iter_mut().find(|series| series.name == name) {
            Some(series) => {
                assert_eq!(series.unit, unit, "{name} has two units");
                series.values.push(value);
            }
            None => self.0.push(Series { name: name.to_owned(), unit, values: vec![value] }),
        }
    }

    pub fn record(&self, recorder: &mut Recorder) {
        for Series { name, unit, values } in &self.0 {
            recorder.figure(name, unit, values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let check = |line: &str, expected: Result<(usize, u64), &str>| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            match (Effort::parse(&words, &["--own"]), expected) {
                (Ok((effort, own)), Ok(numbers)) => {
                    assert_eq!((effort.rounds, effort.load_s), numbers, "{line}");
                    assert_eq!(own.len(), line.matches("--own").count(), "{line}");
                }
                (Err(wrong), Err(part)) => assert!(wrong.contains(part), "{line}: {wrong}"),
                (seen, _) => panic!("{line}: {seen:?}"),
            }
        };
        check("--bench", Ok((ROUNDS_DEFAULT, LOAD_S_DEFAULT)));
        check("--rounds 1 --bench --record --seconds 2", Ok((1, 2)));
        check("--own --bench", Ok((ROUNDS_DEFAULT, LOAD_S_DEFAULT)));
        check("--seconds --own", Err("from 1 to 3600"));
        check("--rounds 0", Err("from 1 to 99"));
        check("--seconds", Err("from 1 to 3600"));
        check("--round 1", Err("'--round' is unknown"));
    }

    #[test]
    fn each_round_begins_with_another() {
        let check = |round, expected: &str| {
            assert_eq!(in_turn(&['a', 'b', 'c'], round).collect::<String>(), expected, "{round}");
        };
        check(0, "abc");
        check(1, "bca");
        check(2, "cab");
        check(3, "abc");
    }

    #[test]
    fn runs_keep_the_order_of_names_and_of_values() {
        let mut runs = Runs::default();
        for round in 0..3 {
            runs.add("b", "ms", f64::from(round));
            runs.add("a", "us", 1.0);
        }
        let seen: Vec<_> = runs.0.iter().map(|s| (s.name.as_str(), s.values.clone())).collect();
        assert_eq!(seen, [("b", vec![0.0, 1.0, 2.0]), ("a", vec![1.0; 3])]);
    }
}
