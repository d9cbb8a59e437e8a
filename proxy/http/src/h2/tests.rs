//! A client and a server of HTTP/2, with filters between them.

mod peers;

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use h2::Reason;
use http::HeaderMap;
use pnat_shared::time::Duration;
use proptest::prelude::*;

use super::*;
use crate::codec;
use crate::filter::{Call, Content, HttpFilter, Verdict};
use crate::message::{Answer, Request, Response, Version};
use crate::testkit::{SERVER, TestGateway, exchange};
use peers::{World, cascade, maker, played};

const GOAWAY: u8 = 7;

/// Adds a field to requests and to responses, and answers for one path by itself.
struct Marks;

impl HttpFilter for Marks {
    fn request(&mut self, _call: &mut Call<'_>, request: &mut Request) -> Verdict {
        assert_eq!(request.version(), Version::Http2);
        if request.path() == "/mine" {
            return Verdict::Answer(Box::new(Answer::page(403, "Forbidden", "no")));
        }
        let line = format!("{} {} {}", request.method(), request.host(), request.path());
        request.fields_mut().push("X-Seen", line.as_bytes());
        Verdict::Pass
    }

    fn response(&mut self, _call: &mut Call<'_>, _request: &Request, response: &mut Response) -> Verdict {
        response.fields_mut().push("X-Marked", b"yes");
        Verdict::Pass
    }
}

/// Writes content in capitals.
struct Capitals;

impl HttpFilter for Capitals {
    fn request(&mut self, _call: &mut Call<'_>, _request: &mut Request) -> Verdict {
        Verdict::Edit
    }

    fn request_body(&mut self, _call: &mut Call<'_>, bytes: &[u8], _end: bool, out: &mut Vec<u8>) -> Content {
        out.extend(bytes.to_ascii_uppercase());
        Content::Go
    }

    fn response(&mut self, _call: &mut Call<'_>, _request: &Request, _response: &mut Response) -> Verdict {
        Verdict::Edit
    }

    fn response_body(
        &mut self,
        _call: &mut Call<'_>,
        bytes: &[u8],
        _end: bool,
        out: &mut Vec<u8>,
    ) -> Content {
        out.extend(bytes.to_ascii_uppercase());
        Content::Go
    }
}

/// Waits for an answer to its ticket.
#[derive(Default)]
struct Waits {
    given: Option<u32>,
    has_asked: bool,
}

impl HttpFilter for Waits {
    fn request(&mut self, call: &mut Call<'_>, request: &mut Request) -> Verdict {
        if let Some(given) = self.given {
            request.fields_mut().push("X-Given", given.to_string().as_bytes());
            return Verdict::Pass;
        }
        if !std::mem::replace(&mut self.has_asked, true) {
            call.gateway.ticket().answer(Box::new(7_u32));
        }
        Verdict::Wait
    }

    fn answered(&mut self, _call: &mut Call<'_>, answer: Box<dyn Any + Send>) {
        self.given = answer.downcast().ok().map(|given| *given);
    }
}

/// Sends requests to the server whose last octet is their path.
struct Directs;

impl HttpFilter for Directs {
    fn request(&mut self, call: &mut Call<'_>, request: &mut Request) -> Verdict {
        let mut target = SERVER;
        target.set_port(request.path()[1..].parse().expect("a port"));
        call.exchange.target = Some(target);
        Verdict::Pass
    }
}

fn ok() -> http::Response<()> {
    http::Response::new(())
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), "0".parse().expect("a value"))])
}

#[test]
fn rfc9113_3_3_streams_are_exchanges_that_filters_see() {
    let mut world = World::new(|| vec![Box::new(Marks)]);
    let (first, mine, second) = (
        world.ask("POST", "/a", &[], Some(b"hello")),
        world.ask("GET", "/mine", &[], None),
        world.ask("GET", "/b?c", &[], None),
    );
    let heard = &mut world.servers[0].heard;
    assert_eq!(heard.len(), 2, "the server learns nothing of what a filter answers");
    assert_eq!(heard[0].head.headers["x-seen"], "POST www.example /a");
    assert_eq!(heard[0].told.content, b"hello");
    assert_eq!(
        (heard[1].head.uri.path_and_query().unwrap().as_str(), heard[1].head.uri.host()),
        ("/b?c", Some("www.example"))
    );
    // The later one is answered first.
    heard[1].respond(ok(), b"two", None);
    world.run();
    assert_eq!(world.asked[first].status(), None);
    world.servers[0].heard[0].respond(ok(), b"one", None);
    world.run();
    for (at, content) in [(first, &b"one"[..]), (second, b"two")] {
        let asked = &world.asked[at];
        assert_eq!(
            (asked.status(), asked.field("x-marked"), &*asked.told.content),
            (Some(200), Some("yes"), content)
        );
        assert!(asked.told.is_whole);
    }
    assert_eq!((world.asked[mine].status(), &*world.asked[mine].told.content), (Some(403), &b"no"[..]));
    assert_eq!((world.end, world.multiplex.host()), (End::Open, "www.example"));
}

