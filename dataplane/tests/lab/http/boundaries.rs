//! Where requests begin and end: the same for PNAT, nginx and Apache, whatever a client sends.

use std::fs;

use pnat_shared::testkit::rows::{self, Outcome};

use super::talk::{Heard, REQUESTS, in_lanes, talk};
use super::{ACCESS, APACHE_PORT, NGINX_PORT, chain, start_apache};
use crate::fixture::Lab;
use crate::policy;

#[test]
fn what_may_go_on_has_the_same_boundaries_for_both_servers() {
    let lab = Lab::start(&policy::proxied());
    start_apache(&lab);
    let rows = Row::that_go_on();
    assert!(rows.len() > 70, "rows that go on: {}", rows.len());

    for port in [NGINX_PORT, APACHE_PORT] {
        assert_none_misread(port, &rows);
    }
}

#[test]
fn of_what_is_refused_the_server_sees_no_more_than_was_good_before() {
    let lab = Lab::start(&chain(&[ACCESS]));
    let rows: Vec<_> = rows::rows::<4>(REQUESTS).into_iter().filter(|row| is_refused(row[2])).collect();
    assert!(rows.len() > 150, "rows that are refused: {}", rows.len());

    let heard = in_lanes(&rows, |row| talk(80, &rows::bytes(row[1]).0));

    // What is refused in the middle of its content may end by reset.
    let is_wrong =
        |heard: &Heard| heard.probe_answered || !(heard.ends_with_refusal() || heard.statuses.is_empty());
    let wrong = rows.iter().zip(&heard).filter(|(_, heard)| is_wrong(heard));
    let wrong: Vec<_> = wrong.map(|(row, heard)| (row[0], row[2], heard)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let seen = fs::read_to_string(lab.file("log/nginx-access.log")).unwrap_or_default();
    assert!(!seen.contains("/hidden") && !seen.contains(" probe "), "{seen}");
}

/// Requests that all go on.
struct Row {
    name: &'static str,
    bytes: Vec<u8>,
    /// How many requests there are, by each alternative.
    counts: Vec<usize>,
    /// The last of them ends the connection, so that no probe is answered.
    is_last: bool,
}

impl Row {
    fn that_go_on() -> Vec<Self> {
        rows::rows(REQUESTS).into_iter().filter_map(Self::new).collect()
    }

    fn new([name, bytes, outcome, _]: [&'static str; 4]) -> Option<Self> {
        let goes_on = |words: &Vec<Outcome>| words.iter().all(|word| matches!(word, Outcome::Content(_)));
        let counts: Vec<_> =
            rows::outcomes(outcome).into_iter().filter(goes_on).map(|words| words.len()).collect();
        let (bytes, closes) = rows::bytes(bytes);
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        let is_last = text.contains("http/1.0") || text.contains("close\r\n");
        (!counts.is_empty() && !closes).then_some(Self { name, bytes, counts, is_last })
    }

    /// As many requests were read as the row says, or reading was refused.
    fn fits(&self, heard: &Heard) -> bool {
        let count = heard.statuses.len();
        if heard.probe_answered {
            !self.is_last && self.counts.contains(&(count - 1))
        } else {
            heard.ends_with_refusal() || (self.is_last && self.counts.contains(&count))
        }
    }
}

fn assert_none_misread(port: u16, rows: &[Row]) {
    let heard = in_lanes(rows, |row| talk(port, &row.bytes));
    let wrong = rows.iter().zip(&heard).filter(|(row, heard)| !row.fits(heard));
    let wrong: Vec<_> = wrong.map(|(row, heard)| (row.name, &row.counts, heard)).collect();
    assert!(wrong.is_empty(), "port {port}: {wrong:#?}");
}

/// By every alternative.
fn is_refused(outcome: &str) -> bool {
    let refused = |words: &Vec<Outcome>| matches!(words.last(), Some(Outcome::Refused(_)));
    rows::outcomes(outcome).iter().all(refused)
}
