//! The same exchanges with other ports and cores: what the gateway does must not depend on where it runs.

use serde_json::Value;

use crate::exchange;
use crate::fixture::Lab;
use crate::policy::{self, Arrangement};

#[test]
fn worker_and_proxy_core_may_have_a_cpu_each() {
    carries_everything(Arrangement { proxies: &[0], ..Arrangement::default() });
}

#[test]
fn one_worker_may_have_two_proxy_cores() {
    carries_everything(Arrangement { proxies: &[0, 1], ..Arrangement::default() });
}

/// Packet sockets, for DPDK gives AF_XDP on veth one queue: whichever worker's queue a packet is in, its owner gets it.
#[test]
fn two_workers_hand_packets_to_each_other() {
    let arrangement =
        Arrangement { driver: "net_af_packet", workers: &[0, 1], proxies: &[0, 1], ..Arrangement::default() };
    let stats = carries_everything(arrangement);
    assert!(stats["totals"]["worker"]["handed_in"].as_u64() > Some(0), "{stats:#}");
}

#[test]
fn packet_sockets_serve_where_af_xdp_does_not() {
    carries_everything(Arrangement { driver: "net_af_packet", ..Arrangement::default() });
}

#[test]
fn gateway_runs_without_hugepages() {
    carries_everything(Arrangement { hugepages: "never", ..Arrangement::default() });
}

/// Runs the exchanges in one lab; the counters at the end.
fn carries_everything(arrangement: Arrangement) -> Value {
    let lab = Lab::arranged(arrangement, &policy::proxied());

    exchange::http_page_is_fetched_by_name(&lab);
    exchange::https_page_is_fetched_by_name(&lab);
    exchange::names_are_looked_up(&lab);
    exchange::ping_is_answered(&lab);
    exchange::datagrams_keep_their_boundaries(&lab);
    exchange::client_may_end_its_stream_first(&lab);
    exchange::server_may_speak_first_and_end_its_stream_first(&lab);
    exchange::slow_reader_gets_every_byte(&lab);

    let stats: Value = serde_json::from_str(&lab.pnat("stats", &["--json"])).unwrap();
    assert_eq!(stats["totals"]["proxy"]["panics"], 0);
    stats
}
