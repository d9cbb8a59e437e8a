//! Goodput over loss and round-trip time: a text table to look at, and wide bounds that a stall would break.

use std::io::Write;

use pnat_shared::time::Duration;

use crate::run::Run;

/// Payload of a full segment with timestamps, in bytes.
const MSS: f64 = 1448.0;

/// Mbit/s of one direction, mean over a few seeds.
fn goodput(loss: f64, rtt: Duration) -> f64 {
    let mut run = Run::new("table");
    run.bytes = [3_000_000, 0];
    run.link.loss = loss;
    run.link.latency = rtt / 2;
    run.link.rate = 200_000_000;
    run.link.queue = 500;
    run.window = 4 << 20;
    let seeds = 3;
    let seconds: f64 = (0..seeds).map(|seed| run.measure(seed).as_secs_f64()).sum();
    run.bytes[0] as f64 * 8.0 * seeds as f64 / seconds / 1e6
}

/// Mathis et al. (1997): what Reno gets at this loss, in Mbit/s.
fn mathis(loss: f64, rtt: Duration) -> f64 {
    MSS * 8.0 / rtt.as_secs_f64() * (1.5 / loss).sqrt() / 1e6
}

#[test]
fn goodput_does_not_collapse_under_loss() {
    let mut table = String::from(
        "goodput, Mbit/s (Mathis in brackets)\nrtt      0 %      0.1 %           1 %            5 %\n",
    );
    for rtt in [2, 20, 100].map(Duration::from_millis) {
        table += &format!("{:3} ms", rtt.as_millis());
        for loss in [0.0, 0.001, 0.01, 0.05] {
            let has = goodput(loss, rtt);
            let bound = mathis(loss, rtt).min(200.0);
            table += &format!(" {has:6.1} ({bound:6.1})");
            if loss == 0.01 {
                assert!(has > bound / 2.0, "a stall at {rtt:?}:\n{table}");
            }
        }
        table += "\n";
    }
    // Past the capture of the test harness, so that every run shows it; and kept for comparison.
    std::io::stdout().write_all(table.as_bytes()).expect("a place for the table");
    std::fs::write(format!("{}/tcp-goodput.txt", env!("CARGO_TARGET_TMPDIR")), &table)
        .expect("a place for the table");
}
