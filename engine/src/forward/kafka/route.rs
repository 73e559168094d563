//! Which way the blocks of one lane go: through Kafka, or, when Kafka has long been away and
//! ClickHouse is there, by direct INSERTs. Pure: time comes in as an argument.
//!
//! On the direct route one block at a time is tried through Kafka once Kafka answers at all: a
//! delivery brings the lane back. Without a block to try with, an answer is all that can be had: Kafka
//! is presumed to be back until a try says otherwise, and the next block is that try. The lane stays on
//! the direct route: a Kafka that answers and takes nothing must not hold blocks up.

use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub struct RouteLimits {
    /// The breaker was open for so long: go directly.
    pub direct_after: Duration,
    /// Between two tries through Kafka.
    pub try_every: Duration,
    /// A try that was not delivered in this time has failed.
    pub try_for: Duration,
}

/// What is known when the route is judged.
#[derive(Clone, Copy, Debug)]
pub struct Signs {
    pub breaker_closed: bool,
    /// Blocks are waiting or in flight.
    pub has_work: bool,
    /// ClickHouse is there and takes what it is given.
    pub direct_takes: bool,
    /// Kafka has answered something since the last try.
    pub kafka_answers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Kafka,
    Direct,
    /// Direct, but for one block that tries Kafka.
    Trying,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Take back what Kafka has not acknowledged; it goes directly.
    ToDirect,
    /// One block may try Kafka.
    Try,
    /// Take that block back.
    TryFailed,
    ToKafka,
}

#[derive(Debug)]
pub struct Route {
    limits: RouteLimits,
    state: State,
    presumed_back: bool,
    /// A try has failed of late: answers alone say nothing before.
    doubted_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Kafka { away_since: Option<Instant> },
    Direct { try_at: Instant },
    Trying { until: Instant },
}

impl Route {
    pub fn new(limits: RouteLimits) -> Route {
        let state = State::Kafka { away_since: None };
        Route { limits, state, presumed_back: false, doubted_until: None }
    }

    pub fn way(&self) -> Way {
        match self.state {
            State::Kafka { .. } => Way::Kafka,
            State::Direct { .. } => Way::Direct,
            State::Trying { .. } => Way::Trying,
        }
    }

    /// Off Kafka's way: Kafka answers, and nothing has spoken against it since.
    pub fn is_presumed_back(&self) -> bool {
        self.presumed_back
    }

    pub fn judge(&mut self, now: Instant, signs: Signs) -> Option<Change> {
        let limits = self.limits;
        self.presume(now, signs);
        match &mut self.state {
            State::Kafka { away_since } => {
                if signs.breaker_closed || !signs.has_work {
                    *away_since = None;
                    return None;
                }
                let since = *away_since.get_or_insert(now);
                let long = now.saturating_duration_since(since) >= limits.direct_after;
                if !long || !signs.direct_takes {
                    return None;
                }
                self.state = State::Direct { try_at: now + limits.try_every };
                self.doubted_until = None;
                Some(Change::ToDirect)
            }
            State::Direct { try_at } => {
                // Where nothing else is to be had, Kafka is tried even if it has not answered.
                let worth = signs.kafka_answers || !signs.direct_takes;
                if now < *try_at || !worth || !signs.has_work {
                    return None;
                }
                self.state = State::Trying { until: now + limits.try_for };
                Some(Change::Try)
            }
            State::Trying { until } => {
                if signs.breaker_closed {
                    self.state = State::Kafka { away_since: None };
                    self.presumed_back = false;
                    return Some(Change::ToKafka);
                }
                if now < *until {
                    return None;
                }
                self.state = State::Direct { try_at: now + limits.try_every };
                self.presumed_back = false;
                self.doubted_until = Some(now + limits.direct_after);
                Some(Change::TryFailed)
            }
        }
    }

    fn presume(&mut self, now: Instant, signs: Signs) {
        let direct = matches!(self.state, State::Direct { .. });
        let doubted = self.doubted_until.is_some_and(|until| now < until);
        if direct && !doubted && !signs.has_work && signs.kafka_answers {
            self.presumed_back = true;
        }
    }

