//! Whether the disk takes what is written.
//!
//! Runs on: the cache's threads. Allocates: never. Blocks: never.
//!
//! The storage tells nobody but its log when writing fails, and its writer may end by it, after which it says so again for
//! everything that it is given. So what becomes of each record is looked at; once nothing at all is written any more, the disk is
//! given up until a restart.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};

/// So many records that were lost, each put in store when the one before was known to be, and not a byte written meanwhile: the
/// writer has ended. What is lost at once may be what a disk that is well had no time for.
const MOST_LOST: u32 = 4;

#[derive(Debug, Default)]
pub(super) struct Health {
    /// Records in a row.
    lost: AtomicU32,
    /// Bytes written up to the last of them.
    written: AtomicUsize,
    is_given_up: AtomicBool,
}

impl Health {
    /// A record lies on disk.
    pub(super) fn kept(&self) {
        self.lost.store(0, Relaxed);
    }

    /// How many records in a row are known to be lost, for [`Health::lost`].
    pub(super) fn losses(&self) -> u32 {
        self.lost.load(Relaxed)
    }

    /// A record does not, of which there were `before` when it was put in store, by the time when so many bytes were written in all;
    /// whether the disk is given up by that.
    pub(super) fn lost(&self, before: u32, written: usize) -> bool {
        if self.written.swap(written, Relaxed) != written {
            self.lost.store(1, Relaxed);
            return false;
        }
        let is_next = self.lost.compare_exchange(before, before + 1, Relaxed, Relaxed).is_ok();
        is_next && before + 1 >= MOST_LOST && !self.is_given_up.swap(true, Relaxed)
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_given_up_once_when_nothing_is_written_any_more() {
        let health = Health::default();
        let given_up: Vec<_> = [7; 6].map(|written| health.lost(health.losses(), written)).to_vec();
        assert_eq!(given_up, [false, false, false, true, false, false]);
        assert!(health.is_given_up());
    }

    #[test]
    fn records_lost_by_a_disk_that_writes_others_do_not_count_against_it() {
        let health = Health::default();
        for written in 1..100 {
            assert!((0..3).all(|_| !health.lost(health.losses(), written)));
        }
        for _ in 0..100 {
            health.kept();
            assert!(!health.lost(health.losses(), 100));
        }
    }

    #[test]
    fn records_that_found_a_full_queue_at_once_are_one_loss() {
        let health = Health::default();
        for written in [7, 7, 7] {
            let before = health.losses();
            assert!((0..100).all(|_| !health.lost(before, written)));
        }
        assert!(!health.is_given_up() && health.lost(health.losses(), 7));
    }
}
