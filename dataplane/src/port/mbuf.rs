//! Frames in DPDK's buffers, and the queues and pools that they come from.
//!
//! Runs on: worker and proxy cores. Allocates: never beyond the burst's capacity. Blocks: never.
//!
//! The ports and pools are capsule's. Its own buffer type and queues stay out of a packet's way: they show nothing of what
//! a device says about a checksum, or is asked to do about one.

#![allow(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};

use capsule_ffi::{offload, rte_mbuf, rte_mempool};
use pnat_shared::flow::Protocol;
use pnat_shared::frame::{Checksum, Frame, FramePool, L2_LEN};
use pnat_shared::wire::ip;

use super::{BURST, PortQueue};

/// A frame in an mbuf. Must be dropped before the [`super::capsule::Runtime`] is, because its memory goes with it.
#[repr(transparent)]
pub struct MbufFrame(NonNull<rte_mbuf>);

// SAFETY: the frame is the only one that knows of its mbuf, and DPDK frees mbufs on any thread.
unsafe impl Send for MbufFrame {}

/// Bytes that every frame can hold, whichever driver received it (`ffi/shim/shim.c` makes the room). Set once, at start.
static FRAME_ROOM: AtomicUsize = AtomicUsize::new(0);

/// Says how many bytes the pools' frames hold.
pub(super) fn set_frame_room(bytes: u16) {
    FRAME_ROOM.store(bytes.into(), Ordering::Relaxed);
}

/// What [`rte_mbuf::ol_flags`] says about TCP's and UDP's checksum, and about segments.
const CHECKSUM_FLAGS: u64 = offload::RX_L4_MASK | offload::TX_TCP | offload::TX_UDP | offload::TX_SEGMENTS;

impl MbufFrame {
    #[inline]
    fn raw(&self) -> &rte_mbuf {
        // SAFETY: the mbuf is this frame's until it is dropped.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    fn raw_mut(&mut self) -> &mut rte_mbuf {
        // SAFETY: as in `raw`; the frame is borrowed mutably.
        unsafe { self.0.as_mut() }
    }

    #[inline]
    fn start(&self) -> *mut u8 {
        let raw = self.raw();
        raw.buf_addr.cast::<u8>().wrapping_add(raw.data_off.into())
    }
}

impl Frame for MbufFrame {
    #[inline]
    fn data(&self) -> &[u8] {
        // SAFETY: an mbuf holds `data_len` bytes behind `data_off`, which are borrowed with it. DPDK's memory comes zeroed
        // from the kernel, so all of it has a value.
        unsafe { slice::from_raw_parts(self.start(), self.raw().data_len.into()) }
    }

    #[inline]
    fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `data`; the mbuf is borrowed mutably, and nobody else has this one.
        unsafe { slice::from_raw_parts_mut(self.start(), self.raw().data_len.into()) }
    }

    #[inline]
    fn capacity(&self) -> usize {
        FRAME_ROOM.load(Ordering::Relaxed)
    }

    #[inline]
    fn resize(&mut self, len: usize) -> bool {
        let capacity = self.capacity();
        let raw = self.raw_mut();
        // The second is the larger one, as long as `shim.c` keeps its word.
        if len > capacity || len > usize::from(raw.buf_len - raw.data_off) {
            return false;
        }
        raw.data_len = len as u16;
        raw.pkt_len = len as u32;
        true
    }

    #[inline]
    fn checksum(&self) -> Checksum {
        let flags = self.raw().ol_flags;
        if flags & CHECKSUM_FLAGS == 0 {
            Checksum::Unchecked
        } else if flags & offload::TX_L4_MASK != 0 {
            Checksum::Partial
        } else {
            match flags & offload::RX_L4_MASK {
                offload::RX_L4_GOOD => Checksum::Good,
                offload::RX_L4_BAD => Checksum::Bad,
                _ => Checksum::Unchecked,
            }
        }
    }

    #[inline]
    fn set_checksum(&mut self, checksum: Checksum) {
        let flags = match checksum {
            Checksum::Unchecked => 0,
            Checksum::Good => offload::RX_L4_GOOD,
            Checksum::Bad => offload::RX_L4_BAD,
            Checksum::Partial => {
                const PROTOCOL_AT: usize = L2_LEN + 9;
                self.raw_mut().tx_offload = offload::header_lengths(L2_LEN as u8, ip::MIN_LEN as u8);
                let is_udp = self.data().get(PROTOCOL_AT) == Some(&(Protocol::Udp as u8));
                if is_udp { offload::TX_UDP } else { offload::TX_TCP }
            }
        };
        let raw = self.raw_mut();
        if raw.ol_flags & offload::TX_SEGMENTS != 0 {
            // SAFETY: the chain is this frame's alone.
            unsafe { offload::pnat_mbuf_cut(raw) };
        }
        raw.ol_flags = raw.ol_flags & !CHECKSUM_FLAGS | flags;
    }

    fn cut_into(&mut self, size: u16, following: impl Iterator<Item = Self>) -> bool {
        const HEADER_LEN_AT: usize = L2_LEN + ip::MIN_LEN + 12;
        let Some(header_len) = self.data().get(HEADER_LEN_AT).map(|byte| byte >> 4 << 2) else {
            return false;
        };
        let mut last = self.0;
        for frame in following {
            let next = ManuallyDrop::new(frame).0;
            // SAFETY: all three are ours, and `next`, a chain of one, belongs to the chain from now on.
            unsafe { offload::pnat_mbuf_append(self.0.as_ptr(), last.as_ptr(), next.as_ptr()) };
            last = next;
        }
        let raw = self.raw_mut();
        raw.ol_flags |= offload::TX_SEGMENTS;
        raw.tx_offload |= offload::segment_lengths(header_len, size);
        true
    }

    #[inline]
    fn extent(&self) -> (usize, Option<u16>) {
        let raw = self.raw();
        let is_cut = raw.ol_flags & offload::TX_SEGMENTS != 0;
        (raw.pkt_len as usize, is_cut.then(|| offload::segment_text(raw.tx_offload)))
    }
}