    /// When [`Self::judge`] may say something new without anything happening.
    pub fn due(&self) -> Option<Instant> {
        match self.state {
            State::Kafka { away_since } => away_since.map(|since| since + self.limits.direct_after),
            State::Direct { try_at } => Some(try_at),
            State::Trying { until } => Some(until),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Signs =
        Signs { breaker_closed: true, has_work: true, direct_takes: true, kafka_answers: true };
    const AWAY: Signs = Signs { breaker_closed: false, kafka_answers: false, ..GOOD };
    const BACK: Signs = Signs { breaker_closed: false, ..GOOD };

    /// Direct after 30 s, a try each second for at most 2 s.
    fn route() -> Route {
        Route::new(RouteLimits {
            direct_after: Duration::from_secs(30),
            try_every: Duration::from_secs(1),
            try_for: Duration::from_secs(2),
        })
    }

    #[track_caller]
    fn check(steps: &[(u64, Signs, Option<Change>, Way)]) {
        let mut route = route();
        let start = Instant::now();
        for (index, (at_s, signs, change, way)) in steps.iter().enumerate() {
            let now = start + Duration::from_secs(*at_s);
            assert_eq!(route.judge(now, *signs), *change, "step {index}");
            assert_eq!(route.way(), *way, "step {index}");
        }
    }

    use Change::{ToDirect, ToKafka, Try, TryFailed};
    use Way::{Direct, Kafka, Trying};

    const GONE: [(u64, Signs, Option<Change>, Way); 3] =
        [(0, AWAY, None, Kafka), (29, AWAY, None, Kafka), (30, AWAY, Some(ToDirect), Direct)];

    #[test]
    fn it_goes_directly_when_kafka_is_long_away() {
        check(&GONE);
        check(&[(0, AWAY, None, Kafka), (29, GOOD, None, Kafka), (31, AWAY, None, Kafka)]);
        let idle = Signs { has_work: false, ..AWAY };
        check(&[(0, AWAY, None, Kafka), (20, idle, None, Kafka), (40, AWAY, None, Kafka)]);
    }

    #[test]
    fn with_clickhouse_away_too_it_waits_for_either() {
        let both = Signs { direct_takes: false, ..AWAY };
        let waits = [(0, both, None, Kafka), (500, both, None, Kafka)];
        check(&[&waits[..], &[(501, AWAY, Some(ToDirect), Direct)]].concat());
        check(&[&GONE[..], &[(31, both, Some(Try), Trying)]].concat());
    }

    #[test]
    fn a_delivered_try_brings_it_back() {
        let back = [(31, AWAY, None, Direct), (40, BACK, Some(Try), Trying)];
        let came = [(41, BACK, None, Trying), (41, GOOD, Some(ToKafka), Kafka)];
        check(&[&GONE[..], &back, &came].concat());
    }

    #[test]
    fn a_try_that_does_not_arrive_is_taken_back() {
        let tried = [(30, BACK, None, Direct), (31, BACK, Some(Try), Trying)];
        let failed = [(33, BACK, Some(TryFailed), Direct), (33, BACK, None, Direct)];
        check(&[&GONE[..], &tried, &failed, &[(34, BACK, Some(Try), Trying)]].concat());
    }

    /// Whether Kafka is presumed to be back, after each step.
    #[track_caller]
    fn check_presumed(steps: &[(u64, Signs, Way, bool)]) {
        let mut route = route();
        let start = Instant::now();
        let gone = GONE.map(|(at_s, signs, _, way)| (at_s, signs, way, false));
        for (index, (at_s, signs, way, presumed)) in gone.iter().chain(steps).enumerate() {
            route.judge(start + Duration::from_secs(*at_s), *signs);
            assert_eq!((route.way(), route.is_presumed_back()), (*way, *presumed), "step {index}");
        }
    }

    #[test]
    fn without_a_block_an_answer_tells_that_it_is_back() {
        let away = Signs { has_work: false, ..AWAY };
        let back = Signs { has_work: false, ..BACK };
        check_presumed(&[(31, away, Direct, false), (32, back, Direct, true)]);
        check_presumed(&[(31, BACK, Trying, false), (31, back, Trying, false)]);
        let tried = [(31, back, Direct, true), (40, BACK, Trying, true)];
        check_presumed(&[&tried[..], &[(41, GOOD, Kafka, false)]].concat());
        let failed = [(42, BACK, Direct, false), (42, back, Direct, false)];
        let doubted = [(71, back, Direct, false), (72, back, Direct, true)];
        check_presumed(&[&tried[..], &failed, &doubted].concat());
    }
}
