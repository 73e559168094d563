//! Measured inputs: the newest figure of that name in `bench/history.jsonl`, or given and marked as assumed.

use anyhow::{Context, bail};
use serde_json::Value;

pub struct Input {
    pub median: f64,
    /// Where it is from: commit and machine, or that it is assumed.
    pub source: String,
}

pub fn find(history: &str, assumed: &[String], bench: &str, figure: &str) -> anyhow::Result<Input> {
    for given in assumed {
        if let Some((name, value)) = given.split_once('=')
            && name == figure
        {
            let median: f64 = value.parse().with_context(|| format!("--assume {given}"))?;
            return positive(figure, Input { median, source: "**assumed**".to_owned() });
        }
    }
    for line in history.lines().rev().filter(|line| !line.trim().is_empty()) {
        let line: Value = serde_json::from_str(line).context("a line of history.jsonl")?;
        if line["bench"] == bench
            && let Some(median) = line["figures"][figure]["median"].as_f64()
        {
            let text = |key: &str| line[key].as_str().unwrap_or("?").to_owned();
            let commit: String = text("commit").chars().take(12).collect();
            let changed = if line["dirty"] == true { " with changes" } else { "" };
            let source = format!("{commit}{changed}, {} × {}", line["cores"], text("cpu"));
            return positive(figure, Input { median, source });
        }
    }
    bail!(
        "no figure {figure} of {bench} in bench/history.jsonl: `./dev bench {bench} --record` makes it, or \
         give --assume {figure}=VALUE"
    )
}

fn positive(figure: &str, input: Input) -> anyhow::Result<Input> {
    if !input.median.is_finite() || input.median <= 0.0 {
        bail!("{figure} is {}; it must be above 0", input.median);
    }
    Ok(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: &str = r#"{"commit":"aaaaaaaaaaaaaaaa","cpu":"X","cores":2,"bench":"b","figures":{"f":{"median":1.0}}}
{"commit":"bbbbbbbbbbbbbbbb","dirty":true,"cpu":"X","cores":2,"bench":"b","figures":{"f":{"median":2.0}}}
{"commit":"cccccccccccccccc","cpu":"X","cores":2,"bench":"other","figures":{"f":{"median":3.0}}}
"#;

    #[test]
    fn the_newest_counts_and_a_missing_one_says_how_to_make_it() {
        let input = find(HISTORY, &[], "b", "f").expect("it is there");
        assert_eq!((input.median, &*input.source), (2.0, "bbbbbbbbbbbb with changes, 2 × X"));
        let input = find(HISTORY, &["f=4".to_owned()], "b", "f").expect("it is given");
        assert_eq!((input.median, &*input.source), (4.0, "**assumed**"));
        let error = find(HISTORY, &[], "b", "g").map(|_| ()).expect_err("nobody measured it");
        assert!(error.to_string().contains("./dev bench b --record"), "{error}");
        assert!(find(HISTORY, &["g=NaN".to_owned()], "b", "g").is_err());
    }
}
