//! Responses good and bad, through the codec to curl, wget and Python's `http.client`: what PNAT lets through they read as it did.
//!
//! PNAT's view is the log of `http-log`: status and length of each response, and whether it was whole. The rows of the corpus come
//! as they are and spoiled at random, as those of requests do (`differential`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pnat_shared::testkit::Random;
use pnat_shared::testkit::rows::{self, Outcome};
use serde_json::Value;

use super::differential::{seeds, spoil};
use super::server::{Server, target};
use super::{ACCESS, ACCESS_LOG, chain};
use crate::fixture::{Lab, text, wait_until};
use crate::hosts::{CLIENT, finish};

/// Rows of `rows::rows`: name, asked, bytes, outcome, section.
const RESPONSES: &str = include_str!("../../../../proxy/http/corpus/responses.rows");
const SITE: &str = "http://198.18.0.2:8081";
/// Spoiled responses of a seed.
const INPUTS: usize = 80;
/// Longer rows are of limits, which need no spoiling.
const LONGEST_ROW: usize = 2000;
/// Asked for between all others on the same connection: who takes for its response what was left behind gets something else.
const PROBE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nprobed";

#[test]
fn clients_read_responses_as_pnat_does_or_not_at_all() {
    let lab = Lab::start(&chain(&[ACCESS]));
    let inputs: Arc<[Input]> = rows_of_corpus().chain(seeds().flat_map(spoiled)).collect();
    let answers = Arc::clone(&inputs);
    let _server = Server::start(move |stream| answer(stream, &answers));
    fs::create_dir(lab.file("responses")).unwrap();

    let curl = in_background(&lab, &inputs, with_curl);
    let python = in_background(&lab, &inputs, with_python);
    let wget = in_background(&lab, &inputs, with_wget);
    let read = [("curl", finish(curl)), ("python", finish(python)), ("wget", finish(wget))];

    let mut seen = BTreeMap::new();
    wait_until(Duration::from_secs(5), "all exchanges are in the log", || {
        seen = log(&lab);
        seen.len() >= read.iter().map(|(_, read)| read.len()).sum::<usize>()
    });
    let mut wrong = Vec::new();
    let mut agreed = 0;
    for (client, read) in &read {
        for (number, read) in read {
            let input = &inputs[*number];
            let seen = &seen[&format!("{number}?{client}")];
            // Others take an end of the stream for the end of chunks, with or without a gateway.
            let is_strict = *client == "curl";
            match seen.fault(read, is_strict).or_else(|| input.fault(seen)) {
                None => agreed += usize::from(matches!(read, Read::Whole(..)) && seen.status != Some(502)),
                Some(fault) => {
                    wrong.push(format!("{}: {client}: {fault}: {read:?}, PNAT {seen:?}", input.name))
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let [(_, curl), (_, python), (_, wget)] = &read;
    for (number, input) in inputs.iter().enumerate() {
        let contents = [curl, python, wget].into_iter().filter_map(|read| match read.get(&number) {
            Some(Read::Whole(_, content)) => Some(content),
            Some(Read::Refused) | None => None,
        });
        let different: BTreeSet<_> = contents.collect();
        assert!(different.len() <= 1, "{}: {different:?}", input.name);
    }
    assert!(agreed > 60, "responses that went through and were read: {agreed}");
}

/// A response, good or bad.
struct Input {
    name: String,
    is_to_head: bool,
    bytes: Vec<u8>,
    /// The server closes behind it.
    closes: bool,
    /// What PNAT may make of it; of what was spoiled anything.
    outcomes: Vec<Outcome>,
}

impl Input {
    /// What PNAT should not have made of it.
    fn fault(&self, seen: &Seen) -> Option<&'static str> {
        let fits = |outcome: &Outcome| match outcome {
            Outcome::Content(bytes) => seen.is_complete && seen.bytes == *bytes,
            // A server that leaves without a word leaves the client without one, too.
            Outcome::Refused(status) => seen.status == Some(*status) || seen.status.is_none(),
            Outcome::Cut => !seen.is_complete,
            _ => false,
        };
        (!self.outcomes.is_empty() && !self.outcomes.iter().any(fits)).then_some("not what the corpus says")
    }
}

/// Those that answer one request, and for which nobody would wait in vain.
fn rows_of_corpus() -> impl Iterator<Item = Input> {
    rows::rows::<5>(RESPONSES).into_iter().filter_map(|[name, asked, bytes, outcome, _]| {
        let outcomes: Option<Vec<_>> = rows::outcomes(outcome)
            .into_iter()
            .map(|words| words.first().copied().filter(|word| *word != Outcome::Unfinished))
            .collect();
        let (bytes, closes) = rows::bytes(bytes);
        let is_to_head = asked == "HEAD";
        let is_asked = is_to_head || asked == "GET";
        outcomes.filter(|_| is_asked).map(|outcomes| Input {
            name: name.to_owned(),
            is_to_head,
            bytes,
            closes,
            outcomes,
        })
    })
}

/// Rows of the corpus that go on, each changed in one to three places.
fn spoiled(seed: u64) -> impl Iterator<Item = Input> {
    let mut chance = Random::new(seed);
    let goes_on = |row: &Input| row.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Content(_)));
    let rows: Vec<_> = rows_of_corpus().filter(|row| goes_on(row) && row.bytes.len() < LONGEST_ROW).collect();
    (0..INPUTS).map(move |number| {
        let row = &rows[chance.below(rows.len() as u64) as usize];
        let mut bytes = row.bytes.clone();
        for _ in 0..=chance.below(3) {
            spoil(&mut bytes, &mut chance);
        }
        let name = format!("{}, spoiled by seed {seed} as {number}", row.name);
        Input { name, is_to_head: row.is_to_head, bytes, closes: true, outcomes: Vec::new() }
    })
}

/// Answers requests for `/NUMBER` by that input, and others by the probe.
fn answer(mut stream: TcpStream, inputs: &[Input]) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(target) = target(&mut reader) {
        let number = target.trim_start_matches('/').split('?').next().and_then(|word| word.parse().ok());
        let input = number.map(|number: usize| &inputs[number]);
        // What PNAT refuses, it does not read to the end.
        let written = stream.write_all(input.map_or(PROBE, |input| &input.bytes));
        if written.is_err() || input.is_some_and(|input| input.closes) {
            return;
        }
    }
}

