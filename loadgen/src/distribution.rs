//! Distributions of whole numbers, as the command line spells them, turned into values by quantile:
//! evenly spread quantiles give the distribution itself and not one sample of it.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::quantity::Share;

/// What every flag that takes a distribution says of it.
pub const GRAMMAR: &str =
    "N, uniform:FROM..TO, zipf:FROM..TO,EXPONENT, normal:MEAN,SD or a list such as 1:50%,100:50%";

const WEIGHTS_MAX: usize = 100;
pub const EXPONENT_MAX: f64 = 10.0;

#[derive(Clone, Debug, PartialEq)]
pub enum Distribution {
    Fixed(u64),
    Uniform {
        from: u64,
        to: u64,
    },
    /// The lowest value is the most frequent; the k-th has 1 / k^exponent of its frequency.
    Zipf {
        from: u64,
        to: u64,
        exponent: f64,
    },
    /// What lies outside the range of the flag becomes its nearest end.
    Normal {
        mean: u64,
        sd: u64,
    },
    /// Values with their shares, which add up to 1.
    Weighted(Vec<(u64, f64)>),
}

impl Distribution {
    pub fn is_fixed(&self) -> bool {
        matches!(self, Distribution::Fixed(_))
    }

    /// Refuses what lies outside `range` for certain.
    pub fn check_range(&self, range: &RangeInclusive<u64>) -> Result<(), String> {
        let named = match self {
            Distribution::Fixed(value) => vec![*value],
            Distribution::Uniform { from, to } | Distribution::Zipf { from, to, .. } => {
                vec![*from, *to]
            }
            Distribution::Normal { mean, .. } => vec![*mean],
            Distribution::Weighted(values) => values.iter().map(|value| value.0).collect(),
        };
        match named.iter().find(|value| !range.contains(value)) {
            None => Ok(()),
            Some(value) => {
                let (min, max) = (range.start(), range.end());
                Err(format!("{value} is outside {min} to {max}"))
            }
        }
    }

    /// The value that a part `quantile` of all lies below, inside `range`.
    pub fn value_at(&self, quantile: f64, range: &RangeInclusive<u64>) -> u64 {
        let value = match self {
            Distribution::Fixed(value) => *value,
            Distribution::Uniform { from, to } => from + ((to - from + 1) as f64 * quantile) as u64,
            Distribution::Zipf { from, to, exponent } => {
                from + zipf_rank(quantile, to - from + 1, *exponent)
            }
            Distribution::Normal { mean, sd } => {
                (*mean as f64 + *sd as f64 * normal_quantile(quantile)).round().max(0.0) as u64
            }
            Distribution::Weighted(values) => {
                let mut below = 0.0;
                let found = values.iter().find(|(_, share)| {
                    below += share;
                    quantile < below
                });
                found.or(values.last()).map_or(0, |value| value.0)
            }
        };
        value.clamp(*range.start(), *range.end())
    }
}

/// The integral of x^-exponent from 1/2 to `x`: up to `rank` + 1/2 it is nearly the sum over the
/// ranks, which for more users than fit into memory can not be added up one by one.
fn zipf_integral(x: f64, exponent: f64) -> f64 {
    if (exponent - 1.0).abs() < 1e-9 {
        return (x / 0.5).ln();
    }
    (x.powf(1.0 - exponent) - 0.5f64.powf(1.0 - exponent)) / (1.0 - exponent)
}

/// Ranks from the first, which has the largest share by far, are added up; the rest is integrated.
const RANKS_ADDED: u64 = 1_000;

