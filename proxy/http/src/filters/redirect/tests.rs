//! The filter as its user meets it: keys, requests, where they go.

use std::collections::BTreeSet;

use pnat_shared::check::Finding;

use super::*;
use crate::filters::Lasting;
use crate::testkit::{self, Calls};

fn filter(lasting: &Lasting, keys: &str) -> Box<dyn HttpFilter> {
    testkit::configure(configure, lasting, keys).expect("the keys are right").filter()
}

fn early() -> Calls {
    let mut calls = Calls::default();
    calls.exchange.may_redirect = true;
    calls
}

/// Where a request goes, from a client that was accepted early.
fn target(filter: &mut dyn HttpFilter, host: &str, path: &str, fields: &[(&str, &str)]) -> Option<String> {
    let mut calls = early();
    let mut all = vec![("Host", host)];
    all.extend_from_slice(fields);
    let mut request = testkit::request("GET", path, &all);
    assert_eq!(filter.request(&mut calls.call(), &mut request), Verdict::Pass);
    filter.done(&mut calls.call(), &request, None, &testkit::record(None));
    calls.exchange.target.map(|target| target.to_string())
}

const ONE: &str = r#"servers = [{ address = "198.18.0.3:8080" }]
"#;

/// Keys, and requests by host and path, with whether they are concerned.
type Row = (&'static str, &'static [(&'static str, &'static str, bool)]);

