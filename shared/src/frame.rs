//! The frame: one packet's memory, whoever owns the memory.
//!
//! Runs on: worker and proxy cores. Allocates: never. Blocks: never.
//!
//! A frame always starts with room for an Ethernet header ([`L2_LEN`] bytes), also inside the loopback where those bytes
//! mean nothing: so no packet is ever moved in memory to gain or lose a header.

/// Bytes of an Ethernet II header: where every frame's IP header begins.
pub const L2_LEN: usize = 14;

/// What is known of a frame's TCP or UDP checksum. (An IP header's is looked at sooner than asked about.)
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// Nobody has looked at it.
    #[default]
    Unchecked,
    /// The device that received the frame has found it right.
    Good,
    /// The device that received the frame has found it wrong.
    Bad,
    /// The field holds the pseudo-header's sum, and the device that sends the frame makes the checksum of it.
    Partial,
}

/// One packet in memory. Dropping a frame gives its memory back to where it came from.
///
/// Implemented by DPDK's mbuf in the gateway and by [`crate::testkit::VecFrame`] in tests and benches.
pub trait Frame: Sized + Send + 'static {
    /// All bytes, from the first of the Ethernet header.
    fn data(&self) -> &[u8];

    /// All bytes, to be rewritten in place.
    fn data_mut(&mut self) -> &mut [u8];

    /// Bytes that the frame could hold, header room included.
    fn capacity(&self) -> usize;

    /// Grows or shrinks the frame at its end. Bytes gained hold anything. Answers false, and changes nothing, where `len`
    /// exceeds the capacity.
    fn resize(&mut self, len: usize) -> bool;

    /// What is known of the packet's checksum. A frame that no device receives or sends has nothing to tell.
    #[inline]
    fn checksum(&self) -> Checksum {
        Checksum::Unchecked
    }

    /// Says that the checksum is as it should be, or, with [`Checksum::Partial`], leaves it to the device: the packet, an
    /// IPv4 header without options and TCP or UDP, is complete but for it. Only for ports that offer it
    /// ([`crate::flow::Offloads`]).
    #[inline]
    fn set_checksum(&mut self, _checksum: Checksum) {}

    /// Makes one frame of this one, which holds the headers and the first segment's text of a TCP packet, and of those that
    /// hold the text of the following segments and nothing else: `size` bytes each, the last one perhaps fewer. The device
    /// that sends it cuts it into segments, and completes headers and checksums. Answers false, and changes nothing, where
    /// that cannot be done; only for ports that offer it ([`crate::flow::Offloads`]).
    ///
    /// [`Frame::data`] goes on to answer the first segment alone.
    fn cut_into(&mut self, _size: u16, _following: impl Iterator<Item = Self>) -> bool {
        false
    }

    /// Bytes of all segments together, headers once; and of text in each segment but the last, where the frame is to be cut.
    #[inline]
    fn extent(&self) -> (usize, Option<u16>) {
        (self.data().len(), None)
    }
}

/// Where a core gets empty frames from.
pub trait FramePool<F> {
    /// An empty frame (length 0), or `None` when the pool has run dry.
    fn alloc(&mut self) -> Option<F>;
}
