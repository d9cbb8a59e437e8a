//! `http-log`: a line for each exchange, as Apache's combined format or as JSON.
//!
//! Runs on: proxy cores. Allocates: a line per exchange. Blocks: never: [`Gateway::log`](crate::filter::Gateway::log) has lines
//! written elsewhere.
//!
//! A line shows the request as this filter was shown it: as the first of a rule's filters it logs what clients sent, whatever those
//! behind it make of that. Of a WebSocket the line comes when the connection has ended; as JSON it tells the messages, which only then are counted.

use std::borrow::Cow;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use pnat_shared::flow::Stream;
use pnat_shared::time::Duration;
use serde::{Deserialize, Serialize};

use super::Section;
use crate::filter::{Call, ConfigFault, Content, HttpFactory, HttpFilter, Record, Verdict};
use crate::message::{Request, Response, Version};
use crate::websocket::Frame;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    path: PathBuf,
    #[serde(default)]
    format: Format,
}

#[derive(Copy, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Combined,
    Json,
}

/// Makes the filter from its section.
pub(super) fn configure(section: &Section<'_>) -> Result<Arc<dyn HttpFactory>, ConfigFault> {
    let settings: Settings = section.read()?;
    if settings.path.as_os_str().is_empty() {
        return Err(ConfigFault { key: "path".to_owned(), message: "is empty".to_owned() });
    }
    if !section.rehearsal {
        check_place(&settings.path).map_err(|error| {
            let message = format!("cannot write {}: {error}", settings.path.display());
            ConfigFault { key: "path".to_owned(), message }
        })?;
    }
    Ok(Arc::new(HttpLogFactory { path: Arc::from(settings.path), format: settings.format }))
}

/// Whether a file can be there. Nothing is made: that is for the first line, which another thread writes.
fn check_place(path: &Path) -> io::Result<()> {
    match OpenOptions::new().append(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            fs::read_dir(dir.unwrap_or_else(|| Path::new("."))).map(drop)
        }
        opened => opened.map(drop),
    }
}

#[derive(Debug)]
struct HttpLogFactory {
    path: Arc<Path>,
    format: Format,
}

impl HttpFactory for HttpLogFactory {
    fn filter(&self) -> Box<dyn HttpFilter> {
        let (path, format) = (Arc::clone(&self.path), self.format);
        Box::new(HttpLog { path, format, asked: Request::new(), messages: None })
    }
}

/// One connection's instance.
struct HttpLog {
    path: Arc<Path>,
    format: Format,
    /// What a line tells of the request.
    asked: Request,
    /// Of a WebSocket: whole messages of text or binary data from the client and from the server.
    messages: Option<[u64; 2]>,
}

/// The fields that a line tells, if only by what the URL is.
const FIELDS: [&str; 3] = ["Host", "Referer", "User-Agent"];

impl HttpFilter for HttpLog {
    fn request(&mut self, _call: &mut Call<'_>, request: &mut Request) -> Verdict {
        self.asked.begin(request.method(), request.target(), request.version());
        for name in FIELDS {
            if let Some(value) = request.fields().get(name) {
                self.asked.read_field(name, value);
            }
        }
        Verdict::Pass
    }

    fn wants_frames(&mut self, _call: &mut Call<'_>, _request: &Request, _response: &Response) -> bool {
        let wants = matches!(self.format, Format::Json);
        self.messages = wants.then_some([0; 2]);
        wants
    }

    fn frame(&mut self, _call: &mut Call<'_>, sender: Stream, frame: &Frame<'_>) -> Content {
        if let Some(messages) = &mut self.messages {
            messages[sender as usize] += u64::from(frame.ends_message());
        }
        Content::Go
    }

    fn done(
        &mut self,
        call: &mut Call<'_>,
        _request: &Request,
        _response: Option<&Response>,
        record: &Record,
    ) {
        let request = &self.asked;
        let began = call.gateway.unix_time().saturating_sub(call.now.since(call.exchange.began));
        let line = match self.format {
            Format::Combined => combined(began, call, request, record),
            Format::Json => json(began, call, request, record, self.messages.take()),
        };
        call.gateway.log(&self.path, line);
    }
}

/// Bytes that a line has, as a rule.
const LINE: usize = 256;

