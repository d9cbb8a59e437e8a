//! The split gain with real hosts: downloads by Linux through the running gateway, once translated (`nat`), so that the hosts
//! are connected directly, and once through a pair (`proxy`).
//!
//! ```text
//!   near --TUN-- lossy Link --TUN-- client --veth-- gateway --veth-- server --TUN-- clean Link --TUN-- far
//! ```
//!
//! The lab's client and server are routers here, behind the relays that stand for the legs. Needs root, `scripts/lab` and the
//! program that it starts.

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use pnat_shared::testkit::{Link, LinkSpec};
use rustix::net::sockopt::set_tcp_congestion;
use rustix::net::{AddressFamily, SocketType};

use super::cell::Algorithm;
use super::kernel::{RELAY_PRIORITY, SYSCTLS, command, now, open_device, prefer, within};
use super::relay::{Relay, Report};
use super::split::Gain;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/lab");
/// Round trip of each leg, and packets lost on the client's.
const RTT: Duration = Duration::from_millis(20);
const LOSS: f64 = 0.01;
/// Bits per second of each flow's own bottleneck on either leg: what two relays and the gateway carry on two CPUs.
const RATE: u64 = 100_000_000;
const QUEUE: usize = 1000;
const BACKLOG: i32 = 128;

/// A host beyond a router of the lab.
struct Beyond {
    name: &'static str,
    address: [u8; 4],
    router: &'static str,
}

const NEAR: Beyond = Beyond { name: "near", address: [10, 77, 1, 77], router: "client" };
const FAR: Beyond = Beyond { name: "far", address: [203, 0, 113, 77], router: "server" };

/// What a download's port makes the gateway do.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Way {
    Nat,
    Proxy(Algorithm),
}

impl Way {
    const fn port(self) -> u16 {
        match self {
            Self::Nat => 7000,
            Self::Proxy(Algorithm::Cubic) => 7001,
            Self::Proxy(Algorithm::Bbr) => 7002,
        }
    }

    /// Downloads at the same time: as many as all have room for.
    const fn flows(self) -> usize {
        match self {
            Self::Proxy(Algorithm::Bbr) => 2,
            Self::Nat | Self::Proxy(Algorithm::Cubic) => 6,
        }
    }
}

/// What came of it: gains by the congestion control of the gateway's lossy leg, and how the relays kept time on the client's
/// leg and the server's.
#[derive(Debug)]
pub struct Measured {
    pub gains: Vec<(Algorithm, Gain)>,
    pub relays: [Report; 2],
}

