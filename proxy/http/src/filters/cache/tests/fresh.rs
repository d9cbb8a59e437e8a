//! Responses that are fresh, and what a request may say to that (RFC 9111 sections 4, 4.2 and 5).

use super::super::stored::Record;
use super::*;

const FRESH: (u16, &[(&str, &str)], &str) = (200, &[("Cache-Control", "max-age=60")], "content");

#[test]
fn section_4_a_fresh_response_answers_without_the_server_and_tells_its_age() {
    let mut site = Site::new("");
    assert_eq!(site.get(&[], FRESH).text(), "content");
    site.pass(59);
    let got = site.get_stored(&[]);
    assert_eq!((got.status(), got.text(), got.field("age")), (200, "content", Some("59")));
    assert_eq!(got.field("cache-status"), Some("PNAT; hit; ttl=1"));
    site.pass(1);
    assert_eq!(site.get(&[], (200, &[], "new")).text(), "new");
    assert_eq!(site.asked.len(), 2);
    let report = site.handle().report();
    assert_eq!((report.hits, report.misses, report.stored), (1, 2, 1));
}

#[test]
fn section_4_a_response_answers_for_its_own_url_host_and_server_only() {
    let mut site = Site::new("");
    site.get(&[], FRESH);
    for (target, host) in [("/?q", "a.example"), ("/", "b.example"), ("/", "a.example:8080")] {
        let fresh = whole(FRESH);
        site.exchange(request("GET", target, &[("Host", host)]), fresh);
    }
    assert_eq!(site.asked.len(), 4);
    site.get_stored(&[]);
    let honest = site.calls.exchange.server;
    site.calls.exchange.server.set_port(81);
    site.get(&[], (200, &[("Cache-Control", "max-age=60")], "poison"));
    site.calls.exchange.server = honest;
    assert_eq!(site.get_stored(&[]).text(), "content", "a server of somebody's own speaks for itself");
}

#[test]
fn section_4_where_all_servers_are_trusted_the_host_is_the_key() {
    let mut site = Site::new("key = \"host\"");
    site.get(&[], FRESH);
    site.calls.exchange.server.set_port(81);
    site.get_stored(&[]);
}

#[test]
fn section_3_what_is_not_to_be_stored_is_not() {
    for served in [
        (200, &[("Cache-Control", "no-store, max-age=60")][..], "a"),
        (200, &[("Cache-Control", "private, max-age=60")], "a"),
        (206, &[("Cache-Control", "max-age=60"), ("Content-Range", "bytes 0-0/9")], "a"),
        (200, &[("Cache-Control", "max-age=60"), ("Vary", "*")], "a"),
    ] {
        let mut site = Site::new("");
        site.get(&[], served);
        site.get(&[], served);
        assert_eq!(site.asked.len(), 2, "{served:?}");
        assert_eq!(site.handle().report().stored, 0);
    }
    let mut site = Site::new("");
    site.get(&[("Cache-Control", "no-store")], FRESH);
    site.send("HEAD", "/", &[], whole(FRESH));
    site.send("POST", "/", &[], whole(FRESH));
    assert_eq!((site.get(&[], FRESH).text(), site.asked.len()), ("content", 4));
}

#[test]
fn section_3_1_fields_of_the_connection_and_of_one_client_are_not_stored() {
    let mut site = Site::new("");
    let fields: &[(&str, &str)] = &[
        ("Cache-Control", "max-age=60, no-cache=\"Secret\""),
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "1"),
        ("Secret", "1"),
        ("Set-Cookie", "a=b"),
        ("Link", "one"),
        ("link", "two"),
    ];
    let first = site.get(&[], (200, fields, ""));
    assert!(first.field("set-cookie").is_some() && first.field("x-hop").is_some(), "it passes all the same");
    let second = site.get_stored(&[]);
    for name in ["connection", "x-hop", "keep-alive", "secret", "set-cookie"] {
        assert_eq!(second.field(name), None, "{name}");
    }
    assert_eq!(second.response.fields().all("link").count(), 2);
    assert!(second.field("date").is_some());
}

#[test]
fn section_7_3_cookies_are_kept_stripped_or_refused_as_configured() {
    let served: (u16, &[(&str, &str)], &str) =
        (200, &[("Cache-Control", "max-age=60"), ("Set-Cookie", "a=b")], "");
    let mut site = Site::new("set_cookie = \"keep\"");
    site.get(&[], served);
    assert_eq!(site.get_stored(&[]).field("set-cookie"), Some("a=b"));
    let mut site = Site::new("set_cookie = \"refuse\"");
    site.get(&[], served);
    site.get(&[], served);
    assert_eq!(site.asked.len(), 2);
}

