//! What filters learn of an exchange when it is over.

use crossbeam_channel::Receiver;

use super::*;
use crate::filter::HttpFactory;
use crate::filters::{Kinds, Lasting, Section, cache};

/// Keeps the records of exchanges.
struct Keeps(crossbeam_channel::Sender<Record>);

impl HttpFilter for Keeps {
    fn done(
        &mut self,
        _call: &mut Call<'_>,
        _request: &Request,
        _response: Option<&Response>,
        record: &Record,
    ) {
        self.0.send(record.clone()).expect("the test listens");
    }
}

/// Has a page where the server has none.
struct Excuses;

impl HttpFilter for Excuses {
    fn response(&mut self, _call: &mut Call<'_>, _request: &Request, response: &mut Response) -> Verdict {
        if response.status() == 503 { page() } else { Verdict::Pass }
    }

    fn failed(&mut self, _call: &mut Call<'_>, _request: &Request, _failure: Failure) -> Option<Box<Answer>> {
        Some(Box::new(Answer::page(403, "Forbidden", "no")))
    }
}

/// A connection, and the records of its exchanges.
fn recorded(behind: Option<Box<dyn HttpFilter>>) -> (Wire, Receiver<Record>) {
    let (sender, records) = crossbeam_channel::unbounded();
    let first: Box<dyn HttpFilter> = Box::new(Keeps(sender));
    let mut wire = Wire::new([first].into_iter().chain(behind).collect());
    wire.connection.settings = Arc::new(Settings { connect: true, ..Settings::default() });
    (wire, records)
}

/// What became of the server's part of the only exchange, and what the client got.
fn server_of(records: &Receiver<Record>) -> (Option<Result<u16, Failure>>, Option<u16>) {
    let record = records.try_recv().expect("an exchange is over");
    (record.server, record.status)
}

const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";

#[test]
fn a_record_tells_what_the_server_answered_whatever_took_its_place() {
    let (mut wire, records) = recorded(None);
    wire.client(GET);
    wire.server(b"HTTP/1.1 103 Early Hints\r\n\r\n");
    wire.server(OK);
    wire.client(GET);
    assert_eq!(server_of(&records), (Some(Ok(200)), Some(200)));

    let (mut wire, records) = recorded(Some(Box::new(Excuses)));
    wire.client(GET);
    wire.server(UNAVAILABLE);
    wire.client(GET);
    assert_eq!(server_of(&records), (Some(Ok(503)), Some(403)));
}

#[test]
fn a_record_tells_how_the_server_failed_whatever_took_the_place_of_its_response() {
    for failure in [Failure::Unreachable, Failure::Timeout] {
        let (mut wire, records) = recorded(Some(Box::new(Excuses)));
        wire.client(GET);
        wire.server_fails(failure);
        assert_eq!(server_of(&records), (Some(Err(failure)), Some(403)));
    }
    let (mut wire, records) = recorded(Some(Box::new(Excuses)));
    wire.client(GET);
    wire.server_ends();
    assert_eq!(server_of(&records), (Some(Err(Failure::Unreachable)), Some(403)));

    let (mut wire, records) = recorded(None);
    wire.client(GET);
    wire.server(b"what\r\n\r\n");
    assert_eq!(server_of(&records), (Some(Err(Failure::Malformed)), Some(502)));
}

/// Sends requests to another server if the one that the client named fails.
struct Elsewhere;

impl HttpFilter for Elsewhere {
    fn elsewhere(&mut self, call: &mut Call<'_>, _: &Request, _: Failure) -> bool {
        let other = Some("198.18.0.9:80".parse().expect("an address"));
        call.exchange.target.is_none() && std::mem::replace(&mut call.exchange.target, other).is_none()
    }
}

#[test]
fn a_record_tells_of_the_server_that_answered_and_of_all_the_time_that_it_took() {
    let (mut wire, records) = recorded(Some(Box::new(Elsewhere)));
    wire.connection.exchange.may_redirect = true;
    wire.client(GET);
    wire.wait(Duration::from_secs(3));
    wire.server_fails(Failure::Unreachable);
    wire.wait(Duration::from_secs(2));
    wire.server(OK);
    let record = records.try_recv().expect("an exchange is over");
    assert_eq!((record.server, record.status, record.is_complete), (Some(Ok(200)), Some(200), true));
    assert_eq!((record.forwarded, record.responded), (Some(Duration::ZERO), Some(Duration::from_secs(5))));
    wire.client(GET);
    assert_eq!(wire.connection.target(), None, "it holds for one request");
    wire.connection.close(wire.now, &mut wire.gateway);
    assert_eq!(server_of(&records), (None, None));
}

#[test]
fn a_record_tells_that_the_server_made_another_protocol_of_the_connection() {
    let (mut wire, records) = recorded(None);
    wire.client(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n");
    wire.server(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n");
    assert_eq!(server_of(&records), (Some(Ok(101)), Some(101)));

    let (mut wire, records) = recorded(None);
    wire.client(b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n");
    wire.server(b"HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(server_of(&records), (Some(Ok(200)), Some(200)));
}

#[test]
fn a_record_tells_nothing_of_a_server_that_has_not_said_anything() {
    let (mut wire, records) = recorded(Some(told([page()], [])));
    wire.client(GET);
    wire.client(GET);
    assert_eq!(server_of(&records), (None, Some(403)));
    wire.connection.close(wire.now, &mut wire.gateway);
    assert_eq!(server_of(&records), (None, None));
}

/// `redirect` (two servers, of which two failures eject one) and `cache`, in this order.
fn redirect_and_cache(lasting: &Lasting, names: [&str; 2]) -> [Arc<dyn HttpFactory>; 2] {
    names.map(|name| {
        let keys = match name {
            "redirect" => {
                "servers = [{ address = \"198.18.0.3:80\" }, { address = \"198.18.0.4:80\" }]\nfailures = 2"
            }
            _ => "",
        };
        let keys = toml::from_str(keys).expect("TOML");
        let section = Section { name, keys, lasting, rehearsal: false };
        Kinds::default().configure(name, &section).expect("a kind").expect("its keys")
    })
}

fn settle(wire: &mut Wire, lasting: &Lasting) {
    for _ in 0..4 {
        cache::running(lasting).iter().for_each(|(_, cache)| cache.settle());
        wire.give();
    }
}

#[test]
fn a_server_whose_failures_a_cache_makes_up_for_is_ejected_all_the_same() {
    const FRESH: &[u8] =
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=1, stale-if-error=600\r\nContent-Length: 3\r\n\r\nold";
    for names in [["redirect", "cache"], ["cache", "redirect"]] {
        for failure in [Some(UNAVAILABLE), None] {
            let lasting = Lasting::default();
            let factories = redirect_and_cache(&lasting, names);
            let mut failed = 0;
            for turn in 0..20 {
                let mut wire = Wire::new(factories.iter().map(|factory| factory.filter()).collect());
                wire.connection.exchange.may_redirect = true;
                wire.gateway.unix_time += Duration::from_secs(10 * turn);
                wire.client(GET);
                settle(&mut wire, &lasting);
                let server = wire.connection.target().expect("a server").ip().octets()[3];
                match failure {
                    _ if server == 4 || turn == 0 => wire.server(FRESH),
                    Some(response) => wire.server(response),
                    None => wire.server_fails(Failure::Unreachable),
                }
                failed += u32::from(server == 3 && turn > 0);
                settle(&mut wire, &lasting);
                wire.connection.close(wire.now, &mut wire.gateway);
            }
            assert_eq!(failed, 2, "{names:?}, by 503: {}", failure.is_some());
        }
    }
}