#[test]
fn what_filters_answer_asks_no_server() {
    let mut world = World::new(|| vec![Box::new(Marks)]);
    for _ in 0..300 {
        let asked = world.ask("GET", "/mine", &[], None);
        assert_eq!(world.asked[asked].status(), Some(403));
    }
    assert!(world.to_server.is_empty());
}

/// An upload and a download of a megabyte each, at once, through filters that edit them.
fn exchange_of_a_megabyte(cut: usize, filters: peers::Filters) -> World {
    let mut world = World::new(filters);
    world.cut = cut;
    let content: Vec<u8> = (0..1_000_000_u32).map(|at| b'a' + (at % 23) as u8).collect();
    let asked = world.ask_with("POST", "/", &[("te", "trailers")], Some(&content), Some(trailers()));
    world.servers[0].heard[0].respond(ok(), &content, Some(trailers()));
    world.run();
    let upper = content.to_ascii_uppercase();
    let told = &world.asked[asked].told;
    assert!(
        told.is_whole && (told.content == content || told.content == upper),
        "{} bytes",
        told.content.len()
    );
    assert_eq!(told.trailers, Some(trailers()));
    let heard = &world.servers[0].heard[0].told;
    assert!(heard.is_whole && (heard.content == content || heard.content == upper));
    assert_eq!(heard.trailers, Some(trailers()));
    assert_eq!(world.servers[0].heard[0].head.headers["te"], "trailers");
    world
}

#[test]
fn rfc9113_5_2_content_flows_as_windows_open_and_trailers_follow_it() {
    for cut in [1 << 20, 16_384, 1000] {
        exchange_of_a_megabyte(cut, Vec::new);
        exchange_of_a_megabyte(cut, || vec![Box::new(Capitals)]);
    }
}

#[test]
fn exchanges_are_the_same_wherever_the_bytes_are_cut() {
    for cut in [1, 2, 3, 9, 10, 24, 33] {
        let mut world = World::new(|| vec![Box::new(Marks), Box::new(Capitals)]);
        world.cut = cut;
        let asked = world.ask("PUT", "/a", &[("cookie", "a=1"), ("cookie", "b=2")], Some(b"hello"));
        let heard = &mut world.servers[0].heard[0];
        assert_eq!(
            (&*heard.told.content, &heard.head.headers["cookie"]),
            (&b"HELLO"[..], &http::HeaderValue::from_static("a=1; b=2"))
        );
        heard.respond(ok(), b"world", None);
        world.run();
        assert_eq!(
            (&*world.asked[asked].told.content, world.asked[asked].told.is_whole),
            (&b"WORLD"[..], true),
            "{cut}"
        );
    }
}

#[test]
fn rfc9110_9_3_2_and_15_messages_without_content_are_told_as_such() {
    let mut world = World::new(|| vec![Box::new(Marks)]);
    for (method, status, length) in [
        ("HEAD", 200, Some("5")),
        ("GET", 204, None),
        ("GET", 304, Some("5")),
        ("GET", 200, Some("0")),
        ("DELETE", 404, None),
    ] {
        let asked = world.ask(method, "/", &[], None);
        let mut head = ok();
        *head.status_mut() = status.try_into().expect("a status");
        if let Some(length) = length {
            head.headers_mut().insert("content-length", length.parse().expect("a length"));
        }
        world.servers[0].heard[asked].respond(head, b"", None);
        world.run();
        let asked = &world.asked[asked];
        assert_eq!((asked.status(), asked.told.is_whole), (Some(status), true), "{method} {status}");
        assert_eq!(
            asked.field("content-length").filter(|length| *length != "0"),
            length.filter(|length| *length != "0")
        );
    }
}

#[test]
fn rfc9110_15_2_interim_responses_pass() {
    let mut world = World::new(|| vec![Box::new(Marks)]);
    let asked = world.ask("POST", "/", &[("expect", "100-continue")], Some(b"hello"));
    for status in [100, 103] {
        let mut interim = ok();
        *interim.status_mut() = status.try_into().expect("a status");
        world.servers[0].heard[0].respond.as_mut().expect("open").send_informational(interim).expect("sent");
        world.run();
    }
    world.servers[0].heard[0].respond(ok(), b"done", None);
    world.run();
    assert_eq!((&*world.asked[asked].interim, world.asked[asked].status()), (&[100, 103][..], Some(200)));
}

#[test]
fn rfc9113_5_4_2_a_client_that_resets_a_stream_has_it_reset_at_the_server() {
    let mut world = World::new(|| vec![Box::new(Marks)]);
    let (left, other) = (world.ask("GET", "/left", &[], None), world.ask("GET", "/other", &[], None));
    world.asked[left].drop_it();
    world.run();
    let respond = world.servers[0].heard[0].respond.as_mut().expect("open");
    let reset = respond.poll_reset(&mut transport::unwoken());
    assert!(matches!(reset, Poll::Ready(Ok(Reason::CANCEL))), "{reset:?}");
    world.servers[0].heard[1].respond(ok(), b"here", None);
    world.run();
    assert_eq!(world.asked[other].told.content, b"here");
}

