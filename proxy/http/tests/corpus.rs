//! The codec by the corpora of requests and responses (`proxy/http/corpus`, where the outcomes are explained).

use pnat_http::codec::{Fault, Limits, Part, RequestReader, ResponseReader, persists};
use pnat_http::message::{Framing, Request, Response};
use pnat_shared::testkit::rows::{self, Outcome};

#[test]
fn requests_become_of_what_the_corpus_says() {
    let rows = rows::rows(include_str!("../corpus/requests.rows"));
    let wrong: Vec<_> = rows
        .into_iter()
        .filter_map(|[name, bytes, outcome, _]: [&str; 4]| {
            let (bytes, closes) = rows::bytes(bytes);
            differs(name, &requests(&bytes, closes), outcome)
        })
        .collect();
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn responses_become_of_what_the_corpus_says() {
    let rows = rows::rows(include_str!("../corpus/responses.rows"));
    let wrong: Vec<_> = rows
        .into_iter()
        .filter_map(|[name, asked, bytes, outcome, _]: [&str; 5]| {
            let (bytes, closes) = rows::bytes(bytes);
            differs(name, &responses(asked, &bytes, closes), outcome)
        })
        .collect();
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

fn differs(name: &str, found: &[Outcome], expected: &str) -> Option<String> {
    let fits = rows::outcomes(expected).iter().any(|outcomes| outcomes == found);
    (!fits).then(|| format!("{name}: {found:?} instead of {expected}"))
}

fn requests(bytes: &[u8], closes: bool) -> Vec<Outcome> {
    let mut reader = RequestReader::default();
    let mut request = Request::new();
    let mut messages = Messages::new(bytes);
    while !messages.rest.is_empty() {
        match reader.next(messages.rest, 0, &Limits::default(), &mut request) {
            // Whether it passes is not the codec's to decide.
            Ok(Part::Head(_)) if request.method() == "CONNECT" => {
                messages.outcomes.push(Outcome::Refused(405))
            }
            Ok(part @ (Part::Head(_) | Part::Content { .. })) => messages.take(&part, request.framing()),
            Ok(Part::More) => break,
            Err(fault) => messages.refuse(fault),
        }
        let is_refused = matches!(messages.outcomes.last(), Some(Outcome::Refused(_)));
        let is_over = messages.content.is_none() && !persists(request.version(), request.fields());
        if is_refused || (is_over && !messages.outcomes.is_empty()) {
            return messages.outcomes;
        }
    }
    if !reader.is_between() {
        messages.leave(closes);
    }
    messages.outcomes
}

fn responses(asked: &str, bytes: &[u8], closes: bool) -> Vec<Outcome> {
    let mut methods = asked.split(' ');
    let mut reader = ResponseReader::default();
    let mut response = Response::default();
    let mut messages = Messages::new(bytes);
    let mut method = methods.next();
    while let Some(asked) = method {
        reader.expect(asked);
        let answered = messages.outcomes.len() + 1;
        while messages.outcomes.len() < answered {
            match reader.next(messages.rest, 0, &Limits::default(), &mut response) {
                Ok(Part::Head(taken)) if response.status() == 101 => {
                    let is_wanted = asked == "UPGRADE";
                    messages.outcomes.push(if is_wanted { Outcome::Switch } else { Outcome::Refused(502) });
                    messages.rest = &messages.rest[taken..];
                }
                Ok(Part::Head(taken)) if response.status() < 200 => messages.rest = &messages.rest[taken..],
                Ok(part @ Part::Head(_)) => messages.take(&part, response.framing()),
                Ok(part @ Part::Content { taken, .. }) if taken > 0 => {
                    messages.take(&part, response.framing())
                }
                Ok(Part::More | Part::Content { .. }) => {
                    messages.server_leaves(closes.then(|| reader.close()));
                    return messages.outcomes;
                }
                Err(fault) => messages.refuse(fault),
            }
        }
        let ends = matches!(messages.outcomes.last(), Some(Outcome::Refused(_) | Outcome::Cut));
        let is_last = ends || !persists(response.version(), response.fields());
        method = methods.next().filter(|_| !is_last);
    }
    messages.outcomes
}

/// The messages of a stream so far.
struct Messages<'a> {
    rest: &'a [u8],
    /// Bytes of content of the one that has begun.
    content: Option<u64>,
    outcomes: Vec<Outcome>,
}

impl<'a> Messages<'a> {
    const fn new(rest: &'a [u8]) -> Self {
        Self { rest, content: None, outcomes: Vec::new() }
    }

    fn take(&mut self, part: &Part, framing: Framing) {
        let (taken, content, ends) = match part {
            Part::Head(taken) => (*taken, 0, matches!(framing, Framing::None | Framing::Length(0))),
            Part::Content { taken, content, end } => (*taken, content.len() as u64, *end),
            Part::More => (0, 0, false),
        };
        self.rest = &self.rest[taken..];
        let so_far = self.content.unwrap_or(0) + content;
        self.content = (!ends).then_some(so_far);
        if ends {
            self.outcomes.push(Outcome::Content(so_far));
        }
    }

    fn refuse(&mut self, fault: Fault) {
        let (status, _) = fault.status();
        let cut = self.content.is_some() && status == 502;
        self.outcomes.push(if cut { Outcome::Cut } else { Outcome::Refused(status) });
    }

    /// The stream has no more bytes; its sender stays, or leaves within a message.
    fn leave(&mut self, closes: bool) {
        let cut = closes && self.content.is_some();
        self.outcomes.push(if cut { Outcome::Cut } else { Outcome::Unfinished });
    }

    fn server_leaves(&mut self, closed: Option<Result<bool, Fault>>) {
        match (closed, self.content) {
            (None, _) => self.outcomes.push(Outcome::Unfinished),
            (Some(Ok(true)), Some(content)) => self.outcomes.push(Outcome::Content(content)),
            (Some(_), Some(_)) => self.outcomes.push(Outcome::Cut),
            (Some(_), None) => self.outcomes.push(Outcome::Refused(502)),
        }
    }
}
