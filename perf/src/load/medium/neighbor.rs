//! What the generator asks its neighbors for, and answers them: ARP (RFC 826).

use std::net::Ipv4Addr;

use pnat_shared::frame::{Frame, FramePool, L2_LEN};
use pnat_shared::wire::arp::{self, Operation};
use pnat_shared::wire::ethernet::{self, Mac};

/// What a frame says, if it is ARP.
pub(super) fn message<F: Frame>(frame: &F) -> Option<arp::Message> {
    let link =
        ethernet::Header::read(frame.data()).ok().filter(|link| link.ether_type == ethernet::TYPE_ARP)?;
    let message = arp::Message::read(&frame.data()[L2_LEN..]).ok()?;
    (!link.src.is_group()).then_some(message)
}

/// Whether somebody asks for an address, and does not announce his own.
pub(super) fn is_question(message: &arp::Message) -> bool {
    message.operation == Operation::Request && message.sender != message.target
}

/// The station `mac` answers for the address that was asked for.
pub(super) fn answer<F: Frame>(pool: &mut impl FramePool<F>, asked: arp::Message, mac: Mac) -> Option<F> {
    let message = arp::Message {
        operation: Operation::Reply,
        sender_mac: mac,
        sender: asked.target,
        target_mac: asked.sender_mac,
        target: asked.sender,
    };
    frame(pool, message, asked.sender_mac)
}

/// The station `from` asks everybody for `target`.
pub(super) fn question<F: Frame>(
    pool: &mut impl FramePool<F>,
    from: (Mac, Ipv4Addr),
    target: Ipv4Addr,
) -> Option<F> {
    let (sender_mac, sender) = from;
    let message = arp::Message {
        operation: Operation::Request,
        sender_mac,
        sender,
        target_mac: Mac::default(),
        target,
    };
    frame(pool, message, Mac::BROADCAST)
}

fn frame<F: Frame>(pool: &mut impl FramePool<F>, message: arp::Message, to: Mac) -> Option<F> {
    let mut frame = pool.alloc()?;
    if !frame.resize(L2_LEN + arp::LEN) {
        return None;
    }
    ethernet::Header { dst: to, src: message.sender_mac, ether_type: ethernet::TYPE_ARP }
        .write(frame.data_mut());
    message.write(&mut frame.data_mut()[L2_LEN..]);
    Some(frame)
}
