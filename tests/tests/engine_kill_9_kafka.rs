//! The engine dies by SIGKILL with Kafka between it and ClickHouse, with the broker there and away.

use tests::sender::{Senders, acknowledged_count};
use tests::wait::{seconds, wait_for};
use tests::{Path, Production};

const CLIENTS: usize = 4;

fn killed_round(production: &mut Production, name: &str, batches: usize) {
    let senders = Senders::start(&production.stack, CLIENTS, name);
    wait_for("the senders get their 200s", seconds(30), || {
        (senders.acknowledged_batches() >= batches).then_some(())
    });
    production.stack.engine().kill_9();
    let sent = senders.finish();
    println!("{name}: killed after {} events", acknowledged_count(&sent));
    if !production.broker.is_running() {
        production.broker.start_again();
    }
    production.stack.start_engine();
    production.assert_acknowledged_conserved(name, &sent);
}

#[test]
fn nothing_acknowledged_is_lost_with_the_engine() {
    let mut production = Production::start(Path::default().set("kafka.ack=kafka"));
    for (round, batches) in [1, 50, 200].into_iter().enumerate() {
        killed_round(&mut production, &format!("round-{round}"), batches);
    }
    production.broker.kill();
    killed_round(&mut production, "without-kafka", 100);
}
