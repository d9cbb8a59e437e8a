//! Content of a message, by its framing (RFC 9112 section 6).
//!
//! Runs on: proxy cores. Allocates: for trailer fields. Blocks: never.

use super::chunked::Chunked;
use super::{Fault, Limits, Part};
use crate::message::Framing;

#[derive(Debug, Default)]
pub(super) struct Body {
    left: Left,
    chunked: Chunked,
}

/// What is left of the content.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
enum Left {
    #[default]
    Nothing,
    Length(u64),
    Chunks,
    All,
}

impl Body {
    pub(super) fn begin(&mut self, framing: Framing) {
        self.left = match framing {
            Framing::None | Framing::Length(0) => Left::Nothing,
            Framing::Length(length) => Left::Length(length),
            Framing::Chunked => {
                self.chunked.begin();
                Left::Chunks
            }
            Framing::UntilClose => Left::All,
        };
    }

    pub(super) const fn is_open(&self) -> bool {
        !matches!(self.left, Left::Nothing)
    }

    /// What of `bytes` is content. Must be open.
    pub(super) fn next(&mut self, bytes: &[u8], limits: &Limits) -> Result<Part, Fault> {
        let all = bytes.len();
        let (taken, content, end) = match &mut self.left {
            Left::Nothing => (0, 0..0, true),
            Left::All => (all, 0..all, false),
            Left::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(all);
                *left -= count as u64;
                (count, 0..count, *left == 0)
            }
            Left::Chunks => self.chunked.next(bytes, limits)?,
        };
        if end {
            self.left = Left::Nothing;
        }
        Ok(Part::Content { taken, content, end })
    }

    /// The stream has ended; whether that is how the content ends.
    pub(super) fn close(&mut self) -> bool {
        std::mem::take(&mut self.left) == Left::All
    }

    pub(super) fn trailers(&self) -> &[u8] {
        self.chunked.trailers()
    }
}