#[test]
fn a_server_that_resets_a_stream_is_502_or_where_a_response_has_begun_a_reset() {
    let mut world = World::new(|| vec![Box::new(Marks)]);
    let (early, late) = (world.ask("GET", "/early", &[], None), world.ask("GET", "/late", &[], None));
    world.servers[0].heard[0].respond.as_mut().expect("open").send_reset(Reason::INTERNAL_ERROR);
    let heard = &mut world.servers[0].heard[1];
    let mut frames = heard.respond.as_mut().expect("open").send_response(ok(), false).expect("sent");
    frames.send_data("begun".into(), false).expect("sent");
    world.run();
    frames.send_reset(Reason::INTERNAL_ERROR);
    world.run();
    assert_eq!(world.asked[early].status(), Some(502));
    let told = &world.asked[late].told;
    assert_eq!((&*told.content, told.is_whole), (&b"begun"[..], false));
    assert!(told.error.is_some());
    assert_eq!(world.end, End::Open, "other streams go on");
}

#[test]
fn rfc9113_8_1_a_server_may_answer_before_it_has_heard_all() {
    let mut world = World::new(|| vec![Box::new(Marks)]);
    // More than any window: it cannot all be on its way.
    world.servers_are_deaf = true;
    let asked = world.ask("POST", "/", &[], Some(&vec![b'x'; 4_000_000]));
    world.servers[0].heard[0].respond(ok(), b"enough", None);
    world.run();
    world.servers[0].heard[0].respond.as_mut().expect("open").send_reset(Reason::NO_ERROR);
    world.run();
    assert_eq!((world.asked[asked].status(), &*world.asked[asked].told.content), (Some(200), &b"enough"[..]));
}

#[test]
fn a_server_that_cannot_be_had_is_502_for_each_stream_that_needs_it() {
    let mut world = World::new(|| vec![Box::new(Marks)]);
    for target in ["/a", "/b"] {
        world.ask("GET", target, &[], None);
    }
    assert!(!world.multiplex.keeps_client(), "their server's end is theirs");
    let told = world.multiplex.server_failed(world.now, &mut world.gateway, Failure::Unreachable).concat();
    world.hear(&told);
    assert_eq!((world.asked[0].status(), world.asked[1].status()), (Some(502), Some(502)));
}

#[test]
fn a_filter_that_waits_goes_on_when_it_is_given_what_it_asked_for() {
    let mut world = World::new(|| vec![Box::<Waits>::default()]);
    world.ask("GET", "/1", &[], None);
    world.ask("GET", "/2", &[], None);
    assert!(world.to_server.is_empty());
    // The later one is served first.
    let mut answers: Vec<_> = world.gateway.answers.try_iter().collect();
    answers.reverse();
    for answer in answers {
        world.multiplex.given(world.now, &mut world.gateway, answer);
        world.pass(Duration::ZERO);
    }
    let paths: Vec<_> = world.servers[0].heard.iter().map(|heard| heard.head.uri.path().to_owned()).collect();
    assert_eq!(paths, ["/2", "/1"]);
    assert!(world.servers[0].heard.iter().all(|heard| heard.head.headers["x-given"] == "7"));
}

#[test]
fn streams_for_another_server_wait_a_moment_until_the_others_are_through() {
    let mut world = World::new(|| vec![Box::new(Directs)]);
    for target in ["/81", "/82", "/81"] {
        world.ask("GET", target, &[], None);
    }
    assert_eq!(
        (world.servers.len(), world.servers[0].heard.len()),
        (1, 2),
        "those for one share a connection"
    );
    assert_eq!(world.multiplex.target().map(|target| target.port()), Some(81));
    for at in 0..2 {
        world.servers[0].heard[at].respond(ok(), b"81", None);
    }
    world.run();
    world.pass(RESPITE);
    assert_eq!((world.servers.len(), world.multiplex.target().map(|target| target.port())), (2, Some(82)));
    world.servers[1].heard[0].respond(ok(), b"82", None);
    world.run();
    let contents: Vec<_> = world.asked.iter().map(|asked| asked.told.content.clone()).collect();
    assert_eq!(contents, [b"81", b"82", b"81"]);
}

#[test]
fn rfc9113_8_7_a_stream_for_another_server_than_the_one_in_use_is_welcome_by_another_connection() {
    let mut world = World::new(|| vec![Box::new(Directs)]);
    let (first, other) = (world.ask("GET", "/81", &[], None), world.ask("GET", "/82", &[], None));
    world.pass(Duration::from_millis(500));
    assert_eq!(world.asked[other].reason(), Some(Reason::REFUSED_STREAM));
    // The one in use goes on, and no more are asked for.
    world.servers[0].heard[0].respond(ok(), b"81", None);
    world.run();
    assert_eq!(world.asked[first].told.content, b"81");
    assert!(world.to_client.windows(4).any(|bytes| bytes[3] == GOAWAY));
}

