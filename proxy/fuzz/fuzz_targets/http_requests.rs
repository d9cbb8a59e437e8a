//! Streams of HTTP/1 requests: read in pieces, written again, read again.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pnat_http::fuzzing::http_requests(data));
