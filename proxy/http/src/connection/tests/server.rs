//! Servers that go: while nobody waits for them but filters, or just as a request is on its way.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

/// Answers at once, and has the request go on, as a cache does with what is stale; tells how often a server failed, and how.
struct Stale {
    failures: std::sync::mpsc::Sender<Failure>,
    answers: bool,
}

impl HttpFilter for Stale {
    fn request(&mut self, _: &mut Call<'_>, request: &mut Request) -> Verdict {
        if !self.answers || request.path() != "/stale" {
            return Verdict::Pass;
        }
        let mut answer = Answer::page(200, "OK", "stale");
        answer.goes_on = true;
        Verdict::Answer(Box::new(answer))
    }

    fn response(&mut self, _: &mut Call<'_>, _: &Request, _: &mut Response) -> Verdict {
        Verdict::Watch
    }

    fn failed(&mut self, _: &mut Call<'_>, _: &Request, failure: Failure) -> Option<Box<Answer>> {
        let _ = self.failures.send(failure);
        None
    }
}

const STALE: &[u8] = b"GET /stale HTTP/1.1\r\nHost: www.example\r\n\r\n";

/// A connection of a client that was accepted early, or not.
fn wire(answers: bool, may_redirect: bool) -> (Wire, std::sync::mpsc::Receiver<Failure>) {
    let (failures, told) = std::sync::mpsc::channel();
    let mut wire = Wire::new(Vec::new());
    let filter: Box<dyn HttpFilter> = Box::new(Stale { failures, answers });
    let exchange = Exchange { may_redirect, ..exchange() };
    let cascade = Cascade::new([(Arc::from("cache"), filter)]);
    wire.connection = Connection::new(Arc::new(Settings::default()), cascade, exchange);
    (wire, told)
}

/// A client that has its stale answer, of which the server has been asked.
fn renewing() -> Wire {
    let (mut wire, _) = wire(true, true);
    wire.client(STALE);
    assert!(wire.told_client().ends_with("\r\n\r\nstale"), "{}", wire.told_client());
    assert_eq!(wire.to_server, STALE);
    wire.to_server.clear();
    wire.to_client.clear();
    wire
}

#[test]
fn rfc5861_3_a_server_that_fails_while_a_client_has_its_answer_takes_nothing_from_it() {
    let begins: [&[u8]; 4] = [
        b"",
        b"HTTP/1.1 200 OK\r\nConte",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha",
    ];
    for begin in begins {
        for failure in [None, Some(Failure::Unreachable), Some(Failure::Timeout)] {
            let mut wire = renewing();
            wire.server(begin);
            wire.client(GET);
            assert_eq!(wire.told_server(), "", "it waits for the one before");
            wire.server_goes(failure);
            assert_eq!((wire.end, wire.told_client()), (End::Open, String::new()), "{begin:?} {failure:?}");
            assert_eq!(wire.to_server, GET, "{begin:?} {failure:?}");
            wire.server(OK);
            assert_eq!((wire.end, &*wire.to_client), (End::Open, OK), "{begin:?} {failure:?}");
        }
    }
}

#[test]
fn a_response_that_ends_with_the_servers_stream_is_whole_though_the_client_stays() {
    let mut wire = renewing();
    wire.server(b"HTTP/1.1 200 OK\r\n\r\nall of it");
    wire.server_goes(None);
    wire.client(GET);
    assert_eq!(wire.to_server, GET);
    let record = wire.gateway.accounts.last().expect("an exchange that is over");
    assert_eq!(record.1.shown, [0, 9]);
}

#[test]
fn rfc5861_3_a_response_with_a_fault_takes_nothing_from_a_client_that_has_its_answer() {
    for response in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"[..],
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"SSH-2.0-none\r\n",
    ] {
        let mut wire = renewing();
        wire.client(GET);
        wire.server(response);
        assert!(wire.leaves, "{response:?}");
        assert_eq!((wire.end, wire.told_client()), (End::Open, String::new()), "{response:?}");
        wire.wait(Duration::ZERO);
        assert_eq!(wire.to_server, GET);
        wire.server(OK);
        assert_eq!((wire.end, &*wire.to_client), (End::Open, OK), "{response:?}");
    }
}

