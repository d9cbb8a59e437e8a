//! What tests of filters need: a gateway that remembers what it was asked, calls made by hand, messages in one line.

use std::any::Any;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_channel::{Receiver, Sender};
use pnat_shared::testkit::Random;
use pnat_shared::time::{Duration, Instant};

use crate::filter::{Call, ConfigFault, Exchange, Gateway, HttpFactory, Record, Ticket, Usage};
use crate::filters::{Configure, Lasting, Section};
use crate::message::{Request, Response, Version};

/// Where the client of an [`exchange`] is.
pub const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 5), 40_000);
/// Where it believes the server to be.
pub const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 80);

/// A gateway for tests: lines are kept, and answers for tickets wait until they are asked for.
#[derive(Debug)]
pub struct TestGateway {
    /// The Unix time at all times.
    pub unix_time: Duration,
    /// What was logged, in order.
    pub lines: Vec<(Arc<Path>, Vec<u8>)>,
    /// What filters are measured by, in nanoseconds; it moves when a test moves it.
    pub nanos: Arc<AtomicU64>,
    /// What filters have cost, in order.
    pub accounts: Vec<(Arc<str>, Usage)>,
    sender: Sender<Box<dyn Any + Send>>,
    /// What tickets were answered with, in order; from other threads, too.
    pub answers: Receiver<Box<dyn Any + Send>>,
}

impl Default for TestGateway {
    /// It is Monday, 2026-11-23 06:00:00 UTC.
    fn default() -> Self {
        let (sender, answers) = crossbeam_channel::unbounded();
        Self {
            unix_time: Duration::from_secs(1_795_413_600),
            lines: Vec::new(),
            nanos: Arc::default(),
            accounts: Vec::new(),
            sender,
            answers,
        }
    }
}

impl Gateway for TestGateway {
    fn unix_time(&self) -> Duration {
        self.unix_time
    }

    fn log(&mut self, path: &Arc<Path>, line: Vec<u8>) {
        self.lines.push((Arc::clone(path), line));
    }

    fn ticket(&mut self) -> Ticket {
        let sender = self.sender.clone();
        Ticket::new(move |answer| {
            // A test that is over asks for nothing any more.
            let _ = sender.send(answer);
        })
    }

    fn nanos(&self) -> Option<u64> {
        Some(self.nanos.load(Relaxed))
    }

    fn account(&mut self, filter: &Arc<str>, usage: &Usage) {
        self.accounts.push((Arc::clone(filter), *usage));
    }
}

/// Everything that a [`Call`] borrows.
#[derive(Debug)]
pub struct Calls {
    pub now: Instant,
    pub exchange: Exchange,
    pub gateway: TestGateway,
    pub wake: Option<Instant>,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            now: Instant::from_secs(1000),
            exchange: exchange(),
            gateway: TestGateway::default(),
            wake: None,
        }
    }
}

impl Calls {
    /// A call at this moment.
    pub fn call(&mut self) -> Call<'_> {
        Call { now: self.now, exchange: &mut self.exchange, gateway: &mut self.gateway, wake: &mut self.wake }
    }
}

/// The first exchange of a connection from [`CLIENT`] to [`SERVER`], by the rule `web`, begun at 1000 s.
pub fn exchange() -> Exchange {
    Exchange {
        client: CLIENT,
        server: SERVER,
        rule: Some("web".into()),
        number: 0,
        began: Instant::from_secs(1000),
        target: None,
        redirected_by: None,
        may_redirect: false,
        verdict: None,
    }
}

/// A request of HTTP/1.1 as it comes from a client.
pub fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> Request {
    let mut request = Request::new();
    request.begin(method, target, Version::Http11);
    for (name, value) in fields {
        request.read_field(name, value.as_bytes());
    }
    request
}

/// A response of HTTP/1.1 as it comes from a server.
pub fn response(status: u16, fields: &[(&str, &str)]) -> Response {
    let mut response = Response::default();
    response.begin(status, "", Version::Http11);
    for (name, value) in fields {
        response.read_field(name, value.as_bytes());
    }
    response
}

/// How an exchange went in which a server answered with this status, without content.
pub fn record(status: Option<u16>) -> Record {
    Record {
        status,
        server: status.map(Ok),
        answered_by: None,
        content: [0, 0],
        forwarded: Some(Duration::from_micros(100)),
        responded: status.map(|_| Duration::from_millis(5)),
        ended: Duration::from_millis(6),
        filters: None,
        is_complete: status.is_some(),
    }
}

/// A filter named `test` from its keys as TOML.
pub fn configure(
    configure: Configure,
    lasting: &Lasting,
    keys: &str,
) -> Result<Arc<dyn HttpFactory>, ConfigFault> {
    let keys = toml::from_str(keys).expect("the keys are TOML");
    configure(&Section { name: "test", keys, lasting, rehearsal: false })
}

/// So many names, as lists of unwanted domains have them, one per line: most are short and under a few top levels, and a third are
/// subdomains of others' parents.
pub fn block_list(names: usize) -> String {
    const SYLLABLES: [&str; 16] = [
        "ad", "track", "met", "ri", "click", "pix", "el", "stat", "ser", "ve", "pop", "net", "link", "go",
        "ta", "x",
    ];
    const TOPS: [&str; 8] = ["com", "net", "com", "org", "de", "com", "info", "co.uk"];
    let mut random = Random::new(7);
    let mut list = String::new();
    for number in 0..names as u64 {
        if random.below(3) == 0 {
            list.push_str(["www.", "ads.", "t.", "cdn1."][random.below(4) as usize]);
        }
        for _ in 0..2 + random.below(3) {
            list.push_str(SYLLABLES[random.below(16) as usize]);
        }
        // Makes each name one of a kind.
        writeln!(list, "{number:x}.{}", TOPS[random.below(8) as usize]).expect("a string takes everything");
    }
    list
}
