//! What those see who watch the gateway: health, readiness and metrics, over the socket and over TCP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;

use pnat_shared::verdict::{CloseReason, DropReason};

use super::super::answer::{Health, Ready};
use super::rig::without_cores;
use super::*;

/// What a plain HTTP client reads, head and body.
fn read(mut stream: impl Read + Write, path: &str) -> (String, String) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: pnat\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

pub(super) fn by_socket(rig: &Rig, path: &str) -> (String, String) {
    read(UnixStream::connect(rig.socket()).expect("connected"), path)
}

#[test]
fn readiness_is_the_status_that_a_plain_http_client_sees() {
    let rig = Rig::new("ready");
    for (link_up, status) in [(0, "HTTP/1.1 503"), (1, "HTTP/1.1 200")] {
        rig.link_up.set(link_up);
        let (head, _) = by_socket(&rig, "/ready");
        assert!(head.starts_with(status), "{head}");
    }
    let ready: Ready = rig.client().get("/ready").expect("ready");
    assert_eq!(ready, Ready { ready: true, reasons: Vec::new() });
    let health: Health = rig.client().get("/health").expect("healthy");
    assert!(health.alive);
}

#[test]
fn what_is_not_ready_is_named() {
    let mut rig = Rig::new("unready");
    rig.link_up.set(0);
    rig.cores[3].tell(CoreMessage::Drain(Duration::ZERO)).expect("told");
    rig.threads.pop().expect("proxy 1").join().expect("stops");
    let reasons = |rig: &Rig| {
        let (head, body) = by_socket(rig, "/ready");
        assert!(head.starts_with("HTTP/1.1 503"), "{head}");
        serde_json::from_str::<Ready>(&body).expect("an answer").reasons
    };
    assert_eq!(reasons(&rig), ["port inside: its link is down", "proxy 1 has stopped"]);
    // Worker 0 holds an older policy than the one in force.
    rig.link_up.set(1);
    let rig = Rig::with("unready-policy", None);
    rig.write_config(&format!("{CONFIG}{MORE_RULES}"));
    let _: Reloaded = rig.client().post("/reload").expect("reloaded");
    let ready: Ready = rig.client().get("/ready").expect("ready");
    assert!(ready.ready, "all hold the new policy: {ready:?}");
    let (reply, _answer) = oneshot::channel();
    let old = CoreMessage::Policy {
        generation: 1,
        oldest: 1,
        policy: Config::load(&rig.config_file(), 2).expect("good").policy,
        chains: filters()
            .compile(&Config::load(&rig.config_file(), 2).expect("good").policy)
            .expect("chains"),
        reply,
    };
    rig.cores[0].tell(old).expect("told");
    assert_eq!(reasons(&rig), ["worker 0 holds policy generation 1, not 2"]);
}

#[test]
fn a_gateway_that_stops_is_healthy_but_not_ready() {
    let rig = Rig::new("stopping");
    rig.control.as_ref().expect("runs").drain(Duration::ZERO);
    let (head, body) = by_socket(&rig, "/ready");
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert!(body.contains("the gateway is stopping"), "{body}");
    assert!(by_socket(&rig, "/health").0.starts_with("HTTP/1.1 200"));
}

#[test]
fn top_shows_what_the_api_tells() {
    let rig = Rig::new("top");
    rig.link_up.set(0);
    let text = crate::top::once(rig.client(), Duration::from_millis(20)).expect("a frame");
    let line =
        |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{text}"));
    assert!(line("pnat ").ends_with("NOT READY"), "{text}");
    assert_eq!(line("not ready: "), "not ready: port inside: its link is down");
    assert!(line("inside").contains("down"), "{text}");
    assert!(line("nat ").contains("100 ns"), "{text}");
    // Both workers have three flows of the same client.
    let client: Vec<&str> = line("10.77.1.5 ").split_whitespace().collect();
    assert_eq!((client[1], client[4], client[5]), ("6", "600", "18600"), "{text}");
}

/// A sample's labels, in order of their names.
type Labels = Vec<(String, String)>;

/// A metric as its text declares it.
#[derive(Debug)]
struct Told {
    kind: String,
    samples: BTreeMap<(String, Labels), f64>,
}

/// Reads Prometheus' text format and refuses whatever its description does not allow, or its conventions advise against.
fn parse(text: &str) -> BTreeMap<String, Told> {
    let mut metrics: BTreeMap<String, Told> = BTreeMap::new();
    let mut current = String::new();
    let mut lines = text.lines();
    assert!(text.ends_with('\n'), "the last line ends too");
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(help.ends_with('.') && help.len() > 10, "{line}");
            let kind = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} ")));
            let kind = kind.unwrap_or_else(|| panic!("the type follows the help of {name}")).to_owned();
            assert!(["counter", "gauge", "histogram"].contains(&kind.as_str()), "{kind}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
            name.clone_into(&mut current);
            let before = metrics.insert(current.clone(), Told { kind, samples: BTreeMap::new() });
            assert!(before.is_none(), "{name} is told in one place");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series
            .split_once('{')
            .map_or((series, ""), |(name, labels)| (name, labels.strip_suffix('}').expect("closed")));
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{line}");
        let told = metrics.get_mut(&current).expect("declared before");
        let suffixes: &[&str] = if told.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(suffixes.iter().any(|suffix| name == format!("{current}{suffix}")), "{line} under {current}");
        let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
            let (key, value) = label.split_once('=').expect("a label's value");
            assert!(key.bytes().all(|b| b.is_ascii_lowercase()), "{line}");
            (key.to_owned(), value.trim_matches('"').to_owned())
        });
        let mut labels: Labels = labels.collect();
        labels.sort();
        let series = (name.to_owned(), labels);
        let value = value.parse().expect("a number");
        assert!(told.samples.insert(series, value).is_none(), "told once: {line}");
    }
    metrics
}

