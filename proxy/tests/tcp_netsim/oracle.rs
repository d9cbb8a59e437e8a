//! smoltcp as the other end: a TCP that others have written.

use std::collections::VecDeque;

use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::testkit::VecFrame;
use pnat_shared::time::{Duration, Instant};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use crate::peer::{ADDRS, Peer};

/// Where packets wait on their way in and out.
#[derive(Default)]
struct Port {
    coming: VecDeque<Vec<u8>>,
    going: VecDeque<Vec<u8>>,
}

struct Received(Vec<u8>);
struct Slot<'a>(&'a mut VecDeque<Vec<u8>>);

impl smoltcp::phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl smoltcp::phy::TxToken for Slot<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut packet = vec![0; len];
        let result = write(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Port {
    type RxToken<'a> = Received;
    type TxToken<'a> = Slot<'a>;

    fn receive(&mut self, _now: time::Instant) -> Option<(Received, Slot<'_>)> {
        let packet = self.coming.pop_front()?;
        Some((Received(packet), Slot(&mut self.going)))
    }

    fn transmit(&mut self, _now: time::Instant) -> Option<Slot<'_>> {
        Some(Slot(&mut self.going))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        capabilities.checksum.tcp = Checksum::Both;
        capabilities
    }
}

pub(crate) struct Smoltcp {
    port: Port,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
}

fn convert(now: Instant) -> time::Instant {
    time::Instant::from_micros((now.as_nanos() / 1000) as i64)
}

impl Smoltcp {
    /// `side` 0 opens, 1 listens.
    pub(crate) fn new(side: usize, seed: u64, now: Instant) -> Self {
        let mut port = Port::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut port, convert(now));
        let own = IpCidr::new(IpAddress::Ipv4(*ADDRS[side].ip()), 24);
        interface.update_ip_addrs(|addrs| addrs.push(own).expect("room for one address"));
        let buffer = || SocketBuffer::new(vec![0; 65_535]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        if side == 0 {
            socket.connect(interface.context(), ADDRS[1], ADDRS[0].port()).expect("a good address");
        } else {
            socket.listen(ADDRS[1].port()).expect("a good port");
        }
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Self { port, interface, sockets, handle }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn state(&self) -> State {
        self.sockets.get::<Socket<'_>>(self.handle).state()
    }
}

impl Peer for Smoltcp {
    fn arrive(&mut self, frame: VecFrame, _now: Instant) {
        self.port.coming.push_back(frame.data()[L2_LEN..].to_vec());
    }

    fn transmit(&mut self, now: Instant, out: &mut Vec<VecFrame>) -> Result<(), String> {
        self.interface.poll(convert(now), &mut self.port, &mut self.sockets);
        for packet in self.port.going.drain(..) {
            out.push(VecFrame::new(&[&[0; L2_LEN], packet.as_slice()].concat()));
        }
        Ok(())
    }

    fn deadline(&self, now: Instant) -> Instant {
        // `poll_at` wants the interface mutably; to look every millisecond is what it asks for at most.
        now + Duration::from_millis(1)
    }

    fn read(&mut self, most: usize, into: &mut Vec<u8>) {
        let mut left = most;
        while left > 0 && self.socket().can_recv() {
            let count = self
                .socket()
                .recv(|bytes| {
                    let count = bytes.len().min(left);
                    into.extend_from_slice(&bytes[..count]);
                    (count, count)
                })
                .unwrap_or(0);
            left -= count;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        if self.socket().can_send() { self.socket().send_slice(bytes).unwrap_or(0) } else { 0 }
    }

    fn close(&mut self) -> bool {
        // Its close() of a socket that still listens would end it before the peer comes.
        let started = !matches!(self.state(), State::Listen | State::SynSent);
        if started {
            self.socket().close();
        }
        started
    }

    fn is_read_out(&self) -> bool {
        let socket = self.sockets.get::<Socket<'_>>(self.handle);
        !socket.may_recv() && !matches!(self.state(), State::Listen | State::SynSent | State::SynReceived)
    }

    fn is_over(&self) -> bool {
        matches!(self.state(), State::Closed)
    }

    fn error(&self) -> Option<String> {
        None
    }

    fn describe(&self) -> String {
        format!("smoltcp in {:?}", self.state())
    }
}
