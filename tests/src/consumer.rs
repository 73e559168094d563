//! A process of `unmogrowp-consumer`.

use std::process::Command;
use std::time::Duration;

use crate::http_client::{Client, Response};
use crate::process::{Process, binary};
use crate::stack::{Stack, sum_of_metric, told};
use crate::wait::seconds;

const READY_WITHIN: Duration = seconds(60);
pub const STOP_WITHIN: Duration = seconds(15);

#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    pub brokers: String,
    pub topic: String,
    pub group: String,
    /// Where ClickHouse is, if not where the stack has it; user and password are added.
    pub clickhouse: Option<String>,
    /// A fault point, `before_commit` or `before_commit:3`: the process ends itself there.
    pub fault: Option<String>,
    pub flags: Vec<String>,
}

impl ConsumerOptions {
    pub fn of(brokers: &str) -> ConsumerOptions {
        ConsumerOptions {
            brokers: brokers.to_owned(),
            topic: proto_names::TOPIC.to_owned(),
            group: "unmogrowp".to_owned(),
            clickhouse: None,
            fault: None,
            // A member that died is given up soon.
            flags: [
                "--property",
                "session.timeout.ms=3000",
                "--property",
                "heartbeat.interval.ms=500",
            ]
            .map(str::to_owned)
            .to_vec(),
        }
    }
}

/// As in `proto::names`, which the harness sees as a user does.
mod proto_names {
    pub const TOPIC: &str = "events";
}

pub struct Consumer {
    pub process: Process,
    pub admin: String,
}

impl Consumer {
    /// Starts one and waits until its admin port is there. `name` is that of its log and ready file.
    pub fn start(stack: &Stack, name: &str, options: &ConsumerOptions) -> Consumer {
        let mut command = Command::new(binary("unmogrowp-consumer"));
        let clickhouse = match &options.clickhouse {
            Some(other) => stack.with_password(other),
            None => stack.with_password(&stack.clickhouse),
        };
        command
            .args(["run", "--brokers", &options.brokers, "--topic", &options.topic])
            .args(["--group", &options.group, "--database", "unmogrowp"])
            .args(["--admin-listen", "127.0.0.1:0"])
            .args(&options.flags)
            .env("UNMOGROWP_CLICKHOUSE_URL", clickhouse);
        match &options.fault {
            Some(fault) => command.env("UNMOGROWP_FAULT", fault),
            None => command.env_remove("UNMOGROWP_FAULT"),
        };
        let (mut process, ready) = stack.spawn(name, &mut command);
        let addresses = process.ready(&ready, READY_WITHIN);
        let admin = addresses["admin"].as_str().expect("admin in the ready file").to_owned();
        Consumer { process, admin }
    }

    pub fn admin_get(&self, path: &str) -> Response {
        Client::connect(&self.admin).request("GET", path, &[], b"")
    }

    /// What `/readyz` and `/metrics` say, for a test that has failed.
    pub fn told(&self) -> String {
        told(&self.admin)
    }

    /// The sum of a metric's values over its labels.
    pub fn metric(&self, name: &str) -> Option<f64> {
        sum_of_metric(&self.admin_get("/metrics").text(), name)
    }

    /// SIGTERM: it finishes what runs and commits.
    pub fn stop(&mut self) {
        let status = self.process.terminate(STOP_WITHIN);
        assert!(status.success(), "the consumer's end: {status}");
    }
}
