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
use crate::method::{self, Method, Process, Reference, TrialsResult};

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
        let outcome = on_medium(&scenario, |tester| tester.run(scenario.trial(1, scenario.duration)));
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

    /// A run by one of the methods that take several trials.
    fn trials(
        &self,
        name: &str,
        method: impl FnOnce(&Scenario, &mut dyn Tester) -> Method + Send,
    ) -> PathBuf {
        let dir = self.run(name);
        let scenario = scenario();
        let method = on_medium(&scenario, |tester| Ok(method(&scenario, tester)));
        TrialsResult { provenance: provenance(&scenario), method }.write(&dir).expect("written");
        dir
    }

    fn latency_under_load(&self, name: &str) -> PathBuf {
        let dir = self.run(name);
        self.trials(name, |scenario, tester| {
            let provenance = provenance(scenario);
            let shown = method::latency(scenario, &provenance, reference(), tester, &mut |_, _| {});
            let (latency, loads) = shown.expect("it runs");
            for (load, (result, outcome)) in latency.loads.iter().zip(&loads) {
                result.write(outcome, &dir.join(format!("{}-percent", load.percent))).expect("written");
            }
            Method::Latency(latency)
        })
    }

    fn ndr(&self, name: &str) -> PathBuf {
        let dir = self.run(name);
        let scenario = scenario();
        let result = on_medium(&scenario, |tester| {
            crate::ndr::run(&scenario, provenance(&scenario), tester, |_, _, _| {})
        });
        result.write(&dir).expect("written");
        dir
    }
}

impl Drop for Dirs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn on_medium<T: Send>(scenario: &Scenario, trials: impl FnOnce(&mut dyn Tester) -> Result<T> + Send) -> T {
    with_medium(scenario, Arc::new(Progress::default()), false, trials, Ok).expect("it runs")
}

/// Less than the wire bears.
fn reference() -> Reference {
    Reference { of: "NDR".to_owned(), frames: 3_000.0 }
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
    assert_eq!(names, ["a/run", "b/run"]);
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
fn each_method_of_several_trials_has_its_section() {
    let dirs = Dirs::new("methods");
    let throughput = dirs.trials("throughput", |scenario, tester| {
        let sizes = ["64", "512"].map(|size| (size.to_owned(), method::parse_size(size).expect("a size")));
        let found = method::throughput(scenario, &sizes, tester, &mut |_, _| {});
        Method::Throughput(found.expect("it runs"))
    });
    let latency = dirs.latency_under_load("latency");
    let recovery = dirs.trials("recovery", |scenario, tester| {
        let found = method::recovery(scenario, reference(), 2, tester, &mut |_, _| {});
        Method::Recovery(found.expect("it runs"))
    });
    let soak = dirs.trials("soak", |scenario, tester| {
        let this = [Process::find(std::process::id()).expect("it runs")];
        let (soak, ..) =
            method::soak(scenario, provenance(scenario), &this, tester, &mut |_, _| {}).expect("it runs");
        Method::Soak(soak)
    });
    let (html, markdown) = report(&[throughput, latency.clone(), recovery, soak]);
    for section in ["Highest rates by frame size", "Latency under load", "Recovery after overload", "Soak"] {
        assert!(markdown.contains(&format!("\n## {section}\n")), "{markdown}");
    }
    for told in ["| latency | 90 % | 2.7 kpps | 0 % |", "| throughput | 512 | NDR |", "| recovery | 2 |"] {
        assert!(markdown.contains(told), "{told} is not in {markdown}");
    }
    for drawn in ["bytes of a frame, mean", ">at 90 %<", "load, %", "Memory, huge pages included"] {
        assert!(html.contains(drawn), "{drawn} is not drawn");
    }
    fs::remove_file(latency.join("50-percent/latency.hlog")).expect("removed");
    assert!(told(read(&[latency])).contains("50-percent/latency.hlog"));
}

#[test]
fn of_many_runs_only_those_of_the_same_load_are_compared() {
    let dirs = Dirs::new("many");
    let rename = |result: &mut LoadResult| result.provenance.scenario = "other".to_owned();
    let runs =
        [dirs.load("a", |_| {}), dirs.load("b", rename), dirs.load("c", |_| {}), dirs.load("d", rename)];
    let (html, markdown) = report(&runs);
    let headings: Vec<&str> = markdown.lines().filter(|line| line.contains(" against ")).collect();
    assert_eq!(headings, ["### c against a", "### d against b"]);
    assert_eq!(html.matches("Throughput over time</figcaption>").count(), 2, "a chart for each load");
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
