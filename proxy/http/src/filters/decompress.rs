//! The filter `decompress`: content goes on without its codings, for the filters that it meets next and for clients that do not
//! accept them.
//!
//! Runs on: proxy cores. Allocates: a decoder per message that it decodes ([`coding`]), and its content. Blocks: never.
//!
//! Servers are asked for codings that we know (requests for parts: for none, since no part of coded content can be decoded).
//! What comes in others all the same, or in parts, or must not be transformed, goes on as it is. Content that cannot be decoded
//! ends the connection: the head has promised otherwise.

use std::sync::Arc;

use arrayvec::ArrayVec;
use serde::Deserialize;

use super::Section;
use super::compress::judge;
use crate::coding::decode::{Decoder, Limits};
use crate::coding::{self, Coding, Codings, accept, representation};
use crate::filter::{Call, ConfigFault, Content, HttpFactory, HttpFilter, Record, Verdict};
use crate::message::{Framing, Request, Response, Version};

/// The keys of its section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    response: bool,
    request: bool,
    when: When,
    /// The codings that servers are asked for; none: content as it is.
    accept: Vec<Coding>,
    /// How many times longer content may become, beyond a megabyte.
    max_ratio: u32,
    /// Decodes what a sender forbids to transform, too.
    override_no_transform: bool,
}

/// Which responses are decoded.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum When {
    Always,
    /// Those in a coding that the client does not accept.
    Unaccepted,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            response: true,
            request: false,
            when: When::Always,
            accept: vec![Coding::Gzip, Coding::Br, Coding::Zstd],
            max_ratio: Limits::default().ratio,
            override_no_transform: false,
        }
    }
}

/// Makes the filter from its section.
pub(super) fn configure(section: &Section<'_>) -> Result<Arc<dyn HttpFactory>, ConfigFault> {
    let keys: Keys = section.read()?;
    super::check_ratio(keys.max_ratio)?;
    super::check_sides(keys.request, keys.response)?;
    let names = keys.accept.iter().map(|coding| coding.token()).collect::<Vec<_>>();
    let ask = if names.is_empty() { "identity".to_owned() } else { names.join(", ") };
    Ok(Arc::new(Factory { settings: Arc::new(Settings { keys, ask }) }))
}

#[derive(Debug)]
struct Settings {
    keys: Keys,
    /// The `Accept-Encoding` that servers get.
    ask: String,
}

#[derive(Debug)]
struct Factory {
    settings: Arc<Settings>,
}

impl HttpFactory for Factory {
    fn filter(&self) -> Box<dyn HttpFilter> {
        let settings = Arc::clone(&self.settings);
        Box::new(Decompress { settings, accepted: Codings::new(), decoders: [None, None] })
    }
}

struct Decompress {
    settings: Arc<Settings>,
    /// What the client accepts.
    accepted: Codings,
    /// Of the request and of the response that are being decoded.
    decoders: [Option<Decoder>; 2],
}

impl Settings {
    fn decoder(&self, codings: &Codings) -> Option<Decoder> {
        Some(Decoder::new(codings, Limits { ratio: self.keys.max_ratio, ..Limits::default() }))
    }

    fn may_transform(&self, request: &Request, response: Option<&Response>) -> bool {
        let forbids = representation::forbids_transforming;
        let is_forbidden =
            forbids(request.fields()) || response.is_some_and(|response| forbids(response.fields()));
        self.keys.override_no_transform || !is_forbidden
    }
}

impl Decompress {
    /// Has the server asked for codings that we know, and remembers what the client accepts.
    fn ask(&mut self, request: &mut Request) {
        let accepts = |coding: &Coding| accept::accepts(request.fields(), *coding);
        self.accepted = Coding::ALL.into_iter().filter(accepts).collect::<ArrayVec<_, 4>>();
        let ask = if request.fields().has("range") { "identity" } else { &*self.settings.ask };
        if request.fields().all("accept-encoding").ne([ask.as_bytes()]) {
            request.fields_mut().set("Accept-Encoding", ask.as_bytes());
        }
        representation::ask_for_strong(request);
    }

    fn decode(
        &mut self,
        stream: usize,
        call: &mut Call<'_>,
        bytes: &[u8],
        end: bool,
        out: &mut Vec<u8>,
    ) -> Content {
        match &mut self.decoders[stream] {
            Some(decoder) => judge(call.exchange, decoder.decode(bytes, end, out)),
            None => Content::Go,
        }
    }
}

/// The codings of content that can be decoded; `None`: there are none, or unknown ones.
fn known(fields: &crate::fields::Fields) -> Option<Codings> {
    coding::applied(fields).filter(|codings| !codings.is_empty())
}

