//! The search for the highest rate that holds: verdicts in, the next rate out. Knows neither time
//! nor servers, nor what a verdict is made from.
//!
//! Invariants: no rate is asked for above the maximum or below 1; a knee is only ever a rate that
//! held in a confirming run, below one that broke; what the generator could not carry is never
//! called the server's; the number of steps is bounded.

/// How a step at one rate ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Held,
    Broke,
    /// It broke, but by the generator's doing, or not by the server's alone.
    GeneratorLimited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Growing,
    Narrowing,
    Confirming,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Growing => "growing",
            Phase::Narrowing => "narrowing",
            Phase::Confirming => "confirming",
        }
    }
}

/// What the search ended with; rates in requests a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Held twice, and a rate that is higher by the precision at most broke.
    Knee(u64),
    /// Held twice; the generator could not carry more. None: nor less.
    GeneratorLimit(Option<u64>),
    /// The highest rate allowed held twice.
    Maximum(u64),
    /// Not even one request a second held.
    Nothing,
    /// The steps were used up; the best rate that held so far.
    Unsettled(Option<u64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Step { rate: u64, phase: Phase },
    Done(Finding),
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub start: u64,
    pub max: u64,
    /// Relative; above 0.
    pub precision: f64,
    /// Times in a row that a rate has to break.
    pub tries: u32,
    pub steps_max: u32,
}

/// The lowest rate known not to hold, and on whose account.
#[derive(Clone, Copy, Debug)]
struct Ceiling {
    rate: u64,
    generator: bool,
}

pub struct KneeSearch {
    limits: Limits,
    /// Rates that held and lie below the ceiling, ascending.
    held: Vec<u64>,
    ceiling: Option<Ceiling>,
    next: Next,
    /// Times in a row that the rate now asked for has broken.
    broke: u32,
    steps: u32,
}

impl KneeSearch {
    pub fn new(limits: Limits) -> Self {
        let rate = limits.start.clamp(1, limits.max);
        KneeSearch {
            limits,
            held: Vec::new(),
            ceiling: None,
            next: Next::Step { rate, phase: Phase::Growing },
            broke: 0,
            steps: 0,
        }
    }

    pub fn next(&self) -> Next {
        self.next
    }

    /// Takes how the step asked for ended.
    pub fn tell(&mut self, verdict: Verdict) {
        let Next::Step { rate, phase } = self.next else { return };
        self.steps += 1;
        if verdict == Verdict::Broke {
            self.broke += 1;
            if self.broke < self.limits.tries && self.steps < self.limits.steps_max {
                return;
            }
        }
        self.broke = 0;
        self.next = match (verdict, phase) {
            (Verdict::Held, Phase::Confirming) => Next::Done(self.confirmed(rate)),
            (Verdict::Held, _) => {
                self.held.push(rate);
                self.choose()
            }
            (Verdict::Broke | Verdict::GeneratorLimited, _) => {
                self.held.retain(|&held| held < rate);
                let generator = verdict == Verdict::GeneratorLimited;
                self.ceiling = Some(Ceiling { rate, generator });
                self.choose()
            }
        };
        if self.steps >= self.limits.steps_max && matches!(self.next, Next::Step { .. }) {
            self.next = Next::Done(Finding::Unsettled(self.held.last().copied()));
        }
    }

    fn confirmed(&self, rate: u64) -> Finding {
        match self.ceiling {
            None => Finding::Maximum(rate),
            Some(Ceiling { generator: true, .. }) => Finding::GeneratorLimit(Some(rate)),
            Some(_) => Finding::Knee(rate),
        }
    }

    fn choose(&self) -> Next {
        let held = self.held.last().copied();
        match (held, self.ceiling) {
            (None, None) => unreachable!("the first step has ended"),
            (Some(held), None) if held == self.limits.max => {
                Next::Step { rate: held, phase: Phase::Confirming }
            }
            (Some(held), None) => {
                let rate = held.saturating_mul(2).min(self.limits.max);
                Next::Step { rate, phase: Phase::Growing }
            }
            (None, Some(Ceiling { rate: 1, generator })) => {
                Next::Done(if generator { Finding::GeneratorLimit(None) } else { Finding::Nothing })
            }
            (None, Some(ceiling)) => Next::Step { rate: ceiling.rate / 2, phase: Phase::Narrowing },
            (Some(held), Some(ceiling)) => {
                let gap = ceiling.rate - held;
                if gap <= 1 || gap as f64 <= held as f64 * self.limits.precision {
                    return Next::Step { rate: held, phase: Phase::Confirming };
                }
                Next::Step { rate: held + gap / 2, phase: Phase::Narrowing }
            }
        }
    }
}

#[cfg(test)]
#[path = "knee_tests.rs"]
mod tests;
