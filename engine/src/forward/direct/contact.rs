//! Whether ClickHouse is there: what its answers and its silence say, and when to ask. Pure: time
//! comes in as an argument, the question goes out as a wish.

use crate::admin::{Component, Health, Level};
use proto::insert::Failure;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often ClickHouse is asked whether it is there while nothing is sent to it, be it that there is
/// nothing, or that all rests after failures.
const PING_EVERY: Duration = Duration::from_secs(1);
/// An INSERT without an answer for so long is told of, long before it is given up.
const SILENCE_TOLD_AFTER: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ping {
    None,
    Wanted,
    /// Its outcome is to come.
    Asked,
}

/// What the INSERTs are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    /// There are none.
    Nothing,
    /// None may go yet.
    Rests,
    /// One at least may go, and none is under way.
    Goes,
    UnderWay,
}

pub(super) struct Contact {
    health: Arc<Health>,
    /// When ClickHouse last answered, or was asked after a rest.
    last: Instant,
    look_at: Instant,
    ping: Ping,
    /// The last failure is ClickHouse's own word. It answers, and only an INSERT can tell when it takes
    /// rows again.
    overloaded: bool,
}

impl Contact {
    pub fn new(health: Arc<Health>, now: Instant) -> Contact {
        Contact { health, last: now, look_at: now, ping: Ping::None, overloaded: false }
    }

    /// `others`: INSERTs that were under way before this one.
    pub fn on_sent(&mut self, others: usize, now: Instant) {
        if others == 0 {
            self.last = now;
        }
    }

    /// An INSERT was answered, be it with a refusal.
    pub fn on_answer(&mut self, now: Instant) {
        self.last = now;
        self.overloaded = false;
        self.health.set(Component::Clickhouse, Level::Ok, "");
    }

    pub fn on_outage(&mut self, failure: &Failure, now: Instant) {
        self.last = now;
        self.overloaded = failure.code != 0;
        self.health.set(Component::Clickhouse, Level::Degraded, &failure.text);
    }

    pub fn look(&mut self, traffic: Traffic, now: Instant) {
        if now < self.look_at {
            return;
        }
        self.look_at = now + PING_EVERY;
        let silence = now.saturating_duration_since(self.last);
        let unknown = self.health.level(Component::Clickhouse) != Level::Ok;
        let asks = match traffic {
            Traffic::Nothing => unknown || silence >= PING_EVERY,
            Traffic::Rests => unknown && !self.overloaded,
            Traffic::Goes | Traffic::UnderWay => false,
        };
        if traffic == Traffic::UnderWay && silence >= SILENCE_TOLD_AFTER {
            let text = format!("an INSERT has had no answer for {} s", silence.as_secs());
            self.health.set(Component::Clickhouse, Level::Degraded, &text);
        } else if asks && self.ping == Ping::None {
            self.ping = Ping::Wanted;
        }
    }

    /// True once for each ping that shall be sent.
    pub fn take_ping(&mut self) -> bool {
        let wanted = self.ping == Ping::Wanted;
        if wanted {
            self.ping = Ping::Asked;
        }
        wanted
    }

    pub fn on_ping(&mut self, outcome: &Result<(), Failure>, now: Instant) {
        self.ping = Ping::None;
        self.look_at = now + PING_EVERY;
        match outcome {
            Ok(()) => self.on_answer(now),
            Err(failure) => {
                self.health.set(Component::Clickhouse, Level::Degraded, &failure.text);
            }
        }
    }

    /// When to look again though nothing happened.
    pub fn due(&self) -> Instant {
        self.look_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::backoff::Pace;
    use proto::insert::InsertFailure;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// Whether a ping is wanted then.
        Look(Traffic, bool),
        Sent,
        Answer,
        Outage,
        Overload,
        Ping(bool),
    }

