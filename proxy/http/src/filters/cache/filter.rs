//! The cache in one connection: which requests are answered from it, and what of the responses goes into it.
//!
//! Runs on: proxy cores. Allocates: for answers, and for what is stored. Blocks: never.
//!
//! ```text
//!   request --> found, usable -----------------------------> Answer
//!      |           '-- stale, may answer meanwhile -------> Answer, and goes on ---.
//!      |        not found --> Asked: Wait --> Found -----> as above                |
//!      |                                  '-> Lead, Go --> Fetching <---- stale <--'
//!      '--> unsafe method --> Changing                        |
//!                                                             v
//!   response: 304 to our condition: Answer, or Again where it is about something else; server error: Answer, stale; to be stored: Watch; else Pass
//! ```

use std::any::Any;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Sender;
use pnat_shared::time::Instant;

use super::counters::Count;
use super::fetch::{self, Collected, Collecting, Fetch};
use super::key::{self, Key};
use super::policy::Moments;
use super::service::{Flight, Job, Look, Patience, Reply};
use super::settings::{KeyedBy, Settings};
use super::stored::{Record, Stored};
use super::want::{Kind, Use, Want};
use super::{Shared, answer};
use crate::fields::Fields;
use crate::filter::{Call, Content, Failure, HttpFilter, Record as Outcome, Verdict};
use crate::message::{Answer, Request, Response};

/// Jobs that may wait for the cache's thread: beyond that, requests go on without it, and nothing is stored. Only what ends the waiting
/// of others still goes there, of which there is one for each request under way at most.
pub(super) const MOST_JOBS: usize = 1 << 14;

/// How often the cache's thread is asked for one request at most: for the resource, for its variant, and for what is stale.
const MOST_ASKED: u8 = 3;

pub(super) struct CacheFilter {
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    jobs: Sender<Job>,
    /// Of the resource that the request is for, and what was looked for last.
    resource: String,
    key: String,
    /// Whether this request was answered together with another one.
    collapsed: bool,
    phase: Phase,
}

/// How far an exchange has come.
#[derive(Debug, Default)]
enum Phase {
    /// It is none of the cache's.
    #[default]
    Idle,
    /// The cache's thread has been asked.
    Asked(Asked),
    Fetching(Box<Fetch>),
    /// It changes what lies under this key.
    Changing(Key),
}

#[derive(Debug)]
struct Asked {
    want: Want,
    /// What was found, but cannot be used as it is.
    stale: Option<Arc<Stored>>,
    times: u8,
    /// When it goes on without a reply.
    until: Instant,
    reply: Option<Reply>,
}

impl HttpFilter for CacheFilter {
    fn request(&mut self, call: &mut Call<'_>, request: &mut Request) -> Verdict {
        match mem::take(&mut self.phase) {
            Phase::Asked(asked) => self.go_on(call, request, asked),
            _ => self.begin(call, request),
        }
    }

    fn answered(&mut self, _call: &mut Call<'_>, answer: Box<dyn Any + Send>) {
        if let (Phase::Asked(asked), Ok(reply)) = (&mut self.phase, answer.downcast::<Reply>()) {
            asked.reply = Some(*reply);
        }
    }

    fn response(&mut self, call: &mut Call<'_>, sent: &Request, response: &mut Response) -> Verdict {
        match mem::take(&mut self.phase) {
            Phase::Fetching(fetch) => {
                let request = Arc::clone(&fetch.shown);
                if fetch.validates
                    && response.status() == 304
                    && let Some(tag) = fetch.other(response)
                {
                    return self.mistaken(call.gateway.unix_time(), sent, tag, fetch);
                }
                self.fetched(call, &request, response, fetch)
            }
            Phase::Changing(key) => {
                if response.status() < 400 {
                    self.invalidate(call.gateway.unix_time(), key, response);
                }
                Verdict::Pass
            }
            Phase::Idle | Phase::Asked(_) => Verdict::Pass,
        }
    }

    fn response_body(&mut self, call: &mut Call<'_>, bytes: &[u8], end: bool, _: &mut Vec<u8>) -> Content {
        if let Phase::Fetching(fetch) = &mut self.phase
            && let Some(collecting) = &mut fetch.collecting
        {
            match collecting.push(bytes, end) {
                Collected::More => {}
                Collected::Whole => self.store(),
                Collected::Never(count) => {
                    self.shared.counters.add(count);
                    self.give_up(call.gateway.unix_time());
                }
            }
        }
        Content::Go
    }

