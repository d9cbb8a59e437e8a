//! A browser loads a page of a hundred objects.

use super::{chain, requests_under};
use crate::fixture::Lab;
use crate::hosts::CLIENT;

pub(super) const BROWSER: [&str; 7] = [
    "timeout",
    "20",
    "chromium-headless-shell",
    "--no-sandbox",
    "--disable-gpu",
    "--virtual-time-budget=10000",
    "--dump-dom",
];

#[test]
fn a_browser_gets_all_objects_of_a_page() {
    let lab = Lab::start(&chain(&[
        "[[filter]]\nname = \"access\"\ntype = \"http-log\"\npath = \"access.log\"\nformat = \"json\"",
    ]));

    let page = CLIENT.run(&[&BROWSER[..], &["http://www.lab.example/album.html"]].concat());

    assert!(page.contains("<title>100 of 100</title>"), "{page}");
    assert_eq!(requests_under(&lab, "/objects/"), 100);
}
