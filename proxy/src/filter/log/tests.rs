//! Records and content, as the writer gets them.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use pnat_shared::flow::{Handle, WorkerId};
use pnat_shared::stats::Counter;
use pnat_shared::time::Instant;

use super::super::Edits;
use super::super::log_writer::{LogSender, channel};
use super::*;

fn flow() -> Flow {
    Flow {
        id: 7,
        handle: Handle { worker: WorkerId(0), slot: 0, generation: 0 },
        protocol: Protocol::Tcp,
        client: "10.0.0.5:4000".parse().unwrap(),
        server: "198.51.100.1:80".parse().unwrap(),
        public: "203.0.113.9:5000".parse().unwrap(),
        rule: Some(Arc::from("web")),
        opened: Instant::from_millis(1_500),
        name: None,
        target: None,
        may_retarget: false,
        room: [u32::MAX; 2],
        wants_room: false,
        leaves_server: false,
        verdict: None,
        decided: None,
    }
}

const SUMMARY: Summary = Summary {
    reason: CloseReason::Finished,
    received: [10, 20],
    sent: [11, 21],
    packets: [3, 4],
    connect: Some(Duration::from_micros(1_234)),
    first_byte: None,
    ended: Instant::from_secs(3),
};

fn services(capacity: usize) -> (Services, Receiver<Record>, Arc<Counter>) {
    let lost = Arc::new(Counter::default());
    let (sender, receiver) = match capacity {
        0 => channel(),
        capacity => crossbeam_channel::bounded(capacity),
    };
    // 2024-02-29, a leap day.
    let services = Services::new(Duration::from_secs(1_709_208_000), LogSender::new(sender, lost.clone()));
    (services, receiver, lost)
}

fn config(content_cap: Option<u64>) -> LogFilter {
    LogFilter {
        path: PathBuf::from("flows.jsonl"),
        content_dir: content_cap.map(|_| PathBuf::from("content")),
        content_cap: content_cap.unwrap_or(0),
    }
}

fn data(
    log: &mut dyn StreamFilter,
    flow: &mut Flow,
    services: &mut Services,
    stream: Stream,
    bytes: &[u8],
) -> Verdict {
    let (mut output, mut wake, mut edits) = (Vec::new(), None, Edits::default());
    let (output, wake, edits) = (&mut output, &mut wake, &mut edits);
    let mut call = Call { now: Instant::ZERO, flow, services, output, wake, edits, place: 0 };
    log.data(&mut call, stream, bytes, 0, false)
}

fn line(record: &Record) -> serde_json::Value {
    let Record::Line { path, line } = record else { panic!("no line: {record:?}") };
    assert_eq!(&**path, Path::new("flows.jsonl"));
    assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
    serde_json::from_slice(line).unwrap()
}

#[test]
fn a_flow_leaves_one_line_that_says_all_of_it() {
    let (mut services, records, _) = services(0);
    let mut flow = flow();
    let mut log = LogFactory::new(&config(None)).stream();
    let request = b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n";
    assert_eq!(data(&mut *log, &mut flow, &mut services, Stream::First, &request[..20]), Verdict::Pass(20));
    assert_eq!(data(&mut *log, &mut flow, &mut services, Stream::First, &request[20..]), Verdict::Release);
    flow.verdict = Some("block: a \"quoted\"\nreason".into());
    log.close(&flow, &SUMMARY, &mut services);
    let records: Vec<_> = records.try_iter().collect();
    assert_eq!(records.len(), 1);
    let expected = serde_json::json!({
        "time": "2024-02-29T12:00:03.000000Z",
        "opened": "2024-02-29T12:00:01.500000Z",
        "flow": 7,
        "protocol": "tcp",
        "original": { "client": "10.0.0.5:4000", "server": "198.51.100.1:80" },
        "translated": { "client": "203.0.113.9:5000", "server": "198.51.100.1:80" },
        "rule": "web",
        "name": "www.example.com",
        "first": { "bytes": 10, "packets": 3, "sent": 11 },
        "second": { "bytes": 20, "packets": 4, "sent": 21 },
        "connect_ms": 1.234,
        "first_byte_ms": null,
        "duration_ms": 1500.0,
        "reason": "finished",
        "sentence": "both streams ended in order",
        "verdict": "block: a \"quoted\"\nreason",
    });
    assert_eq!(line(&records[0]), expected);
}

