//! From measured costs to machines: what a number of events a second takes at each stage, and what happens when a
//! machine, a zone or Kafka is lost.
//!
//! - `arguments`, `assumptions`, `measured`: what is said, what is taken for granted, what was measured
//! - `balancer`, `imbalance`: where connections fall, and how unevenly
//! - `sizing`, `engine`: cores and machines of the engine for each kind of traffic
//! - `loss`: seconds and minutes after a machine or a zone is gone, step by step
//! - `outage`: the journals while Kafka is away
//! - `behind`: brokers, partitions, consumers, ClickHouse
//! - `page`, `bars`: all of it as one page
//!
//! Pure but for `arguments`: no clock, and randomness from fixed seeds alone.

mod arguments;
mod assumptions;
mod balancer;
mod bars;
mod behind;
mod engine;
mod imbalance;
mod loss;
mod measured;
mod outage;
pub mod page;
mod sizing;

pub use arguments::Arguments;
pub use assumptions::Assumptions;
pub use measured::Measured;
