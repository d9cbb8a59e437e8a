//! An end of a simulated flow: our endpoint, with an application that writes a given number of zeros or reads whatever comes.

use std::net::{Ipv4Addr, SocketAddrV4};

use pnat_proxy::chunk::Chunk;
use pnat_proxy::tcp::{Endpoint, Offer, Settings};
use pnat_shared::config::CongestionControl;
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::testkit::{VecFrame, VecPool};
use pnat_shared::time::Instant;
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{self, Header, Seq};

use super::cell::Algorithm;

/// Addresses of the connecting end and of the other.
pub const ADDRS: [SocketAddrV4; 2] = [
    SocketAddrV4::new(Ipv4Addr::new(10, 98, 0, 1), 21_000),
    SocketAddrV4::new(Ipv4Addr::new(10, 98, 0, 2), 20_000),
];

/// Receive buffers and send queues that no path of the grid fills, like those of the kernel's ends.
const WINDOW: u32 = 32 << 20;
const OFFER: Offer = Offer { mss: 1460, window_scale: Some(10), sack: true, timestamp: Some(1), ecn: false };
/// What an application writes at once.
const WRITE: usize = 1 << 20;

/// What an end host's endpoint is given.
pub fn settings(algorithm: Algorithm) -> Settings {
    Settings { window: WINDOW, congestion: control(algorithm), ..Settings::default() }
}

/// What the engine calls it.
pub const fn control(algorithm: Algorithm) -> CongestionControl {
    match algorithm {
        Algorithm::Cubic => CongestionControl::Cubic,
        Algorithm::Bbr => CongestionControl::Bbr,
    }
}

/// One end of a flow.
#[derive(Debug)]
pub struct End {
    local: SocketAddrV4,
    remote: SocketAddrV4,
    settings: Settings,
    /// None before the other end's SYN has come.
    endpoint: Option<Endpoint<VecFrame>>,
    /// Bytes that are still to be written.
    to_write: usize,
    /// Bytes that have been read.
    pub read: usize,
}

impl End {
    /// An end that connects, and writes so many bytes.
    pub fn connect(
        [local, remote]: [SocketAddrV4; 2],
        settings: Settings,
        to_write: usize,
        now: Instant,
    ) -> Self {
        let endpoint = Endpoint::connect(settings, local, remote, Seq(1), OFFER, now);
        Self { endpoint: Some(endpoint), ..Self::listen([local, remote], settings, to_write) }
    }

    /// An end that waits for a SYN, and then writes so many bytes.
    pub const fn listen([local, remote]: [SocketAddrV4; 2], settings: Settings, to_write: usize) -> Self {
        Self { local, remote, settings, endpoint: None, to_write, read: 0 }
    }

    pub fn on_frame(&mut self, frame: VecFrame, now: Instant) {
        let Some((header, payload)) = segment(frame) else { return };
        match &mut self.endpoint {
            // What is of no use is the link's fault, and not of interest here.
            Some(endpoint) => drop(endpoint.on_segment(&header, payload, now)),
            None => {
                let mut endpoint = Endpoint::accept(self.settings, self.local, self.remote, &header, now);
                endpoint.answer(Seq(1), OFFER, now);
                self.endpoint = Some(endpoint);
            }
        }
    }

    /// Lets the application and the endpoint do what they can.
    pub fn run(&mut self, now: Instant, out: &mut Vec<VecFrame>) {
        let Some(endpoint) = &mut self.endpoint else { return };
        if endpoint.deadline() <= now {
            endpoint.on_timer(now);
        }
        while let Some(chunk) = endpoint.receive() {
            self.read += chunk.len();
        }
        while self.to_write > 0 && endpoint.queued() < WINDOW as usize {
            let count = self.to_write.min(WRITE);
            endpoint.send(Chunk::from_vec(vec![0; count]));
            self.to_write -= count;
        }
        endpoint.transmit(&mut VecPool::endless(), now, usize::MAX, out);
    }

    pub fn deadline(&self) -> Instant {
        self.endpoint.as_ref().map_or(Instant::FAR, Endpoint::deadline)
    }
}

/// A segment out of a frame; `None` where a checksum is wrong.
fn segment(frame: VecFrame) -> Option<(Header, Chunk<VecFrame>)> {
    let packet = ip::Header::read(&frame.data()[L2_LEN..]).ok()?;
    let (from, to) = (L2_LEN + packet.header_len, L2_LEN + packet.total_len);
    let bytes = &frame.data()[from..to];
    if packet.protocol != 6 || !tcp::is_intact(bytes, packet.src, packet.dst) {
        return None;
    }
    let (header, len) = Header::read(bytes).ok()?;
    Some((header, Chunk::from_frame(frame, from + len, to)))
}
