//! How unevenly connections fall on cores while clients come and go. Pure, from a seed. Must not know what a
//! connection costs.

use bench::percentile::percentile;

use super::balancer::{Balancer, Fleet, Policy};

/// A p99.9 of fewer is one of their few largest, or the largest.
const MOMENTS_OF_P999_MIN: usize = 1_000;

struct Connection {
    machine: usize,
    core: usize,
    weight: f64,
}

struct Moving {
    balancer: Balancer,
    connections: Vec<Connection>,
    loads: Vec<f64>,
}

impl Moving {
    fn new(fleet: Fleet, policy: Policy, seed: u64) -> Moving {
        let mut moving = Moving {
            balancer: Balancer::new(fleet, policy, seed),
            connections: Vec::with_capacity(fleet.connections),
            loads: vec![0.0; fleet.cores()],
        };
        for _ in 0..fleet.connections {
            let connection = moving.connect();
            moving.connections.push(connection);
        }
        moving
    }

    fn connect(&mut self) -> Connection {
        let machine = self.balancer.choose();
        let core = self.balancer.open(machine);
        let weight = self.balancer.weight();
        self.loads[core] += weight;
        Connection { machine, core, weight }
    }

    fn renew_one(&mut self) {
        let ended = self.balancer.any_connection();
        let old = &self.connections[ended];
        self.balancer.close(old.machine);
        self.loads[old.core] -= old.weight;
        self.connections[ended] = self.connect();
    }

    fn busiest_to_mean(&self) -> f64 {
        let sum: f64 = self.loads.iter().sum();
        let busiest = self.loads.iter().copied().fold(0.0, f64::max);
        busiest * self.loads.len() as f64 / sum
    }
}

/// The busiest core's load as a multiple of the mean: the p99.9 over `moments`, or their largest where they are too
/// few for that. Between two moments a twentieth of the connections, of exponential lifetimes, has ended and come again.
pub fn busiest(fleet: Fleet, policy: Policy, moments: usize, seed: u64) -> f64 {
    let mut moving = Moving::new(fleet, policy, seed);
    let mut found = Vec::with_capacity(moments);
    for _ in 0..moments.max(1) {
        found.push(moving.busiest_to_mean());
        for _ in 0..fleet.connections.div_ceil(20) {
            moving.renew_one();
        }
    }
    high(&found)
}

fn high(found: &[f64]) -> f64 {
    percentile(found, if found.len() < MOMENTS_OF_P999_MIN { 10_000 } else { 9_990 })
}

/// What [`busiest`] is of so many moments.
pub fn called(moments: usize) -> String {
    if moments < MOMENTS_OF_P999_MIN {
        format!("the most of {moments} moments")
    } else {
        format!("p99.9 of {moments} moments")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Fleet = Fleet {
        machines: 100,
        cores_per_machine: 1,
        connections: 10_000,
        heavy_share: 0.0,
        heavy_ratio: 1.0,
    };

    /// m balls into n bins at random: the fullest has about m/n + sqrt(2 m/n ln n) (Raab, Steger 1998).
    #[test]
    fn hashing_is_balls_into_bins() {
        let found = busiest(PLAIN, Policy::Hash, 1, 1);
        let expected = 1.0 + (2.0 * 100f64.ln() / 100.0).sqrt();
        assert!((found - expected).abs() < 0.1, "{found} {expected}");
    }

    #[test]
    fn better_policies_are_better_and_a_seed_says_all() {
        let of = |policy| busiest(PLAIN, policy, 200, 7);
        assert!(of(Policy::LeastConnections) < 1.03, "{}", of(Policy::LeastConnections));
        // ln ln n / ln 2 + O(1) above the mean of 100 (Azar et al. 1999): 2.2, and some for churn.
        assert!(of(Policy::TwoChoices) < 1.08, "{}", of(Policy::TwoChoices));
        assert!(of(Policy::RoundRobin) < of(Policy::Hash));
        assert_eq!(of(Policy::Hash).to_bits(), of(Policy::Hash).to_bits());
        let heavy = Fleet { heavy_share: 0.01, heavy_ratio: 20.0, ..PLAIN };
        assert!(busiest(heavy, Policy::Hash, 200, 7) > of(Policy::Hash));
    }

    #[test]
    fn a_percentile_of_few_is_called_the_most() {
        let check = |count: usize, expected: f64, name: &str| {
            assert_eq!(high(&(1..=count).map(|n| n as f64).collect::<Vec<f64>>()), expected);
            assert_eq!(called(count), name);
        };
        check(300, 300.0, "the most of 300 moments");
        check(1_000, 999.0, "p99.9 of 1000 moments");
        check(4_000, 3996.0, "p99.9 of 4000 moments");
    }
}