/// Measures so many rounds of each way by turns, each download for so long.
///
/// # Errors
/// Without root, or where the lab does not come up.
pub fn measure(rounds: usize, lasts: Duration) -> Result<Measured> {
    let lab = Lab::up()?;
    let stop = Arc::new(AtomicBool::new(false));
    let relays = [lab.put_beyond(&NEAR, LOSS, &stop)?, lab.put_beyond(&FAR, 0.0, &stop)?];
    let ways = [Way::Nat, Way::Proxy(Algorithm::Cubic), Way::Proxy(Algorithm::Bbr)];
    for way in ways {
        let listener = within(&lab.namespace(FAR.name), move || bind(way.port()))??;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || send(stream));
            }
        });
    }
    let mut sums = [0.0; 3];
    for _ in 0..rounds {
        for (way, sum) in ways.into_iter().zip(&mut sums) {
            *sum += lab.downloads(way, lasts)? / rounds as f64;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let relays = relays.map(|relay| relay.join().expect("invariant: the relay does not panic"));
    let [client, server] = relays;
    let [direct, cubic, bbr] = sums;
    let gains = [(Algorithm::Cubic, cubic), (Algorithm::Bbr, bbr)];
    let gains = gains.map(|(algorithm, split)| (algorithm, Gain { direct, split })).to_vec();
    Ok(Measured { gains, relays: [client?, server?] })
}

/// A lab that is up with a gateway in it, until it is dropped.
#[derive(Debug)]
struct Lab {
    name: String,
}

impl Lab {
    fn up() -> Result<Self> {
        let name = env::var("PNAT_LAB_NAME").unwrap_or_else(|_| "pnat".into());
        let dir =
            env::var_os("PNAT_LAB_DIR").map_or_else(|| format!("/run/{name}-lab").into(), PathBuf::from);
        command(SCRIPT, &["up"])?;
        let lab = Self { name };
        let config = dir.join("netsim.toml");
        fs::write(&config, gateway(&dir.join("control.sock").to_string_lossy()))?;
        command(SCRIPT, &["gateway", "start", "--config", &config.to_string_lossy()])?;
        Ok(lab)
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    /// Makes a host beyond a router, with a link between the two that loses so much.
    fn put_beyond(
        &self,
        host: &Beyond,
        loss: f64,
        stop: &Arc<AtomicBool>,
    ) -> Result<JoinHandle<io::Result<Report>>> {
        let (name, router) = (self.namespace(host.name), self.namespace(host.router));
        let [a, b, c, d] = host.address;
        let address = format!("{a}.{b}.{c}.{d}/32");
        command("ip", &["netns", "add", &name])?;
        let wire = within(&name, || open_device("wire"))??;
        let leg = within(&router, || open_device("leg"))??;
        command("ip", &["-n", &name, "address", "add", &address, "dev", "wire"])?;
        command("ip", &["-n", &name, "link", "set", "wire", "txqueuelen", "20000", "up"])?;
        command("ip", &["-n", &name, "route", "add", "default", "dev", "wire"])?;
        command("ip", &["-n", &router, "link", "set", "leg", "txqueuelen", "20000", "up"])?;
        command("ip", &["-n", &router, "route", "add", &address, "dev", "leg"])?;
        let forward = ["net.ipv4.ip_forward=1", "net.ipv4.conf.eth0.proxy_arp=1"];
        let settings = SYSCTLS.into_iter().map(|setting| (&name, setting));
        for (namespace, setting) in settings.chain(forward.into_iter().map(|setting| (&router, setting))) {
            command("ip", &["netns", "exec", namespace, "sysctl", "-qw", setting])?;
        }
        let link = LinkSpec { latency: RTT / 2, rate: RATE, queue: QUEUE, loss, ..LinkSpec::default() };
        // The connecting side is first: the near host, or the server's router.
        let devices = if host.router == NEAR.router { [wire, leg] } else { [leg, wire] };
        let relay = Relay::new(devices, move |[from, to]| {
            let seed = u64::from(from) << 17 | u64::from(to) << 1;
            [Link::new(link.clone(), seed), Link::new(link.clone(), seed + 1)]
        })?;
        let stop = Arc::clone(stop);
        Ok(thread::spawn(move || {
            prefer(RELAY_PRIORITY).map_err(io::Error::other)?;
            relay.run(&stop)
        }))
    }

    /// Mbit/s of one download, mean of several at the same time.
    fn downloads(&self, way: Way, lasts: Duration) -> Result<f64> {
        let near = self.namespace(NEAR.name);
        let flows: Vec<_> = (0..way.flows())
            .map(|_| {
                let near = near.clone();
                thread::spawn(move || within(&near, move || receive(way.port(), lasts)))
            })
            .collect();
        let mut sum = 0.0;
        for flow in flows {
            sum += flow.join().expect("invariant: a download does not panic")?.context("a flow broke")?;
        }
        Ok(sum / way.flows() as f64)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Nobody is left to tell; the next run tries again.
        drop(command(SCRIPT, &["down"]));
    }
}

/// The gateway's configuration.
fn gateway(socket: &str) -> String {
    let [nat, cubic, bbr] =
        [Way::Nat, Way::Proxy(Algorithm::Cubic), Way::Proxy(Algorithm::Bbr)].map(Way::port);
    format!(
        r#"
[[port]]
name = "inside"
device = "net_af_xdp0"
args = "iface=veth-in,busy_budget=0"
addresses = ["10.77.1.1/24"]

[[port]]
name = "outside"
device = "net_af_xdp1"
args = "iface=veth-out,busy_budget=0"
addresses = ["198.18.0.1/24"]
gateway = "198.18.0.2"

[cores]
workers = [1]
proxies = [1]
idle = "adaptive"

[nat]
public = ["198.18.0.1"]

[[rule]]
name = "direct"
match = {{ proto = "tcp", dst_port = [{nat}] }}
action = "nat"

[[rule]]
name = "cubic"
match = {{ proto = "tcp", dst_port = [{cubic}] }}
action = "proxy"

[[rule]]
name = "bbr"
match = {{ proto = "tcp", dst_port = [{bbr}] }}
action = "proxy"
congestion_inside = "bbr"

[control]
socket = "{socket}"

[log]
format = "text"
level = "warn"
"#
    )
}

fn bind(port: u16) -> io::Result<TcpListener> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    // Those that it accepts have it, too.
    set_tcp_congestion(&socket, Algorithm::Cubic.name())?;
    rustix::net::bind(&socket, &SocketAddrV4::new(FAR.address.into(), port))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Sends until the other end has had enough.
fn send(mut stream: TcpStream) {
    let text = vec![0; 256 << 10];
    while stream.write_all(&text).is_ok() {}
}

/// Mbit/s from when the host begins to connect.
fn receive(port: u16, lasts: Duration) -> io::Result<f64> {
    let start = now();
    let mut stream = TcpStream::connect(SocketAddrV4::new(FAR.address.into(), port))?;
    let (mut room, mut bytes) = (vec![0; 256 << 10], 0);
    while let Some(left) = lasts.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut room) {
            Ok(0) => break,
            Ok(count) => bytes += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes as f64 * 8.0 / lasts.as_secs_f64() / 1e6)
}
