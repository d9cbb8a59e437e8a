//! What is stale: validated, used meanwhile, or used in spite of a failure (RFC 9111 section 4.3, RFC 5861).

use super::*;

/// A response that is fresh for a minute, with a validator.
fn tagged(directives: &str) -> Vec<(&str, &str)> {
    vec![("Cache-Control", directives), ("ETag", "\"a\""), ("X", "old")]
}

fn field<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.fields().text(name)
}

#[test]
fn section_4_3_what_is_stale_is_validated_and_renewed_by_a_304() {
    let mut site = Site::new("");
    let modified = site.date(-1000);
    let mut fields = tagged("max-age=60");
    fields.push(("Last-Modified", &modified));
    site.get(&[], (200, &fields, "content"));
    site.pass(100);
    let update: &[(&str, &str)] =
        &[("Cache-Control", "max-age=30"), ("ETag", "\"a\""), ("X", "new"), ("Content-Length", "3")];
    let got = site.get(&[], (304, update, ""));
    assert_eq!(field(&site.asked[1], "if-none-match"), Some("\"a\""));
    assert_eq!(field(&site.asked[1], "if-modified-since"), Some(&*modified));
    assert_eq!(
        (got.status(), got.text(), got.field("x"), got.field("age")),
        (200, "content", Some("new"), Some("0"))
    );
    assert_eq!(got.field("etag"), Some("\"a\""), "what belongs to the content stays");
    assert_eq!(got.field("cache-status"), Some("PNAT; fwd=stale; fwd-status=304; ttl=30"));
    site.pass(29);
    assert_eq!(site.get_stored(&[]).field("x"), Some("new"));
    site.pass(1);
    let got = site.get(&[], (200, &tagged("max-age=60"), "newer"));
    assert_eq!((got.text(), site.get_stored(&[]).text()), ("newer", "newer"));
    assert_eq!(site.handle().report().revalidated, 1);
}

#[test]
fn section_4_3_3_a_clients_own_condition_is_answered_after_validation() {
    for (asked, status) in [("\"a\"", 304), ("\"b\"", 200)] {
        let mut site = Site::new("");
        site.get(&[], (200, &tagged("max-age=60"), "content"));
        site.pass(100);
        let got = site.get(&[("If-None-Match", asked)], (304, &[], ""));
        assert_eq!(
            (got.status(), field(&site.asked[1], "if-none-match")),
            (status, Some("\"a\"")),
            "{asked}"
        );
    }
}

#[test]
fn a_part_is_cut_from_what_was_validated() {
    let mut site = Site::new("");
    site.get(&[], (200, &tagged("max-age=60"), "content"));
    site.pass(100);
    let got = site.get(&[("Range", "bytes=0-2")], (304, &[], ""));
    assert_eq!((got.status(), got.text(), field(&site.asked[1], "range")), (206, "con", None));
}

#[test]
fn without_something_in_store_a_clients_condition_goes_to_the_server_and_a_304_comes_back() {
    let mut site = Site::new("");
    let got = site.get(&[("If-None-Match", "\"x\"")], (304, &[("ETag", "\"x\"")], ""));
    assert_eq!((got.status(), field(&site.asked[0], "if-none-match")), (304, Some("\"x\"")));
    assert_eq!(site.get(&[], (200, &tagged("max-age=60"), "content")).text(), "content");
    site.get_stored(&[]);
}

#[test]
fn section_5_2_2_4_no_cache_is_validated_each_time() {
    let mut site = Site::new("");
    site.get(&[], (200, &tagged("max-age=60, no-cache"), "content"));
    for number in 1..4 {
        let got = site.get(&[], (304, &[], ""));
        assert_eq!((got.text(), site.asked.len()), ("content", number + 1));
    }
}

#[test]
fn a_reload_validates_what_is_fresh() {
    let mut site = Site::new("");
    site.get(&[], (200, &tagged("max-age=60"), "content"));
    let got = site.get(&[("Cache-Control", "no-cache")], (304, &[], ""));
    assert_eq!((got.text(), field(&site.asked[1], "if-none-match")), ("content", Some("\"a\"")));
}

