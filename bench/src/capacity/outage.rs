//! An engine machine's journals while Kafka is away and when it is back, second by second.

/// The longest drain that is followed.
const DRAIN_S_MAX: usize = 1_000_000;

#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// That a machine's journals take in.
    pub bytes_per_s: f64,
    pub away_s: f64,
    /// How much faster than the arrivals it drains.
    pub drain_ratio: f64,
    pub bytes_max: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// At the end of each second, until it is empty.
    pub bytes: Vec<f64>,
    pub bytes_peak: f64,
    /// From Kafka's return; none when it never drains.
    pub drained_s: Option<usize>,
    /// From then on events get a 503, and so many seconds.
    pub full_from_s: Option<usize>,
    pub full_s: f64,
}

pub fn follow(outage: &Outage) -> Course {
    let away_s = outage.away_s.ceil() as usize;
    let mut course = Course {
        bytes: Vec::new(),
        bytes_peak: 0.0,
        drained_s: None,
        full_from_s: None,
        full_s: 0.0,
    };
    let mut bytes = 0.0f64;
    for second in 0..away_s + DRAIN_S_MAX {
        let is_back = second >= away_s;
        if is_back && outage.drain_ratio <= 1.0 {
            break;
        }
        let out = if is_back { outage.bytes_per_s * outage.drain_ratio } else { 0.0 };
        let wanted = bytes + outage.bytes_per_s - out;
        if wanted > outage.bytes_max {
            course.full_from_s = course.full_from_s.or(Some(second));
            course.full_s += (wanted - outage.bytes_max) / outage.bytes_per_s;
        }
        bytes = wanted.clamp(0.0, outage.bytes_max);
        course.bytes.push(bytes);
        course.bytes_peak = course.bytes_peak.max(bytes);
        if is_back && bytes == 0.0 {
            course.drained_s = Some(second + 1 - away_s);
            break;
        }
    }
    course
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Outage =
        Outage { bytes_per_s: 100.0, away_s: 600.0, drain_ratio: 4.0, bytes_max: 1e9 };

    #[test]
    fn it_grows_while_kafka_is_away_and_drains_by_what_is_faster() {
        let course = follow(&PLAIN);
        assert_eq!((course.bytes_peak, course.full_from_s, course.full_s), (60_000.0, None, 0.0));
        assert_eq!(course.drained_s, Some(200));
        assert_eq!(course.bytes.len(), 800);
        assert!(course.bytes[..600].is_sorted() && course.bytes[599..].is_sorted_by(|a, b| a > b));
        assert_eq!(follow(&Outage { drain_ratio: 1.0, ..PLAIN }).drained_s, None);
    }

    #[test]
    fn a_full_disk_refuses_what_it_can_not_hold() {
        let course = follow(&Outage { bytes_max: 40_000.0, ..PLAIN });
        assert_eq!((course.bytes_peak, course.full_from_s), (40_000.0, Some(400)));
        assert_eq!(course.full_s, 200.0);
        assert_eq!(course.drained_s, Some(134));
    }
}
