//! Whether ClickHouse takes anything of this kind: what makes a refusal of one row that row's own
//! matter, and not that of the table, a right or a setting.

use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers INSERTs as they begin. One that began before a refusal and is taken after it proves
/// nothing: it may have seen the table as it was.
#[derive(Debug, Default)]
pub struct Witness {
    begun: AtomicU64,
    newest_taken: AtomicU64,
}

impl Witness {
    /// An INSERT is about to be sent; gives its number.
    pub fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The INSERT of this number was taken.
    pub fn on_taken(&self, number: u64) {
        self.newest_taken.fetch_max(number, Ordering::AcqRel);
    }

    /// To be kept at a refusal, for [`Self::since`].
    pub fn moment(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// Whether an INSERT that began after that moment was taken.
    pub fn since(&self, moment: u64) -> bool {
        self.newest_taken.load(Ordering::Acquire) > moment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_began_after_the_moment_counts() {
        let witness = Witness::default();
        let early = witness.begin();
        let refused = witness.begin();
        let moment = witness.moment();
        witness.on_taken(early);
        assert!(!witness.since(moment), "it began before the refusal");
        let later = witness.begin();
        assert!(!witness.since(moment), "it was not taken yet");
        witness.on_taken(later);
        witness.on_taken(refused);
        assert!(witness.since(moment));
    }
}