#[test]
fn section_4_3_5_a_head_renews_what_is_stale_or_shows_that_it_does_not_hold() {
    for (fields, expected) in [
        (
            &[("Cache-Control", "max-age=60"), ("ETag", "\"a\""), ("Content-Length", "3"), ("X", "new")][..],
            true,
        ),
        (&[("Cache-Control", "max-age=60"), ("ETag", "\"b\"")], false),
        (&[("Cache-Control", "max-age=60"), ("Content-Length", "4")], false),
    ] {
        let mut site = Site::new("");
        site.get(&[], (200, &tagged("max-age=60"), "old"));
        site.pass(100);
        let mut head = response(200, fields);
        head.read_framing(Framing::None);
        site.send("HEAD", "/", &[], Served::Whole(head, Vec::new()));
        let got = site.get(&[], (200, &[], "new"));
        assert_eq!((got.text() == "old", got.field("x") == Some("new")), (expected, expected), "{fields:?}");
        assert!(expected || field(&site.asked[2], "if-none-match").is_none());
    }
}

#[test]
fn a_renewed_response_that_may_not_be_stored_is_forgotten() {
    let mut site = Site::new("");
    site.get(&[], (200, &tagged("max-age=60"), "content"));
    site.pass(100);
    assert_eq!(site.get(&[], (304, &[("Cache-Control", "no-store")], "")).text(), "content");
    assert_eq!(site.get(&[], (200, &[], "new")).text(), "new");
    assert_eq!(field(&site.asked[2], "if-none-match"), None);
}

#[test]
fn rfc_5861_section_3_a_stale_response_answers_while_it_is_revalidated() {
    let mut site = Site::new("");
    site.get(&[], (200, &tagged("max-age=60, stale-while-revalidate=30"), "old"));
    site.pass(70);
    let got =
        site.get(&[("Range", "bytes=0-1")], (200, &tagged("max-age=60, stale-while-revalidate=30"), "new"));
    assert_eq!((got.status(), got.text(), got.field("age")), (206, "ol", Some("70")));
    assert_eq!(
        (field(&site.asked[1], "if-none-match"), field(&site.asked[1], "range")),
        (Some("\"a\""), None)
    );
    assert_eq!(site.get_stored(&[]).text(), "new");
    site.pass(89);
    assert_eq!(site.get(&[], (304, &[], "")).text(), "new");
    assert_eq!(site.get_stored(&[]).field("age"), Some("0"));
    site.pass(90);
    assert_eq!(site.get(&[], (200, &[], "newest")).text(), "newest", "stale for too long");
}

#[test]
fn rfc_5861_section_3_one_revalidates_for_all() {
    let mut site = Site::new("");
    site.get(&[], (200, &tagged("max-age=60, stale-while-revalidate=300"), "old"));
    site.pass(70);
    let going_on = |site: &mut Site| {
        let mut asked = request("GET", "/", &[("Host", "a.example")]);
        match site.step(&mut asked) {
            Verdict::Answer(answer) => answer.goes_on,
            other => panic!("{other:?}"),
        }
    };
    let mut others = [site.beside(), site.beside(), site.beside()];
    assert_eq!(others.each_mut().map(going_on), [true, false, false]);
    // The one that revalidates may have come to nothing.
    others[1].pass(30);
    assert!(going_on(&mut others[1]));
}

#[test]
fn rfc_5861_section_4_a_stale_response_stands_in_for_an_error() {
    for (directives, asked, expected) in [
        ("max-age=60, stale-if-error=100", "", 200),
        ("max-age=60, stale-if-error=39", "", 503),
        ("max-age=60", "", 503),
        ("max-age=60", "stale-if-error=100", 200),
        ("max-age=60, must-revalidate, stale-if-error=100", "", 503),
        ("s-maxage=60, stale-if-error=100", "", 503),
        ("no-cache, stale-if-error=100", "", 503),
    ] {
        let mut site = Site::new("");
        site.get(&[], (200, &tagged(directives), "old"));
        site.pass(100);
        let got = site.get(&[("Cache-Control", asked)], (503, &[], "error"));
        assert_eq!(got.status(), expected, "{directives}, {asked}");
    }
}

