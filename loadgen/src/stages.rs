//! The stages of a run: for how long how many requests a second are due, constant or changing
//! evenly. `30s@1000,60s@1000..5000,30s@5000`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::quantity::{DURATION_MAX, parse_duration};

pub const RATE_MAX: u64 = 100_000_000;
const STAGES_MAX: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    pub duration: Duration,
    /// Requests a second at its beginning and at its end.
    pub from_per_s: u64,
    pub to_per_s: u64,
}

/// At least one stage, and in at least one of them something is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stages(Vec<Stage>);

impl Stages {
    /// `per_s` is above 0.
    pub fn constant(per_s: u64, duration: Duration) -> Self {
        assert!(per_s > 0, "a constant rate of 0 is no schedule");
        Stages(vec![Stage { duration, from_per_s: per_s, to_per_s: per_s }])
    }

    pub fn iter(&self) -> impl Iterator<Item = &Stage> {
        self.0.iter()
    }

    pub fn duration(&self) -> Duration {
        self.0.iter().map(|stage| stage.duration).sum()
    }
}

impl FromStr for Stages {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let stages = text.split(',').map(parse_stage).collect::<Result<Vec<_>, _>>()?;
        if stages.len() > STAGES_MAX {
            return Err(format!("{} stages are more than {STAGES_MAX}", stages.len()));
        }
        if stages.iter().all(|stage| stage.from_per_s + stage.to_per_s == 0) {
            return Err("nothing is due in any stage: one needs a rate above 0".to_owned());
        }
        let stages = Stages(stages);
        if stages.duration() > DURATION_MAX {
            return Err("the stages together are longer than 168h; split the run".to_owned());
        }
        Ok(stages)
    }
}

fn parse_stage(text: &str) -> Result<Stage, String> {
    let (duration, rates) = text.trim().split_once('@').ok_or_else(|| {
        format!("{text:?} is not TIME@RATE or TIME@FROM..TO, such as 30s@1000 or 60s@1000..5000")
    })?;
    let (from, to) = rates.split_once("..").unwrap_or((rates, rates));
    let rate = |text: &str| {
        let rate = text.parse().ok().filter(|rate| *rate <= RATE_MAX);
        rate.ok_or_else(|| format!("{text:?} is not a rate from 0 to {RATE_MAX} requests a second"))
    };
    Ok(Stage { duration: parse_duration(duration)?, from_per_s: rate(from)?, to_per_s: rate(to)? })
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, stage) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let ms = stage.duration.as_millis();
            if ms.is_multiple_of(1_000) {
                write!(f, "{comma}{}s@{}", ms / 1_000, stage.from_per_s)?;
            } else {
                write!(f, "{comma}{ms}ms@{}", stage.from_per_s)?;
            }
            if stage.to_per_s != stage.from_per_s {
                write!(f, "..{}", stage.to_per_s)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&[(u64, u64, u64)]>) {
        let parsed = text.parse::<Stages>();
        let seen = parsed.as_ref().ok().map(|stages| {
            let stages = stages.iter();
            let stages = stages.map(|s| (s.duration.as_millis() as u64, s.from_per_s, s.to_per_s));
            stages.collect::<Vec<_>>()
        });
        assert_eq!(seen.as_deref(), expected, "{text}: {parsed:?}");
    }

    #[test]
    fn stages_are_read_and_written() {
        let text = "30s@1000,60s@1000..5000,500ms@0";
        check(text, Some(&[(30_000, 1_000, 1_000), (60_000, 1_000, 5_000), (500, 0, 0)]));
        assert_eq!(text.parse::<Stages>().unwrap().to_string(), text);
        check("1m@5..0", Some(&[(60_000, 5, 0)]));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "30s",
            "30s@",
            "@5",
            "30s@-1",
            "30s@1...5",
            "30s@1..5..9",
            "30s@100000001",
            "0s@5",
            "30s@0,10s@0..0",
            "100h@5,100h@5",
            "30s@5,",
        ] {
            check(text, None);
        }
        check(&vec!["1s@1"; STAGES_MAX + 1].join(","), None);
    }
}
