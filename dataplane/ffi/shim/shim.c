#include "shim.h"

#include <errno.h>
#include <string.h>

/* lib.rs declares these two structs by hand, because their C declarations changed shape (markers, anonymous unions)
 * between the DPDK versions that we accept while their layout did not. */
_Static_assert(sizeof(struct rte_mbuf) == 128, "rte_mbuf");
_Static_assert(offsetof(struct rte_mbuf, buf_addr) == 0, "rte_mbuf.buf_addr");
_Static_assert(offsetof(struct rte_mbuf, data_off) == 16, "rte_mbuf.data_off");
_Static_assert(offsetof(struct rte_mbuf, ol_flags) == 24, "rte_mbuf.ol_flags");
_Static_assert(offsetof(struct rte_mbuf, pkt_len) == 36, "rte_mbuf.pkt_len");
_Static_assert(offsetof(struct rte_mbuf, data_len) == 40, "rte_mbuf.data_len");
_Static_assert(offsetof(struct rte_mbuf, buf_len) == 54, "rte_mbuf.buf_len");
_Static_assert(offsetof(struct rte_mbuf, pool) == 56, "rte_mbuf.pool");
_Static_assert(offsetof(struct rte_mbuf, tx_offload) == 72, "rte_mbuf.tx_offload");
_Static_assert(offsetof(struct rte_mempool, name) == 0, "rte_mempool.name");
_Static_assert(offsetof(struct rte_mempool, flags) == 56, "rte_mempool.flags");
_Static_assert(offsetof(struct rte_mempool, socket_id) == 60, "rte_mempool.socket_id");
_Static_assert(offsetof(struct rte_mempool, size) == 64, "rte_mempool.size");
_Static_assert(offsetof(struct rte_mempool, cache_size) == 68, "rte_mempool.cache_size");

/* A queue belongs to one core and a DPDK process has at most RTE_MAX_LCORE of them. */
#define MAX_QUEUES RTE_MAX_LCORE

/* Attempts to hand a burst to a device that takes nothing, before the burst is dropped. A virtual device may need the
 * system call that every attempt makes; a NIC frees some descriptors in the microsecond or two that this lasts. */
#define TX_ATTEMPTS 16

/* TCP segments that a device is given in one frame at most: as many of the usual length as an IP packet holds. */
#define MAX_SEGMENTS 44

/* What cutting them takes. */
#define TX_SEGMENTATION (RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_MULTI_SEGS | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM)

/* Room that AF_XDP takes in front of each received frame (XDP_PACKET_HEADROOM), and one cache line because capsule never
 * fills a buffer to its last byte. Added to each buffer, so that every frame has the room that its data size promises. */
#define EXTRA_ROOM (256 + RTE_CACHE_LINE_SIZE)

/* One writer each: the core that owns the queue. */
struct queue_counters {
	uint64_t rx_pkts;
	uint64_t rx_multi_segment;
	uint64_t tx_pkts;
	uint64_t tx_dropped;
} __rte_cache_aligned;

static struct queue_counters counters[RTE_MAX_ETHPORTS][MAX_QUEUES];

static unsigned int pools;

/* Written when a port is configured, before any core uses it. */
static struct {
	struct pnat_port_offloads asked;
	bool is_refused; /* what the device says all the same is not believed */
} offloads[RTE_MAX_ETHPORTS];

static inline void add(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

int _rte_errno(void)
{
	return rte_errno;
}

uint16_t _rte_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count)
{
	struct queue_counters *counter = &counters[port][queue];
	uint16_t received = rte_eth_rx_burst(port, queue, frames, count);
	uint16_t kept = 0;

	if (received == 0)
		return 0;
	for (uint16_t i = 0; i < received; i++) {
		if (likely(frames[i]->nb_segs == 1))
			frames[kept++] = frames[i];
		else
			rte_pktmbuf_free(frames[i]);
	}
	add(&counter->rx_pkts, kept);
	if (unlikely(kept < received))
		add(&counter->rx_multi_segment, received - kept);
	if (unlikely(offloads[port].is_refused))
		for (uint16_t i = 0; i < kept; i++)
			frames[i]->ol_flags &= ~RTE_MBUF_F_RX_L4_CKSUM_MASK;
	return kept;
}

