//! What a run sends: requests that were made before it began, in the proportions that were asked
//! for. Which of them a connection's request is, is decided by its numbers alone, so that a seed says
//! everything and a request that was put back is the same when it is sent.

use proto::random::SplitMix64;

use crate::compression::Compression;
use crate::distribution::Distribution;
use crate::event_id::{self, RunId};
use crate::invalid;
use crate::plan::{BATCH_RANGE, EVENT_BYTES_RANGE};
use crate::target::Target;
use crate::template::{App, RequestTemplate, TemplateError, Traffic};

/// Requests made ahead where not all are alike; fewer where they are large.
const MADE_MAX: u64 = 1_024;
const MADE_MIN: u64 = 64;
const MADE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What the requests are made from.
pub struct Ingredients<'a> {
    pub target: &'a Target,
    /// With their weights; at least one.
    pub apps: &'a [(App, u64)],
    pub run: RunId,
    pub traffic: &'a Traffic,
    pub batch: &'a Distribution,
    pub event_bytes: &'a Distribution,
    pub compression: Compression,
    /// Part of the requests that the server has to refuse.
    pub invalid_share: f64,
    pub seed: u64,
}

#[derive(Debug)]
pub struct Made {
    pub template: RequestTemplate,
    pub expected_status: u16,
}

#[derive(Debug)]
pub struct Mix {
    made: Vec<Made>,
    /// The first of `made` are answered 200; what follows is not.
    good_count: u64,
    /// Of 2^32.
    invalid_below: u64,
    seed: u64,
}

impl Mix {
    pub fn new(from: &Ingredients<'_>) -> Result<Self, TemplateError> {
        let all_alike = from.apps.len() == 1
            && from.batch.is_fixed()
            && from.event_bytes.is_fixed()
            && from.compression == Compression::None;
        let count = if all_alike { 1 } else { made_count(from) };
        let mut random = SplitMix64::new(from.seed);
        let batches = spread(count, &mut random, |q| from.batch.value_at(q, &BATCH_RANGE));
        let apps = spread(count, &mut random, |q| app_at(from.apps, q));
        let serials = serials(from);
        let mut made = Vec::new();
        for (number, (batch, app)) in (0..).zip(batches.into_iter().zip(apps)) {
            let sizes = (0..batch)
                .map(|_| from.event_bytes.value_at(random.unit(), &EVENT_BYTES_RANGE) as usize);
            let sizes: Vec<usize> = sizes.collect();
            let (run, traffic) = (from.run, from.traffic);
            let template = RequestTemplate::new(from.target, app, run, traffic, &sizes, serials)?;
            let template = from.compression.apply(from.target, &app.key, template, number, traffic);
            made.push(Made { template, expected_status: 200 });
        }
        let good_count = made.len() as u64;
        if from.invalid_share > 0.0 {
            made.extend(invalid::requests(from.target, &from.apps[0].0, from.run, from.traffic)?);
        }
        let invalid_below = (from.invalid_share * (1u64 << 32) as f64) as u64;
        Ok(Mix { made, good_count, invalid_below, seed: from.seed })
    }

    /// Which request a connection's number `number` is.
    #[inline]
    pub fn choose(&self, connection: u64, number: u64) -> usize {
        if self.made.len() == 1 {
            return 0;
        }
        let draw = event_id::mix64(self.seed ^ event_id::low_half(connection, number));
        let (lot, place) = (draw & 0xffff_ffff, draw >> 32);
        let (first, count) = if lot < self.invalid_below {
            (self.good_count, self.made.len() as u64 - self.good_count)
        } else {
            (0, self.good_count)
        };
        (first + ((place * count) >> 32)) as usize
    }

    pub fn get(&self, choice: usize) -> &Made {
        &self.made[choice]
    }

    pub fn request_bytes_max(&self) -> usize {
        self.made.iter().map(|made| made.template.bytes().len()).max().unwrap_or(0)
    }

    /// Of the requests that are answered 200.
    pub fn request_bytes_mean(&self) -> u64 {
        let good = &self.made[..self.good_count as usize];
        good.iter().map(|made| made.template.bytes().len() as u64).sum::<u64>() / self.good_count
    }
}

/// Event numbers that a request has to itself: as many as the largest may need.
fn serials(from: &Ingredients<'_>) -> u64 {
    from.batch.value_at(1.0 - 1e-12, &BATCH_RANGE).max(match from.batch {
        Distribution::Weighted(values) => values.iter().map(|value| value.0).max().unwrap_or(1),
        Distribution::Normal { .. } => *BATCH_RANGE.end(),
        _ => 1,
    })
}

fn made_count(from: &Ingredients<'_>) -> u64 {
    let mean = |of: &Distribution, range| {
        (0..64).map(|k| of.value_at((f64::from(k) + 0.5) / 64.0, range)).sum::<u64>() / 64
    };
    let bytes = mean(from.batch, &BATCH_RANGE) * mean(from.event_bytes, &EVENT_BYTES_RANGE);
    (MADE_BYTES_MAX / bytes.max(1)).clamp(MADE_MIN, MADE_MAX)
}

/// Values at `count` even quantiles, in an order drawn from `random`.
fn spread<T>(count: u64, random: &mut SplitMix64, value: impl Fn(f64) -> T) -> Vec<T> {
    let mut values: Vec<T> = (0..count).map(|k| value((k as f64 + 0.5) / count as f64)).collect();
    for last in (1..values.len()).rev() {
        values.swap(last, random.below(last as u64 + 1) as usize);
    }
    values
}

fn app_at(apps: &[(App, u64)], quantile: f64) -> &App {
    let total: u64 = apps.iter().map(|app| app.1).sum();
    let wanted = quantile * total as f64;
    let mut below = 0;
    let found = apps.iter().find(|(_, weight)| {
        below += weight;
        wanted < below as f64
    });
    &found.unwrap_or(&apps[0]).0
}

#[cfg(test)]
#[path = "mix_tests.rs"]
pub mod tests;