/// Apache's `%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-agent}i"`. Nobody is identified; times are in UTC.
fn combined(began: Duration, call: &Call<'_>, request: &Request, record: &Record) -> Vec<u8> {
    let mut line = Vec::with_capacity(LINE);
    let (client, time) = (call.exchange.client.ip(), timestamp(began).strftime("%d/%b/%Y:%H:%M:%S +0000"));
    write_to(&mut line, format_args!("{client} - - [{time}] \""));
    escape(&mut line, request.method().as_bytes());
    line.push(b' ');
    escape(&mut line, request.target().as_bytes());
    write_to(&mut line, format_args!(" {}\" ", version(request.version())));
    match record.status {
        Some(status) => write_to(&mut line, format_args!("{status} ")),
        None => line.extend_from_slice(b"- "),
    }
    match record.content[1] {
        0 => line.push(b'-'),
        bytes => write_to(&mut line, format_args!("{bytes}")),
    }
    for name in ["Referer", "User-Agent"] {
        line.extend_from_slice(b" \"");
        escape(&mut line, request.fields().get(name).unwrap_or(b"-"));
        line.push(b'"');
    }
    line.push(b'\n');
    line
}

/// As Apache does since 2.0.46: what could end a quoted part, a line or a terminal's patience becomes an escape of C.
fn escape(line: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            0x08 => line.extend_from_slice(b"\\b"),
            b'\t' => line.extend_from_slice(b"\\t"),
            b'\n' => line.extend_from_slice(b"\\n"),
            0x0b => line.extend_from_slice(b"\\v"),
            0x0c => line.extend_from_slice(b"\\f"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b' '..=b'~' => line.push(byte),
            _ => write_to(line, format_args!("\\x{byte:02x}")),
        }
    }
}

fn write_to(line: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    line.write_fmt(text).expect("invariant: a vector takes everything");
}

/// What a line of JSON says. Times are in milliseconds since the exchange began. Bytes that are not UTF-8 are replaced.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// When the exchange began.
    time: String,
    client: SocketAddrV4,
    /// As the client addressed it.
    server: SocketAddrV4,
    rule: Option<&'a str>,
    /// Of the connection's exchanges, from 0.
    exchange: u64,
    method: &'a str,
    url: Cow<'a, str>,
    version: &'static str,
    /// `null`: the connection ended before there was one.
    status: Option<u16>,
    request_bytes: u64,
    response_bytes: u64,
    /// From client and server; only where the connection became a WebSocket.
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<[u64; 2]>,
    referrer: Option<Cow<'a, str>>,
    user_agent: Option<Cow<'a, str>>,
    /// `null`: no server was asked.
    upstream: Option<Upstream>,
    forwarded_ms: Option<f64>,
    duration_ms: f64,
    filters_ms: Option<f64>,
    answered_by: Option<&'a str>,
    verdict: Option<&'a str>,
    complete: bool,
}

#[derive(Debug, Serialize)]
struct Upstream {
    /// Where the request went.
    server: SocketAddrV4,
    responded_ms: Option<f64>,
}

fn json(
    began: Duration,
    call: &Call<'_>,
    request: &Request,
    record: &Record,
    messages: Option<[u64; 2]>,
) -> Vec<u8> {
    let exchange = &*call.exchange;
    let text = |name: &str| request.fields().get(name).map(String::from_utf8_lossy);
    let is_asked = record.responded.is_some() || (record.answered_by.is_none() && record.forwarded.is_some());
    let upstream = is_asked.then(|| Upstream {
        server: exchange.target.unwrap_or(exchange.server),
        responded_ms: record.responded.map(millis),
    });
    let line = Line {
        time: format!("{:.6}", timestamp(began)),
        client: exchange.client,
        server: exchange.server,
        rule: exchange.rule.as_deref(),
        exchange: exchange.number,
        method: request.method(),
        url: url(request),
        version: version(request.version()),
        status: record.status,
        request_bytes: record.content[0],
        response_bytes: record.content[1],
        messages,
        referrer: text("Referer"),
        user_agent: text("User-Agent"),
        upstream,
        forwarded_ms: record.forwarded.map(millis),
        duration_ms: millis(record.ended),
        filters_ms: record.filters.map(millis),
        answered_by: record.answered_by.as_deref(),
        verdict: exchange.verdict.as_deref(),
        complete: record.is_complete,
    };
    let mut bytes = Vec::with_capacity(2 * LINE);
    let mut writer = serde_json::Serializer::with_formatter(&mut bytes, Printable);
    line.serialize(&mut writer).expect("invariant: text and numbers are JSON");
    bytes.push(b'\n');
    bytes
}

/// JSON whose text does nothing to a terminal: DEL and the controls of C1, which JSON may have as they are, become escapes, too.
struct Printable;

impl serde_json::ser::Formatter for Printable {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, to: &mut W, text: &str) -> io::Result<()> {
        let mut rest = text;
        while let Some(at) = rest.find(char::is_control) {
            to.write_all(&rest.as_bytes()[..at])?;
            let control = rest[at..].chars().next().unwrap_or_default();
            write!(to, "\\u{:04x}", u32::from(control))?;
            rest = &rest[at + control.len_utf8()..];
        }
        to.write_all(rest.as_bytes())
    }
}

