//! Where a connection goes: a balancer chooses the machine by what it knows, its counts of open connections;
//! SO_REUSEPORT's hash the core. Must not know what a connection costs, nor what time it is.

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

impl Fleet {
    pub fn cores(&self) -> usize {
        self.machines * self.cores_per_machine
    }
}

pub struct Balancer {
    fleet: Fleet,
    policy: Policy,
    random: SplitMix64,
    next: usize,
    /// Open connections by machine.
    counts: Vec<usize>,
    /// The machines it chooses among.
    known: Vec<usize>,
}

impl Balancer {
    pub fn new(fleet: Fleet, policy: Policy, seed: u64) -> Balancer {
        assert!(fleet.machines > 0 && fleet.cores_per_machine > 0 && fleet.connections > 0);
        Balancer {
            fleet,
            policy,
            random: SplitMix64::new(seed),
            next: 0,
            counts: vec![0; fleet.machines],
            known: (0..fleet.machines).collect(),
        }
    }

    fn any(&mut self) -> usize {
        self.random.below(self.known.len() as u64) as usize
    }

    pub fn choose(&mut self) -> usize {
        match self.policy {
            Policy::Hash => {
                let any = self.any();
                self.known[any]
            }
            Policy::RoundRobin => {
                self.next = (self.next + 1) % self.known.len();
                self.known[self.next]
            }
            Policy::LeastConnections => {
                // From a random place, or ties would all fall on the first machine.
                let (from, count) = (self.any(), self.known.len());
                let order = (0..count).map(|step| self.known[(from + step) % count]);
                order.min_by_key(|machine| self.counts[*machine]).unwrap_or(self.known[from])
            }
            Policy::TwoChoices => {
                let (a, b) = (self.any(), self.any());
                let (a, b) = (self.known[a], self.known[b]);
                if self.counts[a] <= self.counts[b] { a } else { b }
            }
        }
    }

    /// A connection to this machine, on the core that is returned, counted over all machines.
    pub fn open(&mut self, machine: usize) -> usize {
        self.counts[machine] += 1;
        let in_machine = self.random.below(self.fleet.cores_per_machine as u64) as usize;
        machine * self.fleet.cores_per_machine + in_machine
    }

    pub fn close(&mut self, machine: usize) {
        self.counts[machine] -= 1;
    }

    /// From now on these are not chosen; one must be left.
    pub fn leave_out(&mut self, lost: impl Fn(usize) -> bool) {
        self.known.retain(|machine| !lost(*machine));
        assert!(!self.known.is_empty(), "a balancer needs a machine");
    }

    /// How much a new client sends, by what a light one does.
    pub fn weight(&mut self) -> f64 {
        let heavy = self.random.unit() < self.fleet.heavy_share;
        if heavy { self.fleet.heavy_ratio } else { 1.0 }
    }

    pub fn any_connection(&mut self) -> usize {
        self.random.below(self.fleet.connections as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_not_chosen_and_what_has_fewest_is_chosen_most() {
        let fleet = Fleet {
            machines: 3,
            cores_per_machine: 4,
            connections: 10,
            heavy_share: 0.0,
            heavy_ratio: 1.0,
        };
        for (policy, name) in Policy::ALL {
            let mut balancer = Balancer::new(fleet, policy, 1);
            balancer.leave_out(|machine| machine == 1);
            for _ in 0..100 {
                let machine = balancer.choose();
                let core = balancer.open(machine);
                assert!(machine != 1 && core / 4 == machine, "{name}");
            }
        }
        // A dead machine without connections looks like the best one: 5 of 9 pairs have it.
        let mut balancer = Balancer::new(fleet, Policy::TwoChoices, 1);
        for machine in [0, 2] {
            balancer.open(machine);
        }
        let chosen = (0..9_000).filter(|_| balancer.choose() == 1).count();
        assert!((4_800..5_200).contains(&chosen), "{chosen}");
    }
}
