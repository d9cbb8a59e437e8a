//! Another server for a proxied flow, as a filter has chosen it: whether it can be had, and what becomes of packets where not.
//!
//! Runs on: worker. Allocates: never. Blocks: never.
//!
//! The rules are not asked again: whoever configures a filter that chooses servers has chosen them. But no choice leads to the
//! gateway itself, to an address that cannot be real, or back inside. A pair learns of a refusal as of a host that cannot be
//! reached: by an ICMP error about its SYN, which is dropped for the reason.

use core::net::{Ipv4Addr, SocketAddrV4};

use pnat_shared::flow::{Handle, Protocol, Stream};
use pnat_shared::frame::{Frame, FramePool, L2_LEN};
use pnat_shared::loopback::ToProxy;
use pnat_shared::time::Instant;
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::ip;

use super::reply::{self, Answer};
use super::{Outputs, Worker};
use crate::nat::binding::Path;
use crate::nat::icmp::Quote;
use crate::nat::retarget::severed;
use crate::nat::tuple::{Tuple, WIRE};

impl<F: Frame, P: FramePool<F>> Worker<F, P> {
    /// A pair's second socket is about to ask this server. The worker may have ended the flow by itself in the meantime.
    pub(super) fn retarget(
        &mut self,
        handle: Handle,
        server: SocketAddrV4,
        now: Instant,
        out: &mut Outputs<F>,
    ) {
        let Some(slot) = self.nat.slot(handle).filter(|slot| self.nat.may_retarget(*slot)) else { return };
        let Some((keys, binding)) = self.nat.flows().entry(slot) else { return };
        let (client, public, path) = (*keys[0].src().ip(), keys[1].dst(), binding.path);
        let inside = binding.egress[Stream::Second as usize];
        let choice = self.shards.hash(client);
        let led = self
            .way_to(inside, client, server)
            .and_then(|egress| self.nat.retarget(slot, server, egress, choice, now));
        match (led, path) {
            (Ok(led), Path::Proxy(core)) => {
                self.stats.retargets.add(1);
                if led != public {
                    out.to_proxy[usize::from(core.0)].push(ToProxy::Moved { handle, public: led });
                }
            }
            (Ok(_), Path::Nat | Path::Own) => {}
            (Err(reason), _) => {
                self.stats.retargets_refused.add(1);
                self.nat.sever(slot, reason);
            }
        }
    }

    /// The port that leads to a server which a client of the port `inside` may be served by.
    fn way_to(&self, inside: u8, client: Ipv4Addr, server: SocketAddrV4) -> Result<u8, DropReason> {
        let addr = *server.ip();
        self.routes.check(inside, client, addr)?;
        if server.port() == 0 {
            return Err(DropReason::Martian);
        }
        if self.routes.is_own(addr) {
            return Err(DropReason::OwnAddress);
        }
        self.routes.outward(addr).ok_or(DropReason::NoRoute)
    }

    /// Drops a packet that no port leads on. Where it is for a server that was refused, its pair is told.
    #[cold]
    pub(super) fn lead_nowhere(&mut self, mut frame: F, now: Instant, out: &mut Outputs<F>) {
        let packet = frame.data().get(L2_LEN..).unwrap_or_default();
        let header = ip::Header::read_quoted(packet)
            .ok()
            .filter(|header| header.protocol == Protocol::Tcp as u8 && packet.len() >= WIRE.end);
        let Some((header, reason)) = header
            .and_then(|header| Some((header, severed(&Tuple::read(Protocol::Tcp, packet).reversed())?)))
        else {
            return self.stats.drops.add(DropReason::NoRoute, 1);
        };
        self.stats.drops.add(reason, 1);
        if self.errors.take(now)
            && reply::error(&mut frame, header.src, Answer::HOST_UNREACHABLE)
            && let Ok(quote) = Quote::read(&frame.data()[L2_LEN..])
        {
            self.stats.generated.add(1);
            self.on_error(frame, Stream::Second, &quote, now, out);
        }
    }
}
