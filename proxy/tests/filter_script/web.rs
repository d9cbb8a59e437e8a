//! Filters over HTTP in chains with filters over streams: both see what the one before let out, whatever the segments.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::filter_bench::{Bench, WINDOW, chains, limit, replace};
use crossbeam_channel::Receiver;
use pnat_http::filter::{Call, HttpFactory, HttpFilter, Verdict};
use pnat_http::filters::{Kinds, Lasting};
use pnat_http::message::{Answer, Request, Response};
use pnat_proxy::filter::log_writer::{self, LogSender, Record};
use pnat_proxy::filter::{Chains, Needs, Outcome, Services, Summary};
use pnat_shared::config::{Filter, FilterKind, Http, LimitBy, Policy, Section};
use pnat_shared::flow::{Side, Stream};
use pnat_shared::testkit::one_rule;
use pnat_shared::time::Duration;
use pnat_shared::verdict::CloseReason;
use proptest::prelude::*;

const GET: &[u8] = b"GET /teapot HTTP/1.1\r\nHost: www.example\r\n\r\n";
const MOVED: &[u8] = b"GET /a HTTP/1.1\r\nHost: old.example\r\n\r\n";
const PAGE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 16\r\n\r\nshort, too stout";

/// A filter over HTTP with these keys.
pub(crate) fn web(kind: &str, keys: &str) -> FilterKind {
    FilterKind::Http(Section {
        kind: kind.to_owned(),
        keys: toml::from_str(keys).expect("TOML"),
        file: "pnat.toml".into(),
        line: 1,
        lines: BTreeMap::new(),
    })
}

/// Has the server asked anew for what it answers by 304.
#[derive(Debug)]
struct Doubts;

impl HttpFilter for Doubts {
    fn response(&mut self, _: &mut Call<'_>, request: &Request, response: &mut Response) -> Verdict {
        if response.status() == 304 { Verdict::Again(Box::new(request.clone())) } else { Verdict::Pass }
    }
}

impl HttpFactory for Doubts {
    fn filter(&self) -> Box<dyn HttpFilter> {
        Box::new(Self)
    }
}

/// Answers for `/stale`, of which the server is asked all the same.
#[derive(Debug)]
struct Stale;

impl HttpFilter for Stale {
    fn request(&mut self, _: &mut Call<'_>, request: &mut Request) -> Verdict {
        if request.path() != "/stale" {
            return Verdict::Pass;
        }
        Verdict::Answer(Box::new(Answer { goes_on: true, ..Answer::page(200, "OK", "stale") }))
    }
}

impl HttpFactory for Stale {
    fn filter(&self) -> Box<dyn HttpFilter> {
        Box::new(Self)
    }
}

/// A chain of filters among which are `doubts` and `stale`.
fn with_own(kinds: [FilterKind; 2]) -> Bench {
    let filter = |(at, kind)| Filter { name: format!("f{at}"), kind };
    let policy = one_rule("rule", kinds.into_iter().enumerate().map(filter).collect());
    let kinds =
        Kinds::default().add("doubts", |_| Ok(Arc::new(Doubts))).add("stale", |_| Ok(Arc::new(Stale)));
    let needs = Needs { kinds: &kinds, lasting: &Lasting::default(), rehearsal: false };
    Bench::new(&Chains::compile_with(&policy, WINDOW, &needs).expect("they can be made"))
}

