//! What is done with the packets of pairs: unmasked, and sent to the host that a socket stands for.

use pnat_shared::flow::{Handle, Protocol, Side, Stream};
use pnat_shared::frame::{Checksum, Frame, FramePool, L2_LEN};
use pnat_shared::loopback;
use pnat_shared::path_mtu::MtuCause;
use pnat_shared::time::Instant;
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::tcp::{self, Flags};
use pnat_shared::wire::{ip, udp};

use super::flow::too_big;
use super::parse::{Packet, seq_at};
use super::{Outputs, Worker};
use crate::nat::binding::Path;
use crate::nat::icmp::Quote;
use crate::nat::rewrite;
use crate::nat::tuple::Tuple;

impl<F: Frame, P: FramePool<F>> Worker<F, P> {
    /// A packet from one of a pair's sockets, to the host that it stands for.
    pub(super) fn unmask(
        &mut self,
        mut frame: F,
        now: Instant,
        out: &mut Outputs<F>,
    ) -> Result<(), DropReason> {
        let packet = frame.data().get(L2_LEN..).ok_or(DropReason::Truncated)?;
        let header = ip::Header::read_quoted(packet)?;
        let whole = frame.extent().0 - L2_LEN;
        if header.header_len != ip::MIN_LEN || header.total_len > whole {
            return Err(DropReason::Truncated);
        }
        let protocol = Protocol::from_number(header.protocol).ok_or(DropReason::Protocol)?;
        let needed = match protocol {
            Protocol::Tcp => tcp::MIN_LEN,
            Protocol::Udp => udp::LEN,
            Protocol::Icmp => return self.unmask_error(frame, now, out),
        };
        if header.total_len < ip::MIN_LEN + needed {
            return Err(DropReason::Truncated);
        }
        let flags =
            if protocol == Protocol::Tcp { Flags(packet[ip::MIN_LEN + 13]) } else { Flags::default() };
        let iss = if flags.has(Flags::SYN) { seq_at(packet, ip::MIN_LEN + tcp::SEQ_AT) } else { None };
        let sent = Tuple::read(protocol, packet);
        let (slot, side) = self.masked_flow(&sent.reversed())?;
        let (keys, binding) = self.nat.flows().entry(slot).ok_or(DropReason::StaleHandle)?;
        if header.total_len < whole {
            frame.resize(L2_LEN + header.total_len);
        }
        let to = keys[side as usize].reversed();
        let change = binding.changes[side as usize].reversed();
        if frame.checksum() == Checksum::Partial {
            rewrite::translate_partial(&mut frame.data_mut()[L2_LEN..], &to, change);
        } else {
            rewrite::translate(&mut frame.data_mut()[L2_LEN..], &to, change);
        }
        // What leaves by the first socket is the second stream, and the other way round.
        let stream = !Stream::entering(side);
        let egress = binding.egress[stream as usize];
        self.nat.pass_from_pair(slot, side, flags, now);
        if let Some(iss) = iss.filter(|_| side == Side::First) {
            self.nat.ask_proof(slot, iss);
        }
        // Of segments that the port cuts from the frame, the longest counts.
        if let Some(mtu) = self.too_big_for(egress, frame.data().len() - L2_LEN) {
            self.note_size(slot, side, mtu, MtuCause::Port, now);
            self.fail(frame, egress, DropReason::Oversized, too_big(&header, mtu), now, out);
            return Ok(());
        }
        self.send_on(frame, slot, stream, *to.dst().ip(), now, out);
        Ok(())
    }

    /// A SYN for which a pair has made way: it opens its flow anew.
    pub(super) fn take_back(&mut self, handle: Handle, mut frame: F, now: Instant, out: &mut Outputs<F>) {
        let slot = self.nat.slot(handle);
        let Some((slot, (keys, binding))) = slot.and_then(|slot| Some((slot, self.nat.flows().entry(slot)?)))
        else {
            return self.stats.drops.add(DropReason::StaleHandle, 1);
        };
        let (tuple, port) = (keys[0], binding.egress[Stream::Second as usize]);
        let change = binding.changes[Stream::First as usize].reversed();
        rewrite::translate(&mut frame.data_mut()[L2_LEN..], &tuple, change);
        let hash = self.nat.flows().hash(&tuple);
        let packet = Packet { stream: Stream::First, tuple, hash, slot, flags: Flags::SYN };
        self.reopen(frame, port, slot, &packet, now, out);
    }

    /// An ICMP error from a pair, about a packet that one of its sockets received. One that the pair sends in its own
    /// name comes from the host on the other side; any other source stays.
    fn unmask_error(&mut self, mut frame: F, now: Instant, out: &mut Outputs<F>) -> Result<(), DropReason> {
        let data = &mut frame.data_mut()[L2_LEN..];
        let header = ip::Header::read_quoted(data)?;
        let quote = Quote::read(&data[..header.total_len])?;
        let (slot, side) = self.masked_flow(&quote.tuple)?;
        let (keys, _) = self.nat.flows().entry(slot).ok_or(DropReason::StaleHandle)?;
        let about = &keys[side as usize];
        let is_own = loopback::side_of(header.src).is_some();
        let src = if is_own || side == Side::Second { *about.dst().ip() } else { header.src };
        quote.translate(&mut data[..header.total_len], src, *about.src().ip(), about);
        frame.resize(L2_LEN + header.total_len);
        self.send_on(frame, slot, !Stream::entering(side), *about.src().ip(), now, out);
        Ok(())
    }

    /// The flow and side of a masked tuple, as the proxy receives it.
    fn masked_flow(&self, received: &Tuple) -> Result<(u32, Side), DropReason> {
        let side = loopback::side_of(*received.dst().ip()).ok_or(DropReason::Internal)?;
        let (addr, generation) = (*received.src().ip(), received.src().port());
        let handle = loopback::unmask(addr, generation).ok_or(DropReason::Internal)?;
        let slot = self.nat.slot(handle).ok_or(DropReason::StaleHandle)?;
        let is_its_own = self.nat.flows().entry(slot).is_some_and(|(keys, binding)| {
            matches!(binding.path, Path::Proxy(_)) && keys[0].protocol() == received.protocol()
        });
        if is_its_own { Ok((slot, side)) } else { Err(DropReason::StaleHandle) }
    }
}
