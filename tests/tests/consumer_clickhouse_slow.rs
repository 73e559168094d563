//! Between the consumer and ClickHouse the network is slow, narrow and cut in the middle of an INSERT.

use std::time::Duration;

use tests::wait::seconds;
use tests::{Fault, Path, Production};

#[test]
fn a_slow_clickhouse_holds_the_consumer_back_and_nobody_else() {
    let path = Path { clickhouse_through_proxy: true, ..Path::default() };
    let production = Production::start(path);
    let load = production.load("slow");
    production.wait_flowing(&load);
    production.to_clickhouse().set(Fault::Delay(Duration::from_millis(500)));
    load.go_on_for(seconds(2));
    production.to_clickhouse().set(Fault::Throttle { bytes_per_s: 100_000 });
    load.go_on_for(seconds(2));
    for _ in 0..3 {
        // Whatever is under way now is half sent.
        production.to_clickhouse().cut();
        load.wait_batches(30);
    }
    production.to_clickhouse().set(Fault::Refuse);
    load.go_on_for(seconds(1));
    production.to_clickhouse().set(Fault::None);
    production.assert_conserved(load);
}
