//! Captures over the socket.

use super::super::report::Report;
use super::*;

#[test]
fn a_capture_ends_at_its_count_and_leaves_no_tap_behind() {
    let rig = Rig::new("capture");
    let mut file = Vec::new();
    let path = "/capture?at=inside,outside&count=25&snaplen=20";
    rig.client()
        .stream(path, |chunk| {
            file.extend_from_slice(chunk);
            Ok(())
        })
        .expect("captured");
    // A file header, then per packet a record header and what was kept.
    assert_eq!(file.len(), 24 + 25 * (16 + 20));
    let stats: Stats = rig.client().get("/stats").expect("stats");
    assert_eq!((stats.capture.packets, stats.capture.lost), (25, 0));
    let _: Report = rig.client().get("/report").expect("asked behind the last message");
    let told = rig.told();
    let taps =
        |wanted| told.iter().filter(|told| matches!(told, Told::Tap { set, .. } if *set == wanted)).count();
    assert_eq!((taps(true), taps(false)), (4, 4));
}

#[test]
fn one_capture_runs_at_a_time_and_ends_when_its_reader_goes() {
    let rig = Rig::new("captures");
    let mut reader = UnixStream::connect(rig.socket()).expect("connected");
    reader.write_all(b"POST /capture?at=to_proxy HTTP/1.1\r\nHost: pnat\r\n\r\n").expect("sent");
    let mut head = [0; 12];
    reader.read_exact(&mut head).expect("answered");
    assert_eq!(&head, b"HTTP/1.1 200");
    let second = || rig.client().stream("/capture?at=to_proxy&seconds=0", |_| Ok(()));
    assert_eq!(refused(second()).0, StatusCode::CONFLICT);
    drop(reader);
    // The server notices at its own pace; until then it says that it is busy.
    assert!((0..500).any(|_| second().is_ok()), "the first capture never ended");
}
