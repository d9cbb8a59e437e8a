//! What is told of the gateway as a whole: counters, their history, the report; and of cores that have stopped.

use std::path::Path;

use pnat_shared::verdict::{CloseReason, DropReason};

use super::super::answer::Reason;
use super::super::history::{CounterHistory, History};
use super::super::report::Report;
use super::*;

#[test]
fn stats_sum_up_cores_and_show_each() {
    let rig = Rig::new("stats");
    for counters in &rig.counters {
        counters.packets.set(10);
        counters.drops.add(DropReason::Martian, 2);
    }
    rig.counters[2].closes.add(CloseReason::Finished, 1);
    let stats: Stats = rig.client().get("/stats").expect("stats");
    assert_eq!(stats.generation, 1);
    assert_eq!((stats.totals["worker"]["rx_packets"], stats.totals["proxy"]["rx_packets"]), (20, 20));
    let count = |reasons: &[Reason], key| reasons.iter().find(|r| r.reason == key).map(|r| r.count);
    assert_eq!(count(&stats.drops, "martian"), Some(8));
    assert_eq!(count(&stats.drops, "land"), Some(0), "reasons that did not occur are told too");
    assert_eq!(count(&stats.closes, "finished"), Some(1));
    assert_eq!(stats.groups.len(), 6);
    assert_eq!((stats.groups[4].kind.as_str(), stats.groups[4].counters["rx_packets"]), ("ring", 7));
    let text = stats.to_string();
    assert!(text.contains("worker 1 (CPU 1)\n  rx_packets  10\n"), "{text}");
    assert!(text.contains("martian  8  the source or destination address cannot be real"), "{text}");
}

#[test]
fn the_report_merges_all_cores_and_names_one_that_has_stopped() {
    let rig = Rig::new("report");
    let report: Report = rig.client().get("/report").expect("report");
    assert_eq!((report.stages[0].count, report.silent.len()), (20, 0));
    let control = rig.control.as_ref().expect("runs");
    assert_eq!(control.report().stages[0].count, 20, "the gateway's own way to the same report");
    assert!(rig.client().get::<Stats>("/stats").is_ok(), "control still answers");

    let files = report.write(&rig.dir.path().join("out")).expect("written");
    let names: Vec<&Path> = files.iter().filter_map(|file| file.file_name().map(Path::new)).collect();
    assert_eq!(names, ["report.txt", "latency.hlog", "nat.hgrm"].map(Path::new));
    assert!(files.iter().all(|file| fs::metadata(file).is_ok_and(|file| file.len() > 0)));
}

#[test]
fn a_core_that_has_stopped_is_named_and_the_others_still_reported() {
    let mut rig = Rig::new("stopped");
    rig.cores[3].tell(CoreMessage::Drain(Duration::ZERO)).expect("told");
    rig.threads.pop().expect("proxy 1").join().expect("stops");
    let report: Report = rig.client().get("/report").expect("report");
    assert_eq!((report.silent, report.stages[0].count), (vec!["proxy 1 has stopped".to_owned()], 15));
}

#[test]
fn launch_can_have_all_cores_stop() {
    let mut rig = Rig::new("stop");
    rig.control.as_ref().expect("runs").drain(Duration::ZERO);
    for thread in rig.threads.drain(..) {
        thread.join().expect("stops");
    }
}

#[test]
fn what_counters_were_is_remembered_from_the_start_on() {
    let rig = Rig::new("history");
    let history: History = rig.client().get("/history").expect("told");
    assert!(!history.times_ms.is_empty());
    let received = |kind: &str, name: &str| {
        let is_it = |line: &&CounterHistory| (line.kind.as_str(), line.name.as_str()) == (kind, name);
        history
            .counters
            .iter()
            .filter(is_it)
            .find(|line| line.counter == "rx_packets")
            .map(|line| &line.values)
    };
    assert_eq!(received("worker", "1").map(Vec::len), Some(history.times_ms.len()));
    assert!(received("port", "inside").is_some());
    assert_eq!(received("ring", "to_proxy 0-1"), None, "of rings only the fullest is told");
}
