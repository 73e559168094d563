//! Machines lost at once, and what follows, in steps of 10 ms from a seed: clients notice, come back with the SDK's
//! backoff (exponential, full jitter), send again what was not answered and what they held meanwhile; cores work that
//! off beside their own load.
//!
//! Connections are followed one by one, requests as amounts by core. What a shard has not served waits in it as far as
//! its connections may have requests under way, the rest in the clients. Must not know how many machines there should be.
//! Invariants: no request is forgotten: each is served, or waits in a client or on a core; cores that stay never lose
//! a connection.

use std::collections::VecDeque;

use proto::random::SplitMix64;

use super::balancer::{Balancer, Fleet, Policy};

const STEP_S: f64 = 0.01;
const STEPS_OF_SECOND: usize = 100;
/// Goodput and the peak are taken over so long.
pub const WINDOW_S: f64 = 0.25;
const STEPS_OF_WINDOW: usize = 25;
/// 2ⁿ of a backoff; the longest wait is reached long before.
const DOUBLINGS_MAX: u32 = 30;

#[derive(Clone, Copy, Debug)]
pub struct Clients {
    /// Within which a dead connection is noticed, evenly spread.
    pub notice_s: f64,
    /// Until the balancer leaves lost machines out; before, attempts there get a 503.
    pub detect_s: f64,
    pub backoff_min_s: f64,
    pub backoff_max_s: f64,
    /// Requests of so long are unanswered at the loss.
    pub answer_s: f64,
}

#[derive(Clone, Copy, Debug)]
pub struct Shard {
    pub connect_us: f64,
    pub refusal_us: f64,
    pub connections_max: f64,
    pub accept_backlog: f64,
    pub body_budget_bytes: f64,
    pub retry_after_s: f64,
}

#[derive(Clone, Copy, Debug)]
pub struct Scene {
    pub fleet: Fleet,
    pub policy: Policy,
    /// The first ones.
    pub lost_machines: usize,
    pub requests_per_s: f64,
    pub request_us: f64,
    pub request_bytes: f64,
    pub depth: f64,
    pub horizon_s: f64,
    pub clients: Clients,
    pub shard: Shard,
    pub seed: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Use of each core, of all machines before and of those that stay after.
    pub loads_before: Vec<f64>,
    pub loads_after: Vec<f64>,
    /// The most that came to one core in a window, by what it does in one; more than 1 waits.
    pub peak_load: f64,
    /// The longest time that a core had more than it could do.
    pub full_s: f64,
    /// The longest that a request waited in a shard.
    pub wait_ms: f64,
    /// Answered 200 in each window, by what comes in one.
    pub goodput: Vec<f64>,
    /// When all clients are back and nothing waits; none within the horizon.
    pub steady_s: Option<f64>,
    pub connections_lost: usize,
    /// 503 of the balancer for a lost machine.
    pub refused_by_balancer: f64,
    pub refused_by_balancer_until_s: f64,
    /// 503 of a shard past its budget of bodies.
    pub refused_by_shards: f64,
    pub refused_by_shards_until_s: f64,
    /// Attempts that a shard did not take: too many connections, or waiting to be accepted.
    pub not_accepted: usize,
    /// Sent a second time, as their answer never came.
    pub sent_again: f64,
    /// The most that clients and cores held, in seconds of the whole load.
    pub held_s: f64,
}

struct Lost {
    machine: usize,
    requests_per_s: f64,
    attempts: u32,
}

#[derive(Default)]
struct Core {
    requests_per_s: f64,
    /// Requests that wait for it, there or in its clients.
    held: f64,
    connections: f64,
    /// To be accepted.
    pending: VecDeque<usize>,
    /// Refused, and not yet sent again.
    resting: f64,
    /// CPU that refusals of the last step take.
    owed_us: f64,
    /// What came in this window, as CPU.
    offered_us: f64,
    full_steps: usize,
}

impl Core {
    fn is_at_rest(&self) -> bool {
        self.held == 0.0 && self.resting == 0.0 && self.pending.is_empty()
    }

    /// Requests that its clients have under way.
    fn under_way(&self, depth: f64) -> f64 {
        self.held.min((self.connections * depth - self.resting).max(0.0))
    }
}

struct Simulation<'a> {
    scene: &'a Scene,
    balancer: Balancer,
    random: SplitMix64,
    cores: Vec<Core>,
    lost: Vec<Lost>,
    outside: usize,
    outside_per_s: f64,
    /// By step: connections that are noticed to be dead, that try again, and refused requests of cores.
    notices: Vec<Vec<usize>>,
    attempts: Vec<Vec<usize>>,
    returns: Vec<Vec<(usize, f64)>>,
    outcome: Outcome,
}

