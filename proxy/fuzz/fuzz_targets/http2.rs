//! A connection of HTTP/2 through filters: what client and server send, whatever it is.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pnat_http::fuzzing::http2(data));