/// What a client made of a response.
#[derive(Debug)]
enum Read {
    /// The status, where the client tells it.
    Whole(Option<u16>, Vec<u8>),
    /// It said that it is not whole, or no response.
    Refused,
}

/// By number of the input.
type Readings = BTreeMap<usize, Read>;

/// What PNAT made of a response.
#[derive(Debug)]
struct Seen {
    status: Option<u16>,
    bytes: u64,
    is_complete: bool,
}

impl Seen {
    /// What a client should not have made of it.
    fn fault(&self, read: &Read, is_strict: bool) -> Option<&'static str> {
        let Read::Whole(status, content) = read else { return None };
        if !self.is_complete && is_strict {
            Some("taken for whole")
        } else if status.is_some() && *status != self.status {
            Some("another status")
        } else if content.len() as u64 != self.bytes {
            Some("another length")
        } else {
            None
        }
    }
}

/// By what stands behind the slash in the URL; without the probes.
fn log(lab: &Lab) -> BTreeMap<String, Seen> {
    let log = fs::read_to_string(lab.file(ACCESS_LOG)).unwrap_or_default();
    let lines = log.lines().map_while(|line| serde_json::from_str::<Value>(line).ok());
    let seen = lines.map(|line| {
        let status = line["status"].as_u64().map(|status| status.try_into().expect("a status"));
        let (bytes, complete) = (line["response_bytes"].as_u64(), line["complete"].as_bool());
        let seen = Seen { status, bytes: bytes.expect("bytes"), is_complete: complete.expect("whether") };
        (line["url"].as_str().expect("a URL").rsplit('/').next().expect("a target").to_owned(), seen)
    });
    seen.filter(|(target, _)| target != "probe").collect()
}

fn in_background(
    lab: &Lab,
    inputs: &Arc<[Input]>,
    read: fn(&Path, &[Input]) -> Readings,
) -> JoinHandle<Readings> {
    let (dir, inputs) = (lab.file("responses"), Arc::clone(inputs));
    thread::spawn(move || read(&dir, &inputs))
}

