//! A reader's rules, by the sections that have them, and another implementation's view of the same bytes.

use std::io::{self, Cursor, Read, Write};

use proptest::prelude::*;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Bytes, Message, WebSocket, error::ProtocolError};

use super::*;
use crate::fuzzing::{self, Seen, read_frames};
use crate::testkit;

/// One word for each frame: `.` behind the last of a message, `+` behind others.
fn words(frames: &[Seen]) -> Vec<String> {
    let word = |frame: &Seen| {
        let end = if frame.is_final { "." } else { "+" };
        format!("{:?}{end}{}", frame.opcode, frame.payload.escape_ascii())
    };
    frames.iter().map(word).collect()
}

const DEFLATE: Extensions = Extensions { beginning: 4, other: 0 };

#[test]
fn rfc6455_5_7_its_own_examples_are_read() {
    let unmasked = b"\x81\x05Hello\x01\x03Hel\x80\x02lo\x89\x05Hello";
    let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    for size in 1..=masked.len() {
        let (frames, fault) = read_frames(Stream::Second, Extensions::default(), unmasked, &[size]);
        assert_eq!(words(&frames), ["Text.Hello", "Text+Hel", "Continuation.lo", "Ping.Hello"]);
        assert_eq!(fault, None);
        let (frames, fault) = read_frames(Stream::First, Extensions::default(), masked, &[size]);
        assert_eq!(words(&frames), ["Text.Hello", "Pong.Hello"]);
        assert_eq!(fault, None);
    }
    for (head, length) in
        [(&b"\x82\x7e\x01\x00"[..], 256), (b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", 65536)]
    {
        let stream = [head, &vec![7; length]].concat();
        let (frames, fault) = read_frames(Stream::Second, Extensions::default(), &stream, &[stream.len()]);
        assert_eq!((frames.len(), frames[0].payload.len(), fault), (1, length, None));
    }
}

#[test]
fn rfc6455_5_what_an_endpoint_must_fail_for_is_a_fault() {
    for (stream, why) in [
        (&b"\x83"[..], "a frame with a reserved opcode"),
        (b"\x8b", "a frame with a reserved opcode"),
        (b"\x8f", "a frame with a reserved opcode"),
        (b"\xc1", "a reserved bit that no extension has a use for"),
        (b"\x91", "a reserved bit that no extension has a use for"),
        (b"\x09", "a control frame in fragments"),
        (b"\x89\x7e", "a control frame that is too long"),
        (b"\x88\x7f", "a control frame that is too long"),
        (b"\x81\x80", "a mask where none belongs, or none where one does"),
        (b"\x80", "a continuation of nothing"),
        (b"\x81\x00\x80", "a continuation of nothing"),
        (b"\x01\x00\x81", "a message within a message"),
        (b"\x82\x7e\x00\x7d", "a length that is not written as it should be"),
        (b"\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff", "a length that is not written as it should be"),
        (b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00", "a length that is not written as it should be"),
        (b"\x88\x01", "half a status code in a close frame"),
        (b"\x88\x00\x81", "data behind a close frame"),
    ] {
        for size in [1, stream.len()] {
            let (_, fault) = read_frames(Stream::Second, Extensions::default(), stream, &[size]);
            assert_eq!(fault, Some(Fault::Frame(why)), "{}", stream.escape_ascii());
            let (_, none) =
                read_frames(Stream::Second, Extensions::default(), &stream[..stream.len() - 1], &[size]);
            assert_eq!(none, None, "without its last byte: {}", stream.escape_ascii());
        }
    }
    let (_, fault) = read_frames(Stream::First, Extensions::default(), b"\x81\x05Hello", &[7]);
    assert_eq!(fault, Some(Fault::Frame("a mask where none belongs, or none where one does")));
}

#[test]
fn rfc6455_5_2_a_frame_may_be_longer_than_anybody_could_hold() {
    let (mut reader, mut scratch) = (FrameReader::new(Stream::First, Extensions::default()), [0; SCRATCH]);
    let mask = [1, 2, 3, 4];
    let head = [&b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff"[..], &mask].concat();
    let (taken, frame) = reader.next(&head, &mut scratch).expect("a head");
    assert_eq!((taken, frame), (head.len(), None));
    let mut offset = 0;
    for _ in 0..3 {
        let bytes: Vec<_> = (offset..offset + 5000).map(|at| mask[at % 4] ^ at as u8).collect();
        let (taken, frame) = reader.next(&bytes, &mut scratch).expect("payload");
        let frame = frame.expect("a piece");
        assert_eq!((taken, frame.payload.len(), frame.end), (SCRATCH, SCRATCH, false));
        assert_eq!((frame.length, frame.offset), (i64::MAX as u64, offset as u64));
        assert!(frame.payload.iter().zip(offset..).all(|(&byte, at)| byte == at as u8));
        offset += taken;
    }
}

#[test]
fn rfc6455_5_4_control_frames_may_stand_within_a_message_and_behind_a_close() {
    let stream = b"\x01\x01a\x89\x00\x00\x01b\x8a\x01c\x80\x01d\x88\x02\x03\xe8\x8a\x00";
    let (frames, fault) = read_frames(Stream::Second, Extensions::default(), stream, &[1]);
    let expected =
        ["Text+a", "Ping.", "Continuation+b", "Pong.c", "Continuation.d", "Close.\\x03\\xe8", "Pong."];
    assert_eq!((words(&frames), fault), (expected.map(str::to_owned).to_vec(), None));
}

#[test]
fn rfc6455_9_1_the_reserved_bits_are_those_of_the_extensions_that_the_server_chose() {
    let agreed = |extensions: &[&str]| {
        let fields: Vec<_> = extensions.iter().map(|value| ("Sec-WebSocket-Extensions", *value)).collect();
        Extensions::agreed(&testkit::response(101, &fields))
    };
    let any = Extensions { beginning: 7, other: 7 };
    assert_eq!(agreed(&[]), Extensions::default());
    assert_eq!(agreed(&["", " , "]), Extensions::default());
    assert_eq!(agreed(&["permessage-deflate"]), DEFLATE);
    assert_eq!(
        agreed(&["Permessage-Deflate ; client_no_context_takeover; server_max_window_bits=10"]),
        DEFLATE
    );
    assert_eq!(agreed(&["x-unheard-of"]), any);
    assert_eq!(agreed(&["x-unheard-of, permessage-deflate"]), any);
    assert_eq!(agreed(&["permessage-deflate", "x-unheard-of; a=b"]), any);
}

#[test]
fn rfc7692_6_1_only_what_begins_a_message_says_that_it_is_compressed() {
    let (frames, fault) = read_frames(Stream::Second, DEFLATE, b"\x41\x01a\x89\x00\x80\x01b\xc2\x01c", &[1]);
    assert_eq!(fault, None);
    assert_eq!(frames.iter().map(|frame| frame.reserved).collect::<Vec<_>>(), [4, 0, 0, 4]);
    let unasked = Some(Fault::Frame("a reserved bit that no extension has a use for"));
    for stream in [&b"\x41\x01a\xc0"[..], b"\xc9", b"\xc8", b"\xa1", b"\x91"] {
        assert_eq!(
            read_frames(Stream::Second, DEFLATE, stream, &[1]).1,
            unasked,
            "{}",
            stream.escape_ascii()
        );
    }
}

/// The other implementation's end of a connection: what it is sent is there already, what it sends is kept.
#[derive(Default)]
struct Pipe {
    input: Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The other implementation as the one who sends a stream, or gets it.
fn end(role: Role, input: &[u8]) -> WebSocket<Pipe> {
    let pipe = Pipe { input: Cursor::new(input.to_vec()), output: Vec::new() };
    // It makes room for a whole frame as soon as it knows its length.
    let config = WebSocketConfig::default().max_frame_size(Some(1 << 20)).read_buffer_size(256);
    WebSocket::from_raw_socket(pipe, role, Some(config))
}

const fn roles(sender: Stream) -> [Role; 2] {
    match sender {
        Stream::First => [Role::Client, Role::Server],
        Stream::Second => [Role::Server, Role::Client],
    }
}

/// Opcode and content of each message and control frame that is whole.
type Messages = Vec<(Opcode, Vec<u8>)>;

fn messages(frames: &[Seen]) -> Messages {
    let (mut messages, mut open): (Messages, _) = (Vec::new(), None);
    for frame in frames.iter().filter(|frame| frame.is_whole()) {
        let payload = frame.payload.clone();
        if frame.opcode.is_control() {
            messages.push((frame.opcode, payload));
            continue;
        }
        let (_, content): &mut (Opcode, Vec<u8>) = open.get_or_insert((frame.opcode, Vec::new()));
        content.extend(payload);
        if frame.is_final {
            messages.extend(open.take());
        }
    }
    messages
}

/// What the other implementation reads in a stream, and how that ends.
fn messages_of_the_other(sender: Stream, stream: &[u8]) -> (Messages, tungstenite::Error) {
    let mut socket = end(roles(sender)[1], stream);
    let mut messages = Vec::new();
    loop {
        messages.push(match socket.read() {
            Ok(Message::Text(text)) => (Opcode::Text, text.as_bytes().to_vec()),
            Ok(Message::Binary(bytes)) => (Opcode::Binary, bytes.to_vec()),
            Ok(Message::Ping(bytes)) => (Opcode::Ping, bytes.to_vec()),
            Ok(Message::Pong(bytes)) => (Opcode::Pong, bytes.to_vec()),
            // It makes codes that are not allowed into others.
            Ok(Message::Close(_)) => (Opcode::Close, Vec::new()),
            Ok(Message::Frame(_)) => unreachable!("nothing reads as such"),
            Err(error) => return (messages, error),
        });
    }
}

fn without_codes(mut messages: Messages) -> Messages {
    for (opcode, content) in &mut messages {
        if *opcode == Opcode::Close {
            content.clear();
        }
    }
    messages
}

/// A message in so many fragments, or a control frame.
fn frames_of_a_message() -> impl Strategy<Value = Vec<Message>> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        prop::collection::vec(any::<u8>(), 120..130),
        (65_530_usize..65_540).prop_map(|length| vec![0x5a; length]),
    ];
    let fragments = prop::collection::vec(payload, 1..4);
    let data = fragments.prop_map(|fragments| {
        let last = fragments.len() - 1;
        let fragments = fragments.into_iter().enumerate().map(|(place, fragment)| {
            let opcode = if place == 0 { Data::Binary } else { Data::Continue };
            let frame =
                tungstenite::protocol::frame::Frame::message(fragment, OpCode::Data(opcode), place == last);
            Message::Frame(frame)
        });
        fragments.collect()
    });
    let ping = prop::collection::vec(any::<u8>(), 0..=125)
        .prop_map(|payload| vec![Message::Ping(Bytes::from(payload))]);
    let text = ".{0,200}".prop_map(|text| vec![Message::text(text)]);
    prop_oneof![data, ping, text, Just(vec![Message::Pong(Bytes::new())])]
}

fn sender() -> impl Strategy<Value = Stream> {
    prop::sample::select(vec![Stream::First, Stream::Second])
}

/// Bytes of which many are heads.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let heads = b"\x00\x01\x02\x08\x09\x80\x81\x82\x88\x89\x8a\x7e\x7f\xfe\xff\xc1".to_vec();
    prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(heads)], 0..80)
}