#[test]
fn a_request_is_concerned_where_all_that_is_asked_for_is_so() {
    let there = Some("198.18.0.3:8080".to_owned());
    let rows: &[Row] = &[
        ("", &[("any.example", "/", true)]),
        (
            r#"hosts = ["A.example", "*.b.example"]"#,
            &[
                ("a.EXAMPLE:80", "/", true),
                ("a.example.", "/", true),
                ("x.a.example", "/", false),
                ("x.B.example", "/", true),
                ("b.example", "/", false),
                ("xb.example", "/", false),
                ("", "/", false),
            ],
        ),
        (
            r#"paths = ["/img/", "/css"]"#,
            &[("a", "/img/x?y", true), ("a", "/img", false), ("a", "/css2", true), ("a", "/?/img/", false)],
        ),
        (r#"path_pattern = "^/v[0-9]+/""#, &[("a", "/v12/x", true), ("a", "/x/v1/", false)]),
        ("clients = [\"10.0.0.0/24\"]", &[("a", "/", true)]),
        ("clients = [\"10.0.1.0/24\"]", &[("a", "/", false)]),
        ("hosts = [\"a\"]\npaths = [\"/x\"]", &[("a", "/x", true), ("a", "/y", false), ("b", "/x", false)]),
    ];
    for (keys, requests) in rows {
        let mut filter = filter(&Lasting::default(), &format!("{ONE}{keys}"));
        for (host, path, is_concerned) in *requests {
            let expected = there.clone().filter(|_| *is_concerned);
            assert_eq!(target(&mut *filter, host, path, &[]), expected, "{keys}: {host} {path}");
        }
    }
}

#[test]
fn a_header_concerns_by_its_presence_or_by_one_of_its_values() {
    let lasting = Lasting::default();
    let mut any = filter(&lasting, &format!("{ONE}header = {{ name = \"X-Env\" }}"));
    let mut beta = filter(&lasting, &format!("{ONE}header = {{ name = \"x-env\", pattern = \"^beta\" }}"));
    for (fields, is_any, is_beta) in [
        (vec![], false, false),
        (vec![("X-Env", "")], true, false),
        (vec![("X-Env", "old"), ("x-env", "beta2")], true, true),
    ] {
        assert_eq!(target(&mut *any, "a", "/", &fields).is_some(), is_any, "{fields:?}");
        assert_eq!(target(&mut *beta, "a", "/", &fields).is_some(), is_beta, "{fields:?}");
    }
}

#[test]
fn a_client_that_was_not_accepted_early_keeps_its_server() {
    let mut filter = filter(&Lasting::default(), &format!("{ONE}host = \"b.example\""));
    let mut calls = Calls::default();
    let mut request = testkit::request("GET", "/", &[("Host", "a.example")]);
    assert_eq!(filter.request(&mut calls.call(), &mut request), Verdict::Pass);
    assert_eq!((calls.exchange.target, request.is_edited()), (None, false));
}

#[test]
fn the_server_is_told_another_host_where_that_is_asked_for() {
    let mut filter = filter(&Lasting::default(), &format!("{ONE}host = \"b.example:81\""));
    let mut calls = early();
    let mut request = testkit::request("GET", "/x", &[("Host", "a.example")]);
    filter.request(&mut calls.call(), &mut request);
    assert_eq!(request.fields().text("host"), Some("b.example:81"));
}

/// Sends a request on a connection of its own; answers where it went. `status` tells by the last number of a server's address what
/// it responds with, if at all.
fn ask(factory: &dyn HttpFactory, calls: &mut Calls, status: impl Fn(u8) -> Option<u16>) -> u8 {
    ask_on(&mut *factory.filter(), calls, status)
}

fn ask_on(filter: &mut dyn HttpFilter, calls: &mut Calls, status: impl Fn(u8) -> Option<u16>) -> u8 {
    let mut request = testkit::request("GET", "/", &[("Host", "a.example")]);
    calls.exchange.target = None;
    assert_eq!(filter.request(&mut calls.call(), &mut request), Verdict::Pass);
    let server = calls.exchange.target.expect("a server").ip().octets()[3];
    let status = status(server);
    let record = Record { server: Some(status.ok_or(Failure::Timeout)), ..testkit::record(status) };
    filter.done(&mut calls.call(), &request, None, &record);
    server
}

/// A server that is well.
const fn well(_: u8) -> Option<u16> {
    Some(404)
}

const TWO: &str = r#"servers = [{ address = "198.18.0.3:80" }, { address = "198.18.0.4:80" }]
failures = 2
eject = "10s"
"#;

#[test]
fn errors_and_failures_eject_a_server_for_all_connections_and_a_probe_brings_it_back() {
    let lasting = Lasting::default();
    let factory = testkit::configure(configure, &lasting, TWO).expect("right");
    let mut calls = early();
    let mut asked = 0;
    for failure in [Some(503), None].into_iter().cycle().take(40) {
        let server = ask(&*factory, &mut calls, |server| if server == 3 { failure } else { Some(404) });
        asked += u32::from(server == 3);
    }
    assert_eq!(asked, 2, "two failures are enough");
    // The next configuration knows of it, if it has the same servers.
    let again = testkit::configure(configure, &lasting, TWO).expect("right");
    for _ in 0..10 {
        assert_eq!(ask(&*again, &mut calls, well), 4);
    }
    calls.now += Duration::from_secs(10);
    assert_eq!(ask(&*again, &mut calls, well), 3);
    let shares = (0..20).filter(|_| ask(&*factory, &mut calls, well) == 3).count();
    assert!((9..=11).contains(&shares), "{shares}");
}

#[test]
fn a_server_is_back_as_soon_as_a_websocket_with_it_begins() {
    let factory = testkit::configure(configure, &Lasting::default(), TWO).expect("right");
    let mut calls = early();
    while ask(&*factory, &mut calls, |server| (server == 4).then_some(200)) != 3 {}
    while ask(&*factory, &mut calls, |server| (server == 4).then_some(200)) != 3 {}
    calls.now += Duration::from_secs(10);
    let mut filter = factory.filter();
    let mut request = testkit::request("GET", "/", &[("Host", "a.example")]);
    filter.request(&mut calls.call(), &mut request);
    assert_eq!(calls.exchange.target.map(|server| server.ip().octets()[3]), Some(3), "it is probed");
    assert!(!filter.wants_frames(&mut calls.call(), &request, &testkit::response(101, &[])));
    // The WebSocket goes on for hours, in which the server is ejected again.
    assert!((0..10).any(|_| ask(&*factory, &mut calls, |server| (server == 4).then_some(200)) == 3));
    while ask(&*factory, &mut calls, |server| (server == 4).then_some(200)) != 3 {}
    filter.done(&mut calls.call(), &request, None, &testkit::record(Some(101)));
    assert!((0..10).all(|_| ask(&*factory, &mut calls, well) == 4), "its end says nothing new");
}

#[test]
fn only_what_gateways_say_of_a_server_is_held_against_it() {
    for (status, is_failure) in
        [(101, false), (500, false), (501, false), (502, true), (504, true), (505, false)]
    {
        let factory = testkit::configure(configure, &Lasting::default(), TWO).expect("right");
        let mut calls = early();
        let asked = (0..40).filter(|_| ask(&*factory, &mut calls, |_| Some(status)) == 3).count();
        // Where both are ejected, the first one gets all.
        assert_eq!((15..=25).contains(&asked), !is_failure, "{status}: {asked}");
    }
}

#[test]
fn a_connection_keeps_its_server_until_that_is_ejected() {
    let mut filter = filter(&Lasting::default(), TWO);
    let mut calls = early();
    let first = ask_on(&mut *filter, &mut calls, well);
    assert!((0..10).all(|_| ask_on(&mut *filter, &mut calls, well) == first));
    for _ in 0..2 {
        assert_eq!(ask_on(&mut *filter, &mut calls, |_| None), first);
    }
    assert!((0..10).all(|_| ask_on(&mut *filter, &mut calls, well) != first));
}

#[test]
fn a_server_that_closes_a_connection_which_it_has_served_before_is_not_ejected_for_that() {
    for (failure, is_ejected) in [(Failure::Closed, false), (Failure::Unreachable, true)] {
        let mut filter = filter(&Lasting::default(), TWO);
        let mut calls = early();
        let first = ask_on(&mut *filter, &mut calls, well);
        let request = testkit::request("GET", "/", &[("Host", "a.example")]);
        for _ in 0..2 {
            filter.request(&mut calls.call(), &mut request.clone());
            let record = Record { server: Some(Err(failure)), ..testkit::record(Some(502)) };
            filter.done(&mut calls.call(), &request, None, &record);
        }
        assert_eq!(ask_on(&mut *filter, &mut calls, well) != first, is_ejected, "{failure:?}");
    }
}

#[test]
fn what_another_filter_answered_says_nothing_about_the_server() {
    let factory = testkit::configure(configure, &Lasting::default(), TWO).expect("right");
    let mut calls = early();
    let (server, forwarded) = (None, None);
    let record =
        Record { server, forwarded, answered_by: Some("cache".into()), ..testkit::record(Some(200)) };
    for _ in 0..8 {
        ask(&*factory, &mut calls, |_| None);
    }
    // By now both are ejected, and both may be probed in a while.
    calls.now += Duration::from_secs(10);
    let mut request = testkit::request("GET", "/", &[]);
    let mut probed = |calls: &mut Calls| {
        let mut filter = factory.filter();
        filter.request(&mut calls.call(), &mut request);
        filter.done(&mut calls.call(), &request, None, &record);
        calls.exchange.target
    };
    // Had a hit in a cache brought the first one back, the other one would be next.
    let first = probed(&mut calls);
    assert!((0..10).all(|_| probed(&mut calls) == first));
}

#[test]
fn a_request_whose_server_fails_goes_to_each_other_server_that_is_in_once() {
    for sticky in [false, true] {
        let keys = format!(
            r#"servers = [{}]
            sticky = {sticky}
            failures = 2"#,
            [3, 4, 5].map(|last| format!("{{ address = \"198.18.0.{last}:80\" }}")).join(", ")
        );
        let factory = testkit::configure(configure, &Lasting::default(), &keys).expect("right");
        let mut calls = early();
        // For want of answers, the first two tries eject all three.
        for expected in [3, 3, 1] {
            let mut filter = factory.filter();
            let mut request = testkit::request("GET", "/", &[("Host", "a.example")]);
            filter.request(&mut calls.call(), &mut request);
            let mut asked = BTreeSet::from([calls.exchange.target]);
            while filter.elsewhere(&mut calls.call(), &request, Failure::Unreachable) {
                assert!(asked.insert(calls.exchange.target), "a server is asked once");
            }
            assert_eq!(asked.len(), expected, "sticky: {sticky}");
            let record = Record { server: Some(Err(Failure::Unreachable)), ..testkit::record(Some(502)) };
            filter.done(&mut calls.call(), &request, None, &record);
        }
    }
}

#[test]
fn a_server_that_another_filter_has_put_another_in_place_of_is_not_judged_by_that_one() {
    let keys = r#"servers = [{ address = "198.18.0.3:80" }, { address = "198.18.0.4:80" }]
        failures = 1"#;
    let lasting = Lasting::default();
    let mut filter = filter(&lasting, keys);
    let mut calls = early();
    let mut request = testkit::request("GET", "/", &[("Host", "a.example")]);
    filter.request(&mut calls.call(), &mut request);
    calls.exchange.target = Some("198.18.1.1:80".parse().expect("an address"));
    assert!(!filter.elsewhere(&mut calls.call(), &request, Failure::Unreachable));
    let record = Record { server: Some(Err(Failure::Unreachable)), ..testkit::record(Some(502)) };
    filter.done(&mut calls.call(), &request, None, &record);
    for server in &report(&lasting)[0].1 {
        assert_eq!((server.requests, server.failures, server.is_ejected), (0, 0, false));
    }
}

#[test]
fn a_request_that_no_server_was_asked_for_is_none_of_its_requests() {
    let lasting = Lasting::default();
    let mut filter = filter(&lasting, ONE);
    let mut calls = early();
    let mut request = testkit::request("GET", "/", &[("Host", "a.example")]);
    filter.request(&mut calls.call(), &mut request);
    let record = Record {
        server: None,
        forwarded: None,
        answered_by: Some("cache".into()),
        ..testkit::record(Some(200))
    };
    filter.done(&mut calls.call(), &request, None, &record);
    assert_eq!(report(&lasting)[0].1[0].requests, 0);
}

#[test]
fn a_server_that_fails_its_health_checks_is_left_out_until_one_succeeds() {
    let keys = format!("{TWO}check = {{ path = \"/health\", status = 204 }}");
    let factory = testkit::configure(configure, &Lasting::default(), &keys).expect("right");
    let checks = factory.checks();
    let request = checks[0].request.as_deref().expect("a request");
    assert!(request.starts_with(b"GET /health HTTP/1.1\r\nHost: localhost\r\n"));
    assert_eq!(checks.iter().map(|check| check.server.ip().octets()[3]).collect::<Vec<_>>(), [3, 4]);

    let mut calls = early();
    let asked = |calls: &mut Calls| (0..20).filter(|_| ask(&*factory, calls, well) == 3).count();
    let tell = |server: usize, finding, calls: &Calls| {
        checks[server].told.checked(checks[server].server, finding, calls.now);
    };
    for finding in
        [Finding::Status(200), Finding::Silence, Finding::Reset, Finding::Unreachable, Finding::Garbage]
    {
        tell(0, finding, &calls);
        tell(0, Finding::Status(204), &calls);
        assert!(asked(&mut calls) > 5, "once is not enough: {finding:?}");
        tell(0, finding, &calls);
        tell(0, finding, &calls);
        // Neither time nor requests bring it back.
        calls.now += Duration::from_secs(600);
        assert_eq!(asked(&mut calls), 0, "{finding:?}");
        tell(0, Finding::Status(204), &calls);
        assert!(asked(&mut calls) > 5, "{finding:?}");
    }
    // Where none is well, requests go somewhere all the same.
    for server in [0, 0, 1, 1] {
        tell(server, Finding::Silence, &calls);
    }
    asked(&mut calls);
}

#[test]
fn a_client_is_told_a_location() {
    let keys = r#"location = "https://{host}:8443{uri}"
        status = 308"#;
    let mut filter = filter(&Lasting::default(), keys);
    let mut calls = Calls::default();
    let mut request = testkit::request("GET", "/a?b=\u{e9}<\r\n", &[("Host", "a.example:80")]);
    let Verdict::Answer(answer) = filter.request(&mut calls.call(), &mut request) else {
        panic!("no answer")
    };
    assert_eq!((answer.response.status(), answer.response.reason()), (308, "Permanent Redirect"));
    let location = answer.response.fields().text("location");
    assert_eq!(location, Some("https://a.example:8443/a?b=%C3%A9%3C%0D%0A"));
    assert!(calls.exchange.verdict.is_some() && calls.exchange.target.is_none());
}

#[test]
fn a_client_that_is_at_the_location_already_passes() {
    let mut filter = filter(&Lasting::default(), "location = \"http://b.example{uri}\"");
    let mut ask = |host| {
        let mut request = testkit::request("GET", "/x", &[("Host", host)]);
        filter.request(&mut Calls::default().call(), &mut request) == Verdict::Pass
    };
    assert!(!ask("a.example") && ask("b.example"));
}

#[test]
fn a_fault_is_told_by_its_key() {
    for (keys, key) in [
        ("", "servers"),
        ("servers = [{ address = \"198.18.0.3\" }]", "servers[0].address"),
        ("servers = [{ address = \"198.18.0.3:80\", weight = 0 }]", "servers[0].weight"),
        ("servers = [{ address = \"198.18.0.3:80\" }]\nlocation = \"http://a\"", "servers"),
        ("servers = [{ address = \"198.18.0.3:80\" }]\nstatus = 302", "status"),
        ("servers = [{ address = \"198.18.0.3:80\" }]\nfailures = 0", "failures"),
        ("servers = [{ address = \"198.18.0.3:80\" }]\neject = \"soon\"", "eject"),
        ("servers = [{ address = \"198.18.0.3:80\" }]\nhost = \"a b\"", "host"),
        ("location = \"http://a\"\ncheck = {}", "check"),
        ("servers = [{ address = \"198.18.0.3:80\" }]\ncheck = { path = \"health\" }", "check.path"),
        ("servers = [{ address = \"198.18.0.3:80\" }]\ncheck = { path = \"/a b\" }", "check.path"),
        ("servers = [{ address = \"198.18.0.3:80\" }]\ncheck = { status = 200 }", "check.status"),
        (
            "servers = [{ address = \"198.18.0.3:80\" }]\ncheck = { path = \"/\", status = 100 }",
            "check.status",
        ),
        (
            "servers = [{ address = \"198.18.0.3:80\" }]\ncheck = { path = \"/\", host = \"a\\r\\nb\" }",
            "check.host",
        ),
        ("servers = [{ address = \"198.18.0.3:80\" }]\ncheck = { interval = \"1ms\" }", "check.interval"),
        ("servers = [{ address = \"198.18.0.3:80\" }]\ncheck = { timeout = \"6s\" }", "check.timeout"),
        ("servers = [{ address = \"198.18.0.3:80\" }]\npath_pattern = \"(\"", "path_pattern"),
        (
            "servers = [{ address = \"198.18.0.3:80\" }]\nheader = { name = \"a\", pattern = \"(\" }",
            "header.pattern",
        ),
        ("servers = [{ address = \"198.18.0.3:80\" }]\nclients = [\"10.0.0.0/40\"]", "clients[0]"),
        ("servers = [{ address = \"198.18.0.3:80\" }]\nhosts = [\"a\", \"b:8080\"]", "hosts[1]"),
        ("servers = [{ address = \"198.18.0.3:80\" }]\nhosts = [\"http://a/\"]", "hosts[0]"),
        ("servers = [{ address = \"198.18.0.3:80\" }]\nhosts = [\"*b.example\"]", "hosts[0]"),
        ("servers = [{ address = \"198.18.0.3:80\" }]\nhosts = [\"\"]", "hosts[0]"),
        ("servers = [{ address = \"198.18.0.3:80\" }]\nhosts = [\"b\u{fc}cher.example\"]", "hosts[0]"),
        ("servers = [{ address = \"198.18.0.3:80\" }]\npaths = [\"/a\", \"img/\"]", "paths[1]"),
        ("servers = [{ address = \"198.18.0.3:80\" }]\npaths = [\"/a?b\"]", "paths[0]"),
        ("servers = [{ address = \"198.18.0.3:80\" }]\nheader = { name = \"X Env\" }", "header.name"),
        (
            "servers = [{ address = \"198.18.0.3:80\" }, { address = \"198.18.0.3:80\" }]",
            "servers[1].address",
        ),
        ("servers = [{ address = \"198.18.0.3:80\" }]\neject = \"10m\"\neject_most = \"1s\"", "eject_most"),
        ("location = \"http://a\"\nsticky = true", "sticky"),
        ("location = \"http://a\"\nfailures = 0", "failures"),
        ("location = \"http://a\"\neject = \"1s\"", "eject"),
        ("location = \"http://a\"\neject_most = \"1s\"", "eject_most"),
        ("location = \"http://a\"\nstatus = 200", "status"),
        ("location = \"\"", "location"),
        ("servers = [{ address = \"198.18.0.3:0\" }]", "servers[0].address"),
        ("location = \"http://{nobody}\"", "location"),
        ("location = \"http://a b\"", "location"),
        ("location = \"http://a\"\nhost = \"b\"", "host"),
        ("colour = 1", "colour"),
    ] {
        let fault = testkit::configure(configure, &Lasting::default(), keys).expect_err(keys);
        assert_eq!(fault.key, key, "{fault}");
    }
}
