//! How unevenly connections fall on cores: a balancer chooses the machine, SO_REUSEPORT's hash the core.
//! Pure, from a seed. Must not know what a connection costs.

use proto::random::SplitMix64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Hash,
    RoundRobin,
    LeastConnections,
    TwoChoices,
}

impl Policy {
    pub const ALL: [(Policy, &'static str); 4] = [
        (Policy::Hash, "hash"),
        (Policy::RoundRobin, "round-robin"),
        (Policy::LeastConnections, "least connections"),
        (Policy::TwoChoices, "power of two choices"),
    ];
}

#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    pub machines: usize,
    pub cores_per_machine: usize,
    pub connections: usize,
    /// This share of connections sends `heavy_ratio` times as much as the others.
    pub heavy_share: f64,
    pub heavy_ratio: f64,
}

struct Connection {
    machine: usize,
    core: usize,
    weight: f64,
}

struct Balancer {
    fleet: Fleet,
    policy: Policy,
    random: SplitMix64,
    next: usize,
    counts: Vec<usize>,
    loads: Vec<f64>,
}

impl Balancer {
    fn any_machine(&mut self) -> usize {
        self.random.below(self.fleet.machines as u64) as usize
    }

    fn choose(&mut self) -> usize {
        match self.policy {
            Policy::Hash => self.any_machine(),
            Policy::RoundRobin => {
                self.next = (self.next + 1) % self.fleet.machines;
                self.next
            }
            Policy::LeastConnections => {
                // From a random place, or ties would all fall on the first machine.
                let (from, count) = (self.any_machine(), self.fleet.machines);
                let order = (0..count).map(|step| (from + step) % count);
                order.min_by_key(|machine| self.counts[*machine]).unwrap_or(from)
            }
            Policy::TwoChoices => {
                let (a, b) = (self.any_machine(), self.any_machine());
                if self.counts[a] <= self.counts[b] { a } else { b }
            }
        }
    }

    fn connect(&mut self) -> Connection {
        let machine = self.choose();
        let in_machine = self.random.below(self.fleet.cores_per_machine as u64) as usize;
        let core = machine * self.fleet.cores_per_machine + in_machine;
        let heavy = self.random.unit() < self.fleet.heavy_share;
        let weight = if heavy { self.fleet.heavy_ratio } else { 1.0 };
        self.counts[machine] += 1;
        self.loads[core] += weight;
        Connection { machine, core, weight }
    }

    fn busiest_to_mean(&self) -> f64 {
        let sum: f64 = self.loads.iter().sum();
        let busiest = self.loads.iter().copied().fold(0.0, f64::max);
        busiest * self.loads.len() as f64 / sum
    }
}

/// The busiest core's load as a multiple of the mean, p99.9 over `samples` moments; between two moments a
/// twentieth of the connections, of exponential lifetimes, has ended and come again.
pub fn busiest_p999(fleet: Fleet, policy: Policy, samples: usize, seed: u64) -> f64 {
    assert!(fleet.machines > 0 && fleet.cores_per_machine > 0 && fleet.connections > 0);
    let cores = fleet.machines * fleet.cores_per_machine;
    let mut balancer = Balancer {
        fleet,
        policy,
        random: SplitMix64::new(seed),
        next: 0,
        counts: vec![0; fleet.machines],
        loads: vec![0.0; cores],
    };
    let mut connections: Vec<Connection> =
        (0..fleet.connections).map(|_| balancer.connect()).collect();
    let mut found = Vec::with_capacity(samples);
    for _ in 0..samples.max(1) {
        found.push(balancer.busiest_to_mean());
        for _ in 0..fleet.connections.div_ceil(20) {
            let ended = balancer.random.below(fleet.connections as u64) as usize;
            let old = &connections[ended];
            balancer.counts[old.machine] -= 1;
            balancer.loads[old.core] -= old.weight;
            connections[ended] = balancer.connect();
        }
    }
    found.sort_by(f64::total_cmp);
    let at = (found.len() as f64 * 0.999).ceil() as usize;
    found[at.clamp(1, found.len()) - 1]
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
        let found = busiest_p999(PLAIN, Policy::Hash, 1, 1);
        let expected = 1.0 + (2.0 * 100f64.ln() / 100.0).sqrt();
        assert!((found - expected).abs() < 0.1, "{found} {expected}");
    }

    #[test]
    fn better_policies_are_better_and_a_seed_says_all() {
        let of = |policy| busiest_p999(PLAIN, policy, 200, 7);
        assert!(of(Policy::LeastConnections) < 1.03, "{}", of(Policy::LeastConnections));
        // ln ln n / ln 2 + O(1) above the mean of 100 (Azar et al. 1999): 2.2, and some for churn.
        assert!(of(Policy::TwoChoices) < 1.08, "{}", of(Policy::TwoChoices));
        assert!(of(Policy::RoundRobin) < of(Policy::Hash));
        assert_eq!(of(Policy::Hash).to_bits(), of(Policy::Hash).to_bits());
        let heavy = Fleet { heavy_share: 0.01, heavy_ratio: 20.0, ..PLAIN };
        assert!(busiest_p999(heavy, Policy::Hash, 200, 7) > of(Policy::Hash));
    }
}