#[test]
fn what_one_server_has_said_is_not_heard_as_the_next_ones() {
    let mut world = World::new(|| vec![Box::new(Directs)]);
    let (first, second) = (world.ask("GET", "/81", &[], None), world.ask("GET", "/82", &[], None));
    // A response, and behind it one to a stream that the next server will be asked by.
    world.servers[0].heard[0].respond(ok(), b"81", None);
    world.run();
    world.inject(flow::Stream::Second, &[0, 0, 1, 1, 0x5, 0, 0, 0, 1, 0x88]);
    world.pass(RESPITE);
    assert_eq!((world.asked[first].status(), world.asked[second].status()), (Some(200), None));
    world.servers[1].heard[0].respond(ok(), b"82", None);
    world.run();
    assert_eq!(world.asked[second].told.content, b"82");
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    let mut world = World::new(|| vec![Box::new(Marks)]);
    world.run();
    // A window of ten bytes for each stream, before anybody has asked for anything.
    world.inject(flow::Stream::Second, &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 10]);
    assert!(world.to_server.starts_with(codec::HTTP2_PREFACE));
    assert!(
        world.to_server.windows(9).any(|frame| frame == [0, 0, 0, 4, 1, 0, 0, 0, 0]),
        "it is acknowledged"
    );
}

#[test]
fn rfc9113_6_8_a_server_that_leaves_is_asked_anew_once_it_has_left() {
    let mut world = World::new(|| vec![Box::new(Marks)]);
    let first = world.ask("GET", "/1", &[], None);
    world.servers[0].connection.as_mut().expect("open").graceful_shutdown();
    world.run();
    let second = world.ask("GET", "/2", &[], None);
    assert_eq!(world.servers[0].heard.len(), 1, "it asked for no more");
    world.servers[0].heard[0].respond(ok(), b"one", None);
    world.run();
    assert_eq!(world.asked[first].told.content, b"one");
    assert!(world.multiplex.keeps_client());
    world.multiplex.parted();
    world.pass(RESPITE);
    world.servers[1].heard[0].respond(ok(), b"two", None);
    world.run();
    assert_eq!(world.asked[second].told.content, b"two");
}

#[test]
fn a_server_that_leaves_and_does_not_go_is_dropped() {
    let mut world = World::new(|| vec![Box::new(Marks)]);
    world.ask("GET", "/1", &[], None);
    world.servers[0].connection.as_mut().expect("open").graceful_shutdown();
    world.run();
    let second = world.ask("GET", "/2", &[], None);
    world.servers[0].heard[0].respond(ok(), b"one", None);
    world.run();
    assert!(world.has_left, "nothing of the first one is awaited any more");
    world.pass(Duration::ZERO);
    world.servers[1].heard[0].respond(ok(), b"two", None);
    world.run();
    assert_eq!(world.asked[second].told.content, b"two");
}

#[test]
fn a_server_that_breaks_the_rules_is_dropped_and_the_client_asked_to_come_again() {
    let mut world = World::new(|| vec![Box::new(Marks)]);
    let first = world.ask("GET", "/1", &[], None);
    // Data of a stream that nobody has opened.
    world.inject(flow::Stream::Second, &[0, 0, 1, 0, 0, 0, 0, 0, 9, b'x']);
    world.run();
    assert_eq!(world.asked[first].status(), Some(502));
    assert!(matches!(world.multiplex.take_ends()[..], [Why::Response(_), Why::Server(Failure::Unreachable)]));
    assert!(world.to_client.windows(4).any(|bytes| bytes[3] == GOAWAY));
}

#[test]
fn a_stream_whose_server_does_not_answer_in_time_is_told_504_and_the_others_go_on() {
    let mut world = World::new(|| vec![Box::new(Marks)]);
    let first = world.ask("GET", "/1", &[], None);
    world.pass(Duration::from_secs(30));
    let second = world.ask("GET", "/2", &[], None);
    world.pass(Duration::from_secs(30));
    assert_eq!((world.asked[first].status(), world.asked[second].status()), (Some(504), None));
    world.servers[0].heard[1].respond(ok(), b"two", None);
    world.run();
    assert_eq!(world.asked[second].told.content, b"two");
    assert!(!world.has_left, "other streams are with the server");
}

#[test]
fn a_server_that_has_not_looked_at_a_request_leaves_it_to_the_client_to_ask_again() {
    let mut world = World::new(|| vec![Box::new(Marks)]);
    let asked = world.ask("POST", "/", &[], Some(b"x"));
    world.servers[0].heard[0].respond.as_mut().expect("open").send_reset(Reason::REFUSED_STREAM);
    world.run();
    assert_eq!(
        (world.asked[asked].status(), world.asked[asked].reason()),
        (None, Some(Reason::REFUSED_STREAM))
    );
}

