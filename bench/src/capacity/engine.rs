//! The engine's machines for each kind of traffic: by cores with the balancer's imbalance, by network card, by the
//! journal's disk, by connections, whichever asks for more.

use super::assumptions::Assumptions;
use super::balancer::{Fleet, Policy};
use super::imbalance;
use super::loss::{Clients, Scene, Shard};
use super::measured::Measured;
use super::sizing::{self, Sized};

/// What the balancer of the plan does; the page shows the others beside it.
pub const POLICY: Policy = Policy::TwoChoices;
pub const SEED: u64 = 1;
/// Machines and imbalance are found in turn; more machines are less even.
const TURNS_MAX: usize = 8;

#[derive(Clone, Copy)]
pub struct Traffic {
    pub name: &'static str,
    pub events_per_request: f64,
    /// Requests of a connection under way at once.
    pub depth: f64,
    pub connections: f64,
    /// CPU of a request on the machines to be.
    pub request_us: f64,
}

pub fn traffics(measured: &Measured, a: &Assumptions) -> [Traffic; 3] {
    let of = |name, events_per_request, depth, connections, measured_us: f64| Traffic {
        name,
        events_per_request,
        depth,
        connections,
        request_us: measured_us * a.slower(),
    };
    [
        of("un-pipelined", 1.0, 1.0, a.connections_single, measured.single_us),
        of("16 deep", 1.0, 16.0, a.connections_pooled, measured.pooled_us),
        of("batches of 100", 100.0, 1.0, a.connections_batched, measured.event_of_batch_us * 100.0),
    ]
}

impl Traffic {
    pub fn requests_per_s(&self, a: &Assumptions) -> f64 {
        a.events_per_s / self.events_per_request
    }

    pub fn event_us(&self) -> f64 {
        self.request_us / self.events_per_request
    }

    fn bits_per_s(&self, a: &Assumptions) -> f64 {
        a.events_per_s * (a.body_bytes + a.head_bytes / self.events_per_request) * 8.0
    }

    pub fn fleet(&self, machines: u64, a: &Assumptions) -> Fleet {
        Fleet {
            machines: machines as usize,
            cores_per_machine: a.cores(),
            connections: self.connections.max(1.0) as usize,
            heavy_share: a.heavy_share,
            heavy_ratio: a.heavy_ratio,
        }
    }
}

pub struct Plan {
    pub traffic: Traffic,
    pub sized: Sized,
    /// The busiest core by the mean with a zone lost.
    pub uneven: f64,
    /// What asks for so many machines.
    pub asked_by: &'static str,
    /// Of a machine with a zone lost.
    pub gbit_per_s: f64,
    pub journal_bytes_per_s: f64,
    pub connections_of_core: f64,
}

pub fn plan(traffic: Traffic, a: &Assumptions) -> Plan {
    let per_s = a.events_per_s;
    let cores = a.cores() as u64;
    let moments = a.imbalance_moments.max(1.0) as usize;
    let size = |uneven| sizing::size(per_s, traffic.event_us(), cores, uneven, a.busy_max);
    let (mut uneven, mut sized) = (1.0f64, size(1.0));
    for _ in 0..TURNS_MAX {
        let left = traffic.fleet(sized.without_a_zone(), a);
        // Upwards only, so that it ends.
        uneven = imbalance::busiest(left, POLICY, moments, SEED).max(uneven);
        let next = size(uneven);
        if next.machines <= sized.machines {
            break;
        }
        sized = next;
    }
    let by_card = traffic.bits_per_s(a) / (a.nic_gbit_per_s * 1e9 * a.busy_max);
    let by_disk = per_s * a.row_bytes / (a.journal_disk_bytes_per_s * a.busy_max);
    let by_connections =
        traffic.connections / (a.shard_connections_max * a.busy_max) / cores as f64;
    let asked = [
        ("cores", sized.in_zone()),
        ("network card", sizing::zone_of(by_card)),
        ("journal's disk", sizing::zone_of(by_disk)),
        ("connections", sizing::zone_of(by_connections)),
    ];
    // Of equals the first.
    let (asked_by, in_zone) =
        asked.into_iter().rev().max_by_key(|(_, zone)| *zone).expect("there are four");
    if in_zone > sized.in_zone() {
        sized = sizing::in_zones(sized.cores_busy, in_zone, cores);
        let left = traffic.fleet(sized.without_a_zone(), a);
        uneven = imbalance::busiest(left, POLICY, moments, SEED).max(uneven);
    }
    let left = sized.without_a_zone() as f64;
    Plan {
        traffic,
        sized,
        uneven,
        asked_by,
        gbit_per_s: traffic.bits_per_s(a) / 1e9 / left,
        journal_bytes_per_s: per_s * a.row_bytes / left,
        connections_of_core: traffic.connections / left / cores as f64,
    }
}

