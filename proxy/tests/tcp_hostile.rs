//! Property: whatever a peer sends, in whatever order, the endpoint keeps its promises (`pnat_proxy::fuzzing`): no panic,
//! bounded memory, no byte delivered that was not sent, no window taken back, no timer that spins.

use pnat_proxy::fuzzing::{pair_bursts, tcp_segment, two_ends};
use proptest::prelude::*;

proptest! {
    #[test]
    fn an_endpoint_keeps_its_promises_to_any_peer(run in prop::collection::vec(any::<u8>(), 0..3000)) {
        tcp_segment(&run);
    }

    #[test]
    fn an_established_endpoint_keeps_its_promises(
        kind in any::<u8>(),
        window in any::<u16>(),
        run in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        let [high, low] = window.to_be_bytes();
        tcp_segment(&[&[kind | 2, high, low, 7, 7], run.as_slice()].concat());
    }

    #[test]
    fn two_ends_deliver_what_was_written_or_end_with_an_error(run in prop::collection::vec(any::<u8>(), 0..3000)) {
        two_ends(&run);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn pairs_deliver_what_was_written_or_end_with_a_reset(run in prop::collection::vec(any::<u8>(), 0..800)) {
        pair_bursts(&run);
    }
}
