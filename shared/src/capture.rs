//! The pcap tap: packets copied out of a running gateway for `pnat capture`.
