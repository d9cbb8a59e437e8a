//! Content codings (RFC 9110 section 8.4.1) as streams: bytes in, bytes out, wherever they are cut.
//!
//! Runs on: proxy cores. Allocates: when a stream begins, as below, and what it appends to its output. Blocks: never.
//!
//! Memory of one stream at most, at the levels of [`encode::Level::default`] (tests hold it to that), and beside it what is given
//! to decode in one call. Content that is known to be short takes less, for its window is no greater than it is:
//!
//! | coding | encoding | decoding |
//! |---|---|---|
//! | gzip, deflate | 0.4 MB | 0.1 MB |
//! | br | 4 MB | about twice the content, as far as its window reaches: 16 MB (RFC 7932 section 9.1) |
//! | zstd | 3 MB | its window, of at most 8 MB (RFC 9659 section 3), and 0.5 MB |
//!
//! What is decoded is bounded, in all ([`decode::Limits`]) and in one call ([`decode::Decoder::decode`]).

use std::fmt;

use arrayvec::ArrayVec;

pub mod accept;
pub mod decode;
pub mod encode;
pub mod recode;
pub mod representation;

use crate::fields::Fields;

mod br;
mod deflate;
#[cfg(test)]
mod tests;
mod zstd;

/// The codings that we can write and read.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coding {
    /// RFC 1952. Read with several members, one behind the other.
    Gzip,
    /// RFC 1950; read without its wrapping, too (RFC 9110 section 8.4.1.2).
    Deflate,
    /// RFC 7932.
    Br,
    /// RFC 8878, with windows of at most 8 MB (RFC 9659). Read with several frames, one behind the other.
    Zstd,
}

impl Coding {
    pub const ALL: [Self; 4] = [Self::Gzip, Self::Deflate, Self::Br, Self::Zstd];

    /// Its name in `Content-Encoding` and `Accept-Encoding`.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Br => "br",
            Self::Zstd => "zstd",
        }
    }

    /// The coding of this name, in whatever case; `x-gzip` is gzip (RFC 9110 section 8.4.1.3).
    pub fn named(token: &[u8]) -> Option<Self> {
        let token = if token.eq_ignore_ascii_case(b"x-gzip") { b"gzip" } else { token };
        Self::ALL.into_iter().find(|coding| token.eq_ignore_ascii_case(coding.token().as_bytes()))
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// Codings in the order in which they were applied; what has more than so many is not decoded.
pub type Codings = ArrayVec<Coding, 4>;

/// The codings of a message's content, by its `Content-Encoding`; `None`: there is one that is not known, or too many.
pub fn applied(fields: &Fields) -> Option<Codings> {
    let mut codings = Codings::new();
    for token in fields.list("content-encoding") {
        if token.eq_ignore_ascii_case(b"identity") {
            continue;
        }
        codings.try_push(Coding::named(token)?).ok()?;
    }
    Some(codings)
}

/// Why content cannot be decoded.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the content is not {0}")]
    Malformed(Coding),
    #[error("the content ends within its {0} coding")]
    Truncated(Coding),
    #[error("something follows the end of the {0} coding")]
    Trailing(Coding),
    #[error("the content's {0} coding asks for too much memory, or has too many members")]
    Excessive(Coding),
    #[error("the content grows by more than it may when it is decoded")]
    Bomb,
    #[error("{0} failed to encode")]
    Encoder(Coding),
}

/// What a step of a coding did.
#[derive(Copy, Clone, Debug)]
struct Progress {
    taken: usize,
    given: usize,
    /// The coding is whole: nothing is missing of it, where the content ends here.
    whole: bool,
}

/// Bytes that a coding writes at a time.
pub const ROOM: usize = 16 << 10;
