//! A connection's rules, with filters that do as the test says, whatever the pieces in which its streams come.

mod budget;
mod frames;
mod record;
mod server;

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::filter::{Call, Content, Failure, HttpFilter, Verdict};
use crate::message::Answer;
use crate::testkit::{TestGateway, exchange};

/// A connection between a client and a server that the test plays, and what each of them was sent.
struct Wire {
    connection: Connection,
    gateway: TestGateway,
    now: Instant,
    /// By stream: what waits.
    held: [Vec<u8>; 2],
    ended: [bool; 2],
    wake: [Option<Instant>; 2],
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    end: End,
    room: [usize; 2],
    wants_room: bool,
    leaves: bool,
}

impl Wire {
    fn new(filters: Vec<Box<dyn HttpFilter>>) -> Self {
        let named = (0..).zip(filters).map(|(at, filter): (u32, _)| (Arc::from(format!("f{at}")), filter));
        Self {
            connection: Connection::new(Arc::new(Settings::default()), Cascade::new(named), exchange()),
            gateway: TestGateway::default(),
            now: Instant::from_secs(1000),
            held: [Vec::new(), Vec::new()],
            ended: [false; 2],
            wake: [None; 2],
            to_server: Vec::new(),
            to_client: Vec::new(),
            end: End::Open,
            room: [usize::MAX; 2],
            wants_room: false,
            leaves: false,
        }
    }

    fn client(&mut self, bytes: &[u8]) {
        self.held[0].extend_from_slice(bytes);
        self.look(Stream::First);
    }

    fn server(&mut self, bytes: &[u8]) {
        self.held[1].extend_from_slice(bytes);
        self.look(Stream::Second);
    }

    fn server_ends(&mut self) {
        self.ended[1] = true;
        self.look(Stream::Second);
    }

    /// The server of a client that was accepted early fails.
    fn server_fails(&mut self, failure: Failure) {
        self.connection.exchange.may_redirect = true;
        self.server_goes(Some(failure));
    }

    /// The server goes, and the pair keeps the client as it is told.
    fn server_goes(&mut self, failure: Option<Failure>) {
        assert!(self.connection.keeps_client());
        let asked = self.connection.server_left(self.now, &mut self.gateway, failure);
        self.to_server.extend(asked.concat());
        self.look(Stream::Second);
        self.look(Stream::First);
    }

    /// Answers come in for tickets.
    fn give(&mut self) {
        while let Ok(given) = self.gateway.answers.try_recv() {
            self.connection.given(self.now, &mut self.gateway, given);
        }
        self.look(Stream::First);
        self.look(Stream::Second);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.look(Stream::First);
        self.look(Stream::Second);
    }

    fn look(&mut self, stream: Stream) {
        if self.end != End::Open {
            let held = std::mem::take(&mut self.held[stream as usize]);
            if self.end == End::Released {
                self.out(stream).extend(held);
            }
            return;
        }
        let held = std::mem::take(&mut self.held[stream as usize]);
        let look = &mut Look {
            now: self.now,
            gateway: &mut self.gateway,
            bytes: &held,
            end: self.ended[stream as usize],
            room: self.room,
        };
        let outcome = match stream {
            Stream::First => self.connection.on_request(look),
            Stream::Second => self.connection.on_response(look),
        };
        let mut at = 0;
        for piece in outcome.pieces {
            match piece {
                Piece::Pass(count) => self.out(stream).extend_from_slice(&held[at..at + count]),
                Piece::Skip(_) => {}
                Piece::Insert(ref bytes) => self.out(stream).extend_from_slice(bytes),
            }
            at += piece.taken();
        }
        for bytes in outcome.back {
            self.out(!stream).extend_from_slice(&bytes);
        }
        self.wake[stream as usize] = outcome.wake;
        self.end = outcome.end;
        self.wants_room = outcome.wants_room;
        self.leaves |= outcome.leaves;
        self.held[stream as usize] = held[at..].to_vec();
        assert!(
            self.held[stream as usize].is_empty() || outcome.wake.is_some() || self.end != End::Open,
            "bytes that wait for ever"
        );
        if outcome.again {
            self.look(!stream);
        }
    }

    fn out(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::First => &mut self.to_server,
            Stream::Second => &mut self.to_client,
        }
    }

    fn told_client(&self) -> String {
        String::from_utf8_lossy(&self.to_client).into_owned()
    }

    fn told_server(&self) -> String {
        String::from_utf8_lossy(&self.to_server).into_owned()
    }
}

