/* What capsule-ffi binds: DPDK's own declarations, and one real symbol for each thing that DPDK offers only as a static
 * inline function or a macro. */

#ifndef PNAT_SHIM_H
#define PNAT_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_config.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_mempool.h>

/* Macros whose values bindgen cannot see, under the names that DPDK 19.11 had and capsule uses. */
static const uint64_t ETH_RSS_IP = RTE_ETH_RSS_IP;
static const uint64_t ETH_RSS_TCP = RTE_ETH_RSS_TCP;
static const uint64_t ETH_RSS_UDP = RTE_ETH_RSS_UDP;
static const uint64_t ETH_RSS_SCTP = RTE_ETH_RSS_SCTP;
static const uint64_t DEV_TX_OFFLOAD_MBUF_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;

/* Bits of rte_mbuf.ol_flags: what a device has found out about TCP's or UDP's checksum, and is asked to do about it. */
static const uint64_t PNAT_RX_L4_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t PNAT_RX_L4_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t PNAT_RX_L4_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;
static const uint64_t PNAT_TX_L4_MASK = RTE_MBUF_F_TX_L4_MASK;
static const uint64_t PNAT_TX_TCP = RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_CKSUM;
static const uint64_t PNAT_TX_UDP = RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_UDP_CKSUM;

static const uint64_t PNAT_TX_SEGMENTS = RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_IP_CKSUM;

/* Where the lengths of the headers stand in rte_mbuf.tx_offload, and that of a segment's text; the link header's stands at
 * bit 0. */
static const unsigned int PNAT_TX_L3_SHIFT = RTE_MBUF_L2_LEN_BITS;
static const unsigned int PNAT_TX_L4_SHIFT = RTE_MBUF_L2_LEN_BITS + RTE_MBUF_L3_LEN_BITS;
static const unsigned int PNAT_TX_TEXT_SHIFT = RTE_MBUF_L2_LEN_BITS + RTE_MBUF_L3_LEN_BITS + RTE_MBUF_L4_LEN_BITS;

/* What a port was asked to do, and can. */
struct pnat_port_offloads {
	bool rx_checksum; /* to verify checksums of IPv4, TCP and UDP */
	bool tx_checksum; /* to complete those of TCP and UDP */
	uint8_t tx_segments; /* TCP segments that it cuts from one frame at most, each in a buffer of its own; 1: it cuts none */
};

/* What has passed through a port, all its queues together. */
struct pnat_port_counters {
	uint64_t rx_pkts;          /* frames handed to capsule */
	uint64_t rx_multi_segment; /* frames freed at receive: capsule knows only the first segment */
	uint64_t tx_pkts;          /* frames that the device took */
	uint64_t tx_dropped;       /* frames freed because the device did not take them */
};

int _rte_errno(void);

uint16_t _rte_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count);
uint16_t _rte_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count);

struct rte_mbuf *_rte_pktmbuf_alloc(struct rte_mempool *pool);
int _rte_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **frames, unsigned int count);
void _rte_pktmbuf_free(struct rte_mbuf *frame);
void pnat_mbuf_append(struct rte_mbuf *head, struct rte_mbuf *last, struct rte_mbuf *next);
void pnat_mbuf_cut(struct rte_mbuf *head);
void _rte_mempool_put_bulk(struct rte_mempool *pool, void *const *frames, unsigned int count);

struct rte_mempool *pnat_pktmbuf_pool_create(const char *name, unsigned int capacity, unsigned int cache_size,
	uint16_t priv_size, uint16_t data_room, int socket);
unsigned int pnat_mempool_chunks(const struct rte_mempool *pool);
int pnat_eth_dev_configure(uint16_t port, uint16_t rx_queues, uint16_t tx_queues, const struct rte_eth_conf *conf,
	bool refuse_offloads);
void pnat_port_offloads(uint16_t port, struct pnat_port_offloads *found);
int pnat_thread_set_affinity(rte_cpuset_t *cpus);
void pnat_port_counters(uint16_t port, struct pnat_port_counters *sum);

/* Whether a started port's link is up, without waiting for one that negotiates. */
bool pnat_port_is_up(uint16_t port);

#endif