pub fn simulate(scene: &Scene) -> Outcome {
    let steps = (scene.horizon_s.ceil() as usize).max(1) * STEPS_OF_SECOND;
    let mut simulation = Simulation::new(scene, steps);
    for step in 0..steps {
        simulation.step(step);
        if (step + 1).is_multiple_of(STEPS_OF_WINDOW) {
            simulation.end_window(step + 1);
        }
    }
    simulation.end()
}

impl<'a> Simulation<'a> {
    fn new(scene: &'a Scene, steps: usize) -> Simulation<'a> {
        assert!(scene.lost_machines < scene.fleet.machines, "something must be left");
        let mut balancer = Balancer::new(scene.fleet, scene.policy, scene.seed);
        let mut random = SplitMix64::new(!scene.seed);
        let mut cores: Vec<Core> =
            std::iter::repeat_with(Core::default).take(scene.fleet.cores()).collect();
        let placed: Vec<(usize, usize, f64)> = (0..scene.fleet.connections)
            .map(|_| {
                let machine = balancer.choose();
                (machine, balancer.open(machine), balancer.weight())
            })
            .collect();
        let unit = scene.requests_per_s / placed.iter().map(|(_, _, weight)| weight).sum::<f64>();
        let mut lost = Vec::new();
        let mut loads_before = vec![0.0; cores.len()];
        let mut notices = vec![Vec::new(); steps];
        for (machine, core, weight) in placed {
            let requests_per_s = weight * unit;
            loads_before[core] += requests_per_s * scene.request_us / 1e6;
            if machine >= scene.lost_machines {
                cores[core].requests_per_s += requests_per_s;
                cores[core].connections += 1.0;
                continue;
            }
            let at = (random.unit() * scene.clients.notice_s / STEP_S) as usize;
            if let Some(due) = notices.get_mut(at) {
                due.push(lost.len());
            }
            lost.push(Lost { machine, requests_per_s, attempts: 0 });
        }
        let outside_per_s = lost.iter().map(|one| one.requests_per_s).sum();
        let outcome = Outcome {
            loads_before,
            loads_after: Vec::new(),
            peak_load: 0.0,
            full_s: 0.0,
            wait_ms: 0.0,
            goodput: vec![0.0; steps / STEPS_OF_WINDOW],
            steady_s: None,
            connections_lost: lost.len(),
            refused_by_balancer: 0.0,
            refused_by_balancer_until_s: 0.0,
            refused_by_shards: 0.0,
            refused_by_shards_until_s: 0.0,
            not_accepted: 0,
            sent_again: 0.0,
            held_s: 0.0,
        };
        Simulation {
            scene,
            balancer,
            random,
            cores,
            outside: lost.len(),
            outside_per_s,
            lost,
            notices,
            attempts: vec![Vec::new(); steps],
            returns: vec![Vec::new(); steps],
            outcome,
        }
    }

    fn step(&mut self, step: usize) {
        let (lost_machines, detect_s) = (self.scene.lost_machines, self.scene.clients.detect_s);
        if step == (detect_s / STEP_S).round() as usize {
            self.balancer.leave_out(|machine| machine < lost_machines);
        }
        for client in std::mem::take(&mut self.notices[step]) {
            self.balancer.close(self.lost[client].machine);
            self.try_later(client, step);
        }
        for client in std::mem::take(&mut self.attempts[step]) {
            self.attempt(client, step);
        }
        for (core, requests) in std::mem::take(&mut self.returns[step]) {
            let core = &mut self.cores[core];
            core.resting -= requests;
            // Sums of fractions do not end at 0 by themselves.
            if core.resting < 1e-6 {
                core.resting = 0.0;
            }
            core.held += requests;
            core.offered_us += requests * self.scene.request_us;
        }
        let first = lost_machines * self.scene.fleet.cores_per_machine;
        for core in first..self.cores.len() {
            self.work(core, step);
        }
        let at_rest = self.outside == 0 && self.cores.iter().all(Core::is_at_rest);
        if !at_rest {
            self.outcome.steady_s = None;
        } else if self.outcome.steady_s.is_none() {
            self.outcome.steady_s = Some((step + 1) as f64 * STEP_S);
        }
    }

    /// Full jitter: from 0 to the bound, evenly.
    fn try_later(&mut self, client: usize, step: usize) {
        let clients = &self.scene.clients;
        let lost = &mut self.lost[client];
        let doubled = clients.backoff_min_s * (1u64 << lost.attempts.min(DOUBLINGS_MAX)) as f64;
        lost.attempts += 1;
        let wait_s = doubled.min(clients.backoff_max_s) * self.random.unit();
        let at = step + 1 + (wait_s / STEP_S) as usize;
        // Past the horizon it does not come back in what is simulated.
        if let Some(due) = self.attempts.get_mut(at) {
            due.push(client);
        }
    }

    fn attempt(&mut self, client: usize, step: usize) {
        let machine = self.balancer.choose();
        if machine < self.scene.lost_machines {
            let since_s = step as f64 * STEP_S;
            let waiting = (self.lost[client].requests_per_s * since_s).ceil();
            self.outcome.refused_by_balancer += waiting.clamp(1.0, self.scene.depth.max(1.0));
            self.outcome.refused_by_balancer_until_s = since_s;
            self.try_later(client, step);
            return;
        }
        let at = self.balancer.open(machine);
        let (core, shard) = (&mut self.cores[at], &self.scene.shard);
        let waiting = core.pending.len() as f64;
        if waiting >= shard.accept_backlog || core.connections + waiting >= shard.connections_max {
            self.outcome.not_accepted += 1;
            self.balancer.close(machine);
            self.try_later(client, step);
            return;
        }
        core.pending.push_back(client);
        core.offered_us += shard.connect_us;
    }

    /// One core for one step: refusals, new connections, then requests.
    fn work(&mut self, at: usize, step: usize) {
        let (scene, core) = (self.scene, &mut self.cores[at]);
        let mut left_us = STEP_S * 1e6 - core.owed_us;
        core.owed_us = (-left_us).max(0.0);
        while left_us >= scene.shard.connect_us
            && let Some(client) = core.pending.pop_front()
        {
            left_us -= scene.shard.connect_us;
            let lost = &self.lost[client];
            let again = (lost.requests_per_s * scene.clients.answer_s).min(scene.depth);
            let held = lost.requests_per_s * step as f64 * STEP_S + again;
            core.requests_per_s += lost.requests_per_s;
            core.connections += 1.0;
            core.held += held;
            core.offered_us += held * scene.request_us;
            self.outcome.sent_again += again;
            self.outside -= 1;
            self.outside_per_s -= lost.requests_per_s;
        }
        let arriving = core.requests_per_s * STEP_S;
        core.offered_us += arriving * scene.request_us;
        let asked = core.held + arriving;
        let served = asked.min(left_us.max(0.0) / scene.request_us);
        core.held = asked - served;
        self.outcome.goodput[step / STEPS_OF_WINDOW] += served / scene.requests_per_s / WINDOW_S;
        core.full_steps = if core.held > 0.0 { core.full_steps + 1 } else { 0 };
        self.outcome.full_s = self.outcome.full_s.max(core.full_steps as f64 * STEP_S);
        let fit = scene.shard.body_budget_bytes / scene.request_bytes;
        let refused = core.under_way(scene.depth) - fit;
        if refused > 0.0 {
            core.held -= refused;
            core.resting += refused;
            core.owed_us += refused * scene.shard.refusal_us;
            core.offered_us += refused * scene.shard.refusal_us;
            self.outcome.refused_by_shards += refused;
            self.outcome.refused_by_shards_until_s = (step + 1) as f64 * STEP_S;
            let rest_s =
                scene.shard.retry_after_s + scene.clients.backoff_min_s * self.random.unit();
            if let Some(due) = self.returns.get_mut(step + 1 + (rest_s / STEP_S) as usize) {
                due.push((at, refused));
            }
        }
        let wait_ms = core.under_way(scene.depth) * scene.request_us / 1e3;
        self.outcome.wait_ms = self.outcome.wait_ms.max(wait_ms);
    }

    fn end_window(&mut self, steps: usize) {
        let held_by_cores: f64 = self.cores.iter().map(|core| core.held + core.resting).sum();
        let held_outside = self.outside_per_s.max(0.0) * steps as f64 * STEP_S;
        let held_s = (held_by_cores + held_outside) / self.scene.requests_per_s;
        self.outcome.held_s = self.outcome.held_s.max(held_s);
        for core in &mut self.cores {
            self.outcome.peak_load = self.outcome.peak_load.max(core.offered_us / 1e6 / WINDOW_S);
            core.offered_us = 0.0;
        }
    }

    fn end(mut self) -> Outcome {
        let first = self.scene.lost_machines * self.scene.fleet.cores_per_machine;
        let use_of = |core: &Core| core.requests_per_s * self.scene.request_us / 1e6;
        self.outcome.loads_after = self.cores[first..].iter().map(use_of).collect();
        self.outcome
    }
}

impl Outcome {
    pub fn busiest_before(&self) -> f64 {
        self.loads_before.iter().copied().fold(0.0, f64::max)
    }

    pub fn busiest_after(&self) -> f64 {
        self.loads_after.iter().copied().fold(0.0, f64::max)
    }

    pub fn goodput_least(&self) -> f64 {
        self.goodput.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The first window from which on goodput stays at `share` and above, as seconds.
    pub fn goodput_back_s(&self, share: f64) -> Option<f64> {
        let last_below = self.goodput.iter().rposition(|window| *window < share);
        let back = last_below.map_or(0, |window| window + 1);
        (back < self.goodput.len()).then_some(back as f64 * WINDOW_S)
    }
}

#[cfg(test)]
#[path = "loss_tests.rs"]
mod tests;
