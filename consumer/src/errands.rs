//! What is under way for the worker on the runtime's threads, and the channel on which it reports.
//!
//! Shared by the group's member and a replay. What is queued is bounded by the worker: of a range one
//! errand is under way, and one probe.

use crate::dead::NotWritten;
use crate::deliver::Deliverer;
use crate::partition::RangeId;
use crate::worker::{Parcel, Worker};
use crossbeam_channel::{Receiver, Sender};
use proto::insert::{Failure, Insert};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

enum Report {
    Inserted(RangeId, Result<(), Failure>),
    Written(RangeId, Result<(), NotWritten>),
    Probed(Result<(), Failure>),
}

/// Dropped, it leaves what is under way to itself.
pub struct Errands {
    deliverer: Arc<Deliverer>,
    runtime: Handle,
    report: Sender<Report>,
    reports: Receiver<Report>,
    flights: BTreeMap<RangeId, JoinHandle<()>>,
}

impl Errands {
    pub fn new(deliverer: Arc<Deliverer>, runtime: Handle) -> Errands {
        let (report, reports) = crossbeam_channel::unbounded();
        Errands { deliverer, runtime, report, reports, flights: BTreeMap::new() }
    }

    pub fn insert(&mut self, insert: Insert) {
        let id = RangeId(insert.id);
        let deliverer = Arc::clone(&self.deliverer);
        let flight =
            self.spawn(async move { Report::Inserted(id, deliverer.insert(insert).await) });
        self.flights.insert(id, flight);
    }

    pub fn write(&mut self, parcel: Parcel) {
        let Parcel { range, place, letters } = parcel;
        let deliverer = Arc::clone(&self.deliverer);
        let writing = async move { Report::Written(range, deliverer.write(place, letters).await) };
        let flight = self.spawn(writing);
        self.flights.insert(range, flight);
    }

    pub fn probe(&self) {
        let deliverer = Arc::clone(&self.deliverer);
        self.spawn(async move { Report::Probed(deliverer.probe().await) });
    }

    /// Cuts off what is under way of the range.
    pub fn abandon(&mut self, range: RangeId) {
        self.flights.remove(&range).inspect(JoinHandle::abort);
    }

    fn spawn(&self, errand: impl Future<Output = Report> + Send + 'static) -> JoinHandle<()> {
        let report = self.report.clone();
        self.runtime.spawn(async move {
            // Nobody listens any more only when the process is on its way down.
            let _ = report.send(errand.await);
        })
    }

    pub fn has_reports(&self) -> bool {
        !self.reports.is_empty()
    }

    /// Tells the worker the date and what has ended.
    pub fn tell(&mut self, worker: &mut Worker) {
        let date = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        worker.tell_date(date.as_millis() as i64);
        while let Ok(report) = self.reports.try_recv() {
            self.tell_one(worker, report);
        }
    }

    /// Sleeps until something ends, which the worker is told, or until `until`.
    pub fn wait(&mut self, worker: &mut Worker, until: Instant) {
        if let Ok(report) = self.reports.recv_deadline(until) {
            self.tell_one(worker, report);
        }
    }

    fn tell_one(&mut self, worker: &mut Worker, report: Report) {
        let now = Instant::now();
        match report {
            Report::Inserted(range, outcome) => {
                self.flights.remove(&range);
                worker.on_insert(now, range, &outcome);
            }
            Report::Written(range, outcome) => {
                self.flights.remove(&range);
                worker.on_letters(now, range, outcome);
            }
            Report::Probed(outcome) => worker.on_probe(now, &outcome),
        }
    }
}
