//! The command line.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs, process};

use pnat_perf::load::tcp::result::TcpResult;

use crate::fixture::class;

fn pnat_perf(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pnat-perf")).args(arguments).output().expect("it starts")
}

fn directory(name: &str) -> PathBuf {
    let dir = env::temp_dir().join(format!("pnat-perf-tcp-{name}-{}", process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    dir
}

fn write_scenario(dir: &Path, class_lines: &str) -> String {
    let file = dir.join("small.toml");
    let text = format!(
        "kind = \"tcp\"\nduration = \"200ms\"\n{}[medium]\ntype = \"wire\"\nlatency = \"2ms\"\n",
        class(class_lines)
    );
    fs::write(&file, text).expect("written");
    file.display().to_string()
}

#[test]
fn a_run_leaves_its_results_in_files_and_on_standard_output() {
    let dir = directory("load");
    let file = write_scenario(&dir, "rate = \"1 kcps\"");
    let out = dir.join("out").display().to_string();
    let ran = pnat_perf(&["load", &file, "--out", &out]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));

    let json = fs::read(dir.join("out/tcp.json")).expect("tcp.json");
    let result: TcpResult = serde_json::from_slice(&json).expect("readable");
    assert_eq!((result.counts.attempted, result.counts.completed), (200, 200));
    assert_eq!(result.provenance.command[1..], ["load", &file, "--out", &out]);
    assert!((result.kpis.tcp_connections_per_second - 980.0).abs() < 25.0, "{:?}", result.kpis);
    assert_eq!((result.kpis.failed_transactions, result.times.connect.p50 / 100_000), (0.0, 40));
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(text.contains("TCP connections per second") && text.contains("TTLB"), "{text}");
    for name in ["tcp.hlog", "tcp-connect.hgrm", "tcp-request.hgrm"] {
        assert!(fs::metadata(dir.join("out").join(name)).expect(name).len() > 100, "{name}");
    }
    fs::remove_dir_all(dir).expect("removed");
}

#[test]
fn a_wrong_scenario_ends_with_2_and_its_line_and_so_does_one_of_the_wrong_kind() {
    let dir = directory("wrong");
    let file = write_scenario(&dir, "rate = \"1 kcps\"\nrequest = 3");
    let ran = pnat_perf(&["load", &file]);
    assert_eq!(ran.status.code(), Some(2));
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(told.starts_with(&format!("{file}:7: class \"class-1\": request: 3 is not allowed")), "{told}");

    let ran = pnat_perf(&["ndr", &file]);
    assert_eq!(ran.status.code(), Some(2));
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(told, format!("{file}:1: kind: only scenarios of frames can be used here\n"));
    fs::remove_dir_all(dir).expect("removed");
}
