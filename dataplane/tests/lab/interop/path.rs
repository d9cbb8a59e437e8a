//! Paths narrower than the wires at the gateway: told by ICMP (RFC 1191), or told by nobody.

use std::process::Command;
use std::thread;

use super::setting::{firewall, sysctl, tool};
use super::talk::bulk;
use super::{Row, Way, lab, run};
use crate::fixture::succeed;
use crate::hosts::{CLIENT, Host, SERVER, SERVER_ADDRESS, accept};

/// Hosts behind the two, on the other side of a narrow link.
const NEAR: Host = Host::named("near");
const NEAR_ADDRESS: &str = "10.77.1.77";
pub(crate) const FAR: Host = Host::named("far");
pub(crate) const FAR_ADDRESS: &str = "203.0.113.77";

/// Bytes that a packet on a link may have.
const NARROW: u16 = 1300;
const WIDE: u16 = 1500;

#[test]
fn routers_may_say_that_the_path_is_narrower() {
    let lab = lab();
    let _hosts =
        [put_behind(CLIENT, NEAR, NEAR_ADDRESS, NARROW), put_behind(SERVER, FAR, FAR_ADDRESS, NARROW)];
    let rows = [
        Row::new("narrow to the client", |way| bulk_between(NEAR, SERVER, SERVER_ADDRESS, way)),
        Row::new("narrow to the server", |way| bulk_between(CLIENT, FAR, FAR_ADDRESS, way)),
        Row::new("narrow to both", |way| bulk_between(NEAR, FAR, FAR_ADDRESS, way)),
    ];

    run(&lab, rows);
}

/// RFC 4821 and RFC 8899: who has nobody to tell him must find out. By `nat` the gateway sends nothing of its own, so
/// there it is the hosts that probe.
#[test]
fn path_that_swallows_long_packets_without_a_word_is_found_out() {
    let lab = lab();
    let _hosts = [put_behind(CLIENT, NEAR, NEAR_ADDRESS, WIDE), put_behind(SERVER, FAR, FAR_ADDRESS, WIDE)];
    for host in [NEAR, FAR] {
        sysctl("tcp_mtu_probing", "2").apply(host).keep();
    }
    let swallow =
        |link| [firewall("forward", format!("{link} \"narrow\" ip length > {NARROW} counter drop;"))];
    let talk = |way| bulk_between(NEAR, FAR, FAR_ADDRESS, way);
    let rows = [
        Row::new("from the client", talk).client(swallow("iifname")),
        Row::new("to the client", talk).client(swallow("oifname")),
        Row::new("from the server", talk).server(swallow("iifname")),
        Row::new("to the server", talk).server(swallow("oifname")),
    ];

    run(&lab, rows);
}

fn bulk_between(client: Host, server: Host, address: &str, way: Way) {
    let listener = server.listen(way.port());
    let client = client.connect(address, way.port());
    bulk(&client, &accept(&listener), 500_000);
}

/// A host behind another one, gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Behind(Host);

impl Drop for Behind {
    fn drop(&mut self) {
        let gone = Command::new("ip").args(["netns", "del", &self.0.namespace()]).status();
        assert!(thread::panicking() || gone.is_ok_and(|status| status.success()), "the host is gone");
    }
}

/// Connects a host with this address to another one, which forwards for it over a link that carries packets of `mtu`
/// bytes. Its own packets fit, but it announces the MSS of a wide link, so whoever sends to it has to be told.
pub(crate) fn put_behind(router: Host, host: Host, address: &str, mtu: u16) -> Behind {
    let (router_name, host_name) = (router.namespace(), host.namespace());
    let behind = Behind(host);
    for command in [
        format!("ip netns add {host_name}"),
        format!("ip link add narrow netns {router_name} type veth peer name eth0 netns {host_name}"),
        format!("ip -n {router_name} addr add 192.168.77.1/30 dev narrow"),
        format!("ip -n {router_name} link set narrow mtu {mtu} up"),
        format!("ip -n {router_name} route add {address}/32 dev narrow"),
        format!("ip -n {host_name} addr add {address}/32 dev eth0"),
        format!("ip -n {host_name} link set eth0 up"),
        format!("ip -n {host_name} route add 192.168.77.1/32 dev eth0"),
        format!("ip -n {host_name} route add default via 192.168.77.1 src {address} mtu {mtu} advmss 1460"),
    ] {
        let words: Vec<_> = command.split_whitespace().collect();
        succeed(Command::new(words[0]).args(&words[1..]));
    }
    for (host, link) in [(router, "narrow"), (host, "eth0")] {
        tool(host, &format!("ethtool -K {link} tx off rx off sg off tso off gso off gro off"));
    }
    sysctl("ip_forward", "1").apply(router).keep();
    // The gateway asks for the host's link address and is told the router's.
    sysctl("conf/eth0/proxy_arp", "1").apply(router).keep();
    behind
}
