//! From costs to cores and machines. Pure arithmetic over measured costs and named assumptions.

/// Whole machines in three equal zones, so that those of two zones carry the load with the busiest core
/// below `busy_max`. `imbalance` is the busiest core's load by the mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sized {
    pub cores_busy: f64,
    pub machines: u64,
    /// Mean use of a core: all there, one machine lost, one zone lost.
    pub busy: [f64; 3],
}

pub fn size(
    per_s: f64,
    cpu_us: f64,
    cores_per_machine: u64,
    imbalance: f64,
    busy_max: f64,
) -> Sized {
    assert!(per_s > 0.0 && cpu_us > 0.0 && cores_per_machine > 0 && busy_max > 0.0);
    let cores_busy = per_s * cpu_us / 1e6;
    let needed = cores_busy * imbalance.max(1.0) / busy_max / cores_per_machine as f64;
    in_zones(cores_busy, ((needed / 2.0).ceil() as u64).max(1), cores_per_machine)
}

/// The same for a number of machines in each zone that something else asks for.
pub fn in_zones(cores_busy: f64, in_zone: u64, cores_per_machine: u64) -> Sized {
    let machines = in_zone * 3;
    let use_of = |count: u64| cores_busy / (count * cores_per_machine) as f64;
    Sized { cores_busy, machines, busy: [machines, machines - 1, in_zone * 2].map(use_of) }
}

/// Bytes a second that a journal's blocks gather while Kafka is away, and how long the drain takes after
/// `away_s` at `drain_ratio` times the arrival rate.
pub fn backlog(bytes_per_s: f64, away_s: f64, drain_ratio: f64) -> (f64, f64) {
    assert!(drain_ratio > 1.0, "a backlog drains only faster than it grows");
    (bytes_per_s * away_s, away_s / (drain_ratio - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_zone_may_go() {
        // 10 M × 5 µs are 50 cores; at 80 % and evenly 62.5, so two zones of 2 machines with 16.
        let sized = size(10e6, 5.0, 16, 1.0, 0.8);
        assert_eq!((sized.machines, sized.cores_busy), (6, 50.0));
        assert_eq!(sized.busy, [50.0 / 96.0, 50.0 / 80.0, 50.0 / 64.0]);
        assert_eq!(backlog(100.0, 10.0, 3.0), (1000.0, 5.0));
    }

    proptest! {
        #[test]
        fn more_load_never_takes_less(per_s in 1.0..1e8f64, more in 1.0..10.0f64, cpu_us in 0.01..100.0f64,
                                      cores in 1u64..256, imbalance in 1.0..4.0f64) {
            let (a, b) = (size(per_s, cpu_us, cores, imbalance, 0.8),
                          size(per_s * more, cpu_us, cores, imbalance, 0.8));
            prop_assert!(b.machines >= a.machines && b.cores_busy >= a.cores_busy);
            prop_assert!(a.busy.iter().all(|busy| busy.is_finite()));
            prop_assert!(a.busy[2] * imbalance <= 0.8 + 1e-9);
        }
    }
}
