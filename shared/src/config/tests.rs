//! Rows: a good configuration, one change to it, and exactly what the operator is told.

use proptest::prelude::*;

use super::*;

const GOOD: &str = r#"[[port]]
name = "inside"
device = "net_af_xdp0"
args = "iface=veth-in"
addresses = ["10.77.1.1/24"]
[[port]]
name = "outside"
device = "net_af_xdp1"
args = "iface=veth-out"
addresses = ["198.18.0.1/24"]
gateway = "198.18.0.2"
[cores]
workers = [1]
proxies = [1]
idle = "adaptive"
[nat]
public = ["198.18.0.1"]
[[filter]]
name = "log-all"
type = "log"
path = "flows.jsonl"
[[rule]]
name = "web"
match = { proto = "tcp", dst_port = [80, 443, "8000-8999"] }
action = "proxy"
filters = ["log-all"]
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("lab.toml"), text, 4).map_err(|error| error.to_string())
}

/// One change to [`GOOD`] and the message that it causes.
#[derive(Debug, Default)]
struct Row {
    removed: Option<&'static str>,
    added: Vec<&'static str>,
    told: Vec<&'static str>,
}

fn rows() -> Vec<Row> {
    let blocks = include_str!("tests.rows").split("\n\n");
    let rows = blocks.map(|block| {
        let mut row = Row::default();
        for line in block.lines() {
            match line.split_once(' ') {
                Some(("-", text)) => row.removed = Some(text),
                Some(("+", text)) => row.added.push(text),
                Some(("=", text)) => row.told.push(text),
                _ => assert!(
                    line.starts_with('#') || line.starts_with("  "),
                    "neither row nor comment: {line}"
                ),
            }
        }
        row
    });
    rows.filter(|row| !row.told.is_empty()).collect()
}

#[test]
fn every_row_of_faults_is_told_word_for_word() {
    let rows = rows();
    assert!(rows.len() > 60, "only {} rows were read", rows.len());
    for row in rows {
        let mut lines: Vec<&str> = GOOD.lines().collect();
        let at = row.removed.map_or(lines.len()..lines.len(), |removed| {
            let at = lines.iter().position(|line| *line == removed).expect(removed);
            at..at + 1
        });
        lines.splice(at, row.added.iter().copied());
        let told = parse(&lines.join("\n")).err().unwrap_or_default();
        assert_eq!(told, row.told.join("\n"), "{row:#?}");
    }
}

#[test]
fn the_lab_configuration_means_what_it_says() {
    let config = parse(GOOD).expect("good");
    let [inside, outside] = config.ports.as_slice() else { panic!("two ports") };
    assert!(!inside.outside && outside.outside);
    assert_eq!(inside.addresses, [(Ipv4Addr::new(10, 77, 1, 1), 24)]);
    assert_eq!(outside.gateway, Some(Ipv4Addr::new(198, 18, 0, 2)));
    assert_eq!(config.cores, Cores { main: 0, workers: vec![1], proxies: vec![1], idle: Idle::Adaptive });
    let [rule] = config.policy.rules.as_slice() else { panic!("one rule") };
    assert_eq!(rule.matching.protocol, Some(Protocol::Tcp));
    assert_eq!(rule.matching.dst_port, [80..=80, 443..=443, 8000..=8999]);
    assert_eq!((rule.action, rule.filters.as_slice()), (Action::Proxy, [0].as_slice()));
}

#[test]
fn keys_left_out_have_the_documented_defaults() {
    let config = parse(&GOOD.replace("idle = \"adaptive\"\n", "")).expect("good");
    assert_eq!(config.cores.idle, Idle::Adaptive, "virtual devices");
    assert_eq!(config.memory, Memory { frames: 65_535, hugepages: Hugepages::Auto });
    assert_eq!(config.nat.ports, 1024..=65535);
    assert_eq!((config.nat.flows, config.nat.flows_per_client), (262_144, 16_384));
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let timeouts = Timeouts {
        tcp_established: minutes(124),
        tcp_transitory: minutes(4),
        udp: minutes(5),
        icmp: minutes(1),
    };
    assert_eq!(config.nat.timeouts, timeouts);
    assert_eq!(config.policy.default_action, Action::Proxy);
    assert_eq!(config.policy.http, Http::default());
    assert_eq!(config.policy.rules[0].line, 21, "where [[rule]] stands");
    assert_eq!(config.control.socket, Path::new("/run/pnat/control.sock"));
    assert_eq!((config.control.group, config.control.metrics, config.control.listen), (None, None, None));
    assert!(config.control.measure);
    assert_eq!(config.log, Log { json: false, level: "info".to_owned() });
}

#[test]
fn a_machine_with_nics_only_polls_by_default() {
    let text = GOOD
        .replace("net_af_xdp0\"\nargs = \"iface=veth-in\"", "0000:3b:00.0\"")
        .replace("net_af_xdp1\"\nargs = \"iface=veth-out\"", "0000:3b:00.1\"")
        .replace("idle = \"adaptive\"\n", "");
    assert_eq!(parse(&text).expect("good").cores.idle, Idle::Poll);
}

