//! What comes out of a chain does not depend on how its input was split into segments, and hostile input costs bounded
//! memory and one flow.

mod filter_bench;

use filter_bench::{Bench, WINDOW, block, chains, limit, log, replace};
use pnat_proxy::chunk::Chunk;
use pnat_proxy::filter::{Chains, Outcome, Turn};
use pnat_shared::config::{FilterKind, LimitBy};
use pnat_shared::flow::Stream;
use pnat_shared::frame::Frame;
use pnat_shared::testkit::VecFrame;
use pnat_shared::time::Duration;
use pnat_shared::verdict::CloseReason;
use proptest::prelude::*;

/// What became of a stream: the bytes that came out, and whether a filter ended the flow.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Result {
    out: Vec<u8>,
    outcome: Option<Outcome>,
    ended: bool,
}

/// Sends a stream in segments and ends it.
fn send<'a>(chains: &Chains, stream: Stream, segments: impl IntoIterator<Item = &'a [u8]>) -> Result {
    let mut bench = Bench::new(chains);
    for segment in segments {
        bench.push(stream, segment);
    }
    bench.finish(stream);
    bench.wait_until(bench.now + Duration::from_secs(60));
    let out = bench.take(stream);
    assert_eq!(bench.chain.held(stream), 0, "nothing is held beyond the end");
    Result { out, outcome: bench.out.outcome, ended: bench.out.ended[stream as usize] }
}

/// Cuts `bytes` behind each of these places that lies within them.
fn cut<'a>(bytes: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = places.iter().map(|&place| place.min(bytes.len())).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn places() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0_usize..400, 0..40)
}

fn any_stream() -> impl Strategy<Value = Stream> {
    prop::sample::select(vec![Stream::First, Stream::Second])
}

/// Filters that edit, judge and pass, but do not end a flow of text made of `a`, `b` and `c`.
fn harmless() -> impl Strategy<Value = FilterKind> {
    prop_oneof![
        Just(log()),
        ("[abc]{1,5}", "[abc]{0,6}").prop_map(|(find, with)| replace(&find, &with)),
        Just(block(&["abd"], &["bad.example"], &["bad.example"])),
        Just(limit(1_000, 50, LimitBy::Flow)),
        Just(limit(1_000, 50, LimitBy::Client)),
    ]
}

/// Pieces that requests and attacks on them are made of.
fn request_piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /x HTTP/1.1\r\n",
        "GET http://bad.example/ HTTP/1.0\r\n",
        "CONNECT good.example:80 HTTP/1.1\r\n",
        "Host: good.example\r\n",
        "Host: good.example\r\n\r\n",
        "Host: bad.example\r\n\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 3\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nGET\r\n0\r\n\r\n",
        "Upgrade: websocket\r\n",
        "\r\n",
        "\n",
        "0\r\n\r\n",
        "EVI",
        "L",
        "\x01",
    ])
}

proptest! {
    #[test]
    fn replace_gives_what_replacing_the_whole_text_gives(
        find in "[ab]{1,6}",
        with in "[abc]{0,8}",
        text in "[abc]{0,300}",
        places in places(),
        stream in any_stream(),
    ) {
        let result = send(&chains([replace(&find, &with)]), stream, cut(text.as_bytes(), &places));
        prop_assert_eq!(String::from_utf8(result.out).unwrap(), text.replace(&find, &with));
        prop_assert!(result.ended);
    }

    #[test]
    fn a_chain_gives_the_same_however_its_input_is_split(
        kinds in prop::collection::vec(harmless(), 1..5),
        text in "[abc]{0,300}",
        places in places(),
        stream in any_stream(),
    ) {
        let chains = chains(kinds);
        let whole = send(&chains, stream, [text.as_bytes()]);
        prop_assert_eq!(whole.outcome, None);
        prop_assert!(whole.ended);
        prop_assert_eq!(send(&chains, stream, cut(text.as_bytes(), &places)), whole);
    }

    /// How much has gone out before a flow is ended depends on the segments, whether it is ended does not.
    #[test]
    fn block_ends_the_same_flows_however_their_requests_are_split(
        pieces in prop::collection::vec(request_piece(), 1..12),
        places in places(),
    ) {
        let text = pieces.concat();
        let chains = chains([block(&["EVIL"], &["*.example.org", "bad.example"], &["bad.example"])]);
        let whole = send(&chains, Stream::First, [text.as_bytes()]);
        let split = send(&chains, Stream::First, cut(text.as_bytes(), &places));
        prop_assert_eq!(split.outcome.is_some(), whole.outcome.is_some());
        match whole.outcome {
            None => {
                prop_assert_eq!(whole.out, text.as_bytes());
                prop_assert_eq!(split.out, text.as_bytes());
            }
            Some(_) => {
                prop_assert!(text.as_bytes().starts_with(&split.out));
                prop_assert!(!String::from_utf8_lossy(&split.out).contains("EVIL"));
            }
        }
    }

    #[test]
    fn garbage_passes_unchanged_or_ends_its_flow(
        garbage in prop::collection::vec(any::<u8>(), 0..400),
        start in prop::sample::select(vec![&b""[..], b"\x16\x03\x01", b"GET / HTTP/1.1\r\n", b"\r\n"]),
        places in places(),
    ) {
        let kinds = [log(), block(&["EVIL"], &["bad.example"], &["bad.example"]), limit(1_000, 9, LimitBy::Flow)];
        let text = [start, &garbage].concat();
        let result = send(&chains(kinds), Stream::First, cut(&text, &places));
        prop_assert!(result.outcome.is_some() || result.out == text && result.ended);
    }
}

