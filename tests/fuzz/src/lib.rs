//! Fuzz targets over everything that reads bytes from outside, and the driver that feeds them.
//!
//! A target is a function of bytes that panics when a law is broken: the laws are those of the
//! property tests, not only "it does not crash". The driver changes the files of the target's corpus
//! at random, without guidance by coverage. One seed and one case number say an input, so that every
//! run can be repeated. Must not know a server, a socket or a clock; only the campaign's caller ends it.

pub mod campaign;
pub mod capture;
pub mod corpus;
pub mod draw;
pub mod mutator;
pub mod targets;

/// One target: what it is called, what it runs, and what its inputs are made of.
#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    /// Panics where the bytes break a law.
    pub run: fn(&[u8]),
    /// Words that bytes set at random would hardly hit.
    pub dictionary: &'static [&'static [u8]],
    pub input_bytes_max: usize,
    /// What the tests run: about two seconds with the `ci` profile.
    pub test_cases: u64,
}

pub const TARGETS: [Target; 6] = [
    targets::head::TARGET,
    targets::chunked::TARGET,
    targets::json::TARGET,
    targets::block::TARGET,
    targets::journal::TARGET,
    targets::embedded_http::TARGET,
];
