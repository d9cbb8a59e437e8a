//! What the operator chooses for the legs of a pair: ECN as client and server agree, and the congestion control of each.

mod support;

use pnat_proxy::reactor::{Rule, Snapshot};
use pnat_shared::config::{CongestionControl, Ecn, Transport};

use support::script::Script;
use support::{POLICY, Rig, policy, settings};

fn script(transport: Transport) -> Script {
    Script::new(Rig::with(&pnat_shared::config::Proxy { transport, ..settings() }, vec![]))
}

#[test]
fn rfc3168_6_1_1_both_legs_use_ecn_where_client_and_server_do() {
    script(Transport::default()).play(
        "
        >> client SYN ECE CWR seq=100 mss=1460
        << server SYN ECE CWR seq=100
        >> server SYN ACK ECE seq=900 ack=101 mss=1460
        << server ACK !ECE seq=101 ack=901
        << client SYN ACK ECE !CWR seq=900 ack=101
        >> client ACK seq=101 ack=901
        >> client ACK seq=101 ack=901 fill=1000 CE
        << server ACK ect seq=101 !ECE len=1000
        @ 50ms
        << client ACK ECE ack=1101                   # each leg's marks are that leg's affair
        >> client ACK CWR seq=1101 ack=901 fill=1000
        << server ACK ect seq=1101 len=1000
        @ 50ms
        << client ACK !ECE ack=2101
        ",
    );
}

#[test]
fn rfc3168_6_1_1_a_server_without_ecn_leaves_the_client_without() {
    script(Transport::default()).play(
        "
        >> client SYN ECE CWR seq=100 mss=1460
        << server SYN ECE CWR seq=100
        >> server SYN ACK seq=900 ack=101 mss=1460
        << server ACK seq=101 ack=901
        << client SYN ACK !ECE seq=900 ack=101
        >> client ACK seq=101 ack=901 fill=1000
        << server ACK !ect seq=101 len=1000
        @ 50ms
        << client ACK ack=1101
        ",
    );
}

#[test]
fn where_ecn_is_off_nobody_is_asked_and_nobody_answered() {
    script(Transport { ecn: Ecn::Off, ..Transport::default() }).play(
        "
        >> client SYN ECE CWR seq=100 mss=1460
        << server SYN !ECE !CWR seq=100
        >> server SYN ACK seq=900 ack=101 mss=1460
        << server ACK seq=101 ack=901
        << client SYN ACK !ECE seq=900 ack=101
        ",
    );
}

/// How many segments reach the server at once when the client has sent eight.
fn sent_at_once(mut script: Script) -> usize {
    script.play(
        "
        >> client SYN seq=100 mss=1460
        << server SYN seq=100
        @ 50ms
        >> server SYN ACK seq=900 ack=101 mss=1460
        << server ACK seq=101 ack=901
        << client SYN ACK seq=900 ack=101
        >> client ACK seq=101 ack=901
        ",
    );
    for n in 0..8 {
        script.client_queues(101 + 1460 * n, 1460);
    }
    script.take().iter().filter(|told| told.starts_with("server")).count()
}

#[test]
fn a_leg_is_paced_where_the_operator_chooses_bbr_for_it() {
    let with = |inside, outside| Transport { congestion: [inside, outside], ..Transport::default() };
    let (cubic, bbr) = (CongestionControl::Cubic, CongestionControl::Bbr);
    assert_eq!(sent_at_once(script(with(cubic, cubic))), 8);
    assert_eq!(sent_at_once(script(with(bbr, cubic))), 8);
    assert!(sent_at_once(script(with(cubic, bbr))) < 4);
}

#[test]
fn a_rule_has_the_last_word_on_congestion_control() {
    let mut script = script(Transport::default());
    let congestion = [None, Some(CongestionControl::Bbr)];
    let rules = vec![Rule { congestion, ..Rule::from("rule") }];
    script.rig.reactor.set_policy(Snapshot { rules, ..policy(vec![]) }, POLICY);
    assert!(sent_at_once(script) < 4);
}
