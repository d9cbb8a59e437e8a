//! The fields of a head, and what they say about the message's content (RFC 9112 sections 5 and 6).
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

use httparse::{EMPTY_HEADER, Error, Status};

use super::{Fault, Limits, MOST_FIELDS, is_token};
use crate::message::{Framing, Version};

/// Reads fields, which reach to the end of `bytes` with the empty line behind them; shows each to `take`. Answers whether those
/// that frame the message are all spelled as everybody spells them.
pub(super) fn read_fields(
    bytes: &[u8],
    limits: &Limits,
    mut take: impl FnMut(&str, &[u8]) -> Result<(), Fault>,
) -> Result<bool, Fault> {
    let mut fields = [EMPTY_HEADER; MOST_FIELDS];
    let most = limits.fields.min(MOST_FIELDS);
    match httparse::parse_headers(bytes, &mut fields[..most]) {
        Ok(Status::Complete((length, fields))) if length == bytes.len() => {
            fields.iter().try_fold(true, |plain, field| {
                take(field.name, field.value)?;
                Ok(plain && (!frames(field.name.as_bytes()) || is_plain(bytes, field.value)))
            })
        }
        Ok(_) => Err(Fault::BadRequest("an empty line in a head")),
        Err(Error::TooManyHeaders) => Err(Fault::HeadTooLarge),
        Err(Error::HeaderName) => Err(Fault::BadRequest("a malformed field name")),
        Err(_) => Err(Fault::BadRequest("a malformed field value")),
    }
}

fn frames(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding")
}

/// Whether a value stands between a colon, maybe a blank, and the line's end: there are readers that keep tabs, or blanks behind
/// it, so that it is another value to them.
fn is_plain(bytes: &[u8], value: &[u8]) -> bool {
    let start = value.as_ptr().addr() - bytes.as_ptr().addr();
    let (before, behind) = (&bytes[..start], &bytes[start + value.len()..]);
    (before.ends_with(b":") || before.ends_with(b": ")) && behind.starts_with(b"\r\n")
}

/// What the fields of a head say about where the message ends.
#[derive(Debug, Default)]
pub(super) struct Said {
    length: Option<u64>,
    is_chunked: bool,
    has_other_coding: bool,
}

impl Said {
    /// Takes in a field. It must not say again, or otherwise, what another one said.
    pub(super) fn take(&mut self, name: &str, value: &[u8]) -> Result<(), Fault> {
        if name.eq_ignore_ascii_case("content-length") {
            match self.length.replace(content_length(value)?) {
                None => Ok(()),
                Some(_) => Err(Fault::BadRequest("more than one Content-Length")),
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            members(value).try_for_each(|coding| self.take_coding(coding))
        } else if name.eq_ignore_ascii_case("connection") {
            // Whoever obeys would pass the message on without its end, or to another host.
            let matters = |option: &[u8]| frames(option) || option.eq_ignore_ascii_case(b"host");
            match members(value).any(matters) {
                false => Ok(()),
                true => Err(Fault::BadRequest("a Connection field that names what frames the message")),
            }
        } else {
            Ok(())
        }
    }

    fn take_coding(&mut self, coding: &[u8]) -> Result<(), Fault> {
        if !is_token(coding) {
            return Err(Fault::BadRequest("a malformed transfer coding"));
        }
        if self.is_chunked {
            return Err(Fault::BadRequest("a transfer coding behind chunked"));
        }
        match coding.eq_ignore_ascii_case(b"chunked") {
            true => self.is_chunked = true,
            false => self.has_other_coding = true,
        }
        Ok(())
    }

    /// How the content is framed; `None`: nothing is said about it.
    pub(super) fn framing(&self, version: Version) -> Result<Option<Framing>, Fault> {
        if !self.is_chunked && !self.has_other_coding {
            return Ok(self.length.map(Framing::Length));
        }
        if self.length.is_some() {
            return Err(Fault::BadRequest("both a length and a transfer coding"));
        }
        if version == Version::Http10 {
            return Err(Fault::BadRequest("a transfer coding in HTTP/1.0"));
        }
        if self.has_other_coding { Err(Fault::TransferCoding) } else { Ok(Some(Framing::Chunked)) }
    }
}

/// The members of a list, empty ones included.
fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Digits only, of a number that signed numbers of 64 bits can hold, too.
pub(super) fn content_length(value: &[u8]) -> Result<u64, Fault> {
    let digits = str::from_utf8(value)
        .ok()
        .filter(|text| text.len() < 20 && text.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .and_then(|digits| digits.parse().ok())
        .filter(|&length| length <= i64::MAX as u64)
        .ok_or(Fault::BadRequest("a malformed Content-Length"))
}
