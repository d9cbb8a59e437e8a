//! The load generator with DPDK's own testpmd between its ports: their counts agree to the frame.
//!
//! The package `dpdk` brings testpmd.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use pnat_dataplane::port::capsule::available_cpus;

use memif::{directory, load, memif, wait_until};

mod memif;

/// testpmd's arguments before its devices, and those behind.
const BEFORE: &str = "--no-huge -m 128 --no-pci --no-shconf --no-telemetry -l";
const BEHIND: &str = "-- --forward-mode=io --auto-start --total-num-mbufs=8192 --disable-link-check --no-lsc-interrupt \
                      --stats-period=1";

/// testpmd, ended with the value.
struct Testpmd(Child);

impl Testpmd {
    /// Starts it, and waits until it forwards.
    fn start(dir: &Path, log: &Path) -> Self {
        let cpus = available_cpus();
        let cores = format!("{},{}", cpus[0], cpus[cpus.len() - 1]);
        let mut command = Command::new("dpdk-testpmd");
        command.args(BEFORE.split(' ')).arg(cores);
        for (device, cable) in [("net_memif0", "a"), ("net_memif1", "b")] {
            command.arg(format!("--vdev={device},{}", memif("server", dir, cable)));
        }
        let output = fs::File::create(log).expect("a log");
        let errors = output.try_clone().expect("the same log");
        let started =
            command.args(BEHIND.split(' ')).stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let testpmd = Self(started.expect("dpdk-testpmd starts; it is in Debian's package dpdk"));
        let forwards = || fs::read_to_string(log).is_ok_and(|log| log.contains("NIC statistics"));
        assert!(
            wait_until(forwards),
            "testpmd does not forward:\n{}",
            fs::read_to_string(log).unwrap_or_default()
        );
        testpmd
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The largest value of a port's counter; when the generator leaves, memif begins anew at 0.
fn largest(log: &str, port: u8, counter: &str) -> u64 {
    let mut values = Vec::new();
    for part in
        log.split("NIC statistics for port ").skip(1).filter(|part| part.starts_with(&port.to_string()))
    {
        let place = part.find(counter).expect(counter) + counter.len();
        let value = part[place..].split_whitespace().next().expect("a value");
        values.push(value.parse().expect("a number"));
    }
    values.into_iter().max().expect("statistics were told")
}

#[test]
fn through_testpmd_every_frame_is_counted_as_testpmd_counts_it() {
    let dir = directory("testpmd");
    let log = dir.join("testpmd.log");
    let testpmd = Testpmd::start(&dir, &log);
    let core = available_cpus().pop().expect("a CPU");
    // testpmd tells its counters every second: at least once after the last frame, before the generator leaves.
    let loading = load(
        &dir,
        "duration = \"500ms\"\ndrain = \"2500ms\"\n[traffic]\nrate = \"20 kpps\"\nsizes = \"imix\"\n\
         [flows]\ncount = 1000\nsrc = \"10.1.0.0/16\"\ndst = \"203.0.113.1\"",
        &format!("core = {core}"),
    );
    let frames = loading.result(|| drop(testpmd)).frames;
    let log = fs::read_to_string(log).expect("the log");
    assert!(frames.sent > 0 && frames.foreign == 0, "{frames:?}");
    // What finds the queue between the two full is testpmd's loss, before it can count it.
    assert_eq!(largest(&log, 0, "RX-packets:"), frames.sent - frames.missed, "{frames:?}");
    assert_eq!(largest(&log, 1, "TX-packets:"), frames.received, "{frames:?}");
    fs::remove_dir_all(dir).expect("removed");
}
