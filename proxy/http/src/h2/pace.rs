//! How long a client takes for a head (RFC 9113 sections 4.1 and 4.3).
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

use pnat_shared::time::{Duration, Instant};

use crate::codec::HTTP2_PREFACE;

const FRAME_HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Follows a client's frames: whatever is no content must be whole in time, and so must all frames of a head.
#[derive(Debug)]
pub(super) struct Pace {
    most: Duration,
    /// When what is not whole began.
    since: Option<Instant>,
    /// Bytes to come before the next frame: of the preface, or of a payload.
    left: usize,
    head: [u8; FRAME_HEAD],
    /// Bytes of it that have come.
    known: usize,
    /// Frames of a head are to come.
    is_head_open: bool,
}

impl Pace {
    pub(super) const fn new(most: Duration) -> Self {
        let left = HTTP2_PREFACE.len();
        Self { most, since: None, left, head: [0; FRAME_HEAD], known: 0, is_head_open: false }
    }

    /// Until when something must be whole, if it is not.
    pub(super) fn until(&self) -> Option<Instant> {
        Some(self.since? + self.most)
    }

    pub(super) fn note(&mut self, mut bytes: &[u8], now: Instant) {
        while !bytes.is_empty() {
            if self.known < FRAME_HEAD {
                self.since.get_or_insert(now);
            }
            if self.left == 0 && self.known < FRAME_HEAD {
                let count = bytes.len().min(FRAME_HEAD - self.known);
                self.head[self.known..self.known + count].copy_from_slice(&bytes[..count]);
                self.known += count;
                bytes = &bytes[count..];
                if self.known == FRAME_HEAD {
                    self.begin();
                }
                continue;
            }
            let count = bytes.len().min(self.left);
            self.left -= count;
            bytes = &bytes[count..];
            if self.left == 0 {
                self.end();
            }
        }
    }

    /// A frame's head is there.
    fn begin(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if matches!(kind, HEADERS | CONTINUATION) {
            self.is_head_open = flags & END_HEADERS == 0;
        }
        if kind == DATA {
            // Content may take its time.
            self.since = None;
        }
        if self.left == 0 {
            self.end();
        }
    }

    /// The preface or a frame is whole.
    fn end(&mut self) {
        self.known = 0;
        if !self.is_head_open {
            self.since = None;
        }
    }
}
