//! Behind an upgrade to WebSocket: who sees which frames, and what of them goes on.

use crossbeam_channel::{Receiver, Sender};
use proptest::prelude::*;

use super::*;
use crate::websocket::Frame;

const ASK: &[u8] = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
const AGREE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// What a filter was told.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    /// Filter, sender, where in its frame this piece begins, and its payload.
    Frame(&'static str, Stream, u64, Vec<u8>),
    Done(&'static str, Record),
}

/// Says what it is told, and ends the connection where it sees these bytes.
struct Sees {
    name: &'static str,
    sender: Sender<Told>,
    wants: bool,
    forbidden: Option<&'static [u8]>,
}

impl HttpFilter for Sees {
    fn wants_frames(&mut self, _call: &mut Call<'_>, request: &Request, response: &Response) -> bool {
        assert_eq!((request.path(), response.status()), ("/chat", 101));
        self.wants
    }

    fn frame(&mut self, call: &mut Call<'_>, sender: Stream, frame: &Frame<'_>) -> Content {
        if self.forbidden.is_some_and(|forbidden| frame.payload.starts_with(forbidden)) {
            call.exchange.verdict = Some("a word".into());
            return Content::Reset;
        }
        let told = Told::Frame(self.name, sender, frame.offset, frame.payload.to_vec());
        self.sender.send(told).expect("the test listens");
        Content::Go
    }

    fn done(
        &mut self,
        _call: &mut Call<'_>,
        _request: &Request,
        _response: Option<&Response>,
        record: &Record,
    ) {
        self.sender.send(Told::Done(self.name, record.clone())).expect("the test listens");
    }
}

/// A connection whose filters see frames as they say, by these names.
fn seen_by<const N: usize>(filters: [(&'static str, bool); N]) -> (Wire, Receiver<Told>) {
    let (sender, told) = crossbeam_channel::unbounded();
    let filter = |(name, wants)| {
        Box::new(Sees { name, sender: sender.clone(), wants, forbidden: None }) as Box<dyn HttpFilter>
    };
    (Wire::new(filters.map(filter).into()), told)
}

/// The payload of each frame as the filters saw it, by sender.
fn payloads(told: &Receiver<Told>) -> [Vec<Vec<u8>>; 2] {
    let mut payloads: [Vec<Vec<u8>>; 2] = Default::default();
    for told in told.try_iter() {
        let Told::Frame(_, sender, offset, payload) = told else { continue };
        let frames = &mut payloads[sender as usize];
        match frames.last_mut() {
            Some(frame) if offset > 0 => frame.extend(payload),
            _ => frames.push(payload),
        }
    }
    payloads
}

/// A frame that holds all of a message, as its sender writes it.
fn frame(sender: Stream, payload: &[u8]) -> Vec<u8> {
    framed(sender, 0x81, payload)
}

fn framed(sender: Stream, first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    let mask = if sender == Stream::First { 0x80 } else { 0 };
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => frame.push(mask | length as u8),
        Ok(length) => {
            frame.push(mask | 126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(mask | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    let key = if sender == Stream::First { [9, 8, 7, 6] } else { [0; 4] };
    if sender == Stream::First {
        frame.extend(key);
    }
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

fn from_client(payload: &[u8]) -> Vec<u8> {
    frame(Stream::First, payload)
}

fn from_server(payload: &[u8]) -> Vec<u8> {
    frame(Stream::Second, payload)
}

fn close(sender: Stream) -> Vec<u8> {
    framed(sender, 0x88, &1000_u16.to_be_bytes())
}

#[test]
fn frames_pass_as_they_came_and_the_filters_that_want_them_see_them_unmasked() {
    let (mut wire, told) = seen_by([("sees", true)]);
    wire.client(&[ASK, &from_client(b"ahead")].concat());
    assert_eq!(wire.to_server, ASK, "nobody knows yet what it is");
    wire.server(&[AGREE, &from_server(b"at once")].concat());
    wire.client(&from_client(b"then"));
    wire.server(&from_server(b""));
    assert_eq!(wire.to_server, [ASK, &from_client(b"ahead"), &from_client(b"then")].concat());
    assert_eq!(wire.to_client, [AGREE, &from_server(b"at once"), &from_server(b"")].concat());
    assert_eq!(
        payloads(&told),
        [vec![b"ahead".to_vec(), b"then".to_vec()], vec![b"at once".to_vec(), vec![]]]
    );
    assert_eq!(wire.end, End::Open);
}

#[test]
fn frames_of_a_client_meet_the_filters_in_order_and_those_of_a_server_in_reverse() {
    let (mut wire, told) = seen_by([("first", true), ("blind", false), ("last", true)]);
    wire.client(ASK);
    wire.server(AGREE);
    wire.client(&from_client(b"a"));
    wire.server(&from_server(b"b"));
    let names: Vec<_> = told
        .try_iter()
        .map(|told| match told {
            Told::Frame(name, sender, ..) => (name, sender),
            Told::Done(..) => panic!("the exchange is not over"),
        })
        .collect();
    let expected = [
        ("first", Stream::First),
        ("last", Stream::First),
        ("last", Stream::Second),
        ("first", Stream::Second),
    ];
    assert_eq!(names, expected);
}

#[test]
fn frames_that_nobody_wants_and_other_protocols_pass_unseen() {
    let agree = |protocol: &str| {
        format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n")
    };
    let ask_other = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n";
    for (wants, ask, protocol) in [
        (false, ASK, "websocket"),
        (true, ASK, "other"),
        (true, ask_other, "websocket"),
        (true, ask_other, "other"),
    ] {
        let (mut wire, told) = seen_by([("sees", wants)]);
        wire.client(ask);
        wire.server(agree(protocol).as_bytes());
        wire.client(b"whatever");
        wire.server(b"it is");
        assert_eq!(wire.end, End::Released, "{protocol}");
        assert!(wire.to_server.ends_with(b"whatever") && wire.to_client.ends_with(b"it is"));
        let told: Vec<_> = told.try_iter().collect();
        assert!(matches!(&told[..], [Told::Done(_, record)] if record.is_complete), "{told:?}");
    }
}

#[test]
fn nothing_is_held_and_nothing_copied() {
    let (mut wire, _told) = seen_by([("sees", true)]);
    wire.client(ASK);
    wire.server(AGREE);
    let frames = [from_client(&[7; 10_000]), from_client(b""), from_client(b"x")].concat();
    let mut look = |bytes: &[u8]| {
        let gateway = &mut TestGateway::default();
        let look = &mut Look { now: wire.now, gateway, bytes, end: false, room: [usize::MAX; 2] };
        wire.connection.on_request(look)
    };
    for bytes in [&frames[..], &frames[..1], &frames[1..9000], &frames[9000..]] {
        let outcome = look(bytes);
        assert_eq!(outcome.pieces, [Piece::Pass(bytes.len())]);
        assert_eq!((outcome.wake, outcome.again, outcome.end), (None, false, End::Open));
    }
}

#[test]
fn a_filter_ends_the_connection_before_the_bytes_pass_that_it_objects_to() {
    let (sender, _told) = crossbeam_channel::unbounded();
    let forbids = Sees { name: "forbids", sender: sender.clone(), wants: true, forbidden: Some(b"no") };
    let sees = Sees { name: "sees", sender, wants: true, forbidden: None };
    let mut wire = Wire::new(vec![Box::new(sees), Box::new(forbids)]);
    wire.client(ASK);
    wire.server(AGREE);
    wire.client(&from_client(b"yes"));
    wire.client(&from_client(b"no"));
    assert_eq!(wire.end, End::Reset(Why::Filter));
    assert!(wire.to_server.ends_with(&from_client(b"yes")));
    assert_eq!(wire.connection.exchange().verdict.as_deref(), Some("f1: a word"));
}

#[test]
fn what_is_no_frame_ends_the_connection_with_who_sent_it() {
    let (mut wire, _told) = seen_by([("sees", true)]);
    wire.client(ASK);
    wire.server(AGREE);
    wire.client(b"\x81\x02hi");
    assert!(matches!(wire.end, End::Reset(Why::Request(Fault::Frame(_)))), "{:?}", wire.end);
    let (mut wire, _told) = seen_by([("sees", true)]);
    wire.client(ASK);
    wire.server(&[AGREE, b"\x83\x00"].concat());
    assert!(matches!(wire.end, End::Reset(Why::Response(Fault::Frame(_)))), "{:?}", wire.end);
}

#[test]
fn rfc7692_compressed_messages_pass_where_both_sides_agreed_on_that() {
    let agree =
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    for (agree, passes) in [(&agree[..], true), (AGREE, false)] {
        let (mut wire, _told) = seen_by([("sees", true)]);
        wire.client(ASK);
        wire.server(agree);
        wire.client(&framed(Stream::First, 0xc1, b"packed"));
        assert_eq!(wire.end == End::Open, passes, "{:?}", wire.end);
    }
}

#[test]
fn rfc6455_7_1_4_an_exchange_is_complete_that_both_sides_have_closed() {
    let closes: [Vec<u8>; 2] = [close(Stream::First), close(Stream::Second)];
    for (ends, is_complete) in [
        ([&closes[0][..], &closes[1]], true),
        ([&closes[0], b""], false),
        ([b"", &closes[1]], false),
        ([&closes[0][..7], &closes[1]], false),
        ([b"\x81", b"\x81\x05Hel"], false),
        ([b"", b""], false),
    ] {
        let (mut wire, told) = seen_by([("sees", true)]);
        wire.client(ASK);
        wire.server(AGREE);
        wire.client(ends[0]);
        wire.server(ends[1]);
        wire.server_ends();
        wire.ended[0] = true;
        wire.look(Stream::First);
        assert_eq!(wire.end, End::Open, "whose end it is, the streams say");
        assert!(!told.try_iter().any(|told| matches!(told, Told::Done(..))), "too early");
        wire.now += Duration::from_secs(60);
        wire.connection.close(wire.now, &mut wire.gateway);
        wire.connection.close(wire.now, &mut wire.gateway);
        let Ok(Told::Done(_, record)) = told.try_recv() else { panic!("not told") };
        assert_eq!(told.try_recv().ok(), None, "once");
        assert_eq!((record.status, record.is_complete), (Some(101), is_complete), "{ends:?}");
        assert_eq!(record.ended, Duration::from_secs(60));
        assert_eq!(wire.held, [b"", b""], "all has gone on");
    }
}

#[test]
fn rfc9110_7_8_what_is_left_of_the_request_comes_before_the_frames() {
    let (mut wire, told) = seen_by([("sees", true)]);
    let ask = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 9\r\n\r\nsome ";
    wire.client(ask);
    wire.server(AGREE);
    wire.client(&[&b"text"[..], &from_client(b"hello")].concat());
    assert_eq!(wire.end, End::Open);
    assert_eq!(payloads(&told)[0], [b"hello"]);
}

/// Frames that a side sends: both streams, and which payloads filters are to see.
fn script() -> [(Vec<u8>, Vec<Vec<u8>>); 2] {
    [Stream::First, Stream::Second].map(|sender| {
        let long = vec![b'x'; 300];
        let stream = [
            frame(sender, b"hello"),
            framed(sender, 0x02, b"one"),
            framed(sender, 0x89, b"ping"),
            framed(sender, 0x00, b""),
            framed(sender, 0x80, b"two"),
            frame(sender, b""),
            framed(sender, 0x82, &long),
            close(sender),
        ];
        let payloads = [&b"hello"[..], b"one", b"ping", b"", b"two", b"", &long, &1000_u16.to_be_bytes()];
        (stream.concat(), payloads.map(<[u8]>::to_vec).to_vec())
    })
}

/// Sends all that in pieces of these sizes.
fn run_in_pieces(sizes: &[usize]) {
    let [(client, of_client), (server, of_server)] = script();
    let (client, server) = ([ASK, &client].concat(), [AGREE, &server].concat());
    let (mut wire, told) = seen_by([("sees", true)]);
    let mut sizes = sizes.iter().copied().cycle();
    let mut rests = [&client[..], &server[..]];
    while rests.iter().any(|rest| !rest.is_empty()) {
        let is_asked = !wire.to_server.is_empty();
        for stream in [Stream::First, Stream::Second] {
            let rest = &mut rests[stream as usize];
            if rest.is_empty() || (stream == Stream::Second && !is_asked) {
                continue;
            }
            let (piece, behind) = rest.split_at(sizes.next().unwrap_or(1).clamp(1, rest.len()));
            *rest = behind;
            match stream {
                Stream::First => wire.client(piece),
                Stream::Second => wire.server(piece),
            }
        }
    }
    assert_eq!(wire.end, End::Open);
    assert_eq!(payloads(&told), [of_client, of_server]);
    assert!(wire.to_server == client && wire.to_client == server, "what came went on");
}

#[test]
fn frames_cut_at_every_byte_are_the_same_to_filters_and_to_both_sides() {
    for size in 1..100 {
        run_in_pieces(&[size]);
    }
}

proptest! {
    #[test]
    fn frames_cut_anywhere_are_the_same_to_filters_and_to_both_sides(
        sizes in proptest::collection::vec(1..400_usize, 1..20),
    ) {
        run_in_pieces(&sizes);
    }

    #[test]
    fn no_bytes_behind_an_upgrade_make_it_panic_or_wait_for_ever(
        client in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
        server in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
    ) {
        let (mut wire, _told) = seen_by([("sees", true)]);
        wire.client(ASK);
        wire.server(AGREE);
        for (client, server) in client.iter().zip(&server) {
            wire.client(client);
            wire.server(server);
        }
        wire.server_ends();
        wire.connection.close(wire.now, &mut wire.gateway);
    }
}
