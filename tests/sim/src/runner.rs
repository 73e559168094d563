//! Many seeds on many threads, and what is done about one that fails: the shortest schedule that
//! still fails is looked for, by leaving things out.

use crate::faults::Fault;
use crate::world::{Plan, Stats, run};
use proto::planted::{Planted, plant};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
    /// A plan runs on this thread: its panic is a result, and nobody need hear it.
    static RUNS_A_PLAN: Cell<bool> = const { Cell::new(false) };
}

/// A plan that fails, and how.
#[derive(Clone, Debug)]
pub struct Failure {
    pub plan: Plan,
    pub text: String,
}

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    pub first_seed: u64,
    pub seeds_max: u64,
    pub time_max: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub seeds: u64,
    pub stats: Stats,
    pub failure: Option<Failure>,
    pub took: Duration,
}

/// Runs one plan; a panic in it is its failure. Prints nothing by itself.
pub fn attempt(plan: &Plan) -> Result<Stats, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !RUNS_A_PLAN.get() {
                return loud(panic);
            }
            LAST_PANIC.with_borrow_mut(|last| *last = panic.to_string());
        }));
    });
    // Whatever the panic has left half done is dropped with the world.
    RUNS_A_PLAN.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| run(plan)));
    RUNS_A_PLAN.set(false);
    outcome.map_err(|_| LAST_PANIC.with_borrow(String::clone))
}

const THREAD_NAME: &str = "simulated";

/// Runs seed after seed until one fails or the extent is over. `each` is told of the state of things
/// once a second.
pub fn run_seeds(
    template: &Plan,
    planted: Option<Planted>,
    threads: usize,
    extent: Extent,
    each: &(dyn Fn(&Outcome) + Sync),
) -> Outcome {
    let began = Instant::now();
    let next = AtomicU64::new(extent.first_seed);
    let over = AtomicBool::new(false);
    let total = Mutex::new(Outcome::default());
    let work = || {
        plant(planted);
        while !over.load(Ordering::Relaxed) && began.elapsed() < extent.time_max {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed - extent.first_seed >= extent.seeds_max {
                break;
            }
            let plan = Plan { seed, ..template.clone() };
            let result = attempt(&plan);
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            total.seeds += 1;
            match result {
                Ok(stats) => total.stats.add(&stats),
                Err(text) => {
                    over.store(true, Ordering::Relaxed);
                    // The lowest seed, whichever thread was faster.
                    let lower = total.failure.as_ref().is_none_or(|known| seed < known.plan.seed);
                    if lower {
                        total.failure = Some(Failure { plan, text });
                    }
                }
            }
        }
        plant(None);
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let builder = std::thread::Builder::new().name(THREAD_NAME.to_owned());
                builder.spawn_scoped(scope, work).expect("a thread can be started")
            })
            .collect();
        let mut told = Instant::now();
        while !workers.iter().all(|worker| worker.is_finished()) {
            std::thread::park_timeout(Duration::from_millis(20));
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                let mut now = total.lock().unwrap_or_else(PoisonError::into_inner).clone();
                now.took = began.elapsed();
                each(&now);
            }
        }
    });
    let mut outcome = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome.took = began.elapsed();
    outcome
}

/// The same failure with less: fewer kinds of fault, less time, fewer clients. Any failure counts, as
/// one defect has many faces.
pub fn shrink(failure: &Failure, planted: Option<Planted>) -> Failure {
    let mut best = failure.clone();
    let shrinking = || {
        plant(planted);
        let mut tried = |plan: Plan| match attempt(&plan) {
            Ok(_) => false,
            Err(text) => {
                best = Failure { plan, text };
                true
            }
        };
        let mut plan = Plan { printed: false, ..failure.plan.clone() };
        let others = Fault::ALL.into_iter().filter(|fault| !failure.plan.without.contains(fault));
        for fault in others {
            let mut less = plan.clone();
            less.without.push(fault);
            if tried(less.clone()) {
                plan = less;
            }
        }
        let mut clients = plan.clients;
        while clients > 1 {
            clients /= 2;
            let less = Plan { clients, ..plan.clone() };
            if !tried(less.clone()) {
                break;
            }
            plan = less;
        }
        // The shortest time that fails, by halving; a longer one that does not fail ends the search.
        let (mut fails, mut holds) = (plan.chaos_us, 0);
        while fails - holds > 1_000 {
            let chaos_us = holds + (fails - holds) / 2;
            if tried(Plan { chaos_us, ..plan.clone() }) {
                fails = chaos_us;
            } else {
                holds = chaos_us;
            }
        }
    };
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name(THREAD_NAME.to_owned());
        let thread = builder.spawn_scoped(scope, shrinking).expect("a thread can be started");
        thread.join().expect("failures of a plan are caught");
    });
    best
}

/// How to run this plan again.
pub fn command(plan: &Plan, planted: Option<Planted>) -> String {
    let mut command = format!("./dev sim --seed {} --trace", plan.seed);
    if !plan.without.is_empty() {
        let names: Vec<String> = plan.without.iter().map(|fault| fault.name()).collect();
        command += &format!(" --without {}", names.join(","));
    }
    let usual = Plan::new(plan.seed);
    if plan.chaos_us != usual.chaos_us {
        command += &format!(" --chaos-us {}", plan.chaos_us);
    }
    if plan.clients != usual.clients {
        command += &format!(" --clients {}", plan.clients);
    }
    if let Some(bug) = planted {
        command += &format!(" --planted {}", bug.as_str());
    }
    command
}
