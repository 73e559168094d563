//! Clients that send while something happens to the server, and remember what was acknowledged.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::batch::{Batch, Event};
use crate::http_client::Client;
use crate::stack::Stack;
use crate::wait::wait_for;

const EVENTS_PER_BATCH: usize = 10;
/// So that one user's events fit into one timeline answer.
const BATCHES_PER_USER: usize = 90;

/// What one user sent.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    pub user_id: String,
    /// Ids of events whose request was answered 200.
    pub acknowledged: Vec<String>,
    /// Ids of events whose request was sent and not answered: they may be stored or not.
    pub unknown: Vec<String>,
    /// Requests answered 503: nothing of them may be stored.
    pub refused: usize,
    /// The longest that a 200 took.
    pub slowest: Duration,
}

pub struct Senders {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    sent: Arc<Mutex<Vec<Sent>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Senders {
    /// Each client sends batches one after the other until it is stopped or its connection breaks.
    pub fn start(stack: &Stack, clients: usize, name: &str) -> Senders {
        Senders::start_paced(stack, clients, name, Duration::ZERO)
    }

    /// The same, with a pause of each client after each answer: a load that leaves the machine room.
    pub fn start_paced(stack: &Stack, clients: usize, name: &str, pause: Duration) -> Senders {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let sent = Arc::new(Mutex::new(Vec::new()));
        let spawn = |index: usize| {
            let target = Target {
                url: stack.ingest.clone(),
                app_id: stack.app_id.clone(),
                api_key: stack.api_key.clone(),
            };
            let (stop, acknowledged, sent) =
                (Arc::clone(&stop), Arc::clone(&acknowledged), Arc::clone(&sent));
            let name = name.to_owned();
            std::thread::spawn(move || {
                let mine = send_until(&target, &stop, &acknowledged, &name, index, pause);
                sent.lock().expect("no sender panics with the lock").extend(mine);
            })
        };
        let threads = (0..clients).map(spawn).collect();
        Senders { stop, acknowledged, sent, threads }
    }

    /// Batches answered 200 so far.
    pub fn acknowledged_batches(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Ends all clients and gives what each of their users sent.
    pub fn finish(self) -> Vec<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a sender does not panic");
        }
        std::mem::take(&mut self.sent.lock().expect("no sender panics with the lock"))
    }
}

/// Whom the senders send to, as what.
struct Target {
    url: String,
    app_id: String,
    api_key: String,
}

fn send_until(
    target: &Target,
    stop: &AtomicBool,
    acknowledged: &AtomicUsize,
    name: &str,
    index: usize,
    pause: Duration,
) -> Vec<Sent> {
    let mut users = Vec::new();
    let Ok(mut client) = Client::try_connect(&target.url) else { return users };
    let headers = [("X-API-Key", target.api_key.as_str())];
    let mut batches = 0;
    while !stop.load(Ordering::Relaxed) {
        if batches % BATCHES_PER_USER == 0 {
            let user_id = format!("{name}-{index}-{}", users.len());
            users.push(Sent { user_id, ..Sent::default() });
        }
        batches += 1;
        let user = users.last_mut().expect("pushed above");
        let event = |_| Event::new(name, &user.user_id);
        let batch = Batch { events: (0..EVENTS_PER_BATCH).map(event).collect() };
        let ids = batch.events.iter().map(|event| event.event_id.to_string());
        let body = batch.json(&target.app_id);
        let began = Instant::now();
        match client.try_request("POST", "/api/v1/events", &headers, body.as_bytes()) {
            Ok(answer) if answer.status == 200 => {
                user.acknowledged.extend(ids);
                user.slowest = user.slowest.max(began.elapsed());
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            // 503 while stopping: nothing of the batch counts as sent, and it must not be stored.
            Ok(answer) if answer.status == 503 => {
                user.refused += 1;
                break;
            }
            Ok(answer) => panic!("{}: {}", answer.status, answer.text()),
            Err(_) => {
                user.unknown.extend(ids);
                break;
            }
        }
        std::thread::sleep(pause);
    }
    users
}

/// Every request was answered, and with 200.
pub fn assert_none_failed(sent: &[Sent]) {
    let refused: usize = sent.iter().map(|user| user.refused).sum();
    let unanswered = sent.iter().filter(|user| !user.unknown.is_empty()).count();
    assert_eq!((refused, unanswered), (0, 0), "requests answered 503, and not answered");
}

/// The longest that any 200 took.
pub fn slowest(sent: &[Sent]) -> Duration {
    sent.iter().map(|user| user.slowest).max().unwrap_or_default()
}

/// Waits until every acknowledged event is in its user's timeline; at no look is one there twice, or one
/// that was not sent.
pub fn assert_conserved(stack: &Stack, sent: &[Sent], within: Duration) {
    let deadline = Instant::now() + within;
    for user in sent {
        let what = format!("all that was acknowledged is in the timeline of {}", user.user_id);
        let left = deadline.saturating_duration_since(Instant::now());
        wait_for(&what, left, || {
            user.is_conserved(&stack.timeline_ids(&user.user_id)).then_some(())
        });
    }
}

impl Sent {
    /// Whether all that was acknowledged is there. Events without an answer may be there before it.
    fn is_conserved(&self, stored: &[String]) -> bool {
        let mut distinct = stored.to_vec();
        distinct.dedup();
        assert_eq!(stored.len(), distinct.len(), "{}: an event is there twice", self.user_id);
        let known = |id: &String| self.acknowledged.contains(id) || self.unknown.contains(id);
        let strange: Vec<&String> = stored.iter().filter(|id| !known(id)).collect();
        assert!(strange.is_empty(), "{}: stored and never sent: {strange:?}", self.user_id);
        let mut acknowledged = self.acknowledged.iter();
        acknowledged.all(|id| stored.binary_search(id).is_ok())
    }
}

/// The events of all users that must be in the answers.
pub fn acknowledged_count(sent: &[Sent]) -> u64 {
    sent.iter().map(|user| user.acknowledged.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::Sent;

    /// `expected` is None where the oracle objects.
    fn check(stored: &[&str], acknowledged: &[&str], unknown: &[&str], expected: Option<bool>) {
        let ids = |ids: &[&str]| -> Vec<String> { ids.iter().map(|id| (*id).to_owned()).collect() };
        let (acknowledged, unknown) = (ids(acknowledged), ids(unknown));
        let sent = Sent { acknowledged, unknown, ..Sent::default() };
        let stored = ids(stored);
        let verdict = std::panic::catch_unwind(|| sent.is_conserved(&stored)).ok();
        assert_eq!(verdict, expected, "{stored:?} of {sent:?}");
    }

    #[test]
    fn what_was_not_answered_does_not_stand_in_for_what_was() {
        check(&["a", "b"], &["a", "b"], &[], Some(true));
        check(&["a"], &["a", "b"], &[], Some(false));
        check(&["a", "c"], &["a", "b"], &["c"], Some(false));
        check(&["a", "b", "c"], &["a", "b"], &["c"], Some(true));
        check(&["a", "a", "b"], &["a", "b"], &[], None);
        check(&["a", "b", "d"], &["a", "b"], &["c"], None);
    }
}
