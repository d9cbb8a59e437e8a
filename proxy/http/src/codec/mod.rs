//! HTTP/1 in streams of bytes: where each message is, what its head says, where its content lies and ends (RFC 9112).
//!
//! Runs on: proxy cores. Allocates: until the memory of earlier messages is enough. Blocks: never.
//!
//! ```text
//!   bytes --> scan --> request / response --> Part::Head      heads: lines, then fields, then what they say about content
//!         '-> body --> chunked -------------> Part::Content   content: pieces within the bytes that were shown
//!   write <-- Request, Response, content                      what was edited, framed anew
//! ```
//!
//! What two readers could take for different things is a [`Fault`], not a guess: nothing that passes here is told apart
//! otherwise by whoever reads it next. A reader takes any bytes, in whatever pieces they come; the pieces change neither what is
//! found nor what is refused. It looks at each byte once, apart from the final reading of a head, and keeps nothing of what it
//! was shown but trailer fields, within [`Limits::extra`].

use std::ops::Range;

use crate::fields::Fields;
use crate::message::{self, Version};

mod scan;
mod target;
mod heads;
mod request;
mod response;
mod body;
mod chunked;
pub mod write;

pub use request::RequestReader;
pub use response::ResponseReader;

/// The most that a message may ask a reader to take in at once. All in bytes, apart from `fields`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A head, with the empty lines before it and the one behind it.
    pub head: usize,
    /// Header fields of a head, or trailer fields. More than 128 are never taken.
    pub fields: usize,
    /// A request line or status line, with its end.
    pub line: usize,
    /// The extensions of one chunk; the trailer section.
    pub extra: u32,
}

impl Limits {
    /// Those of who sets none.
    pub const USUAL: Self = Self { head: 64 * 1024, fields: MOST_FIELDS, line: 16 * 1024, extra: 16 * 1024 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::USUAL
    }
}

/// Most fields that a head or trailer section may have, whatever the limits.
pub(crate) const MOST_FIELDS: usize = 128;

/// Why a stream cannot be read on. After one, its reader is of no more use.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A request that is not HTTP/1, or not in one way only.
    #[error("{0}")]
    BadRequest(&'static str),
    #[error("a head that is too large")]
    HeadTooLarge,
    #[error("a request line that is too long")]
    TargetTooLong,
    /// A version of HTTP that is not spoken in this form: neither 1.0 nor 1.1.
    #[error("an unsupported HTTP version")]
    Version,
    /// A transfer coding other than chunked.
    #[error("an unknown transfer coding")]
    TransferCoding,
    /// A response that is not HTTP/1, or not in one way only.
    #[error("{0}")]
    Malformed(&'static str),
    /// What stands behind an upgrade and is no frame of a WebSocket ([`websocket`](crate::websocket)).
    #[error("{0}")]
    Frame(&'static str),
}

impl Fault {
    /// Status and reason of the answer to it (RFC 9110 section 15). A frame gets none.
    pub const fn status(self) -> (u16, &'static str) {
        let status = match self {
            Self::BadRequest(_) | Self::Frame(_) => 400,
            Self::HeadTooLarge => 431,
            Self::TargetTooLong => 414,
            Self::Version => 505,
            Self::TransferCoding => 501,
            Self::Malformed(_) => 502,
        };
        (status, message::reason(status))
    }

    /// The name used in counters, logs and reports.
    pub const fn key(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::HeadTooLarge => "head_too_large",
            Self::TargetTooLong => "target_too_long",
            Self::Version => "version",
            Self::TransferCoding => "transfer_coding",
            Self::Malformed(_) => "malformed_response",
            Self::Frame(_) => "bad_frame",
        }
    }

    /// What is wrong, for people.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::BadRequest(why) | Self::Malformed(why) | Self::Frame(why) => why,
            Self::HeadTooLarge => "a head that is too large",
            Self::TargetTooLong => "a request line that is too long",
            Self::Version => "an unsupported HTTP version",
            Self::TransferCoding => "an unknown transfer coding",
        }
    }

    /// The same, found in a response.
    const fn in_response(self) -> Self {
        match self {
            Self::TargetTooLong => Self::Malformed("a status line that is too long"),
            other => Self::Malformed(other.sentence()),
        }
    }
}

/// The next thing in a stream of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A head is incomplete: show it again, from its first byte, with more.
    More,
    /// A head of so many bytes, leading empty lines included. If its framing is [`Framing::None`] or a length of 0, no content
    /// follows: the message ends with it.
    ///
    /// [`Framing::None`]: crate::message::Framing::None
    Head(usize),
    /// Bytes of a message behind its head.
    Content {
        /// How many bytes were read: content and the coding around it.
        taken: usize,
        /// Where in them content lies; may be empty.
        content: Range<usize>,
        /// The message ends with them.
        end: bool,
    },
}

/// What a client sends first that speaks HTTP/2 without asking (RFC 9113 section 3.4).
pub(crate) const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether a stream begins in HTTP/2; `None`: more bytes are needed to tell. A [`RequestReader`] calls it [`Fault::Version`].
pub fn is_http2_preface(bytes: &[u8]) -> Option<bool> {
    match bytes.get(..HTTP2_PREFACE.len()) {
        Some(start) => Some(start == HTTP2_PREFACE),
        None => (!HTTP2_PREFACE.starts_with(bytes)).then_some(false),
    }
}

/// Shows each field of a trailer section, as readers keep it, to `take`.
pub(crate) fn each_trailer(lines: &[u8], mut take: impl FnMut(&str, &[u8])) -> Result<(), Fault> {
    heads::read_fields(&[lines, b"\r\n"].concat(), &Limits::USUAL, |name, value| {
        take(name, value);
        Ok(())
    })
    .map(drop)
}

/// Whether the sender of a head means to go on with the connection behind this message (RFC 9112 section 9.3).
pub fn persists(version: Version, fields: &Fields) -> bool {
    !fields.lists("connection", "close")
        && (version != Version::Http10 || fields.lists("connection", "keep-alive"))
}

/// Whether names of methods and fields may have it (RFC 9110 section 5.6.2).
pub const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// By byte: heads are full of them.
const TOKEN: [bool; 256] = {
    let (others, mut table, mut at) = (b"!#$%&'*+-.^_`|~", [false; 256], 0);
    while at < 256 {
        table[at] = (at as u8).is_ascii_alphanumeric();
        at += 1;
    }
    at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

#[cfg(test)]
mod tests;
