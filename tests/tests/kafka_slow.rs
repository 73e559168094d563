//! Between the engine and the broker the network is slow, narrow, dead, cut and closed, one after the
//! other, with the load going on.

use std::time::Duration;

use tests::wait::seconds;
use tests::{Fault, Path, Production};

#[test]
fn a_bad_network_to_the_broker_fails_no_request() {
    let path = Path { broker_through_proxy: true, ..Path::default() };
    let production = Production::start(path);
    let load = production.load("slow");
    production.wait_flowing(&load);
    for (fault, lasts) in [
        (Fault::Delay(Duration::from_millis(300)), seconds(2)),
        (Fault::Throttle { bytes_per_s: 50_000 }, seconds(2)),
        (Fault::HalfOpen, seconds(3)),
        (Fault::Refuse, seconds(1)),
        (Fault::Stall, seconds(2)),
    ] {
        println!("{fault:?} for {lasts:?}");
        production.to_broker().set(fault);
        load.go_on_for(lasts);
        production.to_broker().set(Fault::None);
        load.wait_batches(20);
    }
    for _ in 0..3 {
        production.to_broker().cut();
        load.wait_batches(50);
    }
    production.assert_conserved(load);
}
