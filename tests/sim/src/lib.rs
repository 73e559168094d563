//! Deterministic simulation: the real shards, journal and forwarder on virtual time, under every fault
//! that a disk, a network, a process and a server have, with a seeded scheduler. One seed, one run.

mod batch;
mod client;
mod clock;
mod consumers;
mod engine;
pub mod faults;
mod forwarding;
mod kafka;
mod lanes;
mod link;
mod oracle;
pub mod runner;
mod table;
mod trace;
pub mod world;
