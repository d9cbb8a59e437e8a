//! What filters may cost: time per call, and bytes per look.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::coding::Coding;
use crate::coding::decode::{Decoder, Limits as DecodeLimits};
use crate::coding::encode::{Encoder, Flush, Level};
use crate::filter::PORTION;
use crate::filters::{Kinds, Lasting, Section};
use crate::websocket::Frame;

/// Takes so long for each call of this kind.
struct Slow {
    kind: &'static str,
    takes: Duration,
    clock: Arc<AtomicU64>,
}

impl Slow {
    fn work(&self, kind: &str) {
        if kind == self.kind {
            self.clock.fetch_add(self.takes.as_nanos() as u64, Relaxed);
        }
    }
}

impl HttpFilter for Slow {
    fn request(&mut self, call: &mut Call<'_>, _: &mut Request) -> Verdict {
        self.work("request");
        if self.kind == "answered" {
            call.gateway.ticket().answer(Box::new(()));
            return Verdict::Wait;
        }
        Verdict::Edit
    }

    fn request_body(&mut self, _: &mut Call<'_>, _: &[u8], _: bool, _: &mut Vec<u8>) -> Content {
        self.work("request_body");
        Content::Go
    }

    fn response(&mut self, _: &mut Call<'_>, _: &Request, _: &mut Response) -> Verdict {
        self.work("response");
        Verdict::Edit
    }

    fn response_body(&mut self, _: &mut Call<'_>, _: &[u8], _: bool, _: &mut Vec<u8>) -> Content {
        self.work("response_body");
        Content::Go
    }

    fn answered(&mut self, _: &mut Call<'_>, _: Box<dyn Any + Send>) {
        self.work("answered");
    }

    fn wants_frames(&mut self, _: &mut Call<'_>, _: &Request, _: &Response) -> bool {
        true
    }

    fn frame(&mut self, _: &mut Call<'_>, _: Stream, _: &Frame<'_>) -> Content {
        self.work("frame");
        Content::Go
    }

    fn failed(&mut self, _: &mut Call<'_>, _: &Request, _: Failure) -> Option<Box<Answer>> {
        self.work("failed");
        None
    }

    fn done(&mut self, _: &mut Call<'_>, _: &Request, _: Option<&Response>, _: &Record) {
        self.work("done");
    }
}

/// A connection whose second filter takes 1.2 s for calls of this kind.
fn slow(kind: &'static str, budget: Duration) -> Wire {
    let mut wire = Wire::new(Vec::new());
    let clock = Arc::clone(&wire.gateway.nanos);
    let filters: [(Arc<str>, Box<dyn HttpFilter>); 2] = [
        ("first".into(), Box::new(Told::default())),
        ("slow".into(), Box::new(Slow { kind, takes: Duration::from_millis(1200), clock })),
    ];
    let cascade = Cascade::new(filters).with_budgets([Duration::from_secs(1), budget]);
    wire.connection = Connection::new(Arc::new(Settings::default()), cascade, exchange());
    wire
}

const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";

fn overruns(wire: &Wire) -> u32 {
    wire.gateway.accounts.iter().filter(|(name, _)| &**name == "slow").map(|(_, usage)| usage.overruns).sum()
}

#[test]
fn a_filter_that_overruns_its_budget_ends_the_connection_with_503_where_no_response_has_begun() {
    for kind in ["request", "answered", "request_body", "response"] {
        let mut wire = slow(kind, Duration::from_secs(1));
        wire.client(POST);
        wire.give();
        wire.server(OK);
        let text = wire.told_client();
        assert!(
            text.starts_with("HTTP/1.1 503 ") && text.contains("Connection: close\r\n"),
            "{kind}: {text}"
        );
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{kind}: {text}");
        assert_eq!(wire.end, End::Closed(Why::Overrun), "{kind}");
        let verdict = wire.connection.exchange().verdict.as_deref();
        assert_eq!(verdict, Some("slow: took 1.2s, more than its 1s"), "{kind}");
        assert_eq!(overruns(&wire), 1, "{kind}");
    }
}

