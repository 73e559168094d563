//! The wait between two steps. What a step at too high a rate leaves in the server's journal would
//! break the next one at a rate that holds, so a step waits, for a bounded time, until it is gone.

use std::time::{Duration, Instant};

use crate::api_client::ApiClient;
use crate::target::Target;

const BACKLOG_METRIC: &str = "unmogrowp_journal_backlog_bytes";
/// Less than this is what is on its way at any time.
const BACKLOG_BYTES_MAX: u64 = 16 << 20;
const POLL_INTERVAL: Duration = Duration::from_millis(200);

pub struct Settling<'a> {
    /// Waited always.
    pub rest: Duration,
    /// Waited at most, after that.
    pub settle: Duration,
    /// The server's admin port, which tells of the backlog.
    pub admin: Option<&'a Target>,
}

impl Settling<'_> {
    /// What is left in the journal after the wait; None where nobody tells.
    pub fn wait(&self) -> Option<u64> {
        std::thread::sleep(self.rest);
        let until = Instant::now() + self.settle;
        loop {
            let backlog_bytes = backlog_bytes(self.admin?)?;
            let left = until.saturating_duration_since(Instant::now());
            if backlog_bytes <= BACKLOG_BYTES_MAX || left.is_zero() {
                return Some(backlog_bytes);
            }
            std::thread::sleep(left.min(POLL_INTERVAL));
        }
    }
}

/// As text, where a step begins with more than it should.
pub fn backlog_note(backlog_bytes: Option<u64>) -> Option<String> {
    let bytes = backlog_bytes.filter(|&bytes| bytes > BACKLOG_BYTES_MAX)?;
    Some(format!("began with {} MB of backlog", bytes / 1_000_000))
}

fn backlog_bytes(admin: &Target) -> Option<u64> {
    let (status, page) =
        ApiClient::connect(admin, None).and_then(|mut a| a.get("/metrics")).ok()?;
    if status == 200 { read_backlog(&page) } else { None }
}

fn read_backlog(page: &[u8]) -> Option<u64> {
    let page = String::from_utf8_lossy(page);
    let value = page.lines().find_map(|line| line.strip_prefix(BACKLOG_METRIC)?.strip_prefix(' '));
    value?.trim().parse::<f64>().ok().map(|bytes| bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backlog_is_read_from_the_page() {
        let check = |page: &str, expected| {
            assert_eq!(read_backlog(page.as_bytes()), expected, "{page}");
        };
        let line = "unmogrowp_journal_backlog_bytes";
        check(&format!("# TYPE {line} gauge\n{line} 4096\nx 1\n"), Some(4_096));
        check(&format!("{line}_max 7\n{line} 5e6\n"), Some(5_000_000));
        check("unmogrowp_journal_backlog_blocks 3\n", None);
        check("", None);
    }

    #[test]
    fn a_backlog_is_told_of_when_it_matters() {
        assert_eq!(backlog_note(None), None);
        assert_eq!(backlog_note(Some(16 << 20)), None);
        let note = backlog_note(Some(1_912_000_000));
        assert_eq!(note.as_deref(), Some("began with 1912 MB of backlog"));
    }
}
