//! What is counted about live counters: rounds of the background job, and where answers came from.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Seconds; to the time limit of a round.
const ROUND_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 20.0];

/// Why an answer did not come from Redis, where one is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    Away,
    Slow,
    Refused,
    /// No numbers lie there: a quiet app, or no round yet.
    Empty,
    /// What lies there is not what this program stores.
    Unreadable,
}

impl Miss {
    fn label(self) -> &'static str {
        match self {
            Miss::Away => "away",
            Miss::Slow => "slow",
            Miss::Refused => "refused",
            Miss::Empty => "empty",
            Miss::Unreadable => "unreadable",
        }
    }
}

/// Why a round did not do all of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    ClickHouse,
    Redis,
    /// The time limit came before the last app.
    TooLong,
    /// More apps are active than one round takes.
    TooManyApps,
    /// An app's last events are larger than what is stored.
    TooLarge,
}

impl Trouble {
    fn label(self) -> &'static str {
        match self {
            Trouble::ClickHouse => "clickhouse",
            Trouble::Redis => "redis",
            Trouble::TooLong => "too_long",
            Trouble::TooManyApps => "too_many_apps",
            Trouble::TooLarge => "too_large",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

pub struct LiveFigures {
    pub rounds: Counter,
    pub round_seconds: Histogram,
    /// Apps in the last round.
    pub apps: Gauge,
    troubles: Family<ReasonLabel, Counter>,
    pub hits: Counter,
    fallbacks: Family<ReasonLabel, Counter>,
}

impl LiveFigures {
    pub fn register(registry: &mut Registry) -> LiveFigures {
        let figures = LiveFigures {
            rounds: Counter::default(),
            round_seconds: Histogram::new(ROUND_BUCKETS),
            apps: Gauge::default(),
            troubles: Family::default(),
            hits: Counter::default(),
            fallbacks: Family::default(),
        };
        registry.register(
            "live_rounds",
            "Rounds that computed live counters, here",
            figures.rounds.clone(),
        );
        registry.register(
            "live_round_seconds",
            "Time of such a round",
            figures.round_seconds.clone(),
        );
        registry.register("live_apps", "Apps in the last round", figures.apps.clone());
        registry.register(
            "live_round_troubles",
            "Rounds that did not do all of their work, by reason",
            figures.troubles.clone(),
        );
        registry.register("live_hits", "Live answers that came from Redis", figures.hits.clone());
        registry.register(
            "live_fallbacks",
            "Live answers that had to come from ClickHouse although Redis is configured",
            figures.fallbacks.clone(),
        );
        figures
    }

    pub fn trouble(&self, trouble: Trouble) {
        self.troubles.get_or_create(&ReasonLabel { reason: trouble.label() }).inc();
    }

    pub fn fallback(&self, miss: Miss) {
        self.fallbacks.get_or_create(&ReasonLabel { reason: miss.label() }).inc();
    }
}
