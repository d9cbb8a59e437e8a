//! TCP endpoints over a seeded, bad link: what one end sends, the other gets, byte for byte.
//!
//! A failure prints `PNAT_SEED=...`, which repeats that run alone, and leaves a pcap in `target/`.

mod netsim;

use netsim::{Close, Run};
use pnat_shared::time::Duration;

#[test]
fn a_clean_link_carries_both_streams() {
    Run::new("clean").check();
}

#[test]
fn all_orders_of_closing_end_both_ends() {
    for close in [Close::FirstThenSecond, Close::SecondThenFirst, Close::Together, Close::AfterPeer] {
        let mut run = Run::new("close");
        run.close = close;
        run.bytes = [40_000, 70_000];
        run.check();
    }
}

#[test]
fn lossy_links_lose_no_byte() {
    for loss in [0.01, 0.05, 0.1, 0.2] {
        let mut run = Run::new("loss");
        run.seeds = 20;
        run.link.loss = loss;
        run.link.latency = Duration::from_millis(10);
        run.check();
    }
}