/// With the host, where the request names one apart from its target.
fn url(request: &Request) -> Cow<'_, str> {
    let (target, authority) = (request.target(), request.authority());
    match target.starts_with('/') && !authority.is_empty() {
        true => Cow::Owned(format!("http://{authority}{target}")),
        false => Cow::Borrowed(target),
    }
}

fn timestamp(unix_time: Duration) -> Timestamp {
    // What no calendar has is 1970: no clock of ours shows it.
    unix_time.try_into().and_then(Timestamp::from_duration).unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1_000.0
}

const fn version(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => "HTTP/2.0",
    }
}

#[cfg(test)]
mod tests {
    use pnat_shared::time::Instant;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::filters::Lasting;
    use crate::testkit::{self, Calls};
    use crate::websocket::Opcode;

    /// The line of an exchange, and the file it went to.
    fn logged(format: &str, calls: &mut Calls, request: &Request, record: &Record) -> (String, String) {
        let keys = format!("path = \"/var/log/http\"\nformat = \"{format}\"");
        let mut filter = testkit::configure(configure, &Lasting::default(), &keys).expect("right").filter();
        filter.request(&mut calls.call(), &mut request.clone());
        filter.done(&mut calls.call(), request, None, record);
        let (path, line) = calls.gateway.lines.pop().expect("a line");
        (path.display().to_string(), String::from_utf8(line).expect("text"))
    }

    #[test]
    fn a_combined_line_is_as_apache_writes_it() {
        let fields = [("Host", "a.example"), ("Referer", "http://b.example/"), ("User-Agent", "curl/8.0")];
        let request = testkit::request("GET", "/a?b", &fields);
        let record = Record { content: [0, 5120], ..testkit::record(Some(200)) };
        let mut calls = Calls { now: Instant::from_secs(1010), ..Calls::default() };
        assert_eq!(
            logged("combined", &mut calls, &request, &record),
            (
                "/var/log/http".to_owned(),
                "10.0.0.5 - - [23/Nov/2026:05:59:50 +0000] \"GET /a?b HTTP/1.1\" 200 5120 \"http://b.example/\" \"curl/8.0\"\n"
                    .to_owned()
            )
        );
        let request = testkit::request("GET", "/", &[]);
        let (_, line) = logged("combined", &mut Calls::default(), &request, &testkit::record(None));
        assert_eq!(line, "10.0.0.5 - - [23/Nov/2026:06:00:00 +0000] \"GET / HTTP/1.1\" - - \"-\" \"-\"\n");
    }

