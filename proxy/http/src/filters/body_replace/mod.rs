//! The filter `body-replace`: content goes on with texts in it replaced, in whatever coding it is.
//!
//! Runs on: proxy cores. Allocates: per message that it changes: what it holds back, and a decoder and an encoder per coding.
//! Blocks: never.
//!
//! ```text
//!   coded --> decoder --> rules, one step after the other --> encoder --> coded alike
//! ```
//!
//! Content is bytes: what is searched for is its UTF-8, so other character sets than those that begin as ASCII are searched in
//! vain. What comes out does not depend on how the content was cut; what could be the beginning of a match is held back, in
//! bounds that [`rules`] gives, and everything else goes on at once.
//!
//! Left alone: media types that it is not for, unknown codings (servers are asked for known ones alone), parts of a representation
//! (unless requests for parts are made requests for the whole), and what a sender forbids to transform. ETags become weak
//! ([`representation`] says why).

use std::sync::Arc;

use serde::Deserialize;

use self::rules::{Replacer, Rule, Rules};
use super::Section;
use super::compress::judge;
use crate::coding::decode::Limits;
use crate::coding::encode::Level;
use crate::coding::recode::Recoder;
use crate::coding::representation::{self, Types};
use crate::coding::{self, Coding};
use crate::fields::Fields;
use crate::filter::{Call, ConfigFault, Content, HttpFactory, HttpFilter, Record, Verdict};
use crate::message::{Framing, Request, Response, Version};

mod literals;
mod pattern;
mod rules;
#[cfg(test)]
mod tests;

/// The keys of its section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    replace: Vec<Rule>,
    #[serde(default = "textual")]
    types: Vec<String>,
    #[serde(default = "yes")]
    response: bool,
    #[serde(default)]
    request: bool,
    /// Bytes that a match of a regular expression has at most.
    #[serde(default = "max_match")]
    max_match: usize,
    /// Makes requests for parts requests for the whole, in which parts of matches are found.
    #[serde(default)]
    refuse_ranges: bool,
    /// Changes what a sender forbids to transform, too.
    #[serde(default)]
    override_no_transform: bool,
    /// How many times longer content may become when it is decoded, beyond a megabyte.
    #[serde(default = "max_ratio")]
    max_ratio: u32,
    /// Of the codings that are applied again.
    #[serde(default)]
    level: Level,
}

fn textual() -> Vec<String> {
    representation::TEXTUAL.map(str::to_owned).to_vec()
}

const fn yes() -> bool {
    true
}

const fn max_match() -> usize {
    1024
}

fn max_ratio() -> u32 {
    Limits::default().ratio
}

/// Makes the filter from its section.
pub(super) fn configure(section: &Section<'_>) -> Result<Arc<dyn HttpFactory>, ConfigFault> {
    let keys: Keys = section.read()?;
    super::check_ratio(keys.max_ratio)?;
    super::check_level(keys.level)?;
    super::check_sides(keys.request, keys.response)?;
    Ok(Arc::new(Factory {
        settings: Arc::new(Settings {
            rules: Arc::new(Rules::new(&keys.replace, keys.max_match)?),
            types: super::types("types", &keys.types)?,
            response: keys.response,
            request: keys.request,
            refuse_ranges: keys.refuse_ranges,
            override_no_transform: keys.override_no_transform,
            limits: Limits { ratio: keys.max_ratio, ..Limits::default() },
            level: keys.level,
        }),
    }))
}

#[derive(Debug)]
struct Settings {
    rules: Arc<Rules>,
    types: Types,
    response: bool,
    request: bool,
    refuse_ranges: bool,
    override_no_transform: bool,
    limits: Limits,
    level: Level,
}

#[derive(Debug)]
struct Factory {
    settings: Arc<Settings>,
}

impl HttpFactory for Factory {
    fn filter(&self) -> Box<dyn HttpFilter> {
        Box::new(BodyReplace { settings: Arc::clone(&self.settings), works: [None, None] })
    }
}

struct BodyReplace {
    settings: Arc<Settings>,
    /// On the request and on the response that are being changed.
    works: [Option<Work>; 2],
}

