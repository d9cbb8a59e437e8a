/* What capsule-ffi binds: DPDK's own declarations, and one real symbol for each thing that DPDK offers only as a static
 * inline function or a macro. */

#ifndef PNAT_SHIM_H
#define PNAT_SHIM_H

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
void _rte_mempool_put_bulk(struct rte_mempool *pool, void *const *frames, unsigned int count);

struct rte_mempool *pnat_pktmbuf_pool_create(const char *name, unsigned int capacity, unsigned int cache_size,
	uint16_t priv_size, uint16_t data_room, int socket);
unsigned int pnat_mempool_chunks(const struct rte_mempool *pool);
int pnat_eth_dev_configure(uint16_t port, uint16_t rx_queues, uint16_t tx_queues, const struct rte_eth_conf *conf);
int pnat_thread_set_affinity(rte_cpuset_t *cpus);
void pnat_port_counters(uint16_t port, struct pnat_port_counters *sum);

#endif
