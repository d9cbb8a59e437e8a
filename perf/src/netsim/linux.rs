//! Linux's TCP over the relay: two network namespaces, a TUN device in each, and flows between them.
//!
//! Needs root. Everything runs in this process: its threads enter the namespaces, so both ends and the relay share a clock.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use crossbeam_channel::{Receiver, Sender, unbounded};
use pnat_shared::testkit::Link;
use rustix::net::sockopt::{set_socket_reuseaddr, set_tcp_congestion};
use rustix::net::{AddressFamily, SocketType};
use tun_rs::SyncDevice;

use super::cell::{Algorithm, Cell, RATE, SIZES};
use super::kernel::{
    END_PRIORITY, RELAY_PRIORITY, SYSCTLS, command, keep_to, now, open_device, pause, prefer, within,
};
use super::relay::{Relay, Report};
use super::table::{Figures, Percentiles};

/// The connecting end's namespace, which sends, and the listening end's.
const NAMESPACES: [&str; 2] = ["pnat-netsim-sender", "pnat-netsim-receiver"];
const ADDRESSES: [&str; 2] = ["10.98.0.1/24", "10.98.0.2/24"];
const RECEIVER: [u8; 4] = [10, 98, 0, 2];
const DEVICE: &str = "wire";
/// Cells are told apart by the port that is connected to: the first cell's.
const FIRST_PORT: u16 = 20_000;
/// A flow's seed is told by the port that it is connected from: the first kind's first flow's, and how many ports each kind
/// (bulk or size, by congestion control) has.
const FIRST_SOURCE_PORT: u16 = 21_000;
const SEEDS: u16 = 1_000;
/// The CPU that the relay has to itself, as far as the flows' ends are concerned.
const RELAY_CPU: usize = 0;
const BACKLOG: i32 = 4096;

/// How much to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    pub cells: Vec<Cell>,
    pub algorithms: Vec<Algorithm>,
    /// How long a bulk flow lasts.
    pub bulk: Duration,
    /// Flows for each cell, by their size: fewer than a thousand.
    pub transfers: [u16; SIZES.len()],
    /// What may be on its way through the relay at a time, in bits per second.
    pub load: f64,
}

/// What came of a plan.
#[derive(Debug)]
pub struct Measured {
    pub figures: Vec<(Algorithm, Cell, Figures)>,
    pub relay: Report,
    pub took: Duration,
}

/// One flow to be measured.
#[derive(Copy, Clone, Debug)]
struct Job {
    /// Index among the plan's cells.
    cell: usize,
    algorithm: Algorithm,
    work: Work,
    /// Of the links: its number among the flows of its kind.
    seed: u16,
    /// About what it will take of the relay, in bits per second.
    load: f64,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Work {
    /// As many bytes as pass until then.
    Bulk(Duration),
    /// The size with this index among [`SIZES`].
    Transfer(usize),
}

/// Longest time without any flow ending: a transfer whose handshake is lost again and again takes about so long.
const PATIENCE: Duration = Duration::from_secs(100);

impl Job {
    const fn is_bulk(&self) -> bool {
        matches!(self.work, Work::Bulk(_))
    }

