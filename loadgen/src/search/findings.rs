//! What a search found: its steps and its end, as lines and as JSON.

use serde::Serialize;

use crate::live::grouped;
use crate::quantity::Share;
use crate::report::Report;
use crate::search::judge::Bound;
use crate::search::knee::{Finding, Verdict};

#[derive(Serialize)]
pub struct Step {
    pub number: u32,
    /// `growing`, `narrowing` or `confirming`.
    pub phase: &'static str,
    /// Requests a second that were due.
    pub rate: u64,
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
        let (found, rate) = match finding {
            Finding::Knee(rate) => ("knee", Some(rate)),
            Finding::GeneratorLimit(rate) => ("generator", rate),
            Finding::Maximum(rate) => ("maximum", Some(rate)),
            Finding::Nothing => ("nothing", None),
            Finding::Unsettled(rate) => ("unsettled", rate),
        };
        let held = self
            .steps
            .iter()
            .rfind(|step| step.verdict == Verdict::Held && Some(step.rate) == rate);
        let events_per_s = held.map(|step| step.report.events_per_s);
        self.knee = Some(Knee { found, requests_per_s: rate, events_per_s });
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
            "generator" if knee.requests_per_s.is_none() => format!(
                "generator: no rate holds {bounds}, and the generator itself is the limit: more \
                 --threads, or another machine than the server's"
            ),
            "generator" => format!(
                "generator: {rate} hold {bounds}; above that the generator itself is the limit, so \
                 the server's is not known: more --threads, or another machine than the server's"
            ),
            "maximum" => format!("maximum: {rate} hold {bounds}, and --max allows no more"),
            "nothing" => format!("nothing: not even 1 request/s holds {bounds}"),
            _ => format!(
                "unsettled: the steps were used up; {rate} held {bounds} last. Longer steps \
                 (--duration) or more --tries make up for noise"
            ),
        }
    }
}
