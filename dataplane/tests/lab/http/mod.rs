//! HTTP through the gateway, as users of curl, wget and browsers notice it, before nginx and Apache.

mod blocking;
mod boundaries;
mod browsing;
mod cache_disk;
mod caching;
mod cascade;
mod coding;
mod differential;
mod endings;
mod http2;
mod logging;
mod redirection;
mod responses;
mod server;
mod talk;
mod websocket;

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::capture::Packet;
use crate::fixture::{Lab, script, succeed, wait_until};
use crate::hosts::CLIENT;

/// Other ports of the servers: nginx's without a log, and Apache's, which only [`start_apache`] brings.
const NGINX_PORT: u16 = 8080;
const APACHE_PORT: u16 = 8081;
/// Where WebSockets are served, once that is started.
const WEBSOCKET_PORT: u16 = 8082;
/// Apache's for HTTP/2.
const HTTP2_PORT: u16 = 8083;

/// Logs every exchange as JSON.
const ACCESS: &str =
    "[[filter]]\nname = \"access\"\ntype = \"http-log\"\npath = \"access.jsonl\"\nformat = \"json\"";
/// Where [`ACCESS`] writes, in the lab's state directory.
const ACCESS_LOG: &str = "access.jsonl";

/// Other addresses of the client, which [`other_clients`] brings.
const OTHER_CLIENTS: [&str; 2] = ["10.77.1.3", "10.77.1.4"];

/// The lab's second web server. It goes with the lab.
fn start_apache(_: &Lab) {
    succeed(script().args(["server", "start", "apache"]));
}

/// Ends one of the lab's servers, `nginx` or `apache`; its connections are cut.
fn end_server(lab: &Lab, name: &str) {
    let file = lab.file(&format!("pid/{name}"));
    let pid = fs::read_to_string(&file).unwrap();
    succeed(Command::new("kill").args(["-s", "TERM", pid.trim()]));
    // It removes that last.
    wait_until(Duration::from_secs(5), "the server has ended", || !file.exists());
}

/// Gives the client its other addresses.
fn other_clients() {
    for address in OTHER_CLIENTS {
        CLIENT.run(&["ip", "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
    }
}

/// A policy by which everything goes through these filters, each a section of the configuration, in this order.
fn chain(sections: &[&str]) -> String {
    chain_with(sections, "")
}

/// The same, and clients are accepted before the server is asked.
fn early(sections: &[&str]) -> String {
    chain_with(sections, "accept = \"early\"")
}

fn chain_with(sections: &[&str], keys: &str) -> String {
    let names: Vec<_> = sections.iter().map(|section| name(section)).collect();
    format!(
        r#"
        {}
        [[rule]]
        name = "web"
        match = {{ proto = "tcp", dst_port = [80, {NGINX_PORT}, {APACHE_PORT}, {WEBSOCKET_PORT}, {HTTP2_PORT}] }}
        action = "proxy"
        filters = {names:?}
        {keys}
        "#,
        sections.join("\n")
    )
}

/// The name that a section gives its filter.
fn name(section: &str) -> &str {
    let line = section.lines().find_map(|line| line.trim().strip_prefix("name = "));
    line.expect("a name").trim_matches('"')
}

/// What curl prints, which must succeed.
fn curl(args: &[&str]) -> String {
    CLIENT.run(&[&["curl", "-sS", "-m", "10"], args].concat())
}

/// The numbers of the filter `cache`.
fn numbers(lab: &Lab) -> Value {
    let mut report: Value = serde_json::from_str(&lab.pnat("filters", &["--json"])).unwrap();
    report["caches"]["cache"].take()
}

/// Requests for exactly this target that nginx saw at its port 80.
fn requests_of(lab: &Lab, target: &str) -> usize {
    targets(lab).iter().filter(|seen| *seen == target).count()
}

/// Requests for what begins so.
fn requests_under(lab: &Lab, prefix: &str) -> usize {
    targets(lab).iter().filter(|seen| seen.starts_with(prefix)).count()
}

fn targets(lab: &Lab) -> Vec<String> {
    let log = fs::read_to_string(lab.file("log/nginx-access.log")).unwrap_or_default();
    // Address of the client, of the server, port, method, host, target, status.
    log.lines().filter_map(|line| line.split(' ').nth(5)).map(str::to_owned).collect()
}

/// Connections that somebody tried to open to this port.
fn syns(packets: &[Packet], port: u16) -> usize {
    let to_port = format!(".{port}: Flags [S],");
    packets.iter().filter(|packet| packet.line.contains(&to_port)).count()
}
