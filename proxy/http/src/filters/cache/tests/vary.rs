//! Variants of a resource (RFC 9111 section 4.1).

use super::*;

fn varying(names: &str) -> [(&str, &str); 2] {
    [("Cache-Control", "max-age=60"), ("Vary", names)]
}

#[test]
fn section_4_1_each_variant_answers_the_requests_that_select_it() {
    let mut site = Site::new("");
    let gzip = [("Accept-Encoding", "gzip")];
    site.get(&gzip, (200, &varying("Accept-Encoding"), "zipped"));
    site.get(&[], (200, &varying("accept-encoding"), "plain"));
    assert_eq!(
        (site.get_stored(&gzip).text().to_owned(), site.get_stored(&[]).text()),
        ("zipped".to_owned(), "plain")
    );
    assert_eq!(site.get_stored(&[("X", "whatever"), ("Accept-Encoding", " GZIP ")]).text(), "zipped");
    assert_eq!(
        site.get(&[("Accept-Encoding", "")], (200, &[], "none")).text(),
        "none",
        "empty is not absent"
    );
}

#[test]
fn section_4_1_all_selecting_fields_count_in_whatever_order() {
    let mut site = Site::new("");
    site.get(&[("A", "1"), ("B", "2")], (200, &varying("b, A"), "one"));
    assert_eq!(site.get_stored(&[("B", "2"), ("A", "1")]).text(), "one");
    for fields in [&[("A", "1")][..], &[("A", "2"), ("B", "2")], &[("B", "2")], &[]] {
        assert_eq!(site.get(fields, (200, &[], "other")).text(), "other", "{fields:?}");
    }
}

#[test]
fn a_resource_may_begin_and_cease_to_vary() {
    let mut site = Site::new("");
    site.get(&[], (200, &varying(""), "plain"));
    site.pass(100);
    site.get(&[("A", "1")], (200, &varying("A"), "one"));
    assert_eq!(site.get_stored(&[("A", "1")]).text(), "one");
    site.get(&[("A", "2")], (200, &varying("B"), "by another field"));
    assert_eq!(site.get_stored(&[("A", "1")]).text(), "by another field");
    site.get(&[("B", "2")], (200, &varying(""), "plain again"));
    assert_eq!(site.get_stored(&[("B", "3")]).text(), "plain again");
}

#[test]
fn a_variant_is_validated_with_its_own_tag() {
    let mut site = Site::new("");
    for value in ["1", "2"] {
        let tag = format!("\"{value}\"");
        let fields = [("Cache-Control", "max-age=60"), ("Vary", "A"), ("ETag", &tag)];
        site.get(&[("A", value)], (200, &fields, value));
    }
    site.pass(100);
    let got = site.get(&[("A", "1")], (304, &[], ""));
    assert_eq!((got.text(), site.asked[2].fields().text("if-none-match")), ("1", Some("\"1\"")));
    assert_eq!(site.get_stored(&[("A", "1")]).text(), "1");
    assert_eq!(site.get(&[("A", "2")], (304, &[], "")).text(), "2");
}

#[test]
fn who_waited_for_another_variant_goes_for_its_own() {
    let mut first = Site::new("");
    let mut asked = ["1", "2"].map(|value| request("GET", "/", &[("Host", "a.example"), ("A", value)]));
    let mut second = first.beside();
    assert_eq!(first.step(&mut asked[0]), Verdict::Pass);
    assert_eq!(second.step(&mut asked[1]), Verdict::Wait);
    first.serve(&asked[0], whole((200, &varying("A"), "one")));
    let reply = second.calls.gateway.answers.recv_timeout(NEVER).unwrap();
    second.filter.answered(&mut second.calls.call(), reply);
    assert_eq!(second.step(&mut asked[1]), Verdict::Pass);
    second.serve(&asked[1], whole((200, &varying("A"), "two")));
    second.handle().settle();
    assert_eq!(first.get_stored(&[("A", "1")]).text(), "one");
    assert_eq!(first.get_stored(&[("A", "2")]).text(), "two");
}
