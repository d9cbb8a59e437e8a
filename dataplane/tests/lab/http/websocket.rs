//! WebSockets through filters that see their frames, as both ends notice it.

use super::logging::lines_of;
use super::{ACCESS, ACCESS_LOG, WEBSOCKET_PORT, chain};
use crate::fixture::{Lab, script, succeed};
use crate::hosts::{CLIENT, SERVER_ADDRESS};

const ENDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/lab.d/websocket");

#[test]
fn messages_of_a_websocket_pass_both_ways_and_are_counted_in_the_log() {
    let lab = Lab::start(&chain(&[ACCESS]));
    succeed(script().args(["server", "start", "websocket"]));

    let told = CLIENT.run(&[ENDS, "talk", &format!("ws://{SERVER_ADDRESS}:{WEBSOCKET_PORT}/chat")]);

    let lines = lines_of(&lab, ACCESS_LOG, 2);
    for (told, line) in told.lines().zip(&lines) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let messages = format!("{} {}", line["messages"][0], line["messages"][1]);
        assert_eq!((&line["status"], &*messages), (&101.into(), told));
        assert_eq!(line["complete"], true, "both have closed it: {line}");
    }
    assert_eq!((told.lines().count(), lines.len()), (2, 2));
    assert!(told.starts_with("18 19\n"), "{told}");
}
