//! What a search found: its steps and its end, as lines and as JSON.

use serde::Serialize;

use crate::live::grouped;
use crate::quantity::Share;
use crate::report::Report;
use crate::search::judge::Bound;
use crate::search::knee::{Finding, Verdict};
use crate::search::settling::backlog_note;

#[derive(Serialize)]
pub struct Step {
    pub number: u32,
    /// `growing`, `narrowing` or `confirming`.
    pub phase: &'static str,
    /// Requests a second that were due.
    pub rate: u64,
    /// Left in the server's journal by earlier steps when this one began; null when not known.
    pub backlog_bytes: Option<u64>,
    #[serde(serialize_with = "write_verdict")]
    pub verdict: Verdict,
    /// Why it did not hold.
    pub why: Option<String>,
    pub report: Report,
}

fn write_verdict<S: serde::Serializer>(verdict: &Verdict, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(verdict_word(*verdict))
}

pub fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "held",
        Verdict::Broke => "broke",
        Verdict::GeneratorLimited => "generator",
    }
}

impl Step {
    pub fn line(&self) -> String {
        let l = &self.report.corrected_latency_us;
        let mut line = format!(
            "{:>3}  {:<10}  {:>11} requests/s  {:>12} events/s  p50 {:.3}  p99 {:.3}  p99.9 {:.3} ms  {}",
            self.number,
            self.phase,
            grouped(self.rate as f64),
            grouped(self.report.events_per_s),
            l.p50 / 1e3,
            l.p99 / 1e3,
            l.p999 / 1e3,
            verdict_word(self.verdict),
        );
        if let Some(why) = &self.why {
            line.push_str(": ");
            line.push_str(why);
        }
        if let Some(note) = backlog_note(self.backlog_bytes) {
            line.push_str("; ");
            line.push_str(&note);
        }
        line
    }
}

/// How a search ended; rates are of its confirming run, null when there was none.
#[derive(Debug, Serialize)]
pub struct Knee {
    /// `knee`, `generator`, `maximum`, `nothing` or `unsettled`.
    pub found: &'static str,
    pub requests_per_s: Option<u64>,
    pub events_per_s: Option<f64>,
    /// The lowest rate known to break on the server's account.
    pub broke_requests_per_s: Option<u64>,
}

#[derive(Serialize)]
pub struct Findings {
    pub bounds: Vec<Bound>,
    pub error_bound: f64,
    pub precision: f64,
    pub knee: Option<Knee>,
    pub steps: Vec<Step>,
}

impl Findings {
    pub fn conclude(&mut self, finding: Finding) {
        let (found, rate, broke) = match finding {
            Finding::Knee { held, broke } => ("knee", Some(held), Some(broke)),
            Finding::GeneratorLimit { held, broke } => ("generator", held, broke),
            Finding::Maximum(rate) => ("maximum", Some(rate), None),
            Finding::Nothing => ("nothing", None, Some(1)),
            Finding::Unsettled { held, broke } => ("unsettled", held, broke),
        };
        let held = self
            .steps
            .iter()
            .rfind(|step| step.verdict == Verdict::Held && Some(step.rate) == rate);
        let events_per_s = held.map(|step| step.report.events_per_s);
        let (requests_per_s, broke_requests_per_s) = (rate, broke);
        self.knee = Some(Knee { found, requests_per_s, events_per_s, broke_requests_per_s });
    }

    /// The server's limit is known, or lies above what was asked for.
    pub fn is_conclusive(&self) -> bool {
        self.knee.as_ref().is_some_and(|knee| matches!(knee.found, "knee" | "maximum"))
    }

    pub fn bounds_text(&self) -> String {
        let bounds: Vec<_> = self.bounds.iter().map(Bound::to_string).collect();
        bounds.join(" and ")
    }

    /// A sentence, for people.
    pub fn conclusion(&self) -> String {
        let Some(knee) = &self.knee else { return "the search did not end".to_owned() };
        let rate = match (knee.requests_per_s, knee.events_per_s) {
            (Some(requests), Some(events)) => {
                format!("{} requests/s, {} events/s", grouped(requests as f64), grouped(events))
            }
            _ => "no rate".to_owned(),
        };
        let bounds = self.bounds_text();
        let precision = Share(self.precision);
        match knee.found {
            "knee" => {
                format!("knee: {rate} hold {bounds}, confirmed; at most {precision} more do not")
            }
            "generator" => self.generators_limit(knee, &rate),
            "maximum" => format!("maximum: {rate} hold {bounds}, and --max allows no more"),
            "nothing" => format!("nothing: not even 1 request/s holds {bounds}"),
            _ => format!(
                "unsettled: the steps were used up; {rate} held {bounds} last. Longer steps \
                 (--duration) or more --tries make up for noise"
            ),
        }
    }
    fn generators_limit(&self, knee: &Knee, rate: &str) -> String {
        const REMEDY: &str = "more --threads, or another machine than the server's";
        let bounds = self.bounds_text();
        let broke = knee.broke_requests_per_s.map(|broke| grouped(broke as f64));
        match (knee.requests_per_s, broke) {
            (Some(_), Some(broke)) => format!(
                "generator: {rate} hold {bounds}, {broke} requests/s broke on the server's \
                 account; between them the generator itself was late or busy: {REMEDY}"
            ),
            (Some(_), None) => format!(
                "generator: {rate} hold {bounds}; above that the generator itself is the limit, so \
                 the server's is not known: {REMEDY}"
            ),
            (None, Some(broke)) => format!(
                "generator: no rate holds {bounds}; {broke} requests/s broke on the server's \
                 account, below that the generator itself is the limit: {REMEDY}"
            ),
            (None, None) => format!(
                "generator: no rate holds {bounds}, and the generator itself is the limit: {REMEDY}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generators_limit_says_what_broke_above_it() {
        let check = |held: Option<u64>, broke: Option<u64>, expected: &str| {
            let mut findings = Findings {
                bounds: vec!["p99<50ms".parse().unwrap()],
                error_bound: 0.001,
                precision: 0.05,
                knee: None,
                steps: Vec::new(),
            };
            findings.steps.extend(held.map(|rate| Step {
                number: 1,
                phase: "confirming",
                rate,
                backlog_bytes: None,
                verdict: Verdict::Held,
                why: None,
                report: Report { events_per_s: 231_200.0, ..Report::default() },
            }));
            findings.conclude(Finding::GeneratorLimit { held, broke });
            let said = findings.conclusion();
            assert!(said.starts_with(expected), "{said}");
            assert!(!findings.is_conclusive());
            let json = serde_json::to_value(&findings.knee).unwrap();
            assert_eq!(json["broke_requests_per_s"], serde_json::json!(broke));
        };
        let held = "generator: 2,312 requests/s, 231,200 events/s hold p99<50ms";
        check(
            Some(2_312),
            Some(2_500),
            &format!("{held}, 2,500 requests/s broke on the server's account; between them the"),
        );
        check(Some(2_312), None, &format!("{held}; above that the generator itself is the limit"));
        let none = "generator: no rate holds p99<50ms";
        check(None, Some(500), &format!("{none}; 500 requests/s broke on the server's account"));
        check(None, None, &format!("{none}, and the generator itself is the limit"));
    }
}
