//! Filters by transcript: `>>` is what happens to the chain, `<<` is all that comes out of it because of that, `==` asks
//! what the chain or the flow says of itself.

mod filter_bench;
#[path = "filter_script/http2.rs"]
mod http2;
#[path = "filter_script/slow.rs"]
mod slow;
#[path = "filter_script/web.rs"]
mod web;

use std::fmt::Write;

use filter_bench::{Bench, block, chains, flow, limit, log, replace};
use pnat_proxy::chunk::Chunk;
use pnat_proxy::filter::{DatagramChain, Datagrams, Outcome, Services, Turn};
use pnat_shared::config::{BlockAnswer, BlockFilter, FilterKind, LimitBy};
use pnat_shared::flow::{Protocol, Stream};
use pnat_shared::testkit::VecFrame;
use pnat_shared::time::{Duration, Instant};

/// Plays a transcript's `>>` lines on a chain of these filters, and compares the whole transcript.
fn play(kinds: impl IntoIterator<Item = FilterKind>, transcript: &str) {
    let mut bench = Bench::new(&chains(kinds));
    compare(transcript, |line, told| {
        match *words(line) {
            [">>", "end", name] => bench.finish(stream(name)),
            [">>", "wait", time] => bench.wait_until(bench.now + millis(time)),
            [">>", name, ..] => bench.push(stream(name), &quoted(line)),
            ["==", "held", name, _] => {
                return writeln!(told, "== held {name} {}", bench.chain.held(stream(name))).unwrap();
            }
            ["==", "released", _] => {
                return writeln!(told, "== released {}", bench.chain.is_released()).unwrap();
            }
            ["==", "name", ..] => return writeln!(told, "== name {:?}", bench.flow.name).unwrap(),
            ["==", "verdict", ..] => return writeln!(told, "== verdict {:?}", bench.flow.verdict).unwrap(),
            _ => panic!("not a line of a transcript: {line}"),
        }
        writeln!(told, "{line}").unwrap();
        for (stream, to) in [(Stream::First, "to_server"), (Stream::Second, "to_client")] {
            let bytes = bench.take(stream);
            if !bytes.is_empty() {
                writeln!(told, "<< {to} \"{}\"", bytes.escape_ascii()).unwrap();
            }
            if std::mem::take(&mut bench.out.ended[stream as usize]) {
                writeln!(told, "<< end {to}").unwrap();
            }
        }
        match bench.out.outcome.take() {
            None => {}
            Some(Outcome::Reset(reason)) => writeln!(told, "<< reset {reason}").unwrap(),
            Some(Outcome::Answer { to, reason }) => writeln!(told, "<< answer {to:?} {reason}").unwrap(),
        }
    });
}

/// As [`play`], for datagrams.
fn play_datagrams(kinds: impl IntoIterator<Item = FilterKind>, transcript: &str) {
    let mut chain: DatagramChain<VecFrame> = chains(kinds).datagram(Some(0));
    let (mut flow, mut services) = (flow(Protocol::Udp, "10.0.0.5:4000"), Services::default());
    let mut out = Datagrams::default();
    let mut now = Instant::from_secs(1);
    compare(transcript, |line, told| {
        let mut turn = Turn { now, flow: &mut flow, services: &mut services, out: &mut out };
        match *words(line) {
            [">>", "wait", time] => {
                now += millis(time);
                turn.now = now;
                if chain.deadline() <= now {
                    chain.on_timer(&mut turn);
                }
            }
            [">>", name, ..] => {
                let chunk = Chunk::from_vec(quoted(line));
                chain.push(&mut turn, stream(name), chunk);
            }
            ["==", "released", _] => return writeln!(told, "== released {}", chain.is_released()).unwrap(),
            ["==", "verdict", ..] => return writeln!(told, "== verdict {:?}", flow.verdict).unwrap(),
            _ => panic!("not a line of a transcript: {line}"),
        }
        writeln!(told, "{line}").unwrap();
        for (stream, to) in [(Stream::First, "to_server"), (Stream::Second, "to_client")] {
            for datagram in out.stream(stream).drain(..) {
                writeln!(told, "<< {to} \"{}\"", datagram.bytes().escape_ascii()).unwrap();
            }
        }
        match std::mem::take(&mut out) {
            Datagrams { filtered: 0, overflowed: 0, closed: None, .. } => {}
            Datagrams { filtered, closed: None, .. } => writeln!(told, "<< filtered {filtered}").unwrap(),
            Datagrams { filtered, closed: Some(reason), .. } => {
                writeln!(told, "<< filtered {filtered}\n<< close {reason}").unwrap();
            }
        }
    });
}

