//! The `http-log` filter, as who reads its files notices it.

use std::fs;
use std::time::Duration;

use super::{ACCESS, ACCESS_LOG, chain, curl};
use crate::fixture::{Lab, wait_until};
use crate::hosts::CLIENT_ADDRESS;

#[test]
fn each_exchange_is_a_line_in_apaches_format_and_in_json() {
    let combined = "[[filter]]\nname = \"combined\"\ntype = \"http-log\"\npath = \"access.log\"";
    let lab = Lab::start(&chain(&[ACCESS, combined]));

    curl(&[
        "-A",
        "a \"browser\"",
        "-e",
        "http://from.example/",
        "http://www.lab.example/word",
        "http://www.lab.example/none",
    ]);

    let lines = lines_of(&lab, "access.log", 2);
    assert!(lines[0].starts_with(&format!("{CLIENT_ADDRESS} - - [")), "{}", lines[0]);
    let told = r#"] "GET /word HTTP/1.1" 200 39 "http://from.example/" "a \"browser\"""#;
    assert!(lines[0].ends_with(told), "{}", lines[0]);
    assert!(lines[1].contains(r#""GET /none HTTP/1.1" 404 "#), "{}", lines[1]);
    let lines = lines_of(&lab, ACCESS_LOG, 2);
    let first: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(first["url"], "http://www.lab.example/word");
    assert_eq!(first["response_bytes"], 39);
    assert_eq!(first["upstream"]["server"], "198.18.0.2:80");
}

pub(super) fn lines_of(lab: &Lab, file: &str, count: usize) -> Vec<String> {
    let read = || fs::read_to_string(lab.file(file)).unwrap_or_default();
    wait_until(Duration::from_secs(5), "the lines are there", || read().lines().count() >= count);
    read().lines().map(str::to_owned).collect()
}