proptest! {
    #[test]
    fn what_another_implementation_sends_is_read_as_it_was_meant(
        sender in sender(),
        sent in prop::collection::vec(frames_of_a_message(), 0..8),
        sizes in prop::collection::vec(1_usize..3000, 1..10),
    ) {
        let mut socket = end(roles(sender)[0], &[]);
        for message in sent.into_iter().flatten() {
            socket.write(message).expect("written");
        }
        socket.close(None).expect("closed");
        socket.flush().expect("flushed");
        let stream = &socket.get_ref().output;
        let (frames, fault) = read_frames(sender, Extensions::default(), stream, &sizes);
        prop_assert_eq!(fault, None);
        let (expected, _) = messages_of_the_other(sender, stream);
        prop_assert_eq!(expected.last().map(|(opcode, _)| *opcode), Some(Opcode::Close));
        prop_assert_eq!(messages(&frames), expected);
    }

    #[test]
    fn hostile_bytes_are_read_as_another_implementation_reads_them_or_refused(
        sender in sender(),
        stream in hostile(),
    ) {
        let (frames, fault) = read_frames(sender, Extensions::default(), &stream, &[stream.len()]);
        let ours = without_codes(messages(&frames));
        let (theirs, error) = messages_of_the_other(sender, &stream);
        let common = ours.len().min(theirs.len());
        prop_assert_eq!(&ours[..common], &theirs[..common]);
        match error {
            // It ended, or the other one stopped there: text that is no text, lengths that it has no room for.
            tungstenite::Error::ConnectionClosed
            | tungstenite::Error::Utf8(_)
            | tungstenite::Error::Capacity(_)
            | tungstenite::Error::Protocol(ProtocolError::ReceivedAfterClosing) => {}
            tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                prop_assert!(ours.len() == theirs.len() || fault.is_some(), "{:?} {:?}", ours, theirs);
            }
            error => prop_assert!(fault.is_some(), "{}", error),
        }
    }

    #[test]
    fn the_pieces_in_which_a_stream_comes_change_nothing(how in any::<u8>(), stream in hostile()) {
        fuzzing::websocket_frames(&[&[how], &stream[..]].concat());
    }
}
