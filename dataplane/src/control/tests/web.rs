//! What is told of HTTP filters, and what caches are told.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::super::web::{Purged, WebReport, WebServer};
use super::*;
use crate::filters::ListReport;

const CACHE: &str = "[[filter]]\nname = \"kept\"\ntype = \"cache\"\nmemory = \"32MiB\"\n";

#[test]
fn what_filters_did_is_added_up_over_the_proxy_cores() {
    let rig = Rig::new("web");
    let report: WebReport = rig.client().get("/filters").expect("told");
    let cache = &report.filters["cache"];
    assert_eq!((cache.exchanges, cache.answered, cache.nanoseconds), (8, 6, 8_000));
    assert_eq!((cache.request_bytes, cache.response_bytes), (20, 40));
    assert_eq!((report.faults["bad_request"], report.connections["http2"]), (4, 4));
    let text = report.to_string();
    assert!(text.contains("1000 ns") && text.contains("fault bad_request: 4"), "{text}");
    let metrics = watching::by_socket(&rig, "/metrics").1;
    assert!(metrics.contains("pnat_filter_exchanges_total{filter=\"cache\"} 8"), "{metrics}");
    assert!(metrics.contains("pnat_http_faults_total{reason=\"bad_request\"} 4"), "{metrics}");
}

#[test]
fn servers_of_a_redirect_are_told_with_how_they_do() {
    let server = |port, ejected| {
        let address = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 7), port);
        WebServer { address, requests: 12, failures: 3, ejected }
    };
    let servers = [("moved".to_owned(), vec![server(80, false), server(81, true)])].into();
    let report = WebReport { servers, ..WebReport::default() };
    let told = "servers of moved:\n\
                198.51.100.7:80: 12 requests, 3 failed\n\
                198.51.100.7:81: 12 requests, 3 failed, ejected\n";
    assert!(report.to_string().contains(told), "{report}");
}

#[test]
fn a_purge_names_one_thing_and_a_cache_that_there_is() {
    let rig = Rig::new("purge");
    let purge = |question: &str| rig.client().post::<Purged>(&format!("/purge?{question}"));
    let (status, error) = refused(purge("all=true"));
    assert_eq!((status, error.as_str()), (StatusCode::BAD_REQUEST, "no filter of type cache"));
    rig.write_config(&format!("{CONFIG}{CACHE}"));
    rig.client().post::<Reloaded>("/reload").expect("reloaded");
    for question in [
        "all=true",
        "host=www.example",
        "url=http://www.example/a",
        "prefix=http://www.example/",
        "all=true&cache=kept",
    ] {
        assert_eq!(purge(question).expect(question), Purged { purged: 0 });
    }
    for (question, told) in [
        ("", "exactly one of"),
        ("all=true&host=www.example", "exactly one of"),
        ("all=true&cache=other", "no filter of type cache is named \"other\""),
        ("url=www.example", "not a URL of the form"),
    ] {
        let (status, error) = refused(purge(question));
        assert!(status == StatusCode::BAD_REQUEST && error.contains(told), "{question}: {error}");
    }
    let report: WebReport = rig.client().get("/filters").expect("told");
    assert_eq!(report.caches["kept"]["hits"], 0);
}

#[test]
fn a_purge_that_cannot_be_written_down_is_no_success() {
    let rig = Rig::new("purge-unwritten");
    let dir = rig.dir.path().join("kept");
    let lasting = format!("{CACHE}dir = {dir:?}\ndisk = \"8MiB\"\nobject = \"100KiB\"\n");
    rig.write_config(&format!("{CONFIG}{lasting}"));
    rig.client().post::<Reloaded>("/reload").expect("reloaded");
    fs::create_dir(dir.join("purges.new")).expect("a directory in the way");
    let (status, error) = refused(rig.client().post::<Purged>("/purge?all=true"));
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{error}");
    assert!(error.contains("cannot be written down"), "{error}");
}

#[test]
fn a_cache_may_have_anothers_directory_once_that_one_is_in_no_configuration() {
    let rig = Rig::new("cache-renamed");
    let dir = rig.dir.path().join("kept");
    let kept = format!("{CONFIG}{CACHE}dir = {dir:?}\ndisk = \"8MiB\"\nobject = \"100KiB\"\n");
    let renamed = kept.replace("\"kept\"\ntype", "\"renamed\"\ntype");
    let reload = |config: &str| {
        rig.write_config(config);
        rig.client().post::<Reloaded>("/reload")
    };
    reload(&kept).expect("reloaded");
    let (_, error) = refused(reload(&renamed));
    assert!(error.contains("renamed") && error.contains("dir: the cache \"kept\" has it"), "{error}");
    let (_, error) = refused(reload(&kept.replace("32MiB", "64MiB")));
    assert!(error.contains("memory: cannot change"), "{error}");
    assert!(rig.client().get::<WebReport>("/filters").expect("told").caches.contains_key("kept"));
    reload(CONFIG).expect("reloaded");
    reload(&renamed).expect("reloaded");
    let caches = rig.client().get::<WebReport>("/filters").expect("told").caches;
    assert_eq!(caches.keys().collect::<Vec<_>>(), ["renamed"]);
}

#[test]
fn lists_are_told_with_their_entries_and_their_age() {
    let list = |category: &str, skipped| ListReport {
        path: format!("/etc/{category}.txt").into(),
        category: category.to_owned(),
        entries: 2_000,
        skipped,
        written: 1_795_413_600,
    };
    let lists = [("unwanted".to_owned(), vec![list("ads", 3), list("games", 0)])].into();
    let report = WebReport { lists, ..WebReport::default() };
    let told = "lists of unwanted:\n\
                /etc/ads.txt (ads): 2000 entries, 3 lines skipped, of 2026-11-23T06:00:00Z\n\
                /etc/games.txt (games): 2000 entries, 0 lines skipped, of 2026-11-23T06:00:00Z\n";
    assert!(report.to_string().contains(told), "{report}");
}
