//! Of many requests for what is not there, one goes to the server.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use super::*;

const FRESH: (u16, &[(&str, &str)], &str) = (200, &[("Cache-Control", "max-age=60")], "content");

fn root() -> Request {
    request("GET", "/", &[("Host", "a.example")])
}

fn content(verdict: Verdict) -> (Vec<u8>, Option<String>) {
    let Verdict::Answer(answer) = verdict else { panic!("{verdict:?}") };
    let status = answer.response.fields().text("cache-status").map(str::to_owned);
    (answer.content.concat(), status)
}

#[test]
fn who_comes_later_waits_for_the_first_ones_response() {
    let (mut first, mut request) = (Site::new(""), root());
    let (mut second, mut other) = (first.beside(), root());
    assert_eq!(first.step(&mut request), Verdict::Pass);
    assert_eq!(second.step(&mut other), Verdict::Wait);
    assert_eq!(second.calls.wake, Some(second.calls.now + Duration::from_secs(5)));
    first.serve(&request, whole(FRESH));
    first.handle().settle();
    second
        .calls
        .gateway
        .answers
        .recv_timeout(NEVER)
        .map(|reply| second.filter.answered(&mut second.calls.call(), reply))
        .unwrap();
    let (bytes, status) = content(second.step(&mut other));
    assert_eq!(
        (&bytes[..], status.as_deref()),
        (&b"content"[..], Some("PNAT; fwd=uri-miss; collapsed; ttl=60"))
    );
    assert_eq!(first.handle().report().collapsed, 1);
}

#[test]
fn who_waits_goes_in_the_place_of_one_that_fails() {
    let (mut first, mut request) = (Site::new(""), root());
    let (mut second, mut other) = (first.beside(), root());
    let (mut third, mut another) = (first.beside(), root());
    assert_eq!(first.step(&mut request), Verdict::Pass);
    assert_eq!((second.step(&mut other), third.step(&mut another)), (Verdict::Wait, Verdict::Wait));
    first.serve(&request, Served::Failure(Failure::Timeout));
    first.filter.done(&mut first.calls.call(), &request, None, &testkit::record(None));
    first.handle().settle();
    let reply = second.calls.gateway.answers.recv_timeout(NEVER).unwrap();
    second.filter.answered(&mut second.calls.call(), reply);
    assert_eq!((second.step(&mut other), third.step(&mut another)), (Verdict::Pass, Verdict::Wait));
    // Its connection is gone, with all that belongs to it.
    drop(second);
    let reply = third.calls.gateway.answers.recv_timeout(NEVER).unwrap();
    third.filter.answered(&mut third.calls.call(), reply);
    assert_eq!(third.step(&mut another), Verdict::Pass);
}

#[test]
fn section_5_2_1_4_who_asks_for_what_is_new_waits_for_nobody_and_nobody_for_them() {
    for control in ["no-cache", "max-age=0"] {
        let (mut first, mut request) = (Site::new(""), root());
        assert_eq!(first.step(&mut request), Verdict::Pass);
        let mut reload = first.beside();
        let mut anew = testkit::request("GET", "/", &[("Host", "a.example"), ("Cache-Control", control)]);
        assert_eq!(reload.step(&mut anew), Verdict::Pass, "{control}");
        let (mut third, mut other) = (first.beside(), root());
        assert_eq!(third.step(&mut other), Verdict::Wait);
        first.serve(&request, whole(FRESH));
        first.handle().settle();
        let reply = third.calls.gateway.answers.recv_timeout(NEVER).unwrap();
        third.filter.answered(&mut third.calls.call(), reply);
        assert_eq!(content(third.step(&mut other)).0, b"content", "{control}");
        // What lies in store now was asked for before.
        let mut reload = first.beside();
        let mut anew = testkit::request("GET", "/", &[("Host", "a.example"), ("Cache-Control", control)]);
        assert_eq!(reload.step(&mut anew), Verdict::Pass, "{control}");
    }
}

#[test]
fn what_was_asked_for_first_takes_not_the_place_of_what_was_asked_for_later() {
    for varies in [false, true] {
        let mut fields = vec![("Cache-Control", "max-age=60")];
        fields.extend(varies.then_some(("Vary", "A")));
        let (mut slow, mut request) = (Site::new(""), root());
        assert_eq!(slow.step(&mut request), Verdict::Pass);
        let (mut waits, mut other) = (slow.beside(), root());
        assert_eq!(waits.step(&mut other), Verdict::Wait);
        let mut reload = slow.beside();
        reload.pass(1);
        assert_eq!(reload.get(&[("Cache-Control", "no-cache")], (200, &fields, "new")).text(), "new");
        slow.serve(&request, whole((200, &fields, "old")));
        slow.handle().settle();
        assert_eq!(reload.get_stored(&[]).text(), "new", "varies: {varies}");
        let reply = waits.calls.gateway.answers.recv_timeout(NEVER).unwrap();
        waits.filter.answered(&mut waits.calls.call(), reply);
        assert_eq!(content(waits.step(&mut other)).0, b"new", "varies: {varies}");
    }
}

