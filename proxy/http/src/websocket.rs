//! WebSocket frames in the bytes of one direction, behind the 101 that began them (RFC 6455 section 5).
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.
//!
//! A reader holds nothing back: it knows the bytes of a head, at most 14, and of a payload how much is still to come. What an
//! endpoint must fail the connection for is a [`Fault`]; only whether text is UTF-8 is left to who puts messages together.

use pnat_shared::flow::Stream;

use crate::codec::Fault;
use crate::message::Response;

/// A piece of a frame, as it passes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub opcode: Opcode,
    /// FIN: it is the last of its message.
    pub is_final: bool,
    /// The three bits that extensions may use, RSV1 as 4: with permessage-deflate, 4 tells a compressed message (RFC 7692
    /// section 6).
    pub reserved: u8,
    /// Bytes of payload of the whole frame: up to 2^63 - 1.
    pub length: u64,
    /// Where in its payload this piece begins; 0 for the first one of each frame and no other.
    pub offset: u64,
    /// Without its mask. Empty only where the frame's is.
    pub payload: &'a [u8],
    /// The frame ends with this piece.
    pub end: bool,
}

impl Frame<'_> {
    /// Whether a message of text or binary data ends with this piece.
    pub const fn ends_message(&self) -> bool {
        self.end && self.is_final && !self.opcode.is_control()
    }
}

/// What a frame is (RFC 6455 section 5.2).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// It goes on with the message that a text or binary frame began.
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    /// Whether it may stand between the frames of a message.
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    const fn begins_message(self) -> bool {
        matches!(self, Self::Text | Self::Binary)
    }

    /// That of a head's first byte.
    const fn read(first: u8) -> Result<Self, Fault> {
        Ok(match first & 0xf {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return Err(Fault::Frame("a frame with a reserved opcode")),
        })
    }
}

/// The reserved bits that frames may have by the extensions which both sides agreed on (RFC 6455 section 9.1).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// Of frames that begin a message, as [`Frame::reserved`] has them.
    beginning: u8,
    /// Of all others.
    other: u8,
}

impl Extensions {
    /// Those that a server has chosen in its 101. What one does that is unknown here, nobody can tell: it may set all bits.
    pub fn agreed(response: &Response) -> Self {
        let mut agreed = Self::default();
        for extension in response.fields().list("sec-websocket-extensions") {
            let name = extension.split(|&byte| byte == b';').next().unwrap_or_default();
            if name.trim_ascii().eq_ignore_ascii_case(b"permessage-deflate") {
                agreed.beginning |= 4;
            } else {
                agreed = Self { beginning: 7, other: 7 };
            }
        }
        agreed
    }
}

/// Room for payload without its mask, in bytes: where there is one, a piece is no longer.
pub const SCRATCH: usize = 4096;

/// Longest head: two bytes, a length of eight, a mask.
const LONGEST_HEAD: usize = 14;

/// Longest payload of a control frame (RFC 6455 section 5.5).
const LONGEST_CONTROL: u8 = 125;

/// Follows the frames that one side sends.
#[derive(Debug)]
pub struct FrameReader {
    sender: Stream,
    extensions: Extensions,
    /// The bytes of a head that have come.
    head: [u8; LONGEST_HEAD],
    filled: usize,
    /// The frame whose head is complete, and what has passed of its payload.
    frame: Option<(Head, u64)>,
    is_within_message: bool,
    has_closed: bool,
}

/// The head of a frame.
#[derive(Copy, Clone, Debug)]
struct Head {
    opcode: Opcode,
    is_final: bool,
    reserved: u8,
    length: u64,
    mask: Option<[u8; 4]>,
}

impl FrameReader {
    /// `sender`: the stream that is read; [`Stream::First`] is the client's, which is masked.
    pub const fn new(sender: Stream, extensions: Extensions) -> Self {
        Self {
            sender,
            extensions,
            head: [0; LONGEST_HEAD],
            filled: 0,
            frame: None,
            is_within_message: false,
            has_closed: false,
        }
    }

