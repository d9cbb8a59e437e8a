//! The filter as its user meets it: files, requests, verdicts.

use super::*;
use crate::filters::Lasting;
use crate::testkit::{self, Calls, SERVER};

/// A directory of lists, and the filter with these keys beside them; `DIR` stands for the directory.
struct Lab {
    dir: tempfile::TempDir,
    lasting: Lasting,
    calls: Calls,
}

impl Lab {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            fs::write(dir.path().join(name), text).expect("a file");
        }
        Self { dir, lasting: Lasting::default(), calls: Calls::default() }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn configure(&self, keys: &str) -> Result<Arc<dyn HttpFactory>, ConfigFault> {
        let keys = keys.replace("DIR", &self.path().display().to_string());
        testkit::configure(configure, &self.lasting, &keys)
    }

    fn filter(&self, keys: &str) -> Box<dyn HttpFilter> {
        self.configure(keys).expect("the keys are right").filter()
    }

    fn request(&mut self, filter: &mut dyn HttpFilter, target: &str, host: &str) -> Verdict {
        let mut request = testkit::request("GET", target, &[("Host", host)]);
        self.calls.exchange.verdict = None;
        let verdict = filter.request(&mut self.calls.call(), &mut request);
        assert!(!request.is_edited());
        assert_eq!(verdict == Verdict::Pass, self.calls.exchange.verdict.is_none());
        verdict
    }
}

const ADS: &str = r#"lists = [{ path = "DIR/ads.txt", category = "ads" }]
"#;

fn answer(verdict: Verdict) -> Box<Answer> {
    match verdict {
        Verdict::Answer(answer) => answer,
        other => panic!("an answer, not {other:?}"),
    }
}

#[test]
fn an_unwanted_domain_is_answered_by_a_page_that_says_why() {
    let mut lab = Lab::new(&[("ads.txt", "0.0.0.0 ads.example\n")]);
    let mut filter = lab.filter(ADS);
    assert_eq!(lab.request(&mut *filter, "/", "example"), Verdict::Pass);
    let answer = answer(lab.request(&mut *filter, "/x?<y>", "WWW.ads.example:80"));
    assert_eq!(answer.response.status(), 403);
    assert_eq!(answer.response.fields().text("cache-control"), Some("no-store"));
    let html = String::from_utf8(answer.content.concat()).expect("text");
    for part in
        ["http:&#x2f;&#x2f;WWW.ads.example:80&#x2f;x?&lt;y&gt;", "www.ads.example", "10.0.0.5", ">ads<"]
    {
        assert!(html.contains(part), "{part} in {html}");
    }
    let verdict = lab.calls.exchange.verdict.clone().expect("a verdict");
    assert_eq!(*verdict, *format!("ads.example is in {} (ads)", lab.path().join("ads.txt").display()));
}

#[test]
fn no_spelling_of_a_url_evades_its_entry() {
    let mut lab = Lab::new(&[("ads.txt", "ads.example\nnews.example/ads\n198.51.100.9")]);
    let mut filter = lab.filter(&format!("{ADS}answer = \"reset\""));
    for (target, host) in [
        ("/", "ADS.example."),
        ("/", "%61ds.example:8080"),
        ("http://ads.example/", "good.example"),
        ("HTTP://x@ads.example:80", "good.example"),
        ("/x/..//%61ds/./y?z", "sub.news.example"),
        ("/ads%2fy", "news.example"),
        ("/", "0xC6336409"),
        ("/", "198.51.25609"),
        ("/", "[::ffff:198.51.100.9]"),
    ] {
        assert_eq!(lab.request(&mut *filter, target, host), Verdict::Reset, "{target} at {host}");
    }
    for (target, host) in [
        ("/?http://ads.example/", "good.example"),
        ("http://good.example/", "ads.example"),
        ("/adsense", "news.example"),
        ("/", "badads.example"),
        ("/", "ads.example.org"),
    ] {
        assert_eq!(lab.request(&mut *filter, target, host), Verdict::Pass, "{target} at {host}");
    }
}

#[test]
fn where_no_host_is_named_the_servers_address_counts() {
    let mut lab = Lab::new(&[("ads.txt", &SERVER.ip().to_string())]);
    let mut filter = lab.filter(&format!("{ADS}answer = \"reset\""));
    for host in ["", "not a host", ":80"] {
        assert_eq!(lab.request(&mut *filter, "/", host), Verdict::Reset, "{host:?}");
    }
    assert_eq!(lab.request(&mut *filter, "/", "example"), Verdict::Pass);
}

#[test]
fn the_target_of_a_connect_is_a_host() {
    let mut lab = Lab::new(&[("ads.txt", "ads.example")]);
    let mut filter = lab.filter(&format!("{ADS}answer = \"reset\""));
    let mut request = testkit::request("CONNECT", "www.ads.example:443", &[("Host", "good.example")]);
    assert_eq!(filter.request(&mut lab.calls.call(), &mut request), Verdict::Reset);
}

