//! Reports of runs that were made and written here, read again from their directories.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::*;
use crate::load::medium::{with_duplex, with_medium};
use crate::load::result::LoadResult;
use crate::load::scenario::TcpScenario;
use crate::load::tcp::TcpTester;
use crate::load::tcp::result::TcpResult;
use crate::load::trial::Progress;
use crate::load::{Scenario, Tester};

/// 5,000 frames per second over a wire for 3,125, in virtual time.
const SCENARIO: &str = r#"
duration = "4s"
drain = "10ms"
[traffic]
rate = "5 kpps"
[flows]
src = "10.0.0.2"
dst = "203.0.113.1"
[medium]
type = "wire"
latency = "2ms"
capacity = "1.5 Mbit/s"
queue = 8
[search]
trial = "100ms"
trials = 3
width = "5 %"
"#;

/// 100 connections per second with a request each, over a wire.
const CONNECTIONS: &str = r#"
kind = "tcp"
duration = "3s"
[[class]]
name = "churn"
rate = "100 cps"
clients = "10.1.0.0/16"
servers = "203.0.113.0/28"
server_ports = 443
request = 200
response = 1000
[medium]
type = "wire"
latency = "1ms"
"#;

const HOSTILE: &str = "<script>alert(1)</script>|`x`";

/// Directories of one test, removed at its end.
struct Dirs(PathBuf);

impl Dirs {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pnat-perf-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn run(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(&path).expect("a directory");
        path
    }

    /// A run of `load`, whose result is changed before it is written.
    fn load(&self, name: &str, change: impl FnOnce(&mut LoadResult)) -> PathBuf {
        let dir = self.run(name);
        let scenario = scenario();
        let trial = |tester: &mut dyn Tester| tester.run(scenario.trial(1, scenario.duration));
        let outcome = with_medium(&scenario, Arc::new(Progress::default()), false, trial, Ok);
        let outcome = outcome.expect("it runs");
        let mut result = LoadResult::new(provenance(&scenario), &outcome);
        change(&mut result);
        result.write(&outcome, &dir).expect("written");
        dir
    }

    /// A run of `load` with connections.
    fn tcp(&self, name: &str, change: impl FnOnce(&mut TcpResult)) -> PathBuf {
        let dir = self.run(name);
        let scenario = TcpScenario::parse(Path::new("churn.toml"), CONNECTIONS).expect("good");
        let trial = |tester: &mut dyn TcpTester| tester.run(scenario.trial(1, scenario.duration));
        let outcome = with_duplex(&scenario, Arc::new(Progress::default()), false, trial, Ok);
        let outcome = outcome.expect("it runs");
        let of = (&*scenario.name, &*scenario.file, &*scenario.text);
        let provenance = Provenance::of(of, SystemTime::UNIX_EPOCH);
        let mut result = TcpResult::new(provenance, &scenario.load.classes, &outcome);
        change(&mut result);
        result.write(&outcome, &dir).expect("written");
        dir
    }

    fn ndr(&self, name: &str) -> PathBuf {
        let dir = self.run(name);
        let scenario = scenario();
        let search =
            |tester: &mut dyn Tester| crate::ndr::run(&scenario, provenance(&scenario), tester, |_, _, _| {});
        let result = with_medium(&scenario, Arc::new(Progress::default()), false, search, Ok);
        result.expect("it runs").write(&dir).expect("written");
        dir
    }
}

impl Drop for Dirs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn scenario() -> Scenario {
    Scenario::parse(Path::new("wire.toml"), SCENARIO).expect("good")
}

fn provenance(scenario: &Scenario) -> Provenance {
    Provenance::new(scenario, SystemTime::UNIX_EPOCH)
}

fn report(dirs: &[PathBuf]) -> (String, String) {
    let page = page(&read(dirs).expect("read")).expect("a page");
    (page.html(), page.markdown())
}

fn told(result: Result<Vec<Run>>) -> String {
    format!("{:#}", result.expect_err("an error"))
}

#[test]
fn a_report_says_what_ran_what_came_of_it_and_in_which_units() {
    let dirs = Dirs::new("says");
    let (html, markdown) = report(&[dirs.load("first", |_| {}), dirs.ndr("search")]);
    for text in [
        "first",
        "search",
        "wire.toml",
        "1970-01-01T00:00:00Z",
        "latency = \"2ms\"",
        "20000",
        "5 kpps",
        "PDR",
        "latency",
    ] {
        assert!(html.contains(&text.replace('"', "&quot;")), "{text} is not in the page");
        assert!(markdown.contains(text), "{text} is not in {markdown}");
    }
    for drawn in
        ["time, s", "frames, kpps", "percentile, %", "99.99", "trial", "10 ms", ">NDR<", ">nothing lost<"]
    {
        assert!(html.contains(drawn), "{drawn} is not drawn");
    }
    assert!(!html.contains("http:") && !html.contains("https:"));
}

