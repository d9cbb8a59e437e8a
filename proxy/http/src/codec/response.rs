//! Responses of a stream, one after the other (RFC 9112 sections 4 and 6.3).
//!
//! Runs on: proxy cores. Allocates: until the memory of earlier responses is enough. Blocks: never.

use super::body::Body;
use super::heads::{Said, read_fields};
use super::scan::{Found, Kind, Scan};
use super::{Fault, Limits, Part};
use crate::message::{Framing, Response, Version};

/// Follows a stream of responses. Each final one answers a request that [`ResponseReader::expect`] told of.
///
/// Behind a 101, and behind a 2xx to `CONNECT`, the stream is not HTTP any more, and this reader takes no more of it.
#[derive(Debug, Default)]
pub struct ResponseReader {
    scan: Scan,
    body: Body,
    expected: Option<Expected>,
    has_switched: bool,
}

/// What the method of a request means for the response to it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Expected {
    Head,
    Connect,
    Other,
}

impl ResponseReader {
    /// The next final response answers a request of this method.
    pub fn expect(&mut self, method: &str) {
        self.expected = Some(match method {
            "HEAD" => Expected::Head,
            "CONNECT" => Expected::Connect,
            _ => Expected::Other,
        });
    }

    /// What `bytes`, the stream from where the last part ended, begin with. The first `seen` of them were shown before, when the
    /// answer was [`Part::More`]. `response` is filled in with a head, and is not touched otherwise.
    ///
    /// A response that has no content by its status (1xx, 204: RFC 9112 section 6.3) loses fields that speak of some, and counts
    /// as edited then.
    pub fn next(
        &mut self,
        bytes: &[u8],
        seen: usize,
        limits: &Limits,
        response: &mut Response,
    ) -> Result<Part, Fault> {
        self.read(bytes, seen, limits, response).map_err(Fault::in_response)
    }

    fn read(
        &mut self,
        bytes: &[u8],
        seen: usize,
        limits: &Limits,
        response: &mut Response,
    ) -> Result<Part, Fault> {
        if self.body.is_open() {
            return self.body.next(bytes, limits);
        }
        if self.has_switched {
            return Err(Fault::Malformed("a stream that is not HTTP any more"));
        }
        let Some(expected) = self.expected else {
            return Err(Fault::Malformed("a response that nobody asked for"));
        };
        let Some(found) = self.scan.next(bytes, seen, limits, &KIND)? else { return Ok(Part::More) };
        let framing = read_head(bytes, &found, limits, expected, response)?;
        response.read_framing(framing);
        self.body.begin(framing);
        let status = response.status();
        self.has_switched = status == 101 || expected == Expected::Connect && matches!(status, 200..=299);
        if status >= 200 || self.has_switched {
            self.expected = None;
        }
        Ok(Part::Head(found.end))
    }

    /// The stream has ended. Answers whether a response was ended by that; it is a fault if one was cut off.
    pub fn close(&mut self) -> Result<bool, Fault> {
        if self.scan.has_begun() {
            return Err(Fault::Malformed("a head that is cut off"));
        }
        if !self.body.is_open() {
            return Ok(false);
        }
        if self.body.close() { Ok(true) } else { Err(Fault::Malformed("content that is cut off")) }
    }

    /// Whether no response is under way.
    pub const fn is_between(&self) -> bool {
        !self.body.is_open() && !self.scan.has_begun()
    }

    /// The trailer section of the last chunked response, as it came: whole lines, or nothing.
    pub fn trailers(&self) -> &[u8] {
        self.body.trailers()
    }
}

const KIND: Kind = Kind {
    empty_lines: false,
    beginning: check_name,
    line: |line| match StatusLine::read(line) {
        Ok(_) => Ok(()),
        Err(fault) => Err(fault),
    },
};

/// Refuses what does not begin with HTTP/1's name, as soon as that can be told.
fn check_name(bytes: &[u8]) -> Result<(), Fault> {
    let name = b"HTTP/1.";
    let length = bytes.len().min(name.len());
    if bytes[..length] == name[..length] { Ok(()) } else { Err(BAD_LINE) }
}

struct StatusLine<'a> {
    version: Version,
    status: u16,
    reason: &'a [u8],
}

impl<'a> StatusLine<'a> {
    /// `version SP status SP [reason]` (RFC 9112 section 4); servers are known that leave out the second blank with the reason.
    fn read(line: &'a [u8]) -> Result<Self, Fault> {
        let (version, rest) = match line {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', rest @ ..] => (Version::Http11, rest),
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0', b' ', rest @ ..] => (Version::Http10, rest),
            _ => return Err(BAD_LINE),
        };
        let [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] = rest else {
            return Err(BAD_LINE);
        };
        let reason = match rest {
            [b' ', reason @ ..] => reason,
            [] => rest,
            _ => return Err(BAD_LINE),
        };
        if !reason.iter().all(|&byte| byte == b'\t' || byte >= b' ' && byte != 0x7f) {
            return Err(BAD_LINE);
        }
        let digit = |byte: &u8| u16::from(byte - b'0');
        Ok(Self { version, status: 100 * digit(a) + 10 * digit(b) + digit(c), reason })
    }
}

const BAD_LINE: Fault = Fault::Malformed("a malformed status line");

/// Reads a complete head; answers how the content is framed (RFC 9112 section 6.3).
fn read_head(
    bytes: &[u8],
    found: &Found,
    limits: &Limits,
    expected: Expected,
    response: &mut Response,
) -> Result<Framing, Fault> {
    let line = StatusLine::read(&bytes[found.line.clone()])?;
    response.begin(line.status, &String::from_utf8_lossy(line.reason), line.version);
    let mut said = Said::default();
    let is_plain = read_fields(&bytes[found.fields..found.end], limits, |name, value| {
        response.read_field(name, value);
        said.take(name, value)
    })?;
    let framing = said.framing(line.version)?;
    if !is_plain {
        response.mark_edited();
    }
    let switches = expected == Expected::Connect && matches!(line.status, 200..=299);
    if line.status < 200 || line.status == 204 || switches {
        if framing.is_some() {
            response.fields_mut().remove("content-length");
            response.fields_mut().remove("transfer-encoding");
        }
        return Ok(Framing::None);
    }
    if line.status == 304 || expected == Expected::Head {
        return Ok(Framing::None);
    }
    Ok(framing.unwrap_or(Framing::UntilClose))
}