    fn failed(&mut self, call: &mut Call<'_>, _: &Request, _: Failure) -> Option<Box<Answer>> {
        let Phase::Fetching(fetch) = &self.phase else { return None };
        let longest = self.settings.stale_if_unreachable.as_secs();
        let answer = self.in_spite(call.gateway.unix_time(), fetch, longest)?;
        call.exchange.verdict = Some("stale, for the server failed".into());
        Some(answer)
    }

    fn done(&mut self, _: &mut Call<'_>, _: &Request, _: Option<&Response>, _: &Outcome) {
        self.phase = Phase::Idle;
    }
}

impl CacheFilter {
    pub(super) fn new(settings: Arc<Settings>, shared: Arc<Shared>, jobs: Sender<Job>) -> Self {
        Self {
            settings,
            shared,
            jobs,
            resource: String::new(),
            key: String::new(),
            collapsed: false,
            phase: Phase::Idle,
        }
    }

    fn begin(&mut self, call: &mut Call<'_>, request: &mut Request) -> Verdict {
        self.collapsed = false;
        let kind = Kind::of(request);
        let by_server = self.settings.key == KeyedBy::Server;
        if kind == Kind::Other || !key::write(&mut self.resource, call.exchange, by_server, request) {
            self.shared.counters.add(Count::Bypassed);
            return Verdict::Pass;
        }
        match kind {
            Kind::Read(want) => self.look(call, request, want, 0),
            Kind::Change | Kind::Other => {
                self.phase = Phase::Changing(Key::from(self.resource.as_str()));
                Verdict::Pass
            }
        }
    }

    /// Looks in memory, for the resource and for its variant.
    fn look(&mut self, call: &mut Call<'_>, request: &mut Request, want: Want, times: u8) -> Verdict {
        self.key.clear();
        self.key.push_str(&self.resource);
        let mut record = self.shared.front.get(&self.key);
        if let Some(Record::Variants(variants)) = &record {
            let selected = key::selected(&variants.names, request.fields());
            self.key = key::variant(&self.resource, variants.generation, &selected);
            record = self.shared.front.get(&self.key);
        }
        self.decide(call, request, want, record, times)
    }

    fn decide(
        &mut self,
        call: &mut Call<'_>,
        request: &mut Request,
        want: Want,
        record: Option<Record>,
        times: u8,
    ) -> Verdict {
        let now = call.gateway.unix_time();
        let stored = match &record {
            Some(Record::Response(stored)) => stored,
            Some(Record::Uncacheable(until)) if now < *until => {
                return self.fetch(call, request, want, None, None, "uri-miss");
            }
            _ => return self.ask(call, request, want, record, times),
        };
        match want.use_of(stored, now) {
            Use::Now => self.hit(call, request, want, stored, Count::Hit),
            // A HEAD brings nothing to store.
            Use::Meanwhile if !want.is_head && stored.claim(now) => {
                self.answer_meanwhile(call, request, want, stored)
            }
            Use::Meanwhile => self.hit(call, request, want, stored, Count::Stale),
            Use::Validated => self.ask(call, request, want, record, times),
        }
    }

    /// Answers from the store, which counts as `count`.
    fn hit(
        &mut self,
        call: &mut Call<'_>,
        request: &mut Request,
        want: Want,
        stored: &Arc<Stored>,
        count: Count,
    ) -> Verdict {
        let now = call.gateway.unix_time();
        let Some(content) = self.shared.lend(&stored.content) else {
            self.shared.counters.add(Count::Busy);
            return self.fetch(call, request, want, None, None, "bypass");
        };
        if stored.touch(now) && !self.is_behind() {
            self.send(Job::Touch(Key::from(self.key.as_str())));
        }
        let is_fresh = stored.is_fresh(now);
        self.shared.counters.add(count);
        let what = if self.collapsed { "fwd=uri-miss; collapsed" } else { "hit" };
        call.exchange.verdict = Some(if is_fresh { "hit" } else { "hit, stale" }.into());
        Verdict::Answer(Box::new(self.respond(stored, content, &want, request.fields(), now, what)))
    }