    #[test]
    fn hostile_bytes_are_escaped_as_apache_does() {
        let mut request = testkit::request("GET", "/\"\\", &[]);
        request.read_field("User-Agent", b"\x1b[31m\t\xc3\xa9\x7f\"\n\r\x0b\x0c\x08");
        let (_, line) = logged("combined", &mut Calls::default(), &request, &testkit::record(Some(404)));
        let expected = concat!(
            r#"10.0.0.5 - - [23/Nov/2026:06:00:00 +0000] "GET /\"\\ HTTP/1.1" 404 - "-" "#,
            r#""\x1b[31m\t\xc3\xa9\x7f\"\n\r\v\f\b""#,
            "\n"
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn a_line_of_json_tells_the_whole_exchange() {
        let fields = [("Host", "a.example"), ("Referer", "http://b.example/"), ("User-Agent", "curl \"8\"")];
        let request = testkit::request("POST", "/a?b", &fields);
        let mut calls = Calls::default();
        calls.exchange.target = Some("198.18.0.3:8080".parse().expect("an address"));
        let record = Record {
            content: [7, 5120],
            filters: Some(Duration::from_micros(42)),
            ..testkit::record(Some(200))
        };
        let (_, line) = logged("json", &mut calls, &request, &record);
        assert!(line.ends_with("}\n") && line.lines().count() == 1);
        let expected = json!({
            "time": "2026-11-23T06:00:00.000000Z",
            "client": "10.0.0.5:40000",
            "server": "198.51.100.1:80",
            "rule": "web",
            "exchange": 0,
            "method": "POST",
            "url": "http://a.example/a?b",
            "version": "HTTP/1.1",
            "status": 200,
            "request_bytes": 7,
            "response_bytes": 5120,
            "referrer": "http://b.example/",
            "user_agent": "curl \"8\"",
            "upstream": { "server": "198.18.0.3:8080", "responded_ms": 5.0 },
            "forwarded_ms": 0.1,
            "duration_ms": 6.0,
            "filters_ms": 0.042,
            "answered_by": null,
            "verdict": null,
            "complete": true,
        });
        assert_eq!(serde_json::from_str::<Value>(&line).expect("JSON"), expected);
    }

    #[test]
    fn what_a_filter_answered_has_no_upstream() {
        let request = testkit::request("GET", "http://a.example/x", &[]);
        let mut calls = Calls::default();
        calls.exchange.verdict = Some("unwanted: x is in y".into());
        let record = Record {
            answered_by: Some("unwanted".into()),
            forwarded: None,
            responded: None,
            ..testkit::record(Some(403))
        };
        let (_, line) = logged("json", &mut calls, &request, &record);
        let line: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["upstream"], Value::Null);
        assert_eq!(line["answered_by"], "unwanted");
        assert_eq!(line["verdict"], "unwanted: x is in y");
        assert_eq!(line["url"], "http://a.example/x");
    }

    #[test]
    fn a_line_of_json_counts_the_whole_messages_of_a_websocket_and_a_combined_one_asks_for_none() {
        let request = testkit::request("GET", "/chat", &[]);
        let response = testkit::response(101, &[]);
        for (format, wants) in [("json", true), ("combined", false)] {
            let keys = format!("path = \"access\"\nformat = \"{format}\"");
            let mut filter =
                testkit::configure(configure, &Lasting::default(), &keys).expect("right").filter();
            let mut calls = Calls::default();
            assert_eq!(filter.wants_frames(&mut calls.call(), &request, &response), wants);
            for (sender, opcode, is_final, end) in [
                (Stream::First, Opcode::Text, true, true),
                (Stream::First, Opcode::Binary, false, true),
                (Stream::First, Opcode::Ping, true, true),
                (Stream::First, Opcode::Continuation, true, false),
                (Stream::First, Opcode::Continuation, true, true),
                (Stream::Second, Opcode::Text, true, false),
                (Stream::Second, Opcode::Close, true, true),
            ] {
                let frame =
                    Frame { opcode, is_final, reserved: 0, length: 9, offset: 0, payload: b"some", end };
                assert_eq!(filter.frame(&mut calls.call(), sender, &frame), Content::Go);
            }
            filter.request(&mut calls.call(), &mut request.clone());
            filter.done(&mut calls.call(), &request, Some(&response), &testkit::record(Some(101)));
            let (_, line) = calls.gateway.lines.pop().expect("a line");
            let line = String::from_utf8(line).expect("text");
            assert_eq!(line.contains(r#""messages":[2,0],"#), wants, "{line}");
        }
    }

    #[test]
    fn a_fault_is_told_by_its_key() {
        for (keys, key) in [
            ("", "."),
            ("path = \"\"", "path"),
            ("path = \"/\"", "path"),
            ("path = \"/dev/null/a\"", "path"),
            ("path = \"/proc/self/none/a\"", "path"),
            ("path = \"a\"\nformat = \"xml\"", "format"),
            ("colour = 1", "colour"),
        ] {
            let fault = testkit::configure(configure, &Lasting::default(), keys).expect_err(keys);
            assert_eq!(fault.key, key, "{fault}");
        }
    }

    #[test]
    fn json_has_no_control_as_it_is() {
        let agent = "curl\u{9b}31m\u{7f}\u{85}\u{a0}\u{e9}\u{1}";
        let request = testkit::request("GET", "/", &[("User-Agent", agent)]);
        let (_, line) = logged("json", &mut Calls::default(), &request, &testkit::record(Some(200)));
        assert!(!line.trim_end().contains(char::is_control), "{line}");
        let json: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(json["user_agent"], agent);
    }

    proptest! {
        #[test]
        fn whatever_a_client_sends_is_one_line(agent: Vec<u8>, target in ".*") {
            let mut request = testkit::request("GET", &target, &[("Host", "a.example")]);
            request.read_field("User-Agent", &agent);
            let (_, line) = logged("combined", &mut Calls::default(), &request, &testkit::record(Some(200)));
            prop_assert!(line.trim_end_matches('\n').bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            let quotes = line.replace("\\\\", "").replace("\\\"", "").matches('"').count();
            prop_assert_eq!(quotes, 6);
            let (_, line) = logged("json", &mut Calls::default(), &request, &testkit::record(Some(200)));
            prop_assert_eq!(line.matches('\n').count(), 1);
            let json: Value = serde_json::from_str(&line).expect("JSON");
            prop_assert_eq!(json["user_agent"].as_str(), Some(&*String::from_utf8_lossy(&agent)));
        }
    }
}