#[test]
fn every_key_of_the_file_reaches_the_resolved_configuration() {
    let text = format!("{GOOD}{}", r#"
[memory]
frames = 16383
hugepages = "never"
[nat.timeouts]
tcp_established = "1h"
tcp_transitory = "2m"
udp = "30s"
icmp = "10s"
[proxy]
pairs = 1000
connect_timeout = "10s"
half_open_timeout = "5s"
idle_timeout = "1h 30m"
keepalive = "0"
udp_timeout = "1m"
window = "256KiB"
ring = 1024
syn_cookies_above = 0
congestion_inside = "bbr"
congestion_outside = "newreno"
ecn = "off"
[http]
head_limit = "32KiB"
line_limit = 4096
fields_limit = 64
trailer_limit = "2KiB"
head_timeout = "10s"
response_timeout = "2m"
connect = true
http2 = false
[policy]
default_action = "deny"
deny_with = "silent"
[[rule]]
name = "no-mail"
match = { src = "10.77.1.0/24", dst = ["192.0.2.1", "198.51.100.0/24"], src_port = "1024-65535", dst_port = 25 }
action = "deny"
deny_with = "icmp"
[[rule]]
name = "chain"
match = { proto = "udp" }
action = "proxy"
filters = ["slow", "swap", "ads"]
congestion_outside = "cubic"
[[filter]]
name = "ads"
type = "block"
patterns = ["EICAR"]
hosts = ["Ads.example", "*.tracker.example"]
sni = "ads.example"
[[filter]]
name = "swap"
type = "replace"
find = "foo"
with = ""
stream = "second"
[[filter]]
name = "slow"
type = "limit"
bytes_per_second = "1MB"
burst = 1500
by = "client"
[control]
socket = "target/c.sock"
group = "operators"
metrics = "127.0.0.1:9100"
measure = false
listen = "[::1]:9443"
tls = { certificate = "gateway.pem", key = "gateway.key", clients = "ca.pem" }
[log]
format = "json"
level = "warn,pnat_proxy=debug"
"#)
    .replace("public = [\"198.18.0.1\"]", "public = [\"198.18.0.1\", \"198.18.0.9\"]\nports = \"2000-2999\"\nflows = 10\nflows_per_client = 5")
    .replace("workers = [1]", "main = 2\nworkers = [1]")
    .replace("path = \"flows.jsonl\"", "path = \"flows.jsonl\"\ncontent_dir = \"content\"\ncontent_cap = \"1GiB\"")
    .replace("gateway =", "mtu = 9000\noffloads = \"off\"\ngateway =");
    let config = parse(&text).expect("good");
    assert_eq!(config.ports[1].mtu, Some(9000));
    assert_eq!([0, 1].map(|port: usize| config.ports[port].offloads), [Offloads::Auto, Offloads::Off]);
    assert_eq!(config.cores.main, 2);
    assert_eq!(config.memory, Memory { frames: 16_383, hugepages: Hugepages::Never });
    assert_eq!(config.nat.public.len(), 2);
    assert_eq!((config.nat.ports, config.nat.flows, config.nat.flows_per_client), (2000..=2999, 10, 5));
    let seconds = Duration::from_secs;
    let Timeouts { tcp_established, tcp_transitory, udp, icmp } = config.nat.timeouts;
    assert_eq!(
        [tcp_established, tcp_transitory, udp, icmp],
        [seconds(3600), seconds(120), seconds(30), seconds(10)]
    );
    let proxy = Proxy {
        pairs: 1000,
        connect_timeout: seconds(10),
        half_open_timeout: seconds(5),
        idle_timeout: seconds(5400),
        keepalive: seconds(0),
        udp_timeout: seconds(60),
        window: 256 << 10,
        ring: 1024,
        syn_cookies_above: 0,
        transport: Transport {
            congestion: [CongestionControl::Bbr, CongestionControl::NewReno],
            ecn: Ecn::Off,
        },
    };
    assert_eq!(config.proxy, proxy);
    let http = Http {
        head_limit: 32 << 10,
        line_limit: 4096,
        fields_limit: 64,
        trailer_limit: 2 << 10,
        head_timeout: seconds(10),
        response_timeout: seconds(120),
        connect: true,
        http2: false,
    };
    assert_eq!(config.policy.http, http);
    let policy = &config.policy;
    assert_eq!(policy.default_action, Action::Deny(Denial::Silent));
    assert_eq!(policy.rules[1].action, Action::Deny(Denial::Icmp));
    assert_eq!(policy.rules[1].matching.dst.len(), 2);
    assert_eq!(policy.rules[1].matching.src_port, [1024..=65535]);
    let rule = config.proxy.transport.overridden(policy.rules[2].congestion);
    assert_eq!(rule.congestion, [CongestionControl::Bbr, CongestionControl::Cubic]);
    assert_eq!(policy.rules[2].filters, [3, 2, 1], "chain order is the rule's, not the file's");
    let kinds: Vec<&FilterKind> = policy.filters.iter().map(|filter| &filter.kind).collect();
    let log =
        LogFilter { path: "flows.jsonl".into(), content_dir: Some("content".into()), content_cap: 1 << 30 };
    let block = BlockFilter {
        patterns: vec![b"EICAR".to_vec()],
        hosts: vec!["ads.example".to_owned(), "*.tracker.example".to_owned()],
        sni: vec!["ads.example".to_owned()],
        answer: BlockAnswer::Reset,
    };
    let replace = ReplaceFilter { find: b"foo".to_vec(), with: Vec::new(), first: false, second: true };
    let limit = LimitFilter { bytes_per_second: 1_000_000, burst: 1500, by: LimitBy::Client };
    assert_eq!(
        kinds,
        [
            &FilterKind::Log(log),
            &FilterKind::Block(block),
            &FilterKind::Replace(replace),
            &FilterKind::Limit(limit)
        ]
    );
    assert_eq!(config.control.socket, Path::new("target/c.sock"));
    assert_eq!(config.control.group.as_deref(), Some("operators"));
    assert_eq!(config.control.metrics, Some(([127, 0, 0, 1], 9100).into()));
    assert!(!config.control.measure);
    let tls =
        TlsFiles { certificate: "gateway.pem".into(), key: "gateway.key".into(), clients: "ca.pem".into() };
    let address = "[::1]:9443".parse().expect("an address");
    assert_eq!(config.control.listen, Some(Listen { address, tls }));
    assert_eq!(config.log, Log { json: true, level: "warn,pnat_proxy=debug".to_owned() });
}

#[test]
fn a_page_is_the_operators_file_or_else_a_plain_one() {
    let file = std::env::temp_dir().join(format!("pnat-page-{}.html", std::process::id()));
    std::fs::write(&file, "<h1>No</h1>").expect("written");
    let page = |key: String| {
        let filter =
            format!("[[filter]]\nname = \"b\"\ntype = \"block\"\nhosts = \"a\"\nanswer = \"page\"\n{key}");
        match parse(&format!("{GOOD}{filter}")).expect("good").policy.filters[1].kind.clone() {
            FilterKind::Block(BlockFilter { answer: BlockAnswer::Page(page), .. }) => page,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(&*page(format!("page = \"{}\"", file.display())), "<h1>No</h1>");
    assert!(page(String::new()).contains("<title>Blocked</title>"));
    std::fs::remove_file(&file).expect("removed");
}

#[test]
fn a_rule_accepts_late_unless_it_says_otherwise() {
    let accept = |text: &str| parse(text).expect("good").policy.rules[0].accept;
    assert_eq!(accept(GOOD), Accept::Late);
    let early = GOOD.replace("action = \"proxy\"", "action = \"proxy\"\naccept = \"early\"");
    assert_eq!(accept(&early), Accept::Early);
}

#[test]
fn limits_of_http_that_are_left_out_fit_to_those_that_are_not() {
    let http = |text: &str| parse(&format!("{GOOD}{text}")).expect("good").policy.http;
    let small = http("[http]\nhead_limit = \"4KiB\"");
    assert_eq!((small.head_limit, small.line_limit, small.trailer_limit), (4096, 4096, 16 << 10));
    assert_eq!(http("[proxy]\nwindow = \"8KiB\"").head_limit, 8 << 10);
}

#[test]
fn without_any_port_there_is_one_message() {
    let told = parse("[cores]\nworkers = [1]\nproxies = [1]\n[nat]\npublic = [\"198.18.0.1\"]").unwrap_err();
    let expected = "at least one [[port]] that faces the clients and one that faces the servers";
    assert_eq!(told, format!("lab.toml: port: is missing; allowed: {expected}"));
}

#[test]
fn workers_are_at_most_64() {
    let many: Vec<usize> = (0..65).collect();
    let text = GOOD.replace("workers = [1]", &format!("workers = {many:?}"));
    let told = Config::parse(Path::new("lab.toml"), &text, 128).expect_err("65 workers").to_string();
    assert_eq!(told, "lab.toml:13: cores.workers: a list of 65 is not allowed; allowed: at most 64 CPUs");
}

#[test]
fn several_faults_are_told_at_once_in_one_message() {
    let text =
        GOOD.replace("\"adaptive\"", "\"fast\"").replace("\"proxy\"", "\"prxy\"").replace("[1]", "[7]");
    let told = parse(&text).expect_err("faulty");
    let lines: Vec<&str> = told.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(lines, ["lab.toml:13:", "lab.toml:14:", "lab.toml:15:", "lab.toml:25:", "lab.toml:26:"]);
}

#[test]
fn a_file_that_is_not_there_is_told_by_name() {
    let told = Config::load(Path::new("no/such.toml"), 4).expect_err("no file").to_string();
    assert_eq!(told, "no/such.toml: cannot be read: No such file or directory (os error 2)");
}

proptest! {
    /// Line noise in the middle of a good file is refused or accepted, never a panic.
    #[test]
    fn noise_never_panics(at in 0..GOOD.len(), cut in 0usize..20, noise in "[ -~\n]{0,12}") {
        let end = (at + cut).min(GOOD.len());
        let _ = parse(&format!("{}{noise}{}", &GOOD[..at], &GOOD[end..]));
    }
}
