//! One TCP endpoint: full segments that come in, and full segments that go out.

use std::net::{Ipv4Addr, SocketAddrV4};

use pnat_proxy::chunk::Chunk;
use pnat_proxy::tcp::{Endpoint, Offer, Settings, State};
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{self, Header, Seq};

use crate::frames::{Pool, PoolFrame};
use crate::gateway::{INSIDE, WINDOW, link_to};
use crate::host::{self, Host};
use crate::measure::{Burst, Scene, time};
use crate::packet::SEGMENT;

const BURST: u64 = crate::BURST as u64;
const US: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 1), 1);
const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(240, 0, 0, 1), 7);

/// An endpoint and the host at its other end.
#[derive(Debug)]
struct Connection {
    endpoint: Endpoint<PoolFrame>,
    host: Host,
    now: Instant,
    incoming: Vec<PoolFrame>,
    outgoing: Vec<PoolFrame>,
}

impl Connection {
    fn new() -> Self {
        let mut host = Host::new(link_to(INSIDE), PEER, US);
        let settings = Settings { window: WINDOW, quick_acks: 0, ..Settings::default() };
        let now = Instant::from_secs(1);
        let (_, syn, _) = host::read(&host.syn()).expect("a segment");
        let mut endpoint = Endpoint::accept(settings, US, PEER, &syn, now);
        let offer = Offer { mss: 1460, window_scale: Some(7), sack: true, timestamp: Some(5), ecn: false };
        endpoint.answer(Seq(9), offer, now);
        let mut connection = Self { endpoint, host, now, incoming: Vec::new(), outgoing: Vec::new() };
        connection.transmit();
        connection.answer();
        connection.receive();
        assert_eq!(connection.endpoint.state(), State::Established);
        connection
    }

    /// What a proxy core does with segments that come: headers, checksum, endpoint.
    fn receive(&mut self) {
        for frame in self.incoming.drain(..) {
            let Ok(packet) = ip::Header::read(&frame.data()[L2_LEN..]) else { continue };
            let (from, to) = (L2_LEN + packet.header_len, L2_LEN + packet.total_len);
            let bytes = &frame.data()[from..to];
            let Ok((header, len)) = Header::read(bytes) else { continue };
            if tcp::is_intact(bytes, packet.src, packet.dst) {
                let payload = Chunk::from_frame(frame, from + len, to);
                let taken = self.endpoint.on_segment(&header, payload, self.now);
                assert_eq!(taken, Ok(()));
            }
        }
    }

    fn transmit(&mut self) {
        self.endpoint.transmit(&mut Pool, self.now, usize::MAX, &mut self.outgoing);
    }

    /// The host takes what has come, and answers.
    fn answer(&mut self) {
        let host = &mut self.host;
        self.incoming.extend(self.outgoing.drain(..).filter_map(|frame| host.on_frame(&frame)));
        // A round trip takes this long.
        self.now += Duration::from_micros(100);
    }
}

/// Data in order: it is received, taken, and acknowledged.
#[derive(Debug)]
pub struct In(Connection);

impl In {
    pub fn open() -> Self {
        Self(Connection::new())
    }
}

impl Scene for In {
    fn burst(&mut self) -> Burst {
        let connection = &mut self.0;
        connection.incoming.extend((0..BURST).map(|_| connection.host.data()));
        let mut bytes = 0;
        let took = time(|| {
            connection.receive();
            while let Some(chunk) = connection.endpoint.receive() {
                bytes += chunk.len();
            }
            connection.transmit();
        });
        assert_eq!(bytes, BURST as usize * SEGMENT, "every segment is taken");
        assert!(!connection.outgoing.is_empty(), "and acknowledged");
        connection.answer();
        Burst { packets: BURST, took }
    }
}

/// Data out: it is sent, and released by the ACKs that come back.
#[derive(Debug)]
pub struct Out(Connection);

impl Out {
    pub fn open() -> Self {
        Self(Connection::new())
    }
}

impl Scene for Out {
    fn burst(&mut self) -> Burst {
        let connection = &mut self.0;
        let chunk = |frame: PoolFrame| {
            let end = frame.data().len();
            Chunk::from_frame(frame, end - SEGMENT, end)
        };
        // Frames of a like shape, as the chain would hand them on.
        let chunks: [_; BURST as usize] = std::array::from_fn(|_| chunk(connection.host.clone().data()));
        let mut took = time(|| {
            for chunk in chunks {
                connection.endpoint.send(chunk);
            }
            connection.transmit();
        });
        while connection.endpoint.queued() > 0 {
            connection.answer();
            took += time(|| {
                connection.receive();
                connection.transmit();
            });
        }
        Burst { packets: BURST, took }
    }
}
