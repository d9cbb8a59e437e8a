//! TCP endpoints over a seeded, bad link: what one end sends, the other gets, byte for byte.
//!
//! A failure prints `PNAT_SEED=...`, which repeats that run alone, and leaves a pcap in `target/tmp`. `PNAT_SEEDS=500` tries
//! more than the usual few.

mod run;
mod peer;
mod oracle;
mod table;
mod congestion;

use pnat_shared::time::Duration;

use run::{Close, Other, Run};

#[test]
fn a_clean_link_carries_both_streams() {
    Run::new("clean").check();
}

#[test]
fn all_orders_of_closing_end_both_ends() {
    for close in [Close::Together, Close::FirstThenSecond, Close::SecondThenFirst, Close::AfterPeer] {
        for loss in [0.0, 0.05] {
            let mut run = Run::new("close");
            run.seeds = 5;
            run.close = close;
            run.link.loss = loss;
            run.bytes = [40_000, 70_000];
            run.check();
        }
    }
}

#[test]
fn lossy_links_lose_no_byte() {
    for loss in [0.01, 0.05, 0.2] {
        let mut run = Run::new("loss");
        run.seeds = 20;
        run.link.loss = loss;
        run.link.latency = Duration::from_millis(10);
        run.check();
    }
}

#[test]
fn peers_without_options_lose_no_byte_either() {
    for loss in [0.01, 0.05, 0.2] {
        let mut run = Run::new("plain");
        run.seeds = 10;
        run.link.loss = loss;
        run.offer.sack = false;
        run.offer.timestamp = None;
        run.offer.window_scale = None;
        run.bytes = [100_000, 60_000];
        // Without timestamps only what was never sent again undoes the timer's back-off.
        run.limit = Duration::from_secs(3600);
        run.check();
    }
}

#[test]
fn duplicates_disorder_and_corruption_change_no_byte() {
    let mut run = Run::new("disorder");
    run.seeds = 20;
    run.link.duplication = 0.1;
    run.link.reordering = 0.2;
    run.link.reorder_by = Duration::from_millis(8);
    run.link.corruption = 0.02;
    run.link.loss = 0.01;
    run.check();
}

#[test]
fn a_short_queue_at_a_slow_link_is_no_obstacle() {
    let mut run = Run::new("queue");
    run.link.rate = 5_000_000;
    run.link.queue = 12;
    run.link.latency = Duration::from_millis(20);
    run.check();
}

#[test]
fn rfc4821_7_7_a_black_hole_for_long_packets_does_not_stall_a_transfer() {
    for (carries, sack, seconds) in
        [(1400, true, 2), (1400, false, 2), (1480, true, 2), (600, true, 8), (600, false, 8)]
    {
        let mut run = Run::new("black-hole");
        run.carries = carries;
        run.offer.sack = sack;
        run.link.latency = Duration::from_millis(10);
        run.bytes = [300_000, 0];
        let took = run.measure(1);
        assert!(took < Duration::from_secs(seconds), "{carries}, SACK {sack}: {took:?}");
    }
}

#[test]
fn rfc4821_7_7_a_black_hole_in_both_directions_swallows_acknowledgments_too_and_is_found() {
    let mut run = Run::new("black-holes");
    run.carries = 1400;
    run.link.latency = Duration::from_millis(10);
    let took = run.measure(1);
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn rfc4821_7_7_a_black_hole_on_a_lossy_link_neither() {
    let mut run = Run::new("black-hole-loss");
    run.carries = 1400;
    run.link.latency = Duration::from_millis(10);
    run.link.loss = 0.02;
    for seed in 0..10 {
        assert!(run.measure(seed) < Duration::from_secs(30), "{seed}");
    }
}

#[test]
fn slow_readers_shut_the_window_and_open_it_again() {
    for loss in [0.0, 0.05] {
        let mut run = Run::new("reader");
        run.seeds = 5;
        run.link.loss = loss;
        run.window = 20_000;
        run.bytes = [150_000, 100_000];
        run.read = (17_000, Duration::from_millis(500));
        run.check();
    }
}

#[test]
fn tiny_segments_and_plain_windows_carry_everything() {
    for loss in [0.0, 0.03] {
        let mut run = Run::new("tiny");
        run.offer.mss = 88;
        run.offer.window_scale = None;
        run.link.loss = loss;
        run.bytes = [60_000, 90_000];
        run.check();
    }
}

#[test]
fn windows_of_a_few_bytes_carry_everything() {
    for window in [1, 7, 500, 1460] {
        let mut run = Run::new("window");
        run.window = window;
        run.offer.window_scale = None;
        run.bytes = if window < 100 { [100, 60] } else { [30_000, 20_000] };
        run.write = 700;
        run.link.loss = 0.01;
        run.limit = Duration::from_secs(3600);
        run.check();
    }
}

#[test]
fn single_bytes_are_carried_in_order() {
    let mut run = Run::new("bytes");
    run.write = 3;
    run.bytes = [5_000, 5_000];
    run.link.loss = 0.02;
    run.check();
}

#[test]
fn single_bytes_wait_for_a_slow_reader() {
    let mut run = Run::new("patience");
    run.write = 2;
    run.bytes = [30_000, 0];
    run.window = 10_000;
    run.read = (1_000, Duration::from_millis(100));
    run.link.loss = 0.02;
    run.check();
}

#[test]
fn smoltcp_opens_to_us() {
    for loss in [0.0, 0.01, 0.05] {
        let mut run = Run::new("smoltcp-first");
        run.seeds = 8;
        run.other = Some(Other::First);
        run.link.loss = loss;
        run.bytes = [60_000, 80_000];
        run.check();
    }
}

#[test]
fn we_open_to_smoltcp() {
    for loss in [0.0, 0.01, 0.05] {
        let mut run = Run::new("smoltcp-second");
        run.seeds = 8;
        run.other = Some(Other::Second);
        run.link.loss = loss;
        run.link.reordering = 0.05;
        run.bytes = [60_000, 80_000];
        run.check();
    }
}

#[test]
fn smoltcp_closes_in_all_orders_too() {
    for close in [Close::FirstThenSecond, Close::SecondThenFirst, Close::AfterPeer] {
        for other in [Other::First, Other::Second] {
            let mut run = Run::new("smoltcp-close");
            run.other = Some(other);
            run.close = close;
            run.bytes = [9_000, 4_000];
            run.link.loss = 0.02;
            run.check();
        }
    }
}

#[test]
fn smoltcp_reads_slowly() {
    let mut run = Run::new("smoltcp-reader");
    run.other = Some(Other::Second);
    run.bytes = [200_000, 10_000];
    run.read = (9_000, Duration::from_millis(300));
    run.check();
}
