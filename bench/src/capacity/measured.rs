//! Measured costs: of each figure the newest line of `bench/history.jsonl` that has it, or a value that was given and
//! is marked so.

use anyhow::{Context, bail};
use bench::history::{describe, spread};
use bench::record::Line;

/// Bench and figure.
pub const FIGURES: [(&str, &str); 8] = [
    ("ingest", "cpu_us_per_request_single_64_connections"),
    ("ingest", "cpu_us_per_request_single_512_connections"),
    ("ingest", "cpu_us_per_request_single_16_deep"),
    ("ingest", "cpu_us_per_event_batch_100"),
    ("kafka", "engine_cpu_us_per_event_single"),
    ("kafka", "engine_cpu_us_per_event_batch_100"),
    ("kafka", "cpu_us_per_event_consumer"),
    ("kafka", "events_per_s_raw_insert"),
];

/// Of the machine that a given rate of INSERTs is of.
const CORES_OF_GIVEN: usize = 2;

pub struct Found {
    pub bench: &'static str,
    pub figure: &'static str,
    pub median: f64,
    /// Median, least, most and unit; or that it is given.
    pub text: String,
    /// Commit, time and machine; or that it is assumed.
    pub source: String,
    cores: usize,
}

/// CPU of one core in µs, on the machine that was measured.
pub struct Measured {
    /// In the order of [`FIGURES`].
    pub found: Vec<Found>,
    /// A request with one event, one at a time, the most expensive of the ways it was measured.
    pub single_us: f64,
    /// The same 16 deep.
    pub pooled_us: f64,
    pub event_of_batch_us: f64,
    /// What Kafka takes of the engine for an event instead of ClickHouse; may be 0.
    pub kafka_more_us: f64,
    pub consumer_us: f64,
    pub inserts_per_core_s: f64,
}

impl Measured {
    pub fn from(history: &[Line], given: &[String]) -> anyhow::Result<Measured> {
        refuse_unknown(given)?;
        let mut found = Vec::new();
        let mut missing = Vec::new();
        for (bench, figure) in FIGURES {
            match find(history, given, bench, figure)? {
                Some(one) => found.push(one),
                None => missing.push(format!("  {figure}: ./dev bench {bench} --record")),
            }
        }
        if !missing.is_empty() {
            bail!(
                "no line of bench/history.jsonl has these figures; measure them, or give them with --assume FIGURE=VALUE:\n{}",
                missing.join("\n")
            );
        }
        let value: Vec<f64> = found.iter().map(|one| one.median).collect();
        let [single_64, single_512, pooled, batch, kafka_single, kafka_batch, consumer, inserts] =
            value[..].try_into().expect("as many as there are figures");
        let insert_cores = found.last().expect("the rate of INSERTs is the last figure").cores;
        let kafka_more_us: f64 = kafka_batch - batch;
        Ok(Measured {
            single_us: f64::max(single_64, single_512).max(kafka_single),
            pooled_us: pooled + kafka_more_us.max(0.0),
            event_of_batch_us: kafka_batch.max(batch),
            kafka_more_us: kafka_more_us.max(0.0),
            consumer_us: consumer,
            inserts_per_core_s: inserts / insert_cores as f64,
            found,
        })
    }
}

fn refuse_unknown(given: &[String]) -> anyhow::Result<()> {
    for text in given {
        let (name, _) = text
            .split_once('=')
            .with_context(|| format!("--assume {text}: it takes FIGURE=VALUE"))?;
        if !FIGURES.iter().any(|(_, figure)| *figure == name) {
            bail!("--assume {text}: no such figure is used; --help names them all");
        }
    }
    Ok(())
}

fn find(
    history: &[Line],
    given: &[String],
    bench: &'static str,
    figure: &'static str,
) -> anyhow::Result<Option<Found>> {
    let prefix = format!("{figure}=");
    let (median, text, source, cores) = if let Some(number) =
        given.iter().rev().find_map(|text| text.strip_prefix(&prefix))
    {
        let median: f64 = number.parse().with_context(|| format!("--assume {figure}={number}"))?;
        let text = bench::table::number(median);
        (median, text, "**assumed**, not measured".to_owned(), CORES_OF_GIVEN)
    } else {
        let of_bench = history.iter().rev().filter(|line| line.bench == bench);
        let newest = of_bench.filter_map(|line| Some((line, line.figures.get(figure)?))).next();
        let Some((line, known)) = newest else { return Ok(None) };
        (known.median, spread(known), describe(line), line.cores.max(1))
    };
    if !median.is_finite() || median <= 0.0 {
        bail!("{figure} of {bench} is {median}; it must be above 0");
    }
    Ok(Some(Found { bench, figure, median, text, source, cores }))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const GIVEN: [&str; 8] = [
        "cpu_us_per_request_single_64_connections=5",
        "cpu_us_per_request_single_512_connections=6",
        "cpu_us_per_request_single_16_deep=1.5",
        "cpu_us_per_event_batch_100=0.25",
        "engine_cpu_us_per_event_single=7",
        "engine_cpu_us_per_event_batch_100=0.3",
        "cpu_us_per_event_consumer=0.9",
        "events_per_s_raw_insert=600000",
    ];

    pub fn given() -> Measured {
        Measured::from(&[], &GIVEN.map(str::to_owned)).expect("all are given")
    }

    fn line(commit: &str, median: f64) -> Line {
        let text = format!(
            r#"{{"at":"2026-01-01T00:00:00Z","commit":"{commit}","dirty":false,"kernel":"6","cpu":"X","cores":4,
            "memory_gib":8,"bench":"kafka","config":"c","figures":{{"events_per_s_raw_insert":
            {{"unit":"events/s","median":{median},"min":1.0,"max":9e9,"runs":[1.0]}}}}}}"#
        );
        serde_json::from_str(&text).expect("a line")
    }

    #[test]
    fn the_newest_counts_and_a_given_one_before_it() {
        let history = [line("aaaaaaaaaaaaaaaa", 100.0), line("bbbbbbbbbbbbbbbb", 200.0)];
        let mut given = GIVEN[..7].iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let measured = Measured::from(&history, &given).expect("it is there");
        assert_eq!(measured.inserts_per_core_s, 50.0);
        assert!(
            measured.found[7].source.contains("bbbbbbbbbbbb, 2026"),
            "{}",
            measured.found[7].source
        );
        given.push("events_per_s_raw_insert=600".to_owned());
        assert_eq!(Measured::from(&history, &given).expect("given").inserts_per_core_s, 300.0);
        assert_eq!((measured.single_us, measured.pooled_us), (7.0, 1.5 + (0.3 - 0.25)));
    }

    #[test]
    fn what_is_missing_is_named_with_the_command_that_measures_it() {
        let check = |given: &[&str], part: &str| {
            let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
            let error = Measured::from(&[], &given).map(|_| ()).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        };
        check(&GIVEN[..7], "events_per_s_raw_insert: ./dev bench kafka --record");
        check(&["cpu_us=1"], "no such figure");
        check(&["cpu_us_per_event_consumer=NaN"], "above 0");
        check(&["cpu_us_per_event_consumer"], "FIGURE=VALUE");
    }
}
