//! HTTP/1 requests of a stream, one after the other (RFC 9112): where each head is, which hosts it names, and where its
//! body ends.
//!
//! Runs on: proxy cores. Allocates: for the names in a head. Blocks: never.
//!
//! It serves to decide whether a request may reach a server, so it is strict: what two servers could read differently
//! (two lengths, two hosts, folded or badly delimited lines) is an error, not a guess.

use httparse::{EMPTY_HEADER, Request, Status};

/// Longest request head, in bytes.
pub(super) const LONGEST_HEAD: usize = 64 * 1024;

/// Longest host name, in bytes (RFC 1035 section 2.3.4).
pub(super) const LONGEST_NAME: usize = 255;

/// Most header fields in a head.
const MOST_FIELDS: usize = 128;

/// Longest chunk extension or trailer section, in bytes.
const LONGEST_EXTRA: u32 = 16 * 1024;

/// What a request head says, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The hosts that the target and the Host field name, in lower case, without port.
    pub hosts: Vec<String>,
    /// The answer to it has no body.
    pub is_head: bool,
    body: Body,
    /// Behind this request the stream may turn into something else (CONNECT, Upgrade).
    switches: bool,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Body {
    Length(u64),
    Chunked,
}

/// The next thing in a stream of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A head is incomplete: show it again, from its first byte, with more.
    More,
    /// A head of so many bytes, leading empty lines included.
    Head(Head, usize),
    /// So many bytes of a body.
    Body(usize),
    /// What follows need not be HTTP.
    Switched,
    /// Not to be understood, or not in one way only.
    Malformed(&'static str),
}

/// Follows a stream of requests.
#[derive(Debug, Default)]
pub(super) struct Requests {
    state: State,
    switches: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    Length(u64),
    Chunked(Chunked),
}

impl Requests {
    /// What `bytes`, the stream from where the last part ended, begin with. The first `seen` of them were shown before.
    /// `bytes` must not be empty.
    pub(super) fn next(&mut self, bytes: &[u8], seen: usize) -> Part {
        match &mut self.state {
            State::Head if std::mem::take(&mut self.switches) => Part::Switched,
            State::Head => self.head(bytes, seen),
            State::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= count as u64;
                if *left == 0 {
                    self.state = State::Head;
                }
                Part::Body(count)
            }
            State::Chunked(chunked) => match chunked.skip(bytes) {
                Ok((count, done)) => {
                    if done {
                        self.state = State::Head;
                    }
                    Part::Body(count)
                }
                Err(why) => Part::Malformed(why),
            },
        }
    }

    fn head(&mut self, bytes: &[u8], seen: usize) -> Part {
        let Some(length) = head_length(bytes, seen) else {
            return if bytes.len() > LONGEST_HEAD {
                Part::Malformed("a head that is too long")
            } else {
                Part::More
            };
        };
        match parse_head(&bytes[..length]) {
            Ok(head) => {
                self.switches = head.switches;
                self.state = match head.body {
                    Body::Length(0) => State::Head,
                    Body::Length(length) => State::Length(length),
                    Body::Chunked => State::Chunked(Chunked::default()),
                };
                Part::Head(head, length)
            }
            Err(why) => Part::Malformed(why),
        }
    }
}

/// The length of the head that `bytes` begin with, its empty line and leading empty lines included. No head ends within
/// the first `seen` bytes.
pub(super) fn head_length(bytes: &[u8], seen: usize) -> Option<usize> {
    let start = bytes.iter().position(|&byte| byte != b'\r' && byte != b'\n')?;
    // The last three bytes seen may be the beginning of the empty line.
    let from = start.max(seen.saturating_sub(3));
    memchr::memchr_iter(b'\n', &bytes[from..]).map(|at| from + at + 1).find_map(|next| match bytes[next..] {
        [b'\n', ..] => Some(next + 1),
        [b'\r', b'\n', ..] => Some(next + 2),
        _ => None,
    })
}

/// Reads a complete head.
pub(super) fn parse_head(bytes: &[u8]) -> Result<Head, &'static str> {
    let mut fields = [EMPTY_HEADER; MOST_FIELDS];
    let mut request = Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err("lines that end in two ways"),
        Err(httparse::Error::TooManyHeaders) => return Err("too many header fields"),
        Err(_) => return Err("a malformed head"),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err("a malformed head");
    };
    let mut fields = Fields::default();
    for field in request.headers.iter() {
        fields.take(field.name, field.value)?;
    }
    let body = match (fields.is_chunked, fields.length) {
        (true, Some(_)) => return Err("both a length and a transfer coding"),
        (true, None) if version == 0 => return Err("a transfer coding in HTTP/1.0"),
        (true, None) => Body::Chunked,
        (false, length) => Body::Length(length.unwrap_or(0)),
    };
    let hosts = [authority(method, target)?, fields.host].into_iter().flatten().collect();
    let switches = fields.upgrade || method == "CONNECT";
    Ok(Head { hosts, is_head: method == "HEAD", body, switches })
}

/// The header fields that matter, none of which may come twice.
#[derive(Default)]
struct Fields {
    host: Option<String>,
    length: Option<u64>,
    is_chunked: bool,
    upgrade: bool,
}

