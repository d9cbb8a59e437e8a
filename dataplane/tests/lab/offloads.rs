//! Ports that work on checksums: DPDK's TAP devices do (their driver in software), and the hosts behind them verify every
//! checksum by themselves.

use std::net::Ipv4Addr;

use pnat_shared::wire::{ip, udp};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with};

use crate::capture::Capture;
use crate::exchange;
use crate::fixture::{Lab, wait_until};
use crate::hosts::{CLIENT, CLIENT_ADDRESS, FAR_ADDRESS, Host, PATIENCE, SERVER};
use crate::policy::{self, Arrangement};

/// The lab with both ports on TAP devices, whose offloads are used inside, and outside, as this says.
fn tapped(offloads: [&'static str; 2], policy: &str) -> Lab {
    let lab = Lab::arranged(Arrangement { driver: "net_tap", offloads, ..Arrangement::default() }, policy);
    for (port, wanted) in ["inside", "outside"].into_iter().zip(offloads) {
        for counter in ["rx_checksum_offload", "tx_checksum_offload"] {
            assert_eq!(lab.gauge("port", port, counter), u64::from(wanted == "auto"), "{port}: {counter}");
        }
    }
    lab
}

#[test]
fn everything_is_carried_where_both_ports_work_on_checksums() {
    carries_everything(["auto", "auto"], &policy::proxied());
}

#[test]
fn everything_is_carried_where_one_port_works_on_checksums_and_the_other_does_not() {
    carries_everything(["auto", "off"], &policy::proxied());
    carries_everything(["off", "auto"], &policy::proxied());
}

#[test]
fn everything_is_carried_where_neither_port_works_on_checksums() {
    carries_everything(["off", "off"], &policy::proxied());
}

#[test]
fn packets_are_translated_where_both_ports_work_on_checksums() {
    carries_everything(["auto", "auto"], &policy::translated());
}

fn carries_everything(offloads: [&'static str; 2], policy: &str) {
    let lab = tapped(offloads, policy);
    no_checksum_is_wrong(&lab, || {
        carries_streams(&lab);
        exchange::names_are_looked_up(&lab);
        exchange::ping_is_answered(&lab);
        exchange::datagrams_keep_their_boundaries(&lab);
        exchange::port_unreachable_reaches_the_udp_client(&lab);
    });
}

fn carries_streams(lab: &Lab) {
    exchange::http_page_is_fetched_by_name(lab);
    exchange::https_page_is_fetched_by_name(lab);
    exchange::client_may_end_its_stream_first(lab);
    exchange::server_may_speak_first_and_end_its_stream_first(lab);
}

/// What `talk` makes the hosts send and receive is captured and looked at; then a big file goes both ways, unharmed.
fn no_checksum_is_wrong(lab: &Lab, talk: impl FnOnce()) {
    let before = [CLIENT, SERVER].map(wrong_checksums);
    let captures = [CLIENT, SERVER].map(|host| Capture::start_whole(lab, host));
    talk();
    for capture in captures {
        let told = capture.stop_in_detail();
        assert!(told.contains("cksum 0x") && told.contains("(correct)"), "checksums were looked at");
        let wrong = told.lines().find(|line| line.contains("incorrect") || line.contains("bad cksum"));
        assert_eq!(wrong, None);
    }
    exchange::big_file_goes_down_and_up_at_the_same_time_unharmed(lab);
    assert_eq!([CLIENT, SERVER].map(wrong_checksums), before, "found by the hosts");
    assert_eq!(lab.total("proxy", "panics"), 0);
}

/// Packets with wrong checksums that a host's kernel has received.
fn wrong_checksums(host: Host) -> u64 {
    let told = host.run(&[
        "nstat",
        "-asz",
        "TcpInCsumErrors",
        "UdpInCsumErrors",
        "IcmpInCsumErrors",
        "IpInHdrErrors",
    ]);
    let counts = told.lines().filter(|line| !line.starts_with('#'));
    let counts: Vec<u64> = counts
        .map(|line| line.split_whitespace().nth(1).and_then(|count| count.parse().ok()).expect(line))
        .collect();
    assert_eq!(counts.len(), 4, "{told}");
    counts.iter().sum()
}

/// The driver counts the Ethernet header against the MTU of what it cuts, so segments are that much shorter here.
#[test]
fn port_cuts_the_segments_of_large_frames() {
    let arrangement = Arrangement { driver: "net_tap", mtu: 1486, ..Arrangement::default() };
    let lab = Lab::arranged(arrangement, &policy::proxied());
    for port in ["inside", "outside"] {
        assert_eq!(lab.gauge("port", port, "tx_segments_offload"), 1, "{port}");
    }

    no_checksum_is_wrong(&lab, || carries_streams(&lab));

    let [bytes, frames] = ["tx_bytes", "tx_packets"].map(|counter| lab.total("worker", counter));
    assert!(bytes / frames > 2000, "{bytes} bytes in {frames} frames, ACKs included");
}

/// A packet that nobody looks at would be translated as it is: what the device found out is heeded.
#[test]
fn what_the_port_finds_wrong_is_dropped_and_counted() {
    for (offloads, dropped) in [("auto", 10), ("off", 0)] {
        let lab = tapped([offloads; 2], &policy::translated());
        // The flow's first packet is looked at in any case.
        send(&datagram(7001, 0));
        wait_until(PATIENCE, "the flow is open", || lab.total("worker", "flows_opened") > 0);
        let before = lab.total("worker", "tx_packets");

        for _ in 0..10 {
            send(&datagram(7001, 0x0101));
        }

        let count = || lab.drops("l4_checksum");
        wait_until(PATIENCE, "all have come", || {
            count() == dropped && lab.total("worker", "tx_packets") >= before + 10 - dropped
        });
    }
}

/// A datagram from the client's port to a server that is none, whose checksum is off by so much.
fn datagram(port: u16, wrong_by: u16) -> Vec<u8> {
    let (src, dst): (Ipv4Addr, Ipv4Addr) = (CLIENT_ADDRESS.parse().unwrap(), FAR_ADDRESS.parse().unwrap());
    let total_len = ip::MIN_LEN + udp::LEN + 4;
    let mut packet = vec![0; total_len];
    let header = ip::Header::new(17, src, dst, total_len);
    header.write(&mut packet);
    udp::write(&mut packet[ip::MIN_LEN..], (src, port), (dst, 9));
    let checksum = &mut packet[ip::MIN_LEN + udp::CHECKSUM_AT..][..2];
    let right = u16::from_be_bytes([checksum[0], checksum[1]]);
    checksum.copy_from_slice(&(right ^ wrong_by).to_be_bytes());
    packet
}

/// Sends a whole IP packet from the client.
fn send(packet: &[u8]) {
    let packet = packet.to_vec();
    CLIENT.within(move || {
        let socket =
            socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW))
                .unwrap();
        let to = std::net::SocketAddr::new(FAR_ADDRESS.parse().unwrap(), 0);
        assert_eq!(sendto(&socket, &packet, SendFlags::empty(), &to), Ok(packet.len()));
    });
}
