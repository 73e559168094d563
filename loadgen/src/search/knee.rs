//! The search for the highest rate that holds: verdicts in, the next rate out. Knows neither time
//! nor servers, nor what a verdict is made from.
//!
//! Invariants: no rate is asked for above the maximum or below 1; a knee is only ever a rate that
//! held in a confirming run, at most the precision below one that broke on the server's account;
//! what only the generator could not carry is never called the server's; the number of steps is
//! bounded.

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

/// What the search ended with; rates in requests a second. `broke` is the lowest rate known to break
/// on the server's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Held twice, and `broke` is higher by the precision at most.
    Knee { held: u64, broke: u64 },
    /// Held twice; the generator could not carry the rates just above it. None: nor any less.
    GeneratorLimit { held: Option<u64>, broke: Option<u64> },
    /// The highest rate allowed held twice.
    Maximum(u64),
    /// Not even one request a second held.
    Nothing,
    /// The steps were used up; the best rate that held so far.
    Unsettled { held: Option<u64>, broke: Option<u64> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Step {
        rate: u64,
        phase: Phase,
        /// As long as a confirming step: such are, and all that follow a confirmation that failed.
        long: bool,
    },
    Done(Finding),
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub start: u64,
    pub max: u64,
    /// Relative; above 0.
    pub precision: f64,
    /// Times in a row that a rate has to fail, by whoever's doing.
    pub tries: u32,
    pub steps_max: u32,
}

pub struct KneeSearch {
    limits: Limits,
    /// The highest rate that held and lies below the ceiling.
    held: Option<u64>,
    /// The lowest rate that did not hold.
    ceiling: Option<u64>,
    /// The lowest rate that broke on the server's account: the ceiling, or above it.
    broke: Option<u64>,
    next: Next,
    /// Times in a row that the rate now asked for has failed.
    failed: u32,
    /// One of those times was on the server's account.
    failed_by_server: bool,
    /// A confirmation has failed: what a short step says is no longer believed.
    long: bool,
    /// How far below a ceiling the next rate lies when none is known to hold, relative to that rate.
    step_down: f64,
    steps: u32,
}

impl KneeSearch {
    pub fn new(limits: Limits) -> Self {
        let rate = limits.start.clamp(1, limits.max);
        KneeSearch {
            limits,
            held: None,
            ceiling: None,
            broke: None,
            next: Next::Step { rate, phase: Phase::Growing, long: false },
            failed: 0,
            failed_by_server: false,
            long: false,
            step_down: 1.0,
            steps: 0,
        }
    }

    pub fn next(&self) -> Next {
        self.next
    }

    /// Takes how the step asked for ended.
    pub fn tell(&mut self, verdict: Verdict) {
        let Next::Step { rate, phase, .. } = self.next else { return };
        self.steps += 1;
        if verdict == Verdict::Held {
            (self.failed, self.failed_by_server) = (0, false);
            self.next = if phase == Phase::Confirming {
                Next::Done(self.confirmed(rate))
            } else {
                self.held = Some(rate);
                self.choose()
            };
        } else {
            self.failed += 1;
            self.failed_by_server |= verdict == Verdict::Broke;
            if self.failed >= self.limits.tries {
                self.lower_the_ceiling(rate, phase);
                self.next = self.choose();
            }
        }
        if self.steps >= self.limits.steps_max && matches!(self.next, Next::Step { .. }) {
            self.next = Next::Done(Finding::Unsettled { held: self.held, broke: self.broke });
        }
    }

    fn lower_the_ceiling(&mut self, rate: u64, phase: Phase) {
        self.ceiling = Some(rate);
        if self.failed_by_server {
            self.broke = Some(rate);
        }
        (self.failed, self.failed_by_server) = (0, false);
        if phase == Phase::Confirming {
            // What held below it did so in steps no longer than this rate's first: not believed.
            self.held = None;
            if !self.long {
                self.long = true;
                // Room for one rate between it and this one, a precision away from both.
                self.step_down = self.limits.precision;
            }
        }
        if self.held.is_none() {
            self.step_down = (self.step_down * 2.0).min(1.0);
        }
    }

    fn confirmed(&self, rate: u64) -> Finding {
        match (self.ceiling, self.broke) {
            (None, _) => Finding::Maximum(rate),
            (Some(_), Some(broke)) if self.are_near(rate, broke) => {
                Finding::Knee { held: rate, broke }
            }
            (Some(_), broke) => Finding::GeneratorLimit { held: Some(rate), broke },
        }
    }

    fn are_near(&self, lower: u64, upper: u64) -> bool {
        let gap = upper - lower;
        gap <= 1 || gap as f64 <= lower as f64 * self.limits.precision
    }

    fn choose(&self) -> Next {
        let step = |rate, phase| Next::Step { rate, phase, long: self.long };
        match (self.held, self.ceiling) {
            (None, None) => unreachable!("the first step has ended"),
            (Some(held), None) if held < self.limits.max => {
                step(held.saturating_mul(2).min(self.limits.max), Phase::Growing)
            }
            (None, Some(1)) => Next::Done(match self.broke {
                Some(1) => Finding::Nothing,
                broke => Finding::GeneratorLimit { held: None, broke },
            }),
            (None, Some(ceiling)) => {
                let rate = (ceiling as f64 / (1.0 + self.step_down)).ceil() as u64;
                step(rate.clamp(1, ceiling - 1), Phase::Narrowing)
            }
            (Some(held), Some(ceiling)) if !self.are_near(held, ceiling) => {
                step(held + (ceiling - held) / 2, Phase::Narrowing)
            }
            (Some(held), _) => Next::Step { rate: held, phase: Phase::Confirming, long: true },
        }
    }
}

#[cfg(test)]
#[path = "knee_tests.rs"]
mod tests;
