//! WebSocket frames of one side: read in pieces, written again, read again.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pnat_http::fuzzing::websocket_frames(data));
