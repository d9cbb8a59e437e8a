//! Heads and content as they are sent (RFC 9112): what was edited, framed the one way that fits.
//!
//! Runs on: proxy cores. Allocates: what `out` lacks. Blocks: never.
//!
//! Whatever a filter put into a message, it stays one message: bytes that would end a line or a word are not written.

use std::io::Write;

use super::heads::content_length;
use super::{is_token, is_token_byte};
use crate::fields::Fields;
use crate::message::{Framing, Request, Response, Version};

/// What a response says about the connection behind it (RFC 9112 section 9).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It goes on.
    Keep,
    /// It ends.
    Close,
    /// What the response says already.
    AsIs,
}

/// Appends a request's head. `Content-Length` and `Transfer-Encoding` are made to say `framing`, in their place; with
/// [`Framing::None`] there are none.
pub fn write_request(request: &Request, framing: Framing, out: &mut Vec<u8>) {
    write_token(request.method(), out);
    out.push(b' ');
    write_target(request.target(), out);
    out.push(b' ');
    let version = version(request.version(), framing);
    out.extend_from_slice(version);
    out.extend_from_slice(b"\r\n");
    // HTTP/1.1 asks for one, whatever the request came in (RFC 9112 section 3.2).
    if version != b"HTTP/1.0" && !request.fields().has("host") {
        write_field("Host", request.authority().as_bytes(), out);
    }
    let framing = match framing {
        // No request ends with the connection.
        Framing::None | Framing::UntilClose => Said::Nothing,
        Framing::Length(length) => Said::Length(length),
        Framing::Chunked => Said::Chunked,
    };
    write_fields(request.fields(), framing, Connection::AsIs, out);
}

/// Appends a response's head. `Content-Length` and `Transfer-Encoding` are made to say `framing`, in their place. With
/// [`Framing::None`] they are left out where the status allows none (1xx, 204), and left as they are elsewhere: they speak of
/// the content that a `GET` would have had. With [`Framing::UntilClose`], [`Connection::Close`] is what is said.
pub fn write_response(response: &Response, framing: Framing, connection: Connection, out: &mut Vec<u8>) {
    out.extend_from_slice(version(response.version(), framing));
    out.push(b' ');
    write_number(u64::from(response.status()), out);
    out.push(b' ');
    write_text(response.reason().as_bytes(), out);
    out.extend_from_slice(b"\r\n");
    let (framing, connection) = match framing {
        Framing::None if response.is_interim() || response.status() == 204 => (Said::Nothing, connection),
        Framing::None => (Said::AsIs, connection),
        Framing::UntilClose => (Said::Nothing, Connection::Close),
        Framing::Length(length) => (Said::Length(length), connection),
        Framing::Chunked => (Said::Chunked, connection),
    };
    write_fields(response.fields(), framing, connection, out);
}

/// Appends a chunk; nothing where there is no content, for an empty one would be the last.
pub fn write_chunk(content: &[u8], out: &mut Vec<u8>) {
    if !content.is_empty() {
        write!(out, "{:x}\r\n", content.len()).expect(TO_MEMORY);
        out.extend_from_slice(content);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the last chunk, and the trailer section: whole lines, as readers keep them, or nothing.
pub fn write_last_chunk(trailers: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}

const TO_MEMORY: &str = "invariant: writing to a vector cannot fail";

/// What a head is to say about content.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Said {
    Nothing,
    Length(u64),
    Chunked,
    AsIs,
}

/// HTTP/1.0 knows no chunks.
const fn version(version: Version, framing: Framing) -> &'static [u8] {
    match (version, framing) {
        (Version::Http10, Framing::None | Framing::Length(_) | Framing::UntilClose) => b"HTTP/1.0",
        _ => b"HTTP/1.1",
    }
}