/// The changing of one message's content.
struct Work {
    recoder: Recoder,
    replacer: Replacer,
}

impl Settings {
    fn may_transform(&self, fields: &Fields) -> bool {
        self.override_no_transform || !representation::forbids_transforming(fields)
    }

    /// For content with these fields; `None`: it is not to be changed, or cannot be.
    fn work(&self, fields: &Fields, framing: Framing) -> Option<Work> {
        if !self.types.has(fields) {
            return None;
        }
        let codings = coding::applied(fields)?;
        let recoder = Recoder::new(&codings, self.limits, self.level, framing).ok()?;
        Some(Work { recoder, replacer: Replacer::new(Arc::clone(&self.rules)) })
    }
}

impl BodyReplace {
    fn replace(
        &mut self,
        stream: usize,
        call: &mut Call<'_>,
        bytes: &[u8],
        end: bool,
        out: &mut Vec<u8>,
    ) -> Content {
        let Some(Work { recoder, replacer }) = &mut self.works[stream] else { return Content::Go };
        let change = |plain: &[u8], end, changed: &mut Vec<u8>| replacer.replace(plain, end, changed);
        judge(call.exchange, recoder.recode(bytes, end, change, out))
    }
}

/// Takes from `Accept-Encoding` what we do not know.
fn ask_for_known(request: &mut Request) {
    let is_known = |member: &&[u8]| {
        let token = member.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        Coding::named(token).is_some() || token.eq_ignore_ascii_case(b"identity")
    };
    let fields = request.fields();
    if fields.list("accept-encoding").all(|member| is_known(&member)) {
        return;
    }
    let known = fields.list("accept-encoding").filter(is_known).collect::<Vec<_>>().join(&b", "[..]);
    let known = if known.is_empty() { b"identity".to_vec() } else { known };
    request.fields_mut().set("Accept-Encoding", &known);
}

impl HttpFilter for BodyReplace {
    fn request(&mut self, _call: &mut Call<'_>, request: &mut Request) -> Verdict {
        let settings = &self.settings;
        if settings.response {
            ask_for_known(request);
            representation::ask_for_strong(request);
            if settings.refuse_ranges && request.fields().has("range") {
                request.fields_mut().remove("range");
                request.fields_mut().remove("if-range");
            }
        }
        // What is changed goes on in chunks, which HTTP/1.0 does not know.
        let has_content = request.framing() != Framing::None && request.version() != Version::Http10;
        let is_part = request.fields().has("content-range");
        if !settings.request || !has_content || is_part || !settings.may_transform(request.fields()) {
            return Verdict::Pass;
        }
        self.works[0] = settings.work(request.fields(), request.framing());
        if self.works[0].is_none() {
            return Verdict::Pass;
        }
        representation::forget_digests(request.fields_mut());
        Verdict::Edit
    }

    fn request_body(&mut self, call: &mut Call<'_>, bytes: &[u8], end: bool, out: &mut Vec<u8>) -> Content {
        self.replace(0, call, bytes, end, out)
    }

    fn response(&mut self, _call: &mut Call<'_>, request: &Request, response: &mut Response) -> Verdict {
        let settings = &self.settings;
        if !settings.response {
            return Verdict::Pass;
        }
        if response.status() == 304 {
            representation::answer_weakly(request, response);
            return Verdict::Pass;
        }
        let is_whole = representation::is_whole(response) && representation::has_content(request, response);
        let may_transform =
            settings.may_transform(request.fields()) && settings.may_transform(response.fields());
        if !is_whole || !may_transform {
            return Verdict::Pass;
        }
        let Some(work) = settings.work(response.fields(), response.framing()) else { return Verdict::Pass };
        representation::forget_bytes(response.fields_mut());
        if request.method() == "HEAD" {
            return Verdict::Pass;
        }
        self.works[1] = Some(work);
        Verdict::Edit
    }

    fn response_body(&mut self, call: &mut Call<'_>, bytes: &[u8], end: bool, out: &mut Vec<u8>) -> Content {
        self.replace(1, call, bytes, end, out)
    }

    fn done(&mut self, _: &mut Call<'_>, _: &Request, _: Option<&Response>, _: &Record) {
        self.works = [None, None];
    }
}
