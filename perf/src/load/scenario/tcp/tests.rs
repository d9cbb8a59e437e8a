//! Rows: a good scenario, one line of it changed, and exactly what the operator is told.

use super::*;

const GOOD: &str = r#"kind = "tcp"
duration = "2s"
rate = "1 kcps"
[[class]]
name = "web"
weight = 3
clients = "10.1.0.0/16"
servers = "203.0.113.1"
[[class]]
name = "bulk"
concurrent = 8
clients = "10.2.0.0/16"
servers = "203.0.113.2"
bulk = "download"
[medium]
type = "wire"
"#;

/// Line, what stands in its place, what is told.
const ROWS: [(&str, &str, &str); 16] = [
    (
        "clients = \"10.2.0.0/16\"\nservers = \"203.0.113.2\"",
        "clients = \"10.1.255.1\"\nservers = \"203.0.113.1\"",
        "a.toml:12: class \"bulk\": clients: 10.1.255.1 is not allowed; allowed: clients that \"web\" does not have",
    ),
    (
        "type = \"wire\"",
        "type = \"memory\"\nfilters = [\"replace\", \"scan\"]",
        "a.toml:17: medium.filters: \"scan\" is not allowed; allowed: a chain of",
    ),
    (
        "rate = \"1 kcps\"",
        "rate = \"1 kpps\"",
        "a.toml:3: rate: \"1 kpps\" is not allowed; allowed: connections per second",
    ),
    ("weight = 3", "wieght = 3", "a.toml:6: class.wieght: no such key; did you mean \"weight\"?"),
    ("weight = 3", "rate = \"1 cps\"", "a.toml:3: rate: only with a class that has a weight"),
    ("rate = \"1 kcps\"", "", "a.toml:6: class \"web\": weight: only scenarios with a rate have weights"),
    (
        "weight = 3",
        "",
        "a.toml:3: rate: only with a class that has a weight\na.toml:7: class \"web\": rate: what is said is not allowed; allowed: a class has either",
    ),
    (
        "weight = 3",
        "weight = 3\nramp = \"1s\"",
        "a.toml:7: class \"web\": ramp: only classes that are concurrent have this key",
    ),
    (
        "clients = \"10.1.0.0/16\"",
        "clients = \"10.1.0.0/33\"",
        "a.toml:7: class \"web\": clients: \"10.1.0.0/33\" is not allowed",
    ),
    (
        "weight = 3",
        "weight = 3\nrequest = 7",
        "a.toml:7: class \"web\": request: 7 is not allowed; allowed: 8 to",
    ),
    (
        "weight = 3",
        "weight = 3\nrequests = 0",
        "a.toml:7: class \"web\": requests: 0 is not allowed; allowed: 1 to 4294967295, or \"endless\"",
    ),
    (
        "weight = 3",
        "weight = 3\nlasts = \"1s\"",
        "a.toml:7: class \"web\": lasts: only classes that are bulk have this key",
    ),
    (
        "bulk = \"download\"",
        "bulk = \"download\"\nthink = \"1s\"",
        "a.toml:15: class \"bulk\": think: only classes that are neither bulk nor half_open have this key",
    ),
    (
        "bulk = \"download\"",
        "bulk = \"down\"",
        "a.toml:14: class \"bulk\": bulk: \"down\" is not one of \"upload\", \"download\", \"both\"; did you mean \"download\"?",
    ),
    (
        "servers = \"203.0.113.2\"",
        "servers = \"203.0.113.1\"\nanswer = \"refuse\"",
        "a.toml:13: class \"bulk\": servers: 203.0.113.1 is not allowed; allowed: servers that \"web\" does not have",
    ),
    (
        "type = \"wire\"",
        "type = \"wire\"\naction = \"nat\"",
        "a.toml:17: medium.action: only media of type = \"memory\" have this key",
    ),
];

fn parse(text: &str) -> Result<TcpScenario, String> {
    TcpScenario::parse(Path::new("a.toml"), text).map_err(|error| error.to_string())
}

#[test]
fn every_row_of_faults_is_told_with_its_line_and_key() {
    for (line, changed, told) in ROWS {
        assert!(GOOD.contains(line), "{line}");
        let error = parse(&GOOD.replace(line, changed)).expect_err(changed);
        assert!(error.starts_with(told), "{changed}: {error}");
    }
}

#[test]
fn what_is_not_said_has_its_default() {
    use crate::load::tcp::{Answer, Arrival, Closer, Talk};
    let scenario = parse(GOOD).expect("good");
    let [web, bulk] = scenario.load.classes.as_slice() else { panic!("two classes") };
    let Talk::Requests(requests) = web.talk else { panic!("requests") };
    assert_eq!((requests.count, requests.request, requests.response), (Some(1), 100, 1_000));
    assert_eq!((requests.closer, web.answer), (Closer::Client, Answer::Accept));
    assert_eq!((web.clients.ports.clone(), web.servers.ports.clone()), (1024..=65_535, 80..=80));
    let Arrival::Rate(rate) = web.arrival else { panic!("a rate") };
    assert_eq!(rate.per_second().round(), 1_000.0, "the only weight takes the whole rate");
    assert_eq!(bulk.arrival, Arrival::Concurrent { count: 8, ramp: Duration::from_secs(1) });
    assert_eq!((scenario.load.time_wait, scenario.drain), (Duration::from_secs(60), Duration::from_secs(10)));
}