impl HttpFilter for Decompress {
    fn request(&mut self, _call: &mut Call<'_>, request: &mut Request) -> Verdict {
        if self.settings.keys.response {
            self.ask(request);
        }
        // What is decoded goes on in chunks, which HTTP/1.0 does not know.
        let has_content = request.framing() != Framing::None && request.version() != Version::Http10;
        if !self.settings.keys.request || !has_content || !self.settings.may_transform(request, None) {
            return Verdict::Pass;
        }
        let Some(codings) = known(request.fields()) else { return Verdict::Pass };
        self.decoders[0] = self.settings.decoder(&codings);
        let fields = request.fields_mut();
        representation::forget_digests(fields);
        fields.remove("content-encoding");
        Verdict::Edit
    }

    fn request_body(&mut self, call: &mut Call<'_>, bytes: &[u8], end: bool, out: &mut Vec<u8>) -> Content {
        self.decode(0, call, bytes, end, out)
    }

    fn response(&mut self, _call: &mut Call<'_>, request: &Request, response: &mut Response) -> Verdict {
        let Keys { response: decodes, when, .. } = self.settings.keys;
        if !decodes {
            return Verdict::Pass;
        }
        if response.status() == 304 {
            representation::answer_weakly(request, response);
            return Verdict::Pass;
        }
        let is_whole = representation::is_whole(response) && representation::has_content(request, response);
        let Some(codings) = known(response.fields()) else { return Verdict::Pass };
        if !is_whole || !self.settings.may_transform(request, Some(response)) {
            return Verdict::Pass;
        }
        if when == When::Unaccepted {
            representation::vary(response, "Accept-Encoding");
            if codings.iter().all(|coding| self.accepted.contains(coding)) {
                return Verdict::Pass;
            }
        }
        let fields = response.fields_mut();
        representation::forget_bytes(fields);
        fields.remove("content-encoding");
        if request.method() == "HEAD" {
            return Verdict::Pass;
        }
        self.decoders[1] = self.settings.decoder(&codings);
        Verdict::Edit
    }

    fn response_body(&mut self, call: &mut Call<'_>, bytes: &[u8], end: bool, out: &mut Vec<u8>) -> Content {
        self.decode(1, call, bytes, end, out)
    }

