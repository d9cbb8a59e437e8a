//! Bodies of the fuzz targets, where plain tests can reach them, too: any bytes are a run, and a run checks promises.
//!
//! `proxy/fuzz` feeds them by libFuzzer, `tests/fuzz_corpus.rs` replays the corpus, the codec's property tests make up runs.

use pnat_shared::flow::Stream;

use crate::codec::write::{self, Connection};
use crate::codec::{Fault, Limits, Part, RequestReader, ResponseReader};
use crate::message::{Framing, Request, Response};
use crate::websocket::{Extensions, Frame, FrameReader, Opcode, SCRATCH};

mod http2;

pub use http2::http2;

/// The first byte says how the rest, a stream of requests, is cut. Pieces must not matter; and what is accepted, written again, is
/// accepted with the same meaning.
pub fn http_requests(data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else { return };
    let (messages, end) = read_requests(stream, stream.len());
    assert_eq!(read_requests(stream, usize::from(cut % 64) + 1), (messages.clone(), end), "cut otherwise");

    let mut again = Vec::new();
    for message in &messages {
        let framing = message.head.framing();
        write::write_request(&message.head, framing, &mut again);
        message.write_content(framing, &mut again);
    }
    let (read, end) = read_requests(&again, again.len());
    assert_eq!((read.len(), end), (messages.len(), End::Between), "{}", again.escape_ascii());
    for (read, message) in read.iter().zip(&messages) {
        assert!(!read.head.is_edited(), "one interpretation, and nothing to mend");
        assert_eq!(read.head, unedited(&message.head), "the head");
        assert_eq!((&read.content, &read.trailers), (&message.content, &message.trailers));
    }

    // Content framed otherwise is still the same content.
    again.clear();
    let chunks = |message: &Message<Request>| match message.head.framing() {
        Framing::None => Framing::None,
        // It has none, and says so.
        framing if message.head.method() == "CONNECT" => framing,
        Framing::Chunked => Framing::Length(message.content.len() as u64),
        _ => Framing::Chunked,
    };
    for message in &messages {
        write::write_request(&message.head, chunks(message), &mut again);
        message.write_content(chunks(message), &mut again);
    }
    let (read, end) = read_requests(&again, again.len());
    assert_eq!((read.len(), end), (messages.len(), End::Between), "{}", again.escape_ascii());
    for (read, message) in read.iter().zip(&messages) {
        assert_eq!((read.head.method(), read.head.target()), (message.head.method(), message.head.target()));
        assert_eq!((read.head.framing(), &read.content), (chunks(message), &message.content));
    }
}

/// The same for responses; the first byte also says what was asked.
pub fn http_responses(data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else { return };
    let (messages, end) = read_responses(stream, stream.len(), cut);
    assert_eq!(
        read_responses(stream, usize::from(cut % 64) + 1, cut),
        (messages.clone(), end),
        "cut otherwise"
    );

    // Where content ends with the stream, the head gets a field that says so: for another reader like this it may be one too many.
    let is_full = |message: &Message<Response>| {
        message.head.framing() == Framing::UntilClose && message.head.fields().len() >= Limits::USUAL.fields
    };
    if messages.iter().any(is_full) {
        return;
    }
    let mut again = Vec::new();
    for message in &messages {
        let framing = message.head.framing();
        write::write_response(&message.head, framing, Connection::AsIs, &mut again);
        message.write_content(framing, &mut again);
    }
    let (read, _) = read_responses(&again, again.len(), cut);
    assert_eq!(read.len(), messages.len(), "{}", again.escape_ascii());
    for (read, message) in read.iter().zip(&messages) {
        assert!(!read.head.is_edited(), "one interpretation, and nothing to mend");
        let mut expected = unedited_response(&message.head);
        if message.head.framing() == Framing::UntilClose {
            assert!(read.head.fields().lists("connection", "close"));
            expected.fields_mut().remove("connection");
            let mut found = read.head.clone();
            found.fields_mut().remove("connection");
            assert_eq!(found, expected, "the head");
        } else {
            assert_eq!(read.head, expected, "the head");
        }
        assert_eq!((&read.content, &read.trailers), (&message.content, &message.trailers));
    }
}