#[test]
fn a_server_that_ends_a_stream_by_a_frame_of_its_own_is_not_reset() {
    for length in ["5", ""] {
        let mut world = World::new(|| vec![Box::new(Marks)]);
        let asked = world.ask("GET", "/", &[], None);
        let mut head = ok();
        if !length.is_empty() {
            head.headers_mut().insert("content-length", length.parse().expect("a length"));
        }
        let heard = &mut world.servers[0].heard[0];
        let mut frames = heard.respond.as_mut().expect("open").send_response(head, false).expect("sent");
        frames.send_data("hello".into(), false).expect("sent");
        world.run();
        assert_eq!(
            world.asked[asked].told.is_whole,
            !length.is_empty(),
            "the client has all where it was said how much"
        );
        frames.send_data(Bytes::new(), true).expect("it was not reset");
        world.run();
        assert!(world.asked[asked].told.is_whole);
        assert!(world.multiplex.streams.is_empty());
    }
}

#[test]
fn rfc9110_15_4_5_an_end_in_a_frame_of_its_own_is_no_content() {
    for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304)] {
        let mut world = World::new(|| vec![Box::new(Marks)]);
        let asked = world.ask(method, "/", &[], None);
        let mut head = ok();
        *head.status_mut() = status.try_into().expect("a status");
        let heard = &mut world.servers[0].heard[0];
        let mut frames = heard.respond.as_mut().expect("open").send_response(head, false).expect("sent");
        world.run();
        frames.send_data(Bytes::new(), true).expect("sent");
        world.run();
        assert_eq!((world.asked[asked].status(), world.asked[asked].told.is_whole), (Some(status), true));
        assert_eq!(world.multiplex.take_ends(), []);
    }
}

/// Answers at once and has the request go on for itself.
struct Refreshes;

impl HttpFilter for Refreshes {
    fn request(&mut self, _call: &mut Call<'_>, _request: &mut Request) -> Verdict {
        let answer = Answer { goes_on: true, ..Answer::page(200, "OK", "stale") };
        Verdict::Answer(Box::new(answer))
    }

    fn response(&mut self, call: &mut Call<'_>, _request: &Request, response: &mut Response) -> Verdict {
        call.gateway
            .log(&Arc::from(std::path::Path::new("seen")), response.status().to_string().into_bytes());
        Verdict::Pass
    }
}

#[test]
fn a_request_that_goes_on_behind_its_answer_is_not_given_up_with_the_stream() {
    let mut world = World::new(|| vec![Box::new(Refreshes)]);
    let asked = world.ask("GET", "/", &[], None);
    assert_eq!((&*world.asked[asked].told.content, world.asked[asked].told.is_whole), (&b"stale"[..], true));
    world.servers[0].heard[0].respond(ok(), b"fresh", None);
    world.run();
    assert_eq!(world.gateway.lines.len(), 1, "the filter has seen what came of it");
    assert!(world.multiplex.streams.is_empty());
}

/// Answers with a large page.
struct Large;

const LARGE: usize = 1 << 20;

impl HttpFilter for Large {
    fn request(&mut self, _call: &mut Call<'_>, request: &mut Request) -> Verdict {
        if request.path() == "/small" {
            return Verdict::Pass;
        }
        Verdict::Answer(Box::new(Answer::page(200, "OK", Bytes::from_static(&[b'x'; LARGE]))))
    }
}

#[test]
fn answers_that_a_client_does_not_read_take_no_memory_and_stop_no_other_stream() {
    let mut world = World::new(|| vec![Box::new(Large)]);
    world.run();
    world.clients_are_deaf = true;
    let counted = allocation_counter::measure(|| {
        for _ in 0..80 {
            world.ask("GET", "/large", &[], None);
        }
    });
    assert!(counted.bytes_current < 8 << 20, "{} bytes for 80 answers of {LARGE}", counted.bytes_current);
    world.ask("GET", "/small", &[], None);
    assert_eq!(world.servers[0].heard.len(), 1, "it went on to the server");
    world.clients_are_deaf = false;
    world.run();
    assert!(world.asked[..80].iter().all(|asked| asked.told.content.len() == LARGE));
}

#[test]
fn a_head_that_takes_too_long_ends_the_connection() {
    let preface = codec::HTTP2_PREFACE;
    let settings = [preface, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    // Within the preface; a frame's head; a head that is to go on; a ping.
    let begun: [&[u8]; 5] = [
        b"",
        b"\0\0",
        &[0, 0, 1, 1, 0x1, 0, 0, 0, 1, 0x82],
        &[0, 0, 1, 1, 0x4, 0, 0, 0, 1],
        &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1],
    ];
    for begun in begun {
        let mut world = World::without_client(|| vec![Box::new(Marks)]);
        let before = if begun.is_empty() { &preface[..20] } else { &settings };
        world.inject(flow::Stream::First, &[before, begun].concat());
        world.pass(Duration::from_secs(29));
        assert_eq!(world.end, End::Open);
        world.pass(Duration::from_secs(1));
        assert_eq!(world.end, End::Closed(Why::Slow), "{begun:?}");
    }
    // Content may take its time, and so may a client that says nothing.
    let mut world = World::new(|| vec![Box::new(Marks)]);
    world.ask("POST", "/", &[], Some(b"x"));
    world.inject(flow::Stream::First, &[0, 0, 9, 0, 0, 0, 0, 0, 3, 1]);
    world.pass(Duration::from_secs(300));
    assert_eq!(world.end, End::Open);
}

