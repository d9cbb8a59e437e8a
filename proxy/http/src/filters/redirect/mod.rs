//! `redirect`: sends requests to another server than the client addressed, or the client to another URL.
//!
//! Runs on: proxy cores. Allocates: for what it answers. Blocks: never.
//!
//! A request is concerned if all of `hosts`, `paths`, `path_pattern`, `header` and `clients` that are there say so. Then either
//! one of `servers` gets it, unknown to the client, which needs a client that was accepted early; or the client is
//! told a `location`. A request that may be sent twice is given to another of the servers if the first one cannot be had, or goes
//! without a word.

mod servers;

pub use self::servers::ServerReport;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use ipnet::Ipv4Net;
use pnat_shared::check::{Check, MOST_REQUEST};
use pnat_shared::time::Duration;
use regex::Regex;
use regex::bytes::Regex as BytesRegex;
use serde::{Deserialize, Deserializer};

use self::servers::{Choice, MOST_SERVERS, Outcome, ServerSettings, Servers, Sharing};
use super::headers::is_authority;
use super::shelf::{all_shared, shared};
use super::text::{Scene, Text};
use super::{Lasting, Section};
use crate::codec::is_token;
use crate::filter::{Call, ConfigFault, Exchange, Failure, HttpFactory, HttpFilter, Record, Verdict};
use crate::message::{Answer, Request, Response, reason};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Names; a leading `*.` takes in what lies below a name.
    #[serde(default)]
    hosts: Vec<String>,
    /// What the path begins with.
    #[serde(default)]
    paths: Vec<String>,
    /// What the path is like.
    path_pattern: Option<String>,
    header: Option<HeaderSettings>,
    #[serde(default)]
    clients: Vec<Ipv4Net>,
    #[serde(default)]
    servers: Vec<ServerSettings>,
    sticky: Option<bool>,
    failures: Option<u32>,
    #[serde(default, deserialize_with = "duration")]
    eject: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    eject_most: Option<Duration>,
    /// What the server is told in `Host`.
    host: Option<String>,
    check: Option<CheckSettings>,
    /// With variables.
    location: Option<String>,
    status: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderSettings {
    name: String,
    /// What one of its values is like; all are, if left out.
    pattern: Option<String>,
}

/// How servers are asked whether they are well.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckSettings {
    /// What is asked for by GET; if left out, it is enough that they accept a connection.
    path: Option<String>,
    host: Option<String>,
    status: Option<u16>,
    #[serde(default, deserialize_with = "duration")]
    interval: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    timeout: Option<Duration>,
}

const USUAL_INTERVAL: Duration = Duration::from_secs(5);
const USUAL_TIMEOUT: Duration = Duration::from_secs(2);
const LEAST_INTERVAL: Duration = Duration::from_millis(100);
const USUAL_FAILURES: u32 = 5;
const USUAL_EJECT: Duration = Duration::from_secs(30);
const USUAL_EJECT_MOST: Duration = Duration::from_secs(300);

fn duration<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(value)?;
    let time = humantime::parse_duration(&text).ok().filter(|time| !time.is_zero());
    time.map(Some)
        .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a time, as in \"90s\" or \"2m\"")))
}

/// Makes the filter from its section. Servers that are the same as before keep their standing.
pub(super) fn configure(section: &Section<'_>) -> Result<Arc<dyn HttpFactory>, ConfigFault> {
    let settings: Settings = section.read()?;
    let concerned = Concerned::new(&settings)?;
    let toward = match &settings.location {
        Some(location) => Toward::location(location, &settings)?,
        None => Toward::servers(&settings, section)?,
    };
    Ok(Arc::new(RedirectFactory(Arc::new(Redirection { concerned, toward }))))
}

/// How the servers of all filters of this type do, by the filters' names.
pub fn report(lasting: &Lasting) -> Vec<(String, Vec<ServerReport>)> {
    let all = all_shared::<Servers>(lasting).into_iter();
    all.map(|(name, servers)| (name.trim_start_matches("redirect:").to_owned(), servers.report())).collect()
}

fn fault(key: &str, message: impl Into<String>) -> ConfigFault {
    ConfigFault { key: key.to_owned(), message: message.into() }
}

#[derive(Debug)]
struct RedirectFactory(Arc<Redirection>);

impl HttpFactory for RedirectFactory {
    fn filter(&self) -> Box<dyn HttpFilter> {
        Box::new(Redirect { redirection: Arc::clone(&self.0), last: None, chosen: None, tried: 0 })
    }

    fn needs_early(&self) -> bool {
        matches!(self.0.toward, Toward::Servers { .. })
    }