/// Does as told, for each exchange in turn; then passes.
#[derive(Default)]
struct Told {
    requests: VecDeque<Verdict>,
    responses: VecDeque<Verdict>,
    /// Adds this field to what it passes.
    mark: Option<&'static str>,
    /// What it puts around content, where it edits.
    brackets: bool,
    draws: bool,
    ticket: Option<crate::filter::Ticket>,
}

impl HttpFilter for Told {
    fn request(&mut self, call: &mut Call<'_>, request: &mut Request) -> Verdict {
        if self.draws && self.requests.front() == Some(&Verdict::Wait) {
            self.ticket = Some(call.gateway.ticket());
        }
        if let Some(mark) = self.mark {
            request.fields_mut().push("X-Seen-By", mark.as_bytes());
        }
        self.requests.pop_front().unwrap_or(Verdict::Pass)
    }

    fn request_body(&mut self, _call: &mut Call<'_>, bytes: &[u8], end: bool, out: &mut Vec<u8>) -> Content {
        self.edit(bytes, end, out)
    }

    fn response(&mut self, _call: &mut Call<'_>, _request: &Request, response: &mut Response) -> Verdict {
        if let Some(mark) = self.mark {
            response.fields_mut().push("X-Seen-By", mark.as_bytes());
        }
        self.responses.pop_front().unwrap_or(Verdict::Pass)
    }

    fn response_body(&mut self, _call: &mut Call<'_>, bytes: &[u8], end: bool, out: &mut Vec<u8>) -> Content {
        self.edit(bytes, end, out)
    }
}

impl Told {
    fn edit(&self, bytes: &[u8], end: bool, out: &mut Vec<u8>) -> Content {
        out.extend(bytes.iter().map(u8::to_ascii_uppercase));
        if end && self.brackets {
            out.extend_from_slice(b"<end>");
        }
        Content::Go
    }
}

fn passing() -> Vec<Box<dyn HttpFilter>> {
    vec![Box::new(Told::default())]
}

fn told(
    requests: impl IntoIterator<Item = Verdict>,
    responses: impl IntoIterator<Item = Verdict>,
) -> Box<dyn HttpFilter> {
    let (requests, responses) = (requests.into_iter().collect(), responses.into_iter().collect());
    Box::new(Told { requests, responses, brackets: true, ..Told::default() })
}

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: www.example\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn page() -> Verdict {
    Verdict::Answer(Box::new(Answer::page(403, "Forbidden", "no")))
}

#[test]
fn what_nobody_edits_goes_on_byte_by_byte_as_it_came() {
    let mut wire = Wire::new(passing());
    for _ in 0..3 {
        wire.client(GET);
        wire.server(OK);
    }
    assert_eq!(wire.to_server, GET.repeat(3));
    assert_eq!(wire.to_client, OK.repeat(3));
    assert_eq!(wire.end, End::Open);
}

#[test]
fn requests_ahead_wait_until_their_turn() {
    let mut wire = Wire::new(passing());
    wire.client(&GET.repeat(3));
    assert_eq!(wire.to_server, GET);
    wire.server(OK);
    assert_eq!(wire.to_server, GET.repeat(2));
    wire.server(OK);
    wire.server(OK);
    assert_eq!((wire.to_server, wire.to_client), (GET.repeat(3), OK.repeat(3)));
}

#[test]
fn an_answer_has_its_place_among_the_servers_and_the_connection_goes_on() {
    let mut wire = Wire::new(vec![told([Verdict::Pass, page(), Verdict::Pass], [])]);
    wire.client(&GET.repeat(3));
    wire.server(OK);
    assert_eq!(wire.to_server, GET.repeat(2), "the second one goes nowhere");
    wire.server(OK);
    let text = wire.told_client();
    let statuses: Vec<_> = text.split("HTTP/1.1 ").skip(1).map(|response| &response[..3]).collect();
    assert_eq!(statuses, ["200", "403", "200"], "{text}");
    assert!(text.contains("Content-Length: 2\r\n\r\nno"), "{text}");
    assert_eq!(wire.end, End::Open);
}

