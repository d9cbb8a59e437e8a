//! smoltcp's side of the comparison: what a pair of its sockets costs for the same segments.
//!
//! A proxy made of smoltcp would receive by one socket and send by another. Here one socket sends to the other, which
//! comes to the same work: per segment one is written and one is read, and so are their ACKs. As it is fastest: an
//! interface and a socket set of its own for each socket, found by index.

use std::collections::VecDeque;

use pnat_perf::frames::PoolFrame;
use pnat_perf::measure::{Burst, Scene, time};
use pnat_scenes::{BURST, Turn, VISIT};
use pnat_shared::frame::Frame;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

const MTU: usize = 1500;
/// Payload of a full segment: no timestamps.
const SEGMENT: usize = 1460;
/// Where data waits, per socket, in bytes; and where none does.
const BUFFER: usize = 64 * 1024;
const NO_BUFFER: usize = 1024;
const PORT: u16 = 80;

/// Senders, each with its receiver.
pub(crate) struct Sockets {
    flows: Vec<[End; 2]>,
    wires: [Wire; 2],
    turn: Turn,
    now: Instant,
    text: [u8; SEGMENT * BURST],
    read: Vec<u8>,
}

impl Sockets {
    pub(crate) fn new(flows: usize) -> Self {
        // Many flows with larger ones would fill a small machine's memory.
        let buffer = match flows {
            0..=1_000 => BUFFER,
            1_001..=10_000 => BUFFER / 4,
            _ => BUFFER / 8,
        };
        let mut wires = [Wire::default(), Wire::default()];
        let turn = Turn::new(flows);
        let flows = (0..flows)
            .map(|_| {
                [
                    End::new(1, [buffer, NO_BUFFER], &mut wires[0]),
                    End::new(2, [NO_BUFFER, buffer], &mut wires[1]),
                ]
            })
            .collect();
        let mut sockets = Self {
            flows,
            wires,
            turn,
            now: Instant::from_millis(1),
            text: [b'p'; SEGMENT * BURST],
            read: vec![0; buffer],
        };
        for flow in 0..sockets.flows.len() {
            sockets.connect(flow);
        }
        sockets
    }

    fn connect(&mut self, flow: usize) {
        let [sender, receiver] = &mut self.flows[flow];
        receiver.socket().listen(PORT).expect("a fresh socket listens");
        sender.connect();
        self.exchange(flow);
        assert!(self.flows[flow][0].socket().may_send(), "the sockets are connected");
    }

    /// The sender sends, the receiver acknowledges, the sender hears of it, until nobody has anything to say.
    fn exchange(&mut self, flow: usize) {
        let [sender, receiver] = &mut self.flows[flow];
        let [near, far] = &mut self.wires;
        sender.poll(near, self.now);
        loop {
            far.receive_from(near);
            if far.incoming.is_empty() {
                return;
            }
            receiver.poll(far, self.now);
            near.receive_from(far);
            sender.poll(near, self.now);
        }
    }

    fn carry(&mut self, flow: usize, segments: usize) {
        let (mut sent, mut received) = (0, 0);
        while received < segments * SEGMENT {
            // The last ACK may be owed for what went before, so not all of it may find room at once.
            sent += self.flows[flow][0]
                .socket()
                .send_slice(&self.text[sent..segments * SEGMENT])
                .expect("it is connected");
            self.exchange(flow);
            received += self.flows[flow][1].socket().recv_slice(&mut self.read).expect("it is connected");
        }
    }
}

impl Scene for Sockets {
    fn burst(&mut self) -> Burst {
        self.now += smoltcp::time::Duration::from_millis(1);

        let took = time(|| {
            // A single flow sends the whole burst at once, as a pair's does.
            let visit = if self.flows.len() == 1 { BURST } else { VISIT };
            for _ in 0..BURST / visit {
                let flow = self.turn.advance();
                self.carry(flow, visit);
            }
        });
        Burst { packets: BURST as u64, took }
    }
}

/// One socket with all that it needs.
struct End {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
}

impl End {
    /// `buffers`: bytes to send, and to receive.
    fn new(last: u8, [send, receive]: [usize; 2], wire: &mut Wire) -> Self {
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), wire, Instant::ZERO);
        interface.update_ip_addrs(|addrs| {
            addrs.push(IpCidr::new(IpAddress::v4(10, 0, 0, last), 24)).expect("there is room for one");
        });
        let buffer = |len| tcp::SocketBuffer::new(vec![0; len]);
        let mut socket = tcp::Socket::new(buffer(receive), buffer(send));
        socket.set_nagle_enabled(false);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Self { interface, sockets, handle }
    }

    fn connect(&mut self) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        let server = (IpAddress::v4(10, 0, 0, 2), PORT);
        socket.connect(self.interface.context(), server, 2000).expect("a fresh socket connects");
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn poll(&mut self, wire: &mut Wire, now: Instant) {
        self.interface.poll(now, wire, &mut self.sockets);
    }
}

/// One end of a wire: packets that come, and packets that go.
#[derive(Default)]
struct Wire {
    incoming: VecDeque<PoolFrame>,
    outgoing: VecDeque<PoolFrame>,
}

impl Wire {
    fn receive_from(&mut self, other: &mut Self) {
        self.incoming.append(&mut other.outgoing);
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Room<'_>)> {
        let packet = self.incoming.pop_front()?;
        Some((Received(packet), Room(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Room<'_>> {
        Some(Room(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities
    }
}

struct Received(PoolFrame);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0.data())
    }
}

struct Room<'a>(&'a mut VecDeque<PoolFrame>);

impl phy::TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut packet = PoolFrame::take();
        assert!(packet.resize(len), "a packet fits into a frame");
        let result = write(packet.data_mut());
        self.0.push_back(packet);
        result
    }
}
