//! Filters in a chain with others: what each stores or tells is what the ones before it left.

use super::*;
use crate::filter::{Exchange, HttpFactory};
use crate::filters::cache;

/// Filters named after their kinds, over as many connections as there are exchanges.
struct Chain {
    lasting: Lasting,
    factories: Vec<(Arc<str>, Arc<dyn HttpFactory>)>,
}

/// What came of one exchange.
#[derive(Debug)]
struct Seen {
    /// What the server was asked, and told the client.
    server: String,
    client: String,
    lines: Vec<String>,
}

impl Chain {
    fn new(sections: &[(&str, &str)]) -> Self {
        let lasting = Lasting::default();
        let factory = |(kind, keys): &(&str, &str)| {
            let keys = toml::from_str(keys).unwrap();
            let section = Section { name: kind, keys, lasting: &lasting, rehearsal: false };
            (Arc::from(*kind), Kinds::default().configure(kind, &section).unwrap().unwrap())
        };
        let factories = sections.iter().map(factory).collect();
        Self { lasting, factories }
    }

    fn settle(&self) {
        cache::running(&self.lasting).iter().for_each(|(_, cache)| cache.settle());
    }

    /// A request by a client, for which the server, if asked, has this response.
    fn exchange(&self, client: &str, request: &str, response: &str) -> Seen {
        let filters = self.factories.iter().map(|(name, factory)| (Arc::clone(name), factory.filter()));
        let exchange = Exchange { client: client.parse().unwrap(), may_redirect: true, ..exchange() };
        let mut connection = Connection::new(Arc::new(Settings::default()), Cascade::new(filters), exchange);
        let mut gateway = TestGateway::default();
        let now = pnat_shared::time::Instant::from_secs(1000);
        let (mut held, mut server, mut told) = (request.as_bytes(), Vec::new(), Vec::new());
        // For the resource, for its variant, and for what is stale.
        for _ in 0..4 {
            let look =
                &mut Look { now, gateway: &mut gateway, bytes: held, end: false, room: [usize::MAX; 2] };
            let outcome = connection.on_request(look);
            held = &held[follow(&outcome, held, &mut server)..];
            told.extend(outcome.back.concat());
            self.settle();
            while let Ok(given) = gateway.answers.try_recv() {
                connection.given(now, &mut gateway, given);
            }
        }
        if !server.is_empty() {
            let bytes = response.as_bytes();
            let look = &mut Look { now, gateway: &mut gateway, bytes, end: false, room: [usize::MAX; 2] };
            let outcome = connection.on_response(look);
            assert_eq!(follow(&outcome, bytes, &mut told), bytes.len(), "{outcome:?}");
        }
        self.settle();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let lines = gateway.lines.into_iter().map(|(_, line)| text(line)).collect();
        Seen { server: text(server), client: text(told), lines }
    }

    fn get(&self, client: &str, response: &str) -> Seen {
        self.exchange(client, "GET /x HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n", response)
    }
}

const ONE: &str = "10.0.0.5:4000";
const OTHER: &str = "10.0.0.9:4000";

/// A response that may be stored.
fn stored(content: &str) -> String {
    let length = content.len();
    format!(
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\r\n{content}"
    )
}

#[test]
fn what_another_server_said_to_redirected_clients_reaches_no_others() {
    for key in ["server", "host"] {
        let redirect = "servers = [{ address = '198.18.0.3:80' }, { address = '198.18.0.4:80' }]\nclients = ['10.0.0.5/32']";
        let chain = Chain::new(&[("redirect", redirect), ("cache", &format!("key = '{key}'"))]);
        assert!(chain.get(ONE, &stored("inside")).client.ends_with("inside"));
        let seen = chain.get(OTHER, &stored("outside"));
        assert!(seen.client.ends_with("outside") && !seen.server.is_empty(), "{key}: {seen:?}");
        for (client, content) in [(ONE, "inside"), (OTHER, "outside"), (ONE, "inside")] {
            let seen = chain.get(client, "");
            assert!(seen.client.ends_with(content) && seen.server.is_empty(), "{key}: {seen:?}");
        }
    }
}

#[test]
fn a_cache_stores_what_a_filter_nearer_the_server_makes_of_content() {
    let replace = "replace = [{ find = 'hello', with = 'hi' }]";
    let content = "hello ".repeat(1000);
    for (other, keys) in [("compress", ""), ("body-replace", replace)] {
        for chain in [[("cache", ""), (other, keys)], [(other, keys), ("cache", "")]] {
            let order = chain.map(|(kind, _)| kind);
            let chain = Chain::new(&chain);
            let first = chain.get(ONE, &stored(&content));
            assert!(
                first.client.contains("Cache-Status: PNAT; fwd=uri-miss; fwd-status=200; stored"),
                "{order:?}"
            );
            let second = chain.get(ONE, "");
            assert!(
                second.server.is_empty() && second.client.contains("Cache-Status: PNAT; hit"),
                "{order:?}"
            );
            assert!(!second.client.contains("hello"), "{order:?}");
        }
    }
}

