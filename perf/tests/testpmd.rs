//! The load generator on two DPDK ports, with DPDK's own testpmd between them: their counts agree to the frame.
//!
//! The ports are memif's, memory that two processes share, so neither hardware nor privilege is needed. The package `dpdk`
//! brings testpmd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, process, thread};

use pnat_dataplane::port::capsule::available_cpus;
use pnat_perf::load::result::LoadResult;

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
        for (device, socket) in [("net_memif0", "a"), ("net_memif1", "b")] {
            command.arg(format!("--vdev={device},{}", memif("server", dir, socket)));
        }
        let output = fs::File::create(log).expect("a log");
        let errors = output.try_clone().expect("the same log");
        let started =
            command.args(BEHIND.split(' ')).stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let testpmd = Self(started.expect("dpdk-testpmd starts; it is in Debian's package dpdk"));
        for _ in 0..300 {
            if fs::read_to_string(log).is_ok_and(|log| log.contains("NIC statistics")) {
                return testpmd;
            }
            pause();
        }
        panic!("testpmd does not forward:\n{}", fs::read_to_string(log).unwrap_or_default());
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "another process is waited for")]
fn pause() {
    thread::sleep(Duration::from_millis(100));
}

fn memif(role: &str, dir: &Path, socket: &str) -> String {
    format!("role={role},socket={}/{socket}.sock,socket-abstract=no", dir.display())
}

fn directory() -> PathBuf {
    let dir = env::temp_dir().join(format!("pnat-perf-testpmd-{}", process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    dir
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
    let dir = directory();
    let log = dir.join("testpmd.log");
    let testpmd = Testpmd::start(&dir, &log);
    let (file, out) = (dir.join("memif.toml"), dir.join("out"));
    let core = available_cpus().pop().expect("a CPU");
    // testpmd tells its counters every second: at least once after the last frame, before the generator leaves.
    let text = format!(
        "duration = \"500ms\"\ndrain = \"2500ms\"\n[traffic]\nrate = \"20 kpps\"\nsizes = \"imix\"\n\
         [flows]\ncount = 1000\nsrc = \"10.1.0.0/16\"\ndst = \"203.0.113.1\"\n[medium]\ntype = \"dpdk\"\ncore = {core}\n\
         send = {{ device = \"net_memif0\", args = \"{}\" }}\nreceive = {{ device = \"net_memif1\", args = \"{}\" }}",
        memif("client", &dir, "a"),
        memif("client", &dir, "b"),
    );
    fs::write(&file, text).expect("written");
    let command = Command::new(env!("CARGO_BIN_EXE_pnat-perf"))
        .args(["load".as_ref(), file.as_os_str(), "--out".as_ref(), out.as_os_str()])
        .output()
        .expect("it starts");
    drop(testpmd);
    assert!(command.status.success(), "{}", String::from_utf8_lossy(&command.stderr));
    let json = fs::read(out.join("result.json")).expect("result.json");
    let frames = serde_json::from_slice::<LoadResult>(&json).expect("readable").frames;
    let log = fs::read_to_string(log).expect("the log");
    assert!(frames.sent > 0 && frames.foreign == 0, "{frames:?}");
    assert_eq!(largest(&log, 0, "RX-packets:"), frames.sent, "{frames:?}");
    assert_eq!(largest(&log, 1, "TX-packets:"), frames.received, "{frames:?}");
    fs::remove_dir_all(dir).expect("removed");
}