/// Calls `step` with each line that is not an answer; what it tells must be the transcript.
fn compare(transcript: &str, mut step: impl FnMut(&str, &mut String)) {
    let expected: String = transcript
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| format!("{line}\n"))
        .collect();
    let mut told = String::new();
    for line in expected.lines().filter(|line| !line.starts_with("<<")) {
        step(line, &mut told);
    }
    assert!(told == expected, "expected:\n{expected}\nbut it went:\n{told}");
}

fn words(line: &str) -> Box<[&str]> {
    line.split(' ').collect()
}

fn stream(name: &str) -> Stream {
    match name {
        "first" => Stream::First,
        "second" => Stream::Second,
        _ => panic!("not a stream: {name}"),
    }
}

fn millis(time: &str) -> Duration {
    Duration::from_millis(time.strip_suffix("ms").and_then(|time| time.parse().ok()).expect("milliseconds"))
}

/// The bytes between a line's quotes.
fn quoted(line: &str) -> Vec<u8> {
    let (_, text) = line.split_once('"').expect("a quote");
    let mut rest = text.strip_suffix('"').expect("a quote at the end").bytes();
    let mut bytes = Vec::new();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(b'x') => {
                    let digits: String = rest.by_ref().take(2).map(char::from).collect();
                    u8::from_str_radix(&digits, 16).expect("two hexadecimal digits")
                }
                Some(other) => other,
                None => panic!("nothing behind a backslash"),
            },
            byte => byte,
        });
    }
    bytes
}

#[test]
fn log_learns_the_host_and_lets_go_without_holding_a_byte() {
    play(
        [log()],
        r#"
        >> first "GET / HTTP/1.1\r\nHos"
        << to_server "GET / HTTP/1.1\r\nHos"
        == released false
        >> first "t: www.example.com\r\n\r\n"
        << to_server "t: www.example.com\r\n\r\n"
        == name Some("www.example.com")
        == released true
        "#,
    );
}

#[test]
fn a_request_to_a_blocked_host_is_answered_with_a_page_and_the_server_sees_nothing_of_it() {
    play(
        [log(), block(&[], &["*.bad.example"], &[])],
        r#"
        >> first "GET / HTTP/1.1\r\nHost: www.B"
        == held first 27
        >> first "ad.Example:80\r\n\r\n"
        << to_client "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\nContent-Length: 11\r\nConnection: close\r\n\r\n<h1>no</h1>"
        << end to_client
        << answer First blocked
        == name Some("www.bad.example")
        == verdict Some("f1: HTTP host www.bad.example")
        >> first "more"
        >> second "late"
        >> end first
        "#,
    );
}

#[test]
fn a_head_request_is_answered_without_a_body() {
    play(
        [block(&[], &["bad.example"], &[])],
        r#"
        >> first "HEAD http://bad.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n"
        << to_client "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\nContent-Length: 11\r\nConnection: close\r\n\r\n"
        << end to_client
        << answer First blocked
        "#,
    );
}

