//! Looks for every acknowledged event in the analytics answers.
//!
//! A verified run has event names and users that no other run has. First the counts by name are
//! asked for until they reach what was acknowledged or stop growing; then every user's timeline is
//! fetched and each event id looked up in it. Requests that were not answered 200 may have been
//! stored or not: their events are `unknown` and never count as missing.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use crate::api_client::ApiClient;
use crate::event_id;
use crate::ledger::Ledger;
use crate::plan::{Plan, VerifyPlan};
use crate::run::Outcome;
use crate::template::{events_of_user, users_of_connection};

/// Other traffic may go on arriving for ever; the whole wait is bounded by so many of the plan's.
const WAITS_MAX: u32 = 20;

/// Timelines fetched at the same time.
const LOOKERS: usize = 4;
const POLL_INTERVAL: Duration = Duration::from_millis(250);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Error)]
pub enum VerifyError {
    #[error("the API at {api} can not be reached: {error}")]
    Unreachable { api: String, error: io::Error },
    #[error("the API answered {status} to {path}: {body}")]
    Refused { status: u16, path: String, body: String },
    #[error("the API's answer to {path} is not as expected: {why}")]
    Unreadable { path: String, why: &'static str },
}

impl VerifyError {
    /// The API is there and has told that it could not answer this time.
    fn is_busy(&self) -> bool {
        matches!(self, VerifyError::Refused { status: 500..=599, .. })
    }
}

/// Numbers of events.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Verified {
    pub acknowledged: u64,
    /// Acknowledged events whose ids were looked up: all, unless `users_checked` < `users`.
    pub looked_for: u64,
    pub found: u64,
    pub missing: u64,
    /// Rows beyond the first of an id, and rows of this run's users with an id never sent.
    pub doubled: u64,
    /// Sent, but not acknowledged; and how many ids of these were found.
    pub unknown: u64,
    pub unknown_found: u64,
    /// By the counts per event name, over all events: fewer than acknowledged, more than sent.
    pub count_deficit: u64,
    pub count_surplus: u64,
    pub users: u64,
    pub users_checked: u64,
    /// Until the counts reached what was acknowledged, or gave up.
    pub waited_s: f64,
}

impl Verified {
    pub fn holds(&self) -> bool {
        let wrong = [self.missing, self.doubled, self.count_deficit, self.count_surplus];
        wrong.iter().all(|&count| count == 0)
    }

    fn add(&mut self, other: &Verified) {
        self.looked_for += other.looked_for;
        self.found += other.found;
        self.missing += other.missing;
        self.doubled += other.doubled;
        self.unknown_found += other.unknown_found;
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "verify: {} acknowledged, {} looked for, {} found, {} missing, {} doubled; {} unknown, \
             {} of them found",
            self.acknowledged,
            self.looked_for,
            self.found,
            self.missing,
            self.doubled,
            self.unknown,
            self.unknown_found
        )?;
        if self.users_checked < self.users {
            write!(f, "; a sample: {} of {} users", self.users_checked, self.users)?;
        }
        if self.count_deficit + self.count_surplus > 0 {
            write!(
                f,
                "; by count {} too few, {} too many",
                self.count_deficit, self.count_surplus
            )?;
        }
        Ok(())
    }
}

pub fn verify(
    plan: &Plan,
    verify: &VerifyPlan,
    outcome: &Outcome,
) -> Result<Verified, VerifyError> {
    let mut verified = Verified::default();
    await_counts(plan, verify, outcome, &mut verified)?;
    look_up_users(plan, verify, outcome, &mut verified)?;
    Ok(verified)
}

/// A connection to the API that knows how its answers look.
struct Analytics {
    client: ApiClient,
}

impl Analytics {
    fn connect(plan: &Plan, verify: &VerifyPlan) -> Result<Self, VerifyError> {
        match ApiClient::connect(&verify.api, Some(&plan.apps[0].0.key)) {
            Ok(client) => Ok(Analytics { client }),
            Err(error) => {
                Err(VerifyError::Unreachable { api: verify.api.authority.clone(), error })
            }
        }
    }