impl Drop for MbufFrame {
    fn drop(&mut self) {
        // SAFETY: the mbuf is this frame's, and goes back to its pool, which still exists.
        unsafe { capsule_ffi::_rte_pktmbuf_free(self.0.as_ptr()) }
    }
}

impl fmt::Debug for MbufFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MbufFrame")
            .field("len", &self.raw().data_len)
            .field("checksum", &self.checksum())
            .finish()
    }
}

/// The frame pool of the core that it is used on. Cannot leave that core.
#[derive(Copy, Clone, Debug)]
pub struct MbufPool {
    pool: NonNull<rte_mempool>,
    core_bound: PhantomData<*const ()>,
}

impl MbufPool {
    /// The pool, which exists for as long as DPDK is up, for use on the calling core.
    pub(super) const fn new(pool: NonNull<rte_mempool>) -> Self {
        Self { pool, core_bound: PhantomData }
    }
}

impl FramePool<MbufFrame> for MbufPool {
    #[inline]
    fn alloc(&mut self) -> Option<MbufFrame> {
        // SAFETY: the pool exists. A new mbuf is nobody else's.
        NonNull::new(unsafe { capsule_ffi::_rte_pktmbuf_alloc(self.pool.as_ptr()) }).map(MbufFrame)
    }
}

/// One core's queue pair of one DPDK port.
#[derive(Debug)]
pub struct Queue {
    port: u16,
    queue: u16,
}

impl Queue {
    /// A queue pair by DPDK's numbers.
    ///
    /// # Safety
    /// It must exist for as long as the value does, and nobody else may use it.
    pub(super) const unsafe fn new(port: u16, queue: u16) -> Self {
        Self { port, queue }
    }
}

impl PortQueue<MbufFrame> for Queue {
    #[inline]
    fn receive(&mut self, burst: &mut Vec<MbufFrame>) -> usize {
        let mut mbufs = [ptr::null_mut(); BURST];
        // SAFETY: the queue is ours alone, and there is room for as many pointers as are asked for.
        let count = unsafe {
            capsule_ffi::_rte_eth_rx_burst(self.port, self.queue, mbufs.as_mut_ptr(), BURST as u16)
        };
        // Each mbuf received is nobody else's from now on.
        burst.extend(mbufs.iter().take(count.into()).filter_map(|mbuf| NonNull::new(*mbuf)).map(MbufFrame));
        count.into()
    }

    #[inline]
    fn transmit(&mut self, burst: &mut Vec<MbufFrame>) {
        for part in burst.chunks_mut(usize::from(u16::MAX)) {
            // SAFETY: the queue is ours alone. A frame is a pointer to its mbuf and nothing else; the shim takes them all,
            // whatever becomes of them, so they are no longer the frames'.
            unsafe {
                let mbufs = part.as_mut_ptr().cast::<*mut rte_mbuf>();
                capsule_ffi::_rte_eth_tx_burst(self.port, self.queue, mbufs, part.len() as u16);
            }
        }
        // SAFETY: shorter than it was, and none of the frames is to be dropped.
        unsafe { burst.set_len(0) };
    }
}
