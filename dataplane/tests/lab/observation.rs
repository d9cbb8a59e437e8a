//! What those see who watch a gateway: Prometheus and its tools.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::SockRef;

use crate::fixture::{Lab, printed, text, wait_until};
use crate::hosts::{CLIENT, CLIENT_ADDRESS, FAR_ADDRESS, GATEWAY, Host, PATIENCE, SERVER, accept, finish};
use crate::interop::path::{self, FAR, put_behind};
use crate::policy::{self, Arrangement, METRICS};

/// A program of the operator's, ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[test]
fn prometheus_reads_the_metrics_and_promtool_has_nothing_to_say() {
    let lab = Lab::start(&policy::proxied());
    CLIENT.run(&["curl", "-sS", "-m", "10", "http://198.18.5.10/"]);

    let metrics = lab.file("metrics.txt");
    fs::write(&metrics, GATEWAY.run(&["curl", "-sSf", &format!("http://{METRICS}/metrics")])).unwrap();
    let checked = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(fs::File::open(&metrics).unwrap())
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", printed(&checked));
    assert_eq!(printed(&checked), "");

    let ready = GATEWAY.run(&["curl", "-sSf", &format!("http://{METRICS}/ready")]);
    assert!(ready.contains("\"ready\":true"), "{ready}");
    let _prometheus = prometheus(&lab);
    let mut opened = None;
    wait_until(Duration::from_secs(30), "Prometheus has scraped the flow", || {
        opened = query("sum(pnat_worker_flows_opened_total)");
        opened.is_some_and(|opened| opened >= 1.0)
    });
    assert_eq!(opened, Some(lab.total("worker", "flows_opened") as f64));
    every_panel_has_metrics(&fs::read_to_string(&metrics).unwrap());
    let connected =
        query("histogram_quantile(0.5, sum by (le) (pnat_latency_seconds_bucket{stage=\"connect\"}))");
    assert!(connected.is_some_and(|seconds| seconds > 0.0 && seconds < 5.0), "{connected:?}");
}

/// What the dashboard asks, Prometheus understands, and the metrics that it names exist.
fn every_panel_has_metrics(metrics: &str) {
    let dashboard = concat!(env!("CARGO_MANIFEST_DIR"), "/../conf/grafana.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(dashboard).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut named = 0;
    for target in targets {
        let expression = target["expr"].as_str().unwrap();
        for name in expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if name.starts_with("pnat_") {
                named += 1;
                let is_told =
                    |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
                assert!(metrics.lines().any(is_told), "{name} of {expression}");
            }
        }
        let asked = expression.replace("$__rate_interval", "1m").replace("$instance", ".*");
        let answer = ask_prometheus(&asked).expect("Prometheus answers");
        assert_eq!(answer["status"], "success", "{asked}: {answer}");
    }
    assert!(named > 20, "only {named} metrics are on the dashboard");
}

/// "Client 10.77.1.2 says that site X does not load": whatever the cause, the operator is told.
#[test]
fn an_operator_is_told_why_a_site_does_not_load() {
    let arrangement = Arrangement {
        nat: "ports = \"40000-40063\"",
        proxy: "connect_timeout = \"3s\"",
        ..Arrangement::default()
    };
    let lab = Lab::arranged(arrangement, SITES);
    let rule = |name: &str| format!("rule {name}, line {}", line_of_rule(&lab, name));

    CLIENT.try_connect(FAR_ADDRESS, 7001, PATIENCE).expect_err("denied");
    told(&lab, 7001, &["refused", ": denied, a rule denies the flow", &rule("no-games")]);

    let curl = ["curl", "-sS", "-m", "10", "-H", "Host: blocked.example", "http://198.18.5.10/"];
    CLIENT.try_run(&curl);
    let blocked =
        [": blocked, a filter blocked the flow", &rule("web"), "filter sites: ", "site blocked.example"];
    told(&lab, 80, &blocked);

    CLIENT.try_connect(FAR_ADDRESS, 7003, PATIENCE).expect_err("nobody listens there");
    told(&lab, 7003, &[": refused, the server refused the connection", "on the server's leg", &rule("rest")]);

    let listener = SERVER.listen(7004);
    let mut client = CLIENT.connect(FAR_ADDRESS, 7004);
    let server = accept(&listener);
    SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    client.read(&mut [0]).expect_err("reset");
    told(
        &lab,
        7004,
        &[": second_reset, the server reset the connection", "on the server's leg", &rule("rest")],
    );

    SERVER.run(&[
        "nft",
        "add table ip quiet; add chain ip quiet in { type filter hook input priority 0; }; \
                         add rule ip quiet in tcp dport 7005 drop",
    ]);
    let waiting = CLIENT.spawn(|| {
        let to = (FAR_ADDRESS, 7005).to_socket_addrs().unwrap().next().unwrap();
        TcpStream::connect_timeout(&to, Duration::from_secs(6))
    });
    told(&lab, 7005, &["connecting", "syn_held/syn_sent", "rest"]);
    let silent =
        lab.pnat("flows", &["--state", "connecting", "--port", "7005", "--columns", "client,rule,legs"]);
    assert!(silent.contains("syn_held/syn_sent") && silent.contains("1 flows"), "{silent}");
    finish(waiting).expect_err("no answer");
    told(&lab, 7005, &[": connect_timeout, the server did not answer", "on the server's leg", &rule("rest")]);

    let _listener = SERVER.listen(7006);
    let held: Vec<_> =
        (0..70).map_while(|_| CLIENT.try_connect(FAR_ADDRESS, 7006, Duration::from_secs(2)).ok()).collect();
    let port = held[0].local_addr().unwrap().port();
    let live =
        lab.pnat("explain", &["tcp", &format!("{CLIENT_ADDRESS}:{port}"), &format!("{FAR_ADDRESS}:7006")]);
    assert!(live.contains("established/established") && live.contains("none is remembered"), "{live}");
    told(&lab, 7006, &["refused", ": ports_exhausted, no public port is free for a new flow", &rule("rest")]);
}