/* Lets the driver prepare what is left to its device, which drivers want in different ways. What it refuses is freed and
 * counted; answers how many frames are left. */
static uint16_t prepare(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count)
{
	uint16_t ready = 0;

	while (ready < count) {
		ready += rte_eth_tx_prepare(port, queue, frames + ready, count - ready);
		if (likely(ready == count))
			break;
		rte_pktmbuf_free(frames[ready]);
		add(&counters[port][queue].tx_dropped, 1);
		count--;
		memmove(frames + ready, frames + ready + 1, (count - ready) * sizeof(*frames));
	}
	return count;
}

/* Always takes the whole burst: what the device refuses is freed and counted here. */
uint16_t _rte_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t given)
{
	struct queue_counters *counter = &counters[port][queue];
	uint16_t count = offloads[port].asked.tx_checksum ? prepare(port, queue, frames, given) : given;
	uint16_t sent = rte_eth_tx_burst(port, queue, frames, count);
	unsigned int attempts = 1;

	while (unlikely(sent < count) && attempts < TX_ATTEMPTS) {
		uint16_t more = rte_eth_tx_burst(port, queue, frames + sent, count - sent);

		sent += more;
		attempts = more > 0 ? 0 : attempts + 1;
		if (more == 0)
			rte_pause();
	}
	add(&counter->tx_pkts, sent);
	if (unlikely(sent < count)) {
		rte_pktmbuf_free_bulk(frames + sent, count - sent);
		add(&counter->tx_dropped, count - sent);
	}
	return given;
}

struct rte_mbuf *_rte_pktmbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int _rte_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **frames, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, frames, count);
}

void _rte_pktmbuf_free(struct rte_mbuf *frame)
{
	rte_pktmbuf_free(frame);
}

/* Puts a buffer of one segment behind the last one of a chain. */
void pnat_mbuf_append(struct rte_mbuf *head, struct rte_mbuf *last, struct rte_mbuf *next)
{
	last->next = next;
	head->nb_segs++;
	head->pkt_len += next->data_len;
}

/* Frees all buffers of a chain but the first. */
void pnat_mbuf_cut(struct rte_mbuf *head)
{
	rte_pktmbuf_free(head->next);
	head->next = NULL;
	head->nb_segs = 1;
	head->pkt_len = head->data_len;
}

/* capsule gives mbufs back this way, sometimes to a pool that they are not from. Each knows its own. */
void _rte_mempool_put_bulk(struct rte_mempool *pool, void *const *frames, unsigned int count)
{
	(void)pool;
	for (unsigned int i = 0; i < count; i++)
		rte_pktmbuf_free(frames[i]);
}

/* Like rte_pktmbuf_pool_create, but packs the buffers without gaps where no PCI device needs each of them to lie within
 * one page: DPDK's AF_XDP driver registers capacity times buffer size bytes with the kernel, so with gaps the last
 * buffers of the pool would be out of its reach, nearly half of them with 4 KiB pages. */
struct rte_mempool *pnat_pktmbuf_pool_create(const char *name, unsigned int capacity, unsigned int cache_size,
	uint16_t priv_size, uint16_t data_room, int socket)
{
	struct rte_pktmbuf_pool_private private;
	struct rte_mempool *pool;
	int error;

	if (data_room > UINT16_MAX - EXTRA_ROOM) {
		rte_errno = EINVAL;
		return NULL;
	}
	data_room += EXTRA_ROOM;
	pool = rte_mempool_create_empty(name, capacity, sizeof(struct rte_mbuf) + priv_size + data_room, cache_size,
		sizeof(private), socket, rte_eal_has_pci() ? 0 : RTE_MEMPOOL_F_NO_IOVA_CONTIG);
	if (pool == NULL)
		return NULL;

	memset(&private, 0, sizeof(private));
	private.mbuf_data_room_size = data_room;
	private.mbuf_priv_size = priv_size;

	error = rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL);
	if (error == 0) {
		rte_pktmbuf_pool_init(pool, &private);
		error = rte_mempool_populate_default(pool);
	}
	if (error < 0) {
		rte_mempool_free(pool);
		rte_errno = -error;
		return NULL;
	}
	rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
	pools++;
	return pool;
}

unsigned int pnat_mempool_chunks(const struct rte_mempool *pool)
{
	return pool->nb_mem_chunks;
}

