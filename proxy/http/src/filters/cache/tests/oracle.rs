//! Random exchanges, compared with a cache that is as simple as can be: a list of what was stored, searched from its end.

use proptest::prelude::*;

use super::*;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// Nothing, for so many seconds.
    Pass(u64),
    /// Somebody asks for one of a few URLs with one of a few values of `A`, and the server, if asked, has a response like this.
    Get { url: usize, value: usize, asks: Asks, serves: Serves },
    /// Somebody changes what lies there.
    Post { url: usize },
}

#[derive(Copy, Clone, Debug)]
enum Asks {
    Plainly,
    NoCache,
    MaxAge(u64),
    NoStore,
    Conditionally,
}

#[derive(Copy, Clone, Debug)]
struct Serves {
    max_age: Option<u64>,
    s_maxage: Option<u64>,
    age: u64,
    no_store: bool,
    no_cache: bool,
    private: bool,
    varies: bool,
    tagged: bool,
    cut: bool,
}

/// A response of the simple cache.
#[derive(Clone, Debug)]
struct Kept {
    url: usize,
    /// The value of `A`, if the response varies by it.
    value: Option<usize>,
    received: u64,
    age: u64,
    lifetime: u64,
    always_validate: bool,
    content: String,
}

/// The simple cache. Whether a URL varies is what the last response that was stored said.
#[derive(Default)]
struct Oracle {
    kept: Vec<Kept>,
    now: u64,
}

impl Oracle {
    fn find(&self, url: usize, value: usize) -> Option<&Kept> {
        let latest = self.kept.iter().rev().find(|kept| kept.url == url)?;
        match latest.value {
            None => Some(latest),
            Some(_) => self.kept.iter().rev().find(|kept| kept.url == url && kept.value == Some(value)),
        }
    }

    /// Whether what it has answers without the server.
    fn answers(&self, url: usize, value: usize, asks: Asks) -> Option<&Kept> {
        let kept = self.find(url, value)?;
        let age = kept.age + self.now - kept.received;
        let is_fresh = age < kept.lifetime && !kept.always_validate;
        let is_wanted = match asks {
            Asks::Plainly | Asks::Conditionally => true,
            Asks::NoCache | Asks::NoStore | Asks::MaxAge(0) => false,
            Asks::MaxAge(most) => age <= most,
        };
        (is_fresh && is_wanted).then_some(kept)
    }

    fn keep(&mut self, url: usize, value: usize, asks: Asks, serves: Serves, content: &str) {
        let lifetime = serves.s_maxage.or(serves.max_age).unwrap_or(0);
        let always_validate = serves.no_cache;
        let is_useful = serves.tagged || (lifetime > serves.age && !always_validate);
        let forbidden = serves.no_store || serves.private || serves.cut || matches!(asks, Asks::NoStore);
        if forbidden || !is_useful {
            return;
        }
        // What begins or ceases to vary is something else from then on.
        let varied =
            self.kept.iter().rev().find(|kept| kept.url == url).is_some_and(|kept| kept.value.is_some());
        if varied != serves.varies {
            self.kept.retain(|kept| kept.url != url);
        }
        let value = serves.varies.then_some(value);
        let (received, age, content) = (self.now, serves.age, content.to_owned());
        self.kept.push(Kept { url, value, received, age, lifetime, always_validate, content });
    }
}

fn asks() -> impl Strategy<Value = Asks> {
    prop_oneof![
        6 => Just(Asks::Plainly),
        1 => Just(Asks::NoCache),
        1 => (0..40_u64).prop_map(Asks::MaxAge),
        1 => Just(Asks::NoStore),
        1 => Just(Asks::Conditionally),
    ]
}

fn serves() -> impl Strategy<Value = Serves> {
    let seldom = || proptest::bool::weighted(0.1);
    let often = proptest::option::weighted(0.8, 0..60_u64);
    let rarely = proptest::option::weighted(0.1, 0..60_u64);
    (
        often,
        rarely,
        0..10_u64,
        (seldom(), seldom(), seldom(), seldom()),
        proptest::bool::weighted(0.3),
        seldom(),
    )
        .prop_map(|(max_age, s_maxage, age, (no_store, no_cache, private, cut), varies, tagged)| {
            Serves { max_age, s_maxage, age, no_store, no_cache, private, varies, tagged, cut }
        })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..30_u64).prop_map(Step::Pass),
        12 => (0..3_usize, 0..2_usize, asks(), serves())
            .prop_map(|(url, value, asks, serves)| Step::Get { url, value, asks, serves }),
        1 => (0..3_usize).prop_map(|url| Step::Post { url }),
    ]
}

fn head(serves: Serves, tag: &str, length: usize) -> Response {
    let mut directives = Vec::new();
    directives.extend(serves.max_age.map(|seconds| format!("max-age={seconds}")));
    directives.extend(serves.s_maxage.map(|seconds| format!("s-maxage={seconds}")));
    for (name, has) in
        [("no-store", serves.no_store), ("no-cache", serves.no_cache), ("private", serves.private)]
    {
        directives.extend(has.then(|| name.to_owned()));
    }
    let mut head =
        response(200, &[("Cache-Control", &directives.join(", ")), ("Age", &serves.age.to_string())]);
    if serves.varies {
        head.read_field("Vary", b"A");
    }
    if serves.tagged {
        head.read_field("ETag", tag.as_bytes());
    }
    head.read_framing(Framing::Length(length as u64));
    head
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_server_is_asked_when_it_must_be_and_not_else(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let (mut site, mut oracle) = (Site::new(""), Oracle::default());
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Pass(seconds) => {
                    site.pass(seconds);
                    oracle.now += seconds;
                }
                Step::Post { url } => {
                    site.send("POST", &format!("/{url}"), &[], whole((200, &[], "")));
                    oracle.kept.retain(|kept| kept.url != url);
                }
                Step::Get { url, value, asks, serves } => {
                    let content = format!("content {number}");
                    let value_text = value.to_string();
                    let mut fields = vec![("A", value_text.as_str())];
                    let max_age;
                    match asks {
                        Asks::Plainly => {}
                        Asks::NoCache => fields.push(("Cache-Control", "no-cache")),
                        Asks::NoStore => fields.push(("Cache-Control", "no-store")),
                        Asks::Conditionally => fields.push(("If-None-Match", "\"none\"")),
                        Asks::MaxAge(seconds) => {
                            max_age = format!("max-age={seconds}");
                            fields.push(("Cache-Control", &max_age));
                        }
                    }
                    let before = site.asked.len();
                    let head = head(serves, &format!("\"{number}\""), content.len());
                    let bytes = content.clone().into_bytes();
                    let served = if serves.cut { Served::Cut(head, bytes) } else { Served::Whole(head, bytes) };
                    let got = site.send("GET", &format!("/{url}"), &fields, served);
                    match oracle.answers(url, value, asks) {
                        Some(kept) => {
                            prop_assert_eq!(site.asked.len(), before, "asked in vain: {:?}", kept);
                            prop_assert_eq!(got.text(), &kept.content);
                            let age = kept.age + oracle.now - kept.received;
                            prop_assert_eq!(got.field("age"), Some(&*age.to_string()));
                        }
                        None => {
                            prop_assert_eq!(site.asked.len(), before + 1, "not asked: {:?}", got);
                            prop_assert_eq!(got.text(), &content);
                            oracle.keep(url, value, asks, serves, &content);
                        }
                    }
                }
            }
        }
    }
}
