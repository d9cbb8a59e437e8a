//! Short connections through a proxy core: opened, 64 bytes to the server and 64 back, closed by the client first.

use crate::frames::PoolFrame;
use crate::gateway::{INSIDE, link_to};
use crate::host::{self, Host};
use crate::measure::{Burst, Scene, time};
use pnat_shared::flow::Handle;
use pnat_shared::loopback::{FIRST, FromProxy, mask, unmask};
use pnat_shared::time::Duration;
use pnat_shared::wire::tcp::Flags;

use crate::filters::chains;
use crate::pair::{Core, handle};

/// Connections that are open at once.
const BATCH: usize = 32;
/// Slots of the worker's table, used one after the other: those in TIME-WAIT are a fraction of them.
const SLOTS: usize = 1 << 14;
/// From one batch to the next: sockets are in TIME-WAIT for two seconds.
const STEP: Duration = Duration::from_millis(10);
const TEXT: usize = 64;

/// Connections that come and go.
#[derive(Debug)]
pub struct Connections {
    core: Core,
    /// How many were opened.
    opened: usize,
    batch: Vec<Connection>,
}

/// A client, and its server once that was asked.
#[derive(Debug)]
struct Connection {
    client: Host,
    server: Option<Host>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { core: Core::new(SLOTS, chains(None)), opened: 0, batch: Vec::with_capacity(BATCH) }
    }
}

impl Connections {
    fn handle(&self, number: usize) -> Handle {
        let at = self.opened + number;
        handle(at % SLOTS, (at / SLOTS) as u16)
    }

    /// Hosts take what came out, and answer. Answers how many clients have seen the end.
    fn exchange(&mut self) -> usize {
        let (mut ended, first) = (0, self.opened % SLOTS);
        let mut output = self.core.output();
        for message in output.drain(..) {
            // Word of a pair's end comes two seconds later.
            let FromProxy::Packet { frame, .. } = message else { continue };
            let (packet, header, _) = host::read(&frame).expect("a segment");
            let slot = unmask(packet.dst, header.dst_port).expect("a masked address").slot as usize;
            let connection = &mut self.batch[slot - first];
            if packet.src == *FIRST.ip() {
                ended += usize::from(header.flags.has(Flags::FIN));
                connection.tell_client(&frame, &mut self.core);
            } else {
                connection.tell_server(&frame, &mut self.core);
            }
        }
        self.core.keep(output);
        ended
    }
}

impl Connection {
    /// Asks once it may, and closes once it has the answer.
    fn tell_client(&mut self, frame: &PoolFrame, core: &mut Core) {
        let (_, header, len) = host::read(frame).expect("a segment");
        if let Some(answer) = self.client.on_frame(frame) {
            core.packet(answer);
        }
        if header.flags.has(Flags::SYN) {
            core.packet(self.client.text(TEXT));
        } else if len > 0 {
            core.packet(self.client.fin());
        }
    }

    /// Answers what it is asked, and closes after the client.
    fn tell_server(&mut self, frame: &PoolFrame, core: &mut Core) {
        let (_, header, len) = host::read(frame).expect("a segment");
        let server = self.server.get_or_insert_with(|| Host::meeting(link_to(INSIDE), frame));
        let answer = server.on_frame(frame);
        if header.flags.has(Flags::FIN) {
            core.packet(server.fin());
        } else if len > 0 {
            core.packet(server.text(TEXT));
        } else if let Some(answer) = answer {
            core.packet(answer);
        }
    }
}

impl Scene for Connections {
    fn burst(&mut self) -> Burst {
        self.core.now += STEP;
        self.batch.clear();
        for number in 0..BATCH {
            let handle = self.handle(number);
            let mut client = Host::new(link_to(INSIDE), mask(handle), FIRST);
            self.core.open(handle, client.syn());
            self.batch.push(Connection { client, server: None });
        }
        let mut took = Duration::ZERO;
        let mut ended = 0;
        while ended < BATCH {
            took += time(|| self.core.turn());
            ended += self.exchange();
        }
        // The last ACKs.
        took += time(|| self.core.turn());
        self.opened += BATCH;
        assert!(self.core.pairs() < SLOTS / 2, "pairs end, two seconds later");
        Burst { packets: BATCH as u64, took }
    }
}