    /// Answers with what is stale, and has the request go on to renew it.
    fn answer_meanwhile(
        &mut self,
        call: &mut Call<'_>,
        request: &mut Request,
        want: Want,
        stored: &Arc<Stored>,
    ) -> Verdict {
        let verdict = self.hit(call, request, want, stored, Count::Stale);
        let Verdict::Answer(mut answer) = verdict else { return verdict };
        answer.goes_on = true;
        // It is for the store alone: whole, and without the client's conditions.
        for name in fetch::OF_CLIENT {
            request.fields_mut().remove(name);
        }
        self.fetch(call, request, Want::default(), None, Some(Arc::clone(stored)), "stale");
        if let Phase::Fetching(fetch) = &mut self.phase {
            fetch.is_answered = true;
        }
        Verdict::Answer(answer)
    }

    /// Asks the cache's thread for what is not in memory, or who goes to the server for it.
    fn ask(
        &mut self,
        call: &mut Call<'_>,
        request: &mut Request,
        want: Want,
        known: Option<Record>,
        times: u8,
    ) -> Verdict {
        let stale = match &known {
            Some(Record::Response(stored)) => Some(Arc::clone(stored)),
            _ => None,
        };
        if stale.is_some() && want.only_if_cached() {
            return self.refuse(call);
        }
        if times >= MOST_ASKED || self.is_behind() {
            return self.fetch(call, request, want, None, stale, "uri-miss");
        }
        let reloads = want.directives.as_ref().is_some_and(|limits| limits.no_cache);
        // Who waits for what answers nobody but those that it was made for would wait in vain.
        let is_shared = stale.as_ref().is_none_or(|stale| stale.answers_others());
        let can_lead = want.is_for_all() && !want.only_if_cached() && !reloads && is_shared;
        if known.is_some() && !can_lead {
            let reason = if reloads { "request" } else { "stale" };
            return self.fetch(call, request, want, None, stale, reason);
        }
        let patience = Patience { longest: self.settings.wait, most: self.settings.waiting };
        let look = Look {
            key: Key::from(self.key.as_str()),
            known,
            can_lead,
            patience,
            now: call.gateway.unix_time(),
            ticket: call.gateway.ticket(),
        };
        if !self.send(Job::Look(look)) {
            return self.fetch(call, request, want, None, stale, "bypass");
        }
        let until = call.now + self.settings.wait;
        *call.wake = Some(until);
        self.phase = Phase::Asked(Asked { want, stale, times: times + 1, until, reply: None });
        Verdict::Wait
    }

    /// With what the cache's thread has said, or without it.
    fn go_on(&mut self, call: &mut Call<'_>, request: &mut Request, asked: Asked) -> Verdict {
        let Asked { want, stale, times, until, reply } = asked;
        let reason = if stale.is_some() { "stale" } else { "uri-miss" };
        self.collapsed |= matches!(reply, Some(Reply::Landed(_)));
        match reply {
            None if call.now < until => {
                *call.wake = Some(until);
                self.phase = Phase::Asked(Asked { want, stale, times, until, reply: None });
                Verdict::Wait
            }
            Some(Reply::Found(Record::Variants(_)) | Reply::Landed(Record::Variants(_))) => {
                self.look(call, request, want, times)
            }
            Some(Reply::Found(record) | Reply::Landed(record)) => {
                self.decide(call, request, want, Some(record), times)
            }
            Some(Reply::Lead(flight)) => self.fetch(call, request, want, Some(flight), stale, reason),
            None | Some(Reply::Go) if want.only_if_cached() => self.refuse(call),
            None | Some(Reply::Go) => self.fetch(call, request, want, None, stale, reason),
        }
    }

    /// Sends the request to the server.
    fn fetch(
        &mut self,
        call: &mut Call<'_>,
        request: &mut Request,
        want: Want,
        flight: Option<Flight>,
        stale: Option<Arc<Stored>>,
        reason: &'static str,
    ) -> Verdict {
        if want.only_if_cached() {
            return self.refuse(call);
        }
        self.shared.counters.add(Count::Miss);
        let mut fetch = Fetch {
            want,
            shown: Arc::new(request.clone()),
            resource: Key::from(self.resource.as_str()),
            looked_for: Key::from(self.key.as_str()),
            flight,
            stale,
            asked: Fields::new(),
            validates: false,
            is_answered: false,
            reason,
            requested: call.gateway.unix_time(),
            collecting: None,
        };
        fetch.ask_to_validate(request);
        self.phase = Phase::Fetching(Box::new(fetch));
        Verdict::Pass
    }

