//! What does not hold any more: by requests that change it, by operators (RFC 9111 section 4.4).

use super::*;

const FRESH: (u16, &[(&str, &str)], &str) = (200, &[("Cache-Control", "max-age=60")], "old");
const NEW: (u16, &[(&str, &str)], &str) = (200, &[("Cache-Control", "max-age=60")], "new");

fn at(target: &str) -> Request {
    request("GET", target, &[("Host", "a.example")])
}

#[test]
fn section_4_4_a_change_that_succeeds_invalidates_what_it_names() {
    for (method, status, expected) in [
        ("POST", 200, "new"),
        ("PUT", 204, "new"),
        ("M-SEARCH", 302, "new"),
        ("DELETE", 500, "old"),
        ("OPTIONS", 200, "old"),
    ] {
        let mut site = Site::new("");
        site.get(&[], FRESH);
        site.send(method, "/", &[], whole((status, &[], "")));
        assert_eq!(site.get(&[], NEW).text(), expected, "{method} {status}");
    }
}

#[test]
fn section_4_4_locations_on_the_same_origin_are_invalidated_too() {
    for (name, value, expected) in [
        ("Location", "/x?y", "new"),
        ("Content-Location", "http://a.example/x?y", "new"),
        ("Location", "http://b.example/x?y", "old"),
    ] {
        let mut site = Site::new("");
        site.exchange(at("/x?y"), whole(FRESH));
        site.send("POST", "/", &[], whole((201, &[(name, value)], "")));
        assert_eq!(site.exchange(at("/x?y"), whole(NEW)).text(), expected, "{name} {value}");
    }
}

#[test]
fn what_was_asked_for_before_a_change_is_not_stored_after_it() {
    let mut site = Site::new("");
    let mut other = site.beside();
    let mut early = at("/");
    assert_eq!(other.step(&mut early), Verdict::Pass);
    site.send("POST", "/", &[], whole((200, &[], "")));
    assert_eq!(other.serve(&early, whole(FRESH)).text(), "old");
    other.handle().settle();
    assert_eq!(site.get(&[], NEW).text(), "new");
}

#[test]
fn all_variants_of_what_was_changed_are_out_of_reach_for_ever() {
    let mut site = Site::new("");
    let varying: &[(&str, &str)] = &[("Cache-Control", "max-age=60"), ("Vary", "A")];
    for value in ["1", "2"] {
        site.get(&[("A", value)], (200, varying, "old"));
    }
    site.send("PUT", "/", &[], whole((200, &[], "")));
    assert_eq!(site.get(&[("A", "1")], (200, varying, "new")).text(), "new");
    assert_eq!(site.get(&[("A", "2")], (200, varying, "new")).text(), "new");
}

#[test]
fn a_purge_removes_what_it_names_and_answers_how_much() {
    let purges = [
        (Purge::Url("http://a.example/x/1".into()), 1),
        (Purge::Prefix("http://a.example/x/".into()), 2),
        (Purge::Host("A.example".into()), 3),
        (Purge::All, 4),
    ];
    for (purge, expected) in purges {
        let mut site = Site::new("");
        for target in ["/x/1", "/x/2", "/y"] {
            site.exchange(at(target), whole(FRESH));
        }
        site.exchange(request("GET", "/", &[("Host", "b.example")]), whole(FRESH));
        let now = site.calls.gateway.unix_time;
        assert_eq!(site.handle().purge(&purge, now), Ok(expected), "{purge:?}");
        let left = ["/x/1", "/x/2", "/y"]
            .iter()
            .filter(|target| site.exchange(at(target), whole(NEW)).text() == "old");
        assert_eq!(left.count() as u64, (4 - expected).saturating_sub(1), "{purge:?}");
        assert_eq!(site.handle().report().purged, expected);
    }
}

#[test]
fn a_purge_reaches_what_is_on_its_way() {
    let mut site = Site::new("");
    let mut early = at("/");
    assert_eq!(site.step(&mut early), Verdict::Pass);
    let now = site.calls.gateway.unix_time;
    assert_eq!(site.handle().purge(&Purge::Host("a.example".into()), now), Ok(0));
    site.serve(&early, whole(FRESH));
    assert_eq!(site.get(&[], NEW).text(), "new");
    assert!(site.handle().purge(&Purge::Url("ftp://a.example/".into()), now).is_err());
}

#[test]
fn a_purge_by_a_clock_that_was_ahead_keeps_nothing_from_being_stored_once_it_is_right() {
    let mut site = Site::new("");
    let ahead = site.calls.gateway.unix_time + Duration::from_secs(365 * 86400);
    site.get(&[], FRESH);
    site.handle().purge(&Purge::All, ahead).unwrap();
    assert_eq!(site.get(&[], NEW).text(), "new");
    site.pass(1);
    assert_eq!(site.exchange(at("/x"), whole(NEW)).text(), "new");
    assert_eq!(site.exchange(at("/x"), whole(FRESH)).text(), "new", "stored");
}

#[test]
fn what_changes_while_the_caches_thread_is_behind_is_not_answered_and_its_jobs_are_bounded() {
    let mut site = Site::new("");
    site.get(&[], FRESH);
    let mut other = site.beside();
    let mut early = at("/early");
    assert_eq!(other.step(&mut early), Verdict::Pass);
    let handle = site.handle();
    // It waits for who takes this.
    let (done, is_done) = crossbeam_channel::bounded(0);
    handle.jobs.send(Job::Sync(done)).unwrap();
    let change = request("POST", "/", &[("Host", "a.example")]);
    for _ in 0..MOST_JOBS + 100 {
        assert_eq!(site.filter.request(&mut site.calls.call(), &mut change.clone()), Verdict::Pass);
        site.serve(&change, whole((200, &[], "")));
    }
    let changed = request("POST", "/early", &[("Host", "a.example")]);
    site.calls.gateway.unix_time += Duration::from_secs(1);
    assert_eq!(site.filter.request(&mut site.calls.call(), &mut changed.clone()), Verdict::Pass);
    site.serve(&changed, whole((200, &[], "")));
    assert!(handle.jobs.len() <= MOST_JOBS, "{} jobs", handle.jobs.len());
    is_done.recv().unwrap();
    handle.settle();
    other.serve(&early, whole(FRESH));
    handle.settle();
    assert_eq!(site.exchange(at("/early"), whole(NEW)).text(), "new");
    assert_eq!(site.get(&[], NEW).text(), "new");
}
