//! Where a head ends, told from bytes that come in any pieces (RFC 9112 sections 2.1 and 2.2).
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.
//!
//! Every line ends in CR LF: a line feed alone, or a carriage return alone, is an end to some readers and not to others.

use std::ops::Range;

use super::{Fault, Limits};

/// How far a head has been looked through. Positions count from the head's first byte, empty lines before it included.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Of the start line: empty lines before it are passed over.
    start: usize,
    /// Behind the start line's end; 0: it has not been found.
    fields: usize,
    /// How many bytes were shown.
    shown: usize,
}

/// A head that is complete.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The start line, without its end.
    pub(super) line: Range<usize>,
    /// Fields start here, and end with the head.
    pub(super) fields: usize,
    pub(super) end: usize,
}

/// How one kind of message begins.
pub(super) struct Kind {
    /// Whether empty lines before it are passed over (requests only: RFC 9112 section 2.2).
    pub(super) empty_lines: bool,
    /// Refuses the beginning of a start line that none can have, at a cost that does not grow with what has come. It must
    /// refuse the same, once it has come, whatever follows.
    pub(super) beginning: fn(&[u8]) -> Result<(), Fault>,
    /// Refuses a complete start line.
    pub(super) line: fn(&[u8]) -> Result<(), Fault>,
}

impl Scan {
    /// Whether part of a head has come, apart from empty lines.
    pub(super) const fn has_begun(&self) -> bool {
        self.shown > self.start
    }

    /// Looks on through `bytes`, a head's beginning, of which the first `seen` were looked through before. `None`: it is not
    /// complete. The first fault in the order of the bytes is the one that is found, whatever pieces they come in.
    pub(super) fn next(
        &mut self,
        bytes: &[u8],
        seen: usize,
        limits: &Limits,
        kind: &Kind,
    ) -> Result<Option<Found>, Fault> {
        if seen == 0 {
            *self = Self::default();
        }
        self.shown = bytes.len();
        let is_new = self.fields == 0;
        if is_new {
            if kind.empty_lines && !self.skip_empty_lines(bytes, limits)? {
                return Ok(None);
            }
            let Some(fields) = self.start_line(bytes, seen, limits, kind)? else { return Ok(None) };
            self.fields = fields;
        }
        let line = self.start..self.fields - 2;
        let end = self.end(bytes, seen, limits);
        // With a complete head, its reader begins with the line.
        if is_new && !matches!(end, Ok(Some(_))) {
            (kind.line)(&bytes[line.clone()])?;
        }
        let Some(end) = end? else { return Ok(None) };
        let found = Found { line, fields: self.fields, end };
        *self = Self::default();
        Ok(Some(found))
    }

    /// Whether there is more than empty lines.
    fn skip_empty_lines(&mut self, bytes: &[u8], limits: &Limits) -> Result<bool, Fault> {
        loop {
            match bytes[self.start..] {
                [] | [b'\r'] => return Ok(false),
                [b'\r', b'\n', ..] => self.start += 2,
                [b'\r', ..] => return Err(BARE_RETURN),
                _ => return Ok(true),
            }
            if self.start >= limits.head {
                return Err(Fault::BadRequest("empty lines without end"));
            }
        }
    }

    /// Where the fields begin.
    fn start_line(
        &self,
        bytes: &[u8],
        seen: usize,
        limits: &Limits,
        kind: &Kind,
    ) -> Result<Option<usize>, Fault> {
        (kind.beginning)(&bytes[self.start..])?;
        let from = self.start.max(seen);
        let last = (self.start + limits.line).min(limits.head);
        match memchr::memchr(b'\n', &bytes[from..]).map(|at| from + at) {
            Some(at) if at < last => {
                if !bytes[self.start..at].ends_with(b"\r") {
                    return Err(BARE_FEED);
                }
                Ok(Some(at + 1))
            }
            None if bytes.len() < last => Ok(None),
            _ => Err(Fault::TargetTooLong),
        }
    }

    /// Where the head ends.
    fn end(&self, bytes: &[u8], seen: usize, limits: &Limits) -> Result<Option<usize>, Fault> {
        let from = self.fields.max(seen);
        for at in memchr::memchr_iter(b'\n', &bytes[from..]).map(|at| from + at) {
            if at >= limits.head {
                return Err(Fault::HeadTooLarge);
            }
            // At least an end of a line comes before the fields.
            match bytes[at - 2..at] {
                [b'\n', b'\r'] => return Ok(Some(at + 1)),
                [b'\r', b'\r'] => return Err(BARE_RETURN),
                [_, b'\r'] => {}
                _ => return Err(BARE_FEED),
            }
        }
        if bytes.len() >= limits.head { Err(Fault::HeadTooLarge) } else { Ok(None) }
    }
}

const BARE_FEED: Fault = Fault::BadRequest("a line feed without a carriage return");
const BARE_RETURN: Fault = Fault::BadRequest("a carriage return without a line feed");