    /// The `data` of an answer. An API that says it could not answer this time is asked again, for
    /// as long as events that go on arriving are waited for.
    fn ask(&mut self, verify: &VerifyPlan, path: &str) -> Result<Value, VerifyError> {
        let start = Instant::now();
        let mut printed_at = start;
        loop {
            let error = match self.ask_once(verify, path) {
                Err(error) if error.is_busy() && start.elapsed() < verify.wait * WAITS_MAX => error,
                outcome => return outcome,
            };
            if printed_at.elapsed() >= PROGRESS_INTERVAL {
                printed_at = Instant::now();
                eprintln!("verify: {error}; asked again");
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn ask_once(&mut self, verify: &VerifyPlan, path: &str) -> Result<Value, VerifyError> {
        let (status, body) = self.client.get(path).map_err(|error| VerifyError::Unreachable {
            api: verify.api.authority.clone(),
            error,
        })?;
        if status != 200 {
            let body = String::from_utf8_lossy(&body).chars().take(300).collect();
            return Err(VerifyError::Refused { status, path: path.to_owned(), body });
        }
        let mut answer: Value = serde_json::from_slice(&body).map_err(|_| {
            VerifyError::Unreadable { path: path.to_owned(), why: "it is not JSON" }
        })?;
        Ok(answer["data"].take())
    }
}

/// Waits until the counts by name reach what was acknowledged, or nothing has arrived for the plan's
/// wait: not of this run, and not of what was accepted before it and is still on its way.
fn await_counts(
    plan: &Plan,
    verify: &VerifyPlan,
    outcome: &Outcome,
    verified: &mut Verified,
) -> Result<(), VerifyError> {
    let names = plan.traffic.names.len() as u64;
    let sum = |count: &dyn Fn(&Ledger) -> u64| -> u64 {
        outcome.ledgers.iter().map(|(_, ledger)| count(ledger)).sum()
    };
    let acknowledged: Vec<u64> =
        (0..names).map(|k| sum(&|l| l.acknowledged_events(verify.batch, k, names))).collect();
    let begun: Vec<u64> =
        (0..names).map(|k| sum(&|l| l.begun_events(verify.batch, k, names))).collect();
    verified.acknowledged = acknowledged.iter().sum();
    verified.unknown = begun.iter().sum::<u64>() - verified.acknowledged;

    let mut analytics = Analytics::connect(plan, verify)?;
    let start = Instant::now();
    let (mut stored, mut grown_at) = (vec![0; acknowledged.len()], start);
    let mut stored_of_app = 0;
    let mut printed_at = start;
    loop {
        match read_counts(plan, verify, outcome, &mut analytics) {
            Ok(counts) => {
                if counts.iter().sum::<u64>() > stored.iter().sum() {
                    grown_at = Instant::now();
                }
                stored = counts;
            }
            // It may be starting again: the wait bounds how long that is hoped for.
            Err(error) if grown_at.elapsed() >= verify.wait => return Err(error),
            Err(_) => {}
        }
        let complete = stored.iter().zip(&acknowledged).all(|(stored, acked)| stored >= acked);
        let waited_long = start.elapsed() >= verify.wait * WAITS_MAX;
        if complete || waited_long || grown_at.elapsed() >= verify.wait {
            break;
        }
        if printed_at.elapsed() >= PROGRESS_INTERVAL {
            printed_at = Instant::now();
            let count: u64 = stored.iter().sum();
            eprintln!("verify: {count} of {} events in the answers", verified.acknowledged);
            let of_app = read_count(plan, verify, outcome, &mut analytics, "").unwrap_or_default();
            if of_app > stored_of_app {
                (stored_of_app, grown_at) = (of_app, Instant::now());
            }
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    verified.waited_s = start.elapsed().as_secs_f64();
    for ((stored, acknowledged), begun) in stored.iter().zip(&acknowledged).zip(&begun) {
        verified.count_deficit += acknowledged.saturating_sub(*stored);
        verified.count_surplus += stored.saturating_sub(*begun);
    }
    Ok(())
}

fn read_counts(
    plan: &Plan,
    verify: &VerifyPlan,
    outcome: &Outcome,
    analytics: &mut Analytics,
) -> Result<Vec<u64>, VerifyError> {
    let names = plan.traffic.names.iter();
    names.map(|name| read_count(plan, verify, outcome, analytics, name)).collect()
}

/// How many events of this name the answers have, or of any name when it is empty.
fn read_count(
    plan: &Plan,
    verify: &VerifyPlan,
    outcome: &Outcome,
    analytics: &mut Analytics,
    name: &str,
) -> Result<u64, VerifyError> {
    let (first, last) = (outcome.started_at.date(), outcome.ended_at.date());
    let mut path = format!(
        "/api/v1/analytics/events/count?app_id={}&start_date={first}&end_date={last}",
        plan.apps[0].0.id
    );
    if !name.is_empty() {
        path.push_str("&event_name=");
        path.push_str(name);
    }
    let count = analytics.ask(verify, &path)?["count"].as_u64();
    count.ok_or(VerifyError::Unreadable { path, why: "it has no data.count" })
}

/// Looks every event up in its user's timeline, several users at a time.
fn look_up_users(
    plan: &Plan,
    verify: &VerifyPlan,
    outcome: &Outcome,
    verified: &mut Verified,
) -> Result<(), VerifyError> {
    let users: Vec<(u64, &Ledger, u64)> = outcome
        .ledgers
        .iter()
        .flat_map(|(connection, ledger)| {
            let events = ledger.request_count * verify.batch;
            (0..users_of_connection(events)).map(move |user| (*connection, ledger, user))
        })
        .collect();
    let total = users.len() as u64;
    let checked = total.min(verify.users_max);
    verified.users = total;
    verified.users_checked = checked;
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let (found_in, found) = mpsc::channel();
        for _ in 0..LOOKERS {
            let (found, users, next) = (found_in.clone(), &users, &next);
            scope.spawn(move || {
                let mut analytics = None;
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    if turn >= checked {
                        return;
                    }
                    let (connection, ledger, user) = users[(turn * total / checked) as usize];
                    let result = match analytics.take() {
                        Some(analytics) => Ok(analytics),
                        None => Analytics::connect(plan, verify),
                    };
                    let result = result.and_then(|mut made| {
                        let seen = look_up_user(plan, verify, &mut made, connection, ledger, user);
                        analytics = Some(made);
                        seen
                    });
                    if result.is_err() {
                        next.store(checked, Ordering::Relaxed);
                    }
                    if found.send(result).is_err() {
                        return;
                    }
                }
            });
        }
        drop(found_in);
        let (mut done, mut printed_at) = (0_u64, Instant::now());
        for result in found {
            verified.add(&result?);
            done += 1;
            if printed_at.elapsed() >= PROGRESS_INTERVAL {
                printed_at = Instant::now();
                eprintln!("verify: {done} of {checked} users looked up");
            }
        }
        Ok(())
    })
}

fn look_up_user(
    plan: &Plan,
    verify: &VerifyPlan,
    analytics: &mut Analytics,
    connection: u64,
    ledger: &Ledger,
    user: u64,
) -> Result<Verified, VerifyError> {
    let path = format!(
        "/api/v1/users/{}/events?app_id={}&limit={}",
        plan.traffic.user_id(connection, user),
        plan.apps[0].0.id,
        proto::limits::TIMELINE_ROWS_MAX
    );
    let data = analytics.ask(verify, &path)?;
    let Some(rows) = data.as_array() else {
        return Err(VerifyError::Unreadable { path, why: "its data is not an array" });
    };
    let expected = events_of_user(user, ledger.request_count * verify.batch).map(|event| {
        let id = event_id::low_half(connection, event);
        (id, ledger.is_acknowledged(event / verify.batch))
    });
    let ids = rows.iter().map(|row| row["event_id"].as_str().unwrap_or_default());
    Ok(compare(plan.run.as_u64(), expected, ids))
}

/// Sets the ids that a timeline has against those that were sent and whether each was acknowledged.
fn compare<'a>(
    run: u64,
    sent: impl Iterator<Item = (u64, bool)>,
    ids: impl Iterator<Item = &'a str>,
) -> Verified {
    let mut verified = Verified::default();
    let run = format!("{run:016x}");
    let run = format!("{}-{}-{}-", &run[..8], &run[8..12], &run[12..]);
    let mut rows_by_id: HashMap<u64, (bool, u64)> =
        sent.map(|(id, acknowledged)| (id, (acknowledged, 0))).collect();
    for id in ids {
        let id = id.to_ascii_lowercase();
        let low_half = if id.starts_with(&run) { event_id::low_half_of_text(&id) } else { None };
        match low_half.and_then(|low_half| rows_by_id.get_mut(&low_half)) {
            Some((_, rows)) => *rows += 1,
            None => verified.doubled += 1,
        }
    }
    for (acknowledged, rows) in rows_by_id.into_values() {
        verified.doubled += rows.saturating_sub(1);
        let found = u64::from(rows > 0);
        if acknowledged {
            verified.looked_for += 1;
            verified.found += found;
            verified.missing += 1 - found;
        } else {
            verified.unknown_found += found;
        }
    }
    verified
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u64 = 0x0123_4567_89ab_4cde;

    fn check(sent: &[(u64, bool)], ids: &[&str], expected: Verified) {
        assert_eq!(compare(RUN, sent.iter().copied(), ids.iter().copied()), expected, "{ids:?}");
    }

    #[test]
    fn ids_are_set_against_each_other() {
        let one = "01234567-89ab-4cde-8000-000000000001";
        let two = "01234567-89AB-4CDE-8000-000000000002";
        let other_run = "11234567-89ab-4cde-8000-000000000001";
        let sent = [(0x8 << 60 | 1, true), (0x8 << 60 | 2, false)];
        let all = Verified { looked_for: 1, found: 1, ..Verified::default() };
        check(&sent, &[one], Verified { ..all });
        check(&sent, &[two, one], Verified { unknown_found: 1, ..all });
        check(&sent, &[one, one], Verified { doubled: 1, ..all });
        check(&sent, &[one, other_run], Verified { doubled: 1, ..all });
        check(&sent, &[], Verified { looked_for: 1, missing: 1, ..Verified::default() });
    }

    #[test]
    fn anything_wrong_does_not_hold() {
        assert!(Verified { unknown: 5, unknown_found: 3, ..Verified::default() }.holds());
        for wrong in [
            Verified { missing: 1, ..Verified::default() },
            Verified { doubled: 1, ..Verified::default() },
            Verified { count_deficit: 1, ..Verified::default() },
            Verified { count_surplus: 1, ..Verified::default() },
        ] {
            assert!(!wrong.holds());
        }
    }
}