#[test]
fn section_3_3_what_is_cut_off_is_not_stored() {
    let mut site = Site::new("");
    let mut head = response(200, &[("Cache-Control", "max-age=60")]);
    head.read_framing(Framing::UntilClose);
    site.send("GET", "/", &[], Served::Cut(head.clone(), b"half".to_vec()));
    head.read_framing(Framing::Length(9));
    site.send("GET", "/", &[], Served::Whole(head, b"shorter".to_vec()));
    assert_eq!((site.get(&[], FRESH).text(), site.asked.len()), ("content", 3));
}

#[test]
fn section_3_5_an_authorized_response_is_stored_only_where_it_says_so() {
    let mut site = Site::new("");
    site.get(&[("Authorization", "x")], FRESH);
    site.get(&[], (200, &[("Cache-Control", "max-age=60, public")], "all"));
    assert_eq!(site.asked.len(), 2);
    assert_eq!(site.get_stored(&[("Authorization", "x")]).text(), "all");
}

#[test]
fn section_5_2_1_a_request_may_ask_for_more_than_freshness() {
    for (asked, expected) in [
        ("max-age=10", true),
        ("max-age=9", false),
        ("min-fresh=50", true),
        ("min-fresh=51", false),
        ("no-cache", false),
        ("max-stale", true),
        ("only-if-cached", true),
        ("nonsense", true),
    ] {
        let mut site = Site::new("");
        site.get(&[], FRESH);
        site.pass(10);
        site.get(&[("Cache-Control", asked)], FRESH);
        assert_eq!(site.asked.len() == 1, expected, "{asked}");
    }
    let mut site = Site::new("");
    site.get(&[], FRESH);
    site.get(&[("Pragma", "no-cache")], FRESH);
    assert_eq!(site.asked.len(), 2);
}

#[test]
fn section_5_2_1_2_a_client_may_take_what_is_stale_unless_the_server_forbids_it() {
    for (served, asked, expected) in [
        ("max-age=60", "max-stale", true),
        ("max-age=60", "max-stale=10", true),
        ("max-age=60", "max-stale=9", false),
        ("max-age=60, must-revalidate", "max-stale", false),
        ("s-maxage=60", "max-stale", false),
        ("max-age=60, no-cache", "max-stale", false),
    ] {
        let mut site = Site::new("");
        let fields = [("Cache-Control", served), ("ETag", "\"a\"")];
        site.get(&[], (200, &fields, "old"));
        site.pass(70);
        let got = site.get(&[("Cache-Control", asked)], (200, &[], "new"));
        assert_eq!(got.text() == "old", expected, "{served} {asked}");
    }
}

#[test]
fn section_5_2_1_7_only_if_cached_gets_504_and_asks_nobody() {
    let mut site = Site::new("");
    let got = site.get_stored(&[("Cache-Control", "only-if-cached")]);
    assert_eq!(got.status(), 504);
    site.get(&[], FRESH);
    site.pass(61);
    assert_eq!(site.get_stored(&[("Cache-Control", "only-if-cached")]).status(), 504);
}

#[test]
fn section_4_3_2_a_condition_is_answered_from_the_store() {
    let mut site = Site::new("");
    let modified = site.date(-100);
    let fields =
        [("Cache-Control", "max-age=60"), ("ETag", "W/\"a\""), ("Last-Modified", &modified), ("X", "1")];
    site.get(&[], (200, &fields, "content"));
    for (asked, status) in [
        (&[("If-None-Match", "\"a\"")][..], 304),
        (&[("If-None-Match", "\"b\", W/\"a\"")], 304),
        (&[("If-None-Match", "*")], 304),
        (&[("If-None-Match", "\"b\"")], 200),
        (&[("If-None-Match", "\"b\""), ("If-Modified-Since", &modified)], 200),
        (&[("If-Modified-Since", &site.date(-100))], 304),
        (&[("If-Modified-Since", &site.date(-101))], 200),
        (&[("If-Modified-Since", "yesterday")], 200),
    ] {
        let got = site.get_stored(asked);
        assert_eq!(got.status(), status, "{asked:?}");
        assert_eq!((got.content.is_empty(), got.field("x").is_none()), (status == 304, status == 304));
        assert_eq!(got.field("etag"), Some("W/\"a\""));
    }
}

#[test]
fn section_4_a_head_is_answered_by_a_stored_get() {
    let mut site = Site::new("");
    site.get(&[], FRESH);
    let got = site.send("HEAD", "/", &[("Range", "bytes=0-1")], Served::Failure(Failure::Timeout));
    assert_eq!((got.status(), site.asked.len()), (200, 1));
}