fn with_curl(dir: &Path, inputs: &[Input]) -> Readings {
    let mut readings = Readings::new();
    // It gives up all that is to come behind some responses that it cannot read.
    while readings.len() < inputs.len() {
        let from = readings.len();
        let file = dir.join("curl.config");
        fs::write(&file, curl_config(dir, inputs, from)).unwrap();
        let told = String::from_utf8(CLIENT.try_run(&["curl", "-K", text(&file)]).stdout).unwrap();
        let mut lines = told.lines();
        for (number, input) in inputs.iter().enumerate().skip(from) {
            let told: Vec<_> = lines.next().map_or_else(Vec::new, |line| line.split(' ').collect());
            let content = || match input.is_to_head {
                true => Vec::new(),
                false => fs::read(dir.join(format!("{number}.curl"))).unwrap_or_default(),
            };
            let read = match told[..] {
                [_, status, "0"] => Read::Whole(status.parse().ok(), content()),
                _ => Read::Refused,
            };
            let is_refused = matches!(read, Read::Refused);
            readings.insert(number, read);
            let probed = lines.next();
            if is_refused && probed.is_none() {
                break;
            }
            assert_eq!(probed, Some("probed"), "behind {}: {}", input.name, input.bytes.escape_ascii());
        }
    }
    readings
}

/// Asks for all inputs from this one on, with the probe behind each; tells number, status and exit code of each.
fn curl_config(dir: &Path, inputs: &[Input], from: usize) -> String {
    let each = inputs.iter().enumerate().skip(from).map(|(number, input)| {
        let head = if input.is_to_head { "head" } else { "" };
        format!(
            r#"
            url = "{SITE}/{number}?curl"
            output = "{}"
            write-out = "{number} %{{http_code}} %{{exitcode}}\n"
            {head}
            silent
            max-time = 5
            next
            url = "{SITE}/probe"
            write-out = "\n"
            silent
            max-time = 5
            "#,
            text(&dir.join(format!("{number}.curl")))
        )
    });
    each.collect::<Vec<_>>().join("next")
}

fn with_python(dir: &Path, inputs: &[Input]) -> Readings {
    const SCRIPT: &str = r#"
import http.client, sys
site, directory = sys.argv[1:3]
connection = http.client.HTTPConnection(site, timeout=5)

def fetch(method, target):
    connection.request(method, target)
    response = connection.getresponse()
    if response.status < 200:
        # It knows no interim response but 100.
        raise http.client.HTTPException(response.status)
    return response.status, response.read()

def probe():
    # The connection may have been closed behind the response before.
    for _ in range(2):
        try:
            return fetch("GET", "/probe")[1]
        except (http.client.HTTPException, OSError):
            connection.close()

for number, method in enumerate(sys.argv[3:]):
    if probe() != b"probed":
        sys.exit(f"{number}: not the probe")
    try:
        status, content = fetch(method, f"/{number}?python")
        with open(f"{directory}/{number}.python", "wb") as file:
            file.write(content)
        print(status)
    except (http.client.HTTPException, OSError):
        print("refused")
        connection.close()
"#;
    let methods = inputs.iter().map(|input| if input.is_to_head { "HEAD" } else { "GET" });
    let site = SITE.trim_start_matches("http://");
    let command: Vec<_> = ["python3", "-c", SCRIPT, site, text(dir)].into_iter().chain(methods).collect();
    let told = CLIENT.run(&command);
    let read = told.lines().enumerate().map(|(number, line)| match line.parse() {
        Ok(status) => Read::Whole(Some(status), fs::read(dir.join(format!("{number}.python"))).unwrap()),
        Err(_) => Read::Refused,
    });
    read.enumerate().collect()
}

/// It cannot be told to send HEAD and GET by turns.
fn with_wget(dir: &Path, inputs: &[Input]) -> Readings {
    let numbers =
        || inputs.iter().enumerate().filter(|(_, input)| !input.is_to_head).map(|(number, _)| number);
    let urls: Vec<_> = numbers().map(|number| format!("{SITE}/{number}?wget")).collect();
    let file = dir.join("wget.urls");
    fs::write(&file, urls.join("\n")).unwrap();
    let wget = ["wget", "-nv", "-t", "1", "-T", "5", "--no-http-keep-alive", "--content-on-error"];
    let told = CLIENT.try_run(&[&wget[..], &["-P", text(dir), "-i", text(&file)]].concat()).stderr;
    let told = String::from_utf8_lossy(&told);
    let read = |number| {
        let is_whole = told.contains(&format!("URL:{SITE}/{number}?wget ["));
        let content = || fs::read(dir.join(format!("{number}?wget"))).unwrap_or_default();
        if is_whole { Read::Whole(None, content()) } else { Read::Refused }
    };
    numbers().map(|number| (number, read(number))).collect()
}