#[test]
fn a_second_request_to_a_blocked_host_on_the_same_connection_is_reset() {
    play(
        [block(&[], &["bad.example"], &[])],
        r#"
        >> first "POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 5\r\n\r\nhello"
        << to_server "POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 5\r\n\r\nhello"
        >> second "HTTP/1.1 204 No Content\r\n\r\n"
        << to_client "HTTP/1.1 204 No Content\r\n\r\n"
        >> first "GET / HTTP/1.1\r\nHost: bad.example\r\n\r\n"
        << reset blocked
        == verdict Some("f0: HTTP host bad.example")
        "#,
    );
}

#[test]
fn a_pipelined_request_to_a_blocked_host_does_not_hide_in_a_body() {
    play(
        [block(&[], &["bad.example"], &[])],
        r#"
        >> first "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HT"
        << to_server "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        == held first 8
        >> first "TP/1.1\r\nHost: bad.example\r\n\r\n"
        << to_client "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\nContent-Length: 11\r\nConnection: close\r\n\r\n<h1>no</h1>"
        << end to_client
        << answer First blocked
        "#,
    );
}

#[test]
fn a_request_of_two_meanings_is_blocked() {
    play(
        [block(&[], &["bad.example"], &[])],
        r#"
        >> second "hello"
        << to_client "hello"
        >> first "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        << reset blocked
        == verdict Some("f0: HTTP request: both a length and a transfer coding")
        "#,
    );
}

#[test]
fn http_2_without_tls_cannot_be_judged_and_is_blocked() {
    play(
        [block(&[], &["bad.example"], &[])],
        r#"
        >> first "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        << reset blocked
        == verdict Some("f0: HTTP request: an unsupported HTTP version")
        "#,
    );
}

#[test]
fn a_head_that_is_cut_off_by_the_end_does_not_reach_the_server() {
    play(
        [block(&[], &["bad.example"], &[])],
        r#"
        >> first "GET / HTTP/1.1\r\nHost: bad.example\r\n"
        >> end first
        << reset blocked
        == verdict Some("f0: HTTP request: a head that is cut off")
        "#,
    );
}

#[test]
fn what_follows_a_connect_is_looked_at_anew() {
    play(
        [block(&[], &["bad.example"], &[])],
        r#"
        >> first "CONNECT good.example:443 HTTP/1.1\r\nHost: good.example:443\r\n\r\n"
        << to_server "CONNECT good.example:443 HTTP/1.1\r\nHost: good.example:443\r\n\r\n"
        >> second "HTTP/1.1 407 Who are you\r\n\r\n"
        << to_client "HTTP/1.1 407 Who are you\r\n\r\n"
        >> first "CONNECT bad.example:443 HTTP/1.1\r\nHost: bad.example:443\r\n\r\n"
        << reset blocked
        "#,
    );
    play(
        [block(&[], &["bad.example"], &[])],
        r#"
        >> first "GET / HTTP/1.1\r\nHost: good.example\r\nUpgrade: websocket\r\n\r\n"
        << to_server "GET / HTTP/1.1\r\nHost: good.example\r\nUpgrade: websocket\r\n\r\n"
        >> second "HTTP/1.1 101 Go\r\n\r\n"
        << to_client "HTTP/1.1 101 Go\r\n\r\n"
        >> first "\x81\x85"
        << to_server "\x81\x85"
        == released true
        "#,
    );
}

#[test]
fn a_stream_that_is_neither_http_nor_tls_is_let_go_at_once() {
    play(
        [block(&[], &["bad.example"], &["bad.example"])],
        r#"
        >> second "220 mail.example ESMTP\r\n"
        << to_client "220 mail.example ESMTP\r\n"
        >> first "EHLO "
        == held first 5
        >> first "bad.example\r\n"
        << to_server "EHLO bad.example\r\n"
        == released true
        == name None
        "#,
    );
}

#[test]
fn an_unfinished_line_that_is_not_http_goes_out_at_the_end() {
    play(
        [block(&[], &["bad.example"], &[])],
        r#"
        >> first "hello world"
        >> end first
        << to_server "hello world"
        << end to_server
        "#,
    );
}