#[test]
fn limit_keeps_its_rate_within_a_percent_though_it_is_woken_only_once_a_millisecond() {
    for (rate, burst, segment) in
        [(50_000, 1_500, 100), (1_000_000, 1_000, 1_448), (12_345_678, 65_536, 999), (125_000_000, 1, 1_448)]
    {
        let mut bench = Bench::new(&chains([limit(rate, burst, LimitBy::Flow)]));
        let start = bench.now;
        let bytes = vec![0; segment];
        let mut passed = 0;
        for millis in 1..=1_000 {
            // A sender that always has more.
            while bench.chain.held(Stream::First) < WINDOW as usize / 2 {
                bench.push(Stream::First, &bytes);
            }
            bench.tick(start + Duration::from_millis(millis));
            passed += bench.take(Stream::First).len() as u64;
            let allowed = burst.max(rate / 100) + rate * millis / 1_000;
            assert!(passed <= allowed, "{passed} of {allowed} after {millis} ms at {rate}");
        }
        let rate_seen = passed.saturating_sub(burst.max(rate / 100));
        assert!(rate_seen.abs_diff(rate) <= rate / 100, "{rate_seen} instead of {rate} bytes per second");
    }
}

#[test]
fn the_flows_of_a_client_share_a_bucket_and_other_clients_do_not() {
    let chains = chains([limit(1_000_000, 10_000, LimitBy::Client)]);
    let mut benches = ["10.0.0.5:1", "10.0.0.5:2", "10.0.0.5:3", "10.0.0.6:1"].map(|client| {
        let mut bench = Bench::new(&chains);
        bench.flow = filter_bench::flow(pnat_shared::flow::Protocol::Tcp, client);
        bench
    });
    let mut services = std::mem::take(&mut benches[0].services);
    let start = benches[0].now;
    let mut passed = [0; 4];
    for millis in 0..=1_000 {
        for (bench, passed) in benches.iter_mut().zip(&mut passed) {
            std::mem::swap(&mut bench.services, &mut services);
            bench.wait_until(start + Duration::from_millis(millis));
            while bench.chain.held(Stream::First) < 10_000 {
                bench.push(Stream::First, &[0; 1_000]);
            }
            *passed += bench.take(Stream::First).len();
            std::mem::swap(&mut bench.services, &mut services);
        }
    }
    let shared: usize = passed[..3].iter().sum();
    for (bytes, who) in [(shared, "the client with three flows"), (passed[3], "the other client")] {
        assert!((1_000_000..=1_010_000).contains(&bytes), "{bytes} bytes of {who}");
    }
}

#[test]
fn a_frame_that_every_filter_passes_is_the_frame_that_came_in() {
    let kinds = [
        log(),
        block(&["EVIL"], &["bad.example"], &["bad.example"]),
        replace("colour", "color"),
        limit(1_000_000, 1_000_000, LimitBy::Client),
    ];
    let mut bench = Bench::new(&chains(kinds));
    bench.push(Stream::First, b"GET / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 9999999\r\n\r\n");
    bench.take(Stream::First);
    for stream in [Stream::First, Stream::Second] {
        let frame = VecFrame::new(&[b'x'; 1448]);
        let address = frame.data().as_ptr();
        let mut turn = Turn {
            now: bench.now,
            flow: &mut bench.flow,
            services: &mut bench.services,
            out: &mut bench.out,
        };
        bench.chain.push(&mut turn, stream, Chunk::from_frame(frame, 0, 1448));
        let [chunk] = &bench.out.stream(stream)[..] else { panic!("one chunk in, one chunk out") };
        assert_eq!(chunk.bytes().as_ptr(), address);
    }
}

/// Sends `segment` until the flow is ended or 4 MB went in, and answers how it ended and the most that was held.
fn flood(kind: FilterKind, start: &[u8], segment: &[u8]) -> (Option<Outcome>, usize) {
    let mut bench = Bench::new(&chains([kind]));
    bench.push(Stream::First, start);
    let (mut sent, mut most) = (0, 0);
    while sent < 4_000_000 && bench.out.outcome.is_none() {
        bench.push(Stream::First, segment);
        sent += segment.len();
        most = most.max(bench.chain.held(Stream::First));
    }
    (bench.out.outcome, most)
}

#[test]
fn endless_heads_and_hellos_are_ended_before_they_cost_much() {
    let names = || block(&[], &["bad.example"], &["bad.example"]);
    let reset = Some(Outcome::Reset(CloseReason::Blocked));
    for (start, segment) in [
        (&b"GET / HTTP/1.1\r\n"[..], &b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n"[..]),
        (b"GET /", b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
        (b"\r\n", b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n"),
        (b"\x16\x03\x01\0\x05\x01\0\xff\xff\x03", b"\x16\x03\x01\0\x01\0\x16\x03\x01\0\x01\0"),
    ] {
        let (outcome, most) = flood(names(), start, segment);
        assert_eq!(outcome, reset, "{}", start.escape_ascii());
        assert!(most <= 100_000, "{most} bytes held");
    }
    // Where nothing asks for names, none of this is held at all.
    let reset_only = FilterKind::Block(pnat_shared::config::BlockFilter {
        patterns: vec![b"EVIL".to_vec()],
        hosts: Vec::new(),
        sni: Vec::new(),
        answer: pnat_shared::config::BlockAnswer::Reset,
    });
    assert_eq!(flood(reset_only, b"GET /", b"xxxxxxxxxxxxx"), (None, 0));
}

#[test]
fn a_flow_that_is_limited_to_a_trickle_is_held_up_to_the_window_and_not_ended() {
    let (outcome, most) = flood(limit(1, 1, LimitBy::Flow), b"", &[0; 1448]);
    assert_eq!(outcome, None);
    assert!(most > 3_900_000, "the bench has no window that closes: all of it waits");
}