#[test]
fn what_a_server_that_is_left_has_said_is_no_response_of_the_next_one() {
    let mut bench = with_own([web("stale", ""), limit(1000, 100, LimitBy::Flow)]);
    bench.flow.may_retarget = true;
    bench.push(Stream::First, b"GET /stale HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(text(bench.take(Stream::Second)).ends_with("stale"));
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil".repeat(100);
    let slow = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{evil}", evil.len());
    bench.push(Stream::Second, slow.as_bytes());
    bench.push(Stream::First, GET);
    bench.take(Stream::First);
    let ask_by = bench.now + Duration::from_millis(300);
    bench.wait_until(ask_by);
    assert!(bench.flow.leaves_server);
    assert_eq!(bench.take(Stream::First), GET);
    bench.flow.leaves_server = false;
    let later = bench.now + Duration::from_secs(60);
    bench.wait_until(bench.now + Duration::from_secs(10));
    assert_eq!(text(bench.take(Stream::Second)), "");
    bench.push(Stream::Second, PAGE);
    bench.wait_until(later);
    assert_eq!(bench.take(Stream::Second), PAGE);
}

#[test]
fn what_one_server_says_unasked_is_no_response_of_another() {
    let servers = |host, address| {
        web("redirect", &format!("hosts = ['{host}']\nservers = [{{ address = '{address}' }}]"))
    };
    let mut bench = Bench::new(&chains([
        servers("a.example", "198.18.0.3:80"),
        servers("b.example", "198.18.0.4:80"),
        limit(1000, 39, LimitBy::Flow),
    ]));
    bench.flow.may_retarget = true;
    bench.push(Stream::First, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let right = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na";
    let evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    bench.push(Stream::Second, &[&right[..], evil].concat());
    assert_eq!(bench.take(Stream::Second), right);
    bench.push(Stream::First, b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n");
    assert_eq!(bench.flow.target, Some("198.18.0.4:80".parse().expect("an address")));
    bench.flow.leaves_server = false;
    bench.wait_until(bench.now + Duration::from_secs(1));
    assert_eq!(text(bench.take(Stream::Second)), "");
    bench.push(Stream::Second, right);
    bench.wait_until(bench.now + Duration::from_secs(1));
    assert_eq!(bench.take(Stream::Second), right);
}

#[test]
fn the_end_of_a_server_that_is_left_comes_although_what_was_before_it_does_not() {
    let mut bench = with_own([web("stale", ""), limit(1000, 100, LimitBy::Flow)]);
    bench.flow.may_retarget = true;
    bench.push(Stream::First, b"GET /stale HTTP/1.1\r\nHost: a\r\n\r\n");
    bench.push(Stream::Second, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    bench.push(Stream::Second, &[b'x'; 1000]);
    bench.finish(Stream::Second);
    bench.push(Stream::First, GET);
    bench.wait_until(bench.now + Duration::from_millis(300));
    assert!(bench.flow.leaves_server);
    bench.wait_until(bench.now + Duration::from_millis(1));
    assert!(bench.out.outcome.is_some() || bench.out.ended[1]);
}

#[test]
fn a_request_that_a_filter_sends_anew_goes_to_the_server_through_the_filters_behind() {
    let mut bench = with_own([web("doubts", ""), replace("/teapot", "/kettle")]);
    bench.push(Stream::First, GET);
    let asked = text(bench.take(Stream::First));
    bench.push(Stream::Second, b"HTTP/1.1 304 Not Modified\r\n\r\n");
    assert_eq!((text(bench.take(Stream::First)), text(bench.take(Stream::Second))), (asked, String::new()));
    bench.push(Stream::Second, PAGE);
    assert_eq!(bench.take(Stream::Second), PAGE);
}

/// A stream filter before and behind filters that mark responses, answer for an old name, and edit content.
fn mixed() -> Chains {
    chains([
        replace("teapot", "kettle"),
        web("headers", "response = [{ action = 'add', name = 'X-Seen', value = 'teapot {path}' }]"),
        web("redirect", "hosts = ['old.example']\nlocation = 'http://new.example/teapot{uri}'"),
        web("body-replace", "replace = [{ find = 'stout', with = 'slim' }]"),
        replace("short", "tiny!"),
    ])
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

#[test]
fn each_filter_sees_what_the_one_before_let_out_in_both_directions() {
    let mut bench = Bench::new(&mixed());
    bench.push(Stream::First, GET);
    assert_eq!(text(bench.take(Stream::First)), "GET /kettle HTTP/1.1\r\nHost: www.example\r\n\r\n");
    bench.push(Stream::Second, PAGE);
    let response = text(bench.take(Stream::Second));
    assert!(response.contains("\r\nX-Seen: kettle /kettle\r\n"), "{response}");
    assert!(response.contains("tiny!, too slim"), "{response}");
    assert_eq!(bench.flow.name.as_deref(), Some("www.example"));
}

#[test]
fn an_answer_goes_back_through_the_filters_before_and_the_connection_goes_on() {
    let mut bench = Bench::new(&mixed());
    bench.push(Stream::First, &[MOVED, GET].concat());
    let answer = text(bench.take(Stream::Second));
    assert!(answer.contains("Location: http://new.example/kettle/a\r\n"), "{answer}");
    assert!(answer.contains("X-Seen: kettle /a\r\n"), "{answer}");
    assert_eq!(text(bench.take(Stream::First)), "GET /kettle HTTP/1.1\r\nHost: www.example\r\n\r\n");
    assert_eq!(bench.out.outcome, None);
    assert!(
        bench.flow.told_verdict().is_some_and(|verdict| verdict.starts_with("f2")),
        "{:?}",
        bench.flow.decided
    );
}

#[test]
fn what_is_no_http_passes_and_so_does_a_server_that_speaks_first() {
    let mut bench = Bench::new(&mixed());
    bench.push(Stream::First, b"SSH-2.0-client\r\n");
    assert_eq!(bench.take(Stream::First), b"SSH-2.0-client\r\n");
    let mut bench = Bench::new(&mixed());
    bench.push(Stream::Second, b"220 mail.example\r\n");
    assert_eq!(bench.take(Stream::Second), b"220 mail.example\r\n");
    bench.push(Stream::First, b"GET / HTTP/1.1\r\n");
    assert_eq!(bench.take(Stream::First), b"GET / HTTP/1.1\r\n");
}

#[test]
fn what_a_lenient_server_would_take_for_a_request_does_not_pass_unseen() {
    for line in [&b"GET\x0b/teapot\x0bHTTP/1.0"[..], b"GET http://www.example/teapot", b"\xa0GET teapot"] {
        for ending in [&b"\r\n\r\n"[..], b""] {
            let mut bench = Bench::new(&mixed());
            bench.push(Stream::First, &[line, ending].concat());
            bench.finish(Stream::First);
            assert_eq!(text(bench.take(Stream::First)), "", "{line:?}");
        }
    }
}

#[test]
fn a_bad_request_is_answered_and_ends_the_flow_with_its_reason() {
    let mut bench = Bench::new(&mixed());
    bench.push(Stream::First, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    let reason = CloseReason::BadMessage;
    assert_eq!(bench.out.outcome, Some(Outcome::Answer { to: Side::First, reason }));
    assert!(text(bench.take(Stream::Second)).starts_with("HTTP/1.1 400 Bad Request\r\n"));
    assert!(bench.flow.verdict.is_some());
    assert!(bench.services.web().faults.contains(&("bad_request", 1)));
}

#[test]
fn a_bad_response_is_502_for_the_client_and_a_reset_for_the_server() {
    let mut bench = Bench::new(&mixed());
    bench.push(Stream::First, GET);
    bench.push(Stream::Second, b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n");
    let reason = CloseReason::BadMessage;
    assert_eq!(bench.out.outcome, Some(Outcome::Answer { to: Side::First, reason }));
    assert!(text(bench.take(Stream::Second)).starts_with("HTTP/1.1 502 Bad Gateway\r\n"));
    assert!(bench.out.ended[Stream::Second as usize]);
}

/// Some exchanges, in segments of these sizes: what the server got, and what the client got.
fn exchange(sizes: &[usize]) -> (String, String) {
    let mut bench = Bench::new(&mixed());
    let mut sizes = sizes.iter().copied().cycle();
    let mut send = |bench: &mut Bench, stream, mut bytes: &[u8]| {
        while !bytes.is_empty() {
            let (segment, rest) = bytes.split_at(sizes.next().unwrap_or(1).min(bytes.len()));
            bench.push(stream, segment);
            bytes = rest;
        }
        bench.wait_until(bench.now + Duration::from_millis(1));
    };
    let post = b"POST /p HTTP/1.1\r\nHost: www.example\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nteapot\r\n0\r\n\r\n";
    send(&mut bench, Stream::First, &[GET, MOVED, post, GET].concat());
    for _ in 0..3 {
        send(&mut bench, Stream::Second, PAGE);
    }
    assert_eq!(bench.out.outcome, None);
    let is_size = |line: &&str| !(line.len() <= 2 && line.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let without_sizes = |text: String| text.split("\r\n").filter(is_size).collect::<String>();
    (text(bench.take(Stream::First)), without_sizes(text(bench.take(Stream::Second))))
}

#[test]
fn segments_of_every_size_come_to_the_same() {
    let whole = exchange(&[100_000]);
    for size in 1..200 {
        assert_eq!(exchange(&[size]), whole, "in segments of {size}");
    }
}

proptest! {
    #[test]
    fn segments_of_any_sizes_come_to_the_same(sizes in prop::collection::vec(1_usize..100, 1..20)) {
        prop_assert_eq!(exchange(&sizes), exchange(&[100_000]));
    }
}

/// A flow whose HTTP goes by these settings of the operator's.
fn by(http: Http) -> Bench {
    let filter = Filter { name: "marks".to_owned(), kind: web("headers", "response = []") };
    let policy = Policy { http, ..one_rule("rule", vec![filter]) };
    Bench::new(&Chains::compile(&policy, WINDOW).expect("the filter can be made"))
}

#[test]
fn rfc9110_9_3_6_connect_passes_where_the_operator_lets_it_and_then_everything() {
    const CONNECT: &[u8] = b"CONNECT www.example:443 HTTP/1.1\r\nHost: www.example:443\r\n\r\n";
    let mut bench = by(Http::default());
    bench.push(Stream::First, CONNECT);
    assert!(text(bench.take(Stream::Second)).starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
    assert_eq!(bench.take(Stream::First), b"");

    let mut bench = by(Http { connect: true, ..Http::default() });
    bench.push(Stream::First, CONNECT);
    bench.push(Stream::Second, b"HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(bench.take(Stream::First), CONNECT);
    assert_eq!(bench.take(Stream::Second), b"HTTP/1.1 200 OK\r\n\r\n");
    for stream in [Stream::First, Stream::Second] {
        bench.push(stream, b"\x16\x03\x01");
        assert_eq!(bench.take(stream), b"\x16\x03\x01");
    }
    assert!(bench.chain.is_released());
}

#[test]
fn requests_are_refused_beyond_the_operators_limits_and_not_before() {
    let head = |line: usize, fields: usize, bytes: usize| {
        let mut head = format!("GET /{} HTTP/1.1\r\nHost: a\r\n", "x".repeat(line - 16));
        (1..fields).for_each(|_| head.push_str("X: y\r\n"));
        let rest = bytes - head.len() - "Z: \r\n\r\n".len();
        format!("{head}Z: {}\r\n\r\n", "z".repeat(rest))
    };
    let http = Http { head_limit: 1024, line_limit: 256, fields_limit: 4, ..Http::default() };
    for (head, status) in [
        (head(256, 3, 1024), None),
        (head(257, 3, 1024), Some("414")),
        (head(256, 4, 1024), Some("431")),
        (head(256, 3, 1025), Some("431")),
    ] {
        let mut bench = by(http);
        bench.push(Stream::First, head.as_bytes());
        let answer = text(bench.take(Stream::Second));
        assert_eq!(answer.split(' ').nth(1), status, "{head}");
        assert_eq!(!bench.take(Stream::First).is_empty(), status.is_none());
        let mut bench = by(Http::default());
        bench.push(Stream::First, head.as_bytes());
        assert_eq!(text(bench.take(Stream::First)), head, "of who sets none");
    }
}

#[test]
fn a_request_head_may_take_as_long_as_the_operator_says() {
    let mut bench = by(Http { head_timeout: Duration::from_secs(2), ..Http::default() });
    bench.push(Stream::First, b"GET / HTTP/1.1\r\n");
    bench.wait_until(bench.now + Duration::from_millis(1999));
    assert_eq!(bench.take(Stream::Second), b"");
    bench.wait_until(bench.now + Duration::from_millis(1));
    assert!(text(bench.take(Stream::Second)).starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_server_may_take_as_long_for_a_response_as_the_operator_says() {
    let mut bench = by(Http { response_timeout: Duration::from_secs(2), ..Http::default() });
    bench.push(Stream::First, GET);
    bench.wait_until(bench.now + Duration::from_millis(1999));
    assert_eq!(bench.take(Stream::Second), b"");
    bench.wait_until(bench.now + Duration::from_millis(1));
    assert!(text(bench.take(Stream::Second)).starts_with("HTTP/1.1 504 "));
}

const CHAT: &[u8] =
    b"GET /chat HTTP/1.1\r\nHost: www.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
/// `Hello` from a client and from a server (RFC 6455 section 5.7).
const HELLO: [&[u8]; 2] = [b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", b"\x81\x05Hello"];

/// A chain with `http-log`, and the lines that it writes.
fn logged(format: &str) -> (Bench, Receiver<Record>) {
    let keys = format!("path = 'access.log'\nformat = '{format}'");
    let mut bench = Bench::new(&chains([web("http-log", &keys)]));
    let (sender, lines) = log_writer::channel();
    bench.services = Services::new(Duration::ZERO, LogSender::new(sender, Arc::default()));
    (bench, lines)
}

/// The flow has ended.
fn close(bench: &mut Bench) {
    let summary = Summary {
        reason: CloseReason::Finished,
        received: [0; 2],
        sent: [0; 2],
        packets: [0; 2],
        connect: None,
        first_byte: None,
        ended: bench.now,
    };
    bench.chain.close(&bench.flow, &summary, &mut bench.services);
}

#[test]
fn rfc6455_a_websocket_passes_as_it_came_and_its_line_tells_the_messages() {
    let (mut bench, lines) = logged("json");
    bench.push(Stream::First, &[CHAT, HELLO[0]].concat());
    assert_eq!(bench.take(Stream::First), CHAT);
    bench.push(Stream::Second, &[SWITCHING, HELLO[1]].concat());
    assert_eq!(bench.take(Stream::Second), [SWITCHING, HELLO[1]].concat());
    assert_eq!(bench.take(Stream::First), HELLO[0], "what was sent ahead");
    for size in 1..20 {
        for piece in HELLO.concat().chunks(HELLO[0].len()).zip([Stream::First, Stream::Second]) {
            piece.0.chunks(size).for_each(|bytes| bench.push(piece.1, bytes));
        }
        assert_eq!(bench.take(Stream::First), HELLO[0]);
        assert_eq!(bench.take(Stream::Second), HELLO[1]);
    }
    bench.push(Stream::First, &HELLO[0][..7]);
    bench.finish(Stream::First);
    bench.finish(Stream::Second);
    assert_eq!(bench.out.ended, [true; 2]);
    assert_eq!((bench.take(Stream::First), bench.out.outcome), (HELLO[0][..7].to_vec(), None));
    assert!(lines.is_empty(), "the exchange lasts as long as the connection");
    close(&mut bench);
    let Ok(Record::Line { line, .. }) = lines.try_recv() else { panic!("no line") };
    let line = text(line);
    assert!(line.contains(r#""status":101,"#) && line.contains(r#""messages":[20,20],"#), "{line}");
    assert!(line.contains(r#""complete":false"#), "nobody closed it: {line}");
    assert_eq!(bench.services.web().filters[0].1.shown, [101, 100]);
}

#[test]
fn a_websocket_whose_frames_nobody_wants_is_released() {
    let (mut bench, lines) = logged("combined");
    bench.push(Stream::First, CHAT);
    bench.push(Stream::Second, SWITCHING);
    for stream in [Stream::First, Stream::Second] {
        bench.push(stream, b"anything");
        assert!(bench.take(stream).ends_with(b"anything"));
    }
    assert!(bench.chain.is_released());
    assert_eq!(lines.len(), 1);
}

#[test]
fn rfc6455_7_1_7_what_is_no_frame_resets_the_flow_with_its_reason() {
    let (mut bench, _lines) = logged("json");
    bench.push(Stream::First, CHAT);
    bench.push(Stream::Second, SWITCHING);
    bench.take(Stream::First);
    bench.push(Stream::First, HELLO[1]);
    assert_eq!(bench.out.outcome, Some(Outcome::Reset(CloseReason::BadMessage)));
    assert_eq!(bench.take(Stream::First), b"");
    let verdict = "f0: a mask where none belongs, or none where one does";
    assert_eq!(bench.flow.verdict.as_deref(), Some(verdict));
    assert!(bench.services.web().faults.contains(&("bad_frame", 1)));
}