#[test]
fn the_next_request_waits_for_a_slow_server_that_only_filters_wait_for_no_longer_than_a_grace() {
    for begin in [&b""[..], b"HTTP/1.1 200 OK\r\nConte", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal"] {
        let mut wire = renewing();
        wire.wait(Duration::from_secs(20));
        wire.server(begin);
        wire.client(GET);
        wire.wait(Duration::from_millis(199));
        assert_eq!((wire.told_server(), wire.leaves), (String::new(), false));
        assert!(wire.wake[0].is_some_and(|wake| wake <= wire.now + Duration::from_millis(1)));
        wire.wait(Duration::from_millis(1));
        assert!(wire.leaves, "{begin:?}");
        // What the one before still says.
        wire.server(b"nt-Length: 0\r\n\r\n");
        wire.wait(Duration::ZERO);
        assert_eq!(wire.to_server, GET, "{begin:?}");
        wire.server(OK);
        assert_eq!((wire.end, &*wire.to_client), (End::Open, OK), "{begin:?}");
    }
}

#[test]
fn where_no_other_connection_can_be_had_the_next_request_waits() {
    let (mut wire, _) = wire(true, false);
    wire.client(&[STALE, GET].concat());
    wire.wait(Duration::from_secs(10));
    assert_eq!((&*wire.to_server, wire.leaves), (STALE, false));
    wire.server(OK);
    assert!(wire.to_server.ends_with(GET));
}

#[test]
fn rfc9110_9_2_2_a_request_that_crosses_the_servers_end_is_sent_once_more() {
    for failure in [None, Some(Failure::Unreachable)] {
        let (mut wire, failures) = wire(false, true);
        wire.client(GET);
        wire.server(OK);
        wire.client(GET);
        wire.server_goes(failure);
        assert_eq!(wire.to_server, GET.repeat(3), "{failure:?}");
        assert!(!wire.connection.may_repeat(), "twice is enough");
        wire.server(OK);
        assert_eq!((wire.end, &*wire.to_client), (End::Open, &*OK.repeat(2)), "{failure:?}");
        assert!(failures.try_recv().is_err());
    }
}

#[test]
fn a_request_is_not_sent_twice_where_that_might_do_something_twice_or_the_server_is_new() {
    const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    let (mut wire, failures) = wire(false, true);
    wire.client(GET);
    wire.server_fails(Failure::Unreachable);
    assert_eq!(wire.to_server, GET, "a new connection");
    assert_eq!(failures.try_recv(), Ok(Failure::Unreachable));
    for request in [POST, b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let (mut wire, failures) = self::wire(false, true);
        wire.client(GET);
        wire.server(OK);
        wire.client(request);
        wire.server_fails(Failure::Unreachable);
        assert_eq!(wire.to_server, [GET, request].concat(), "{request:?}");
        assert_eq!(failures.try_recv(), Ok(Failure::Closed), "no fault of its");
    }
    let (mut wire, failures) = self::wire(false, true);
    wire.client(GET);
    wire.server(OK);
    wire.client(POST);
    wire.server_ends();
    assert_eq!(failures.try_recv(), Ok(Failure::Closed));
}

#[test]
fn a_request_whose_response_has_begun_is_not_sent_twice() {
    let (mut wire, failures) = wire(false, true);
    wire.client(GET);
    wire.server(OK);
    wire.client(GET);
    wire.server(b"HTTP/1.1 2");
    wire.server_fails(Failure::Unreachable);
    assert_eq!(wire.to_server, GET.repeat(2));
    assert_eq!(failures.try_recv(), Ok(Failure::Unreachable));
}

/// Has a page of so many bytes where the server fails, or cannot serve.
pub(super) struct Excuses(pub(super) usize);