    /// Reads on in `bytes`, the stream from where it stopped. Answers how many of them it took, at least one of any, and the piece
    /// of a frame that these end with: none where a head is incomplete, or nothing of its payload there.
    pub fn next<'a>(
        &mut self,
        bytes: &'a [u8],
        scratch: &'a mut [u8; SCRATCH],
    ) -> Result<(usize, Option<Frame<'a>>), Fault> {
        let (mut taken, mut bytes) = (0, bytes);
        let (head, offset) = loop {
            if let Some(frame) = self.frame {
                break frame;
            }
            let Some((&byte, rest)) = bytes.split_first() else { return Ok((taken, None)) };
            self.take_head(byte)?;
            (taken, bytes) = (taken + 1, rest);
        };
        let left = head.length - offset;
        if bytes.is_empty() && left > 0 {
            return Ok((taken, None));
        }
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let payload = match head.mask {
            None => &bytes[..count],
            Some(mask) => {
                let count = count.min(scratch.len());
                let payload = &mut scratch[..count];
                payload.copy_from_slice(&bytes[..count]);
                unmask(mask, offset, payload);
                payload
            }
        };
        let offset_behind = offset + payload.len() as u64;
        let end = offset_behind == head.length;
        self.frame = Some((head, offset_behind)).filter(|_| !end);
        self.has_closed |= end && head.opcode == Opcode::Close;
        let Head { opcode, is_final, reserved, length, .. } = head;
        let frame = Frame { opcode, is_final, reserved, length, offset, payload, end };
        Ok((taken + payload.len(), Some(frame)))
    }

    /// Whether its sender has said that it sends no more data (RFC 6455 section 5.5.1).
    pub const fn has_closed(&self) -> bool {
        self.has_closed
    }

    fn take_head(&mut self, byte: u8) -> Result<(), Fault> {
        self.head[self.filled] = byte;
        self.filled += 1;
        match self.filled {
            1 => self.check_first(byte)?,
            2 => self.check_second(byte)?,
            _ => {}
        }
        if self.filled == self.head_length() {
            self.frame = Some((self.read_head()?, 0));
            self.filled = 0;
        }
        Ok(())
    }

    /// How long the head is, as far as it is known.
    const fn head_length(&self) -> usize {
        if self.filled < 2 {
            return 2;
        }
        let length = match self.head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if self.head[1] & 0x80 != 0 { 4 } else { 0 }
    }

    fn check_first(&mut self, first: u8) -> Result<(), Fault> {
        let (opcode, is_final) = (Opcode::read(first)?, first & 0x80 != 0);
        let allowed = if opcode.begins_message() { self.extensions.beginning } else { self.extensions.other };
        if reserved(first) & !allowed != 0 {
            return Err(Fault::Frame("a reserved bit that no extension has a use for"));
        }
        if opcode.is_control() {
            return if is_final { Ok(()) } else { Err(Fault::Frame("a control frame in fragments")) };
        }
        if self.has_closed {
            return Err(Fault::Frame("data behind a close frame"));
        }
        if opcode.begins_message() == self.is_within_message {
            return Err(Fault::Frame(match self.is_within_message {
                true => "a message within a message",
                false => "a continuation of nothing",
            }));
        }
        self.is_within_message = !is_final;
        Ok(())
    }

    fn check_second(&self, second: u8) -> Result<(), Fault> {
        if (second & 0x80 != 0) != (self.sender == Stream::First) {
            return Err(Fault::Frame("a mask where none belongs, or none where one does"));
        }
        if Opcode::read(self.head[0])?.is_control() && second & 0x7f > LONGEST_CONTROL {
            return Err(Fault::Frame("a control frame that is too long"));
        }
        Ok(())
    }

    /// The head, which is complete.
    fn read_head(&self) -> Result<Head, Fault> {
        let [first, second, rest @ ..] = self.head;
        let [a, b, c, d, e, f, g, h, mask @ ..] = rest;
        let (length, least, mask) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes([a, b])), 126, [c, d, e, f]),
            127 => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 1 << 16, mask),
            length => (u64::from(length), 0, [a, b, c, d]),
        };
        if length < least || length > i64::MAX as u64 {
            return Err(Fault::Frame("a length that is not written as it should be"));
        }
        let opcode = Opcode::read(first)?;
        if opcode == Opcode::Close && length == 1 {
            return Err(Fault::Frame("half a status code in a close frame"));
        }
        let mask = (second & 0x80 != 0).then_some(mask);
        Ok(Head { opcode, is_final: first & 0x80 != 0, reserved: reserved(first), length, mask })
    }
}

const fn reserved(first: u8) -> u8 {
    first >> 4 & 7
}

/// Takes the mask off bytes that begin at `offset` of the payload (RFC 6455 section 5.3).
fn unmask(mut mask: [u8; 4], offset: u64, payload: &mut [u8]) {
    mask.rotate_left((offset % 4) as usize);
    let (fours, rest) = payload.as_chunks_mut::<4>();
    for four in fours {
        for (byte, key) in four.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
    for (byte, key) in rest.iter_mut().zip(mask) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests;