/* Whether a device may hand over packets of its own host whose checksums were never made (RTE_MBUF_F_RX_L4_CKSUM_NONE), once
 * it is asked about checksums. Translated, such a packet would leave with a wrong one. */
static bool leaves_checksums_out(const struct rte_eth_dev_info *info)
{
	return strstr(info->driver_name, "virtio") != NULL || strstr(info->driver_name, "vhost") != NULL;
}

/* What a device can do of what we have a use for. */
static struct pnat_port_offloads choose(const struct rte_eth_dev_info *info)
{
	const uint64_t tx = RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
	const uint64_t rx = RTE_ETH_RX_OFFLOAD_CHECKSUM;
	const uint16_t buffers = info->tx_desc_lim.nb_seg_max;
	const bool cuts = (info->tx_offload_capa & (tx | TX_SEGMENTATION)) == (tx | TX_SEGMENTATION);

	return (struct pnat_port_offloads){
		.rx_checksum = (info->rx_offload_capa & rx) == rx && !leaves_checksums_out(info),
		.tx_checksum = (info->tx_offload_capa & tx) == tx,
		.tx_segments = !cuts ? 1 : buffers == 0 ? MAX_SEGMENTS : RTE_MIN(buffers, MAX_SEGMENTS),
	};
}

/* What capsule asks for, and what the device can do about checksums. */
int pnat_eth_dev_configure(uint16_t port, uint16_t rx_queues, uint16_t tx_queues, const struct rte_eth_conf *conf,
	bool refuse_offloads)
{
	struct rte_eth_conf ours = *conf;
	struct rte_eth_dev_info info;

	if (port >= RTE_MAX_ETHPORTS || rx_queues > MAX_QUEUES || tx_queues > MAX_QUEUES)
		return -EINVAL;
	offloads[port].is_refused = refuse_offloads;
	offloads[port].asked = (struct pnat_port_offloads){ .tx_segments = 1 };
	if (!refuse_offloads && rte_eth_dev_info_get(port, &info) == 0)
		offloads[port].asked = choose(&info);
	if (offloads[port].asked.rx_checksum)
		ours.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_CHECKSUM;
	if (offloads[port].asked.tx_checksum)
		ours.txmode.offloads |= RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
	/* Fast free takes every frame for one buffer. */
	if (offloads[port].asked.tx_segments > 1)
		ours.txmode.offloads = (ours.txmode.offloads | TX_SEGMENTATION) & ~RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
	/* Fast free returns all frames of a queue to one pool, and with several NUMA nodes there are several pools. */
	if (pools > 1)
		ours.txmode.offloads &= ~RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
	return rte_eth_dev_configure(port, rx_queues, tx_queues, &ours);
}

void pnat_port_offloads(uint16_t port, struct pnat_port_offloads *found)
{
	*found = port < RTE_MAX_ETHPORTS ? offloads[port].asked : (struct pnat_port_offloads){ .tx_segments = 1 };
}

/* capsule calls this first on each of its core threads, which EAL does not know; a thread that EAL does not know has no
 * mempool cache. */
int pnat_thread_set_affinity(rte_cpuset_t *cpus)
{
	if (rte_thread_set_affinity(cpus) != 0)
		return -EINVAL;
	if (rte_lcore_id() == LCORE_ID_ANY && rte_thread_register() != 0)
		return -rte_errno;
	return 0;
}

bool pnat_port_is_up(uint16_t port)
{
	struct rte_eth_link link = {0};

	return rte_eth_link_get_nowait(port, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

void pnat_port_counters(uint16_t port, struct pnat_port_counters *sum)
{
	memset(sum, 0, sizeof(*sum));
	if (port >= RTE_MAX_ETHPORTS)
		return;
	for (unsigned int queue = 0; queue < MAX_QUEUES; queue++) {
		const struct queue_counters *counter = &counters[port][queue];

		sum->rx_pkts += __atomic_load_n(&counter->rx_pkts, __ATOMIC_RELAXED);
		sum->rx_multi_segment += __atomic_load_n(&counter->rx_multi_segment, __ATOMIC_RELAXED);
		sum->tx_pkts += __atomic_load_n(&counter->tx_pkts, __ATOMIC_RELAXED);
		sum->tx_dropped += __atomic_load_n(&counter->tx_dropped, __ATOMIC_RELAXED);
	}
}