#[test]
fn a_filter_behind_one_that_edits_is_told_no_length() {
    let replace = "replace = [{ find = 'hello', with = 'a longer word than that' }]";
    let chain = Chain::new(&[("compress", "min_length = 100"), ("body-replace", replace)]);
    let seen = chain.get(ONE, &stored("hello hello hello hello"));
    assert!(seen.client.contains("Content-Encoding: gzip"), "{seen:?}");
    assert!(!seen.client.contains("Content-Length"), "{seen:?}");
}

#[test]
fn rfc9110_8_6_an_answer_to_head_tells_no_length_that_get_would_not_have() {
    let replace = "replace = [{ find = 'hello', with = 'hi' }]";
    let head = "HEAD /x HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n";
    let mark = "response = [{ action = 'add', name = 'X', value = 'y' }]";
    for (kind, keys, length) in
        [("compress", "", None), ("body-replace", replace, None), ("headers", mark, Some("6000"))]
    {
        let chain = Chain::new(&[(kind, keys), ("cache", "")]);
        chain.get(ONE, &stored(&"hello ".repeat(1000)));
        let seen = chain.exchange(ONE, head, "");
        assert!(
            seen.client.contains("Cache-Status: PNAT; hit") && seen.client.ends_with("\r\n\r\n"),
            "{seen:?}"
        );
        let said = seen.client.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        assert_eq!(said, length, "{kind}: {seen:?}");
    }
}

#[test]
fn rfc9110_8_6_a_304_to_head_tells_no_length() {
    let chain = Chain::new(&[("cache", "")]);
    let response = stored("hello").replacen("Content-Type", "ETag: \"1\"\r\nContent-Type", 1);
    chain.get(ONE, &response);
    for method in ["GET", "HEAD"] {
        let asked = format!("{method} /x HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"1\"\r\n\r\n");
        let seen = chain.exchange(ONE, &asked, "");
        assert!(
            seen.client.starts_with("HTTP/1.1 304 ") && !seen.client.contains("Content-Length"),
            "{seen:?}"
        );
    }
}

#[test]
fn what_lies_at_another_scheme_is_not_what_lies_at_http() {
    let chain = Chain::new(&[("cache", "")]);
    let secure = "GET https://a/x HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(chain.exchange(ONE, secure, &stored("secure")).client.ends_with("secure"));
    assert!(chain.get(ONE, &stored("plain")).client.ends_with("plain"));
    assert!(chain.exchange(ONE, secure, &stored("other")).client.ends_with("other"));
    let absolute = "GET HTTP://a/x HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(chain.exchange(ONE, absolute, "").client.ends_with("plain"));
}

#[test]
fn a_log_before_filters_that_edit_requests_tells_what_clients_sent() {
    let headers = "request = [{ action = 'replace', name = 'User-Agent', value = 'gateway' }, \
                   { action = 'remove', name = 'Referer' }]";
    let redirect = "servers = [{ address = '198.18.0.3:80' }]\nhost = 'inner.example'";
    let editing = [("redirect", redirect), ("headers", headers)];
    let request = "GET /x HTTP/1.1\r\nHost: outer.example\r\nReferer: http://b/\r\nUser-Agent: curl\r\n\r\n";
    let line = |log: (&'static str, &'static str), is_first: bool| {
        let mut chain = editing.to_vec();
        chain.insert(if is_first { 0 } else { 2 }, log);
        let seen = Chain::new(&chain).exchange(ONE, request, &stored(""));
        assert!(seen.server.contains("Host: inner.example\r\nUser-Agent: gateway\r\n"), "{seen:?}");
        seen.lines.concat()
    };
    let first = line(("http-log", "path = 'log'\nformat = 'json'"), true);
    for part in [
        r#""url":"http://outer.example/x""#,
        r#""referrer":"http://b/""#,
        r#""user_agent":"curl""#,
        r#""upstream":{"server":"198.18.0.3:80""#,
    ] {
        assert!(first.contains(part), "{first}");
    }
    let last = line(("http-log", "path = 'log'\nformat = 'json'"), false);
    assert!(
        last.contains(r#""url":"http://inner.example/x""#) && last.contains(r#""user_agent":"gateway""#),
        "{last}"
    );
    let combined = line(("http-log", "path = 'log'"), true);
    assert!(combined.ends_with("\"GET /x HTTP/1.1\" 200 - \"http://b/\" \"curl\"\n"), "{combined}");
}