#[test]
fn section_4_2_4_a_stale_response_stands_in_for_a_server_that_cannot_be_reached() {
    for (directives, seconds, expected) in [
        ("max-age=60", 100, 200),
        ("max-age=60", 3700, 502),
        ("max-age=60, proxy-revalidate", 100, 502),
        ("max-age=60, stale-if-error=9999", 3700, 200),
    ] {
        let mut site = Site::new("");
        site.get(&[], (200, &tagged(directives), "old"));
        site.pass(seconds);
        let mut asked = vec![("Host", "a.example")];
        asked.push(("Cache-Control", ""));
        let got = site.exchange(request("GET", "/", &asked), Served::Failure(Failure::Unreachable));
        assert_eq!(got.status(), expected, "{directives} {seconds}");
        assert_eq!(got.status() == 200, got.text() == "old");
    }
}

#[test]
fn section_4_3_4_a_304_with_another_strong_tag_renews_nothing_and_the_server_is_asked_anew() {
    for (asked, tag, is_about_other) in
        [("", "\"b\"", true), ("\"c\"", "\"b\"", true), ("", "\"a\"", false), ("", "W/\"b\"", false)]
    {
        let mut site = Site::new("");
        site.get(&[], (200, &tagged("max-age=60"), "old"));
        site.pass(100);
        let mut request =
            request("GET", "/", &[("Host", "a.example"), ("If-None-Match", asked), ("Range", "bytes=0-1")]);
        assert_eq!(site.step(&mut request), Verdict::Pass);
        let mut response = response(304, &[("ETag", tag), ("Cache-Control", "max-age=60")]);
        site.pass(1);
        let verdict = site.filter.response(&mut site.calls.call(), &request, &mut response);
        if !is_about_other {
            assert!(matches!(verdict, Verdict::Answer(_)), "{asked} {tag}");
            continue;
        }
        let Verdict::Again(again) = verdict else { panic!("{verdict:?}") };
        assert_eq!(
            (field(&again, "if-none-match"), field(&again, "range")),
            (Some(asked), Some("bytes=0-1"))
        );
        site.serve(&again, whole((200, &[("Cache-Control", "max-age=60")], "new")));
        site.handle().settle();
        assert_eq!((site.get_stored(&[]).text(), site.handle().report().revalidated), ("new", 0));
    }
}

#[test]
fn section_4_3_4_a_304_that_names_what_the_client_has_says_nothing_of_what_is_in_store() {
    let mut site = Site::new("");
    site.get(&[], (200, &tagged("max-age=1"), "old"));
    site.pass(5);
    let other: &[(&str, &str)] = &[("ETag", "\"b\""), ("Cache-Control", "max-age=60")];
    let got = site.get(&[("If-None-Match", "\"b\"")], (304, other, ""));
    assert_eq!((got.status(), got.field("etag")), (304, Some("\"b\"")));
    assert_eq!(site.get(&[], (200, &[], "new")).text(), "new");
    assert_eq!(site.handle().report().revalidated, 0);
}

#[test]
fn counters_tell_what_became_of_requests_and_responses() {
    let fresh: &[(&str, &str)] = &[("Cache-Control", "max-age=10")];
    let mut site = Site::new("object = 10");
    site.get(&[], (200, fresh, "one"));
    site.pass(20);
    site.get(&[("Cache-Control", "max-stale=100")], (200, &[], "two"));
    site.get(&[("Cache-Control", "only-if-cached")], (200, &[], "two"));
    site.send("GET", "/by-length", &[], whole((200, fresh, "more than ten")));
    let mut chunked = response(200, fresh);
    chunked.read_framing(Framing::Chunked);
    site.send("GET", "/in-chunks", &[], Served::Whole(chunked, b"more than ten".to_vec()));
    let mut other = site.beside();
    let mut early = request("GET", "/early", &[("Host", "a.example")]);
    assert_eq!(other.step(&mut early), Verdict::Pass);
    site.send("POST", "/early", &[], whole((200, &[], "")));
    other.serve(&early, whole((200, fresh, "one")));
    site.handle().settle();
    let report = site.handle().report();
    assert_eq!((report.hits, report.stale, report.misses, report.refused), (1, 0, 4, 1), "{report:?}");
    assert_eq!((report.stored, report.too_large, report.outdated, report.busy), (1, 2, 1, 0), "{report:?}");
}
