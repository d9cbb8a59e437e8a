//! Chunks (RFC 9112 section 7.1): their content, and the trailer section behind them.
//!
//! Runs on: proxy cores. Allocates: for trailer fields, within [`Limits::extra`](super::Limits::extra). Blocks: never.

use std::ops::Range;

use super::heads::read_fields;
use super::{Fault, Limits, is_token_byte};

#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    /// Bytes of the extensions of this chunk.
    extra: u32,
    trailers: Vec<u8>,
}

/// What comes next.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
        within: Extension,
    },
    SizeFeed {
        size: u64,
    },
    Data(u64),
    DataReturn,
    DataFeed,
    /// The beginning of a trailer field, or the last line's end.
    TrailerStart,
    Trailer,
    TrailerFeed,
    LastFeed,
    Done,
}

/// What came last of a chunk's extensions (RFC 9112 section 7.1.1).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Extension {
    Semicolon,
    Name,
    Equals,
    Value,
    Quoted,
    Backslash,
    /// The quotation mark that ends a value.
    Quote,
}

impl Extension {
    /// `None`: the byte cannot stand here. Blanks have no place outside of quotes: not everyone takes them (section 7.1.1).
    const fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Name | Self::Value | Self::Quote, b';') => Self::Semicolon,
            (Self::Name, b'=') => Self::Equals,
            (Self::Equals, b'"') => Self::Quoted,
            (Self::Semicolon | Self::Name, _) if is_token_byte(byte) => Self::Name,
            (Self::Equals | Self::Value, _) if is_token_byte(byte) => Self::Value,
            (Self::Quoted, b'"') => Self::Quote,
            (Self::Quoted, b'\\') => Self::Backslash,
            (Self::Quoted | Self::Backslash, b'\t' | b' '..=0x7e | 0x80..) => Self::Quoted,
            _ => return None,
        })
    }

    const fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Value | Self::Quote)
    }
}

impl Default for State {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

impl Chunked {
    /// Forgets the content before.
    pub(super) fn begin(&mut self) {
        self.state = State::default();
        self.extra = 0;
        self.trailers.clear();
    }

    /// The lines of trailer fields.
    pub(super) fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// How many bytes belong to the content, where in them a piece of it lies, and whether it ends with them. What comes before
    /// a fault is taken first.
    pub(super) fn next(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<(usize, Range<usize>, bool), Fault> {
        let mut at = 0;
        let mut content = 0..0;
        while at < bytes.len() && self.state != State::Done {
            if let State::Data(left) = self.state {
                if !content.is_empty() {
                    break;
                }
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                content = at..at + count;
                at += count;
                let left = left - count as u64;
                self.state = if left == 0 { State::DataReturn } else { State::Data(left) };
                continue;
            }
            match self.step(bytes[at], limits) {
                Ok(state) => self.state = state,
                Err(_) if at > 0 => break,
                Err(fault) => return Err(fault),
            }
            at += 1;
        }
        Ok((at, content, self.state == State::Done))
    }

    /// The state behind one byte that is not data. Changes nothing if it is a fault.
    fn step(&mut self, byte: u8, limits: &Limits) -> Result<State, Fault> {
        Ok(match (self.state, byte) {
            // Fifteen digits cannot overflow.
            (State::Size { size, digits: digits @ ..15 }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::Size { size, digits: 1.. }, b';') => {
                State::Extension { size, within: Extension::Semicolon }
            }
            (State::Size { size, digits: 1.. }, b'\r') => State::SizeFeed { size },
            (State::Extension { size, within }, b'\r') if within.may_end() => State::SizeFeed { size },
            (State::Extension { size, within }, _) => {
                let within = within.next(byte).ok_or(Fault::BadRequest("a malformed chunk extension"))?;
                if self.extra == limits.extra {
                    return Err(Fault::BadRequest("chunk extensions that are too long"));
                }
                self.extra += 1;
                State::Extension { size, within }
            }
            (State::SizeFeed { size: 0 }, b'\n') => State::TrailerStart,
            (State::SizeFeed { size }, b'\n') => {
                self.extra = 0;
                State::Data(size)
            }
            (State::DataReturn, b'\r') => State::DataFeed,
            (State::DataFeed, b'\n') => State::default(),
            (State::TrailerStart, b'\r') => State::LastFeed,
            (State::Trailer, b'\r') => self.trailer(byte, State::TrailerFeed, limits)?,
            (State::TrailerFeed, b'\n') => self.trailer(byte, State::TrailerStart, limits)?,
            (State::TrailerStart | State::Trailer, other) if other != b'\n' => {
                self.trailer(other, State::Trailer, limits)?
            }
            (State::LastFeed, b'\n') => {
                self.check_trailers(limits)?;
                State::Done
            }
            (State::Size { .. }, _) => return Err(Fault::BadRequest("a malformed chunk size")),
            (State::DataReturn | State::DataFeed, _) => {
                return Err(Fault::BadRequest("a chunk that does not end where it says"));
            }
            _ => return Err(Fault::BadRequest("a line of chunked content that ends badly")),
        })
    }

    /// Keeps a byte of the trailer section.
    fn trailer(&mut self, byte: u8, next: State, limits: &Limits) -> Result<State, Fault> {
        if self.trailers.len() as u64 >= u64::from(limits.extra) {
            return Err(Fault::BadRequest("a trailer section that is too long"));
        }
        self.trailers.push(byte);
        Ok(next)
    }

    /// Trailer fields must be fields, and none that says where messages end or go (RFC 9110 section 6.5.1): some would merge it
    /// into the head.
    fn check_trailers(&mut self, limits: &Limits) -> Result<(), Fault> {
        if self.trailers.is_empty() {
            return Ok(());
        }
        let length = self.trailers.len();
        self.trailers.extend_from_slice(b"\r\n");
        let result = read_fields(&self.trailers, limits, |name, _| {
            let frames = ["content-length", "transfer-encoding", "host", "connection"];
            match frames.iter().any(|other| name.eq_ignore_ascii_case(other)) {
                false => Ok(()),
                true => Err(Fault::BadRequest("a trailer field that frames or routes")),
            }
        });
        self.trailers.truncate(length);
        result.map(drop)
    }
}
