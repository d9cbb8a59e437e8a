//! An endpoint under any sequence of segments, calls and waits.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pnat_proxy::fuzzing::tcp_segment(data));