#[test]
fn a_filter_that_overruns_its_budget_within_a_response_resets_the_connection() {
    let mut wire = slow("response_body", Duration::from_secs(1));
    wire.client(POST);
    wire.server(OK);
    assert_eq!(wire.end, End::Reset(Why::Overrun));
    assert!(!wire.told_client().contains("\r\n0\r\n"), "{}", wire.told_client());
    wire.connection.close(wire.now, &mut wire.gateway);
    assert_eq!(overruns(&wire), 1);
}

#[test]
fn a_filter_that_overruns_its_budget_with_a_frame_resets_the_connection() {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{upgrade}Sec-WebSocket-Version: 13\r\n\r\n");
    let mut wire = slow("frame", Duration::from_secs(1));
    wire.client(request.as_bytes());
    wire.server(format!("HTTP/1.1 101 Switching Protocols\r\n{upgrade}\r\n").as_bytes());
    assert_eq!(wire.end, End::Open, "its frames are seen");
    wire.client(b"\x81\x82\0\0\0\0hi");
    assert_eq!(wire.end, End::Reset(Why::Overrun));
}

#[test]
fn a_filter_that_takes_too_long_behind_an_exchange_does_not_see_another_one() {
    let mut wire = slow("done", Duration::from_secs(1));
    wire.client(POST);
    wire.server(OK);
    assert!(wire.told_client().starts_with("HTTP/1.1 200 "), "{}", wire.told_client());
    assert_eq!((wire.end, overruns(&wire)), (End::Open, 1));
    wire.client(POST);
    assert!(wire.told_client().contains("HTTP/1.1 503 "), "{}", wire.told_client());
    assert_eq!(wire.end, End::Closed(Why::Overrun));
    assert!(wire.connection.exchange().verdict.is_some());
}

#[test]
fn a_filter_that_takes_too_long_for_an_answer_gives_none() {
    let mut wire = slow("failed", Duration::from_secs(1));
    wire.client(GET);
    wire.server_fails(Failure::Timeout);
    assert!(wire.told_client().starts_with("HTTP/1.1 50"), "{}", wire.told_client());
    assert_eq!(overruns(&wire), 1);
}

#[test]
fn a_filter_within_its_budget_goes_on_though_its_calls_add_up() {
    for kind in ["request", "request_body", "response", "response_body", "done"] {
        let mut wire = slow(kind, Duration::from_millis(1200));
        for _ in 0..3 {
            wire.client(POST);
            wire.server(OK);
        }
        assert_eq!(wire.told_client().matches("HTTP/1.1 200 ").count(), 3, "{kind}");
        assert_eq!((wire.end, overruns(&wire)), (End::Open, 0), "{kind}");
    }
}

#[test]
fn a_client_that_has_its_answer_keeps_it_though_a_filter_overruns_its_budget_behind() {
    let mut answer = Answer::page(200, "OK", "stale");
    answer.goes_on = true;
    let mut wire = slow("response", Duration::from_secs(1));
    let clock = Arc::clone(&wire.gateway.nanos);
    let filters: [(Arc<str>, Box<dyn HttpFilter>); 2] = [
        ("cache".into(), told([Verdict::Answer(Box::new(answer))], [])),
        ("slow".into(), Box::new(Slow { kind: "response", takes: Duration::from_secs(2), clock })),
    ];
    wire.connection = Connection::new(Arc::new(Settings::default()), Cascade::new(filters), exchange());
    wire.client(GET);
    wire.server(OK);
    assert!(wire.told_client().ends_with("\r\n\r\nstale"), "{}", wire.told_client());
    assert_eq!(wire.end, End::Closed(Why::Overrun));
}

/// What one look writes at most: what it may, one portion more, and what frames it.
const ONE_LOOK: usize = 256 * 1024 + 2 * PORTION;

/// A filter of this crate.
fn filter(kind: &str, keys: &str) -> Box<dyn HttpFilter> {
    let keys = toml::from_str(keys).expect("TOML");
    let section = Section { name: kind, keys, lasting: &Lasting::default(), rehearsal: false };
    Kinds::default().configure(kind, &section).expect("a kind").expect("its keys").filter()
}

/// Answers every request with these bytes.
struct Holds {
    content: Vec<Bytes>,
    goes_on: bool,
    responses: bool,
}

impl Holds {
    fn answer(&self) -> Verdict {
        let mut answer = Answer::page(200, "OK", "");
        answer.content.clone_from(&self.content);
        answer.goes_on = self.goes_on;
        Verdict::Answer(Box::new(answer))
    }
}

