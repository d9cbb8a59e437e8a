//! HTTP/2 without TLS through filters over HTTP, as users of curl, nghttp and h2load notice it, before Apache.

use std::fs;

use super::logging::lines_of;
use super::{ACCESS, ACCESS_LOG, HTTP2_PORT, curl, early, requests_of, start_apache};
use crate::fixture::Lab;
use crate::hosts::CLIENT;

const CACHE: &str = "[[filter]]\nname = \"cache\"\ntype = \"cache\"";
const COMPRESS: &str = "[[filter]]\nname = \"compress\"\ntype = \"compress\"";
const TEAPOTS: &str = r#"[[filter]]
name = "teapots"
type = "body-replace"
replace = [{ find = "teapot", with = "kettle" }]"#;
const BLOCK: &str = concat!(
    "[[filter]]\nname = \"unwanted\"\ntype = \"url-block\"\nlists = [{ path = \"",
    env!("CARGO_MANIFEST_DIR"),
    "/../conf/blocked.txt\", category = \"ads\" }]"
);

/// Requests that Apache logged.
fn requests(lab: &Lab) -> usize {
    fs::read_to_string(lab.file("log/apache-access.log")).unwrap_or_default().lines().count()
}

#[test]
fn filters_see_and_edit_what_clients_of_http2_ask_for() {
    let lab = Lab::start(&early(&[ACCESS, BLOCK, COMPRESS, TEAPOTS, CACHE]));
    start_apache(&lab);
    let url = |path| format!("http://www.lab.example:{HTTP2_PORT}{path}");
    let told =
        |how: &str, args: &[&str]| curl(&[&[how, "-w", " %{http_version} %{http_code}"], args].concat());
    let word = "I am a little kettle, short and stout.\n 2 200";

    // From the first byte on, and by an upgrade; what is kept is kept for all.
    assert_eq!(told("--http2-prior-knowledge", &[&url("/word")]), word);
    assert_eq!(told("--http2", &[&url("/word")]), word);
    assert_eq!(told("--http1.1", &[&url("/word")]), word.replace(" 2 ", " 1.1 "));
    let text = ["--compressed", "-w", " %{http_version} %header{content-encoding}", "-o", "/dev/null"];
    assert!(told("--http2-prior-knowledge", &[&text[..], &[&url("/text")]].concat()).ends_with(" 2 br"));
    assert!(told("--http2-prior-knowledge", &["-H", "Host: ads.example", &url("/")]).ends_with(" 2 403"));

    // A hundred streams at a time on two connections, of which none reaches the server: the store has it.
    let before = requests(&lab);
    let load = CLIENT.run(&["h2load", "-n", "2000", "-c", "2", "-m", "100", &url("/word")]);
    assert!(load.contains("2000 succeeded, 0 failed, 0 errored"), "{load}");
    let asked = requests(&lab) - before;
    assert!(asked < 20, "Apache was asked {asked} times");

    let lines = lines_of(&lab, ACCESS_LOG, 2005);
    let versions = |version: &str| lines.iter().filter(|line| line.contains(version)).count();
    assert!(versions("\"HTTP/2.0\"") >= 2003, "{} of {}", versions("\"HTTP/2.0\""), lines.len());
}

#[test]
fn many_streams_at_once_carry_uploads_and_downloads_byte_by_byte() {
    let lab = Lab::start(&early(&[ACCESS, COMPRESS]));
    start_apache(&lab);
    let url = |path| format!("http://www.lab.example:{HTTP2_PORT}{path}");

    let got = lab.file("got");
    curl(&["--http2-prior-knowledge", "-o", got.to_str().expect("a path"), &url("/big")]);
    assert!(fs::read(&got).unwrap() == fs::read(lab.file("www/big")).unwrap(), "they differ");
    let load =
        CLIENT.run(&["h2load", "-n", "200", "-c", "4", "-m", "20", "-d", "/usr/bin/curl", &url("/text")]);
    assert!(load.contains("200 succeeded, 0 failed, 0 errored"), "{load}");
    // Several files on one connection, which the client leaves in order.
    let told = CLIENT.run(&["nghttp", "-ns", &url("/word"), &url("/1k"), &url("/text"), &url("/missing")]);
    for file in ["/word", "/1k", "/text", "/missing"] {
        assert!(told.lines().any(|line| line.ends_with(file)), "{told}");
    }
    assert_eq!(requests_of(&lab, "/word"), 0, "nginx has nothing to do with it");
}
