//! The `redirect` filter before several servers: which requests it concerns, how they are shared, and what becomes of a server
//! that dies.

use std::fs;
use std::time::Duration;

use super::{APACHE_PORT, NGINX_PORT, OTHER_CLIENTS, curl, early, end_server, other_clients, start_apache};
use crate::fixture::{Lab, wait_until};
use crate::hosts::GATEWAY;
use crate::policy::METRICS;

#[test]
fn requests_are_redirected_by_host_field_and_client() {
    let by = |name: &str, what: &str| {
        format!(
            "[[filter]]\nname = \"{name}\"\ntype = \"redirect\"\n{what}\nservers = [{{ address = \"198.18.0.2:8081\" }}]"
        )
    };
    let lab = Lab::start(&early(&[
        &by("by-host", r#"hosts = ["moved.example", "*.moved.example"]"#),
        &by("by-field", r#"header = { name = "X-Env", pattern = "^beta" }"#),
        &by("by-client", &format!("clients = [\"{}/32\"]", OTHER_CLIENTS[0])),
    ]));
    start_apache(&lab);
    other_clients();

    for (args, server) in [
        (["-H", "Host: moved.example"], "Apache"),
        (["-H", "Host: www.Moved.Example:80"], "Apache"),
        (["-H", "Host: unmoved.example"], "nginx"),
        (["-H", "X-Env: beta-2"], "Apache"),
        (["-H", "X-Env: alpha, beta"], "nginx"),
        (["--interface", OTHER_CLIENTS[0]], "Apache"),
        (["--interface", OTHER_CLIENTS[1]], "nginx"),
    ] {
        let told =
            curl(&[&args[..], &["-o", "/dev/null", "-w", "%{http_code} %header{server}", WORD]].concat());
        assert!(told.starts_with(&format!("200 {server}")), "{args:?}: {told}");
    }
}

#[test]
fn servers_share_requests_by_weight_and_a_dead_one_is_left_out_until_it_is_back() {
    let lab = Lab::start(&early(&[&format!(
        r#"
        [[filter]]
        name = "shared"
        type = "redirect"
        servers = [{{ address = "198.18.0.2:{NGINX_PORT}", weight = 3 }}, {{ address = "198.18.0.2:{APACHE_PORT}" }}]
        failures = 3
        eject = "500ms"
        "#
    )]));
    start_apache(&lab);

    let all_well = Shares::of(200);
    end_server(&lab, "apache");
    let one_dead = Shares::of(100);
    let metrics = GATEWAY.run(&["curl", "-sSf", &format!("http://{METRICS}/metrics")]);
    let ejected = "pnat_redirect_ejected{filter=\"shared\",server=\"198.18.0.2:8081\"} 1";
    assert!(metrics.contains(ejected), "{metrics}");
    let told = lab.pnat("filters", &[]);
    assert!(
        told.lines().any(|line| line.starts_with("198.18.0.2:8081: ") && line.ends_with(", ejected")),
        "{told}"
    );
    start_apache(&lab);
    wait_until(Duration::from_secs(10), "it is back", || Shares::of(1).apache == 1);
    let back = Shares::of(200);

    for shares in [&all_well, &back] {
        assert!((140..=160).contains(&shares.nginx), "three quarters: {shares:?}");
    }
    assert_eq!(one_dead.nginx, 100, "no client notices: {one_dead:?}");
    let log = fs::read_to_string(lab.file("log/gateway.log")).unwrap();
    for told in ["server is ejected", "server is back"] {
        let tells = |line: &str| line.contains(told) && line.contains("server=198.18.0.2:8081");
        assert!(log.lines().any(tells), "{told}: {log}");
    }
}

#[test]
fn the_gateway_asks_servers_itself_whether_they_are_well() {
    let lab = Lab::start(&early(&[&format!(
        r#"
        [[filter]]
        name = "shared"
        type = "redirect"
        servers = [{{ address = "198.18.0.2:{NGINX_PORT}" }}, {{ address = "198.18.0.2:{APACHE_PORT}" }}]
        failures = 2
        check = {{ path = "/word", host = "www.lab.example", interval = "200ms" }}
        "#
    )]));
    let is_out = || {
        let told = lab.pnat("filters", &[]);
        let mut lines = told.lines().filter(|line| line.starts_with("198.18.0.2:8081: "));
        lines.next().unwrap_or_else(|| panic!("{told}")).ends_with(", ejected")
    };
    // Apache does not run yet, and no client has asked for anything.
    wait_until(Duration::from_secs(10), "the one that is not there is left out", is_out);
    assert_eq!(Shares::of(20).nginx, 20);
    start_apache(&lab);
    wait_until(Duration::from_secs(10), "it is in", || !is_out());
    let both = Shares::of(100);
    assert!((45..=55).contains(&both.apache), "{both:?}");
    end_server(&lab, "apache");
    wait_until(Duration::from_secs(10), "it is left out again", is_out);
    assert_eq!(Shares::of(20).nginx, 20);
    let log = fs::read_to_string(lab.file("log/gateway.log")).unwrap();
    for told in ["fails its health checks", "says its health check"] {
        assert!(
            log.lines().any(|line| line.contains(told) && line.contains("server=198.18.0.2:8081")),
            "{log}"
        );
    }
}

const WORD: &str = "http://198.18.0.2/word";

/// Who answered requests, all of them well.
#[derive(Debug)]
struct Shares {
    nginx: usize,
    apache: usize,
}

impl Shares {
    /// Of so many requests, one after the other, each on a connection of its own.
    fn of(count: usize) -> Self {
        let urls = format!("{WORD}?[1-{count}]");
        let format = "%{http_code} %header{server}\\n";
        let told = curl(&["-H", "Connection: close", "-o", "/dev/null", "-w", format, &urls]);
        let answers = |start: &str| told.lines().filter(|line| line.starts_with(start)).count();
        let shares = Self { nginx: answers("200 nginx"), apache: answers("200 Apache") };
        assert_eq!(shares.nginx + shares.apache, count, "{told}");
        shares
    }
}