#[test]
fn everything_that_stats_know_is_a_metric_of_the_same_value() {
    let rig = Rig::new("metrics");
    for (value, counters) in (1..).zip(&rig.counters) {
        counters.packets.set(value);
        counters.drops.add(DropReason::Martian, value);
        counters.closes.add(CloseReason::Finished, value);
    }
    let (head, body) = by_socket(&rig, "/metrics");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let metrics = parse(&body);
    let stats: Stats = rig.client().get("/stats").expect("stats");
    let value = |name: &str, labels: &[(&str, &str)]| {
        let mut labels: Labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        labels.sort();
        let found = metrics.get(name).and_then(|told| told.samples.get(&(name.to_owned(), labels)));
        *found.unwrap_or_else(|| panic!("{name} in {body}"))
    };
    for group in &stats.groups {
        let (kind, name) = (group.kind.as_str(), group.name.as_str());
        for (counter, known) in &group.counters {
            let level = format!("pnat_{kind}_{counter}");
            let metric = if metrics.contains_key(&level) { level } else { format!("{level}_total") };
            assert_eq!(value(&metric, &[(kind, name)]), *known as f64, "{metric}");
        }
        for (reason, known) in &group.drops {
            let labels = [("kind", kind), ("name", name), ("reason", reason)];
            assert_eq!(value("pnat_dropped_packets_total", &labels), *known as f64);
        }
        for (reason, known) in &group.closes {
            let labels = [("kind", kind), ("name", name), ("reason", reason)];
            assert_eq!(value("pnat_closed_flows_total", &labels), *known as f64);
        }
    }
    let reasons = metrics["pnat_dropped_packets_total"].samples.keys();
    let reasons: BTreeSet<_> = reasons.map(|(_, labels)| &labels[2].1).collect();
    assert_eq!(reasons.len(), DropReason::COUNT, "reasons that did not occur are told too");
    assert_eq!(value("pnat_policy_generation", &[]), 1.0);
    assert_eq!(value("pnat_core_up", &[("kind", "proxy"), ("name", "1"), ("cpu", "1")]), 1.0);
}

#[test]
fn latency_is_a_histogram_per_core_and_stage() {
    let rig = Rig::new("metrics-latency");
    let (_, body) = by_socket(&rig, "/metrics");
    let told = &parse(&body)["pnat_latency_seconds"];
    let series = |suffix: &str| {
        let name = format!("pnat_latency_seconds{suffix}");
        told.samples.iter().filter(move |((found, _), _)| *found == name)
    };
    // Workers measure four stages, proxy cores three.
    assert_eq!(series("_count").count(), 2 * 4 + 2 * 3);
    for ((_, labels), count) in series("_count") {
        let of_series =
            series("_bucket").filter(|((_, bucket), _)| labels.iter().all(|l| bucket.contains(l)));
        let mut buckets: Vec<(f64, f64)> = of_series
            .map(|((_, bucket), value)| {
                let le = &bucket.iter().find(|(key, _)| key == "le").expect("a bound").1;
                (if le == "+Inf" { f64::INFINITY } else { le.parse().expect("a bound") }, *value)
            })
            .collect();
        buckets.sort_by(|one, other| one.partial_cmp(other).expect("numbers"));
        assert!(buckets.is_sorted_by(|one, other| one.1 <= other.1), "{buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)));
    }
    let nat: f64 = series("_count").filter(|((_, l), _)| l[2].1 == "nat").map(|(_, count)| count).sum();
    assert_eq!(nat, 10.0, "five by each worker");
}

#[test]
fn a_core_that_has_stopped_is_down_in_the_metrics_and_its_counters_stay() {
    let mut rig = Rig::new("metrics-stopped");
    rig.cores[3].tell(CoreMessage::Drain(Duration::ZERO)).expect("told");
    rig.threads.pop().expect("proxy 1").join().expect("stops");
    let (_, body) = by_socket(&rig, "/metrics");
    assert!(body.contains("pnat_core_up{kind=\"proxy\",name=\"1\",cpu=\"1\"} 0\n"), "{body}");
    assert!(body.contains("pnat_proxy_rx_packets_total{proxy=\"1\"} 0\n"), "{body}");
}

/// A free port of this machine's: somebody else may take it in between, but hardly does.
pub(super) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port()
}

#[test]
fn by_tcp_the_gateway_is_watched_and_nothing_else() {
    let port = free_port();
    let rig = Rig::configured("tcp", &format!("metrics = \"127.0.0.1:{port}\"\n"), None);
    let ask = |path| read(TcpStream::connect(("127.0.0.1", port)).expect("connected"), path);
    for (path, status) in [
        ("/metrics", 200),
        ("/health", 200),
        ("/ready", 200),
        ("/flows", 404),
        ("/stats", 404),
        ("/reload", 404),
    ] {
        let (head, _) = ask(path);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {head}");
    }
    // Those who connect and say nothing keep nobody out, up to a bound.
    let _silent: Vec<TcpStream> =
        (0..20).map(|_| TcpStream::connect(("127.0.0.1", port)).expect("connected")).collect();
    assert!(ask("/health").0.starts_with("HTTP/1.1 200"));
    drop(rig);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "it ends with the gateway");
}

#[test]
fn an_address_for_metrics_that_is_taken_is_named_with_its_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let dir = tempdir::Dir::new("metrics-taken");
    let text =
        format!("{CONFIG}[control]\nsocket = \"{}/c\"\nmetrics = \"{address}\"\n", dir.path().display());
    let error = start(without_cores(&dir, &text));
    let told = error.expect_err("taken").to_string();
    assert!(told.starts_with(&format!("control.metrics {address}: ")), "{told}");
}
