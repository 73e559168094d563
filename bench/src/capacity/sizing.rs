//! From costs to cores and machines in three zones. Pure arithmetic.

pub const ZONES: u64 = 3;

/// Whole machines in equal zones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sized {
    pub cores_busy: f64,
    pub machines: u64,
    /// Mean use of a core: all there, one machine lost, one zone lost.
    pub busy: [f64; 3],
}

impl Sized {
    pub fn in_zone(&self) -> u64 {
        self.machines / ZONES
    }

    /// Machines that are left when a zone is lost.
    pub fn without_a_zone(&self) -> u64 {
        self.machines - self.in_zone()
    }
}

/// So many that those of two zones carry the load with the busiest core below `busy_max`; `imbalance` is that core's
/// load by the mean.
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
    in_zones(cores_busy, zone_of(needed), cores_per_machine)
}

/// Machines of a zone where two zones must have `needed` in all.
pub fn zone_of(needed: f64) -> u64 {
    ((needed / (ZONES - 1) as f64).ceil() as u64).max(1)
}

/// With a number of machines in each zone that something else asks for.
pub fn in_zones(cores_busy: f64, in_zone: u64, cores_per_machine: u64) -> Sized {
    let machines = in_zone * ZONES;
    let use_of = |count: u64| cores_busy / (count * cores_per_machine) as f64;
    Sized { cores_busy, machines, busy: [machines, machines - 1, machines - in_zone].map(use_of) }
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
            prop_assert!(a.busy[0] <= a.busy[1] && a.busy[1] <= a.busy[2]);
        }
    }
}
