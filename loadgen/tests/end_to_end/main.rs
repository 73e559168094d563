//! The generator's binary against a stand-in server.

#![allow(clippy::unwrap_used)] // clippy's own exception knows functions marked as tests only

mod load;
mod mixes;
mod pages;
mod search;
mod stages;
mod stand_in;
mod verify;