    const fn source_port(&self) -> u16 {
        let work = match self.work {
            Work::Bulk(_) => 0,
            Work::Transfer(size) => 1 + size as u16,
        };
        let kind = work * Algorithm::ALL.len() as u16 + self.algorithm as u16;
        FIRST_SOURCE_PORT + kind * SEEDS + self.seed
    }
}

/// What a flow begins with: who it is, and when its end began to connect, in nanoseconds of the run.
const PREAMBLE: usize = 16;

/// A job's index, and what its receiver has seen: Mbit/s or seconds.
type Seen = (usize, f64);
/// How it ended.
type Ended = io::Result<Seen>;

/// Which congestion controls this kernel has.
///
/// # Errors
/// Where the kernel does not tell.
pub fn available() -> Result<String> {
    std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control")
        .context("no Linux TCP here")
}

/// Measures what `plan` asks for.
///
/// # Errors
/// Without root, `ip` and `chrt`, or where the kernel lacks a congestion control.
pub fn measure(plan: &Plan) -> Result<Measured> {
    let start = now();
    for algorithm in &plan.algorithms {
        let name = algorithm.name();
        ensure!(
            available()?.split_whitespace().any(|known| known == name),
            "no {name} here: modprobe tcp_{name}"
        );
    }
    let _namespaces = Namespaces::create()?;
    let device = |side: usize| within(NAMESPACES[side], || open_device(DEVICE));
    let devices = [device(0)??, device(1)??];
    Namespaces::configure()?;
    prefer(END_PRIORITY)?;
    let stop = Arc::new(AtomicBool::new(false));
    let relay = start_relay(plan, devices, &stop)?;
    keep_to(|cpu| cpu != RELAY_CPU)?;
    let jobs: Arc<[Job]> = plan.jobs().into();
    let (to_results, results) = unbounded();
    listen(plan.cells.len(), &jobs, start, &to_results)?;
    let (load, all) = (plan.load, Arc::clone(&jobs));
    let seen = within(NAMESPACES[0], move || run(&all, load, start, &to_results, &results))??;
    stop.store(true, Ordering::Relaxed);
    let relay = relay.join().expect("invariant: the relay does not panic")?;
    Ok(Measured { figures: plan.figures(&jobs, &seen), relay, took: start.elapsed() })
}

impl Plan {
    /// Bulk flows first, then the others, so that a bulk flow's bursts don't delay a short one.
    fn jobs(&self) -> Vec<Job> {
        let mut jobs = [Vec::new(), Vec::new()];
        for (index, cell) in self.cells.iter().enumerate() {
            for algorithm in &self.algorithms {
                let load = cell.expected(*algorithm);
                let job = |work, seed, load| Job { cell: index, algorithm: *algorithm, work, seed, load };
                for seed in 0..cell.bulks(*algorithm) as u16 {
                    jobs[0].push(job(Work::Bulk(self.bulk), seed, load));
                }
                for (size, bytes) in SIZES.iter().enumerate() {
                    let rounds = (*bytes as f64 / 14_480.0 + 1.0).log2().ceil() + 0.5;
                    let fastest = rounds * cell.rtt().as_secs_f64() + *bytes as f64 * 8.0 / RATE as f64;
                    let load = load.min(*bytes as f64 * 8.0 / fastest);
                    for seed in 0..self.transfers[size] {
                        jobs[1].push(job(Work::Transfer(size), seed, load));
                    }
                }
            }
        }
        jobs.concat()
    }

