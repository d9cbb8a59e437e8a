//! The `cache` filter, as users of wget and curl, and the servers' owners, notice it.

use std::time::Duration;

use super::{curl, early, end_server, numbers, requests_of, syns};
use crate::capture::Capture;
use crate::fixture::{Lab, wait_until};
use crate::hosts::{CLIENT, SERVER};

const CACHE: &str = "[[filter]]\nname = \"cache\"\ntype = \"cache\"";
const TEAPOT: &str = "I am a little teapot, short and stout.\n";
const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_page_that_is_fresh_is_fetched_once_and_a_hit_opens_no_second_connection() {
    let lab = Lab::start(&early(&[CACHE]));
    let capture = Capture::start(&lab, SERVER);

    let pages: Vec<_> = (0..3).map(|_| wget("http://www.lab.example/fresh/1k")).collect();

    assert_eq!(pages, vec!["x".repeat(1024); 3]);
    assert_eq!(requests_of(&lab, "/fresh/1k"), 1);
    assert_eq!(syns(&capture.stop(), 80), 1, "connections that the server saw");
}

#[test]
fn what_must_not_be_stored_is_fetched_every_time() {
    let lab = Lab::start(&early(&[CACHE]));

    for _ in 0..3 {
        assert_eq!(wget("http://www.lab.example/no-store/word"), TEAPOT);
    }

    assert_eq!(requests_of(&lab, "/no-store/word"), 3);
}

#[test]
fn parts_and_conditions_are_answered_from_the_store() {
    let lab = Lab::start(&early(&[CACHE]));
    let url = "http://www.lab.example/fresh/word";
    let etag = curl(&["-o", "/dev/null", "-w", "%header{etag}", url]);

    let part = curl(&["-r", "5-10", "-w", " %{http_code}", url]);
    let unchanged = curl(&["-H", &format!("If-None-Match: {etag}"), "-w", "%{http_code}", url]);
    let head = curl(&["-I", "-o", "/dev/null", "-w", "%{http_code} %header{content-length}", url]);

    assert_eq!(part, "a litt 206");
    assert_eq!(unchanged, "304");
    assert_eq!(head, "200 39");
    assert_eq!(requests_of(&lab, "/fresh/word"), 1);
}

#[test]
fn answers_in_two_languages_are_two() {
    let lab = Lab::start(&early(&[CACHE]));

    for language in ["de", "fr", "de", "fr"] {
        curl(&["-H", &format!("Accept-Language: {language}"), "http://www.lab.example/vary/word"]);
    }

    assert_eq!(requests_of(&lab, "/vary/word"), 2);
}

#[test]
fn what_is_stale_answers_while_it_is_renewed_and_while_the_server_is_down() {
    let lab = Lab::start(&early(&[CACHE]));
    let page = |manner: &str| curl(&["-w", "%{http_code} %header{cache-status}", &url(manner)]);
    for manner in ["renewed", "sturdy", "strict"] {
        assert_eq!(page(manner), format!("{TEAPOT}200 PNAT; fwd=uri-miss; fwd-status=200; stored"));
    }

    assert!(page("renewed").starts_with(&format!("{TEAPOT}200 PNAT; hit; ttl=")));
    wait_until(SOON, "it is renewed meanwhile", || requests_of(&lab, "/renewed/word") == 2);
    assert!(page("sturdy").contains("fwd=stale; fwd-status=304"), "while the server is up it is asked");
    end_server(&lab, "nginx");
    let sturdy = page("sturdy");
    let strict = page("strict");
    let unknown = page("fresh");

    assert!(sturdy.starts_with(&format!("{TEAPOT}200 PNAT; fwd=stale; detail=stale-if-error")), "{sturdy}");
    assert!(strict.contains("502 ") && !strict.contains(TEAPOT), "{strict}");
    assert!(unknown.contains("502 "), "{unknown}");
}

#[test]
fn of_many_clients_that_ask_at_once_one_goes_to_the_server_until_an_operator_purges() {
    let lab = Lab::start(&early(&[CACHE]));
    let url = "http://www.lab.example/fresh-slow/text";
    let text = lab.file("www/text");
    let clients =
        format!("for _ in $(seq 20); do curl -sS -m 10 {url} | cmp - {} & done; wait", text.display());

    let differences = CLIENT.run(&["sh", "-c", &clients]);

    assert_eq!(differences, "", "all got the same text");
    assert_eq!(requests_of(&lab, "/fresh-slow/text"), 1);
    let told = numbers(&lab);
    assert!(told["collapsed"].as_u64() > Some(10), "they waited for it: {told}");
    assert_eq!(told["misses"], 1, "{told}");

    assert!(lab.pnat("purge", &["--url", url]).starts_with("1 responses removed"));
    assert_eq!(
        curl(&["-I", "-o", "/dev/null", "-w", "%header{cache-status}", url]),
        "PNAT; fwd=uri-miss; fwd-status=200"
    );
    assert_eq!(requests_of(&lab, "/fresh-slow/text"), 2);
}

fn url(manner: &str) -> String {
    format!("http://www.lab.example/{manner}/word")
}

fn wget(url: &str) -> String {
    CLIENT.run(&["wget", "-q", "-T", "10", "-t", "1", "-O", "-", url])
}