#[test]
fn hostile_names_are_only_text() {
    let dirs = Dirs::new("hostile");
    let dir = dirs.load("hostile", |result| {
        result.provenance.scenario = HOSTILE.to_owned();
        result.provenance.scenario_text = HOSTILE.to_owned();
        result.provenance.command = vec![HOSTILE.to_owned()];
        result.provenance.machine.cpu = HOSTILE.to_owned();
    });
    let mut runs = read(&[dir]).expect("read");
    runs[0].name = HOSTILE.to_owned();
    let page = page(&runs).expect("a page");
    let html = page.html();
    assert!(!html.contains("<script"), "it is told as an element");
    assert!(html.matches("&lt;script&gt;").count() >= 6);
    let rows = page.markdown();
    assert!(rows.contains("\n\\<script>alert(1)\\</script>\\|\\`x\\` (wire.toml)"), "{rows}");
}

#[test]
fn one_run_is_compared_with_nothing_and_two_by_every_figure_they_share() {
    let dirs = Dirs::new("compared");
    let (one, two) = (
        dirs.load("one", |_| {}),
        dirs.load("two", |result| {
            result.rates.received_frames *= 1.5;
            result.latency.p50 *= 2;
        }),
    );
    assert!(!report(std::slice::from_ref(&one)).1.contains("## Comparison"));
    let (_, markdown) = report(&[one.clone(), two]);
    let row =
        |name: &str| markdown.lines().find(|line| line.starts_with(&format!("| {name} |"))).expect(name);
    assert!(row("received").starts_with("| received | +50.00 % | better |"), "{markdown}");
    assert!(row("latency p50").starts_with("| latency p50 | +100.00 % | worse |"), "{}", row("latency p50"));
    assert!(
        row("latency max").starts_with("| latency max | +0.00 % | within noise |"),
        "{}",
        row("latency max")
    );
    let (_, search) = report(&[dirs.ndr("search"), one]);
    assert!(search.contains("They have no figure in common."));
}

#[test]
fn a_search_is_compared_by_the_step_that_it_could_not_tell_apart() {
    let dirs = Dirs::new("searches");
    let runs = read(&[dirs.ndr("search")]).expect("read");
    let figures = ndr::figures(runs[0].ndr.as_ref().expect("searched"));
    let ndr = figures.iter().find(|figure| figure.name == "PDR").expect("found");
    assert!((ndr.noise.expect("known") / ndr.value - 0.025).abs() < 0.001, "{ndr:?}");
}

#[test]
fn what_is_missing_or_damaged_is_named() {
    let dirs = Dirs::new("missing");
    assert!(told(read(&[dirs.0.join("nowhere")])).contains("nowhere"));
    let empty = told(read(&[dirs.run("empty")]));
    assert!(empty.contains("empty") && empty.contains("result.json"), "{empty}");
    let damaged = dirs.load("damaged", |_| {});
    fs::write(damaged.join("latency.hlog"), "#[no log]\n").expect("written");
    let damaged = told(read(&[damaged]));
    assert!(damaged.contains("latency.hlog") && damaged.contains("latency"), "{damaged}");
    let torn = dirs.load("torn", |_| {});
    fs::remove_file(torn.join("latency.hlog")).expect("removed");
    assert!(told(read(std::slice::from_ref(&torn))).contains("latency.hlog"));
    fs::write(torn.join("result.json"), "{\"provenance\":").expect("written");
    assert!(told(read(&[torn])).contains("result.json"));
}

#[test]
fn runs_of_the_same_name_are_told_by_their_paths() {
    let dirs = Dirs::new("names");
    let (one, two) = (dirs.ndr("a/run"), dirs.ndr("b/run"));
    let names: Vec<String> = read(&[one, two]).expect("read").into_iter().map(|run| run.name).collect();
    assert!(names[0].ends_with("a/run") && names[1].ends_with("b/run"), "{names:?}");
}

#[test]
fn connections_are_told_with_their_indicators_times_and_course() {
    let dirs = Dirs::new("connections");
    let one = dirs.tcp("one", |_| {});
    let (html, markdown) = report(std::slice::from_ref(&one));
    for told in ["churn.toml", "connections per second", "segments sent again", "churn, first byte", "100 /s"]
    {
        assert!(html.contains(told) && markdown.contains(told), "{told} is not in {markdown}");
    }
    for drawn in [
        "Connections open",
        "Transactions per second",
        "content, kbit/s",
        "percentile, %",
        ">whole connection<",
    ] {
        assert!(html.contains(drawn), "{drawn} is not drawn");
    }
    let two = dirs.tcp("two", |result| {
        result.kpis.tcp_connections_per_second *= 2.0;
        result.kpis.failed_connections = 0.5;
    });
    let (html, markdown) = report(&[one, two]);
    assert!(markdown.contains("| connections | +100.00 % | better |"), "{markdown}");
    assert!(markdown.contains("| failed connections | - | not judged | 0 % | 50 % |"), "{markdown}");
    assert!(html.contains("Times by percentile: first byte") && html.contains(">two, established<"));
}

#[test]
fn both_files_are_written() {
    let dirs = Dirs::new("written");
    let page = page(&read(&[dirs.ndr("search")]).expect("read")).expect("a page");
    let files = write(&page, &dirs.0.join("out")).expect("written");
    let names: Vec<_> = files.iter().map(|file| file.file_name().expect("a name").to_owned()).collect();
    assert_eq!(names, ["report.html", "report.md"]);
    assert!(files.iter().all(|file| fs::metadata(file).is_ok_and(|file| file.len() > 500)));
}
