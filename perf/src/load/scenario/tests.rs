//! Rows: a good scenario, one line of it changed, and exactly what the operator is told.

use pnat_shared::config::Config;

use super::*;

const GOOD: &str = r#"duration = "2s"
[traffic]
rate = "10 kpps"
[flows]
count = 100
src = "10.0.0.0/24"
src_port = "1000-1009"
dst = "203.0.113.1-203.0.113.9"
[medium]
type = "wire"
"#;

/// Line, what stands in its place, what is told.
const ROWS: [(&str, &str, &str); 19] = [
    (
        "rate = \"10 kpps\"",
        "rates = \"10 kpps\"",
        "a.toml:3: traffic.rates: no such key; did you mean \"rate\"?; allowed here: protocol, flags, rate, burst, sizes",
    ),
    (
        "rate = \"10 kpps\"",
        "rate = \"10 kp/s\"",
        "a.toml:3: traffic.rate: \"10 kp/s\" is not allowed; allowed: a rate as in \"14.88 Mpps\", \"500 kpps\", \
         \"2.5 Gbit/s\" or \"40 Mbit/s\"",
    ),
    ("rate = \"10 kpps\"", "rate = \"0 pps\"", "a.toml:3: traffic.rate: \"0 pps\" is not allowed"),
    (
        "rate = \"10 kpps\"",
        "rate = \"1 pps\"\nprotocol = \"tcp\"\nsizes = 64",
        "a.toml:5: traffic.sizes: 64 is not allowed; allowed: sizes from 76 to 9018 bytes",
    ),
    (
        "rate = \"10 kpps\"",
        "rate = \"1 pps\"\nsizes = [\"64:5000\"]",
        "a.toml:4: traffic.sizes: this sum of weights is not allowed",
    ),
    (
        "rate = \"10 kpps\"",
        "rate = \"1 pps\"\nflags = \"syn\"",
        "a.toml:4: traffic.flags: only traffic of protocol = \"tcp\" has flags",
    ),
    (
        "count = 100",
        "count = 22_861",
        "a.toml:5: flows.count: 22861 is not allowed; allowed: 1 to 22860, for so many flows differ in these addresses and \
         ports",
    ),
    (
        "count = 100",
        "count = 10_000_001",
        "a.toml:5: flows.count: 10000001 is not allowed; allowed: 1 to 10000000",
    ),
    (
        "src = \"10.0.0.0/24\"",
        "src = \"10.0.0.9-10.0.0.1\"",
        "a.toml:6: flows.src: \"10.0.0.9-10.0.0.1\" is not allowed",
    ),
    ("src = \"10.0.0.0/24\"", "", "a.toml:4: flows.src: is missing from this table"),
    (
        "type = \"wire\"",
        "type = \"wier\"",
        "a.toml:10: medium.type: \"wier\" is not one of \"memory\", \"wire\", \"dpdk\"; did you mean \"wire\"?",
    ),
    (
        "type = \"wire\"",
        "type = \"wire\"\ncore = 1",
        "a.toml:11: medium.core: only media of type = \"dpdk\" have this key",
    ),
    (
        "type = \"wire\"",
        "loss = \"1 %\"",
        "a.toml:10: medium.loss: only media of type = \"wire\" have this key",
    ),
    (
        "type = \"wire\"",
        "type = \"wire\"\nloss = \"101 %\"",
        "a.toml:11: medium.loss: \"101 %\" is not allowed",
    ),
    ("type = \"wire\"", "type = \"dpdk\"", "a.toml: medium.send: is missing"),
    (
        "type = \"wire\"",
        "type = \"dpdk\"\nsend.device = \"net_ring0\"\nmac = \"02:00:00:00:00\"",
        "a.toml:12: medium.mac: \"02:00:00:00:00\" is not allowed",
    ),
    (
        "type = \"wire\"",
        "type = \"dpdk\"\nsend.device = \"net_ring0\"\nmac = \"02:00:00:00:00:01\"\ngateway = \"10.0.0.1\"",
        "a.toml:13: medium.gateway: only media without a mac have this key",
    ),
    ("duration = \"2s\"", "duration = \"25h\"", "a.toml:1: duration: \"25h\" is not allowed"),
    (
        "type = \"wire\"",
        "[search]\nlowest = \"10 kpps\"",
        "a.toml:11: search.lowest: 10 kpps is not allowed; allowed: a rate below search.highest, which is \
         the load's rate unless given",
    ),
];

fn parse(text: &str) -> Result<Scenario, String> {
    Scenario::parse(Path::new("a.toml"), text).map_err(|error| error.to_string())
}

#[test]
fn every_row_of_faults_is_told_with_its_line_and_key() {
    for (line, changed, told) in ROWS {
        assert!(GOOD.contains(line), "{line}");
        let error = parse(&GOOD.replace(line, changed)).expect_err(changed);
        assert!(error.starts_with(told) && !error.contains('\n'), "{changed}: {error}");
    }
}

#[test]
fn several_faults_are_told_at_once() {
    let text = GOOD.replace("10 kpps", "fast").replace("1000-1009", "9-1").replace("\"2s\"", "\"soon\"");
    assert_eq!(parse(&text).expect_err("faulty").lines().count(), 3);
}

#[test]
fn what_is_not_said_has_its_default() {
    let scenario = parse(GOOD).expect("good");
    assert_eq!((scenario.name.as_str(), scenario.burst), ("a", 1));
    assert_eq!((scenario.warm_up, scenario.drain), (Duration::ZERO, Duration::from_millis(100)));
    assert_eq!(scenario.content.sizes.extremes(), (64, 64));
    assert_eq!(*scenario.content.flows.src.start(), Ipv4Addr::new(10, 0, 0, 1));
    assert_eq!(scenario.content.flows.dst_port, 9..=9);
    assert_eq!(scenario.rate.per_second().round(), 10_000.0);
    assert!((scenario.search.lowest - 10.0).abs() < 1e-6);
}

#[test]
fn the_scenarios_that_are_shipped_are_good() {
    let perf = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files =
        ["scenarios", "rig"].iter().flat_map(|dir| std::fs::read_dir(perf.join(dir)).expect("readable"));
    let files: Vec<_> = files.map(|entry| entry.expect("an entry").path()).collect();
    let of_the_gateway = |file: &Path| file.ends_with("rig/gateway.toml");
    assert!(files.len() >= 5);
    for file in files.iter().filter(|file| !of_the_gateway(file)) {
        AnyScenario::load(file).unwrap_or_else(|error| panic!("{error}"));
    }
    Config::load(&perf.join("rig/gateway.toml"), 2).unwrap_or_else(|error| panic!("{error}"));
}