#[test]
fn streams_that_are_opened_only_to_be_reset_end_the_connection() {
    let mut world = World::new(|| vec![Box::new(Marks)]);
    for _ in 0..=MOST_RESETS {
        assert_eq!(world.end, End::Open);
        let asked = world.ask("GET", "/", &[], None);
        world.asked[asked].drop_it();
        world.run();
    }
    assert!(matches!(world.end, End::Closed(Why::Request(_))), "{:?}", world.end);
}

#[test]
fn settings_of_an_upgrade_come_before_those_of_the_first_frame() {
    let settings = settings_of(b"AAMAAABkAAQAoAAAAAIAAAAA").expect("three settings");
    assert_eq!(settings.len(), 18);
    for malformed in [&b"AAMAAABk"[..5], b"!", b"AAMAAABkAAQ"] {
        assert_eq!(settings_of(malformed), None);
    }
    let frame = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 7];
    let both = upgrade::with_settings(&[codec::HTTP2_PREFACE, &frame].concat(), &settings);
    let expected = [codec::HTTP2_PREFACE, &[0, 0, 24, 4, 0, 0, 0, 0, 0], &*settings, &frame[9..]].concat();
    assert_eq!(both, expected);
}

#[test]
fn what_a_server_has_said_before_its_end_reaches_a_client_that_takes_its_time() {
    let mut world = World::new(|| vec![Box::new(Marks)]);
    let (whole, cut) = (world.ask("GET", "/whole", &[], None), world.ask("GET", "/cut", &[], None));
    let content = vec![b'x'; 60_000];
    world.servers[0].heard[0].respond(ok(), &content, None);
    let heard = &mut world.servers[0].heard[1];
    let mut frames = heard.respond.as_mut().expect("open").send_response(ok(), false).expect("sent");
    frames.send_data("begun".into(), false).expect("sent");
    world.room = 0;
    world.run();
    world.server_ends();
    assert_eq!(world.end, End::Open, "there is something to be said yet");
    world.room = 20_000;
    for _ in 0..20 {
        world.server_ends();
        world.run();
    }
    assert_eq!((&world.asked[whole].told.content, world.asked[whole].told.is_whole), (&content, true));
    assert!(world.asked[cut].told.error.is_some() && !world.asked[cut].told.is_whole);
    assert_eq!(world.end, End::Closed(Why::Finished));
}

#[test]
fn a_client_that_takes_nothing_is_sent_nothing() {
    let mut world = World::new(|| vec![Box::new(Marks)]);
    world.run();
    world.room = 0;
    for _ in 0..50 {
        world.ask("GET", "/mine", &[], None);
    }
    assert!(world.asked.iter().all(|asked| asked.status().is_none()));
    world.room = usize::MAX;
    world.pass(PATIENCE);
    assert!(world.asked.iter().all(|asked| asked.status() == Some(403)));
}

#[test]
fn rfc9113_5_1_2_no_more_streams_are_open_at_once_than_were_announced() {
    let mut world = World::new(|| vec![Box::new(Marks)]);
    for _ in 0..101 {
        world.ask("GET", "/", &[], None);
    }
    assert_eq!(world.servers[0].heard.len(), 100);
    world.servers[0].heard[0].respond(ok(), b"", None);
    world.run();
    assert_eq!(world.servers[0].heard.len(), 101);
}

#[test]
fn rfc9113_8_5_connect_is_refused() {
    let mut world = World::new(|| vec![Box::new(Capitals)]);
    world.run();
    let (requests, _) = world.client.as_mut().expect("open");
    let request = http::Request::connect("www.example:443").body(()).expect("a request");
    let (mut awaited, _frames) = requests.send_request(request, false).expect("sent");
    world.run();
    let answer = Pin::new(&mut awaited).poll(&mut transport::unwoken());
    let Poll::Ready(Ok(response)) = answer else { panic!("{answer:?}") };
    assert_eq!(response.status(), 405);
    assert!(world.to_server.is_empty());
}

/// A request that asks for HTTP/2, and the server's consent.
const UPGRADE: &str = "GET /first?q HTTP/1.1\r\nHost: www.example\r\nConnection: Upgrade, HTTP2-Settings\r\n\
    Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n";
const CONSENT: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";