impl HttpFilter for Holds {
    fn request(&mut self, _: &mut Call<'_>, _: &mut Request) -> Verdict {
        if self.responses { Verdict::Pass } else { self.answer() }
    }

    fn response(&mut self, _: &mut Call<'_>, _: &Request, _: &mut Response) -> Verdict {
        if self.responses { self.answer() } else { Verdict::Pass }
    }
}

/// Sees all of a response, or edits it in vain.
struct Sees(Verdict, Content);

impl HttpFilter for Sees {
    fn response(&mut self, _: &mut Call<'_>, _: &Request, _: &mut Response) -> Verdict {
        if self.0 == Verdict::Watch { Verdict::Watch } else { Verdict::Edit }
    }

    fn response_body(&mut self, _: &mut Call<'_>, bytes: &[u8], _: bool, out: &mut Vec<u8>) -> Content {
        out.extend_from_slice(bytes);
        self.1
    }
}

/// Ten megabytes in pieces, and a filter that gives them as its answer, or in place of a response.
fn holds(responses: bool, goes_on: bool) -> (Vec<u8>, Box<dyn HttpFilter>) {
    let all: Vec<u8> = (0..10_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let content = all.chunks(3_000_000).map(Bytes::copy_from_slice).collect();
    (all, Box::new(Holds { content, goes_on, responses }))
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(Coding::Gzip, Level::default(), Framing::Chunked).expect("an encoder");
    encoder.encode(content, Flush::End, &mut out).expect("it can be coded");
    out
}

impl Wire {
    /// Looks until nothing is to be looked at any more; answers how often, and what the most was that one look wrote.
    fn look_on(&mut self) -> (u32, usize) {
        let (mut looks, mut most) = (0, 0);
        for stream in [Stream::First, Stream::Second] {
            while self.end == End::Open && self.wake[stream as usize].is_some_and(|wake| wake <= self.now) {
                let before = self.to_client.len() + self.to_server.len();
                self.look(stream);
                (looks, most) = (looks + 1, most.max(self.to_client.len() + self.to_server.len() - before));
                assert!(looks < 100_000, "no end");
            }
        }
        (looks, most)
    }
}

/// The content of the first response, out of its chunks.
fn content(told: &[u8]) -> Vec<u8> {
    let mut reader = ResponseReader::default();
    let (mut response, mut at, mut content) = (Response::default(), 0, Vec::new());
    reader.expect("GET");
    loop {
        match reader.next(&told[at..], 0, &Limits::default(), &mut response).expect("a response") {
            codec::Part::Head(len) => at += len,
            codec::Part::Content { taken, content: range, end } => {
                content.extend_from_slice(&told[at..][range]);
                at += taken;
                if end {
                    return content;
                }
            }
            codec::Part::More => panic!("cut off"),
        }
    }
}

#[test]
fn content_that_grows_is_written_bit_by_bit_in_both_directions() {
    let plain = vec![b'x'; 20 << 20];
    let coded = gzip(&plain);
    let head = format!("Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", coded.len());
    let keys = "max_ratio = 2000\nrequest = true";
    let mut wire = Wire::new(vec![Box::new(Told::default()), filter("decompress", keys)]);
    wire.client(&[b"POST / HTTP/1.1\r\nHost: a\r\n", head.as_bytes(), &coded].concat());
    assert!((100_000..ONE_LOOK).contains(&wire.to_server.len()), "{}", wire.to_server.len());
    let (looks, most) = wire.look_on();
    assert!(looks > 50 && most <= ONE_LOOK, "{looks} {most}");
    assert!(wire.to_server.len() > plain.len() && wire.to_server.ends_with(b"\r\n0\r\n\r\n"));
    wire.to_server.clear();
    wire.server(&[b"HTTP/1.1 200 OK\r\n", head.as_bytes(), &coded].concat());
    assert!((100_000..ONE_LOOK).contains(&wire.to_client.len()), "{}", wire.to_client.len());
    let (looks, most) = wire.look_on();
    assert!(looks > 50 && most <= ONE_LOOK, "{looks} {most}");
    assert!(content(&wire.to_client) == plain);
    wire.client(GET);
    assert!(wire.told_server().starts_with("GET /a "), "the next one is on its way: {}", wire.told_server());
}

#[test]
fn content_that_ends_with_the_stream_is_all_there_though_it_takes_many_looks() {
    let plain = vec![b'x'; 5 << 20];
    for request in [GET, b"GET / HTTP/1.0\r\n\r\n"] {
        let mut wire = Wire::new(vec![filter("decompress", "max_ratio = 2000")]);
        wire.client(request);
        wire.server(&[&b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"[..], &gzip(&plain)].concat());
        wire.server_ends();
        wire.look_on();
        let at = wire.to_client.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
        let text = String::from_utf8_lossy(&wire.to_client[..at]).into_owned();
        if text.contains("chunked") {
            assert!(content(&wire.to_client) == plain, "{text}");
        } else {
            assert!(wire.to_client[at..] == plain && wire.end == End::Open, "{text}");
        }
    }
}

#[test]
fn filters_write_no_more_than_the_receiver_has_room_for() {
    let coded = gzip(&vec![b'x'; 5 << 20]);
    let head = format!("Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", coded.len());
    let keys = "max_ratio = 2000\nrequest = true";
    for stream in [Stream::First, Stream::Second] {
        let mut wire = Wire::new(vec![filter("decompress", keys)]);
        if stream == Stream::Second {
            wire.client(GET);
        }
        let before = wire.to_server.len();
        wire.room[stream as usize] = 1000;
        match stream {
            Stream::First => {
                wire.client(&[b"POST / HTTP/1.1\r\nHost: a\r\n", head.as_bytes(), &coded].concat())
            }
            Stream::Second => wire.server(&[b"HTTP/1.1 200 OK\r\n", head.as_bytes(), &coded].concat()),
        }
        let written = wire.to_client.len() + wire.to_server.len() - before;
        assert!((1000..2 * PORTION).contains(&written), "{written}");
        assert!(wire.wants_room);
        wire.room[stream as usize] = 0;
        wire.wait(Duration::from_secs(10));
        assert_eq!(wire.to_client.len() + wire.to_server.len() - before, written);
        wire.room = [usize::MAX; 2];
        wire.look(stream);
        wire.look_on();
        let written = wire.to_client.len() + wire.to_server.len();
        assert!(written > 5 << 20 && !wire.wants_room, "{written}");
    }
}

#[test]
fn an_answer_that_filters_edit_is_written_bit_by_bit_and_the_connection_goes_on() {
    for responses in [false, true] {
        let (all, holds) = holds(responses, false);
        let mut wire = Wire::new(vec![Box::new(Sees(Verdict::Edit, Content::Go)), holds]);
        wire.client(&GET.repeat(2));
        if responses {
            wire.server(OK);
        }
        assert!((100_000..ONE_LOOK).contains(&wire.to_client.len()), "{}", wire.to_client.len());
        let asked = wire.to_server.len();
        assert_eq!(asked, if responses { GET.len() } else { 0 }, "the next one waits");
        let (looks, most) = wire.look_on();
        assert!(looks > 30 && most <= ONE_LOOK, "{looks} {most}");
        let text = String::from_utf8_lossy(&wire.to_client[..300]).into_owned();
        assert!(text.contains("Transfer-Encoding: chunked\r\n"), "{text}");
        assert!(content(&wire.to_client) == all);
        if responses {
            assert_eq!(wire.to_server.len(), 2 * asked, "the next one is on its way");
        } else {
            assert!(wire.to_client.len() > 2 * all.len(), "the next one is answered, too");
        }
        assert_eq!(wire.end, End::Open);
    }
}

#[test]
fn an_answer_that_filters_watch_keeps_its_length() {
    let (all, holds) = holds(false, false);
    let mut wire = Wire::new(vec![Box::new(Sees(Verdict::Watch, Content::Go)), holds]);
    wire.client(GET);
    let (looks, most) = wire.look_on();
    assert!(looks > 30 && most <= ONE_LOOK, "{looks} {most}");
    let text = String::from_utf8_lossy(&wire.to_client[..300]).into_owned();
    assert!(text.contains(&format!("Content-Length: {}\r\n", all.len())), "{text}");
    assert!(content(&wire.to_client) == all);
}

#[test]
fn an_edited_answer_for_http_1_0_lasts_until_the_end_and_one_to_head_has_no_content() {
    let (all, holds) = holds(false, false);
    let mut wire = Wire::new(vec![Box::new(Sees(Verdict::Edit, Content::Go)), holds]);
    wire.client(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    wire.look_on();
    assert!(wire.to_client.ends_with(&all) && wire.end == End::Closed(Why::Finished));
    let (_, holds) = self::holds(false, false);
    let mut wire = Wire::new(vec![Box::new(Sees(Verdict::Edit, Content::Go)), holds]);
    wire.client(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(wire.told_client().ends_with("\r\n\r\n") && wire.to_client.len() < 500, "{}", wire.told_client());
    assert!(!wire.told_client().contains("Content-Length"), "{}", wire.told_client());
    let mut wire = Wire::new(vec![Box::new(Sees(Verdict::Edit, Content::Go))]);
    wire.client(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    wire.server(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(wire.told_client(), "HTTP/1.1 200 OK\r\n\r\n");
}

#[test]
fn a_short_answer_that_filters_edit_says_its_length() {
    let mut wire = Wire::new(vec![told([], [Verdict::Edit]), told([page()], [])]);
    wire.client(GET);
    assert!(wire.told_client().ends_with("Content-Length: 7\r\n\r\nNO<end>"), "{}", wire.told_client());
}

#[test]
fn a_request_goes_on_behind_an_answer_that_took_many_looks() {
    let (all, holds) = holds(false, true);
    let mut wire = Wire::new(vec![Box::new(Sees(Verdict::Edit, Content::Go)), holds]);
    wire.client(GET);
    assert_eq!(wire.told_server(), "");
    wire.look_on();
    assert!(content(&wire.to_client) == all);
    assert_eq!(wire.to_server, GET);
    let told = wire.to_client.len();
    wire.server(OK);
    assert_eq!((wire.to_client.len(), wire.end), (told, End::Open));
}

#[test]
fn a_filter_that_comes_to_no_end_holds_up_nobody_else() {
    let endless = || -> Box<dyn HttpFilter> { Box::new(Sees(Verdict::Edit, Content::More)) };
    let mut wire = Wire::new(vec![endless()]);
    wire.client(GET);
    wire.server(OK);
    assert!(wire.to_client.len() < 1000, "{}", wire.to_client.len());
    assert!(wire.wake[1].is_some_and(|wake| wake <= wire.now));
    let mut wire = Wire::new(vec![endless(), Box::new(server::Excuses(100))]);
    wire.client(GET);
    wire.server_fails(Failure::Timeout);
    assert!(wire.to_client.len() < 1000, "{}", wire.to_client.len());
    assert!(wire.wake[1].is_some_and(|wake| wake <= wire.now));
}

/// What filters make of a page, where each look has the next of these rooms; the server's stream, or the answer, comes in pieces.
fn in_rooms(answered: bool, page: &[u8], rooms: &[usize], cut: usize) -> Vec<u8> {
    let edits = || {
        vec![
            filter("compress", "min_length = 1"),
            filter("body-replace", "replace = [{ find = 'b', with = 'cc' }]"),
        ]
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n";
    let coded = gzip(page);
    let mut filters = edits();
    if answered {
        let content = page.chunks(cut.max(1) * 100).map(Bytes::copy_from_slice).collect();
        filters.push(Box::new(Holds { content, goes_on: false, responses: false }));
    } else {
        filters.push(filter("decompress", "max_ratio = 2000"));
    }
    let mut wire = Wire::new(filters);
    let mut rooms = rooms.iter().cycle();
    let mut room = move || [usize::MAX, *rooms.next().expect("one at least")];
    wire.room = room();
    wire.client(b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br\r\n\r\n");
    if !answered {
        let stream = format!("{head}Content-Length: {}\r\n\r\n", coded.len());
        for piece in [stream.as_bytes(), &coded].concat().chunks(cut.max(1)) {
            wire.room = room();
            wire.server(piece);
        }
    }
    for _ in 0..100_000 {
        let Some(stream) =
            [Stream::First, Stream::Second].into_iter().find(|&stream| wire.wake[stream as usize].is_some())
        else {
            break;
        };
        let before = wire.to_client.len();
        wire.room = room();
        let most = wire.room[1] + ONE_LOOK;
        wire.look(stream);
        assert!(wire.to_client.len() - before <= most);
    }
    let mut plain = Vec::new();
    let mut decoder =
        Decoder::new(&[Coding::Br].into_iter().collect(), DecodeLimits { ratio: u32::MAX, burst: 0 });
    decoder.decode_all(&content(&wire.to_client), true, &mut plain).expect("it is br");
    plain
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn whatever_room_there_is_filters_make_the_same_of_a_page(
        answered: bool,
        rooms in proptest::collection::vec(0..60_000_usize, 1..6),
        cut in 1..3000_usize,
        words in proptest::collection::vec("[a-c]{1,9}|<[x-z]{300}>", 1..400),
        times in 1..20_usize,
    ) {
        let rooms = [&rooms[..], &[1]].concat();
        let page = words.concat().repeat(times);
        let expected = page.replace('b', "cc");
        let plain = in_rooms(answered, page.as_bytes(), &rooms, cut);
        prop_assert!(plain == expected.as_bytes(), "{} bytes, not {}", plain.len(), expected.len());
    }
}

/// Counts what it is shown of frames and content.
struct Counts(Arc<AtomicU64>);

impl Counts {
    fn count(&self) -> Content {
        self.0.fetch_add(1, Relaxed);
        Content::Go
    }
}

impl HttpFilter for Counts {
    fn request(&mut self, _: &mut Call<'_>, _: &mut Request) -> Verdict {
        Verdict::Watch
    }

    fn request_body(&mut self, _: &mut Call<'_>, _: &[u8], _: bool, _: &mut Vec<u8>) -> Content {
        self.count()
    }

    fn response(&mut self, _: &mut Call<'_>, _: &Request, _: &mut Response) -> Verdict {
        Verdict::Watch
    }

    fn response_body(&mut self, _: &mut Call<'_>, _: &[u8], _: bool, _: &mut Vec<u8>) -> Content {
        self.count()
    }

    fn wants_frames(&mut self, _: &mut Call<'_>, _: &Request, _: &Response) -> bool {
        true
    }

    fn frame(&mut self, _: &mut Call<'_>, _: Stream, _: &Frame<'_>) -> Content {
        self.count()
    }
}

#[test]
fn what_comes_in_tiny_pieces_is_shown_in_so_many_calls_per_look_and_passes_as_it_came() {
    const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    const AGREE: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (request, response, sender, piece) in [
        (UPGRADE, AGREE, Stream::Second, &b"\x89\0"[..]),
        (UPGRADE, AGREE, Stream::First, b"\x89\x80\0\0\0\0"),
        (GET, CHUNKED, Stream::Second, b"1\r\nx\r\n"),
        (POST, b"", Stream::First, b"1\r\nx\r\n"),
    ] {
        let calls = Arc::new(AtomicU64::new(0));
        let mut wire = Wire::new(vec![Box::new(Counts(Arc::clone(&calls)))]);
        wire.client(request);
        wire.server(response);
        wire.held[sender as usize] = piece.repeat(2000);
        let mut looks = 0;
        while !wire.held[sender as usize].is_empty() {
            let before = calls.load(Relaxed);
            wire.look(sender);
            assert!(calls.load(Relaxed) - before <= 300);
            looks += 1;
            assert!(looks < 100);
        }
        assert!(looks > 5, "{looks}");
        assert_eq!((calls.load(Relaxed), wire.end), (2000, End::Open));
        assert!(wire.out(sender).ends_with(&piece.repeat(2000)));
    }
}

#[test]
fn a_filter_that_ends_what_only_filters_see_ends_the_connection() {
    /// Answers at once, and breaks off what comes of the server.
    struct BreaksOff;
    impl HttpFilter for BreaksOff {
        fn request(&mut self, _: &mut Call<'_>, _: &mut Request) -> Verdict {
            Verdict::Answer(Box::new(Answer { goes_on: true, ..Answer::page(200, "OK", "stale") }))
        }

        fn response(&mut self, _: &mut Call<'_>, _: &Request, _: &mut Response) -> Verdict {
            Verdict::Watch
        }

        fn response_body(&mut self, _: &mut Call<'_>, _: &[u8], _: bool, _: &mut Vec<u8>) -> Content {
            Content::Reset
        }
    }
    let mut wire = Wire::new(vec![Box::new(BreaksOff)]);
    wire.client(GET);
    assert_eq!(wire.end, End::Open);
    wire.server(OK);
    assert_eq!(wire.end, End::Reset(Why::Filter));
}
