//! The commands that take several trials, as an operator calls them, over a wire in virtual time.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs, process};

use pnat_perf::load::result::LoadResult;
use pnat_perf::method::{Method, TrialsResult};

const SCENARIO: &str = "duration = \"100ms\"\nwarm_up = \"10ms\"\ndrain = \"10ms\"\n[traffic]\nrate = \"20 kpps\"\n\
                        [flows]\nsrc = \"10.1.0.2\"\ndst = \"203.0.113.1\"\n\
                        [medium]\ntype = \"wire\"\ncapacity = \"4.8 Mbit/s\"\nqueue = 1\n\
                        [search]\ntrial = \"100ms\"\ntrials = 1\nwidth = \"5 %\"";

/// A directory with the scenario in it.
fn directory(name: &str) -> (PathBuf, String) {
    let dir = env::temp_dir().join(format!("pnat-perf-{name}-{}", process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let file = dir.join("wire.toml");
    fs::write(&file, SCENARIO).expect("written");
    (dir, file.display().to_string())
}

fn pnat_perf(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pnat-perf")).args(arguments).output().expect("it starts")
}

/// Runs a command that is to succeed, and reads what it has left.
fn shown(arguments: &[&str], dir: &Path) -> TrialsResult {
    let out = dir.display().to_string();
    let ran = pnat_perf(&[arguments, &["--out", &out]].concat());
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let json = fs::read(dir.join("trials.json")).expect("trials.json");
    let result: TrialsResult = serde_json::from_slice(&json).expect("readable");
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(told.starts_with(&result.to_string()), "{told}");
    result
}

#[test]
fn latency_goes_by_the_rate_that_ndr_has_found_and_leaves_each_loads_distributions() {
    let (dir, file) = directory("latency");
    let ndr = dir.display().to_string();
    assert!(pnat_perf(&["ndr", &file, "--out", &ndr]).status.success());
    let ndr = dir.join("ndr.json").display().to_string();
    let result = shown(&["latency", &file, "--ndr", &ndr], &dir);
    let Method::Latency(latency) = &result.method else { panic!("latency") };
    assert_eq!(latency.reference.of, "NDR");
    assert!((9_500.0..10_021.0).contains(&latency.reference.frames), "{:?}", latency.reference);
    for load in &latency.loads {
        let below = dir.join(format!("{}-percent", load.percent));
        let json = fs::read(below.join("result.json")).expect("result.json");
        let load_result: LoadResult = serde_json::from_slice(&json).expect("readable");
        assert_eq!((load_result.latency, load_result.frames.lost), (load.latency.clone(), 0));
        assert!(below.join("latency.hgrm").exists() && below.join("latency.hlog").exists());
    }
    fs::remove_dir_all(dir).expect("removed");
}

#[test]
fn throughput_recovery_and_soak_leave_their_results() {
    let (dir, file) = directory("trials");
    let Method::Throughput(throughput) = shown(&["throughput", &file, "--sizes", "64,1518"], &dir).method
    else {
        panic!("throughput")
    };
    assert_eq!(throughput.sizes.iter().map(|size| size.size.as_str()).collect::<Vec<_>>(), ["64", "1518"]);

    let arguments = ["recovery", &file, "--rate", "10e3", "--trials", "2"];
    let Method::Recovery(recovery) = shown(&arguments, &dir).method else { panic!("recovery") };
    assert_eq!((recovery.trials.len(), recovery.overload.frames_after), (2, 5_000.0));
    // A queue of one frame has room again after the next one.
    assert!(recovery.seconds.expect("recovered") < 0.0005, "{recovery:?}");

    let pid = process::id().to_string();
    let arguments = ["soak", &file, "--duration", "300ms", "--pid", &pid];
    let Method::Soak(soak) = shown(&arguments, &dir).method else { panic!("soak") };
    assert_eq!((soak.seconds, soak.sent, soak.processes.len()), (0.3, 6_000, 1));
    assert!(dir.join("result.json").exists());
    fs::remove_dir_all(dir).expect("removed");
}

#[test]
fn what_is_wrong_ends_with_2_before_anything_is_sent() {
    let (dir, file) = directory("wrong-trials");
    for (arguments, told) in [
        (["latency", &file, "--ndr", "no/ndr.json"], "no/ndr.json: "),
        (["recovery", &file, "--rate", "0"], "allowed: 1 to 1e12 frames per second"),
        (["throughput", &file, "--sizes", "63"], "allowed: 64 to 1518, or imix"),
        (["soak", &file, "--pid", "4194305"], "there is no process 4194305"),
    ] {
        let ran = pnat_perf(&arguments);
        let text = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(told) && ran.stdout.is_empty(), "{arguments:?}: {text}");
    }
    fs::remove_dir_all(dir).expect("removed");
}