#[test]
fn nobody_waits_for_what_is_not_to_be_stored() {
    let (mut first, mut request) = (Site::new(""), root());
    let (mut second, mut other) = (first.beside(), root());
    assert_eq!((first.step(&mut request), second.step(&mut other)), (Verdict::Pass, Verdict::Wait));
    first.serve(&request, whole((200, &[("Cache-Control", "no-store")], "mine")));
    first.handle().settle();
    let reply = second.calls.gateway.answers.recv_timeout(NEVER).unwrap();
    second.filter.answered(&mut second.calls.call(), reply);
    assert_eq!(second.step(&mut other), Verdict::Pass);
    // It is remembered for a while, so that the next ones do not even ask.
    let (mut third, mut another) = (first.beside(), root());
    assert_eq!(third.filter.request(&mut third.calls.call(), &mut another), Verdict::Pass);
    // The response may be another one after all.
    third.serve(&another, whole(FRESH));
    third.handle().settle();
    first.get_stored(&[]);
}

#[test]
fn one_waits_for_a_bounded_time_and_with_a_bounded_number_of_others() {
    let (mut first, mut request) = (Site::new("waiting = 1\nwait = \"2s\""), root());
    assert_eq!(first.step(&mut request), Verdict::Pass);
    let (mut second, mut other) = (first.beside(), root());
    assert_eq!(second.step(&mut other), Verdict::Wait);
    let (mut third, mut another) = (first.beside(), root());
    assert_eq!(third.step(&mut another), Verdict::Pass, "one waits already");
    second.pass(1);
    assert_eq!(second.step(&mut other), Verdict::Wait);
    second.pass(1);
    assert_eq!(second.step(&mut other), Verdict::Pass);
    let (mut fourth, mut late) = (first.beside(), root());
    fourth.pass(3);
    assert_eq!(fourth.step(&mut late), Verdict::Pass, "the first one is too slow to be waited for");
}

#[test]
fn a_reply_that_comes_too_late_is_no_harm() {
    let (mut first, mut request) = (Site::new("wait = \"2s\""), root());
    let (mut second, mut other) = (first.beside(), root());
    assert_eq!((first.step(&mut request), second.step(&mut other)), (Verdict::Pass, Verdict::Wait));
    second.pass(2);
    assert_eq!(second.step(&mut other), Verdict::Pass);
    drop(first);
    let reply = second.calls.gateway.answers.recv_timeout(NEVER).unwrap();
    second.filter.answered(&mut second.calls.call(), reply);
    // It was to lead, and has not taken it: somebody else can.
    let (mut third, mut another) = (second.beside(), root());
    assert_eq!(third.step(&mut another), Verdict::Pass);
    assert_eq!(third.serve(&another, whole(FRESH)).text(), "content");
    third.handle().settle();
    third.get_stored(&[]);
}

#[test]
fn requests_pass_where_the_cache_has_ended() {
    let mut site = Site::new("");
    site.get(&[], FRESH);
    site.handle().jobs.send(Job::Stop).unwrap();
    // Jobs are heard until then; this one is the first that is not.
    while site.handle().jobs.send(Job::Stop).is_ok() {
        thread::yield_now();
    }
    assert_eq!(site.get(&[], (200, &[], "new")).text(), "new");
    assert_eq!(site.get(&[], (200, &[], "newer")).text(), "newer");
}

#[test]
fn threads_that_ask_for_the_same_at_once_ask_the_server_once() {
    const THREADS: usize = 4;
    for _ in 0..20 {
        let site = Site::new("");
        let (asked, start) = (AtomicUsize::new(0), Barrier::new(THREADS));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                let mut own = site.beside();
                let (asked, start) = (&asked, &start);
                scope.spawn(move || {
                    start.wait();
                    assert_eq!(own.get(&[], FRESH).text(), "content");
                    asked.fetch_add(own.asked.len(), Relaxed);
                });
            }
        });
        assert_eq!(asked.into_inner(), 1);
        let report = site.handle().report();
        assert_eq!((report.hits, report.misses, report.stored), (THREADS as u64 - 1, 1, 1));
    }
}

#[test]
fn who_waited_for_what_answers_nobody_else_goes_to_the_server_at_once() {
    for control in ["no-cache", "max-age=0"] {
        let served: (u16, &[(&str, &str)], &str) =
            (200, &[("Cache-Control", control), ("ETag", "\"a\"")], "content");
        let (mut first, mut request) = (Site::new(""), root());
        let mut others: Vec<_> = (0..7).map(|_| (first.beside(), root())).collect();
        assert_eq!(first.step(&mut request), Verdict::Pass);
        for (site, request) in &mut others {
            assert_eq!(site.step(request), Verdict::Wait);
        }
        first.serve(&request, whole(served));
        first.handle().settle();
        for (site, request) in &mut others {
            let reply = site.calls.gateway.answers.recv_timeout(NEVER).unwrap();
            site.filter.answered(&mut site.calls.call(), reply);
            assert_eq!(site.step(request), Verdict::Pass, "{control}");
            assert_eq!(request.fields().text("if-none-match"), Some("\"a\""));
        }
    }
}

#[test]
fn content_counts_as_on_its_way_until_it_is_stored() {
    let (mut site, mut request) = (Site::new(""), root());
    assert_eq!(site.step(&mut request), Verdict::Pass);
    let handle = site.handle();
    let (done, is_done) = crossbeam_channel::bounded(0);
    handle.jobs.send(Job::Sync(done)).unwrap();
    site.serve(&request, whole(FRESH));
    assert_eq!(handle.shared.collected.load(Relaxed), "content".len() as u64);
    is_done.recv().unwrap();
    handle.settle();
    assert_eq!(handle.shared.collected.load(Relaxed), 0);
}
