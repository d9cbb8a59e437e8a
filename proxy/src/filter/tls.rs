//! The server name in a TLS ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3), in any number of segments and records.
//!
//! Runs on: proxy cores. Allocates: a copy of the hello. Blocks: never.
//!
//! It reads what a server could accept and no more of it than it must: a library that negotiates refuses hellos that other
//! servers take (old versions, missing extensions), and these must be judged, too. Under encrypted ClientHello
//! the name is the outer one.

/// Longest host name, in bytes (RFC 1035 section 2.3.4).
const LONGEST_NAME: usize = 255;

/// Longest hello, in bytes, and with the record headers around it.
const LONGEST: usize = 0xffff;
const LONGEST_RAW: usize = LONGEST + 16 * 1024;

/// Longest plaintext record (RFC 8446 section 5.1).
const LONGEST_RECORD: usize = 1 << 14;

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// What is known so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hello {
    /// The hello goes on.
    More,
    /// It is complete and names this server, in lower case; `None`: it names none.
    Name(Option<String>),
    Malformed(&'static str),
}

/// Puts a hello together.
#[derive(Debug, Default)]
pub(super) struct HelloReader {
    /// The current record's header, as far as it came.
    header: Vec<u8>,
    /// Bytes of the current record that are still to come.
    left: usize,
    /// The handshake message, without record headers.
    message: Vec<u8>,
    /// Bytes seen.
    raw: usize,
}

impl HelloReader {
    /// Takes in the next bytes of the stream, from its first on. Not to be called any more once it answered something other
    /// than [`Hello::More`].
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Hello {
        while !bytes.is_empty() {
            let wanted = if self.left > 0 { self.left } else { 5 - self.header.len() };
            let (taken, rest) = bytes.split_at(wanted.min(bytes.len()));
            bytes = rest;
            self.raw += taken.len();
            let result = if self.left > 0 { self.content(taken) } else { self.header(taken) };
            match result {
                Ok(None) if self.raw > LONGEST_RAW => return Hello::Malformed("too long"),
                Ok(None) => {}
                Ok(Some(name)) => return Hello::Name(name),
                Err(why) => return Hello::Malformed(why),
            }
        }
        Hello::More
    }

    fn header(&mut self, bytes: &[u8]) -> Result<Option<Option<String>>, &'static str> {
        self.header.extend_from_slice(bytes);
        if let &[kind, major, _, high, low] = &self.header[..] {
            self.left = usize::from(u16::from_be_bytes([high, low]));
            self.header.clear();
            if kind != HANDSHAKE_RECORD || major != 3 {
                return Err("a record that is not part of a handshake");
            }
            if self.left == 0 || self.left > LONGEST_RECORD {
                return Err("a record of an impossible length");
            }
        }
        Ok(None)
    }

    fn content(&mut self, bytes: &[u8]) -> Result<Option<Option<String>>, &'static str> {
        self.left -= bytes.len();
        self.message.extend_from_slice(bytes);
        let &[kind, a, b, c, ref body @ ..] = &self.message[..] else { return Ok(None) };
        if kind != CLIENT_HELLO {
            return Err("the first message is not a ClientHello");
        }
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > LONGEST {
            return Err("too long");
        }
        match body.get(..length) {
            None => Ok(None),
            Some(body) => server_name(body).map(Some),
        }
    }
}

/// The name in a ClientHello's body.
fn server_name(body: &[u8]) -> Result<Option<String>, &'static str> {
    const SHORT: &str = "shorter than it says";
    let mut hello = Reader(body);
    // Version and random; session, cipher suites, compression methods.
    hello.take(2 + 32).ok_or(SHORT)?;
    hello.short_vector().ok_or(SHORT)?;
    hello.vector().ok_or(SHORT)?;
    hello.short_vector().ok_or(SHORT)?;
    if hello.0.is_empty() {
        return Ok(None);
    }
    let mut extensions = Reader(hello.vector().ok_or(SHORT)?);
    if !hello.0.is_empty() {
        return Err("longer than it says");
    }
    let mut name = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number().ok_or(SHORT)?;
        let content = extensions.vector().ok_or(SHORT)?;
        if kind != SERVER_NAME {
            continue;
        }
        let mut names = Reader(Reader(content).vector().ok_or(SHORT)?);
        while !names.0.is_empty() {
            // Of names of a kind other than a host's, some servers say that nothing can be read behind them, others skip them.
            match (names.take(1), names.vector()) {
                (Some(&[HOST_NAME]), Some(_)) if name.is_some() => return Err("more than one server name"),
                (Some(&[HOST_NAME]), Some(host)) => name = Some(host_name(host)?),
                (Some(_), Some(_)) => {}
                _ if name.is_some() => break,
                _ => return Err(SHORT),
            }
        }
    }
    Ok(name)
}

fn host_name(bytes: &[u8]) -> Result<String, &'static str> {
    match str::from_utf8(bytes) {
        Ok(name)
            if (1..=LONGEST_NAME).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Ok(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase())
        }
        _ => Err("a server name that is none"),
    }
}

/// Reads TLS's presentation language (RFC 8446 section 3).
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A vector whose length takes two bytes.
    fn vector(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::from(length))
    }

    /// A vector whose length takes one byte.
    fn short_vector(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }
}

#[cfg(test)]
pub(super) mod tests;
