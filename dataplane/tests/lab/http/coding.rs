//! The `compress` filter: what `curl --compressed` gets, and who must be left alone.

use std::fs;

use super::{chain, curl};
use crate::fixture::Lab;

const COMPRESS: &str = "[[filter]]\nname = \"compress\"\ntype = \"compress\"";
const TEXT: &str = "http://www.lab.example/text";

#[test]
fn text_reaches_who_takes_it_compressed_in_a_fraction_of_its_bytes() {
    let lab = Lab::start(&chain(&[COMPRESS]));
    let text = fs::read_to_string(lab.file("www/text")).unwrap();

    for coding in ["gzip", "br", "zstd"] {
        let asked = format!("Accept-Encoding: {coding}");
        let told = curl(&[
            "--compressed",
            "-H",
            &asked,
            "-o",
            "/dev/null",
            "-w",
            "%header{content-encoding} %header{vary} %{size_download}",
            TEXT,
        ]);
        let content = curl(&["--compressed", "-H", &asked, TEXT]);

        let words: Vec<_> = told.split_whitespace().collect();
        assert_eq!(words[0], coding);
        assert_eq!(words[1].to_lowercase(), "accept-encoding");
        assert!(words[2].parse::<u32>().unwrap() < 40_000, "{told}");
        assert!(content == text, "{coding}: the same text");
    }
}

#[test]
fn ranges_events_and_who_does_not_ask_are_left_as_they_are() {
    let _lab = Lab::start(&chain(&[COMPRESS]));
    let coding = |args: &[&str]| {
        curl(&[args, &["-o", "/dev/null", "-w", "%header{content-encoding}:%{size_download}"]].concat())
    };
    let gzip = ["-H", "Accept-Encoding: gzip"];

    assert_eq!(coding(&[TEXT]), ":100000");
    assert_eq!(coding(&[&gzip[..], &["-r", "0-49999", TEXT]].concat()), ":50000");
    assert_eq!(coding(&[&gzip[..], &["http://www.lab.example/events"]].concat()), ":22");
}
