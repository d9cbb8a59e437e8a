//! A flood of SYNs from addresses that are nobody's, while clients that exist go on with their work (RFC 4987).
//!
//! Without cookies (`proxy.syn_cookies_above` at its largest) 2 % of them succeed, and memory grows fourfold.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pnat_shared::testkit::Random;
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{self, Flags, Header, Options, Seq};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with};
use rustix::process::nice;
use serde_json::Value;

use crate::fixture::Lab;
use crate::hosts::{CLIENT, FAR_ADDRESS, finish};
use crate::policy;

/// Where all of them want to go.
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 18, 5, 10), 80);
/// Real connections per second, and how many threads take turns with them: a slow one holds up nobody else.
const RATE: u32 = 200;
const THREADS: u32 = 100;
/// How long the flood lasts, of which memory may move in the first part: what is half-open then counts against a limit.
const FLOOD: Duration = Duration::from_secs(9);
const SETTLING: Duration = Duration::from_secs(4);
/// What a person would wait for: a page that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);
const SLOWEST_FLOOD: f64 = 50_000.0;

#[test]
#[allow(clippy::print_stdout)] // the figures are for people
fn syn_flood_keeps_no_client_out_and_memory_flat() {
    let lab = Lab::start(&policy::proxied());
    let calm = summary(&connections(Duration::from_secs(1)));
    println!("calm:  {calm}");
    let before = memory(&lab);

    let flood = Flood::start();
    let clients = thread::spawn(|| connections(FLOOD));
    thread::sleep(SETTLING);
    let settled = memory(&lab);
    let load = summary(&finish(clients));
    let after = memory(&lab);
    let rate = flood.stop();

    println!("flood: {load}");
    println!("flood: {rate:.0} spoofed SYNs per second");
    println!("resident memory: {before} KiB before, {settled} KiB in the flood, {after} KiB at its end");
    let stats: Value = serde_json::from_str(&lab.pnat("stats", &["--json"])).unwrap();
    let worker = &stats["totals"]["worker"];
    for counter in ["rx_packets", "cookies_sent", "cookies_accepted", "cookies_refused", "half_open"] {
        println!("{counter}: {}", worker[counter]);
    }
    assert!(calm.share() > 0.99, "the lab works at all");
    assert!(rate >= SLOWEST_FLOOD, "it is a flood");
    assert!(load.share() >= 0.95, "clients get through");
    assert!(worker["cookies_accepted"].as_u64() > Some(u64::from(RATE)), "by cookies");
    assert!(after <= settled + settled / 50, "memory is flat");
    assert!(after <= before + 32 * 1024, "and what is half-open takes little of it");
}

/// Opens connections at [`RATE`], each for one page; how long each took from when it was due, `None` for a failure.
fn connections(duration: Duration) -> Vec<Option<Duration>> {
    let start = Instant::now() + Duration::from_millis(50);
    let client = move |thread: u32| {
        let due =
            (0..).map(move |turn: u32| start + Duration::from_secs(1) * (turn * THREADS + thread) / RATE);
        let due = due.take_while(move |due| *due < start + duration);
        let fetch = move |due: Instant| {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            fetch_page().then(|| due.elapsed()).filter(|took| *took < PATIENCE)
        };
        CLIENT.spawn(move || due.map(fetch).collect::<Vec<_>>())
    };
    let clients: Vec<JoinHandle<Vec<_>>> = (0..THREADS).map(client).collect();
    clients.into_iter().flat_map(finish).collect()
}

/// Whether a page comes, whole.
fn fetch_page() -> bool {
    let fetch = || -> std::io::Result<Vec<u8>> {
        let mut stream = std::net::TcpStream::connect_timeout(&SocketAddr::V4(SERVER), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("GET / HTTP/1.0\r\nHost: {FAR_ADDRESS}\r\n\r\n").as_bytes())?;
        let mut page = Vec::new();
        stream.read_to_end(&mut page)?;
        Ok(page)
    };
    fetch().is_ok_and(|page| page.ends_with(b"hello from the server\n"))
}

struct Summary {
    all: usize,
    /// Of those that succeeded, in order.
    times: Vec<Duration>,
}

fn summary(results: &[Option<Duration>]) -> Summary {
    let mut times: Vec<Duration> = results.iter().copied().flatten().collect();
    times.sort_unstable();
    Summary { all: results.len(), times }
}

impl Summary {
    fn share(&self) -> f64 {
        self.times.len() as f64 / self.all as f64
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |share: f64| {
            self.times.get((self.times.len() as f64 * share) as usize).copied().unwrap_or(Duration::MAX)
        };
        write!(
            f,
            "{} of {} connections in time ({:.2} %), ",
            self.times.len(),
            self.all,
            100.0 * self.share()
        )?;
        write!(f, "p50 {:.1?}, p99 {:.1?}", at(0.5), at(0.99))
    }
}

/// The gateway's resident memory in KiB. Hugepages are not part of it: what is in them was there from the start.
fn memory(lab: &Lab) -> u64 {
    let pid = fs::read_to_string(lab.file("pid/gateway")).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// SYNs from the client's network, as fast as one thread can send them, until it is stopped.
struct Flood {
    goes_on: Arc<AtomicBool>,
    sender: JoinHandle<f64>,
}

impl Flood {
    fn start() -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let running = goes_on.clone();
        let sender = CLIENT.spawn(move || {
            // A flood comes from elsewhere: it has the CPU that the hosts leave, and does not keep them from theirs.
            nice(10).unwrap();
            let socket = raw_socket();
            let (start, mut random, mut sent) = (Instant::now(), Random::new(1), 0u32);
            while running.load(Ordering::Relaxed) {
                for _ in 0..64 {
                    let packet = spoofed_syn(&mut random);
                    // What the queue does not take was not sent.
                    sent += u32::from(sendto(&socket, &packet, SendFlags::empty(), &SERVER).is_ok());
                }
            }
            f64::from(sent) / start.elapsed().as_secs_f64()
        });
        Self { goes_on, sender }
    }

    /// Ends it; SYNs per second.
    fn stop(self) -> f64 {
        self.goes_on.store(false, Ordering::Relaxed);
        finish(self.sender)
    }
}

/// A socket that takes whole IP packets.
fn raw_socket() -> OwnedFd {
    socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW)).unwrap()
}

/// A SYN from any of the addresses next to the client's, which has none of them.
fn spoofed_syn(random: &mut Random) -> Vec<u8> {
    let src = Ipv4Addr::new(10, 77, 1, 3 + random.below(250) as u8);
    let syn = Header {
        src_port: 1024 + random.below(64_000) as u16,
        dst_port: SERVER.port(),
        seq: Seq(random.number() as u32),
        flags: Flags::SYN,
        window: 64_240,
        options: Options {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some((random.number() as u32, 0)),
            ..Options::default()
        },
        ..Header::default()
    };
    let total_len = ip::MIN_LEN + syn.len();
    let mut packet = vec![0; total_len];
    let header = ip::Header::new(6, src, *SERVER.ip(), total_len);
    header.write(&mut packet);
    syn.write(&mut packet[ip::MIN_LEN..], src, *SERVER.ip());
    debug_assert!(tcp::is_intact(&packet[ip::MIN_LEN..], src, *SERVER.ip()));
    packet
}