/// The first byte says who sends the rest, a stream of WebSocket frames, what was agreed on, and how it is cut. Pieces must not
/// matter; every byte belongs to a frame; and the frames, written again, are the same.
pub fn websocket_frames(data: &[u8]) {
    let Some((&how, stream)) = data.split_first() else { return };
    let sender = if how & 0x80 == 0 { Stream::First } else { Stream::Second };
    let mut agreed = Response::new(101, "Switching Protocols");
    match how >> 5 & 3 {
        0 => {}
        1 => agreed.fields_mut().push("Sec-WebSocket-Extensions", b"permessage-deflate"),
        _ => agreed.fields_mut().push("Sec-WebSocket-Extensions", b"unknown"),
    }
    let extensions = Extensions::agreed(&agreed);
    let (frames, fault) = read_frames(sender, extensions, stream, &[stream.len()]);
    let cut = read_frames(sender, extensions, stream, &[usize::from(how % 32) + 1]);
    assert_eq!(cut, (frames.clone(), fault), "cut otherwise");

    let again: Vec<_> = frames.iter().flat_map(|frame| frame.write(sender)).collect();
    let what_is_left = stream.len().checked_sub(again.len()).expect("no byte is of two frames");
    assert!(fault.is_some() || what_is_left <= 14, "a head at most");
    assert_eq!(read_frames(sender, extensions, &again, &[again.len()]), (frames, None));
}

/// A WebSocket's frame as far as it came, with all of its payload in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) opcode: Opcode,
    pub(crate) is_final: bool,
    pub(crate) reserved: u8,
    pub(crate) length: u64,
    pub(crate) payload: Vec<u8>,
}

impl Seen {
    pub(crate) const fn is_whole(&self) -> bool {
        self.payload.len() as u64 == self.length
    }

