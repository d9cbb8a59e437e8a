//! Rules as an operator writes them, and the fields before and after.

use proptest::prelude::*;

use super::*;
use crate::filters::Lasting;
use crate::testkit::{self, Calls};

fn filter(keys: &str) -> Box<dyn HttpFilter> {
    testkit::configure(configure, &Lasting::default(), keys).expect("the keys are right").filter()
}

/// The fields of a request, one per line, behind these rules; `None`: it was not edited.
fn request(rules: &str, fields: &[(&str, &str)]) -> Option<String> {
    let mut request = testkit::request("GET", "/a?b", fields);
    let verdict = filter(&format!("request = [{rules}]")).request(&mut Calls::default().call(), &mut request);
    assert_eq!(verdict, Verdict::Pass);
    request.is_edited().then(|| text(request.fields()))
}

fn text(fields: &Fields) -> String {
    let line = |(name, value)| format!("{name}: {}", String::from_utf8_lossy(value));
    fields.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn each_action_does_what_its_name_says() {
    let two = [("Host", "a"), ("X", "1"), ("Via", "v"), ("x", "2")];
    for (rule, expected) in [
        (r#"{ action = "add", name = "X", value = "3" }"#, "Host: a\nX: 1\nVia: v\nx: 2\nX: 3"),
        (r#"{ action = "append", name = "X", value = "3" }"#, "Host: a\nX: 1\nVia: v\nx: 2, 3"),
        (r#"{ action = "append", name = "Y", value = "3" }"#, "Host: a\nX: 1\nVia: v\nx: 2\nY: 3"),
        (r#"{ action = "replace", name = "X", value = "3" }"#, "Host: a\nX: 3\nVia: v"),
        (r#"{ action = "replace", name = "Y", value = "" }"#, "Host: a\nX: 1\nVia: v\nx: 2\nY: "),
        (r#"{ action = "remove", name = "X" }"#, "Host: a\nVia: v"),
        (r#"{ action = "remove", name = "X", pattern = "^2$" }"#, "Host: a\nX: 1\nVia: v"),
        (r#"{ action = "replace", name = "X", pattern = "2", value = "" }"#, "Host: a\nX: 1\nVia: v\nx: "),
    ] {
        assert_eq!(request(rule, &two).as_deref(), Some(expected), "{rule}");
    }
}

#[test]
fn what_concerns_no_field_edits_nothing() {
    for rule in [
        r#"{ action = "remove", name = "Y" }"#,
        r#"{ action = "remove", name = "X", pattern = "3" }"#,
        r#"{ action = "replace", name = "X", pattern = "3", value = "4" }"#,
        r#"{ action = "replace", name = "Y", pattern = ".*", value = "4" }"#,
        r#"{ action = "replace", name = "X", pattern = "(.)", value = "{1}" }"#,
    ] {
        assert_eq!(request(rule, &[("X", "1"), ("X", "2")]), None, "{rule}");
    }
}

#[test]
fn rules_follow_each_other_and_fill_in_variables_and_groups() {
    let rules = r#"
        { action = "append", name = "X-Forwarded-For", value = "{client}" },
        { action = "add", name = "X-Url", value = "http://{host}{uri}" },
        { action = "replace", name = "X-Url", pattern = "^http://([^/]*)(.*)$", value = "{2} at {1} {{$1}}" }"#;
    assert_eq!(
        request(rules, &[("Host", "www.example:80"), ("X-Forwarded-For", "10.9.9.9")]).as_deref(),
        Some("Host: www.example:80\nX-Forwarded-For: 10.9.9.9, 10.0.0.5\nX-Url: /a?b at www.example {$1}")
    );
}

#[test]
fn a_response_is_edited_by_rules_of_its_own() {
    let mut filter = filter(
        r#"response = [
            { action = "replace", name = "Set-Cookie", pattern = "; *[Dd]omain=[^;]*", value = "" },
            { action = "remove", name = "Server" },
            { action = "add", name = "X-Path", value = "{path}" },
        ]"#,
    );
    let mut request = testkit::request("GET", "/a?b", &[("Server", "x")]);
    let fields = [("Server", "s"), ("Set-Cookie", "a=1; Domain=b"), ("Set-Cookie", "b=2")];
    let mut response = testkit::response(200, &fields);
    let mut calls = Calls::default();
    assert_eq!(filter.request(&mut calls.call(), &mut request), Verdict::Pass);
    assert!(!request.is_edited());
    assert_eq!(filter.response(&mut calls.call(), &request, &mut response), Verdict::Pass);
    assert_eq!(text(response.fields()), "Set-Cookie: a=1\nSet-Cookie: b=2\nX-Path: /a");
}

#[test]
fn the_host_is_replaced_in_field_and_target_and_by_a_host_only() {
    let rule = r#"{ action = "replace", name = "host", value = "b.example:81" }"#;
    assert_eq!(request(rule, &[("Host", "a"), ("X", "1")]).as_deref(), Some("Host: b.example:81\nX: 1"));
    let rule = r#"{ action = "replace", name = "Host", pattern = "^www[.]", value = "" }"#;
    assert_eq!(request(rule, &[("Host", "www.a")]).as_deref(), Some("Host: a"));
    assert_eq!(request(rule, &[("Host", "www.")]), None, "an empty one is none");
    let rule = r#"{ action = "replace", name = "Host", value = "{method} {path}" }"#;
    assert_eq!(request(rule, &[("Host", "www.a")]), None);

    let mut absolute = testkit::request("GET", "http://a.example/x?y", &[("Host", "a.example")]);
    let mut filter = filter(r#"request = [{ action = "replace", name = "Host", value = "b.example" }]"#);
    filter.request(&mut Calls::default().call(), &mut absolute);
    assert_eq!((absolute.target(), absolute.host()), ("http://b.example/x?y", "b.example"));
    assert_eq!(text(absolute.fields()), "Host: b.example");
}

#[test]
fn a_value_does_not_grow_without_bounds() {
    let rule = r#"{ action = "replace", name = "X", pattern = "a", value = "{path}{path}{path}" }"#;
    let mut message = testkit::request("GET", &"/b".repeat(4000), &[("X", &"a".repeat(8000))]);
    let mut filter = filter(&format!("request = [{rule}]"));
    filter.request(&mut Calls::default().call(), &mut message);
    assert!(!message.is_edited());
}

#[test]
fn what_would_break_messages_is_refused_by_its_key() {
    for (rule, key) in [
        (r#"action = "add", name = "Content-Length", value = "1""#, "request[0].name"),
        (r#"action = "remove", name = "transfer-encoding""#, "request[0].name"),
        (r#"action = "replace", name = "Connection", value = "close""#, "request[0].name"),
        (r#"action = "add", name = "Host", value = "b""#, "request[0].name"),
        (r#"action = "remove", name = "HOST""#, "request[0].name"),
        (r#"action = "append", name = "Set-Cookie", value = "b""#, "request[0].name"),
        (r#"action = "add", name = "a b", value = "b""#, "request[0].name"),
        (r#"action = "add", name = "", value = "b""#, "request[0].name"),
        (r#"action = "add", name = "a:", value = "b""#, "request[0].name"),
        (r#"action = "add", name = "a", value = "b\r\nc: d""#, "request[0].value"),
        (r#"action = "add", name = "a", value = "{nobody}""#, "request[0].value"),
        (r#"action = "add", name = "a", value = "{1}""#, "request[0].value"),
        (r#"action = "add", name = "a""#, "request[0].value"),
        (r#"action = "remove", name = "a", value = "b""#, "request[0].value"),
        (r#"action = "add", name = "a", value = "b", pattern = "c""#, "request[0].pattern"),
        (r#"action = "remove", name = "a", pattern = "(""#, "request[0].pattern"),
        (r#"action = "cut", name = "a""#, "request[0].action"),
        (r#"action = "add", name = "a", value = "b", colour = "c""#, "request[0].colour"),
    ] {
        let keys = format!("request = [{{ {rule} }}]");
        let fault = testkit::configure(configure, &Lasting::default(), &keys).expect_err(rule);
        assert_eq!(fault.key, key, "{fault}");
    }
}

proptest! {
    #[test]
    fn no_field_becomes_two_whatever_the_wire_says(value: Vec<u8>, target in "\\PC*|.*[\r\n]+.*") {
        let mut request = testkit::request("GET", &target, &[("Host", "a")]);
        request.read_field("X", &value);
        let mut filter = filter(
            r#"request = [
                { action = "append", name = "X", value = "{uri}" },
                { action = "replace", name = "X", pattern = "(?s-u)(..)", value = "{1}{1}" },
                { action = "add", name = "Y", value = "{path}" },
            ]"#,
        );
        filter.request(&mut Calls::default().call(), &mut request);
        prop_assert_eq!(request.fields().len(), 3);
        for (_, value) in request.fields().iter() {
            prop_assert!(value.iter().all(|byte| is_of_value(*byte)));
        }
    }
}
