//! What the lists hold is what a naive set says.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::testkit::block_list;

/// Lists whose texts are plain, the first with bit 0.
fn lists(texts: &[&str]) -> Lists {
    let mut builder = Builder::default();
    for (bit, text) in texts.iter().enumerate() {
        builder.add_list(text.as_bytes(), Format::Auto, 1 << bit, 1 << bit);
    }
    builder.build().expect("a few entries")
}

/// The entries that cover a place, and the lists they are in.
fn found(lists: &Lists, authority: &str, path: &str) -> Vec<(String, u64)> {
    let mut place = Place::default();
    place.read(authority.as_bytes(), path.as_bytes()).expect("a host");
    let mut found = Vec::new();
    lists.walk(&place, |membership, covered| found.push((covered.spell(&place), membership.listed)));
    found
}

#[test]
fn a_walk_meets_every_entry_that_covers_a_place_from_the_widest_on() {
    let lists =
        lists(&["example.com\nwww.example.com/ads\n*.www.example.com", "example.com/ads/top\nexample.com"]);
    assert_eq!(lists.len(), 4);
    assert_eq!(found(&lists, "com", "/"), []);
    assert_eq!(found(&lists, "notexample.com", "/"), []);
    assert_eq!(found(&lists, "example.com", "/ads"), [("example.com".to_owned(), 3)]);
    assert_eq!(
        found(&lists, "a.WWW.example.com:80", "/ads/x/../top/?q"),
        [
            ("example.com".to_owned(), 3),
            ("example.com/ads/top".to_owned(), 2),
            ("*.www.example.com".to_owned(), 1),
            ("www.example.com/ads".to_owned(), 1),
        ]
    );
}

#[test]
fn addresses_have_no_subdomains() {
    let lists = lists(&["198.51.100.7\n[2001:db8::1]/x"]);
    assert_eq!(found(&lists, "0xc6336407", "/a"), [("198.51.100.7".to_owned(), 1)]);
    assert_eq!(found(&lists, "1.198.51.100.7", "/"), [], "five numbers are a name");
    assert_eq!(found(&lists, "198.51.100.8", "/"), []);
    assert_eq!(found(&lists, "[2001:DB8:0::1]:80", "/x/"), [("2001:db8::1/x".to_owned(), 1)]);
}

#[test]
fn a_query_belongs_to_an_entry_as_a_whole() {
    let lists = lists(&["a.example/p?id=3"]);
    assert_eq!(found(&lists, "a.example", "/p?id=3").len(), 1);
    for path in ["/p", "/p?id=31", "/p?", "/p/?id=3x", "/p%3Fid=3"] {
        assert_eq!(found(&lists, "a.example", path), [], "{path}");
    }
}

#[test]
fn lines_that_are_no_places_are_counted() {
    let mut builder = Builder::default();
    let text = "! a list\nads.example\n||b.example^$image\n0.0.0.0 c.example c..example bad*.name\n*.d.example/x\n@@||e.example^\n";
    let tally = builder.add_list(text.as_bytes(), Format::Auto, 1, 1);
    assert_eq!(tally, Tally { entries: 4, skipped: 3 });
    assert_eq!(builder.build().expect("a few entries").len(), 3);
}

/// The guess of the module's documentation, and what `conf/pnat.toml` promises. Random names have less in common than real ones.
#[test]
fn a_name_takes_at_most_24_bytes() {
    const NAMES: usize = 50_000;
    let mut builder = Builder::default();
    builder.add_list(block_list(NAMES).as_bytes(), Format::Auto, 1, 1);
    let lists = builder.build().expect("that is not much");
    assert_eq!(lists.len(), NAMES);
    assert!(lists.bytes() <= 24 * NAMES, "{} bytes", lists.bytes());
}

/// An entry as an operator thinks of it.
#[derive(Clone, Debug)]
struct Rule {
    host: Vec<&'static str>,
    path: Vec<&'static str>,
    is_below: bool,
}

impl Rule {
    fn text(&self) -> String {
        let below = if self.is_below { "*." } else { "" };
        let path: String = self.path.iter().map(|segment| format!("/{segment}")).collect();
        format!("{below}{}{path}", self.host.join("."))
    }

    /// Whether a place is covered, without any cleverness.
    fn covers(&self, host: &[&str], path: &[&str]) -> bool {
        host.ends_with(&self.host)
            && path.starts_with(&self.path)
            && (!self.is_below || host.len() > self.host.len())
    }
}

/// Few labels, so that random places meet random entries; some begin or end as others do.
fn labels() -> impl Strategy<Value = Vec<&'static str>> {
    vec(prop::sample::select(vec!["a", "b", "ab", "a-", "com", "xn--a", "_a"]), 1..5)
}

fn segments() -> impl Strategy<Value = Vec<&'static str>> {
    vec(prop::sample::select(vec!["a", "b", "ab", "a.b", "*", "com."]), 0..4)
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let rule = (labels(), segments(), any::<bool>()).prop_map(|(host, path, is_below)| Rule {
        is_below: is_below && path.is_empty(),
        host,
        path,
    });
    vec(rule, 0..20)
}

proptest! {
    #[test]
    fn what_the_lists_hold_is_what_a_naive_set_says(
        rules in rules(),
        places in vec((labels(), segments()), 1..20),
    ) {
        let texts: Vec<_> = rules.iter().map(Rule::text).collect();
        let lists = lists(&[&texts.join("\n")]);
        for (host, path) in places {
            let mut expected: Vec<_> =
                rules.iter().filter(|rule| rule.covers(&host, &path)).map(Rule::text).collect();
            expected.sort();
            expected.dedup();
            let mut met: Vec<_> = found(&lists, &host.join("."), &format!("/{}", path.join("/")))
                .into_iter()
                .map(|(entry, _)| entry)
                .collect();
            met.sort();
            prop_assert_eq!(met, expected);
        }
    }

    #[test]
    fn neither_lists_nor_places_of_whatever_bytes_do_harm(
        text: Vec<u8>,
        authority: Vec<u8>,
        path: Vec<u8>,
    ) {
        let mut builder = Builder::default();
        builder.add_list(&text, Format::Auto, 1, 1);
        let lists = builder.build().expect("a few entries");
        let mut place = Place::default();
        if place.read(&authority, &path).is_ok() {
            lists.walk(&place, |_, covered| drop(covered.spell(&place)));
        }
    }

    #[test]
    fn random_names_of_a_list_are_found_and_others_are_not(names in vec("[a-z0-9]{1,12}(\\.[a-z]{1,9}){1,3}", 1..50)) {
        let (listed, others) = names.split_at(names.len() / 2);
        let lists = lists(&[&listed.join("\n")]);
        for name in listed {
            prop_assert!(found(&lists, name, "/").iter().any(|(entry, _)| entry == name));
        }
        for name in others {
            let covered = listed.iter().any(|entry| entry == name || name.ends_with(&format!(".{entry}")));
            prop_assert_eq!(!found(&lists, name, "/").is_empty(), covered, "{}", name);
        }
    }
}

#[test]
fn names_that_no_request_can_have_are_counted_as_skipped() {
    let mut builder = Builder::default();
    let tally =
        builder.add_list("b\u{fc}cher.example\nxn--bcher-kva.example\n".as_bytes(), Format::Auto, 1, 1);
    assert_eq!(tally, Tally { entries: 1, skipped: 1 });
    let lists = builder.build().expect("one entry");
    assert_eq!(found(&lists, "xn--bcher-kva.example", "/").len(), 1);
}