    fn checks(&self) -> Vec<Check> {
        let Toward::Servers { servers, question: Some(question), .. } = &self.0.toward else {
            return Vec::new();
        };
        let check = |server| Check {
            server,
            request: question.request.clone(),
            interval: question.interval,
            timeout: question.timeout,
            told: Arc::clone(servers) as _,
        };
        servers.addresses().map(check).collect()
    }
}

/// The filter as configured.
#[derive(Debug)]
struct Redirection {
    concerned: Concerned,
    toward: Toward,
}

/// Which requests are concerned.
#[derive(Debug)]
struct Concerned {
    hosts: Vec<String>,
    paths: Vec<String>,
    path_pattern: Option<Regex>,
    header: Option<(String, Option<BytesRegex>)>,
    clients: Vec<Ipv4Net>,
}

impl Concerned {
    fn new(settings: &Settings) -> Result<Self, ConfigFault> {
        let path_pattern = settings.path_pattern.as_deref().map(Regex::new).transpose();
        if let Some(at) = settings.hosts.iter().position(|host| !is_host(host)) {
            let message = "is no name without scheme, port and path, as in \"a.example\" or \"*.a.example\"";
            return Err(fault(&format!("hosts[{at}]"), message));
        }
        let is_path = |path: &String| path.starts_with('/') && !path.contains(['?', '#']);
        if let Some(at) = settings.paths.iter().position(|path| !is_path(path)) {
            return Err(fault(&format!("paths[{at}]"), "is no path, which begins with / and has no query"));
        }
        let header = match &settings.header {
            None => None,
            Some(header) if !is_token(header.name.as_bytes()) => {
                return Err(fault("header.name", "is no name that a field may have"));
            }
            Some(header) => {
                let pattern = header.pattern.as_deref().map(BytesRegex::new).transpose();
                let pattern = pattern.map_err(|error| fault("header.pattern", error.to_string()))?;
                Some((header.name.clone(), pattern))
            }
        };
        Ok(Self {
            hosts: settings.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            paths: settings.paths.clone(),
            path_pattern: path_pattern.map_err(|error| fault("path_pattern", error.to_string()))?,
            header,
            clients: settings.clients.clone(),
        })
    }

    fn takes_in(&self, exchange: &Exchange, request: &Request) -> bool {
        let (host, path) = (request.host(), request.path());
        let host = host.strip_suffix('.').unwrap_or(host);
        let is_host = |own: &String| match own.strip_prefix('*') {
            Some(parent) => ends_with(host, parent) && host.len() > parent.len(),
            None => own.eq_ignore_ascii_case(host),
        };
        (self.clients.is_empty() || self.clients.iter().any(|own| own.contains(exchange.client.ip())))
            && (self.hosts.is_empty() || self.hosts.iter().any(is_host))
            && (self.paths.is_empty() || self.paths.iter().any(|own| path.starts_with(own)))
            && self.path_pattern.as_ref().is_none_or(|pattern| pattern.is_match(path))
            && self.header.as_ref().is_none_or(|(name, pattern)| {
                let mut values = request.fields().all(name);
                values.any(|value| pattern.as_ref().is_none_or(|pattern| pattern.is_match(value)))
            })
    }
}

/// Whether a request may name such a host: one in ASCII, or an address; a leading `*.` takes in what lies below a name.
fn is_host(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    name.split('.').all(is_part)
}

/// Without regard to case; `end` has none.
fn ends_with(host: &str, end: &str) -> bool {
    let at = host.len().checked_sub(end.len());
    at.and_then(|at| host.as_bytes().get(at..)).is_some_and(|tail| tail.eq_ignore_ascii_case(end.as_bytes()))
}

/// Where concerned requests go.
#[derive(Debug)]
enum Toward {
    Servers {
        servers: Arc<Servers>,
        question: Option<Question>,
        host: Option<String>,
        /// Requests that went where they were addressed, because their client was not accepted early.
        passed: AtomicU64,
    },
    Location {
        location: Text,
        status: u16,
    },
}

impl Toward {
    fn location(location: &str, settings: &Settings) -> Result<Self, ConfigFault> {
        if !settings.servers.is_empty() {
            return Err(fault("servers", "and location exclude each other"));
        }
        let of_servers = [
            ("sticky", settings.sticky.is_some()),
            ("failures", settings.failures.is_some()),
            ("eject", settings.eject.is_some()),
            ("eject_most", settings.eject_most.is_some()),
            ("host", settings.host.is_some()),
            ("check", settings.check.is_some()),
        ];
        if let Some((key, _)) = of_servers.iter().find(|(_, is_there)| *is_there) {
            return Err(fault(key, "is for servers only"));
        }
        if location.is_empty() {
            return Err(fault("location", "is empty"));
        }
        let location = Text::parse(location, 0).map_err(|message| fault("location", message))?;
        if !location.is_made_of(is_of_uri) {
            return Err(fault("location", "has bytes that no URI may have"));
        }
        match settings.status.unwrap_or(302) {
            status @ (301 | 302 | 307 | 308) => Ok(Self::Location { location, status }),
            status => Err(fault("status", format!("{status} is not 301, 302, 307 or 308"))),
        }
    }