    /// RFC 9111 section 5.2.1.7.
    fn refuse(&self, call: &mut Call<'_>) -> Verdict {
        self.shared.counters.add(Count::Refused);
        call.exchange.verdict = Some("only-if-cached, but it is not".into());
        let mut answer = Answer::page(504, "Gateway Timeout", "<!doctype html><title>Not in cache</title>");
        self.note(&mut answer.response, "detail=only-if-cached", None);
        Verdict::Answer(Box::new(answer))
    }

    fn fetched(
        &mut self,
        call: &mut Call<'_>,
        request: &Request,
        response: &mut Response,
        mut fetch: Box<Fetch>,
    ) -> Verdict {
        let now = call.gateway.unix_time();
        if fetch.validates && response.status() == 304 {
            return self.renew(call, request, response, *fetch);
        }
        if let 500 | 502..=504 = response.status()
            && let Some(answer) = self.in_spite(now, &fetch, 0)
        {
            call.exchange.verdict = Some("stale, for the server failed".into());
            return Verdict::Answer(answer);
        }
        if fetch.want.is_head && response.status() == 200 {
            self.compare(now, &mut fetch, request, response);
        }
        let moments = Moments { requested: fetch.requested, received: now };
        if !fetch.want.is_head {
            fetch.collecting = Collecting::begin(request, response, moments, &self.settings, &self.shared);
        }
        let what = format!("fwd={}; fwd-status={}", fetch.reason, response.status());
        let is_stored = fetch.collecting.is_some();
        let is_whole = fetch.collecting.as_ref().is_some_and(Collecting::is_whole);
        self.phase = Phase::Fetching(fetch);
        if !is_stored {
            if response.status() < 500 {
                self.give_up(now);
            }
            self.note(response, &what, None);
            return Verdict::Pass;
        }
        self.note(response, &format!("{what}; stored"), None);
        if is_whole {
            self.store();
            return Verdict::Pass;
        }
        Verdict::Watch
    }

    /// The server says that something holds which is not in store, but has this tag.
    fn mistaken(&mut self, now: Duration, sent: &Request, tag: &[u8], mut fetch: Box<Fetch>) -> Verdict {
        // What was asked for later has another chance.
        self.forget(fetch.requested, fetch.looked_for.clone());
        if fetch.is_answered || fetch.is_clients(tag) {
            return Verdict::Pass;
        }
        let mut request = sent.clone();
        fetch.ask_anew(&mut request, now);
        self.phase = Phase::Fetching(fetch);
        Verdict::Again(Box::new(request))
    }

    /// The server says that what is in store still holds.
    fn renew(
        &self,
        call: &mut Call<'_>,
        request: &Request,
        response: &Response,
        mut fetch: Fetch,
    ) -> Verdict {
        let now = call.gateway.unix_time();
        let Some(stale) = fetch.stale.clone() else { return Verdict::Pass };
        self.shared.counters.add(Count::Revalidated);
        let stored = match fetch.renewed(request, response, &self.settings, now) {
            Some(stored) => {
                let stored = Arc::new(stored);
                let variant = fetch::variant(request, &stored.head);
                self.send(Job::Store(Box::new(fetch.arrival(variant, Arc::clone(&stored), None))));
                stored
            }
            None => {
                let until = now + self.settings.uncacheable;
                let key = fetch.looked_for.clone();
                self.send(Job::Uncacheable { key, now, until, flight: fetch.flight.take() });
                let head = stale.updated_head(response, now, self.settings.set_cookie);
                Arc::new(Stored::new(head, stale.content.clone(), stale.moments, stale.terms))
            }
        };
        if fetch.is_answered {
            return Verdict::Pass;
        }
        call.exchange.verdict = Some("revalidated".into());
        let what = format!("fwd={}; fwd-status=304", fetch.reason);
        // It has come this far: that the client is slow is no reason to ask once more.
        let content = self.shared.lend(&stored.content).unwrap_or_else(|| stored.content.clone());
        Verdict::Answer(Box::new(self.respond(&stored, content, &fetch.want, &fetch.asked, now, &what)))
    }