/// Writes all fields, and the empty line.
fn write_fields(fields: &Fields, framing: Said, connection: Connection, out: &mut Vec<u8>) {
    let (mut has_framing, mut has_connection) = (false, false);
    for (name, value) in fields.iter() {
        if name.eq_ignore_ascii_case("content-length") && framing != Said::AsIs {
            if let Said::Length(length) = framing
                && !std::mem::replace(&mut has_framing, true)
            {
                match content_length(value) {
                    Ok(said) if said == length => write_field(name, value, out),
                    _ => write_length(name, length, out),
                }
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") && framing != Said::AsIs {
            if framing == Said::Chunked && !std::mem::replace(&mut has_framing, true) {
                let is_right = value.eq_ignore_ascii_case(b"chunked");
                write_field(name, if is_right { value } else { b"chunked" }, out);
            }
        } else if name.eq_ignore_ascii_case("connection") && connection != Connection::AsIs {
            if !std::mem::replace(&mut has_connection, true) {
                write_connection(name, fields, connection, out);
            }
        } else {
            write_field(name, value, out);
        }
    }
    match framing {
        Said::Length(length) if !has_framing => write_length("Content-Length", length, out),
        Said::Chunked if !has_framing => write_field("Transfer-Encoding", b"chunked", out),
        _ => {}
    }
    if !has_connection && connection != Connection::AsIs {
        write_connection("Connection", fields, connection, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// One `Connection` in place of all, with the other options that they had. That it goes on is said, too: HTTP/1.0 needs it.
fn write_connection(name: &str, fields: &Fields, connection: Connection, out: &mut Vec<u8>) {
    let own: &[u8] = if connection == Connection::Close { b"close" } else { b"keep-alive" };
    write_token(name, out);
    out.extend_from_slice(b": ");
    let is_persistence =
        |option: &[u8]| option.eq_ignore_ascii_case(b"close") || option.eq_ignore_ascii_case(b"keep-alive");
    for option in fields.list("connection").filter(|option| !is_persistence(option)) {
        write_text(option, out);
        out.extend_from_slice(b", ");
    }
    out.extend_from_slice(own);
    out.extend_from_slice(b"\r\n");
}

fn write_length(name: &str, length: u64, out: &mut Vec<u8>) {
    write_token(name, out);
    out.extend_from_slice(b": ");
    write_number(length, out);
    out.extend_from_slice(b"\r\n");
}

fn write_field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    write_token(name, out);
    out.extend_from_slice(b": ");
    write_text(value, out);
    out.extend_from_slice(b"\r\n");
}

fn write_number(number: u64, out: &mut Vec<u8>) {
    write!(out, "{number}").expect(TO_MEMORY);
}

/// Writes what must be a token (RFC 9110 section 5.6.2): any other byte as an underscore.
fn write_token(token: &str, out: &mut Vec<u8>) {
    if is_token(token.as_bytes()) {
        out.extend_from_slice(token.as_bytes());
    } else if token.is_empty() {
        out.push(b'_');
    } else {
        out.extend(token.bytes().map(|byte| if is_token_byte(byte) { byte } else { b'_' }));
    }
}

/// Writes a target: blanks, control bytes and `#` as percent signs have them.
fn write_target(target: &str, out: &mut Vec<u8>) {
    for byte in target.bytes() {
        match byte {
            0..=b' ' | 0x7f | b'#' => write!(out, "%{byte:02X}").expect(TO_MEMORY),
            _ => out.push(byte),
        }
    }
    if target.is_empty() {
        out.push(b'/');
    }
}

/// Writes a value or reason: line ends and other control bytes as blanks (RFC 9110 section 5.5).
fn write_text(text: &[u8], out: &mut Vec<u8>) {
    let is_control = |byte: u8| byte < b' ' && byte != b'\t' || byte == 0x7f;
    // All of them at once: looking for the first takes longer than what nearly always turns out.
    if text.iter().fold(false, |any, &byte| any | is_control(byte)) {
        out.extend(text.iter().map(|&byte| if is_control(byte) { b' ' } else { byte }));
    } else {
        out.extend_from_slice(text);
    }
}
