//! The cache as clients and servers see it, section by section of RFC 9111; time stands still unless a test moves it.

use std::sync::Arc;

use pnat_shared::time::Duration;

use super::filter::MOST_JOBS;
use super::service::Job;
use super::{CacheHandle, Purge, PurgeFault, configure};
use crate::filter::{Failure, HttpFactory, HttpFilter, Verdict};
use crate::filters::Lasting;
use crate::message::{Answer, Framing, Request, Response};
use crate::testkit::{self, Calls, request, response};

mod disk;
mod flight;
mod fresh;
mod invalid;
mod oracle;
mod stale;
mod vary;

/// Longest time that a test waits for the cache's thread: it says that nothing comes, not that it is slow.
const NEVER: Duration = Duration::from_secs(20);

/// What a server does with a request.
enum Served {
    Whole(Response, Vec<u8>),
    /// The connection ends in the middle of the content.
    Cut(Response, Vec<u8>),
    Failure(Failure),
}

/// One connection through a cache, its client, and its server.
struct Site {
    lasting: Arc<Lasting>,
    factory: Arc<dyn HttpFactory>,
    filter: Box<dyn HttpFilter>,
    calls: Calls,
    /// What the server was asked.
    asked: Vec<Request>,
}

/// What a client got.
#[derive(Debug)]
struct Got {
    response: Response,
    content: Vec<u8>,
}

impl Got {
    fn status(&self) -> u16 {
        self.response.status()
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.response.fields().text(name)
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.content).unwrap()
    }
}

impl Site {
    fn new(keys: &str) -> Self {
        Self::within(&Arc::default(), keys)
    }

    /// With what lasts from another configuration.
    fn within(lasting: &Arc<Lasting>, keys: &str) -> Self {
        let factory = testkit::configure(configure, lasting, keys).unwrap();
        let filter = factory.filter();
        let (lasting, calls) = (Arc::clone(lasting), Calls::default());
        Self { lasting, factory, filter, calls, asked: Vec::new() }
    }

    /// Another connection through the same cache.
    fn beside(&self) -> Self {
        let (lasting, factory) = (Arc::clone(&self.lasting), Arc::clone(&self.factory));
        let mut calls = Calls::default();
        (calls.now, calls.gateway.unix_time) = (self.calls.now, self.calls.gateway.unix_time);
        Self { lasting, filter: factory.filter(), factory, calls, asked: Vec::new() }
    }

    fn handle(&self) -> Arc<CacheHandle> {
        super::running(&self.lasting).into_iter().find(|(name, _)| name == "test").unwrap().1
    }

    fn pass(&mut self, seconds: u64) {
        self.calls.now += Duration::from_secs(seconds);
        self.calls.gateway.unix_time += Duration::from_secs(seconds);
    }

    /// So many seconds from now, as a date.
    fn date(&self, offset: i64) -> String {
        let now = self.calls.gateway.unix_time.as_secs();
        super::policy::http_date(Duration::from_secs(now.checked_add_signed(offset).unwrap()))
    }

    /// A GET of `/` at `a.example`, for which the server, if asked, has this.
    fn get(&mut self, asked: &[(&str, &str)], served: (u16, &[(&str, &str)], &str)) -> Got {
        self.send("GET", "/", asked, whole(served))
    }

    /// As [`Site::get`], where the server must not be asked.
    fn get_stored(&mut self, asked: &[(&str, &str)]) -> Got {
        let before = self.asked.len();
        let got = self.send("GET", "/", asked, whole((500, &[], "the server was asked")));
        assert_eq!(self.asked.len(), before, "the server was asked: {got:?}");
        got
    }

    fn send(&mut self, method: &str, target: &str, fields: &[(&str, &str)], served: Served) -> Got {
        let mut fields = fields.to_vec();
        fields.push(("Host", "a.example"));
        self.exchange(request(method, target, &fields), served)
    }

    /// One exchange, from its first byte until everything that follows from it is done.
    fn exchange(&mut self, mut request: Request, served: Served) -> Got {
        // Whatever comes next is later than what came before.
        self.calls.gateway.unix_time += Duration::from_nanos(1);
        let answer = loop {
            match self.filter.request(&mut self.calls.call(), &mut request) {
                Verdict::Wait => {
                    let reply = self.calls.gateway.answers.recv_timeout(NEVER).expect("an answer comes");
                    self.filter.answered(&mut self.calls.call(), reply);
                }
                Verdict::Answer(answer) => break Some(answer),
                Verdict::Pass => break None,
                other => panic!("{other:?}"),
            }
        };
        let got = match answer {
            Some(answer) if answer.goes_on => {
                self.serve(&request, served);
                got(*answer)
            }
            Some(answer) => got(*answer),
            None => self.serve(&request, served),
        };
        let record = testkit::record(Some(got.status()));
        self.filter.done(&mut self.calls.call(), &request, Some(&got.response), &record);
        self.handle().settle();
        got
    }

    /// Shows a request as often as there are replies; [`Verdict::Wait`]: there is none yet.
    fn step(&mut self, request: &mut Request) -> Verdict {
        loop {
            let verdict = self.filter.request(&mut self.calls.call(), request);
            self.handle().settle();
            match self.calls.gateway.answers.try_recv() {
                Ok(reply) if verdict == Verdict::Wait => {
                    self.filter.answered(&mut self.calls.call(), reply);
                }
                _ => return verdict,
            }
        }
    }

    fn serve(&mut self, request: &Request, served: Served) -> Got {
        self.asked.push(request.clone());
        let (mut response, content, is_whole) = match served {
            Served::Whole(response, content) => (response, content, true),
            Served::Cut(response, content) => (response, content, false),
            Served::Failure(failure) => {
                let answer = self.filter.failed(&mut self.calls.call(), request, failure);
                return answer.map_or_else(|| got(Answer::page(502, "", "")), |answer| got(*answer));
            }
        };
        match self.filter.response(&mut self.calls.call(), request, &mut response) {
            Verdict::Answer(answer) => return got(*answer),
            Verdict::Watch => {
                assert!(
                    !matches!(response.framing(), Framing::None | Framing::Length(0)),
                    "nothing to watch"
                );
                let half = content.len() / 2;
                let mut out = Vec::new();
                self.filter.response_body(&mut self.calls.call(), &content[..half], false, &mut out);
                if is_whole {
                    self.filter.response_body(&mut self.calls.call(), &content[half..], true, &mut out);
                }
            }
            Verdict::Pass => {}
            other => panic!("{other:?}"),
        }
        Got { response, content }
    }
}

fn got(answer: Answer) -> Got {
    Got { response: answer.response, content: answer.content.concat() }
}

/// A response with its content whole, at once.
fn whole((status, fields, content): (u16, &[(&str, &str)], &str)) -> Served {
    let mut response = response(status, fields);
    response.read_framing(Framing::Length(content.len() as u64));
    Served::Whole(response, content.as_bytes().to_vec())
}