    /// As its sender writes it, with a mask that changes nothing.
    fn write(&self, sender: Stream) -> Vec<u8> {
        let opcode = match self.opcode {
            Opcode::Continuation => 0,
            Opcode::Text => 1,
            Opcode::Binary => 2,
            Opcode::Close => 8,
            Opcode::Ping => 9,
            Opcode::Pong => 10,
        };
        let masked = if sender == Stream::First { 0x80 } else { 0 };
        let mut bytes = vec![u8::from(self.is_final) << 7 | self.reserved << 4 | opcode];
        match self.length {
            0..126 => bytes.push(masked | self.length as u8),
            126..0x1_0000 => {
                bytes.push(masked | 126);
                bytes.extend((self.length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(masked | 127);
                bytes.extend(self.length.to_be_bytes());
            }
        }
        if masked != 0 {
            bytes.extend([0; 4]);
        }
        bytes.extend(&self.payload);
        bytes
    }
}

/// The frames of a stream that comes in pieces of these sizes, and what its reader stumbles over.
pub(crate) fn read_frames(
    sender: Stream,
    extensions: Extensions,
    stream: &[u8],
    sizes: &[usize],
) -> (Vec<Seen>, Option<Fault>) {
    let (mut reader, mut scratch) = (FrameReader::new(sender, extensions), [0; SCRATCH]);
    let mut frames: Vec<Seen> = Vec::new();
    let mut sizes = sizes.iter().copied().cycle();
    let mut stream = stream;
    while !stream.is_empty() {
        let (mut bytes, rest) = stream.split_at(sizes.next().unwrap_or(1).clamp(1, stream.len()));
        stream = rest;
        while !bytes.is_empty() {
            let (taken, frame) = match reader.next(bytes, &mut scratch) {
                Ok(read) => read,
                Err(fault) => return (frames, Some(fault)),
            };
            assert!(taken > 0, "it comes to an end");
            bytes = &bytes[taken..];
            let Some(Frame { opcode, is_final, reserved, length, offset, payload, end }) = frame else {
                continue;
            };
            assert_eq!(payload.is_empty(), length == 0);
            if offset == 0 {
                frames.push(Seen { opcode, is_final, reserved, length, payload: Vec::new() });
            }
            let seen = frames.last_mut().expect("a first piece");
            assert_eq!(offset, seen.payload.len() as u64);
            seen.payload.extend_from_slice(payload);
            assert_eq!(end, seen.is_whole());
        }
    }
    (frames, None)
}

/// A message that is complete.
#[derive(Clone, Debug, PartialEq)]
struct Message<H> {
    head: H,
    content: Vec<u8>,
    trailers: Vec<u8>,
}

impl<H> Message<H> {
    fn write_content(&self, framing: Framing, out: &mut Vec<u8>) {
        match framing {
            Framing::Chunked => {
                // More than one chunk where that is possible.
                let (first, rest) = self.content.split_at(self.content.len() / 2);
                write::write_chunk(first, out);
                write::write_chunk(rest, out);
                write::write_last_chunk(&self.trailers, out);
            }
            _ => out.extend_from_slice(&self.content),
        }
    }
}

/// How a stream ended.
#[derive(Copy, Clone, Debug, PartialEq)]
enum End {
    Between,
    /// Within a message, behind so many bytes of its content.
    Within(usize),
    /// By a fault, behind so many bytes of content.
    Fault(Fault, usize),
}

/// The messages of a stream that comes in pieces of so many bytes.
fn read<H: Clone>(
    stream: &[u8],
    piece: usize,
    message: &mut H,
    mut next: impl FnMut(&[u8], usize, &mut H) -> Result<(Part, Framing, Vec<u8>), Fault>,
) -> (Vec<Message<H>>, Option<Message<H>>, Option<Fault>) {
    let mut complete = Vec::new();
    let mut open: Option<Message<H>> = None;
    let (mut at, mut seen, mut came) = (0, 0, 0);
    while came < stream.len() {
        came = stream.len().min(came + piece);
        while at < came {
            let bytes = &stream[at..came];
            let (part, framing, trailers) = match next(bytes, seen, message) {
                Ok(part) => part,
                Err(fault) => return (complete, open, Some(fault)),
            };
            seen = 0;
            match part {
                Part::More => {
                    seen = bytes.len();
                    break;
                }
                Part::Head(length) => {
                    assert!(length <= bytes.len());
                    at += length;
                    let message = Message { head: message.clone(), content: vec![], trailers: vec![] };
                    match framing {
                        Framing::None | Framing::Length(0) => complete.push(message),
                        _ => open = Some(message),
                    }
                }
                Part::Content { taken, content, end } => {
                    assert!(taken > 0 && taken <= bytes.len() && content.end <= taken);
                    at += taken;
                    if let Some(message) = &mut open {
                        message.content.extend_from_slice(&bytes[content]);
                    }
                    if end {
                        complete.extend(open.take().map(|message| Message { trailers, ..message }));
                    }
                }
            }
        }
    }
    (complete, open, None)
}

fn read_requests(stream: &[u8], piece: usize) -> (Vec<Message<Request>>, End) {
    let mut reader = RequestReader::default();
    let limits = Limits::default();
    let (messages, open, fault) = read(stream, piece, &mut Request::new(), |bytes, seen, request| {
        let part = reader.next(bytes, seen, &limits, request)?;
        Ok((part, request.framing(), reader.trailers().to_vec()))
    });
    let content = open.map_or(0, |message| message.content.len());
    match fault {
        Some(fault) => (messages, End::Fault(fault, content)),
        None if reader.is_between() => (messages, End::Between),
        None => (messages, End::Within(content)),
    }
}

fn read_responses(stream: &[u8], piece: usize, asked: u8) -> (Vec<Message<Response>>, End) {
    let mut reader = ResponseReader::default();
    let limits = Limits::default();
    let mut number = 0;
    let mut ask = |reader: &mut ResponseReader| {
        number += 1;
        reader.expect(match (asked >> 6, number % 3) {
            (1, 0) | (2, _) => "HEAD",
            (3, 2) => "CONNECT",
            _ => "GET",
        });
    };
    ask(&mut reader);
    let (mut messages, open, fault) =
        read(stream, piece, &mut Response::default(), |bytes, seen, response| {
            let part = reader.next(bytes, seen, &limits, response)?;
            if matches!(part, Part::Head(_)) && !response.is_interim() {
                ask(&mut reader);
            }
            Ok((part, response.framing(), reader.trailers().to_vec()))
        });
    let content = open.as_ref().map_or(0, |message| message.content.len());
    match fault.map_or_else(|| reader.close(), Err) {
        Ok(true) => {
            messages.extend(open);
            (messages, End::Between)
        }
        Ok(false) => (messages, End::Between),
        Err(fault) => (messages, End::Fault(fault, content)),
    }
}

/// The same request as if it had come as it is now.
fn unedited(request: &Request) -> Request {
    let mut same = Request::new();
    same.begin(request.method(), request.target(), request.version());
    for (name, value) in request.fields().iter() {
        same.read_field(name, value);
    }
    same.read_framing(request.framing());
    same
}

/// The same response as if it had come as it is now.
fn unedited_response(response: &Response) -> Response {
    let mut same = Response::default();
    same.begin(response.status(), response.reason(), response.version());
    for (name, value) in response.fields().iter() {
        same.read_field(name, value);
    }
    same.read_framing(response.framing());
    same
}
