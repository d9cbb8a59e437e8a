//! The port layer on real DPDK devices that need no hardware and no privilege: a ring and a capture file.
//!
//! One process can start DPDK once, so this is one test. The devices: `net_ring0`, whose transmit queue is its receive
//! queue and holds 1023 frames; `net_pcap0`, which receives a capture's frames and sends nowhere.

use std::sync::mpsc;
use std::{env, fs, process};

use pnat_dataplane::port::capsule::{
    CorePorts, Idle, PortCounters, Runtime, available_cpus, counters, pools,
};
use pnat_dataplane::port::mbuf::MbufFrame;
use pnat_dataplane::port::plan::{Plan, PlannedPort};
use pnat_dataplane::port::{BURST, PortQueue};
use pnat_shared::frame::{Frame, FramePool};

const RING_HOLDS: usize = 1023;
const REFUSED: usize = 77;

/// What the worker core saw.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    looped: Vec<Vec<u8>>,
    fetched: usize,
    captured: Vec<usize>,
}

#[test]
fn frames_cross_devices_and_every_loss_is_counted() {
    let capture = env::temp_dir().join(format!("pnat-dpdk-port-{}.pcap", process::id()));
    fs::write(&capture, pcap(&[60, 5000, 1514])).unwrap();
    let cpus = available_cpus();
    let (&proxy, &worker) = (cpus.first().unwrap(), cpus.last().unwrap());
    let mut cores = vec![worker, proxy];
    cores.dedup();
    let plan = Plan {
        app_name: "pnat-test".to_owned(),
        cores,
        main_core: None,
        ports: vec![
            port("ring", "net_ring0", None, worker),
            port("capture", "net_pcap0", Some(format!("rx_pcap={}", capture.display())), worker),
        ],
        frames: 16_383,
        frame_cache: 64,
        hugepages: true,
        eal_args: Vec::new(),
    };

    let mut runtime = Runtime::start(&plan).unwrap();
    assert_eq!(runtime.ports()[0].driver, "net_ring");
    assert_eq!(runtime.ports()[1].name, "capture");
    assert_eq!(runtime.ports()[0].mtu, 1500);
    let before = pools();
    assert!(before[0].contiguous);

    let (report, seen) = mpsc::channel();
    let stopper = runtime.stopper();
    runtime
        .run_on_core(worker, Idle::Poll, move |ports| {
            let mut work = Some(move |mut ports: CorePorts| {
                check_frame(&mut ports.pool.alloc().unwrap());
                report.send(exercise(&mut ports)).unwrap();
                stopper.stop();
            });
            let mut ports = Some(ports);
            move || match (work.take(), ports.take()) {
                (Some(work), Some(ports)) => {
                    work(ports);
                    true
                }
                _ => false,
            }
        })
        .unwrap();
    if proxy != worker {
        // A core without a port has a pool all the same, and frames that it still holds at the end come back.
        runtime
            .run_on_core(proxy, Idle::Adaptive, |mut ports| {
                assert!(ports.queues.is_empty());
                let held: Vec<MbufFrame> = (0..10).map(|_| ports.pool.alloc().unwrap()).collect();
                move || held.is_empty()
            })
            .unwrap();
    }
    runtime.execute().unwrap();
    fs::remove_file(&capture).unwrap();

    let seen = seen.try_recv().expect("the worker reported");
    assert_eq!(seen.looped, [b"one".to_vec(), b"two".to_vec(), Vec::new()]);
    assert_eq!(seen.fetched, RING_HOLDS);
    assert_eq!(seen.captured, [60, 1514], "the frame of two segments is left out");

    let ring = counters(&runtime.ports()[0]).unwrap();
    assert_eq!((ring.tx_pkts, ring.rx_pkts), (3 + RING_HOLDS as u64, 3 + RING_HOLDS as u64));
    assert_eq!(ring.tx_dropped, REFUSED as u64);
    let captured = counters(&runtime.ports()[1]).unwrap();
    assert_eq!((captured.rx_pkts, captured.rx_multi_segment), (2, 1));
    assert_eq!(pools(), before, "every frame is back");

    let ring = runtime.ports()[0].clone();
    drop(runtime);
    assert_eq!(counters(&ring), None::<PortCounters>);
    assert!(pools().is_empty());
}

fn check_frame(frame: &mut MbufFrame) {
    assert!(frame.data().is_empty() && frame.data_mut().is_empty());
    assert!(frame.resize(0));
    assert!(frame.resize(frame.capacity()), "a frame holds what its capacity says");
    assert!(!frame.resize(frame.capacity() + 1));
    frame.data_mut().fill(7);
    assert!(frame.resize(100));
    assert_eq!(frame.data(), [7; 100]);
    assert!(frame.resize(0));
    assert!(frame.data().is_empty());
}

fn exercise(ports: &mut CorePorts) -> Seen {
    let mut ring = ports.queues.remove("ring").unwrap();
    let mut capture = ports.queues.remove("capture").unwrap();
    let mut burst = Vec::new();

    ring.transmit(&mut burst);
    for text in ["one", "two", ""] {
        let mut frame = ports.pool.alloc().unwrap();
        assert!(frame.resize(text.len()));
        frame.data_mut().copy_from_slice(text.as_bytes());
        burst.push(frame);
    }
    ring.transmit(&mut burst);
    assert!(burst.is_empty());
    assert_eq!(ring.receive(&mut burst), 3);
    let looped = burst.drain(..).map(|frame| frame.data().to_vec()).collect();

    // More than the ring holds, while nobody receives.
    let mut left = RING_HOLDS + REFUSED;
    while left > 0 {
        burst.extend((0..left.min(BURST)).map(|_| ports.pool.alloc().unwrap()));
        left -= burst.len();
        ring.transmit(&mut burst);
    }
    let mut fetched = 0;
    while ring.receive(&mut burst) > 0 {
        assert!(burst.len() <= BURST);
        fetched += burst.drain(..).count();
    }

    while capture.receive(&mut burst) > 0 {}
    let captured = burst.drain(..).map(|frame| frame.data().len()).collect();
    Seen { looped, fetched, captured }
}

fn port(name: &str, device: &str, args: Option<String>, core: usize) -> PlannedPort {
    let (name, device) = (name.to_owned(), device.to_owned());
    PlannedPort {
        name,
        device,
        args,
        cores: vec![core],
        queue_len: 256,
        promiscuous: false,
        mtu: None,
        offloads: true,
    }
}

/// A capture file with one zeroed frame of each length.
fn pcap(lengths: &[u32]) -> Vec<u8> {
    // Magic, version 2.4, no zone, no accuracy, snap length, Ethernet.
    let mut file = Vec::new();
    for field in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1_u32] {
        file.extend(field.to_ne_bytes());
    }
    for &length in lengths {
        // Seconds, microseconds, captured length, length.
        for field in [0, 0, length, length] {
            file.extend(field.to_ne_bytes());
        }
        file.resize(file.len() + length as usize, 0);
    }
    file
}