    /// A response to HEAD tells whether what is in store still holds (RFC 9111 section 4.3.5).
    fn compare(&self, now: Duration, fetch: &mut Fetch, request: &Request, response: &Response) {
        let Some(stale) = &fetch.stale else { return };
        if !stale.is_described_by(response) {
            self.forget(now, fetch.resource.clone());
        } else if let Some(stored) = fetch.renewed(request, response, &self.settings, now) {
            let variant = fetch::variant(request, &stored.head);
            self.send(Job::Store(Box::new(fetch.arrival(variant, Arc::new(stored), None))));
        }
    }

    /// What is stale, in place of an error; unless that is forbidden, or too old (RFC 5861 section 4).
    fn in_spite(&self, now: Duration, fetch: &Fetch, longest: u64) -> Option<Box<Answer>> {
        let stale = fetch.stale.as_ref().filter(|_| !fetch.is_answered)?;
        let asked_for = fetch.want.directives.as_ref().map_or(0, |limits| limits.if_error);
        let longest = longest.max(asked_for).max(stale.terms.if_error);
        if longest == 0 || !stale.may_be_stale_by(longest, now) {
            return None;
        }
        let content = self.shared.lend(&stale.content)?;
        self.shared.counters.add(Count::Stale);
        Some(Box::new(self.respond(
            stale,
            content,
            &fetch.want,
            &fetch.asked,
            now,
            "fwd=stale; detail=stale-if-error",
        )))
    }

    fn respond(
        &self,
        stored: &Stored,
        content: Bytes,
        want: &Want,
        asked: &Fields,
        now: Duration,
        what: &str,
    ) -> Answer {
        let mut answer = answer::respond(stored, content, want, asked, now);
        self.note(&mut answer.response, what, Some(stored.ttl(now)));
        answer
    }

    fn note(&self, response: &mut Response, what: &str, ttl: Option<i64>) {
        if !self.settings.status.is_empty() {
            answer::note(response.fields_mut(), &self.settings.status, what, ttl);
        }
    }

    /// Hands on what was collected.
    fn store(&mut self) {
        let Phase::Fetching(fetch) = &mut self.phase else { return };
        let Some(mut collecting) = fetch.collecting.take() else { return };
        if self.jobs.len() >= MOST_JOBS {
            // With it goes the duty to those who wait: one of them goes next.
            fetch.flight = None;
            return self.shared.counters.add(Count::Busy);
        }
        let variant = collecting.variant.take();
        let (stored, room) = collecting.finish();
        let arrival = fetch.arrival(variant, Arc::new(stored), Some(room));
        self.send(Job::Store(Box::new(arrival)));
    }

    /// The response is not stored: nobody should wait for such a one, for a while.
    fn give_up(&mut self, now: Duration) {
        let Phase::Fetching(fetch) = &mut self.phase else { return };
        fetch.collecting = None;
        let flight = fetch.flight.take();
        let key = fetch.looked_for.clone();
        // Without a flight nobody waits, and it is known already, or was no response to everybody's request.
        if flight.is_some() {
            let until = now + self.settings.uncacheable;
            self.send(Job::Uncacheable { key, now, until, flight });
        }
    }

    /// What a successful change says about what is in store (RFC 9111 section 4.4).
    fn invalidate(&self, now: Duration, key: Key, response: &Response) {
        let references =
            ["location", "content-location"].iter().filter_map(|name| response.fields().text(name));
        let referred = references.filter_map(|reference| key::referred(key.as_str(), reference));
        let keys: Vec<Key> = referred.map(|key| Key::from(key.as_str())).chain([key.clone()]).collect();
        for key in keys {
            self.forget(now, key);
        }
    }

    /// What lies under a key holds for nobody any more: at once, and the cache's thread sees to the rest. Where that is behind, all
    /// that was asked for before is not stored, for it cannot be told what.
    fn forget(&self, now: Duration, key: Key) {
        self.shared.front.remove(key.as_str());
        if self.is_behind() {
            self.shared.distrust(now);
        } else {
            self.send(Job::Invalidate { key, now });
        }
    }

    /// Whether the cache's thread has more to do than it should be given.
    fn is_behind(&self) -> bool {
        self.jobs.len() >= MOST_JOBS
    }

    /// `false`: the cache has ended, and nobody hears it.
    fn send(&self, job: Job) -> bool {
        self.jobs.send(job).is_ok()
    }
}
