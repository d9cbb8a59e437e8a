//! Wires that lose, repeat, overtake and garble, under every set of options that recovery depends on.

use super::setting::{Setting, sysctl, tool, wire};
use super::talk::bulk_over;
use super::{Row, Way, lab, run};
use crate::hosts::{CLIENT, SERVER};

#[test]
fn everything_arrives_over_bad_wires() {
    let harms = [
        ("1 of 47 lost", lossy as fn() -> Vec<Setting>),
        ("1 of 19 repeated", repeating),
        ("1 of 19 overtaken", overtaking),
        ("1 of 47 garbled", garbling),
        ("lost, repeated and overtaken", all_at_once),
    ];
    let without: [(&str, &[&str]); 4] = [
        ("every option", &[]),
        ("no SACK", &["tcp_sack"]),
        ("no timestamps", &["tcp_timestamps"]),
        ("no option", &["tcp_sack", "tcp_timestamps", "tcp_window_scaling"]),
    ];
    let rows = harms.into_iter().flat_map(|(harm, settings)| {
        without.into_iter().map(move |(options, off)| {
            Row::new(format!("{harm}, with {options}"), all_arrives_though_harmed)
                .both(settings())
                .both(off.iter().map(|key| sysctl(key, "0")))
        })
    });

    run(&lab(), rows);
}

fn all_arrives_though_harmed(way: Way) {
    bulk_over(way, 1_000_000);

    for host in [CLIENT, SERVER] {
        let rules = tool(host, "nft list ruleset");
        assert!(
            rules.contains("counter packets") && !rules.contains("packets 0 "),
            "every harm was done: {rules}"
        );
    }
}

fn lossy() -> Vec<Setting> {
    // What a host drops on its own way out it knows of; so it is sent to nobody instead.
    vec![
        wire("ingress", "meta l4proto tcp numgen inc mod 47 == 11 counter drop;"),
        wire("egress", "meta l4proto tcp numgen inc mod 47 == 11 counter fwd to \"lo\";"),
    ]
}

fn repeating() -> Vec<Setting> {
    vec![wire("egress", "meta l4proto tcp numgen inc mod 19 == 11 counter dup to \"eth0\";")]
}

fn overtaking() -> Vec<Setting> {
    vec![wire("egress", DETOUR), Setting::Queue(TWO_LANES)]
}

/// Packets whose TCP checksum is wrong, as a wire or a broken device makes them.
fn garbling() -> Vec<Setting> {
    vec![wire("egress", "meta l4proto tcp numgen inc mod 47 == 11 counter tcp checksum set 0xbad;")]
}

fn all_at_once() -> Vec<Setting> {
    let lost = "meta l4proto tcp numgen inc mod 97 == 11 counter fwd to \"lo\";";
    let repeated = "meta l4proto tcp numgen inc mod 47 == 11 counter dup to \"eth0\";";
    vec![
        wire("ingress", "meta l4proto tcp numgen inc mod 97 == 11 counter drop;"),
        wire("egress", format!("{lost}\n{repeated}\n{DETOUR}")),
        Setting::Queue(TWO_LANES),
    ]
}

/// One packet of nineteen takes the slow lane.
const DETOUR: &str = "meta l4proto tcp numgen inc mod 19 == 11 counter meta priority set \"1:20\";";

/// A fast lane, and a slow one in which a full packet takes some milliseconds: enough to be overtaken by dozens.
const TWO_LANES: &str = "
    qdisc add dev eth0 root handle 1: htb default 10
    class add dev eth0 parent 1: classid 1:10 htb rate 10gbit quantum 60000
    class add dev eth0 parent 1: classid 1:20 htb rate 4mbit burst 1 cburst 1 quantum 1514
";
