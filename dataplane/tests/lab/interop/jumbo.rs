//! Wires that carry 9000 bytes: through a gateway that does, too, and through one that does not.
//!
//! By packet sockets, for AF_XDP's frames lie within a page.

use super::size::at_most;
use super::talk::{Told, bulk, connection};
use super::{Row, Way, policy, ready, run, run_by};
use crate::fixture::Lab;
use crate::hosts::{CLIENT, Host, SERVER};
use crate::policy::Arrangement;

const WIDE: Arrangement = Arrangement {
    driver: "net_af_packet",
    workers: &[1],
    proxies: &[1],
    hugepages: "auto",
    frames: 24_575,
    wire_mtu: 9000,
    mtu: 9000,
    ecn: "mirror",
    offloads: ["auto"; 2],
    nat: "",
    proxy: "",
};

#[test]
fn segments_of_8960_bytes_are_carried() {
    let lab = ready(Lab::arranged(WIDE, &policy()));
    let rows = [1460, 1461, 2001, 4096, 8191, 8960].into_iter().flat_map(|mss| {
        [
            Row::new(format!("client wants {mss}"), move |way| segments_are(way, &[SERVER], mss))
                .client(at_most(mss)),
            Row::new(format!("server wants {mss}"), move |way| segments_are(way, &[CLIENT], mss))
                .server(at_most(mss)),
            Row::new(format!("both want {mss}"), move |way| segments_are(way, &[CLIENT, SERVER], mss))
                .both(at_most(mss)),
        ]
    });

    run(&lab, rows);
}

#[test]
fn gateway_for_1500_bytes_tells_hosts_for_9000() {
    let lab = ready(Lab::arranged(Arrangement { mtu: 1500, ..WIDE }, &policy()));
    let talk = |way| segments_are(way, &[CLIENT, SERVER], 1460);

    run_by(&[Way::PROXY], &lab, [Row::new("hosts with wide wires", talk)]);
}

/// These hosts send segments of this MSS exactly, less the 12 bytes of a timestamp.
fn segments_are(way: Way, senders: &[Host], mss: u16) {
    let (client, server) = connection(way);
    for &sender in senders {
        let stream = if sender == CLIENT { &client } else { &server };
        assert_eq!(Told::of(sender, stream).value("mss"), Some(&*(mss - 12).to_string()), "{sender:?}");
    }
    bulk(&client, &server, 3_000_000);
}