/// Long packets do not get through: the operator is told on which leg, and who has found out.
#[test]
fn an_operator_is_told_which_leg_does_not_carry_long_packets() {
    let wide = Arrangement { driver: "net_af_packet", wire_mtu: 1700, mtu: 1500, ..Arrangement::default() };
    let lab = Lab::arranged(wide, LEGS);
    let _far = put_behind(SERVER, FAR, path::FAR_ADDRESS, 1300);
    SERVER.run(&[
        "nft",
        "add table ip hole; add chain ip hole in { type filter hook prerouting priority 0; }; \
         add rule ip hole in tcp dport 7014 ip length > 1100 drop",
    ]);
    let port = "port, the gateway's port carries no longer packets";
    let router = "router, a router said that it carries no longer packets";
    let hole = "black_hole, longer packets vanished without a word";
    let rows = [
        (7011, SERVER, FAR_ADDRESS, "1500/1500", "mtu 1500", port),
        (7013, FAR, path::FAR_ADDRESS, "1500/1300", "mtu 1300", router),
        (7014, FAR, path::FAR_ADDRESS, "1500/10", "mtu 10", hole),
        // The last one, for it is the client's kernel that learns, and remembers.
        (7012, FAR, path::FAR_ADDRESS, "1500/1300", "mtu 1300", router),
    ];
    for (number, host, address, mtus, mtu, cause) in rows {
        let flow = upload(host, address, number);
        let found = [mtu, " on the server's leg: ", cause, " too long, found out "];
        explained(&lab, address, number, &[&found[..], &[mtus]].concat());
        SockRef::from(&flow.0).set_linger(Some(Duration::ZERO)).unwrap();
        drop(flow);
        if number >= 7013 {
            explained(&lab, address, number, &[&found[..], &["ended", " before the end"]].concat());
        }
    }
}

/// A connection by which the client has sent a flight of segments that are as long as they may be.
fn upload(server: Host, address: &str, port: u16) -> (TcpStream, TcpStream) {
    let listener = server.listen(port);
    let mut client = CLIENT.connect(address, port);
    let mut server = accept(&listener);
    client.write_all(&[7; 20_000]).unwrap();
    server.read_exact(&mut [0; 20_000]).unwrap();
    (client, server)
}

/// By packet translation or by proxy, the last two.
const LEGS: &str = r#"
        [[rule]]
        name = "proxied"
        match = { proto = "tcp", dst_port = ["7013-7014"] }
        action = "proxy"

        [policy]
        default_action = "nat"
"#;

const SITES: &str = r#"
        [[filter]]
        name = "sites"
        type = "block"
        hosts = ["blocked.example"]

        [[rule]]
        name = "no-games"
        match = { proto = "tcp", dst_port = [7001] }
        action = "deny"

        [[rule]]
        name = "web"
        match = { proto = "tcp", dst_port = [80] }
        action = "proxy"
        filters = ["sites"]

        [[rule]]
        name = "rest"
        match = { proto = "tcp" }
        action = "proxy"
"#;

/// The line of the gateway's configuration file on which a rule begins.
fn line_of_rule(lab: &Lab, name: &str) -> usize {
    let text = fs::read_to_string(lab.config()).unwrap();
    let named = text.lines().position(|line| line.trim() == format!("name = \"{name}\"")).expect("the rule");
    // `[[rule]]` stands on the line before, and lines are counted from 1.
    named
}

/// What `pnat explain` says of the client's flows to a port of the server, in which all of this must come to stand.
fn told(lab: &Lab, port: u16, expected: &[&str]) {
    explained(lab, FAR_ADDRESS, port, expected);
}

/// The same for another server.
fn explained(lab: &Lab, address: &str, port: u16, expected: &[&str]) {
    let server = format!("{address}:{port}");
    let start = Instant::now();
    loop {
        let said = lab.pnat("explain", &["tcp", CLIENT_ADDRESS, &server]);
        let missing: Vec<_> = expected.iter().filter(|part| !said.contains(**part)).collect();
        if missing.is_empty() {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{missing:?} in: {said}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Prometheus beside the gateway, which it asks every second.
fn prometheus(lab: &Lab) -> Running {
    let config = lab.file("prometheus.yml");
    let scrape = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: pnat, static_configs: [{{targets: ['{METRICS}']}}]}}]\n"
    );
    fs::write(&config, scrape).unwrap();
    let log = fs::File::create(lab.file("log/prometheus.log")).unwrap();
    let mut command = GATEWAY.command(&[
        "prometheus",
        &format!("--config.file={}", text(&config)),
        &format!("--storage.tsdb.path={}", text(&lab.file("prometheus"))),
        "--web.listen-address=127.0.0.1:9090",
    ]);
    Running(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

/// The value of an expression that has one.
fn query(expression: &str) -> Option<f64> {
    ask_prometheus(expression)?["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}

fn ask_prometheus(expression: &str) -> Option<Value> {
    let asked = ["curl", "-sSG", "http://127.0.0.1:9090/api/v1/query", "--data-urlencode"];
    let answer = GATEWAY.try_run(&[&asked[..], &[&format!("query={expression}")]].concat());
    serde_json::from_slice(&answer.stdout).ok()
}