#[test]
fn without_content_only_the_name_is_waited_for() {
    let (mut services, ..) = services(0);
    let mut log = LogFactory::new(&config(None)).stream();
    assert!(log.wants(Stream::First) && !log.wants(Stream::Second));
    assert_eq!(
        data(&mut *log, &mut flow(), &mut services, Stream::First, b"SSH-2.0-x\r\n"),
        Verdict::Release
    );
    assert!(!LogFactory::new(&config(None)).datagram().wants(Stream::First));
}

#[test]
fn content_is_kept_up_to_the_cap_and_then_let_go() {
    let (mut services, records, _) = services(0);
    let mut flow = flow();
    let mut log = LogFactory::new(&config(Some(20_000))).stream();
    let sent: Vec<u8> = (0..30_000_u32).map(|n| n.to_be_bytes()[3]).collect();
    let verdicts: Vec<_> = sent
        .chunks(1_000)
        .map(|piece| data(&mut *log, &mut flow, &mut services, Stream::Second, piece))
        .collect();
    assert_eq!(verdicts.iter().position(|&verdict| verdict == Verdict::Release), Some(19));
    log.close(&flow, &SUMMARY, &mut services);
    let records: Vec<_> = records.try_iter().collect();
    let mut kept = Vec::new();
    for record in &records[..records.len() - 1] {
        let Record::Content { path, offset, bytes } = record else { panic!("no content: {record:?}") };
        assert_eq!(&**path, Path::new("content/7-10.0.0.5:4000-198.51.100.1:80.second"));
        assert_eq!(*offset, kept.len() as u64);
        assert!(bytes.len() <= PIECE + 1_000);
        kept.extend_from_slice(bytes);
    }
    assert_eq!(kept, sent[..20_000]);
    let content = &line(&records[records.len() - 1])["content"];
    assert_eq!(content[0], serde_json::json!({ "file": null, "bytes": 0, "lost": 0 }));
    assert_eq!(content[1]["bytes"], 20_000);
    assert_eq!(content[1]["lost"], 0);
}

#[test]
fn content_that_finds_no_room_is_lost_marked_and_counted() {
    let (mut services, records, lost) = services(1);
    let mut flow = flow();
    let mut log = LogFactory::new(&config(Some(1 << 20))).datagram();
    let (mut output, mut wake) = (Vec::new(), None);
    for size in [PIECE, PIECE, 100] {
        let mut call = Call {
            now: Instant::ZERO,
            flow: &mut flow,
            services: &mut services,
            output: &mut output,
            wake: &mut wake,
            edits: &mut Edits::default(),
            place: 0,
        };
        assert_eq!(log.datagram(&mut call, Stream::First, &vec![1; size]), DatagramVerdict::Pass);
    }
    assert_eq!(lost.value(), 1);
    assert!(matches!(records.try_recv(), Ok(Record::Content { offset: 0, .. })));
    // There is room for one more: the rest of the content, and none for the line.
    log.close(&flow, &SUMMARY, &mut services);
    let Ok(Record::Content { offset, bytes, .. }) = records.try_recv() else { panic!("no content") };
    assert_eq!((offset, bytes.len()), (2 * PIECE as u64, 100), "the place of the lost piece stays free");
    assert_eq!(lost.value(), 2);
}

#[test]
fn times_are_written_by_the_calendar() {
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00.000000Z"),
        (951_782_399, "2000-02-28T23:59:59.000000Z"),
        (951_782_400, "2000-02-29T00:00:00.000000Z"),
        (1_704_067_199, "2023-12-31T23:59:59.000000Z"),
        (1_709_251_200, "2024-03-01T00:00:00.000000Z"),
        (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
    ] {
        assert_eq!(rfc3339(Duration::from_secs(seconds)), text);
    }
    assert_eq!(rfc3339(Duration::from_nanos(1_500_000_999)), "1970-01-01T00:00:01.500000Z");
}