#[test]
fn exceptions_hold_for_their_category_and_those_of_allow_for_all() {
    let mut lab = Lab::new(&[
        ("ads.txt", "||a.example^\n||b.example^\n||c.example^"),
        ("more.txt", "@@||a.example^"),
        ("bad.txt", "x.a.example\nx.b.example"),
    ]);
    let mut filter = lab.filter(
        r#"lists = [
            { path = "DIR/ads.txt", category = "ads", format = "adblock" },
            { path = "DIR/more.txt", category = "ads" },
            { path = "DIR/bad.txt", category = "malware", format = "plain" },
        ]
        allow = ["b.example", "c.example/good"]
        answer = 451"#,
    );
    for (host, path, passes) in [
        ("a.example", "/", true),
        ("x.a.example", "/", false),
        ("x.b.example", "/", true),
        ("c.example", "/", false),
        ("c.example", "/good/x", true),
    ] {
        let verdict = lab.request(&mut *filter, path, host);
        assert_eq!(verdict == Verdict::Pass, passes, "{host}{path}");
        if !passes {
            let answer = answer(verdict);
            let response = &answer.response;
            let told = (response.status(), response.reason(), answer.len());
            assert_eq!(told, (451, "Unavailable For Legal Reasons", 0));
        }
    }
}

#[test]
fn groups_decide_by_client_and_time_and_categories_for_all_others() {
    let mut lab = Lab::new(&[("ads.txt", "ads.example"), ("games.txt", "games.example")]);
    let mut filter = lab.filter(
        r#"lists = [
            { path = "DIR/ads.txt", category = "ads" },
            { path = "DIR/games.txt", category = "games" },
        ]
        categories = ["ads"]
        groups = [{ clients = ["10.0.0.0/24"], categories = ["games"], hours = "06:00-07:00", days = "mon" }]
        answer = "reset""#,
    );
    let mut both = |lab: &mut Lab| {
        ["ads.example", "games.example"].map(|host| lab.request(&mut *filter, "/", host) == Verdict::Reset)
    };
    assert_eq!(both(&mut lab), [false, true]);
    lab.calls.gateway.unix_time += pnat_shared::time::Duration::from_secs(3600);
    assert_eq!(both(&mut lab), [true, false]);
}

#[test]
fn a_page_of_ones_own_is_filled_in() {
    let mut lab = Lab::new(&[
        ("ads.txt", "ads.example/x"),
        ("page.html", "{{ url }}|{{ host }}|{{ category }}|{{ client }}|{{ rule }}"),
    ]);
    let mut filter = lab.filter(&format!("{ADS}page = \"DIR/page.html\""));
    let answer = answer(lab.request(&mut *filter, "/x/y", "WWW.ads.example"));
    let html = String::from_utf8(answer.content.concat()).expect("text").replace("&#x2f;", "/");
    assert_eq!(html, "http://WWW.ads.example/x/y|www.ads.example|ads|10.0.0.5|ads.example/x");
}

#[test]
fn a_fault_is_told_by_its_key() {
    let lab = Lab::new(&[("ads.txt", ""), ("page.html", "{{ nonsense }}")]);
    for (keys, key, word) in [
        ("", ".", "lists"),
        ("lists = []\ncolour = 1", "colour", "unknown"),
        ("lists = 'DIR/ads.txt'", "lists", "expected a list"),
        ("lists = ['DIR/ads.txt']", "lists[0]", "expected a table"),
        ("lists = [{ path = 'DIR/none.html' }]", "lists[0].path", "No such file"),
        (
            "lists = [{ path = 'DIR/page.html', format = 'hosts' }]",
            "lists[0].path",
            "none of its 1 lines is an entry",
        ),
        ("lists = [{ path = \"DIR/none.txt\" }]", "lists[0].path", "none.txt"),
        ("lists = [{ path = \"DIR/ads.txt\", format = \"csv\" }]", "lists[0].format", "csv"),
        ("lists = []\nanswer = 200", "answer", "200"),
        ("lists = []\nanswer = \"no\"", "answer", "reset"),
        ("lists = []\ncategories = [\"ads\"]", "categories[0]", "ads"),
        ("lists = []\npage = \"DIR/none.html\"", "page", "none.html"),
        ("lists = []\npage = \"DIR/page.html\"", "page", "undefined"),
        (
            "lists = []\ngroups = [{ categories = [], clients = [\"10.0.0.0/33\"] }]",
            "groups[0].clients[0]",
            "no network",
        ),
        ("lists = []\nanswer = 404\npage = \"DIR/page.html\"", "page", "only"),
        ("lists = []\ntime_zone = \"Nowhere\"", "time_zone", "Nowhere"),
    ] {
        let fault = lab.configure(keys).expect_err(keys);
        assert_eq!(fault.key, key, "{fault}");
        assert!(fault.message.contains(word), "{fault}");
    }
}

#[test]
fn a_lookup_allocates_nothing_once_it_is_warm() {
    let mut lab = Lab::new(&[("ads.txt", &testkit::block_list(1000))]);
    let mut filter = lab.filter(ADS);
    let mut request = testkit::request("GET", "/a/b?c", &[("Host", "www.example.com")]);
    let mut pass = || filter.request(&mut lab.calls.call(), &mut request);
    assert_eq!(pass(), Verdict::Pass);
    let counted = allocation_counter::measure(|| assert_eq!(pass(), Verdict::Pass));
    assert_eq!(counted.count_total, 0);
}
