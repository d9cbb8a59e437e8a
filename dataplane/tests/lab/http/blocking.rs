//! The `url-block` filter: pages in the servers' place, whom and when it concerns, and lists that change while the gateway runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::talk::ask;
use super::{OTHER_CLIENTS, chain, curl, other_clients, requests_of};
use crate::fixture::{Lab, text, wait_until};
use crate::hosts::{CLIENT, SERVER_ADDRESS, finish};

/// Files are looked at every 2 s, and read once they rest.
const NOTICED: Duration = Duration::from_secs(15);

#[test]
fn a_listed_name_gets_a_page_instead_and_the_server_sees_nothing_of_it() {
    let list = List::new("arena-names", "# a comment\nads.example\nblocked.example\n");
    let lab = Lab::start(&chain(&[&url_block("urls", &list)]));

    let blocked = curl(&["-w", " %{http_code}", "http://blocked.example/word"]);
    let page = curl(&["http://www.lab.example/word"]);

    assert!(blocked.ends_with(" 403"), "{blocked}");
    assert!(blocked.contains("blocked.example"), "the page names it: {blocked}");
    assert_eq!(page, "I am a little teapot, short and stout.\n");
    assert_eq!(requests_of(&lab, "/word"), 1);
}

#[test]
fn lists_that_change_hold_for_the_next_request_and_broken_ones_change_nothing() {
    let swapped = List::new("swapped", "first.example\n");
    let gone = List::new("gone", "gone.example\n");
    let spoiled = List::new("spoiled", "spoiled.example\n");
    let sections = [("one", &swapped), ("two", &gone), ("three", &spoiled)];
    let sections = sections.map(|(name, list)| url_block(name, list));
    let lab = Lab::start(&chain(&sections.each_ref().map(String::as_str)));
    let mut open = CLIENT.connect(SERVER_ADDRESS, 80);
    assert_eq!(ask(&mut open, "second.example", "/word"), 200);
    assert_eq!(status("first.example", &[]), "403");
    let download = CLIENT.spawn(|| curl(&["-H", "Host: second.example", "http://198.18.0.2/slow/text"]));

    swapped.replace("second.example\nthird.example\n");
    fs::remove_file(&gone.0).unwrap();
    spoiled.replace("<!doctype html>\n<title>502 Bad Gateway</title>\n");

    wait_until(NOTICED, "the new list is in force", || status("second.example", &[]) == "403");
    assert_eq!(status("first.example", &[]), "200");
    assert_eq!(ask(&mut open, "second.example", "/word"), 403, "on a connection from before");
    assert!(finish(download) == fs::read_to_string(lab.file("www/text")).unwrap(), "what was under way");
    for (list, reason) in [(&gone, "No such file"), (&spoiled, "none of its 2 lines is an entry")] {
        let told = || {
            let log = fs::read_to_string(lab.file("log/gateway.log")).unwrap();
            let tells = |line: &str| {
                line.contains("lists stay as they were")
                    && line.contains(list.path())
                    && line.contains(reason)
            };
            log.lines().any(tells)
        };
        wait_until(NOTICED, reason, told);
    }
    for name in ["gone.example", "spoiled.example"] {
        assert_eq!(status(name, &[]), "403", "{name} is blocked as before");
    }
}

#[test]
fn clients_and_hours_decide_what_is_unwanted() {
    let (ads, games) = (List::new("ads", "ads.example\n"), List::new("games", "games.example\n"));
    let [grown_up, early_bird] = OTHER_CLIENTS;
    let (now, later) = (hours(-60, 60), hours(120, 180));
    let _lab = Lab::start(&chain(&[&format!(
        r#"
        [[filter]]
        name = "urls"
        type = "url-block"
        lists = [{{ path = "{}", category = "ads" }}, {{ path = "{}", category = "games" }}]
        categories = ["ads"]
        groups = [
            {{ clients = ["{grown_up}/32"], categories = [] }},
            {{ clients = ["{early_bird}/32"], categories = ["games"], hours = "{later}" }},
            {{ clients = ["10.77.1.2/32"], categories = ["ads", "games"], hours = "{now}" }},
        ]"#,
        ads.path(),
        games.path()
    )]));
    other_clients();

    let statuses =
        |client: &str| ["ads.example", "games.example"].map(|host| status(host, &["--interface", client]));

    assert_eq!(statuses("10.77.1.2"), ["403", "403"], "it is the time of its group");
    assert_eq!(statuses(grown_up), ["200", "200"], "nothing is unwanted for its group");
    assert_eq!(statuses(early_bird), ["403", "200"], "it is not the time of its group");
}

fn url_block(name: &str, list: &List) -> String {
    format!(
        "[[filter]]\nname = \"{name}\"\ntype = \"url-block\"\nlists = [{{ path = \"{}\", category = \"ads\" }}]",
        list.path()
    )
}

/// What a page of this host is answered by.
fn status(host: &str, args: &[&str]) -> String {
    let host = format!("Host: {host}");
    let ask = ["-o", "/dev/null", "-w", "%{http_code}", "-H", &host, "http://198.18.0.2/word"];
    curl(&[&ask, args].concat())
}

/// Hours around now, in minutes from now.
fn hours(from: i64, until: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 60;
    let clock = |minutes: i64| {
        let minute = now.checked_add_signed(minutes).unwrap() % (24 * 60);
        format!("{:02}:{:02}", minute / 60, minute % 60)
    };
    format!("{}-{}", clock(from), clock(until))
}

/// A file of names, gone at the end.
struct List(PathBuf);

impl List {
    fn new(name: &str, names: &str) -> Self {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        fs::write(&path, names).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        text(&self.0)
    }

    /// Puts another file in its place.
    fn replace(&self, names: &str) {
        let new = Path::new(self.path()).with_extension("new");
        fs::write(&new, names).unwrap();
        fs::rename(new, &self.0).unwrap();
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // A test may have removed it.
        let _ = fs::remove_file(&self.0);
    }
}