impl Plan {
    /// What happens when so many of its machines are lost at once.
    pub fn scene(&self, lost_machines: u64, refusal_us: f64, a: &Assumptions) -> Scene {
        let traffic = &self.traffic;
        Scene {
            fleet: traffic.fleet(self.sized.machines, a),
            policy: POLICY,
            lost_machines: lost_machines as usize,
            requests_per_s: traffic.requests_per_s(a),
            request_us: traffic.request_us,
            request_bytes: a.body_bytes * traffic.events_per_request,
            depth: traffic.depth,
            horizon_s: a.loss_horizon_s,
            clients: Clients {
                notice_s: a.loss_notice_s,
                detect_s: a.balancer_detect_s,
                backoff_min_s: a.backoff_min_s,
                backoff_max_s: a.backoff_max_s,
                answer_s: a.answer_ms / 1e3,
            },
            shard: Shard {
                connect_us: a.connect_cpu_us,
                refusal_us,
                connections_max: a.shard_connections_max,
                accept_backlog: a.accept_backlog,
                body_budget_bytes: a.body_budget_bytes,
                retry_after_s: a.retry_after_s,
            },
            seed: SEED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::measured::tests::given;

    fn small() -> Assumptions {
        let set = ["imbalance_moments=50", "connections_single=20000"].map(str::to_owned);
        Assumptions::with(&set).expect("in range")
    }

    #[test]
    fn more_events_never_take_fewer_machines() {
        let measured = given();
        for at in 0..3 {
            let mut last = 0;
            for events_per_s in [1e6, 3e6, 10e6, 30e6] {
                let a = Assumptions { events_per_s, ..small() };
                let plan = plan(traffics(&measured, &a)[at], &a);
                assert!(plan.sized.machines >= last, "{} {events_per_s}", plan.traffic.name);
                assert!(plan.sized.busy[2] * plan.uneven <= a.busy_max + 1e-9);
                last = plan.sized.machines;
            }
        }
    }

    #[test]
    fn card_disk_and_connections_ask_for_machines_too() {
        let check = |set: Assumptions, expected: &str| {
            let plan = plan(traffics(&given(), &set)[2], &set);
            assert_eq!(plan.asked_by, expected);
            assert!(plan.connections_of_core <= set.shard_connections_max * set.busy_max);
            assert!(plan.gbit_per_s <= set.nic_gbit_per_s * set.busy_max + 1e-9);
            assert!(plan.journal_bytes_per_s <= set.journal_disk_bytes_per_s * set.busy_max + 1e-3);
        };
        let wide = Assumptions { nic_gbit_per_s: 1e4, journal_disk_bytes_per_s: 1e12, ..small() };
        check(wide, "cores");
        check(Assumptions { nic_gbit_per_s: 1.0, ..wide }, "network card");
        check(Assumptions { journal_disk_bytes_per_s: 1e7, ..wide }, "journal's disk");
        check(Assumptions { shard_connections_max: 20.0, ..wide }, "connections");
    }
}