impl Fields {
    fn take(&mut self, name: &str, value: &[u8]) -> Result<(), &'static str> {
        let value = value.trim_ascii();
        if name.eq_ignore_ascii_case("host") {
            let host = host(str::from_utf8(value).map_err(|_| BAD_HOST)?)?;
            once(&mut self.host, host, "more than one Host")
        } else if name.eq_ignore_ascii_case("content-length") {
            once(&mut self.length, length(value)?, "more than one Content-Length")
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            // Chunked must come last, and once; other codings do not move the end of the body.
            let mut codings = value.rsplit(|&byte| byte == b',').map(<[u8]>::trim_ascii);
            let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
            if !codings.next().is_some_and(is_chunked) || !codings.all(is_plain_coding) {
                return Err("an unknown transfer coding");
            }
            match std::mem::replace(&mut self.is_chunked, true) {
                false => Ok(()),
                true => Err("more than one Transfer-Encoding"),
            }
        } else {
            self.upgrade |= name.eq_ignore_ascii_case("upgrade");
            Ok(())
        }
    }
}

fn once<T>(place: &mut Option<T>, value: T, otherwise: &'static str) -> Result<(), &'static str> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(otherwise),
    }
}

fn is_plain_coding(coding: &[u8]) -> bool {
    [&b"gzip"[..], b"deflate", b"compress"].iter().any(|known| coding.eq_ignore_ascii_case(known))
}

/// A Content-Length: digits only, and not beyond what fits.
fn length(value: &[u8]) -> Result<u64, &'static str> {
    let digits = str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or("a malformed Content-Length")
}

const BAD_HOST: &str = "a malformed host";

/// The host of a target in absolute or authority form (RFC 9112 section 3.2).
fn authority(method: &str, target: &str) -> Result<Option<String>, &'static str> {
    if target.starts_with('/') || target == "*" {
        return Ok(None);
    }
    let authority = match target.split_once("://") {
        Some((_, rest)) => rest.split(['/', '?', '#']).next().unwrap_or(rest),
        None if method == "CONNECT" => target,
        None => return Err("a malformed target"),
    };
    host(authority).map(Some)
}

/// The name in `host[:port]`, in lower case, without brackets and final dot.
fn host(text: &str) -> Result<String, &'static str> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(BAD_HOST)?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port_is_good = match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    let odd = |byte: u8| !byte.is_ascii_graphic() || b"/\\?#@,;[]\"'<>(){}|^`".contains(&byte);
    if !port_is_good || name.len() > LONGEST_NAME || name.bytes().any(odd) {
        return Err(BAD_HOST);
    }
    Ok(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase())
}

/// Finds the end of a chunked body (RFC 9112 section 7.1).
#[derive(Debug, Default)]
struct Chunked {
    state: Chunk,
    /// Bytes of extensions since the last chunk, or of trailers.
    extra: u32,
}

/// What comes next in a chunked body.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Chunk {
    Size { size: u64, digits: u8 },
    Extension { size: u64 },
    SizeFeed { size: u64 },
    Data(u64),
    DataReturn,
    DataFeed,
    TrailerStart,
    Trailer,
    TrailerFeed,
    LastFeed,
}

impl Default for Chunk {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

impl Chunked {
    /// How many of the bytes belong to the body, and whether it ends with them.
    fn skip(&mut self, bytes: &[u8]) -> Result<(usize, bool), &'static str> {
        let mut at = 0;
        while at < bytes.len() {
            if let Chunk::Data(left) = self.state {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += count;
                let left = left - count as u64;
                self.state = if left == 0 { Chunk::DataReturn } else { Chunk::Data(left) };
                continue;
            }
            let last = self.state == Chunk::LastFeed;
            self.state = self.step(bytes[at])?;
            at += 1;
            if last {
                return Ok((at, true));
            }
        }
        Ok((at, false))
    }

    /// The state behind one byte that is not data.
    fn step(&mut self, byte: u8) -> Result<Chunk, &'static str> {
        if matches!(self.state, Chunk::Extension { .. } | Chunk::Trailer | Chunk::TrailerStart) {
            self.extra += 1;
            if self.extra > LONGEST_EXTRA {
                return Err("a chunk extension or trailer that is too long");
            }
        }
        Ok(match (self.state, byte) {
            // Fifteen digits cannot overflow.
            (Chunk::Size { size, digits: digits @ ..15 }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                Chunk::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Chunk::Size { size, digits: 1.. }, b';') => Chunk::Extension { size },
            (Chunk::Size { size, digits: 1.. } | Chunk::Extension { size }, b'\r') => {
                Chunk::SizeFeed { size }
            }
            (Chunk::Extension { size }, other) if other != b'\n' => Chunk::Extension { size },
            (Chunk::SizeFeed { size: 0 }, b'\n') => Chunk::TrailerStart,
            (Chunk::SizeFeed { size }, b'\n') => {
                self.extra = 0;
                Chunk::Data(size)
            }
            (Chunk::DataReturn, b'\r') => Chunk::DataFeed,
            (Chunk::DataFeed, b'\n') => Chunk::default(),
            (Chunk::TrailerStart, b'\r') => Chunk::LastFeed,
            (Chunk::Trailer, b'\r') => Chunk::TrailerFeed,
            (Chunk::TrailerStart | Chunk::Trailer, other) if other != b'\n' => Chunk::Trailer,
            (Chunk::TrailerFeed, b'\n') => Chunk::TrailerStart,
            // The body ends here: the caller forgets the state.
            (Chunk::LastFeed, b'\n') => Chunk::default(),
            _ => return Err("a malformed chunked body"),
        })
    }
}

#[cfg(test)]
mod tests;
