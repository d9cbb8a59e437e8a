//! Every reader of the wire on any frame.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pnat_proxy::fuzzing::packet(data));
