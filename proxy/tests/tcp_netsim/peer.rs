//! What stands at an end of the link: our endpoint, or another TCP behind the same verbs.

use std::net::{Ipv4Addr, SocketAddrV4};

use pnat_proxy::chunk::Chunk;
use pnat_proxy::tcp::{Endpoint, Offer, Settings};
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::testkit::{VecFrame, VecPool};
use pnat_shared::time::Instant;
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{self, Header, Seq};

/// Both ends' addresses, the opening one first.
pub(crate) const ADDRS: [SocketAddrV4; 2] =
    [SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 4000), SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 80)];

/// A TCP with one connection, driven by the simulation.
pub(crate) trait Peer {
    fn arrive(&mut self, frame: VecFrame, now: Instant);
    /// Timers; then everything that may be sent.
    fn transmit(&mut self, now: Instant, out: &mut Vec<VecFrame>) -> Result<(), String>;
    fn deadline(&self, now: Instant) -> Instant;
    /// Takes up to `most` bytes.
    fn read(&mut self, most: usize, into: &mut Vec<u8>);
    /// Takes over as many bytes as it likes; answers how many.
    fn write(&mut self, bytes: &[u8]) -> usize;
    /// Answers false where it is too early for that.
    fn close(&mut self) -> bool;
    /// The other end has closed and all was read.
    fn is_read_out(&self) -> bool;
    fn is_over(&self) -> bool;
    fn error(&self) -> Option<String>;
    fn describe(&self) -> String;
}

/// Our engine.
pub(crate) struct Ours {
    settings: Settings,
    offer: Offer,
    iss: Seq,
    endpoint: Option<Endpoint<VecFrame>>,
    pool: VecPool,
    pending: Option<Chunk<VecFrame>>,
}

/// Takes a frame apart as the reactor does; `None` where a checksum is wrong.
fn parse(frame: VecFrame) -> Option<(Header, Chunk<VecFrame>)> {
    let packet = ip::Header::read(&frame.data()[L2_LEN..]).ok()?;
    let (from, to) = (L2_LEN + packet.header_len, L2_LEN + packet.total_len);
    let segment = &frame.data()[from..to];
    if packet.protocol != 6 || !tcp::is_intact(segment, packet.src, packet.dst) {
        return None;
    }
    let (header, len) = Header::read(segment).ok()?;
    Some((header, Chunk::from_frame(frame, from + len, to)))
}

impl Ours {
    pub(crate) fn connect(settings: Settings, offer: Offer, iss: Seq, now: Instant) -> Self {
        let endpoint = Endpoint::connect(settings, ADDRS[0], ADDRS[1], iss, offer, now);
        Self { endpoint: Some(endpoint), ..Self::listen(settings, offer, iss) }
    }

    pub(crate) fn listen(settings: Settings, offer: Offer, iss: Seq) -> Self {
        Self { settings, offer, iss, endpoint: None, pool: VecPool::endless(), pending: None }
    }
}

impl Peer for Ours {
    fn arrive(&mut self, frame: VecFrame, now: Instant) {
        let Some((header, payload)) = parse(frame) else { return };
        match &mut self.endpoint {
            // Drops are the link's fault here, not of interest.
            Some(endpoint) => drop(endpoint.on_segment(&header, payload, now)),
            None => {
                let mut endpoint = Endpoint::accept(self.settings, ADDRS[1], ADDRS[0], &header, now);
                endpoint.answer(self.iss, self.offer, now);
                self.endpoint = Some(endpoint);
            }
        }
    }

    fn transmit(&mut self, now: Instant, out: &mut Vec<VecFrame>) -> Result<(), String> {
        let Some(endpoint) = &mut self.endpoint else { return Ok(()) };
        let due = endpoint.deadline();
        if due <= now {
            endpoint.on_timer(now);
            if endpoint.deadline() <= due {
                return Err(format!("on_timer did not advance the deadline {due:?}"));
            }
        }
        endpoint.transmit(&mut self.pool, now, usize::MAX, out);
        Ok(())
    }

    fn deadline(&self, _now: Instant) -> Instant {
        self.endpoint.as_ref().map_or(Instant::FAR, Endpoint::deadline)
    }

    fn read(&mut self, most: usize, into: &mut Vec<u8>) {
        let Some(endpoint) = &mut self.endpoint else { return };
        let mut left = most;
        while left > 0
            && let Some(mut chunk) = self.pending.take().or_else(|| endpoint.receive())
        {
            let count = chunk.len().min(left);
            into.extend_from_slice(&chunk.bytes()[..count]);
            chunk.advance(count);
            left -= count;
            self.pending = (!chunk.is_empty()).then_some(chunk);
        }
        endpoint.set_downstream(self.pending.as_ref().map_or(0, Chunk::len));
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        let Some(endpoint) = &mut self.endpoint else { return 0 };
        if endpoint.queued() > 8 << 20 {
            return 0;
        }
        let in_frame = bytes.len() <= VecFrame::CAPACITY;
        endpoint.send(if in_frame {
            Chunk::from_frame(VecFrame::new(bytes), 0, bytes.len())
        } else {
            Chunk::from_vec(bytes.to_vec())
        });
        bytes.len()
    }

    fn close(&mut self) -> bool {
        self.endpoint.as_mut().map(Endpoint::shutdown).is_some()
    }

    fn is_read_out(&self) -> bool {
        self.pending.is_none() && self.endpoint.as_ref().is_some_and(Endpoint::is_receive_finished)
    }

    fn is_over(&self) -> bool {
        self.endpoint.as_ref().is_some_and(Endpoint::is_over)
    }

    fn error(&self) -> Option<String> {
        self.endpoint.as_ref()?.error().map(|error| format!("{error:?}"))
    }

    fn describe(&self) -> String {
        format!("{:#?}", self.endpoint)
    }
}
