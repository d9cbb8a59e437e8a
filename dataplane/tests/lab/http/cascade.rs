//! Filters that change and move exchanges, each by itself and six at once.

use std::fs;

use super::browsing::BROWSER;
use super::{ACCESS, ACCESS_LOG, chain, curl, early, requests_of, start_apache};
use crate::fixture::Lab;
use crate::hosts::CLIENT;

const CACHE: &str = "[[filter]]\nname = \"cache\"\ntype = \"cache\"";
const COMPRESS: &str = "[[filter]]\nname = \"compress\"\ntype = \"compress\"";
const HEADERS: &str = r#"[[filter]]
name = "marks"
type = "headers"
request = [{ action = "replace", name = "X-Added", value = "by the gateway" }, { action = "remove", name = "User-Agent" }]
response = [{ action = "replace", name = "Server", value = "hidden" }]"#;
const TEAPOTS: &str = r#"[[filter]]
name = "teapots"
type = "body-replace"
replace = [{ find = "teapot", with = "kettle" }]"#;
const TO_APACHE: &str = r#"[[filter]]
name = "moved"
type = "redirect"
paths = ["/word"]
servers = [{ address = "198.18.0.2:8081" }]"#;

#[test]
fn fields_are_added_replaced_and_removed_in_both_directions() {
    let _lab = Lab::start(&chain(&[HEADERS]));

    let told = curl(&["-w", "server=%header{server}", "http://www.lab.example/told"]);

    assert!(told.contains("added=by the gateway agent= "), "{told}");
    assert!(told.ends_with("server=hidden"), "{told}");
}

#[test]
fn a_path_is_served_by_the_other_server_and_the_rest_by_the_first() {
    let lab = Lab::start(&early(&[TO_APACHE]));
    start_apache(&lab);
    let server = |url| curl(&["-o", "/dev/null", "-w", "%{http_code} %header{server}", url]);

    assert!(server("http://www.lab.example/word").starts_with("200 Apache"));
    assert!(server("http://www.lab.example/text").starts_with("200 nginx"));
    assert_eq!(requests_of(&lab, "/word"), 0);
}

#[test]
fn six_filters_at_once_do_what_each_does_alone() {
    let lab = Lab::start(&early(&[ACCESS, HEADERS, COMPRESS, TEAPOTS, CACHE, TO_APACHE]));
    start_apache(&lab);

    let words: Vec<_> = (0..2)
        .map(|_| curl(&["--compressed", "-w", "%header{server}", "http://www.lab.example/fresh/word"]))
        .collect();
    let moved = curl(&["-w", "%header{server}", "http://www.lab.example/word"]);
    let coding = curl(&[
        "--compressed",
        "-o",
        "/dev/null",
        "-w",
        "%header{content-encoding}",
        "http://www.lab.example/text",
    ]);
    let page = CLIENT.run(&[&BROWSER[..], &["http://www.lab.example/album.html"]].concat());

    assert_eq!(words, ["I am a little kettle, short and stout.\nhidden"; 2]);
    assert_eq!(requests_of(&lab, "/fresh/word"), 1, "the second came from the store");
    assert_eq!(moved, "I am a little kettle, short and stout.\nhidden");
    assert_eq!(requests_of(&lab, "/word"), 0, "it came from Apache");
    assert!(!coding.is_empty(), "the text was compressed");
    assert!(page.contains("<title>100 of 100</title>"), "{page}");
    let log = fs::read_to_string(lab.file(ACCESS_LOG)).unwrap();
    assert!(log.lines().count() > 100, "{log}");
}
