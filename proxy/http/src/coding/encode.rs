//! Encoding, and when what was encoded goes out.

use std::fmt;
use std::mem;

use serde::Deserialize;

use super::{Coding, Fault, Progress, ROOM, br, deflate, zstd};
use crate::message::Framing;

/// How hard each coding tries. The highest levels that there are take many times as long and are not offered: other connections of
/// the core wait for it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Level {
    /// 1 to 9, of deflate too.
    pub gzip: u8,
    /// 0 to 9.
    pub br: u8,
    /// 1 to 12.
    pub zstd: u8,
}

impl Default for Level {
    fn default() -> Self {
        Self { gzip: 4, br: 4, zstd: 3 }
    }
}

impl Level {
    /// The first key whose value is out of its range, and the range.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let Self { gzip, br, zstd } = *self;
        let checks = [
            ((1..=9).contains(&gzip), "gzip", "1 to 9"),
            ((0..=9).contains(&br), "br", "0 to 9"),
            ((1..=12).contains(&zstd), "zstd", "1 to 12"),
        ];
        checks.iter().find(|(good, ..)| !good).map_or(Ok(()), |&(_, key, range)| Err((key, range)))
    }
}

/// What is to come out of an encoder at once.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Flush {
    /// What it likes.
    No,
    /// All that went in.
    Sync,
    /// All, and the end.
    End,
}

/// When an encoder is flushed.
///
/// Content of a known length is there already: it is flushed after every [`Pace::PENDING`] bytes, so that a slow server's page
/// is shown as it comes. Content of unknown length may be made while we look, so that every call ends with a flush: nothing
/// waits for what its maker may say a minute later. That costs some tens of bytes per call.
#[derive(Copy, Clone, Debug)]
pub struct Pace {
    always: bool,
    pending: usize,
}

impl Pace {
    pub const PENDING: usize = 32 << 10;

    pub const fn new(framing: Framing) -> Self {
        Self { always: !matches!(framing, Framing::Length(_)), pending: 0 }
    }

    /// What is to follow `len` more bytes.
    pub const fn after(&mut self, len: usize, end: bool) -> Flush {
        self.pending += len;
        if end {
            Flush::End
        } else if self.pending > 0 && (self.always || self.pending >= Self::PENDING) {
            self.pending = 0;
            Flush::Sync
        } else {
            Flush::No
        }
    }
}

/// Applies a coding to one message's content.
pub struct Encoder {
    coding: Coding,
    kind: Kind,
    room: Vec<u8>,
}

enum Kind {
    Deflate(deflate::Encoder),
    Br(Box<br::Encoder>),
    Zstd(zstd::Encoder),
}

impl Encoder {
    /// `framing` is how the content was told; where its length is known, that much memory is enough.
    pub fn new(coding: Coding, level: Level, framing: Framing) -> Result<Self, Fault> {
        let size = match framing {
            Framing::Length(size) => Some(size),
            Framing::None | Framing::Chunked | Framing::UntilClose => None,
        };
        let kind = match coding {
            Coding::Gzip => Kind::Deflate(deflate::Encoder::gzip(level.gzip)),
            Coding::Deflate => Kind::Deflate(deflate::Encoder::deflate(level.gzip)),
            Coding::Br => Kind::Br(Box::new(br::Encoder::new(level.br, size))),
            Coding::Zstd => Kind::Zstd(zstd::Encoder::new(level.zstd, size)?),
        };
        Ok(Self { coding, kind, room: Vec::new() })
    }

    /// Appends to `out` what comes of `bytes`.
    pub fn encode(&mut self, bytes: &[u8], flush: Flush, out: &mut Vec<u8>) -> Result<(), Fault> {
        let mut room = mem::take(&mut self.room);
        room.resize(ROOM, 0);
        let mut bytes = bytes;
        loop {
            let Progress { taken, given, whole } = match &mut self.kind {
                Kind::Deflate(encoder) => encoder.step(self.coding, bytes, flush, &mut room),
                Kind::Br(encoder) => encoder.step(bytes, flush, &mut room),
                Kind::Zstd(encoder) => encoder.step(bytes, flush, &mut room),
            }?;
            bytes = bytes.get(taken..).unwrap_or_default();
            out.extend_from_slice(&room[..given]);
            if bytes.is_empty() && whole {
                break;
            }
            if taken == 0 && given == 0 {
                return Err(Fault::Encoder(self.coding));
            }
        }
        self.room = room;
        Ok(())
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("coding", &self.coding).finish_non_exhaustive()
    }
}
