//! What an operator does to a gateway: checks its configuration, reloads, looks into it, stops it.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::capture::packets;
use crate::exchange::{connection, read_exactly};
use crate::fixture::{self, Lab, pnat, printed, succeed, text, wait_until};
use crate::hosts::{CLIENT, CLIENT_ADDRESS, FAR_ADDRESS, SERVER, accept, finish};
use crate::policy::{self, Arrangement};

#[test]
fn config_error_exits_with_2_and_names_file_key_and_cure() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let bad = directory.join("bad.toml");
    let good = policy::gateway(directory, Arrangement::default(), &policy::proxied());
    fs::write(&bad, good.replacen("addresses", "adresses", 1)).unwrap();

    for subcommand in ["check", "run"] {
        let output = pnat(subcommand, &bad).output().unwrap();

        assert_eq!(output.status.code(), Some(2), "{}", printed(&output));
        for said in ["bad.toml", "adresses", "addresses"] {
            assert!(printed(&output).contains(said), "{said} in: {}", printed(&output));
        }
    }
}

#[test]
fn shipped_configurations_are_valid() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for config in ["conf/lab.toml", "conf/pnat.toml"] {
        succeed(pnat("check", Path::new(config)).args(["--cpus", "8"]).current_dir(&top));
    }
}

#[test]
fn reload_under_load_drops_no_flow_and_rules_the_next_ones() {
    let lab = Lab::start(&policy::proxied());
    let transfer = slow_download(&lab);
    let listeners = [SERVER.listen(7000), SERVER.listen(7001)];
    let mut client = CLIENT.connect(FAR_ADDRESS, 7000);
    let mut server = accept(&listeners[0]);
    client.write_all(b"before").unwrap();
    assert_eq!(read_exactly(&mut server, 6), b"before");

    lab.reload(&policy::denied("tcp", 7000, "reset"));

    wait_until(Duration::from_secs(5), "new flows meet the new rule", || {
        let attempt = CLIENT.try_connect(FAR_ADDRESS, 7000, Duration::from_secs(1));
        attempt.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    CLIENT.connect(FAR_ADDRESS, 7001);
    client.write_all(b"after").unwrap();
    assert_eq!(read_exactly(&mut server, 5), b"after");
    assert_eq!(finish(transfer), page_hash(&lab));
}

#[test]
fn reload_of_a_bad_configuration_changes_nothing() {
    let lab = Lab::start(&policy::denied("tcp", 7000, "reset"));

    lab.reload("[policy]\ndefault_actoin = \"nat\"");

    thread::sleep(Duration::from_millis(500));
    let _listeners = [SERVER.listen(7000), SERVER.listen(7001)];
    CLIENT.try_connect(FAR_ADDRESS, 7000, Duration::from_secs(1)).expect_err("the old rule still holds");
    CLIENT.connect(FAR_ADDRESS, 7001);
}

#[test]
fn second_sigterm_resets_what_is_still_open_and_ends() {
    let lab = Lab::start(&policy::proxied());
    let (mut client, _server) = connection();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();

    let start = Instant::now();
    lab.signal("TERM");
    thread::sleep(Duration::from_millis(500));
    lab.signal("TERM");

    let error = client.read(&mut [0; 1]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    lab.stop();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn sigterm_lets_open_flows_end_and_prints_the_final_report() {
    let lab = Lab::start(&policy::proxied());
    let (mut client, mut server) = connection();
    let ending = thread::spawn(move || {
        thread::sleep(Duration::from_secs(1));
        client.write_all(b"last words").unwrap();
        assert_eq!(read_exactly(&mut client, 6), b"answer");
    });
    let answering = thread::spawn(move || {
        assert_eq!(read_exactly(&mut server, 10), b"last words");
        server.write_all(b"answer").unwrap();
    });

    let report = lab.stop();

    finish(ending);
    finish(answering);
    assert!(report.contains("p99"), "a table of latencies: {report}");
}

#[test]
fn open_flows_are_listed() {
    let lab = Lab::start(&policy::proxied());
    let (client, _server) = connection();

    let flows = lab.pnat("flows", &["--json"]);

    let port = client.local_addr().unwrap().port().to_string();
    for said in [FAR_ADDRESS, CLIENT_ADDRESS, &port] {
        assert!(flows.contains(said), "{said} in: {flows}");
    }
}

#[test]
fn capture_shows_masked_addresses_in_the_loopback_and_real_ones_outside() {
    let lab = Lab::start(&policy::proxied());

    for (at, masked) in [("inside", false), ("to_proxy", true), ("from_proxy", true), ("outside", false)] {
        // A file of its own each time: what an earlier capture wrote must not be taken for this one's.
        let file = lab.file(&format!("{at}.pcap"));
        let tap = pnat("capture", &lab.config())
            .args(["--write", text(&file), "--at", at, "--count", "5"])
            .spawn()
            .unwrap();
        wait_until(Duration::from_secs(20), "five packets are captured", || {
            CLIENT.run(&["curl", "-sS", "-m", "10", "http://198.18.5.10/"]);
            fs::metadata(&file).is_ok_and(|file| file.len() > 24 + 5 * 56)
        });
        assert!(tap.wait_with_output().unwrap().status.success());

        // ARP may be among the five.
        let seen = packets(&file);

        assert!(!seen.is_empty(), "at {at}");
        let any_masked = seen
            .iter()
            .any(|packet| [packet.src, packet.dst].iter().any(|address| address.octets()[0] >= 240));
        assert_eq!(any_masked, masked, "at {at}: {seen:?}");
    }
}

#[test]
fn explain_names_the_rule() {
    let lab = Lab::start(&policy::denied("tcp", 7000, "reset"));

    let explained = lab.pnat("explain", &["tcp", "10.77.1.2:4000", "198.18.5.10:7000"]);

    assert!(explained.contains("denied"), "{explained}");
}

#[test]
fn report_writes_histograms() {
    let lab = Lab::start(&policy::proxied());
    CLIENT.run(&["curl", "-sS", "-m", "10", "http://198.18.5.10/"]);
    let out = lab.file("report");

    let table = lab.pnat("report", &["--out", text(&out)]);

    for said in ["p50", "p90", "p99", "p99.9", "max", "count"] {
        assert!(table.contains(said), "{said} in: {table}");
    }
    let files: Vec<_> = fs::read_dir(out).unwrap().map(|file| file.unwrap().path()).collect();
    for kind in ["hgrm", "hlog"] {
        assert!(files.iter().any(|file| file.extension().is_some_and(|found| found == kind)), "{files:?}");
    }
}

#[test]
fn nothing_is_left_behind() {
    let before = hugepages();
    let lab = Lab::start(&policy::proxied());
    let state = lab.file("");

    drop(lab);

    assert!(!state.exists());
    assert!(!succeed(Command::new("ip").args(["netns", "list"])).contains(&fixture::name()));
    assert_eq!(hugepages(), before);
}

fn hugepages() -> String {
    fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap_or_default()
}

/// A transfer of some seconds; its result is the hash of what arrived.
fn slow_download(lab: &Lab) -> thread::JoinHandle<String> {
    let copy = lab.file("down");
    let curl = ["curl", "-sS", "-m", "60", "--limit-rate", "12M", "-o", text(&copy), "http://198.18.0.2/big"];
    let mut running = CLIENT.command(&curl).spawn().unwrap();
    thread::spawn(move || {
        assert!(running.wait().unwrap().success());
        hash(&copy)
    })
}

fn page_hash(lab: &Lab) -> String {
    hash(&lab.file("www/big"))
}

fn hash(file: &Path) -> String {
    succeed(Command::new("sha256sum").arg(file))[..64].to_owned()
}
