//! Replays the fuzz corpora: what a fuzzer has once found, or a person thought of, stays tried.

use std::path::Path;

use pnat_proxy::fuzzing;

fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("a corpus folder") {
        let path = entry.expect("a readable folder").path();
        let data = std::fs::read(&path).expect("a readable file");
        assert!(std::panic::catch_unwind(|| body(&data)).is_ok(), "see above: {}", path.display());
        count += 1;
    }
    assert!(count >= 5, "the corpus of {target} is gone");
}

#[test]
fn the_corpus_of_tcp_segments_holds() {
    replay("tcp_segment", fuzzing::tcp_segment);
}

#[test]
fn the_corpus_of_two_ends_holds() {
    replay("two_ends", fuzzing::two_ends);
}

#[test]
fn the_corpus_of_packets_holds() {
    replay("packet", fuzzing::packet);
}

#[test]
fn the_corpus_of_bursts_holds() {
    replay("pair_bursts", fuzzing::pair_bursts);
}

#[test]
fn the_corpus_of_http_requests_holds() {
    replay("http_requests", pnat_http::fuzzing::http_requests);
}

#[test]
fn the_corpus_of_http_responses_holds() {
    replay("http_responses", pnat_http::fuzzing::http_responses);
}

#[test]
fn the_corpus_of_websocket_frames_holds() {
    replay("websocket_frames", pnat_http::fuzzing::websocket_frames);
}

#[test]
fn the_corpus_of_http2_holds() {
    replay("http2", pnat_http::fuzzing::http2);
}