    fn figures(&self, jobs: &[Job], seen: &[Seen]) -> Vec<(Algorithm, Cell, Figures)> {
        let of = |cell, algorithm, wanted: fn(Work) -> Option<usize>, index| {
            let mine = move |job: &Job| {
                job.cell == cell && job.algorithm == algorithm && wanted(job.work) == Some(index)
            };
            seen.iter().filter(move |(job, _)| mine(&jobs[*job])).map(|(_, value)| *value).collect::<Vec<_>>()
        };
        let bulk = |work| matches!(work, Work::Bulk(_)).then_some(0);
        let transfer = |work| if let Work::Transfer(size) = work { Some(size) } else { None };
        let mut all = Vec::new();
        for algorithm in &self.algorithms {
            for (index, cell) in self.cells.iter().enumerate() {
                let rates = of(index, *algorithm, bulk, 0);
                let figures = Figures {
                    goodput: rates.iter().sum::<f64>() / rates.len().max(1) as f64,
                    completion: [0, 1, 2].map(|size| Percentiles::of(of(index, *algorithm, transfer, size))),
                };
                all.push((*algorithm, *cell, figures));
            }
        }
        all
    }
}

/// Runs all jobs in the order that they have, as many at a time as `limit` allows.
fn run(
    jobs: &[Job],
    limit: f64,
    start: Instant,
    to_results: &Sender<Ended>,
    results: &Receiver<Ended>,
) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    let mut load = 0.0;
    let mut started = 0;
    while seen.len() < jobs.len() {
        while started < jobs.len() && (load == 0.0 || load + jobs[started].load <= limit) {
            let job = jobs[started];
            if started > 0 && jobs[started - 1].is_bulk() && !job.is_bulk() {
                if seen.len() < started {
                    break;
                }
                // What they had under way when they were hung up on drains.
                pause(Duration::from_secs(1));
            }
            // Handshakes that all begin at once would wait for each other.
            pause(Duration::from_millis(1));
            load += job.load;
            let flow = thread::Builder::new().stack_size(64 << 10);
            let to_results = to_results.clone();
            let work = move || match send(job, started, start) {
                Ok(()) => {}
                // Nobody waits where the run was given up.
                Err(error) => drop(to_results.send(Err(error))),
            };
            flow.spawn(work).context("a thread for each flow")?;
            started += 1;
        }
        let Ok(ended) = results.recv_timeout(PATIENCE) else {
            bail!("{} of {started} flows have ended, and no other does", seen.len());
        };
        let (index, value) = ended.context("a flow broke")?;
        seen.push((index, value));
        load -= jobs[index].load;
        if seen.len() == started {
            load = 0.0;
        }
    }
    Ok(seen)
}

/// The sending end of one flow.
fn send(job: Job, index: usize, start: Instant) -> io::Result<()> {
    let begun = start.elapsed().as_nanos() as u64;
    let socket = bound_socket(job.source_port())?;
    set_tcp_congestion(&socket, job.algorithm.name())?;
    rustix::net::connect(&socket, &SocketAddrV4::new(RECEIVER.into(), FIRST_PORT + job.cell as u16))?;
    let mut stream = TcpStream::from(socket);
    let mut text = vec![0; SIZES[2]];
    // The same write as what follows, for no segment shall be shorter than it could be.
    text[..8].copy_from_slice(&(index as u64).to_be_bytes());
    text[8..PREAMBLE].copy_from_slice(&begun.to_be_bytes());
    match job.work {
        // Until the receiver has had enough and hangs up.
        Work::Bulk(_) => while stream.write_all(&text).is_ok() {},
        Work::Transfer(size) => {
            stream.write_all(&text[..SIZES[size]])?;
            // The receiver hangs up when it has everything.
            while stream.read(&mut text)? > 0 {}
        }
    }
    Ok(())
}

/// A socket that connects from this port, as others may at the same time, each to another one.
fn bound_socket(port: u16) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
    Ok(socket)
}

/// Listens for every cell, each flow on a thread of its own.
fn listen(cells: usize, jobs: &Arc<[Job]>, start: Instant, results: &Sender<Ended>) -> Result<()> {
    for cell in 0..cells as u16 {
        let (jobs, results) = (Arc::clone(jobs), results.clone());
        let listener = within(NAMESPACES[1], move || bind(FIRST_PORT + cell))??;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (jobs, results) = (Arc::clone(&jobs), results.clone());
                thread::spawn(move || drop(results.send(receive(stream, &jobs, start))));
            }
        });
    }
    Ok(())
}