    fn done(&mut self, _: &mut Call<'_>, _: &Request, _: Option<&Response>, _: &Record) {
        self.decoders = [None, None];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::encode::{Encoder, Flush, Level};
    use crate::filters::Lasting;
    use crate::testkit::{self, Calls};

    const GZIPPED: [(&str, &str); 3] =
        [("Content-Encoding", "gzip"), ("ETag", "\"1\""), ("Content-Digest", "sha-256=:AA==:")];

    fn filter(keys: &str) -> Box<dyn HttpFilter> {
        testkit::configure(configure, &Lasting::default(), keys).unwrap().filter()
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(Coding::Gzip, Level::default(), Framing::Chunked).unwrap();
        encoder.encode(content, Flush::End, &mut out).unwrap();
        out
    }

    fn response(fields: &[(&str, &str)]) -> Response {
        let mut response = testkit::response(200, fields);
        response.read_framing(Framing::Chunked);
        response
    }

    #[test]
    fn rfc9110_12_5_3_servers_are_asked_for_what_can_be_decoded() {
        for (keys, asked, now) in [
            ("", &[("Accept-Encoding", "dcb, gzip")][..], "gzip, br, zstd"),
            ("", &[], "gzip, br, zstd"),
            ("accept = ['zstd']", &[("accept-encoding", "br"), ("accept-encoding", "gzip")], "zstd"),
            ("accept = []", &[("Accept-Encoding", "br")], "identity"),
            ("", &[("Accept-Encoding", "br"), ("Range", "bytes=1-")], "identity"),
        ] {
            let mut request = testkit::request("GET", "/", asked);
            filter(keys).request(&mut Calls::default().call(), &mut request);
            assert_eq!(
                request.fields().list("accept-encoding").collect::<Vec<_>>().join(&b", "[..]),
                now.as_bytes()
            );
        }
    }

    #[test]
    fn rfc9110_8_4_a_response_loses_its_coding_and_what_holds_for_it_alone() {
        for (method, verdict) in [("GET", Verdict::Edit), ("HEAD", Verdict::Pass)] {
            let (mut filter, mut calls) = (filter(""), Calls::default());
            let mut request = testkit::request(method, "/", &[]);
            filter.request(&mut calls.call(), &mut request);
            let mut response = response(&GZIPPED);
            assert_eq!(filter.response(&mut calls.call(), &request, &mut response), verdict);
            assert_eq!(response.fields().iter().collect::<Vec<_>>(), [("ETag", &b"W/\"1\""[..])]);
        }
    }

    #[test]
    fn content_comes_out_decoded_wherever_it_was_cut() {
        let page = b"<p>All the words of this page, and all of them again.</p>".repeat(40);
        let coded = gzip(&page);
        for cut in 1..coded.len() {
            let (mut filter, mut calls) = (filter(""), Calls::default());
            let request = testkit::request("GET", "/", &[]);
            filter.response(&mut calls.call(), &request, &mut response(&GZIPPED));
            let mut out = Vec::new();
            for (piece, end) in [(&coded[..cut], false), (&coded[cut..], true)] {
                assert_eq!(filter.response_body(&mut calls.call(), piece, end, &mut out), Content::Go);
            }
            assert!(out == page, "{cut}");
        }
    }

    #[test]
    fn only_codings_that_the_client_does_not_accept_are_undone_where_so_configured() {
        for (accepts, verdict) in
            [("gzip", Verdict::Pass), ("gzip;q=0, *", Verdict::Edit), ("br", Verdict::Edit)]
        {
            let (mut filter, mut calls) = (filter("when = 'unaccepted'"), Calls::default());
            let mut request = testkit::request("GET", "/", &[("Accept-Encoding", accepts)]);
            filter.request(&mut calls.call(), &mut request);
            let mut response = response(&GZIPPED);
            assert_eq!(filter.response(&mut calls.call(), &request, &mut response), verdict, "{accepts}");
            assert_eq!(response.fields().text("vary"), Some("Accept-Encoding"));
        }
    }

    #[test]
    fn what_cannot_or_must_not_be_decoded_goes_on_as_it_came() {
        for fields in [
            &[("Content-Encoding", "dcb")][..],
            &[("Content-Encoding", "gzip, dcb")],
            &[("Content-Encoding", "identity")],
            &[("Content-Encoding", "gzip"), ("Content-Range", "bytes 0-9/100")],
            &[("Content-Encoding", "gzip"), ("Cache-Control", "no-transform")],
            &[],
        ] {
            let (mut filter, mut calls) = (filter(""), Calls::default());
            let mut response = response(fields);
            let verdict =
                filter.response(&mut calls.call(), &testkit::request("GET", "/", &[]), &mut response);
            assert!(verdict == Verdict::Pass && !response.is_edited(), "{fields:?}");
        }
    }

    #[test]
    fn a_bomb_and_a_truncated_stream_end_the_connection_and_say_why() {
        let bomb = gzip(&vec![0; 10 << 20]);
        let short = gzip(b"page");
        for (content, sentence) in [
            (&bomb[..], "the content grows by more than it may when it is decoded"),
            (&short[..short.len() - 1], "the content ends within its gzip coding"),
            (b"<html>", "the content is not gzip"),
        ] {
            let (mut filter, mut calls) = (filter(""), Calls::default());
            filter.response(&mut calls.call(), &testkit::request("GET", "/", &[]), &mut response(&GZIPPED));
            let mut out = Vec::new();
            let mut went = filter.response_body(&mut calls.call(), content, true, &mut out);
            while went == Content::More {
                went = filter.response_body(&mut calls.call(), &[], true, &mut out);
            }
            assert_eq!(went, Content::Reset);
            assert!(out.len() <= 200 * content.len() + (1 << 20));
            assert_eq!(calls.exchange.verdict.as_deref(), Some(sentence));
        }
    }

    #[test]
    fn a_request_is_decoded_where_so_configured() {
        for (keys, verdict) in [("", Verdict::Pass), ("request = true", Verdict::Edit)] {
            let (mut filter, mut calls) = (filter(keys), Calls::default());
            let mut request =
                testkit::request("POST", "/", &[("Content-Encoding", "gzip"), ("Content-Length", "30")]);
            request.read_framing(Framing::Length(30));
            assert_eq!(filter.request(&mut calls.call(), &mut request), verdict);
            if verdict == Verdict::Edit {
                assert!(!request.fields().has("content-encoding"));
                let mut out = Vec::new();
                assert_eq!(
                    filter.request_body(&mut calls.call(), &gzip(b"a=b"), true, &mut out),
                    Content::Go
                );
                assert_eq!(out, b"a=b");
            }
        }
    }

    #[test]
    fn a_key_that_is_wrong_is_named() {
        for (keys, key) in [
            ("accept = ['gzip', 'lzma']", "accept[1]"),
            ("when = 'never'", "when"),
            ("max_ratio = 0", "max_ratio"),
            ("responses = true", "responses"),
        ] {
            let fault = testkit::configure(configure, &Lasting::default(), keys).unwrap_err();
            assert_eq!(fault.key, key, "{fault}");
        }
    }
}