/// The rank from 0 to `count` - 1 at which the first part `quantile` of all ends.
fn zipf_rank(quantile: f64, count: u64, exponent: f64) -> u64 {
    let weight = |rank: u64| ((rank + 1) as f64).powf(-exponent);
    let added = count.min(RANKS_ADDED);
    let head: f64 = (0..added).map(weight).sum();
    let at = |ranks: u64| zipf_integral(ranks as f64 + 0.5, exponent);
    let tail = if count > added { at(count) - at(added) } else { 0.0 };
    let wanted = quantile * (head + tail);
    if wanted < head {
        let mut below = 0.0;
        let rank = (0..added).find(|&rank| {
            below += weight(rank);
            wanted < below
        });
        return rank.unwrap_or(added - 1);
    }
    let (mut low, mut high) = (added, count - 1);
    while low < high {
        let middle = low + (high - low) / 2;
        if head + at(middle + 1) - at(added) <= wanted {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low.min(count - 1)
}

/// The inverse of the normal distribution's integral, by bisection on its series: this is asked for
/// some thousand values before a run begins.
fn normal_quantile(quantile: f64) -> f64 {
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if normal_integral(middle) < quantile {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}

/// 1/2 + φ(x) (x + x³/3 + x⁵/(3·5) + …), which converges for every x.
fn normal_integral(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for odd in (3..400).step_by(2) {
        term *= x * x / f64::from(odd);
        sum += term;
    }
    0.5 + sum * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is none of {GRAMMAR}");
        let text = text.trim();
        if let Ok(value) = text.parse() {
            return Ok(Distribution::Fixed(value));
        }
        let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
        match kind {
            "uniform" => {
                let (from, to) = parse_range(rest).ok_or_else(wrong)?;
                Ok(Distribution::Uniform { from, to })
            }
            "zipf" => {
                let (range, exponent) = rest.split_once(',').ok_or_else(wrong)?;
                let (from, to) = parse_range(range).ok_or_else(wrong)?;
                Ok(Distribution::Zipf { from, to, exponent: parse_exponent(exponent)? })
            }
            "normal" => {
                let (mean, sd) = rest.split_once(',').ok_or_else(wrong)?;
                let number = |text: &str| text.trim().parse().map_err(|_| wrong());
                Ok(Distribution::Normal { mean: number(mean)?, sd: number(sd)? })
            }
            _ => parse_weighted(text).ok_or_else(wrong)?,
        }
    }
}

fn parse_range(text: &str) -> Option<(u64, u64)> {
    let (from, to) = text.split_once("..")?;
    let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    (from <= to && to < u64::MAX).then_some((from, to))
}

pub fn parse_exponent(text: &str) -> Result<f64, String> {
    let exponent = text.trim().parse().ok().filter(|e| (0.0..=EXPONENT_MAX).contains(e));
    exponent.ok_or_else(|| format!("{text:?} is not an exponent from 0 to {EXPONENT_MAX}"))
}

/// None when it does not look like a list at all.
fn parse_weighted(text: &str) -> Option<Result<Distribution, String>> {
    let values = text.split(',').map(|item| {
        let (value, share) = item.split_once(':')?;
        let Share(share) = share.parse().ok()?;
        Some((value.trim().parse().ok()?, share))
    });
    let values: Vec<(u64, f64)> = values.collect::<Option<_>>()?;
    let sum: f64 = values.iter().map(|value| value.1).sum();
    Some(if values.len() > WEIGHTS_MAX {
        Err(format!("a list has at most {WEIGHTS_MAX} values"))
    } else if (sum - 1.0).abs() > 1e-6 {
        Err(format!("the shares of {text:?} add up to {}%, not 100%", (sum * 1e6).round() / 1e4))
    } else {
        Ok(Distribution::Weighted(values))
    })
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Distribution::Fixed(value) => write!(f, "{value}"),
            Distribution::Uniform { from, to } => write!(f, "uniform:{from}..{to}"),
            Distribution::Zipf { from, to, exponent } => write!(f, "zipf:{from}..{to},{exponent}"),
            Distribution::Normal { mean, sd } => write!(f, "normal:{mean},{sd}"),
            Distribution::Weighted(values) => {
                for (index, (value, share)) in values.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{value}:{}", Share(*share))?;
                }
                Ok(())
            }
        }
    }
}

/// A number from 0 to below `count` for every quantile, at the cost of one table look-up: where each
/// of 4,096 equal shares of a Zipf distribution ends.
#[derive(Clone, Debug, PartialEq)]
pub struct RankTable {
    /// `SHARES` + 1 ends; below each share's end the ranks are taken as equally frequent.
    ends: Vec<f64>,
}

const SHARE_BITS: u32 = 12;

impl RankTable {
    pub fn zipf(count: u64, exponent: f64) -> Self {
        let shares = 1u64 << SHARE_BITS;
        let end = |share: u64| zipf_rank(share as f64 / shares as f64, count, exponent) as f64;
        RankTable { ends: (0..shares).map(end).chain([count as f64]).collect() }
    }

    /// `point` is evenly spread over 0 to below 2^`bits`.
    #[inline]
    pub fn rank(&self, point: u64, bits: u32) -> u64 {
        let share = (point >> (bits - SHARE_BITS)) as usize;
        let inside = point & ((1 << (bits - SHARE_BITS)) - 1);
        let part = inside as f64 / (1u64 << (bits - SHARE_BITS)) as f64;
        let (from, to) = (self.ends[share], self.ends[share + 1]);
        let last = self.ends[self.ends.len() - 1] - 1.0;
        (from + (to - from) * part).min(last) as u64
    }
}

#[cfg(test)]
#[path = "distribution_tests.rs"]
mod tests;
