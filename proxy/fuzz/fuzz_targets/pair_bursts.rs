//! Pairs of a whole reactor between hosts whose segments come in bursts that are cut, mixed and tampered with.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pnat_proxy::fuzzing::pair_bursts(data));
