//! Looks ahead in a burst: what its pairs will need is asked of memory for all of them at once.
//!
//! Runs on: proxy cores. Allocates: never, once its list has grown. Blocks: never.
//!
//! A pair fills some forty cache lines. With many pairs most of them are not in any cache when a packet comes, and a visit
//! that meets them one after the other waits for each. Loads that nobody waits for overlap: they are what a prefetch is,
//! in plain Rust. Each pass over the burst follows one pointer further.

use std::hint::black_box;

use pnat_shared::frame::Frame;
use pnat_shared::loopback::ToProxy;
use pnat_shared::time::Instant;

use super::{Reactor, demux};

/// With fewer pairs than this nothing is gained: what they need stays in the cache.
const MANY: usize = 64;

impl<F: Frame> Reactor<F> {
    /// Asks for what the packets' pairs need.
    pub(super) fn look_ahead(&mut self, input: &[ToProxy<F>]) {
        if self.slots.len() < MANY {
            return;
        }
        let mut keys = std::mem::take(&mut self.ahead);
        for message in input {
            if let ToProxy::Packet { frame, .. } = message {
                keys.extend(demux::peek(frame.data()).and_then(|handle| self.index.find(handle)));
            }
        }
        keys.dedup();
        let slots = || keys.iter().filter_map(|key| self.slots.get(*key));
        black_box(slots().fold(0, |sum, slot| sum ^ slot.armed.as_nanos()));
        black_box(slots().fold(0, |sum, slot| sum ^ slot.conversation.warm()));
        keys.clear();
        self.ahead = keys;
    }

    /// Asks for what tells whether the timers of these pairs are still of use.
    pub(super) fn look_at_timers(&self, keys: &[u32]) {
        let slots = || keys.iter().filter_map(|key| self.slots.get(*key));
        black_box(slots().fold(Instant::FAR, |first, slot| first.min(slot.armed)));
        black_box(slots().fold(Instant::FAR, |first, slot| first.min(slot.conversation.deadline())));
    }
}
