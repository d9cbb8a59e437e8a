//! What each algorithm of congestion control makes of a path.

use pnat_shared::config::CongestionControl;
use pnat_shared::time::Duration;

use crate::run::Run;

/// Mbit/s of `bytes` sent one way over a link of `mbits` and 20 ms with a queue of `queue` packets.
fn goodput(congestion: CongestionControl, mbits: u64, queue: usize, loss: f64, bytes: usize) -> f64 {
    let mut run = Run::new("congestion");
    run.congestion = congestion;
    run.bytes = [bytes, 0];
    run.window = 16 << 20;
    run.offer.window_scale = Some(9);
    run.link.loss = loss;
    run.link.latency = Duration::from_millis(10);
    run.link.rate = mbits * 1_000_000;
    run.link.queue = queue;
    let seconds = run.measure(1).as_secs_f64();
    bytes as f64 * 8.0 / seconds / 1e6
}

#[test]
fn bbr_keeps_its_rate_where_one_percent_is_lost_at_random() {
    let bbr = goodput(CongestionControl::Bbr, 1000, 2000, 0.01, 30_000_000);
    assert!(bbr > 300.0, "{bbr} Mbit/s");
    let cubic = goodput(CongestionControl::Cubic, 1000, 2000, 0.01, 3_000_000);
    assert!(bbr > 20.0 * cubic, "{bbr} and {cubic} Mbit/s");
}

#[test]
fn a_deep_queue_is_made_use_of() {
    for (control, least) in [(CongestionControl::Cubic, 65.0), (CongestionControl::Bbr, 70.0)] {
        let has = goodput(control, 100, 200, 0.0, 10_000_000);
        assert!(has > least, "{control:?}: {has} Mbit/s");
    }
}

#[test]
fn a_shallow_queue_is_no_disaster() {
    for (control, least) in
        [(CongestionControl::Cubic, 35.0), (CongestionControl::NewReno, 35.0), (CongestionControl::Bbr, 60.0)]
    {
        let has = goodput(control, 100, 20, 0.0, 10_000_000);
        assert!(has > least, "{control:?}: {has} Mbit/s");
    }
}

#[test]
fn whatever_the_algorithm_bad_links_lose_no_byte() {
    for congestion in [CongestionControl::NewReno, CongestionControl::Bbr] {
        for (loss, sack) in [(0.01, true), (0.2, true), (0.05, false)] {
            let mut run = Run::new("algorithm");
            run.congestion = congestion;
            run.offer.sack = sack;
            run.bytes = [150_000, 100_000];
            run.link.loss = loss;
            run.link.reordering = 0.05;
            run.link.duplication = 0.02;
            run.link.latency = Duration::from_millis(5);
            run.check();
        }
    }
}

#[test]
fn bbr_outlives_windows_of_a_few_bytes_and_slow_readers() {
    for (window, read) in [(1460, usize::MAX), (20_000, 5_000)] {
        let mut run = Run::new("bbr-window");
        run.congestion = CongestionControl::Bbr;
        run.window = window;
        run.offer.window_scale = None;
        run.bytes = [60_000, 20_000];
        run.read = (read, Duration::from_millis(100));
        run.link.loss = 0.02;
        run.check();
    }
}