/// A connection that has just been upgraded.
fn upgraded() -> Box<Connection> {
    let mut gateway = TestGateway::default();
    let mut connection = Box::new(Connection::new(
        Arc::new(Settings::default()),
        cascade(|| vec![Box::new(Capitals)]),
        exchange(),
    ));
    let mut look = |bytes: &str, is_request: bool| {
        let look = &mut Look {
            now: Instant::from_secs(1000),
            gateway: &mut gateway,
            bytes: bytes.as_bytes(),
            end: false,
            room: [usize::MAX; 2],
        };
        let outcome = if is_request { connection.on_request(look) } else { connection.on_response(look) };
        let (_, out, back) = played(&outcome, bytes.as_bytes());
        let bytes = bytes.replace("AAMAAABkAAQAoAAAAAIAAAAA", PLAIN_SETTINGS);
        assert_eq!((String::from_utf8(out).expect("text"), &*back), (bytes, &b""[..]));
        outcome.end
    };
    assert_eq!(look(UPGRADE, true), End::Open);
    assert_eq!(look(CONSENT, false), End::Upgraded);
    connection
}

#[test]
fn rfc7540_3_2_the_request_of_an_upgrade_is_answered_by_the_first_stream() {
    let mut multiplex =
        Multiplex::upgraded(&Settings::default(), upgraded(), maker(|| vec![Box::new(Marks)]))
            .expect("it begins");
    let mut gateway = TestGateway::default();
    // Each peer is what PNAT is to the other one.
    let (mut asker, mut awaited) = ServerSide::upgraded(None, 1 << 16).expect("it begins");
    let mut answerer = ClientSide::new(1 << 16);
    answerer.await_upgraded(Box::default());
    let (mut asked, mut second, mut held, mut responding) = (Vec::new(), None, Vec::new(), Vec::new());
    for turn in 0..200 {
        asker.drive();
        if turn == 20 {
            let request = http::Request::get("http://www.example/second").body(()).expect("a request");
            second = Some(asker.requests().expect("open").send_request(request, true).expect("sent").0);
        }
        let mut bytes = BytesMut::new();
        asker.take(usize::MAX, &mut bytes);
        held.extend_from_slice(&bytes);
        let mut look = |multiplex: &mut Multiplex, bytes: &[u8], is_request: bool| {
            let now = Instant::from_secs(1000);
            let look = &mut Look { now, gateway: &mut gateway, bytes, end: false, room: [usize::MAX; 2] };
            let outcome = if is_request { multiplex.on_request(look) } else { multiplex.on_response(look) };
            assert_eq!(outcome.end, End::Open);
            played(&outcome, bytes)
        };
        // Bytes come one by one, and are held until enough of them are there.
        let shown = held.len().min(turn + 1);
        let (taken, to_server, to_client) = look(&mut multiplex, &held[..shown], true);
        held.drain(..taken);
        answerer.put(&to_server);
        asker.put(&to_client);
        if let Ok(Some((request, mut respond))) = answerer.accept() {
            asked.push((request.uri().path().to_owned(), answerer.was_upgraded()));
            let mut frames = respond.send_response(ok(), false).expect("sent");
            frames.send_data("world".into(), true).expect("sent");
            responding.push(frames);
        }
        bytes.clear();
        answerer.take(usize::MAX, &mut bytes);
        let (taken, to_client, to_server) = look(&mut multiplex, &bytes, false);
        assert_eq!(taken, bytes.len());
        asker.put(&to_client);
        answerer.put(&to_server);
    }
    // The first one's is made up for the server, too.
    assert_eq!(asked, [("/".to_owned(), true), ("/second".to_owned(), false)]);
    let mut content = |awaited: &mut h2::client::ResponseFuture| {
        asker.drive();
        let Poll::Ready(Ok(response)) = Pin::new(awaited).poll(&mut transport::unwoken()) else {
            panic!("none")
        };
        let is_marked = response.headers().contains_key("x-marked");
        let data = response.into_body().poll_data(&mut transport::unwoken());
        let Poll::Ready(Some(Ok(data))) = data else { panic!("{data:?}") };
        (is_marked, data)
    };
    assert_eq!(content(&mut awaited), (false, "WORLD".into()), "its filters are those of the connection");
    assert_eq!(content(second.as_mut().expect("sent")), (true, "world".into()));
}

/// Reads content as it comes, and makes room for more.
fn read(frames: &mut h2::RecvStream, content: &mut usize) {
    while let Poll::Ready(Some(data)) = frames.poll_data(&mut transport::unwoken()) {
        let data = data.expect("no reset");
        *content += data.len();
        frames.flow_control().release_capacity(data.len()).expect("it was received");
    }
}

