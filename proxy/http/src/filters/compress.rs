//! The filter `compress`: responses go to clients in a coding that they accept.
//!
//! Runs on: proxy cores. Allocates: an encoder per response that it codes ([`coding`]). Blocks: never.
//!
//! What is left alone: content that has a coding, parts of a representation and what a request for parts got, what a sender
//! forbids to transform, streams of events, and what is short or not of the media types. What could have been coded for another
//! client says so by `Vary`. ETags become weak ([`representation`] says why).

use std::sync::Arc;

use serde::Deserialize;

use super::Section;
use crate::coding::decode::Decoded;
use crate::coding::encode::{Encoder, Level, Pace};
use crate::coding::representation::{self, Types};
use crate::coding::{self, Coding, accept};
use crate::filter::{Call, ConfigFault, Content, Exchange, HttpFactory, HttpFilter, Record, Verdict};
use crate::message::{Request, Response};

/// The keys of its section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    /// What it may apply; of those that a client likes alike, the first.
    codings: Vec<Coding>,
    /// Content of fewer bytes stays as it is, where its length is known.
    min_length: u64,
    /// Media types that it is for, as `text/html` or `text/*`.
    types: Vec<String>,
    level: Level,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            codings: vec![Coding::Br, Coding::Zstd, Coding::Gzip],
            min_length: 256,
            types: representation::TEXTUAL.map(str::to_owned).to_vec(),
            level: Level::default(),
        }
    }
}

#[derive(Debug)]
struct Settings {
    codings: Vec<Coding>,
    min_length: u64,
    types: Types,
    level: Level,
}

/// Makes the filter from its section.
pub(super) fn configure(section: &Section<'_>) -> Result<Arc<dyn HttpFactory>, ConfigFault> {
    let Keys { codings, min_length, types, level } = section.read()?;
    if codings.is_empty() {
        return Err(fault("codings", "names none; allowed are gzip, deflate, br and zstd"));
    }
    let types = super::types("types", &types)?;
    super::check_level(level)?;
    Ok(Arc::new(Factory { settings: Arc::new(Settings { codings, min_length, types, level }) }))
}

fn fault(key: &str, message: &str) -> ConfigFault {
    ConfigFault { key: key.to_owned(), message: message.to_owned() }
}

#[derive(Debug)]
struct Factory {
    settings: Arc<Settings>,
}

impl HttpFactory for Factory {
    fn filter(&self) -> Box<dyn HttpFilter> {
        Box::new(Compress { settings: Arc::clone(&self.settings), encoder: None })
    }
}

struct Compress {
    settings: Arc<Settings>,
    /// Of the response that is being coded.
    encoder: Option<(Encoder, Pace)>,
}

impl Settings {
    /// Whether a client that accepts a coding would get this response in it.
    fn suits(&self, request: &Request, response: &Response) -> bool {
        let fields = response.fields();
        representation::has_content(request, response)
            && representation::is_whole(response)
            && !request.fields().has("range")
            && coding::applied(fields).is_some_and(|codings| codings.is_empty())
            && self.types.has(fields)
            && !representation::is_event_stream(fields)
            && !representation::forbids_transforming(fields)
            && !representation::forbids_transforming(request.fields())
            && representation::length(response).is_none_or(|length| length >= self.min_length)
    }
}

impl HttpFilter for Compress {
    fn request(&mut self, _call: &mut Call<'_>, request: &mut Request) -> Verdict {
        representation::ask_for_strong(request);
        Verdict::Pass
    }

    fn response(&mut self, _call: &mut Call<'_>, request: &Request, response: &mut Response) -> Verdict {
        if response.status() == 304 {
            if representation::answer_weakly(request, response) {
                representation::vary(response, "Accept-Encoding");
            }
            return Verdict::Pass;
        }
        if !self.settings.suits(request, response) {
            return Verdict::Pass;
        }
        representation::vary(response, "Accept-Encoding");
        let Some(coding) = accept::preferred(request.fields(), &self.settings.codings) else {
            return Verdict::Pass;
        };
        let Ok(encoder) = Encoder::new(coding, self.settings.level, response.framing()) else {
            return Verdict::Pass;
        };
        let framing = response.framing();
        let fields = response.fields_mut();
        representation::forget_bytes(fields);
        fields.set("Content-Encoding", coding.token().as_bytes());
        if request.method() == "HEAD" {
            return Verdict::Pass;
        }
        self.encoder = Some((encoder, Pace::new(framing)));
        Verdict::Edit
    }