/// A hello for bad.example, in two records.
const HELLO: [&str; 3] = [
    r"\x16\x03\x01\x00\x05\x01\x00\x00\x43\x03",
    r"\x16\x03\x01\x00\x42\x03xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\x00\x00\x02\x13\x01\x01\x00\x00\x18",
    r"\x00\x00\x00\x10\x00\x0e\x00\x00\x0bbad.example\x00\x17\x00\x00",
];

#[test]
fn a_hello_to_a_blocked_name_in_several_segments_and_records_is_reset() {
    let [a, b, c] = HELLO;
    play(
        [block(&[], &[], &["bad.example"])],
        &format!(
            r#"
            >> first "{a}"
            == held first 10
            >> first "{b}"
            >> first "{c}"
            << reset blocked
            == name Some("bad.example")
            == verdict Some("f0: TLS server name bad.example")
            "#
        ),
    );
}

#[test]
fn a_hello_to_another_name_goes_out_whole_and_the_flow_is_let_go() {
    let [a, b, c] = HELLO;
    let whole = quoted(&format!("\"{a}{b}{c}\"")).escape_ascii().to_string();
    play(
        [log(), block(&[], &["bad.example"], &["*.bad.example"])],
        &format!(
            r#"
            >> first "{a}"
            >> first "{b}"
            >> first "{c}"
            << to_server "{whole}"
            == name Some("bad.example")
            == released false
            >> second "\x16\x03\x03"
            << to_client "\x16\x03\x03"
            == released true
            "#
        ),
    );
}

#[test]
fn a_hello_that_cannot_be_read_is_blocked_where_names_matter() {
    play(
        [block(&[], &[], &["bad.example"])],
        r#"
        >> first "\x16\x03\x01\x00\x00"
        << reset blocked
        == verdict Some("f0: unreadable ClientHello: a record of an impossible length")
        "#,
    );
    play(
        [block(&[], &["bad.example"], &[])],
        r#"
        >> first "\x16\x03\x01\x00\x00"
        << to_server "\x16\x03\x01\x00\x00"
        "#,
    );
}

#[test]
fn where_only_tls_names_matter_a_request_is_let_go_at_its_first_bytes() {
    play(
        [FilterKind::Block(BlockFilter {
            patterns: Vec::new(),
            hosts: Vec::new(),
            sni: vec!["bad.example".to_owned()],
            answer: BlockAnswer::Reset,
        })],
        r#"
        >> first "\x16"
        >> first "\x03\x01"
        == held first 3
        "#,
    );
    play(
        [FilterKind::Block(BlockFilter {
            patterns: Vec::new(),
            hosts: Vec::new(),
            sni: vec!["bad.example".to_owned()],
            answer: BlockAnswer::Reset,
        })],
        r#"
        >> first "GE"
        << to_server "GE"
        == released true
        "#,
    );
}

#[test]
fn the_segment_that_completes_a_pattern_stays_inside() {
    play(
        [block(&["EVIL"], &[], &[])],
        r#"
        >> second "some E"
        << to_client "some E"
        >> second "VI"
        << to_client "VI"
        >> second "L things"
        << reset blocked
        == verdict Some("f0: pattern 1, sent by the server")
        "#,
    );
}

#[test]
fn a_pattern_in_a_request_is_answered_with_the_page() {
    play(
        [block(&["EVIL"], &[], &[])],
        r#"
        >> first "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nso EV"
        << to_server "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nso EV"
        >> first "IL"
        << to_client "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\nContent-Length: 11\r\nConnection: close\r\n\r\n<h1>no</h1>"
        << end to_client
        << answer First blocked
        "#,
    );
}

#[test]
fn replace_finds_its_bytes_across_segments_and_holds_no_more_than_their_beginning() {
    play(
        [replace("colour", "color")],
        r#"
        >> second "which colo"
        << to_client "which "
        == held second 4
        >> second "ur, colour or co"
        << to_client "color, color or "
        >> second "at?"
        << to_client "coat?"
        >> first "colo"
        >> end first
        << to_server "colo"
        << end to_server
        "#,
    );
}

