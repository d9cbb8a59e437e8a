//! Decoding: several codings in a row, each held to its bounds.

use std::fmt;

use super::{Coding, Codings, Fault, Progress, ROOM, br, deflate, zstd};
use crate::filter::PORTION;

/// How far content may grow.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes out per byte in, on average since the content began. Deflate reaches 1032, other codings any number; pages and
    /// scripts stay below 30.
    pub ratio: u32,
    /// Bytes that may come out beyond that.
    pub burst: u32,
}

impl Limits {
    const fn allow(self, taken: u64) -> u64 {
        taken.saturating_mul(self.ratio as u64).saturating_add(self.burst as u64)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { ratio: 200, burst: 1 << 20 }
    }
}

/// Undoes the codings of one message's content.
///
/// Content of no bytes at all is whole, whatever its codings: servers send it so.
pub struct Decoder {
    /// The one that was applied last is the first.
    stages: Vec<Stage>,
    limits: Limits,
    /// Bytes that came in.
    taken: u64,
    room: Vec<u8>,
}

/// What a decoder has made of its input.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    All,
    /// More follows from it than is decoded at once: the next call goes on with it.
    Some,
}

struct Stage {
    coding: Coding,
    kind: Kind,
    /// What came in; up to `done`, it was decoded.
    input: Vec<u8>,
    done: usize,
    /// The last step filled the room that it had: there may be more.
    is_full: bool,
    /// Bytes that came out.
    given: u64,
    /// Something came in.
    begun: bool,
    whole: bool,
}

enum Kind {
    Deflate(deflate::Decoder),
    Br(Box<br::Decoder>),
    Zstd(zstd::Decoder),
}

impl Decoder {
    /// For content to which these codings were applied, in this order.
    pub fn new(codings: &Codings, limits: Limits) -> Self {
        let stage = |coding: &Coding| Stage {
            coding: *coding,
            kind: match coding {
                Coding::Gzip => Kind::Deflate(deflate::Decoder::gzip()),
                Coding::Deflate => Kind::Deflate(deflate::Decoder::deflate()),
                Coding::Br => Kind::Br(Box::new(br::Decoder::new())),
                Coding::Zstd => Kind::Zstd(zstd::Decoder::new()),
            },
            input: Vec::new(),
            done: 0,
            is_full: false,
            given: 0,
            begun: false,
            whole: false,
        };
        Self { stages: codings.iter().rev().map(stage).collect(), limits, taken: 0, room: Vec::new() }
    }

    /// Appends to `out` what follows from `bytes`, and from what earlier calls left; `end` with the last ones. One call stops
    /// within [`ROOM`] bytes behind [`PORTION`], however little the bytes are that so much follows from; and all calls together
    /// append at most what [`Limits`] allow for all bytes so far.
    ///
    /// Behind a fault nothing more can be decoded.
    pub fn decode(&mut self, bytes: &[u8], end: bool, out: &mut Vec<u8>) -> Result<Decoded, Fault> {
        self.taken += bytes.len() as u64;
        let Some(first) = self.stages.first_mut() else {
            out.extend_from_slice(bytes);
            return Ok(Decoded::All);
        };
        first.push(bytes);
        let (allowed, most) = (self.limits.allow(self.taken), out.len() + PORTION);
        self.room.resize(ROOM, 0);
        // The last that has something to do: so little lies between one and the next.
        while let Some(at) = self.stages.iter().rposition(Stage::has_work) {
            if out.len() >= most {
                return Ok(Decoded::Some);
            }
            let given = self.stages[at].decode(allowed, &mut self.room)?;
            let given = &self.room[..given];
            match self.stages.get_mut(at + 1) {
                Some(next) => next.push(given),
                None => out.extend_from_slice(given),
            }
        }
        match self.stages.iter().find(|stage| stage.begun && !stage.whole) {
            Some(stage) if end => Err(Fault::Truncated(stage.coding)),
            _ => Ok(Decoded::All),
        }
    }
}

#[cfg(test)]
impl Decoder {
    /// As [`Decoder::decode`], as often as it takes.
    pub(crate) fn decode_all(&mut self, bytes: &[u8], end: bool, out: &mut Vec<u8>) -> Result<(), Fault> {
        let mut bytes = bytes;
        while self.decode(bytes, end, out)? == Decoded::Some {
            bytes = &[];
        }
        Ok(())
    }
}

impl Stage {
    fn push(&mut self, bytes: &[u8]) {
        if self.done == self.input.len() {
            self.input.clear();
            self.done = 0;
        }
        self.input.extend_from_slice(bytes);
        self.begun |= !bytes.is_empty();
    }

    fn has_work(&self) -> bool {
        self.done < self.input.len() || self.is_full
    }

    /// Decodes as much as there is room for.
    fn decode(&mut self, allowed: u64, room: &mut [u8]) -> Result<usize, Fault> {
        let Progress { taken, given, whole } = self.step(room)?;
        self.whole = whole;
        self.given += given as u64;
        if self.given > allowed {
            return Err(Fault::Bomb);
        }
        self.done = (self.done + taken).min(self.input.len());
        self.is_full = given == room.len();
        if taken == 0 && given == 0 && self.has_work() {
            return Err(Fault::Malformed(self.coding));
        }
        Ok(given)
    }

    fn step(&mut self, room: &mut [u8]) -> Result<Progress, Fault> {
        let bytes = &self.input[self.done..];
        match &mut self.kind {
            Kind::Deflate(decoder) => decoder.step(self.coding, bytes, room),
            Kind::Br(decoder) => decoder.step(bytes, room),
            Kind::Zstd(decoder) => decoder.step(bytes, room),
        }
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let codings = self.stages.iter().map(|stage| (stage.coding, stage.given)).collect::<Vec<_>>();
        f.debug_struct("Decoder")
            .field("codings", &codings)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}
