//! The log filter's lines: what an operator can tell about a flow after its end.

use std::time::Duration;

use serde_json::Value;

use crate::exchange::{connection, noise, receive_all, send_all};
use crate::fixture::Lab;
use crate::hosts::{CLIENT, CLIENT_ADDRESS, FAR_ADDRESS, PUBLIC_ADDRESS, finish};
use crate::policy;

#[test]
fn finished_flow_has_tuples_rule_bytes_and_reason() {
    let lab = Lab::start(&policy::proxied());
    let (client, server) = connection();
    let public_port = server.peer_addr().unwrap().port();
    let client_port = client.local_addr().unwrap().port();
    let asking = send_all(&client, noise(1, 12_345));
    let answering = send_all(&server, noise(2, 54_321));
    assert!(receive_all(&server) == noise(1, 12_345));
    assert!(receive_all(&client) == noise(2, 54_321));
    finish(asking);
    finish(answering);

    let line = lab.logged(|line| mentions_number(line, 12_345));

    for said in [CLIENT_ADDRESS, FAR_ADDRESS, PUBLIC_ADDRESS] {
        assert!(mentions(&line, said), "{said} in {line}");
    }
    for number in [client_port, public_port, 7000].map(u64::from).into_iter().chain([54_321]) {
        assert!(
            mentions_number(&line, number) || mentions(&line, &format!(":{number}")),
            "{number} in {line}"
        );
    }
    assert_eq!(line["rule"], "everything");
    assert_eq!(line["reason"], "finished");
}

#[test]
fn http_host_and_tls_name_are_logged() {
    let names = r#"
        [[filter]]
        name = "log"
        type = "log"
        path = "flows.jsonl"

        [[filter]]
        name = "nobody"
        type = "block"
        hosts = ["nobody.example"]
        sni = ["nobody.example"]
        answer = "reset"

        [[rule]]
        name = "named"
        match = { proto = "tcp" }
        action = "proxy"
        filters = ["log", "nobody"]
    "#;
    let lab = Lab::start(names);
    CLIENT.run(&["curl", "-sS", "-m", "10", "http://far.lab.example/"]);
    CLIENT.run(&["curl", "-sS", "-m", "10", "--insecure", "https://www.lab.example/"]);

    assert!(mentions(&lab.logged(|line| mentions(line, "far.lab.example")), FAR_ADDRESS));
    assert_eq!(lab.logged(|line| mentions(line, "www.lab.example"))["rule"], "named");
}

#[test]
fn refused_flow_is_logged_as_such() {
    let lab = Lab::start(&policy::proxied());

    CLIENT.try_connect(FAR_ADDRESS, 7000, Duration::from_secs(5)).expect_err("the port is closed");

    assert!(mentions(&lab.logged(|line| line["reason"] == "refused"), FAR_ADDRESS));
}

#[test]
fn udp_flow_is_logged_when_it_falls_idle() {
    let lab = Lab::start(&policy::proxied());

    CLIENT.run(&["dig", "+short", "@198.18.0.2", "www.lab.example"]);

    let line = lab.logged(|line| mentions(line, "udp"));
    assert_eq!(line["reason"], "idle");
}

/// Whether a string anywhere in it holds this text.
fn mentions(value: &Value, text: &str) -> bool {
    any(value, &|value| value.as_str().is_some_and(|string| string.contains(text)))
}

fn mentions_number(value: &Value, number: u64) -> bool {
    any(value, &|value| value.as_u64() == Some(number))
}

fn any(value: &Value, holds: &impl Fn(&Value) -> bool) -> bool {
    match value {
        Value::Array(values) => values.iter().any(|value| any(value, holds)),
        Value::Object(fields) => fields.values().any(|value| any(value, holds)),
        _ => holds(value),
    }
}