/// A listener with room for all that connect at about the same time.
fn bind(port: u16) -> io::Result<TcpListener> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(RECEIVER.into(), port))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// The receiving end of one flow: seconds until its last byte, or Mbit/s as long as a bulk flow lasts, both counted from
/// when its peer began to connect.
fn receive(mut stream: TcpStream, jobs: &[Job], start: Instant) -> Ended {
    let mut preamble = [0; PREAMBLE];
    stream.read_exact(&mut preamble)?;
    let number =
        |at: usize| u64::from_be_bytes(preamble[at..at + 8].try_into().expect("invariant: eight bytes"));
    let (index, begun) = (number(0) as usize, Duration::from_nanos(number(8)));
    let mut room = vec![0; 256 << 10];
    let mut bytes = PREAMBLE;
    let elapsed = || start.elapsed().saturating_sub(begun);
    match jobs[index].work {
        Work::Transfer(size) => {
            while bytes < SIZES[size] {
                bytes += stream.read(&mut room)?;
            }
            Ok((index, elapsed().as_secs_f64()))
        }
        Work::Bulk(lasts) => {
            while let Some(left) = lasts.checked_sub(elapsed()).filter(|left| !left.is_zero()) {
                stream.set_read_timeout(Some(left))?;
                match stream.read(&mut room) {
                    Ok(0) => break,
                    Ok(count) => bytes += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            Ok((index, bytes as f64 * 8.0 / lasts.as_secs_f64() / 1e6))
        }
    }
}

fn start_relay(
    plan: &Plan,
    devices: [SyncDevice; 2],
    stop: &Arc<AtomicBool>,
) -> Result<JoinHandle<io::Result<Report>>> {
    let cells = plan.cells.clone();
    let links = move |[from, to]: [u16; 2]| {
        let cell = cells[usize::from(to.saturating_sub(FIRST_PORT)).min(cells.len() - 1)];
        let [there, back] = cell.links();
        let seed = u64::from(from.saturating_sub(FIRST_SOURCE_PORT) % SEEDS);
        [Link::new(there, seed * 2), Link::new(back, seed * 2 + 1)]
    };
    let relay = Relay::new(devices, links)?;
    let stop = Arc::clone(stop);
    Ok(thread::spawn(move || {
        prefer(RELAY_PRIORITY).map_err(io::Error::other)?;
        keep_to(|cpu| cpu == RELAY_CPU)?;
        relay.run(&stop)
    }))
}

/// The two namespaces, which end with this.
#[derive(Debug)]
struct Namespaces;

impl Namespaces {
    fn create() -> Result<Self> {
        // What an interrupted run has left.
        drop(Self);
        let namespaces = Self;
        for name in NAMESPACES {
            command("ip", &["netns", "add", name])?;
        }
        Ok(namespaces)
    }

    /// Addresses and settings, once the devices are there.
    fn configure() -> Result<()> {
        for (name, address) in NAMESPACES.iter().zip(ADDRESSES) {
            command("ip", &["-n", name, "address", "add", address, "dev", DEVICE])?;
            command("ip", &["-n", name, "link", "set", DEVICE, "txqueuelen", "20000", "up"])?;
            for setting in SYSCTLS {
                command("ip", &["netns", "exec", name, "sysctl", "-qw", setting])?;
            }
        }
        Ok(())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in NAMESPACES {
            if Path::new("/run/netns").join(name).exists() {
                // Nobody is left to tell; the next run tries again.
                drop(command("ip", &["netns", "delete", name]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_flows_connect_from_one_port_to_two_cells() -> io::Result<()> {
        let cells =
            [TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?];
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut flows = Vec::new();
        for cell in &cells {
            let socket = bound_socket(free)?;
            rustix::net::connect(&socket, &cell.local_addr()?)?;
            assert_eq!(cell.accept()?.1.port(), free);
            flows.push(socket);
        }
        Ok(())
    }

    #[test]
    fn each_kind_of_flow_has_ports_of_its_own() {
        let plan = Plan {
            cells: Cell::all(),
            algorithms: Algorithm::ALL.to_vec(),
            bulk: Duration::from_secs(6),
            transfers: [400, 400, 60],
            load: 1e9,
        };
        let jobs = plan.jobs();
        let ports: std::collections::HashSet<_> =
            jobs.iter().map(|job| (job.cell, job.source_port())).collect();
        assert_eq!(ports.len(), jobs.len());
    }
}
