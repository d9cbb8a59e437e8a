//! What a cache counts.
//!
//! Runs on: any thread. Allocates: never. Blocks: never. Each thread counts on lines of its own.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use serde::Serialize;

const LINES: usize = 32;

/// What can be counted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Count {
    Hit,
    Miss,
    Stale,
    Revalidated,
    Collapsed,
    Bypassed,
    Stored,
    Evicted,
    Purged,
    Refused,
    TooLarge,
    Outdated,
    Busy,
    IoError,
    Unwritten,
}

const COUNTS: usize = Count::Unwritten as usize + 1;

/// The counters of one cache since it was made.
#[derive(Debug, Default)]
pub(super) struct Counters {
    lines: [Line; LINES],
}

/// Of one thread, as long as there are not too many.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line([AtomicU64; COUNTS]);

impl Counters {
    pub(super) fn add(&self, count: Count) {
        self.lines[line()].0[count as usize].fetch_add(1, Relaxed);
    }

    fn sum(&self, count: Count) -> u64 {
        self.lines.iter().map(|line| line.0[count as usize].load(Relaxed)).sum()
    }

    pub(super) fn report(&self) -> Report {
        Report {
            hits: self.sum(Count::Hit),
            misses: self.sum(Count::Miss),
            stale: self.sum(Count::Stale),
            revalidated: self.sum(Count::Revalidated),
            collapsed: self.sum(Count::Collapsed),
            bypassed: self.sum(Count::Bypassed),
            stored: self.sum(Count::Stored),
            evicted: self.sum(Count::Evicted),
            purged: self.sum(Count::Purged),
            refused: self.sum(Count::Refused),
            too_large: self.sum(Count::TooLarge),
            outdated: self.sum(Count::Outdated),
            busy: self.sum(Count::Busy),
            io_errors: self.sum(Count::IoError),
            unwritten: self.sum(Count::Unwritten),
            ..Report::default()
        }
    }
}

/// Which line this thread counts on.
fn line() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static LINE: Cell<Option<usize>> = const { Cell::new(None) };
    }
    LINE.with(|line| {
        line.get().unwrap_or_else(|| {
            let own = THREADS.fetch_add(1, Relaxed) % LINES;
            line.set(Some(own));
            own
        })
    })
}

/// Numbers of one cache.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Requests answered by a response in store that was fresh, or that the client took stale.
    pub hits: u64,
    /// Requests for which the server was asked.
    pub misses: u64,
    /// Requests answered by a stale response, while the server was asked or because it failed.
    pub stale: u64,
    /// Responses in store that the server said still to hold.
    pub revalidated: u64,
    /// Requests that waited for the response to another one, and were answered by it.
    pub collapsed: u64,
    /// Requests that a cache has no part in: other methods, `no-store`, keys too long.
    pub bypassed: u64,
    pub stored: u64,
    /// Responses that left memory for others.
    pub evicted: u64,
    /// Responses that were removed by operators, or by requests that change what they name.
    pub purged: u64,
    /// Requests for what is in store alone (`only-if-cached`) that nothing there answers: 504.
    pub refused: u64,
    /// Responses that were not stored because their content is larger than `object`.
    pub too_large: u64,
    /// Responses that were not stored because what they name was removed, or asked for anew, after it had been asked for.
    pub outdated: u64,
    /// Requests that were passed on, and responses that were not stored, because too many bytes were lent out or collected, or
    /// the cache's thread was behind.
    pub busy: u64,
    /// Failures of the disk, and what on it could not be read as what it was.
    pub io_errors: u64,
    /// Responses, and what they vary by, that were to lie on disk and do not, because it failed or was behind.
    pub unwritten: u64,
    /// Now, in memory.
    pub entries: u64,
    pub memory_bytes: u64,
    /// Written to disk since start; the space that a cache takes there is all its own from the beginning.
    pub disk_bytes: u64,
    /// Now, with readers.
    pub lent_bytes: u64,
}
