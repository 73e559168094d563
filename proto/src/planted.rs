//! Bugs planted on purpose, one at a time, to prove that the simulation finds their kind. A test-only
//! switch: in builds without debug assertions, such as releases, none of them is there.

/// What a careless change could do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A 200 leaves before the journal's write has completed.
    AckBeforeSync,
    /// A completed write acknowledges those before it that are still under way.
    AckBeyondPrefix,
    /// A failed write counts as done once "tried again", as fsync does after an error.
    FailedSyncRetried,
    /// Recovery believes frames of an earlier use of a segment.
    StaleFrame,
    /// The consumer commits a range when its INSERT is sent.
    CommitBeforeInsert,
    /// Two INSERTs have one deduplication token.
    TokenReused,
    /// A block that fails while the breaker opens is counted as done.
    BreakerForgetsBlock,
}

impl Planted {
    pub const ALL: [Planted; 7] = [
        Planted::AckBeforeSync,
        Planted::AckBeyondPrefix,
        Planted::FailedSyncRetried,
        Planted::StaleFrame,
        Planted::CommitBeforeInsert,
        Planted::TokenReused,
        Planted::BreakerForgetsBlock,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Planted::AckBeforeSync => "ack-before-sync",
            Planted::AckBeyondPrefix => "ack-beyond-prefix",
            Planted::FailedSyncRetried => "failed-sync-retried",
            Planted::StaleFrame => "stale-frame",
            Planted::CommitBeforeInsert => "commit-before-insert",
            Planted::TokenReused => "token-reused",
            Planted::BreakerForgetsBlock => "breaker-forgets-block",
        }
    }
}

#[cfg(debug_assertions)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug in everything that this thread runs from now on, or none.
#[cfg(debug_assertions)]
pub fn plant(bug: Option<Planted>) {
    PLANTED.set(bug);
}

/// Whether this bug is planted here.
#[cfg(debug_assertions)]
#[inline]
pub fn is_planted(bug: Planted) -> bool {
    PLANTED.get() == Some(bug)
}

/// Here there are none to plant.
#[cfg(not(debug_assertions))]
pub fn plant(bug: Option<Planted>) {
    assert!(bug.is_none(), "no bug can be planted in a build without debug assertions");
}

#[cfg(not(debug_assertions))]
#[inline]
pub const fn is_planted(_: Planted) -> bool {
    false
}