#[test]
fn a_client_that_does_not_take_its_answers_gets_no_more_of_them() {
    let mut wire = Wire::new(vec![told((0..1000).map(|_| page()), [])]);
    wire.room[1] = 1000;
    wire.client(&GET.repeat(1000));
    let sent = wire.to_client.len();
    assert!((1000..1300).contains(&sent), "{sent}");
    wire.room[1] = 0;
    wire.wait(Duration::from_secs(1));
    assert_eq!(wire.to_client.len(), sent);
    wire.room[1] = usize::MAX;
    wire.wait(Duration::from_secs(1));
    let answered = wire.told_client().matches("HTTP/1.1 403").count();
    assert!((200..300).contains(&answered), "{answered}: others have their turn, too");
    (0..5).for_each(|_| wire.wait(Duration::ZERO));
    assert_eq!(wire.told_client().matches("HTTP/1.1 403").count(), 1000);
}

#[test]
fn the_filters_before_see_an_answer_and_those_behind_do_not() {
    let mark = |mark| Box::new(Told { mark: Some(mark), ..Told::default() });
    let mut wire = Wire::new(vec![mark("first"), told([page()], []), mark("last")]);
    wire.client(GET);
    assert_eq!(wire.told_server(), "");
    assert!(wire.told_client().contains("X-Seen-By: first\r\n"), "{}", wire.told_client());
    assert!(!wire.told_client().contains("last"));
}

