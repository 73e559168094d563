//! The hyper peer keeps the contract as the engine does. Go's and nginx's part of this is in
//! `./dev bench peers --check`: to build and fetch them takes longer than all tests of this crate.

#[allow(dead_code, reason = "the bench starts and builds the others")]
#[path = "../peers/contestants.rs"]
mod peers;

use peers::contract::answers;
use peers::{Contestant, Server};

#[test]
fn the_hyper_peer_answers_as_the_engine_does() {
    let engine = answers(&Server::start(Contestant::Engine));
    let hyper = answers(&Server::start(Contestant::Hyper));
    let statuses: Vec<u16> = engine.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 401, 400, 403, 400, 400, 400, 400, 404]);
    assert_eq!(hyper, engine);
}