    fn response_body(&mut self, call: &mut Call<'_>, bytes: &[u8], end: bool, out: &mut Vec<u8>) -> Content {
        let Some((encoder, pace)) = &mut self.encoder else { return Content::Go };
        let flush = pace.after(bytes.len(), end);
        judge(call.exchange, encoder.encode(bytes, flush, out).map(|()| Decoded::All))
    }

    fn done(&mut self, _: &mut Call<'_>, _: &Request, _: Option<&Response>, _: &Record) {
        self.encoder = None;
    }
}

/// Content goes on unless a coding failed, which the exchange's verdict tells.
pub(super) fn judge(exchange: &mut Exchange, outcome: Result<Decoded, coding::Fault>) -> Content {
    match outcome {
        Ok(Decoded::All) => Content::Go,
        Ok(Decoded::Some) => Content::More,
        Err(fault) => {
            exchange.verdict = Some(fault.to_string().into());
            Content::Reset
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::decode::{Decoder, Limits};
    use crate::filters::Lasting;
    use crate::message::Framing;
    use crate::testkit::{self, Calls};

    const PAGE: &[(&str, &str)] =
        &[("Content-Type", "text/html"), ("ETag", "\"1\""), ("Content-Length", "3000")];

    fn filter(keys: &str) -> Box<dyn HttpFilter> {
        testkit::configure(configure, &Lasting::default(), keys).unwrap().filter()
    }

    /// What becomes of a response's head, and whether its content is coded.
    fn head(
        keys: &str,
        method: &str,
        asked: &[(&str, &str)],
        status: u16,
        fields: &[(&str, &str)],
    ) -> (Response, bool) {
        let (mut filter, mut calls) = (filter(keys), Calls::default());
        let mut request = testkit::request(method, "/", asked);
        assert_eq!(filter.request(&mut calls.call(), &mut request), Verdict::Pass);
        let mut response = testkit::response(status, fields);
        response.read_framing(match response.fields().text("content-length") {
            _ if method == "HEAD" || status == 304 => Framing::None,
            Some(length) => Framing::Length(length.parse().unwrap()),
            None => Framing::Chunked,
        });
        let is_coded = filter.response(&mut calls.call(), &request, &mut response) == Verdict::Edit;
        (response, is_coded)
    }

    #[test]
    fn rfc9110_8_4_a_page_goes_out_in_the_coding_that_the_client_likes_best() {
        let asked = [("Accept-Encoding", "gzip, deflate;q=0.5, br;q=0.8")];
        let (response, is_coded) = head("", "GET", &asked, 200, PAGE);
        assert!(is_coded);
        let fields: Vec<_> = response.fields().iter().collect();
        assert_eq!(
            fields,
            [
                ("Content-Type", &b"text/html"[..]),
                ("ETag", b"W/\"1\""),
                ("Vary", b"Accept-Encoding"),
                ("Content-Encoding", b"gzip"),
            ]
        );
        let (response, is_coded) = head("codings = ['zstd']", "GET", &asked, 200, PAGE);
        assert!(!is_coded && !response.fields().has("content-encoding"));
        assert_eq!(response.fields().text("vary"), Some("Accept-Encoding"));
        assert_eq!(response.fields().text("etag"), Some("\"1\""));
    }

    #[test]
    fn rfc9110_9_3_2_head_gets_the_fields_that_get_would() {
        let asked = [("Accept-Encoding", "br")];
        let (to_get, _) = head("", "GET", &asked, 200, PAGE);
        let (to_head, is_coded) = head("", "HEAD", &asked, 200, PAGE);
        assert!(!is_coded);
        assert_eq!(to_head.fields(), to_get.fields());
    }

    #[test]
    fn what_must_not_be_coded_is_left_as_it_came() {
        let html = ("Content-Type", "text/html");
        for (method, asked, status, fields) in [
            ("GET", ("X", ""), 206, &[html, ("Content-Range", "bytes 0-2999/9000")][..]),
            ("GET", ("X", ""), 200, &[html, ("Content-Range", "bytes 0-2999/9000")]),
            ("GET", ("Range", "bytes=0-2999"), 200, &[html]),
            ("GET", ("X", ""), 200, &[html, ("Cache-Control", "public, No-Transform")]),
            ("GET", ("Cache-Control", "no-transform"), 200, &[html]),
            ("GET", ("X", ""), 200, &[html, ("Content-Encoding", "gzip")]),
            ("GET", ("X", ""), 200, &[html, ("Content-Encoding", "dcb")]),
            ("GET", ("X", ""), 200, &[("Content-Type", "text/event-stream; charset=utf-8")]),
            ("GET", ("X", ""), 200, &[("Content-Type", "image/png")]),
            ("GET", ("X", ""), 200, &[]),
            ("GET", ("X", ""), 200, &[html, ("Content-Length", "255")]),
            ("GET", ("X", ""), 200, &[html, ("Content-Length", "0")]),
            ("GET", ("X", ""), 204, &[html]),
            ("GET", ("X", ""), 304, &[html]),
            ("HEAD", ("X", ""), 200, &[html, ("Content-Length", "255")]),
        ] {
            let asked = [asked, ("Accept-Encoding", "gzip, br, zstd")];
            let (response, is_coded) = head("", method, &asked, status, fields);
            let before = testkit::response(status, fields);
            assert!(
                !is_coded && response.fields() == before.fields(),
                "{method} {asked:?} {status} {fields:?}"
            );
        }
    }

    #[test]
    fn rfc9110_13_1_2_a_client_that_has_a_coded_page_can_ask_whether_it_is_fresh() {
        let (mut filter, mut calls) = (filter(""), Calls::default());
        let mut request = testkit::request("GET", "/", &[("If-None-Match", "W/\"1\"")]);
        filter.request(&mut calls.call(), &mut request);
        assert_eq!(request.fields().text("if-none-match"), Some("W/\"1\", \"1\""));
        let mut response = testkit::response(304, &[("ETag", "\"1\"")]);
        assert_eq!(filter.response(&mut calls.call(), &request, &mut response), Verdict::Pass);
        assert_eq!(response.fields().text("etag"), Some("W/\"1\""));
        assert_eq!(response.fields().text("vary"), Some("Accept-Encoding"));
        // Who has the server's bytes is told of those.
        let request = testkit::request("GET", "/", &[("If-None-Match", "\"1\"")]);
        let mut response = testkit::response(304, &[("ETag", "\"1\"")]);
        filter.response(&mut calls.call(), &request, &mut response);
        assert!(!response.is_edited());
    }

    #[test]
    fn content_comes_out_coded_and_reads_the_same_wherever_it_was_cut() {
        let page = b"<p>All the words of this page, and all of them again.</p>".repeat(40);
        for coding in Coding::ALL {
            for cut in [1, 7, 1000, page.len()] {
                let (mut filter, mut calls) =
                    (filter("codings = ['br', 'zstd', 'gzip', 'deflate']"), Calls::default());
                let request = testkit::request("GET", "/", &[("Accept-Encoding", coding.token())]);
                let mut response = testkit::response(200, &[("Content-Type", "text/html")]);
                response.read_framing(Framing::Length(page.len() as u64));
                assert_eq!(filter.response(&mut calls.call(), &request, &mut response), Verdict::Edit);
                let mut out = Vec::new();
                for piece in page.chunks(cut) {
                    assert_eq!(filter.response_body(&mut calls.call(), piece, false, &mut out), Content::Go);
                }
                assert_eq!(filter.response_body(&mut calls.call(), &[], true, &mut out), Content::Go);
                assert!(out.len() < page.len() / 5, "{coding}: {}", out.len());
                let mut plain = Vec::new();
                let mut decoder = Decoder::new(&[coding].into_iter().collect(), Limits::default());
                decoder.decode_all(&out, true, &mut plain).unwrap();
                assert!(plain == page, "{coding} {cut}");
            }
        }
    }

    #[test]
    fn a_key_that_is_wrong_is_named() {
        for (keys, key) in [
            ("codings = []", "codings"),
            ("codings = ['gzip', 'lzma']", "codings[1]"),
            ("types = []", "types"),
            ("types = ['text/html', 'html']", "types[1]"),
            ("level = { gzip = 10 }", "level.gzip"),
            ("level = { lzma = 1 }", "level.lzma"),
            ("levels = 1", "levels"),
        ] {
            let fault = testkit::configure(configure, &Lasting::default(), keys).unwrap_err();
            assert_eq!(fault.key, key, "{fault}");
        }
    }
}
