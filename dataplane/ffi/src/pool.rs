//! Frame pools whose buffers hold the longest packets of the ports.

use std::ffi::{c_char, c_int, c_uint};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::{bindings, rte_mempool};

/// Room for data in each buffer, where it is more than capsule asks for.
static DATA_ROOM: AtomicU16 = AtomicU16::new(0);

/// Lets every frame of the pools that are made from now on hold at least so many bytes; capsule makes them when it starts.
pub fn set_frame_room(bytes: u16) {
    let headroom = u16::try_from(bindings::RTE_PKTMBUF_HEADROOM).unwrap_or(u16::MAX);
    DATA_ROOM.store(bytes.saturating_add(headroom), Ordering::Relaxed);
}

/// What capsule calls to make a pool; see `shim.c`.
///
/// # Safety
/// `name` must point to a zero-terminated string, and DPDK must be up.
pub unsafe fn rte_pktmbuf_pool_create(
    name: *const c_char,
    capacity: c_uint,
    cache_size: c_uint,
    priv_size: u16,
    data_room: u16,
    socket: c_int,
) -> *mut rte_mempool {
    let room = data_room.max(DATA_ROOM.load(Ordering::Relaxed));
    // SAFETY: as the caller promises.
    unsafe { bindings::pnat_pktmbuf_pool_create(name, capacity, cache_size, priv_size, room, socket) }
}
