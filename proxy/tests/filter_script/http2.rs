//! HTTP/2 in a chain: who speaks it, and what the flow learns of it. The streams themselves are `pnat-http`'s to test.

use pnat_proxy::filter::Outcome;
use pnat_shared::config::Http;
use pnat_shared::flow::{Side, Stream};
use pnat_shared::testkit::one_rule;
use pnat_shared::time::Duration;
use pnat_shared::verdict::CloseReason;

use crate::filter_bench::{Bench, WINDOW, chains};
use crate::web::web;
use pnat_proxy::filter::Chains;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty frame of settings, and the word that one has come.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const SETTINGS_ACK: [u8; 9] = [0, 0, 0, 4, 1, 0, 0, 0, 0];
const HEADERS: u8 = 1;
const GOAWAY: u8 = 7;

/// Answers for an old name by itself.
const MOVES: &str = "hosts = ['old.example']\nlocation = 'http://new.example{uri}'";

/// `GET` of `/` by this stream from a host, in fields that are not compressed (RFC 7541 section 6.2.2).
fn get(stream: u8, host: &str) -> Vec<u8> {
    let mut frame = vec![0, 0, 5 + host.len() as u8, HEADERS, 0x5, 0, 0, 0, stream, 0x82, 0x86, 0x84];
    frame.extend([0x01, host.len() as u8]);
    frame.extend(host.as_bytes());
    frame
}

/// The types of the frames, and the streams that they belong to.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u8)> {
    let mut frames = Vec::new();
    while let [a, b, c, kind, _, _, _, _, stream, rest @ ..] = bytes {
        frames.push((*kind, *stream));
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "{bytes:?}");
    frames
}

fn moving() -> Bench {
    Bench::new(&chains([web("redirect", MOVES)]))
}

#[test]
fn a_stream_is_answered_by_a_filter_and_another_one_goes_on_to_the_server() {
    for cut in [1, 7, 1000] {
        let mut bench = moving();
        let asked = [PREFACE, &SETTINGS, &get(1, "old.example")].concat();
        asked.chunks(cut).for_each(|bytes| bench.push(Stream::First, bytes));
        let told = frames(&bench.take(Stream::Second));
        assert!(told.contains(&(HEADERS, 1)), "{told:?}");
        assert_eq!(bench.take(Stream::First), b"", "the server is not asked");
        assert_eq!(bench.flow.name.as_deref(), Some("old.example"));
        assert!(bench.flow.decided.is_some());

        get(3, "www.example").chunks(cut).for_each(|bytes| bench.push(Stream::First, bytes));
        let asked = bench.take(Stream::First);
        let asked = frames(asked.strip_prefix(PREFACE).expect("HTTP/2"));
        assert!(asked.contains(&(HEADERS, 1)), "its own numbers: {asked:?}");
        // The server answers 200, by number, and without content.
        bench.push(
            Stream::Second,
            &[&SETTINGS[..], &SETTINGS_ACK, &[0, 0, 1, HEADERS, 0x5, 0, 0, 0, 1, 0x88]].concat(),
        );
        assert!(frames(&bench.take(Stream::Second)).contains(&(HEADERS, 3)));
        assert_eq!(bench.out.outcome, None);
    }
}

#[test]
fn a_client_that_ends_its_stream_has_left() {
    let mut bench = moving();
    bench.push(Stream::First, &[PREFACE, &SETTINGS].concat());
    bench.finish(Stream::First);
    assert_eq!(bench.out.outcome, Some(Outcome::Answer { to: Side::First, reason: CloseReason::Finished }));
}

#[test]
fn a_server_whose_stream_ends_is_told_to_the_client_by_http2_too() {
    let mut bench = moving();
    bench.push(Stream::First, &[PREFACE, &SETTINGS, &get(1, "www.example")].concat());
    bench.take(Stream::First);
    bench.push(Stream::Second, &SETTINGS);
    bench.finish(Stream::Second);
    bench.wait_until(bench.now + Duration::from_millis(50));
    let told = frames(&bench.take(Stream::Second));
    assert!(told.contains(&(HEADERS, 1)), "502: {told:?}");
    assert!(told.contains(&(GOAWAY, 0)), "{told:?}");
    assert!(bench.out.ended[1] && bench.out.outcome.is_some());
}

#[test]
fn bytes_that_are_no_frames_end_the_flow() {
    let mut bench = moving();
    bench.push(Stream::First, &[PREFACE, b"GET / HTTP/1.1\r\n\r\n"].concat());
    let Some(Outcome::Answer { to: Side::First, reason }) = bench.out.outcome else { panic!("it goes on") };
    assert_eq!(reason, CloseReason::BadMessage);
    assert!(frames(&bench.take(Stream::Second)).contains(&(GOAWAY, 0)));
}

#[test]
fn a_server_of_http2_that_speaks_first_waits_for_its_client() {
    let mut bench = moving();
    bench.push(Stream::Second, &SETTINGS);
    assert_eq!(bench.take(Stream::Second), b"", "what the client speaks is not known");
    bench.push(Stream::First, &[PREFACE, &SETTINGS, &get(1, "old.example")].concat());
    bench.wait_until(bench.now + Duration::from_millis(50));
    assert!(frames(&bench.take(Stream::Second)).contains(&(HEADERS, 1)), "its filters see it");
    // One that was something else goes on as it is.
    let mut bench = moving();
    bench.push(Stream::Second, &SETTINGS);
    bench.push(Stream::First, b"\x16\x03\x01");
    bench.wait_until(bench.now + Duration::from_millis(50));
    assert_eq!(
        (bench.take(Stream::First), bench.take(Stream::Second)),
        (b"\x16\x03\x01".to_vec(), SETTINGS.to_vec())
    );
}

#[test]
fn http2_is_refused_where_it_is_not_to_be_spoken() {
    let mut policy = one_rule(
        "rule",
        vec![pnat_shared::config::Filter { name: "f0".to_owned(), kind: web("redirect", MOVES) }],
    );
    policy.http = Http { http2: false, ..Http::default() };
    let mut bench = Bench::new(&Chains::compile(&policy, WINDOW).expect("a filter"));
    bench.push(Stream::First, PREFACE);
    let told = bench.take(Stream::Second);
    assert!(told.starts_with(b"HTTP/1.1 505 "), "{}", told.escape_ascii());
}