    fn servers(settings: &Settings, section: &Section<'_>) -> Result<Self, ConfigFault> {
        if settings.status.is_some() {
            return Err(fault("status", "is for location only"));
        }
        if !(1..=MOST_SERVERS).contains(&settings.servers.len()) {
            let message = format!("are {}: needs 1 to {MOST_SERVERS}, or a location", settings.servers.len());
            return Err(fault("servers", message));
        }
        if let Some(at) = settings.servers.iter().position(|server| server.address.port() == 0) {
            return Err(fault(&format!("servers[{at}].address"), "has port 0"));
        }
        if let Some(at) = settings.servers.iter().position(|server| server.weight == 0) {
            return Err(fault(&format!("servers[{at}].weight"), "is 0: leave the server out"));
        }
        let is_twice = |at: &usize| {
            let address = settings.servers[*at].address;
            settings.servers[..*at].iter().any(|server| server.address == address)
        };
        if let Some(at) = (1..settings.servers.len()).find(is_twice) {
            let message = "is there twice: a weight gives a server more requests";
            return Err(fault(&format!("servers[{at}].address"), message));
        }
        if settings.failures == Some(0) {
            return Err(fault("failures", "is 0, and not at least 1"));
        }
        let eject = settings.eject.unwrap_or(USUAL_EJECT);
        if settings.eject_most.is_some_and(|most| most < eject) {
            return Err(fault("eject_most", "is less than eject"));
        }
        if settings.host.as_deref().is_some_and(|host| !is_authority(host)) {
            return Err(fault("host", "is neither a name nor an address, with or without a port"));
        }
        let sharing = Sharing {
            is_sticky: settings.sticky.unwrap_or(false),
            failures: settings.failures.unwrap_or(USUAL_FAILURES),
            eject,
            eject_most: settings.eject_most.unwrap_or_else(|| USUAL_EJECT_MOST.max(eject)),
            is_checked: settings.check.is_some(),
            status: settings.check.as_ref().and_then(|check| check.status),
        };
        let question = settings.check.as_ref().map(|check| Question::new(check, settings)).transpose()?;
        let make = || Ok(Arc::new(Servers::new(&settings.servers, sharing)));
        let are_these = |servers: &Servers| servers.are(&settings.servers, &sharing);
        let servers = match section.rehearsal {
            true => make(),
            false => shared(section.lasting, &format!("redirect:{}", section.name), are_these, make),
        }?;
        Ok(Self::Servers { servers, question, host: settings.host.clone(), passed: AtomicU64::new(0) })
    }
}

/// What health checks ask.
#[derive(Debug)]
struct Question {
    request: Option<Arc<[u8]>>,
    interval: Duration,
    timeout: Duration,
}

impl Question {
    fn new(check: &CheckSettings, settings: &Settings) -> Result<Self, ConfigFault> {
        let interval = check.interval.unwrap_or(USUAL_INTERVAL);
        if interval < LEAST_INTERVAL {
            return Err(fault("check.interval", "is less than 100 ms"));
        }
        let timeout = check.timeout.unwrap_or_else(|| USUAL_TIMEOUT.min(interval));
        if timeout > interval {
            return Err(fault("check.timeout", "is more than check.interval"));
        }
        let Some(path) = &check.path else {
            return match (&check.host, check.status) {
                (Some(_), _) => Err(fault("check.host", "is for a check with path only")),
                (_, Some(_)) => Err(fault("check.status", "is for a check with path only")),
                _ => Ok(Self { request: None, interval, timeout }),
            };
        };
        if !path.starts_with('/') || !path.bytes().all(is_of_uri) {
            return Err(fault("check.path", "is no path, which begins with / and has no spaces"));
        }
        if check.status.is_some_and(|status| !(200..600).contains(&status)) {
            return Err(fault("check.status", "is not 200 to 599"));
        }
        let host = check.host.as_deref().or(settings.host.as_deref()).unwrap_or("localhost");
        if !is_authority(host) {
            return Err(fault("check.host", "is neither a name nor an address, with or without a port"));
        }
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: pnat-check\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        if request.len() > MOST_REQUEST {
            return Err(fault("check.path", format!("makes a request of more than {MOST_REQUEST} bytes")));
        }
        Ok(Self { request: Some(request.into_bytes().into()), interval, timeout })
    }
}

