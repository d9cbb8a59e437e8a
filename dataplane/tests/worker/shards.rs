//! Several workers: each flow has one owner, whichever worker a packet was delivered to.

use core::net::Ipv4Addr;

use pnat_dataplane::nat::alloc;
use pnat_shared::flow::{Protocol, WorkerId};
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::verdict::DropReason;

use crate::text;
use crate::world::{Cluster, INSIDE, MACS, OUTSIDE, ROUTER, TestWorker, World, addresses};

fn cluster(workers: u8) -> Cluster {
    Cluster::new(&World { workers, ..World::default() })
}

fn client(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 1, last)
}

#[test]
fn packets_find_their_owner_from_any_worker_in_both_directions() {
    let mut cluster = cluster(3);
    for last in 2..60u8 {
        let addr = client(last);
        let owner = usize::from(cluster.shards.worker(addr).0);
        let to = usize::from(last) % 3;
        let syn = format!("tcp {addr}:4000 > 203.0.113.80:80 S");
        let left = cluster.receive(to, INSIDE, &text::build(&syn, text::mac_of(addr), MACS[0]));
        let [(by, OUTSIDE, frame)] = &left[..] else { panic!("{left:?}") };
        let port = u16::from_be_bytes([frame.data()[L2_LEN + 20], frame.data()[L2_LEN + 21]]);
        assert_eq!(*by, owner);
        assert_eq!(alloc::owner(port, 3), WorkerId(owner as u8), "the public port names the owner");
        let reply = format!("tcp 203.0.113.80:80 > 198.18.0.1:{port} SA");
        let left =
            cluster.receive((to + 1) % 3, OUTSIDE, &text::build(&reply, text::mac_of(ROUTER), MACS[1]));
        let [(by, INSIDE, frame)] = &left[..] else { panic!("{left:?}") };
        assert_eq!((*by, addresses(frame).1), (owner, addr));
        let error = format!(
            "icmp 192.0.2.1 > 198.18.0.1 unreachable/1 about tcp 198.18.0.1:{port} > 203.0.113.80:80 S"
        );
        let left =
            cluster.receive((to + 2) % 3, OUTSIDE, &text::build(&error, text::mac_of(ROUTER), MACS[1]));
        let [(by, INSIDE, frame)] = &left[..] else { panic!("{left:?}") };
        assert_eq!((*by, addresses(frame).1), (owner, addr));
    }
    assert!(cluster.handed_over > 50);
    let open: Vec<usize> = cluster.workers.iter().map(|worker| worker.bindings().count()).collect();
    assert_eq!(open.iter().sum::<usize>(), 58);
    assert!(open.iter().all(|flows| *flows > 5), "{open:?}");
}

#[test]
fn every_worker_resolves_although_one_hears_all_the_answers() {
    let mut cluster = cluster(4);
    for last in 2..40u8 {
        let addr = client(last);
        let owner = usize::from(cluster.shards.worker(addr).0);
        let datagram = format!("udp {addr}:4000 > 203.0.113.53:53 len=5");
        let left = cluster.receive(owner, INSIDE, &text::build(&datagram, text::mac_of(addr), MACS[0]));
        assert!(matches!(left[..], [(_, OUTSIDE, _)]), "{left:?}");
    }
    assert!(cluster.workers.iter().all(|worker| worker.waiting() == 0));
    let strangers = |worker: &TestWorker| worker.stats().drops.value(DropReason::ArpStranger);
    assert_eq!(cluster.workers.iter().map(strangers).sum::<u64>(), 0, "no answer is a stranger's");
}

#[test]
fn workers_share_out_all_public_ports() {
    let cluster = cluster(5);
    let total: usize = cluster.workers.iter().map(|worker| worker.free_ports(Protocol::Udp)).sum();
    assert_eq!(total, 65536 - 1024);
}
