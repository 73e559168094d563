//! The table of bench/README.md, made from the newest recorded line of each bench, so that nobody types
//! a figure.

use std::fmt::Write;

use anyhow::Context;

use crate::goals::{GOALS, bound_of};
use crate::history::{describe, newest, spread};
use crate::record::Line;

const BEGIN: &str = "<!-- begin of the table: ./dev bench table --write -->\n";
const END: &str = "<!-- end of the table -->\n";

/// Markdown: of each bench what was run, and its figures with what is asked of them.
pub fn table(lines: &[Line]) -> String {
    let mut text = String::new();
    let newest = newest(lines);
    for line in newest.values() {
        let _ = writeln!(text, "### {}\n\n{}. At {}.\n", line.bench, line.config, describe(line));
        text.push_str("| figure | median (least–most) | asked | |\n|---|---|---|---|\n");
        for (name, figure) in &line.figures {
            let bound = bound_of(&line.bench, name);
            let asked = bound.map_or_else(String::new, |bound| bound.text());
            let verdict = match bound {
                None => "",
                Some(bound) if bound.holds(figure.median) => "reached",
                Some(_) => "**not reached**",
            };
            let _ = writeln!(text, "| `{name}` | {} | {asked} | {verdict} |", spread(figure));
        }
        text.push('\n');
    }
    let measured = |bench: &str, figure: &str| {
        newest.get(bench).is_some_and(|line| line.figures.contains_key(figure))
    };
    let missing: Vec<_> = GOALS.iter().filter(|goal| !measured(goal.bench, goal.figure)).collect();
    if !missing.is_empty() {
        text.push_str("Asked for and not recorded yet:\n\n");
        for goal in missing {
            let (bench, figure, asked) = (goal.bench, goal.figure, goal.bound.text());
            let _ = writeln!(text, "- `{figure}` {asked}: `./dev bench {bench} --record`");
        }
        text.push('\n');
    }
    text
}

/// The README with another table in its place.
pub fn with_table(readme: &str, table: &str) -> anyhow::Result<String> {
    let (before, rest) =
        readme.split_once(BEGIN).context("bench/README.md has no place for the table")?;
    let (_, after) = rest.split_once(END).context("the table of bench/README.md has no end")?;
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Figure;
    use std::collections::BTreeMap;

    #[test]
    fn the_table_replaces_the_last_one() {
        let readme = format!("# Benches\n{BEGIN}old\n{END}the rest\n");
        let once = with_table(&readme, "new\n\n").unwrap();
        assert_eq!(once, format!("# Benches\n{BEGIN}\nnew\n\n{END}the rest\n"));
        assert_eq!(with_table(&once, "new\n\n").unwrap(), once);
        assert!(with_table("# Benches\n", "new").is_err());
    }

    #[test]
    fn figures_stand_beside_what_is_asked() {
        let figures = [
            ("p99_ms_overload", Figure::of("ms", &[12.0])),
            ("p50_ms_at_80_percent", Figure::of("ms", &[0.5])),
            ("cpu_us_per_event_batch_100", Figure::of("us", &[0.1])),
        ];
        let line = Line {
            at: "2026-11-23T10:00:00Z".to_owned(),
            commit: "a".repeat(40),
            dirty: false,
            kernel: "6.18".to_owned(),
            cpu: "EPYC".to_owned(),
            cores: 2,
            memory_gib: 24,
            bench: "ingest".to_owned(),
            config: "as it is".to_owned(),
            figures: BTreeMap::from(figures.map(|(name, figure)| (name.to_owned(), figure))),
        };
        let text = table(&[line]);
        let check = |part: &str| assert!(text.contains(part), "{part} in {text}");
        check("| `p99_ms_overload` | 12.0 (12.0–12.0) ms | < 10.0 | **not reached** |");
        check("| `p50_ms_at_80_percent` | 0.500 (0.500–0.500) ms | < 1.00 | reached |");
        check("| `cpu_us_per_event_batch_100` | 0.100 (0.100–0.100) us |  |  |");
        check("- `null_share_of_bare_receive_batch_100` ≥ 0.500: `./dev bench null --record`");
    }
}
