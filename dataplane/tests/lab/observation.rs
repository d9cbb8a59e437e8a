//! What those see who watch a gateway: Prometheus and its tools.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::fixture::{Lab, printed, text, wait_until};
use crate::hosts::{CLIENT, GATEWAY};
use crate::policy::{self, METRICS};

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
    let connected =
        query("histogram_quantile(0.5, sum by (le) (pnat_latency_seconds_bucket{stage=\"connect\"}))");
    assert!(connected.is_some_and(|seconds| seconds > 0.0 && seconds < 5.0), "{connected:?}");
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
    let asked = ["curl", "-sSfG", "http://127.0.0.1:9090/api/v1/query", "--data-urlencode"];
    let answer = GATEWAY.try_run(&[&asked[..], &[&format!("query={expression}")]].concat());
    let answer: Value = serde_json::from_slice(&answer.stdout).ok()?;
    answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}
