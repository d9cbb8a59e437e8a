//! Requests of a stream, one after the other (RFC 9112 section 3).
//!
//! Runs on: proxy cores. Allocates: until the memory of earlier requests is enough. Blocks: never.

use super::body::Body;
use super::heads::{Said, read_fields};
use super::scan::{Found, Kind, Scan};
use super::{Fault, Limits, Part, is_token, is_token_byte, target};
use crate::message::{Framing, Request, Version};

/// Longest method, in bytes.
const LONGEST_METHOD: usize = 32;

/// Follows a stream of requests.
///
/// Behind a request with `CONNECT` or `Upgrade` the stream may turn into something else (RFC 9110 section 7.8): whoever reads
/// shows no byte behind it before it is known how the server answered.
#[derive(Debug, Default)]
pub struct RequestReader {
    scan: Scan,
    body: Body,
    /// The last request's, where another one took its place; else empty.
    replaced_host: Vec<u8>,
}

impl RequestReader {
    /// What `bytes`, the stream from where the last part ended, begin with. The first `seen` of them were shown before, when the
    /// answer was [`Part::More`]. `request` is filled in with a head, and is not touched otherwise.
    ///
    /// A request whose target names a host by itself is given that one as its `Host`, and counts as edited, if it came with
    /// another (RFC 9112 section 3.2.2).
    pub fn next(
        &mut self,
        bytes: &[u8],
        seen: usize,
        limits: &Limits,
        request: &mut Request,
    ) -> Result<Part, Fault> {
        if self.body.is_open() {
            return self.body.next(bytes, limits);
        }
        let Some(found) = self.scan.next(bytes, seen, limits, &KIND)? else { return Ok(Part::More) };
        self.replaced_host.clear();
        let framing = read_head(bytes, &found, limits, request, &mut self.replaced_host)?;
        request.read_framing(framing);
        self.body.begin(framing);
        Ok(Part::Head(found.end))
    }

    /// The `Host` with which the last request came, where it was replaced and not empty: in a stream that goes on as it came, some server may go
    /// by it.
    pub fn replaced_host(&self) -> Option<&[u8]> {
        Some(&*self.replaced_host).filter(|host| !host.is_empty())
    }

    /// Whether the stream may end here: behind one message and before the next.
    pub const fn is_between(&self) -> bool {
        !self.body.is_open() && !self.scan.has_begun()
    }

    /// The trailer section of the last chunked request, as it came: whole lines, or nothing.
    pub fn trailers(&self) -> &[u8] {
        self.body.trailers()
    }
}

const KIND: Kind = Kind {
    empty_lines: true,
    beginning: check_method,
    line: |line| match RequestLine::read(line) {
        Ok(_) => Ok(()),
        Err(fault) => Err(fault),
    },
};

/// Refuses what does not begin with a method and a blank, as soon as that can be told.
fn check_method(bytes: &[u8]) -> Result<(), Fault> {
    let method = bytes.iter().take(LONGEST_METHOD + 1).take_while(|&&byte| is_token_byte(byte)).count();
    match bytes.get(method) {
        None if method <= LONGEST_METHOD => Ok(()),
        Some(b' ') if (1..=LONGEST_METHOD).contains(&method) => Ok(()),
        _ => Err(Fault::BadRequest("a malformed method")),
    }
}

struct RequestLine<'a> {
    method: &'a str,
    target: &'a str,
    version: Version,
}

impl<'a> RequestLine<'a> {
    /// Exactly `method SP target SP version` (RFC 9112 section 3).
    fn read(line: &'a [u8]) -> Result<Self, Fault> {
        let blank = memchr::memchr(b' ', line).ok_or(BAD_LINE)?;
        let (method, rest) = (&line[..blank], &line[blank + 1..]);
        let blank = memchr::memrchr(b' ', rest).ok_or(NO_VERSION)?;
        let (target, version) = (&rest[..blank], version(&rest[blank + 1..])?);
        if !is_token(method) {
            return Err(Fault::BadRequest("a malformed method"));
        }
        // Blanks and control bytes would end the line elsewhere for others, and a fragment is never sent (RFC 9112 section 3.2).
        // Bytes beyond ASCII are no part of a URI, but are what some clients send, and divide nothing.
        if target.is_empty() || target.iter().any(|&byte| byte <= b' ' || byte == 0x7f || byte == b'#') {
            return Err(Fault::BadRequest("a malformed target"));
        }
        let method = str::from_utf8(method).map_err(|_| BAD_LINE)?;
        let target = str::from_utf8(target).map_err(|_| Fault::BadRequest("a malformed target"))?;
        target::check(method, target)?;
        Ok(Self { method, target, version })
    }
}

/// HTTP/1.2 and later ones of its kind do not exist; if they come to be, it will not be known here what they mean.
fn version(bytes: &[u8]) -> Result<Version, Fault> {
    match bytes {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Fault::Version),
        _ => Err(Fault::BadRequest("a malformed HTTP version")),
    }
}

const BAD_LINE: Fault = Fault::BadRequest("a malformed request line");
const NO_VERSION: Fault = Fault::BadRequest("a request line without a version");

/// Reads a complete head; answers how the content is framed.
fn read_head(
    bytes: &[u8],
    found: &Found,
    limits: &Limits,
    request: &mut Request,
    replaced_host: &mut Vec<u8>,
) -> Result<Framing, Fault> {
    let line = RequestLine::read(&bytes[found.line.clone()])?;
    request.begin(line.method, line.target, line.version);
    let mut said = Said::default();
    let mut hosts = 0;
    let is_plain = read_fields(&bytes[found.fields..found.end], limits, |name, value| {
        request.read_field(name, value);
        if name.eq_ignore_ascii_case("host") {
            hosts += 1;
            if !target::is_host_field(value) {
                return Err(Fault::BadRequest("a malformed Host"));
            }
        }
        said.take(name, value)
    })?;
    match hosts {
        0 if line.version != Version::Http10 => return Err(Fault::BadRequest("no Host")),
        0 | 1 => {}
        _ => return Err(Fault::BadRequest("more than one Host")),
    }
    let framing = said.framing(line.version)?.unwrap_or_default();
    if !is_plain {
        request.mark_edited();
    }
    // Such content has no meaning (RFC 9110 section 9.3.6): some would take it for what is sent through.
    if line.method == "CONNECT" && !matches!(framing, Framing::None | Framing::Length(0)) {
        return Err(Fault::BadRequest("content of a CONNECT"));
    }
    if let (Some(authority), Some(host)) =
        (target::authority(line.method, line.target), request.fields().get("host"))
        && !host.eq_ignore_ascii_case(authority.as_bytes())
    {
        replaced_host.extend_from_slice(host);
        request.fields_mut().set("Host", authority.as_bytes());
    }
    Ok(framing)
}
