//! Paths narrower than the wires at the gateway: told by ICMP (RFC 1191), or told by nobody.

use std::process::Command;
use std::thread;

use super::setting::{sysctl, tool, wire};
use super::talk::{bulk, bulk_over};
use super::{Row, Way, lab, run};
use crate::fixture::succeed;
use crate::hosts::{CLIENT, Host, SERVER, accept};

/// Hosts behind the two, on the other side of a narrow link.
const NEAR: Host = Host::named("near");
const NEAR_ADDRESS: &str = "10.77.1.77";
const FAR: Host = Host::named("far");
const FAR_ADDRESS: &str = "203.0.113.77";

/// Bytes that a packet on a narrow link may have.
const NARROW: u16 = 1300;

#[test]
fn routers_may_say_that_the_path_is_narrower() {
    let lab = lab();
    let _links = [put_behind(CLIENT, NEAR, NEAR_ADDRESS), put_behind(SERVER, FAR, FAR_ADDRESS)];
    let between = |client: Host, server: Host, address: &'static str| {
        move |way: Way| {
            let listener = server.listen(way.port());
            let client = client.connect(address, way.port());
            let server = accept(&listener);
            bulk(&client, &server, 1_000_000);
        }
    };
    let rows = [
        Row::new("narrow to the client", between(NEAR, SERVER, "198.18.0.2")),
        Row::new("narrow to the server", between(CLIENT, FAR, FAR_ADDRESS)),
        Row::new("narrow to both", between(NEAR, FAR, FAR_ADDRESS)),
    ];

    run(&lab, rows);
}

#[test]
fn kernels_that_probe_get_through_a_path_that_swallows_what_is_long() {
    let swallow = wire("egress", format!("meta protocol ip ip length > {NARROW} counter fwd to \"lo\";"));
    let probing = [sysctl("tcp_mtu_probing", "2"), swallow];
    let rows = [
        Row::new("long packets of the client's get lost", |way| bulk_over(way, 500_000))
            .client(probing.clone()),
        Row::new("long packets of the server's get lost", |way| bulk_over(way, 500_000)).server(probing),
    ];

    run(&lab(), rows);
}

/// A host behind another one, gone when this is dropped.
struct Behind(Host);

impl Drop for Behind {
    fn drop(&mut self) {
        let gone = Command::new("ip").args(["netns", "del", &self.0.namespace()]).status();
        assert!(thread::panicking() || gone.is_ok_and(|status| status.success()), "the host is gone");
    }
}

/// Connects a host with this address to another one, which forwards for it over a link that takes only short packets. Its
/// own packets are short already, but it announces the MSS of a wide link, so whoever sends to it has to be told.
fn put_behind(router: Host, host: Host, address: &str) -> Behind {
    let (router_name, host_name) = (router.namespace(), host.namespace());
    let behind = Behind(host);
    for command in [
        format!("ip netns add {host_name}"),
        format!("ip link add narrow netns {router_name} type veth peer name eth0 netns {host_name}"),
        format!("ip -n {router_name} addr add 192.168.77.1/30 dev narrow"),
        format!("ip -n {router_name} link set narrow mtu {NARROW} up"),
        format!("ip -n {router_name} route add {address}/32 dev narrow"),
        format!("ip -n {host_name} addr add {address}/32 dev eth0"),
        format!("ip -n {host_name} link set eth0 up"),
        format!("ip -n {host_name} route add 192.168.77.1/32 dev eth0"),
        format!(
            "ip -n {host_name} route add default via 192.168.77.1 src {address} mtu {NARROW} advmss 1460"
        ),
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