    /// Each step: at this time do this, and `/readyz` says this of ClickHouse after it.
    #[track_caller]
    fn check(steps: &[(u64, Step, &str)]) {
        let start = Instant::now();
        let health = Health::new(0);
        let mut contact = Contact::new(Arc::clone(&health), start);
        let failure = Failure::new(InsertFailure::Retry, Pace::Away, 0, "away");
        for (index, (at_ms, step, says)) in steps.iter().enumerate() {
            let now = start + Duration::from_millis(*at_ms);
            match *step {
                Step::Look(traffic, pings) => {
                    contact.look(traffic, now);
                    assert_eq!(contact.take_ping(), pings, "step {index}");
                }
                Step::Sent => contact.on_sent(0, now),
                Step::Answer => contact.on_answer(now),
                Step::Outage => contact.on_outage(&failure, now),
                Step::Overload => {
                    let failure = Failure::new(InsertFailure::Retry, Pace::Busy, 252, "busy");
                    contact.on_outage(&failure, now);
                }
                Step::Ping(true) => contact.on_ping(&Ok(()), now),
                Step::Ping(false) => contact.on_ping(&Err(failure.clone()), now),
            }
            let mut ailments = health.report().ailments.into_iter();
            let found = ailments.find(|ailment| ailment.component == Component::Clickhouse);
            let said = found.map_or(String::new(), |ailment| ailment.reason);
            assert_eq!(&said, says, "after step {index}: {step:?}");
        }
    }

    use Step::{Answer, Look, Outage, Overload, Ping, Sent};
    use Traffic::{Goes, Nothing, Rests, UnderWay};

    #[test]
    fn at_rest_it_is_asked_every_second() {
        let asked = [(0, Look(Nothing, true), "not asked yet"), (10, Ping(true), "")];
        check(
            &[&asked[..], &[(1_000, Look(Nothing, false), ""), (1_010, Look(Nothing, true), "")]]
                .concat(),
        );
        let away = [(1_010, Look(Nothing, true), ""), (1_020, Ping(false), "away")];
        let back = [(2_020, Look(Nothing, true), "away"), (2_030, Ping(true), "")];
        check(&[&asked[..], &away, &back].concat());
    }

    #[test]
    fn one_question_at_a_time() {
        let waits = [
            (0, Look(Nothing, true), "not asked yet"),
            (1_000, Look(Nothing, false), "not asked yet"),
        ];
        check(&[&waits[..], &[(1_500, Ping(true), ""), (2_500, Look(Nothing, true), "")]].concat());
    }

    #[test]
    fn nothing_is_asked_while_a_batch_is_on_its_way() {
        check(&[
            (0, Look(Goes, false), "not asked yet"),
            (1_000, Look(UnderWay, false), "not asked yet"),
        ]);
        check(&[(0, Answer, ""), (5_000, Look(Rests, false), "")]);
    }

    /// A rest may take half a minute: it is noticed sooner that ClickHouse is back.
    #[test]
    fn it_is_asked_while_all_rests_after_an_outage() {
        let away =
            [(0, Outage, "away"), (10, Look(Rests, true), "away"), (20, Ping(false), "away")];
        let back = [(1_020, Look(Rests, true), "away"), (1_030, Ping(true), "")];
        check(&[&away[..], &back, &[(2_030, Look(Rests, false), "")]].concat());
    }

    #[test]
    fn an_overload_is_over_when_an_insert_is_answered() {
        let busy = [(0, Overload, "busy"), (5_000, Look(Rests, false), "busy")];
        check(
            &[
                &busy[..],
                &[
                    (5_500, Sent, "busy"),
                    (6_000, Look(UnderWay, false), "busy"),
                    (6_001, Answer, ""),
                ],
            ]
            .concat(),
        );
        check(
            &[&busy[..], &[(6_000, Outage, "away"), (6_001, Look(Rests, true), "away")]].concat(),
        );
    }

    #[test]
    fn an_insert_without_an_answer_is_told_of() {
        let text = "an INSERT has had no answer for 3 s";
        let sent = [(0, Answer, ""), (9_000, Sent, ""), (11_999, Look(UnderWay, false), "")];
        check(
            &[&sent[..], &[(12_999, Look(UnderWay, false), text), (13_000, Answer, "")]].concat(),
        );
    }
}
