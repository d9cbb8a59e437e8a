//! The kernel NIC interface, which DPDK removed in 23.11: its names exist because capsule mentions them, and all of them
//! answer "not supported".

use std::ffi::{c_char, c_int, c_uint};
use std::ptr;

use crate::{rte_mbuf, rte_mempool};

/// `-ENOTSUP`, as Linux numbers it.
const NOT_SUPPORTED: c_int = -95;

/// Never exists.
#[derive(Debug)]
pub enum rte_kni {}

#[repr(C)]
#[derive(Debug, Default)]
pub struct rte_kni_conf {
    pub name: [c_char; 32],
    pub group_id: u16,
    pub mbuf_size: u32,
    pub mac_addr: [u8; 6],
}

#[repr(C)]
#[derive(Debug, Default)]
pub struct rte_kni_ops {
    pub port_id: u16,
    pub change_mtu: Option<extern "C" fn(u16, c_uint) -> c_int>,
    pub config_network_if: Option<extern "C" fn(u16, u8) -> c_int>,
    pub config_mac_address: Option<extern "C" fn(u16, *mut u8) -> c_int>,
    pub config_promiscusity: Option<extern "C" fn(u16, u8) -> c_int>,
}

/// Called before all others, when a port's configuration asks for KNI; nothing else is reached after its answer.
pub fn rte_kni_init(_max: c_uint) -> c_int {
    NOT_SUPPORTED
}

pub fn rte_kni_alloc(_pool: &mut rte_mempool, _conf: &rte_kni_conf, _ops: &mut rte_kni_ops) -> *mut rte_kni {
    ptr::null_mut()
}

pub fn rte_kni_release(_kni: &mut rte_kni) -> c_int {
    NOT_SUPPORTED
}

pub fn rte_kni_handle_request(_kni: &mut rte_kni) -> c_int {
    NOT_SUPPORTED
}

pub fn rte_kni_rx_burst(_kni: &mut rte_kni, _frames: *mut *mut rte_mbuf, _count: c_uint) -> c_uint {
    0
}

pub fn rte_kni_tx_burst(_kni: &mut rte_kni, _frames: *mut *mut rte_mbuf, _count: c_uint) -> c_uint {
    0
}

pub fn rte_kni_close() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kni_answers_that_it_is_not_supported() {
        assert_eq!(rte_kni_init(1), NOT_SUPPORTED);
    }
}
