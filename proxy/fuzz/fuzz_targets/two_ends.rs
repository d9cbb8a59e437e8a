//! Two endpoints over a link that loses, repeats, reorders, corrupts, cuts and lies.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pnat_proxy::fuzzing::two_ends(data));