#[test]
fn content_that_is_edited_is_framed_anew() {
    let mut wire = Wire::new(vec![told([Verdict::Edit], [Verdict::Edit])]);
    wire.client(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    wire.server(OK);
    assert_eq!(
        wire.told_server(),
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nABC<end>\r\n0\r\n\r\n"
    );
    assert_eq!(
        wire.told_client(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nHELLO<end>\r\n0\r\n\r\n"
    );
    wire.client(GET);
    assert!(wire.to_server.ends_with(GET), "the next one is on its way");
}

#[test]
fn a_client_of_http_1_0_gets_edited_content_until_the_end() {
    let mut wire = Wire::new(vec![told([], [Verdict::Edit])]);
    wire.client(b"GET / HTTP/1.0\r\n\r\n");
    wire.server(OK);
    assert_eq!(wire.told_client(), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nHELLO<end>");
    assert_eq!(wire.end, End::Closed(Why::Finished));
}

#[test]
fn content_that_a_server_ends_with_its_stream_is_whole() {
    let mut wire = Wire::new(vec![told([], [Verdict::Edit])]);
    wire.client(GET);
    wire.server(b"HTTP/1.1 200 OK\r\n\r\nsome");
    wire.server(b" text");
    wire.server_ends();
    assert!(
        wire.told_client().ends_with("\r\n\r\n4\r\nSOME\r\n5\r\n TEXT\r\n5\r\n<end>\r\n0\r\n\r\n"),
        "{}",
        wire.told_client()
    );
}

#[test]
fn content_that_is_cut_off_never_looks_whole() {
    let mut wire = Wire::new(vec![told([], [Verdict::Edit])]);
    wire.client(GET);
    wire.server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome");
    wire.server_ends();
    assert!(!wire.told_client().contains("\r\n0\r\n"), "{}", wire.told_client());
    let mut wire = Wire::new(vec![told([], [Verdict::Edit])]);
    wire.client(b"GET / HTTP/1.0\r\n\r\n");
    wire.server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome");
    wire.server_ends();
    assert!(matches!(wire.end, End::Reset(_)));
}

#[test]
fn a_filter_that_waits_is_asked_again_when_its_ticket_is_answered_and_no_sooner() {
    let waiting = Told { requests: [Verdict::Wait, page()].into(), draws: true, ..Told::default() };
    let mut wire = Wire::new(vec![Box::new(waiting)]);
    wire.client(GET);
    wire.client(b"GET /next");
    assert_eq!((wire.told_client(), wire.told_server()), (String::new(), String::new()));
    wire.connection.hold = [Instant::ZERO; 2];
    wire.give();
    assert!(wire.told_client().starts_with("HTTP/1.1 403"), "{}", wire.told_client());
}

#[test]
fn a_request_that_cannot_be_understood_is_refused_and_ends_the_connection() {
    for (bytes, status) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
    ] {
        let mut wire = Wire::new(passing());
        wire.client(bytes);
        let text = wire.told_client();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert!(text.contains("Connection: close\r\n"), "{text}");
        assert!(matches!(wire.end, End::Closed(Why::Request(_))), "{:?}", wire.end);
        assert!(wire.to_server.is_empty());
    }
}

#[test]
fn a_head_that_does_not_come_to_an_end_is_answered_with_408() {
    let mut wire = Wire::new(passing());
    wire.client(b"GET / HTTP/1.1\r\nHo");
    wire.wait(Duration::from_secs(29));
    assert_eq!(wire.end, End::Open);
    wire.client(b"s");
    wire.wait(Duration::from_secs(1));
    assert!(wire.told_client().starts_with("HTTP/1.1 408 "), "{}", wire.told_client());
    assert_eq!(wire.end, End::Closed(Why::Slow));
}

#[test]
fn a_response_that_cannot_be_understood_is_502_as_long_as_none_has_begun() {
    let mut wire = Wire::new(passing());
    wire.client(GET);
    wire.server(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n");
    assert!(wire.told_client().starts_with("HTTP/1.1 502 "), "{}", wire.told_client());
    let mut wire = Wire::new(passing());
    wire.client(GET);
    wire.server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n");
    assert!(matches!(wire.end, End::Reset(Why::Response(_))), "{:?}", wire.end);
}

#[test]
fn a_response_that_nobody_asked_for_ends_the_connection() {
    let mut wire = Wire::new(passing());
    wire.client(GET);
    wire.server(&OK.repeat(2));
    assert_eq!(wire.to_client, OK);
    assert!(matches!(wire.end, End::Closed(Why::Response(_))), "{:?}", wire.end);
}

#[test]
fn interim_responses_go_before_the_final_one() {
    let mut wire = Wire::new(passing());
    wire.client(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
    wire.server(b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(wire.told_client(), "HTTP/1.1 100 Continue\r\n\r\n");
    wire.client(b"x");
    wire.server(OK);
    assert!(wire.to_client.ends_with(OK));
}

#[test]
fn behind_an_upgrade_everything_passes() {
    let mut wire = Wire::new(passing());
    wire.client(b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    wire.server(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x02hi",
    );
    wire.client(b"\x81\x80anything");
    assert!(wire.told_client().ends_with("hi"));
    assert!(wire.to_server.ends_with(b"anything"));
    assert_eq!(wire.end, End::Released);
}

#[test]
fn an_answer_to_a_request_whose_content_is_still_to_come_ends_the_connection() {
    let mut wire = Wire::new(vec![told([page()], [])]);
    wire.client(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
    assert!(wire.told_client().contains("Connection: close\r\n"), "{}", wire.told_client());
    assert_eq!(wire.end, End::Closed(Why::Finished));
}

#[test]
fn an_answer_may_be_given_while_the_request_goes_on() {
    let mut answer = Answer::page(200, "OK", "stale");
    answer.goes_on = true;
    let mut wire = Wire::new(vec![told([Verdict::Answer(Box::new(answer))], [])]);
    wire.client(&GET.repeat(2));
    assert!(wire.told_client().ends_with("\r\n\r\nstale"), "{}", wire.told_client());
    assert_eq!(wire.to_server, GET, "for the filter's own use");
    wire.server(OK);
    assert_eq!(wire.to_server, GET.repeat(2), "and then the next one");
    assert!(wire.told_client().ends_with("stale"), "{}", wire.told_client());
    wire.server(OK);
    assert!(wire.to_client.ends_with(OK));
}

#[test]
fn a_response_may_be_put_in_place_of_the_servers() {
    let mut wire = Wire::new(vec![told([], [page()])]);
    wire.client(&GET.repeat(2));
    wire.server(OK);
    assert!(wire.told_client().ends_with("\r\n\r\nno"), "{}", wire.told_client());
    wire.server(OK);
    assert!(wire.to_client.ends_with(OK));
    assert_eq!(wire.end, End::Open);
}

#[test]
fn a_server_that_fails_is_told_as_502_or_504() {
    for (failure, status) in [(Failure::Unreachable, 502), (Failure::Timeout, 504)] {
        let mut wire = Wire::new(passing());
        wire.client(GET);
        wire.server_fails(failure);
        assert!(wire.told_client().starts_with(&format!("HTTP/1.1 {status} ")), "{}", wire.told_client());
        assert_eq!(wire.end, End::Closed(Why::Server(failure)));
    }
    let mut wire = Wire::new(passing());
    wire.connection.exchange.may_redirect = true;
    wire.client(GET);
    wire.server(&OK[..OK.len() - 1]);
    assert!(!wire.connection.keeps_client(), "its response has begun");
}

/// Sends each request to the next of these servers.
struct Sends(VecDeque<Option<SocketAddrV4>>);

impl HttpFilter for Sends {
    fn request(&mut self, call: &mut Call<'_>, _request: &mut Request) -> Verdict {
        call.exchange.target = self.0.pop_front().flatten();
        Verdict::Pass
    }
}

#[test]
fn the_end_of_a_requests_content_follows_its_head_and_not_the_next_request() {
    let other = Some(SocketAddrV4::new(std::net::Ipv4Addr::new(198, 51, 100, 7), 80));
    let mut wire = Wire::new(vec![Box::new(Sends([other, None].into()))]);
    wire.client(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na");
    assert_eq!(wire.connection.target(), other);
    wire.server(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
    wire.client(&[b"bc", GET].concat());
    assert!(wire.to_server.ends_with(b"\r\n\r\nabc"), "{}", wire.told_server());
    assert_eq!(wire.connection.target(), other);
    wire.wait(Duration::from_millis(1));
    assert!(wire.to_server.ends_with(GET));
    assert_eq!(wire.connection.target(), None);
}

#[test]
fn nobody_answers_a_request_twice() {
    let mut answer = Answer::page(200, "OK", "stale");
    answer.goes_on = true;
    let answer = || Verdict::Answer(Box::new(answer.clone()));
    // By a filter further on, to the request or in place of its response.
    for (behind, asks) in [(told([page()], []), false), (told([], [page()]), true)] {
        let mut wire = Wire::new(vec![told([answer()], []), behind]);
        wire.client(&GET.repeat(2));
        if asks {
            wire.server(OK);
        }
        assert!(wire.told_client().ends_with("\r\n\r\nstale"), "{}", wire.told_client());
        assert!(wire.to_server.ends_with(GET), "the next one is on its way");
        wire.server(OK);
        assert!(
            wire.told_client().ends_with(&format!("stale{}", String::from_utf8_lossy(OK))),
            "{}",
            wire.told_client()
        );
    }
}

#[test]
fn an_answer_in_place_of_a_response_is_not_edited_by_those_behind() {
    let mut wire = Wire::new(vec![told([], [page()]), told([], [Verdict::Edit])]);
    wire.client(GET);
    wire.server(OK);
    assert!(wire.told_client().ends_with("\r\n\r\nno"), "{}", wire.told_client());
}

#[test]
fn a_response_whose_head_is_cut_off_is_502() {
    let mut wire = Wire::new(passing());
    wire.client(GET);
    wire.server(b"HTTP/1.1 200 OK\r\nCon");
    wire.server_ends();
    assert!(wire.told_client().starts_with("HTTP/1.1 502 "), "{}", wire.told_client());
}

#[test]
fn what_frames_a_message_goes_on_as_everybody_spells_it() {
    let mut wire = Wire::new(passing());
    wire.client(b"POST / HTTP/1.1\r\nHost: \ta \r\nTransfer-Encoding: Chunked \t\r\n\r\n0\r\n\r\n");
    assert!(wire.told_server().contains("\r\nTransfer-Encoding: Chunked\r\n"), "{}", wire.told_server());
    wire.server(b"HTTP/1.1 200 OK\r\nContent-Length:\t 2\r\n\r\nhi");
    assert_eq!(wire.told_client(), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");

    let plain: &[u8] = b"HTTP/1.1 200 OK\r\nX:\t y \r\nContent-Length:2\r\n\r\nhi";
    wire.client(GET);
    wire.server(plain);
    assert!(wire.to_client.ends_with(plain), "untouched: {}", wire.told_client());
}

#[test]
fn a_connection_whose_response_is_cut_off_is_over_whatever_the_client_still_says() {
    for head in
        ["Content-Length: 9\r\n\r\nsome", "Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n0\r\nX: y\r\n"]
    {
        let mut wire = Wire::new(passing());
        wire.client(GET);
        wire.server(format!("HTTP/1.1 200 OK\r\n{head}").as_bytes());
        wire.server_ends();
        assert_eq!(
            wire.end,
            End::Closed(Why::Response(Fault::Malformed("content that is cut off"))),
            "{head}"
        );
        assert!(wire.told_client().ends_with(head), "{}", wire.told_client());
    }
}

#[test]
fn a_connection_whose_server_leaves_without_a_response_is_over_without_a_word() {
    let mut wire = Wire::new(passing());
    wire.client(GET);
    wire.server_ends();
    assert_eq!((wire.end, wire.told_client()), (End::Closed(Why::Finished), String::new()));
}

#[test]
fn another_protocol_that_nobody_asked_for_is_502() {
    let mut wire = Wire::new(passing());
    wire.client(GET);
    wire.server(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x02hi",
    );
    assert!(wire.told_client().starts_with("HTTP/1.1 502 "), "{}", wire.told_client());
}

#[test]
fn what_a_client_sends_ahead_of_an_upgrade_passes_at_once() {
    let mut wire = Wire::new(passing());
    wire.client(b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nahead");
    wire.server(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert!(wire.to_server.ends_with(b"ahead"), "{}", wire.told_server());
}

#[test]
fn a_connection_that_was_said_to_end_ends_though_the_request_comes_late() {
    let mut wire = Wire::new(vec![told([], [Verdict::Edit])]);
    wire.client(b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\na");
    wire.server(OK);
    assert_eq!(wire.end, End::Open, "the request is not whole");
    wire.client(b"b");
    assert_eq!(wire.end, End::Closed(Why::Finished));
}

/// Both streams of some exchanges, with filters that edit, answer and wait, in pieces of these sizes.
fn run_in_pieces(sizes: &[usize]) -> (String, String, End) {
    let requests = [
        GET,
        b"POST /p HTTP/1.1\r\nHost: www.example\r\nTransfer-Encoding: chunked\r\n\r\n4;x=1\r\nwiki\r\n5\r\npedia\r\n0\r\nX-T: 1\r\n\r\n",
        GET,
        b"POST /q HTTP/1.1\r\nHost: www.example\r\nContent-Length: 11\r\n\r\nhello world",
        GET,
    ];
    let responses = [
        OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n2\r\nuv\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    ];
    let filters: Vec<Box<dyn HttpFilter>> = vec![
        Box::new(Told { mark: Some("m"), ..Told::default() }),
        told(
            [Verdict::Pass, Verdict::Edit, page(), Verdict::Watch],
            [Verdict::Watch, Verdict::Edit, Verdict::Pass],
        ),
    ];
    let mut wire = Wire::new(filters);
    let mut sizes = sizes.iter().copied().cycle();
    let mut size = || sizes.next().unwrap_or(1).max(1);
    let mut client: &[u8] = &requests.concat();
    while !client.is_empty() {
        let (piece, rest) = client.split_at(size().min(client.len()));
        wire.client(piece);
        client = rest;
    }
    for (place, mut response) in responses.into_iter().enumerate() {
        // A server does not answer before it is asked.
        assert!(wire.told_server().matches(" HTTP/1.1\r\n").count() > place, "{}", wire.told_server());
        while !response.is_empty() {
            let (piece, rest) = response.split_at(size().min(response.len()));
            wire.server(piece);
            response = rest;
        }
    }
    wire.server_ends();
    (dechunked(&wire.to_server), dechunked(&wire.to_client), wire.end)
}

/// Chunks show how content came, which is not what matters: their sizes are left out.
fn dechunked(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let is_size = |line: &&str| !(line.len() <= 2 && line.bytes().all(|byte| byte.is_ascii_hexdigit()));
    text.split("\r\n").filter(is_size).collect()
}

proptest! {
    #[test]
    fn the_pieces_in_which_streams_come_change_nothing(sizes in proptest::collection::vec(1..80_usize, 1..20)) {
        prop_assert_eq!(run_in_pieces(&sizes), run_in_pieces(&[100_000]));
    }

    #[test]
    fn no_bytes_make_it_panic_or_wait_for_ever(
        client in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
        server in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
        begun in any::<bool>(),
    ) {
        let mut wire = Wire::new(vec![told([Verdict::Edit], [Verdict::Edit])]);
        if begun {
            wire.client(GET);
        }
        for (client, server) in client.iter().zip(&server) {
            wire.client(client);
            wire.server(server);
        }
        wire.server_ends();
    }
}

#[test]
fn streams_cut_at_every_byte_come_out_the_same() {
    assert_eq!(run_in_pieces(&[1]), run_in_pieces(&[100_000]));
}
