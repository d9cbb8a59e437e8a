//! Which addresses each side gets to see: clients the servers' own, servers the public one, nobody the loopback's.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::capture::{Capture, Packet};
use crate::exchange;
use crate::fixture::Lab;
use crate::hosts::{CLIENT, CLIENT_ADDRESS, FAR_ADDRESS, Host, PUBLIC_ADDRESS, SERVER, SERVER_ADDRESS};
use crate::policy;

#[test]
fn client_sees_the_servers_own_addresses() {
    for policy in [policy::proxied(), policy::translated()] {
        let packets = all_kinds_of_traffic_seen_at(CLIENT, &policy);

        assert_eq!(addresses(&packets), parsed(&[CLIENT_ADDRESS, SERVER_ADDRESS, FAR_ADDRESS]));
    }
}

#[test]
fn server_sees_the_public_address_and_no_inside_or_masked_one() {
    for policy in [policy::proxied(), policy::translated()] {
        let packets = all_kinds_of_traffic_seen_at(SERVER, &policy);

        assert_eq!(addresses(&packets), parsed(&[PUBLIC_ADDRESS, SERVER_ADDRESS, FAR_ADDRESS]));
    }
}

/// TCP, UDP, pings and ICMP errors, to servers on the outside subnet and beyond it.
fn all_kinds_of_traffic_seen_at(host: Host, policy: &str) -> Vec<Packet> {
    let lab = Lab::start(policy);
    let capture = Capture::start(&lab, host);
    exchange::http_page_is_fetched_by_name(&lab);
    exchange::names_are_looked_up(&lab);
    exchange::ping_is_answered(&lab);
    exchange::client_may_end_its_stream_first(&lab);
    exchange::datagrams_keep_their_boundaries(&lab);
    exchange::port_unreachable_reaches_the_udp_client(&lab);
    capture.stop()
}

fn addresses(packets: &[Packet]) -> BTreeSet<Ipv4Addr> {
    packets.iter().flat_map(|packet| [packet.src, packet.dst]).collect()
}

fn parsed(addresses: &[&str]) -> BTreeSet<Ipv4Addr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}