#[test]
fn rfc_9110_section_14_parts_are_cut_from_what_is_stored() {
    let mut site = Site::new("");
    let served: (u16, &[(&str, &str)], &str) =
        (200, &[("Cache-Control", "max-age=60"), ("ETag", "\"a\"")], "0123456789");
    site.get(&[], served);
    for (asked, status, content) in [
        (&[("Range", "bytes=2-4")][..], 206, "234"),
        (&[("Range", "bytes=-2")], 206, "89"),
        (&[("Range", "bytes=10-")], 416, ""),
        (&[("Range", "bytes=2-4"), ("If-Range", "\"a\"")], 206, "234"),
        (&[("Range", "bytes=2-4"), ("If-Range", "\"b\"")], 200, "0123456789"),
        (&[("Range", "bytes=2-4"), ("If-None-Match", "\"a\"")], 304, ""),
    ] {
        let got = site.get_stored(asked);
        assert_eq!((got.status(), got.text()), (status, content), "{asked:?}");
    }
    assert_eq!(site.get_stored(&[("Range", "bytes=2-4")]).field("content-range"), Some("bytes 2-4/10"));
    assert!(site.get_stored(&[("Range", "bytes=0-0,9-9")]).text().contains("\r\n\r\n0\r\n--"));
}

#[test]
fn a_response_without_content_is_stored_by_its_head() {
    for (status, framing) in [(204, Framing::None), (200, Framing::Length(0))] {
        let mut site = Site::new("");
        let mut head = response(status, &[("Cache-Control", "max-age=60")]);
        head.read_framing(framing);
        site.send("GET", "/", &[], Served::Whole(head, Vec::new()));
        assert_eq!(site.get_stored(&[]).status(), status);
    }
}

#[test]
fn content_beyond_the_limit_passes_and_is_not_stored() {
    let mut site = Site::new("object = 100");
    let large = "x".repeat(101);
    assert_eq!(site.get(&[], (200, &[("Cache-Control", "max-age=60")], &large)).content.len(), 101);
    let mut head = response(200, &[("Cache-Control", "max-age=60")]);
    head.read_framing(Framing::Chunked);
    site.send("GET", "/chunked", &[], Served::Whole(head, large.into_bytes()));
    assert_eq!(site.handle().report().stored, 0);
    assert_eq!(site.handle().shared.collected.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn a_small_cache_stores_what_it_has_room_for_unless_told_otherwise() {
    let mut site = Site::new("memory = 1048576");
    for (length, stored) in [(262_145, 0), (262_144, 1)] {
        site.get(&[], (200, &[("Cache-Control", "max-age=60")], &"x".repeat(length)));
        assert_eq!(site.handle().report().stored, stored);
    }
}

#[test]
fn a_hit_allocates_for_its_answer_alone_and_shares_the_content() {
    let mut site = Site::new("");
    site.get(&[], FRESH);
    let mut asked = request("GET", "/", &[("Host", "a.example"), ("Accept", "*/*")]);
    let mut hit = |site: &mut Site| {
        let mut verdict = Verdict::Pass;
        let counted = allocation_counter::measure(|| {
            verdict = site.filter.request(&mut site.calls.call(), &mut asked);
        });
        (verdict, counted.count_total)
    };
    // The first one makes room for the key.
    hit(&mut site);
    let (verdict, allocations) = hit(&mut site);
    let Verdict::Answer(answer) = verdict else { panic!("{verdict:?}") };
    // The answer, its head's reason, bytes and places, its list of contents, the note, and the sentence for the flow log.
    assert!(allocations <= 7, "{allocations}");
    let Some(Record::Response(stored)) = site.handle().shared.front.get("198.51.100.1:80 a.example /") else {
        panic!("it is in memory")
    };
    assert_eq!(answer.content[0].as_ptr(), stored.content.as_ptr());
}

#[test]
fn bytes_with_slow_readers_are_bounded() {
    let mut site = Site::new("memory = 1048576\nobject = 262144");
    let large = "x".repeat(200_000);
    let fresh: (u16, &[(&str, &str)], &str) = (200, &[("Cache-Control", "max-age=60")], &large);
    site.get(&[], fresh);
    let mut held = Vec::new();
    while held.len() < 100 {
        let mut asked = request("GET", "/", &[("Host", "a.example")]);
        match site.filter.request(&mut site.calls.call(), &mut asked) {
            Verdict::Answer(answer) => held.push(answer),
            _ => break,
        }
    }
    assert_eq!((held.len(), site.handle().report().lent_bytes), (5, 1_000_000));
    held.clear();
    assert_eq!(site.handle().report().lent_bytes, 0);
}
