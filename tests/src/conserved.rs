//! The conservation oracle for loads that timelines are too small for: every acknowledged event id is
//! found once by what answers read, and nothing is there that was not sent.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::sender::{Sent, acknowledged_count};
use crate::stack::Stack;
use crate::wait::found_within;

/// Ids of a kind that a failure names; there may be thousands.
const IDS_SHOWN: usize = 5;

/// Every stored event id of one event name, as the answers see it: a repeated row shows twice.
pub fn stored_ids(stack: &Stack, event_name: &str) -> Vec<String> {
    let query = format!(
        "SELECT lower(toString(event_id)) FROM events FINAL WHERE event_name = '{event_name}' FORMAT TSV"
    );
    let answer = stack.clickhouse("", &query);
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    answer.text().lines().map(str::to_owned).collect()
}

/// Rows of one event name, right before merges; None while ClickHouse does not answer.
pub fn stored_count(stack: &Stack, event_name: &str) -> Option<u64> {
    let query = format!("SELECT count() FROM events FINAL WHERE event_name = '{event_name}'");
    let answer = stack.try_clickhouse("", &query).ok()?;
    (answer.status == 200).then(|| answer.text().trim().parse().ok())?
}

/// Waits until every acknowledged id is stored; at no look is one there twice or invented.
pub fn assert_all_conserved(stack: &Stack, event_name: &str, sent: &[Sent], within: Duration) {
    let expected = acknowledged_count(sent);
    assert!(expected > 0, "{event_name}: nothing was acknowledged");
    let mut seen = None;
    let stored = found_within(within, || {
        let now = stored_count(stack, event_name);
        if now != seen {
            println!("{event_name}: {now:?} of {expected} are stored");
            seen = now;
        }
        // Events without an answer are counted too, and may be stored before others are: only the ids
        // tell that nothing is missing.
        if now? < expected {
            return None;
        }
        let verdict = compare(&stored_ids(stack, event_name), sent);
        let strange = (verdict.doubled, verdict.invented);
        assert_eq!(strange, (0, 0), "{event_name}: of {expected} acknowledged: {verdict:?}");
        if verdict.missing > 0 {
            println!("{event_name}: {verdict:?}");
        }
        (verdict.missing == 0).then_some(())
    });
    if stored.is_none() {
        let verdict = compare(&stored_ids(stack, event_name), sent);
        panic!("{event_name}: of {expected} acknowledged after {within:?}: {verdict:?}");
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged and not stored.
    pub missing: usize,
    /// Rows beyond the first of an id.
    pub doubled: usize,
    /// Stored and never sent.
    pub invented: usize,
    /// A few of each, in words.
    pub examples: Vec<String>,
}

/// Events whose request was not answered may be stored or not.
pub fn compare(stored: &[String], sent: &[Sent]) -> Verdict {
    let mut counts: HashMap<&str, usize> = HashMap::with_capacity(stored.len());
    for id in stored {
        *counts.entry(id).or_default() += 1;
    }
    let acknowledged = || sent.iter().flat_map(|user| &user.acknowledged).map(String::as_str);
    let unknown = sent.iter().flat_map(|user| &user.unknown).map(String::as_str);
    let known: HashSet<&str> = acknowledged().chain(unknown).collect();
    let missing: Vec<&str> = acknowledged().filter(|id| !counts.contains_key(id)).collect();
    let doubled: Vec<&str> =
        counts.iter().filter(|(_, count)| **count > 1).map(|(id, _)| *id).collect();
    let invented: Vec<&str> = counts.keys().filter(|id| !known.contains(*id)).copied().collect();
    let examples = [("missing", &missing), ("doubled", &doubled), ("invented", &invented)]
        .into_iter()
        .flat_map(|(kind, ids)| ids.iter().take(IDS_SHOWN).map(move |id| format!("{kind} {id}")))
        .collect();
    Verdict {
        missing: missing.len(),
        doubled: counts.values().map(|count| count - 1).sum(),
        invented: invented.len(),
        examples,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    /// `expected` is missing, doubled, invented.
    fn check(stored: &[&str], acknowledged: &[&str], unknown: &[&str], expected: [usize; 3]) {
        let (acknowledged, unknown) = (ids(acknowledged), ids(unknown));
        let sent = Sent { acknowledged, unknown, ..Sent::default() };
        let verdict = compare(&ids(stored), &[sent]);
        assert_eq!([verdict.missing, verdict.doubled, verdict.invented], expected, "{verdict:?}");
    }

    #[test]
    fn the_oracle_sees_loss_doubles_and_inventions() {
        check(&["a", "b"], &["a", "b"], &[], [0, 0, 0]);
        check(&["a"], &["a", "b"], &[], [1, 0, 0]);
        check(&["a", "b", "b", "b"], &["a", "b"], &[], [0, 2, 0]);
        check(&["a", "c"], &["a"], &[], [0, 0, 1]);
        check(&["a", "c"], &["a"], &["b", "c"], [0, 0, 0]);
        check(&[], &[], &["a"], [0, 0, 0]);
    }
}