#[test]
fn the_response_to_an_upgrades_request_may_be_longer_than_any_window() {
    let settings = &Settings::default();
    let mut multiplex = Multiplex::upgraded(settings, upgraded(), maker(Vec::new)).expect("it begins");
    let mut gateway = TestGateway::default();
    let (mut asker, mut awaited) = ServerSide::upgraded(None, 1 << 16).expect("it begins");
    let mut answerer = ClientSide::new(1 << 16);
    answerer.await_upgraded(Box::default());
    let (mut frames, mut sending, mut left, mut got) = (None, None, 3_000_000, 0);
    for _ in 0..2000 {
        asker.drive();
        if let Poll::Ready(Ok(response)) = Pin::new(&mut awaited).poll(&mut transport::unwoken()) {
            frames = Some(response.into_body());
            break;
        }
        turn(&mut multiplex, &mut gateway, &mut asker, &mut answerer);
        if let Ok(Some((_, mut respond))) = answerer.accept() {
            sending = Some(respond.send_response(ok(), false).expect("sent"));
        }
    }
    let (mut frames, mut sending) = (frames.expect("a response"), sending.expect("a request"));
    for _ in 0..20_000 {
        sending.reserve_capacity(left.min(10_000));
        let count = sending.capacity().min(left);
        if count > 0 {
            left -= count;
            sending.send_data(vec![b'x'; count].into(), left == 0).expect("sent");
        }
        assert!(matches!(answerer.accept(), Ok(None)));
        turn(&mut multiplex, &mut gateway, &mut asker, &mut answerer);
        asker.drive();
        read(&mut frames, &mut got);
        asker.drive();
    }
    assert_eq!((left, got), (0, 3_000_000));
}

/// Lets everybody's bytes go where they are for.
fn turn(
    multiplex: &mut Multiplex,
    gateway: &mut TestGateway,
    asker: &mut ServerSide,
    answerer: &mut ClientSide,
) {
    let mut look = |bytes: &[u8], is_request: bool| {
        let now = Instant::from_secs(1000);
        let look = &mut Look { now, gateway, bytes, end: false, room: [usize::MAX; 2] };
        let outcome = if is_request { multiplex.on_request(look) } else { multiplex.on_response(look) };
        assert_eq!(outcome.end, End::Open);
        played(&outcome, bytes)
    };
    let mut bytes = BytesMut::new();
    asker.take(usize::MAX, &mut bytes);
    let (_, to_server, to_client) = look(&bytes, true);
    // The beginning is taken by itself.
    let taken = answerer.put(&to_server);
    assert_eq!(taken + answerer.put(&to_server[taken..]), to_server.len());
    assert_eq!(asker.put(&to_client), to_client.len());
    bytes.clear();
    answerer.take(usize::MAX, &mut bytes);
    let (_, to_client, to_server) = look(&bytes, false);
    assert_eq!(asker.put(&to_client), to_client.len());
    assert_eq!(answerer.put(&to_server), to_server.len());
}

#[test]
fn what_is_put_in_and_left_out_for_an_upgrade_is_one_frame() {
    let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100];
    let begins = [codec::HTTP2_PREFACE, &settings].concat();
    for length in 0..begins.len() {
        assert_eq!(upgrade::beginning(&begins[..length]), None, "{length}");
    }
    assert_eq!(upgrade::beginning(&begins), Some(begins.len()));
    assert_eq!(upgrade::beginning(&[&begins[..], b"more"].concat()), Some(begins.len()));
    assert_eq!(upgrade::beginning(b"GET / HTTP/1.1"), Some(0), "it is for `h2` to refuse");
    let words = [&begins[..], &upgrade::REQUEST, &settings].concat();
    let rest = upgrade::without_request(BytesMut::from(&*words)).expect("there was one");
    assert_eq!(rest, [&begins[..], &settings].concat());
}

#[test]
fn only_a_plain_get_is_upgraded() {
    for request in [
        UPGRADE.replace("GET", "HEAD"),
        UPGRADE.replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\n"),
        UPGRADE.replace("h2c", "h2c, websocket"),
        UPGRADE.replace(", HTTP2-Settings", ""),
        UPGRADE.replace("/1.1", "/1.0"),
    ] {
        let mut connection = Connection::new(Arc::new(Settings::default()), cascade(Vec::new), exchange());
        let mut gateway = TestGateway::default();
        let look = &mut Look {
            now: Instant::from_secs(1000),
            gateway: &mut gateway,
            bytes: request.as_bytes(),
            end: false,
            room: [usize::MAX; 2],
        };
        let (_, out, _) = played(&connection.on_request(look), request.as_bytes());
        let out = String::from_utf8(out).expect("text");
        assert!(!out.contains("h2c") && !out.contains("HTTP2-Settings:"), "{out}");
    }
}

proptest! {
    /// Whatever comes from either side, filters learn of the end of what they were shown, and nobody panics.
    #[test]
    fn garbage_ends_in_order(client in proptest::collection::vec(any::<u8>(), 0..400), server in proptest::collection::vec(any::<u8>(), 0..400), begins in any::<bool>()) {
        let mut world = World::new(|| vec![Box::new(Marks)]);
        if begins {
            world.ask("GET", "/", &[], None);
        }
        world.inject(flow::Stream::First, &client);
        world.inject(flow::Stream::Second, &server);
        world.inject(flow::Stream::First, &client);
        world.multiplex.close(world.now, &mut world.gateway);
    }
}