impl Excuses {
    fn page(&self) -> Box<Answer> {
        Box::new(Answer { content: vec![vec![b'~'; self.0].into()], ..Answer::page(200, "OK", "") })
    }
}

impl HttpFilter for Excuses {
    fn response(&mut self, _: &mut Call<'_>, _: &Request, response: &mut Response) -> Verdict {
        if response.status() == 503 { Verdict::Answer(self.page()) } else { Verdict::Pass }
    }

    fn failed(&mut self, _: &mut Call<'_>, _: &Request, _: Failure) -> Option<Box<Answer>> {
        Some(self.page())
    }
}

/// Edits content, and ends the connection with the `calls`-th call.
struct Resets {
    calls: u32,
}

impl HttpFilter for Resets {
    fn response(&mut self, _: &mut Call<'_>, _: &Request, _: &mut Response) -> Verdict {
        Verdict::Edit
    }

    fn response_body(&mut self, _: &mut Call<'_>, bytes: &[u8], _: bool, out: &mut Vec<u8>) -> Content {
        out.extend_from_slice(bytes);
        self.calls -= 1;
        if self.calls == 0 { Content::Reset } else { Content::Go }
    }
}

/// A client of a server that has failed, or is about to, whose answer is a page of a million bytes that a filter edits.
fn excused(version: &str, calls: u32, fails: impl FnOnce(&mut Wire)) -> Wire {
    let mut wire = Wire::new(vec![Box::new(Resets { calls }), Box::new(Excuses(1_000_000))]);
    wire.connection.exchange.may_redirect = true;
    wire.room[1] = 20_000;
    wire.client(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n").as_bytes());
    fails(&mut wire);
    wire
}

const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 No\r\nContent-Length: 3\r\n\r\nno\n";

/// How servers fail that leave their answer to a filter.
const FAILURES: [fn(&mut Wire); 6] = [
    |wire| wire.wait(IN_TIME + Duration::from_secs(1)),
    |wire| wire.server_fails(Failure::Timeout),
    |wire| wire.server_goes(None),
    Wire::server_ends,
    |wire| {
        wire.server(UNAVAILABLE);
        wire.server_fails(Failure::Unreachable);
    },
    |wire| {
        wire.server(UNAVAILABLE);
        wire.server_goes(None);
    },
];

#[test]
fn what_filters_edit_in_the_place_of_a_server_that_has_failed_goes_out_as_it_is_taken_and_whole() {
    for fails in FAILURES {
        let mut wire = excused("1.1", u32::MAX, fails);
        let mut looks = 0;
        while wire.end == End::Open {
            let before = wire.to_client.len();
            wire.wait(Duration::from_secs(1));
            assert!(wire.to_client.len() - before < 100_000);
            looks += 1;
            assert!(looks < 1000);
        }
        assert!(matches!(wire.end, End::Closed(_)), "{:?}", wire.end);
        assert!(looks > 10, "{looks}");
        assert_eq!(wire.to_client.iter().filter(|&&byte| byte == b'~').count(), 1_000_000);
        assert!(wire.to_client.ends_with(b"\r\n0\r\n\r\n"));
    }
}

#[test]
fn an_answer_that_a_filter_breaks_off_is_not_taken_for_whole() {
    for fails in FAILURES {
        let mut wire = excused("1.0", 3, fails);
        (0..100).for_each(|_| wire.wait(Duration::from_secs(1)));
        assert_eq!(wire.end, End::Reset(Why::Filter));
        assert!(wire.to_client.iter().filter(|&&byte| byte == b'~').count() < 100_000);
    }
}

#[test]
fn a_client_that_has_an_answer_in_place_of_the_servers_loses_nothing_with_that() {
    const LONG: &[u8] = b"HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\nno";
    for failure in [None, Some(Failure::Unreachable)] {
        let mut wire = Wire::new(vec![Box::new(Excuses(5))]);
        wire.connection.exchange.may_redirect = true;
        wire.client(GET);
        wire.server(LONG);
        assert!(wire.told_client().ends_with("\r\n\r\n~~~~~"), "{}", wire.told_client());
        wire.server_goes(failure);
        assert_eq!(wire.end, End::Closed(Why::Finished), "{failure:?}");
        assert!(wire.told_client().ends_with("\r\n\r\n~~~~~"), "{}", wire.told_client());
    }
}

/// As long as a server may take.
const IN_TIME: Duration = Duration::from_secs(59);

#[test]
fn rfc9110_15_6_5_a_server_that_does_not_answer_in_time_is_told_as_504() {
    let begins: [&[u8]; 2] = [b"", b"HTTP/1.1 200 OK\r\nContent-Le"];
    for begin in begins {
        let mut wire = Wire::new(passing());
        wire.client(GET);
        wire.server(begin);
        wire.wait(IN_TIME);
        assert_eq!((wire.told_client().as_str(), wire.end), ("", End::Open));
        assert_eq!(wire.wake[0], Some(Instant::from_secs(1060)));
        wire.wait(Duration::from_secs(1));
        let text = wire.told_client();
        assert!(text.starts_with("HTTP/1.1 504 ") && text.contains("Connection: close\r\n"), "{text}");
        assert_eq!(wire.end, End::Closed(Why::Server(Failure::Timeout)));
    }
}

#[test]
fn rfc5861_4_a_filter_may_answer_for_a_server_that_does_not_in_time() {
    let mut wire = Wire::new(vec![Box::new(Excuses(5))]);
    wire.client(GET);
    wire.wait(IN_TIME + Duration::from_secs(1));
    assert!(wire.told_client().starts_with("HTTP/1.1 200 OK\r\n"), "{}", wire.told_client());
    assert!(wire.told_client().ends_with("\r\n\r\n~~~~~"), "{}", wire.told_client());
    assert_eq!(wire.end, End::Closed(Why::Server(Failure::Timeout)));
}

#[test]
fn a_server_has_its_time_from_the_whole_request_on_and_anew_behind_an_interim_response() {
    let mut wire = Wire::new(passing());
    wire.client(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx");
    wire.wait(Duration::from_secs(3600));
    assert_eq!(wire.end, End::Open, "the client takes its time");
    wire.client(b"y");
    for _ in 0..3 {
        wire.wait(IN_TIME);
        assert_eq!(wire.end, End::Open);
        wire.server(b"HTTP/1.1 102 Processing\r\n\r\n");
    }
    wire.wait(IN_TIME);
    wire.server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nh");
    wire.wait(Duration::from_secs(3600));
    wire.server(b"ello you");
    wire.wait(Duration::from_secs(3600));
    assert_eq!(wire.end, End::Open, "nothing is asked for");
    wire.client(GET);
    wire.wait(IN_TIME);
    assert_eq!(wire.end, End::Open, "the next one has its own");
    wire.wait(Duration::from_secs(1));
    assert_eq!(wire.end, End::Closed(Why::Server(Failure::Timeout)));
}

#[test]
fn frames_may_take_as_long_as_they_like() {
    /// Wants to see frames.
    struct Sees;
    impl HttpFilter for Sees {
        fn wants_frames(&mut self, _: &mut Call<'_>, _: &Request, _: &Response) -> bool {
            true
        }
    }
    let mut wire = Wire::new(vec![Box::new(Sees)]);
    wire.client(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    wire.server(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    wire.wait(Duration::from_secs(3600));
    assert_eq!(wire.end, End::Open);
}

#[test]
fn a_response_that_only_filters_wait_for_in_vain_takes_nothing_from_the_client() {
    let mut wire = renewing();
    wire.wait(IN_TIME + Duration::from_secs(1));
    assert!(wire.leaves);
    assert_eq!((wire.end, wire.told_client()), (End::Open, String::new()));
    wire.client(GET);
    wire.server(OK);
    assert_eq!((wire.end, &*wire.to_client), (End::Open, OK));
}

#[test]
fn the_end_of_a_client_does_not_wait_for_the_server() {
    let mut wire = Wire::new(passing());
    wire.ended[0] = true;
    wire.client(GET);
    assert_eq!((wire.wake[0], wire.to_server.as_slice()), (None, GET));
}

#[test]
fn what_comes_too_late_is_nobodys() {
    for is_over in [false, true] {
        let mut wire = excused("1.1", u32::MAX, FAILURES[0]);
        wire.server(OK);
        if is_over {
            wire.server_ends();
            assert!(wire.wake[1].is_some(), "the end would overtake the answer");
        }
        (0..1000).for_each(|_| wire.wait(Duration::from_secs(1)));
        assert_eq!(wire.end, End::Closed(Why::Server(Failure::Timeout)));
        assert_eq!(wire.to_client.iter().filter(|&&byte| byte == b'~').count(), 1_000_000);
        assert!(!wire.told_client().contains("hello"));
    }
}

/// Sends requests to one server after another, up to so many.
struct Servers(u8);

impl HttpFilter for Servers {
    fn request(&mut self, _: &mut Call<'_>, request: &mut Request) -> Verdict {
        request.fields_mut().set("X-By", b"filter");
        Verdict::Pass
    }

    fn elsewhere(&mut self, call: &mut Call<'_>, _: &Request, _: Failure) -> bool {
        let last = call.exchange.target.map_or(0, |target| target.ip().octets()[3]);
        if last < self.0 {
            call.exchange.target = Some(SocketAddrV4::new(Ipv4Addr::new(198, 18, 0, last + 1), 80));
        }
        last < self.0
    }
}

fn shared(servers: u8) -> Wire {
    let mut wire = Wire::new(vec![Box::new(Servers(servers))]);
    wire.connection.exchange.may_redirect = true;
    wire
}

#[test]
fn rfc9110_9_2_2_a_request_that_may_be_sent_twice_goes_to_another_server_that_a_filter_knows() {
    for failure in [None, Some(Failure::Unreachable), Some(Failure::Timeout)] {
        let mut wire = shared(2);
        wire.client(GET);
        for server in 1..=2 {
            let asked = std::mem::take(&mut wire.to_server);
            assert!(asked.ends_with(b"X-By: filter\r\n\r\n"), "{asked:?}");
            wire.server_goes(failure);
            let target = wire.connection.target().expect("another server");
            assert_eq!((&wire.to_server, target.ip().octets()[3]), (&asked, server));
        }
        // Nothing of what the ones before have cost them is left to this one.
        wire.server(OK);
        assert_eq!((wire.end, &*wire.to_client), (End::Open, OK));
        wire.to_client.clear();
        wire.client(GET);
        wire.server(OK);
        assert_eq!((wire.end, &*wire.to_client), (End::Open, OK), "{failure:?}");
    }
}

#[test]
fn where_no_other_server_is_left_the_client_is_told_of_the_last_failure() {
    let mut wire = shared(1);
    wire.client(GET);
    wire.server_goes(Some(Failure::Unreachable));
    wire.server_goes(Some(Failure::Timeout));
    assert!(wire.told_client().starts_with("HTTP/1.1 504 "), "{}", wire.told_client());
}

#[test]
fn rfc9110_9_2_2_a_request_that_may_have_changed_something_goes_to_one_server_only() {
    for request in [
        &b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"[..],
        b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
    ] {
        let mut wire = shared(2);
        wire.client(request);
        wire.to_server.clear();
        wire.server_goes(Some(Failure::Unreachable));
        assert_eq!((wire.told_server(), wire.connection.target()), (String::new(), None));
        assert!(wire.told_client().starts_with("HTTP/1.1 502 "), "{}", wire.told_client());
    }
    let mut wire = shared(2);
    wire.client(GET);
    wire.server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal");
    wire.to_server.clear();
    if wire.connection.keeps_client() {
        wire.server_goes(Some(Failure::Unreachable));
    }
    assert_eq!(wire.told_server(), "", "it has begun to answer");
}

/// Has the server asked anew for what it answers by 304.
struct Doubts;

impl HttpFilter for Doubts {
    fn response(&mut self, _: &mut Call<'_>, request: &Request, response: &mut Response) -> Verdict {
        if response.status() != 304 {
            return Verdict::Pass;
        }
        let mut again = request.clone();
        again.fields_mut().set("X-Again", b"1");
        Verdict::Again(Box::new(again))
    }
}

fn doubtful(may_redirect: bool) -> Wire {
    let mut wire = Wire::new(vec![Box::new(Resets { calls: u32::MAX }), Box::new(Doubts)]);
    wire.connection.exchange.may_redirect = may_redirect;
    wire.client(GET);
    wire.to_server.clear();
    wire
}

const UNCHANGED: &[u8] = b"HTTP/1.1 304 Not Modified\r\n\r\n";

#[test]
fn a_request_that_a_filter_has_sent_anew_is_answered_by_the_second_response() {
    for may_redirect in [false, true] {
        let mut wire = doubtful(may_redirect);
        wire.client(GET);
        wire.server(UNCHANGED);
        assert!(wire.told_server().ends_with("\r\nX-Again: 1\r\n\r\n"), "{}", wire.told_server());
        assert_eq!(wire.told_client(), "");
        wire.to_server.clear();
        wire.server(OK);
        assert!(wire.told_client().ends_with("hello\r\n0\r\n\r\n"), "{}", wire.told_client());
        assert_eq!((wire.to_server.as_slice(), wire.end), (GET, End::Open), "what was asked ahead");
    }
}

#[test]
fn a_server_is_asked_anew_once_and_where_it_can_be() {
    const LAST: &[u8] = b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n";
    for (responses, may_redirect) in [
        (UNCHANGED.repeat(2), true),
        (LAST.to_vec(), false),
        ([UNCHANGED, OK].concat(), true),
        (b"HTTP/1.1 304 Not Modified\r\n\r\nx".to_vec(), true),
    ] {
        let mut wire = doubtful(may_redirect);
        wire.server(&responses);
        assert!(wire.told_client().starts_with("HTTP/1.1 502 "), "{}", wire.told_client());
        assert_eq!(wire.told_server(), "");
        assert!(matches!(wire.end, End::Closed(Why::Response(_))), "{:?}", wire.end);
    }
    let mut wire = doubtful(true);
    wire.server(UNCHANGED);
    wire.server(UNCHANGED);
    assert!(wire.told_client().starts_with("HTTP/1.1 502 "), "{}", wire.told_client());
    let mut wire = doubtful(true);
    wire.server(LAST);
    assert!(wire.leaves && wire.told_server().ends_with("X-Again: 1\r\n\r\n"), "{}", wire.told_server());
    wire.server(OK);
    assert!(wire.told_client().ends_with("hello\r\n0\r\n\r\n"), "{}", wire.told_client());
}

const HANDSHAKE: &[u8] =
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n";

#[test]
fn rfc6455_4_1_a_handshake_goes_to_another_server_and_what_follows_it_waits() {
    let mut wire = shared(1);
    wire.client(&[HANDSHAKE, b"\x81\x80mask"].concat());
    let asked = std::mem::take(&mut wire.to_server);
    wire.server_goes(Some(Failure::Unreachable));
    assert_eq!(wire.to_server, asked);
    wire.server(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!((wire.end, wire.to_server.ends_with(b"\x81\x80mask")), (End::Released, true));
}

#[test]
fn what_is_asked_ahead_waits_for_the_server_that_answers_and_heads_stay_heads() {
    const HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    const OF_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let mut wire = shared(2);
    wire.client(&[HEAD, GET, GET].concat());
    let asked = std::mem::take(&mut wire.to_server);
    for _ in 0..2 {
        wire.server_goes(Some(Failure::Unreachable));
        assert_eq!(std::mem::take(&mut wire.to_server), asked);
    }
    wire.server(OF_HEAD);
    wire.server(OK);
    wire.server(OK);
    assert_eq!((wire.end, &*wire.to_client), (End::Open, &*[OF_HEAD, OK, OK].concat()));
    assert_eq!(wire.told_server().matches("GET ").count(), 2);
}

#[test]
fn another_server_has_its_own_time_to_respond() {
    let mut wire = shared(1);
    wire.client(GET);
    wire.wait(IN_TIME);
    wire.server_goes(Some(Failure::Timeout));
    wire.wait(IN_TIME);
    assert_eq!((wire.end, wire.told_client()), (End::Open, String::new()));
    wire.wait(Duration::from_secs(1));
    assert!(wire.told_client().starts_with("HTTP/1.1 504 "), "{}", wire.told_client());
}

#[test]
fn a_request_of_which_a_server_has_said_something_goes_to_no_other_one() {
    for said in [&b"HTTP/1.1 103 Early Hints\r\n\r\n"[..], b"HTTP/1.1 2"] {
        let mut wire = shared(1);
        wire.client(GET);
        wire.server(said);
        wire.to_server.clear();
        wire.server_goes(Some(Failure::Unreachable));
        assert_eq!(wire.told_server(), "");
        assert!(wire.told_client().contains("HTTP/1.1 502 "), "{}", wire.told_client());
    }
}

#[test]
fn what_a_cache_renews_in_the_background_goes_to_another_server_too() {
    let (failures, _told) = std::sync::mpsc::channel();
    let mut wire = Wire::new(vec![Box::new(Stale { failures, answers: true }), Box::new(Servers(1))]);
    wire.connection.exchange.may_redirect = true;
    wire.client(STALE);
    let asked = std::mem::take(&mut wire.to_server);
    wire.to_client.clear();
    wire.client(GET);
    wire.server_goes(Some(Failure::Unreachable));
    assert_eq!((&wire.to_server, wire.told_client()), (&asked, String::new()));
    wire.server(OK);
    wire.server(OK);
    assert_eq!((wire.end, &*wire.to_client), (End::Open, OK));
}

proptest! {
    #[test]
    fn however_servers_go_nobody_panics_and_a_client_hears_of_each_request_once_at_most(
        events in proptest::collection::vec((0..6_usize, 0..6_usize), 1..30),
        may_redirect: bool,
        edits: bool,
    ) {
        const SAYS: [&[u8]; 6] = [OK, UNAVAILABLE, b"HTTP/1.1 103 Early\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Le", b"\0", UNCHANGED];
        let mut filters: Vec<Box<dyn HttpFilter>> = vec![Box::new(Excuses(100_000)), Box::new(Doubts)];
        if edits {
            filters.insert(0, Box::new(Resets { calls: u32::MAX }));
        }
        let mut wire = Wire::new(filters);
        wire.connection.exchange.may_redirect = may_redirect;
        wire.room[1] = 5000;
        let mut asked = 0;
        for (event, which) in events {
            if wire.end != End::Open {
                break;
            }
            match event {
                0 | 1 => {
                    asked += 1;
                    wire.client([GET, STALE, GET, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", GET][which % 5]);
                }
                2 => wire.server(SAYS[which]),
                3 => wire.wait(Duration::from_secs([0, 1, 31, 60, 61][which % 5])),
                4 if wire.connection.keeps_client() => {
                    // What the former one said and was not looked at is shown again.
                    wire.server_goes([None, Some(Failure::Timeout), Some(Failure::Unreachable)][which % 3]);
                }
                5 if !wire.connection.keeps_client() => wire.server_ends(),
                _ => {}
            }
        }
        wire.connection.close(wire.now, &mut wire.gateway);
        prop_assert!(wire.told_client().matches("HTTP/1.1 200 ").count() <= asked);
        prop_assert!(wire.gateway.accounts.len() <= asked * (2 + usize::from(edits)));
    }
}