#[test]
fn replace_lets_the_beginning_of_a_match_go_when_nothing_follows() {
    play(
        [replace("colour", "color")],
        r#"
        >> second "the end: c"
        << to_client "the end: "
        >> wait 249ms
        >> wait 1ms
        << to_client "c"
        == held second 0
        "#,
    );
}

#[test]
fn each_filter_sees_what_the_one_before_let_out() {
    play(
        [replace("one", "two"), replace("two", "three"), block(&["three"], &[], &[])],
        r#"
        >> first "\x00tw"
        << to_server "\x00"
        >> first "one"
        << reset blocked
        == verdict Some("f2: pattern 1, sent by the client")
        "#,
    );
    play(
        [replace("one", "two"), replace("two", "three")],
        r#"
        >> second "one"
        << to_client "two"
        >> first "one"
        << to_server "three"
        "#,
    );
}

#[test]
fn a_page_is_limited_like_any_bytes_and_its_end_comes_behind_it() {
    play(
        [limit(10_000, 100, LimitBy::Flow), block(&[], &["bad.example"], &[])],
        r#"
        >> first "GET / HTTP/1.1\r\nHost: bad.example\r\n\r\n"
        << to_client "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\nContent-Len"
        << answer First blocked
        >> wait 4ms
        >> wait 2ms
        << to_client "gth: 11\r\nConnection: close\r\n\r\n<h1>no</h1>"
        << end to_client
        "#,
    );
}

#[test]
fn limit_delays_what_exceeds_the_burst() {
    play(
        [limit(1_000, 10, LimitBy::Flow)],
        r#"
        >> first "0123456789abcdef"
        << to_server "0123456789"
        == held first 6
        >> end first
        >> wait 5ms
        << to_server "abcde"
        >> wait 1ms
        << to_server "f"
        << end to_server
        >> second "the other way has tokens of its own"
        << to_client "the other "
        "#,
    );
}

#[test]
fn datagrams_keep_their_boundaries_and_are_edited_one_by_one() {
    play_datagrams(
        [replace("one", "two")],
        r#"
        >> first "one on"
        << to_server "two on"
        >> first "e"
        << to_server "e"
        >> second ""
        << to_client ""
        >> second "one"
        << to_client "two"
        "#,
    );
}

#[test]
fn a_pattern_in_a_datagram_closes_the_flow() {
    play_datagrams(
        [replace("XX", "I"), block(&["EVIL"], &["unused.example"], &[])],
        r#"
        >> first "EV"
        << to_server "EV"
        >> first "IL"
        << to_server "IL"
        >> first "an EVXXL one"
        << filtered 1
        << close blocked
        == verdict Some("f1: pattern 1, sent by the client")
        >> second "late"
        << filtered 1
        "#,
    );
}

#[test]
fn delayed_datagrams_keep_their_order() {
    play_datagrams(
        [limit(1_000, 10, LimitBy::Client)],
        r#"
        >> first "0123456789"
        << to_server "0123456789"
        >> first "abcdef"
        >> first "g"
        >> second "x"
        << to_client "x"
        >> wait 5ms
        >> wait 1ms
        << to_server "abcdef"
        >> wait 1ms
        << to_server "g"
        >> first "longer than the burst is"
        >> wait 9ms
        >> wait 1ms
        << to_server "longer than the burst is"
        >> first "z"
        >> wait 14ms
        >> wait 1ms
        << to_server "z"
        "#,
    );
}

#[test]
fn a_datagram_flow_without_filters_that_look_is_released() {
    play_datagrams(
        [log(), block(&[], &["bad.example"], &["bad.example"])],
        r#"
        == released true
        >> first "anything"
        << to_server "anything"
        "#,
    );
}