/// One connection's instance.
struct Redirect {
    redirection: Arc<Redirection>,
    /// The server that had a request last. It gets the next one too, as long as it is in: another would need a connection of its own.
    last: Option<Choice>,
    /// The server that is to have the request.
    chosen: Option<Choice>,
    /// The set of servers that have had it, or are to.
    tried: u64,
}

impl HttpFilter for Redirect {
    fn request(&mut self, call: &mut Call<'_>, request: &mut Request) -> Verdict {
        let redirection = Arc::clone(&self.redirection);
        if !redirection.concerned.takes_in(call.exchange, request) {
            return Verdict::Pass;
        }
        match &redirection.toward {
            Toward::Location { location, status } => tell_location(call, request, location, *status),
            Toward::Servers { servers, host, passed, .. } => {
                if !call.exchange.may_redirect {
                    if passed.fetch_add(1, Relaxed) == 0 {
                        tracing::warn!(
                            rule = call.exchange.rule.as_deref(),
                            "requests are not redirected: their clients were not accepted early"
                        );
                    }
                    return Verdict::Pass;
                }
                let again = self.last.and_then(|last| servers.again(last));
                let choice = again.unwrap_or_else(|| servers.choose(*call.exchange.client.ip(), call.now));
                self.tried = 0;
                self.take(choice, call);
                if let Some(host) = host {
                    request.set_authority(host);
                }
                Verdict::Pass
            }
        }
    }

    /// Each server has the request once at most.
    fn elsewhere(&mut self, call: &mut Call<'_>, _request: &Request, _failure: Failure) -> bool {
        let redirection = Arc::clone(&self.redirection);
        let Toward::Servers { servers, .. } = &redirection.toward else { return false };
        let Some(failed) = self.chosen.filter(|chosen| chosen.is_asked(call.exchange)) else { return false };
        let Some(choice) = servers.other(self.tried, *call.exchange.client.ip()) else { return false };
        servers.tell(failed, Outcome::Failure, call.now);
        self.take(choice, call);
        true
    }

    /// It may last for hours, and its server is well now.
    fn wants_frames(&mut self, call: &mut Call<'_>, _request: &Request, _response: &Response) -> bool {
        self.tell(call, Outcome::Success);
        false
    }

    fn done(
        &mut self,
        call: &mut Call<'_>,
        _request: &Request,
        _response: Option<&Response>,
        record: &Record,
    ) {
        self.tell(call, outcome(record));
    }
}

impl Redirect {
    fn take(&mut self, choice: Choice, call: &mut Call<'_>) {
        call.exchange.target = Some(choice.address);
        self.tried |= choice.bit();
        (self.last, self.chosen) = (Some(choice), Some(choice));
    }

    /// Tells what became of the request, once.
    fn tell(&mut self, call: &Call<'_>, outcome: Outcome) {
        let Toward::Servers { servers, .. } = &self.redirection.toward else { return };
        if let Some(choice) = self.chosen.take() {
            // A filter behind may have sent it elsewhere.
            let outcome = if choice.is_asked(call.exchange) { outcome } else { Outcome::None };
            servers.tell(choice, outcome, call.now);
        }
    }
}

/// How the server did, whatever the client got. Only what gateways say in a server's place is held against it: 500 may be one page's
/// fault, and 501 or 505 the client's.
const fn outcome(record: &Record) -> Outcome {
    match record.server {
        Some(Err(Failure::Closed)) => Outcome::None,
        Some(Ok(502..=504) | Err(_)) => Outcome::Failure,
        Some(Ok(_)) => Outcome::Success,
        None if record.forwarded.is_some() => Outcome::Silence,
        None => Outcome::None,
    }
}

/// A client that is there already passes.
fn tell_location(call: &mut Call<'_>, request: &Request, location: &Text, status: u16) -> Verdict {
    let mut bytes = Vec::new();
    location.write(&mut bytes, Scene { exchange: call.exchange, request }, None);
    let target = escaped(&bytes);
    let here = format!("http://{}{}", request.authority(), request.path_and_query());
    if target.is_empty() || target == here {
        return Verdict::Pass;
    }
    let mut response = Response::new(status, reason(status));
    response.fields_mut().push("Location", target.as_bytes());
    call.exchange.verdict = Some(format!("to {target}").into());
    Verdict::Answer(Box::new(Answer::new(response, Vec::new())))
}

/// What may stand in a URI (RFC 3986 section 2), escapes included.
const fn is_of_uri(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// With escapes for what may not stand in a URI.
fn escaped(bytes: &[u8]) -> String {
    let mut uri = String::with_capacity(bytes.len());
    for &byte in bytes {
        if is_of_uri(byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

#[cfg(test)]
mod tests;
