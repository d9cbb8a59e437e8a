# Namespaces, veth pairs, addresses, loss. Sourced by scripts/lab.
# shellcheck shell=bash

queues=${PNAT_LAB_QUEUES:-1}
loss=${PNAT_LAB_LOSS:-0}
mtu=${PNAT_LAB_MTU:-1500}

network_up() {
    for name in client gateway server; do
        make_namespace "$name"
    done
    join client eth0 veth-in
    join server eth0 veth-out
    ip -n "$lab-client" addr add "$inside_client/24" dev eth0
    ip -n "$lab-client" route add default via "$inside_gateway"
    ip -n "$lab-server" addr add "$public_server/24" dev eth0
    for address in "${far_servers[@]}"; do
        ip -n "$lab-server" addr add "$address/32" dev lo
    done
    client_resolver
    kernel_keeps_out in
    kernel_keeps_out out
    if ((loss > 0)); then
        lose_packets client
        lose_packets server
    fi
}

# `near` and `far` are hosts that a test puts behind the two.
network_down() {
    local pid
    for name in near client gateway server far; do
        [[ -e /run/netns/$lab-$name ]] || continue
        for pid in $(ip netns pids "$lab-$name" 2>/dev/null); do
            end_process "$pid" 2 || true
        done
        # An interrupted `up` may be on its own way down at the same time.
        ip netns del "$lab-$name" 2>/dev/null || true
    done
    rm -rf "/etc/netns/$lab-client"
    rmdir --ignore-fail-on-non-empty /etc/netns 2>/dev/null || true
}

make_namespace() {
    ip netns add "$lab-$1"
    ip netns exec "$lab-$1" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
    ip -n "$lab-$1" link set lo up
}

# join HOST HOST_END GATEWAY_END: both ends are born inside their namespaces, so no name of the machine's is at risk.
join() {
    ip link add "$3" netns "$lab-gateway" mtu "$mtu" numtxqueues "$queues" numrxqueues "$queues" type veth \
        peer name "$2" netns "$lab-$1" mtu "$mtu" numtxqueues "$queues" numrxqueues "$queues"
    wire_like gateway "$3"
    wire_like "$1" "$2"
    ip -n "$lab-gateway" link set "$3" up
    ip -n "$lab-$1" link set "$2" up
}

# What crosses is what a NIC would show: one packet per frame, checksums filled in and looked at.
wire_like() {
    ip netns exec "$lab-$1" ethtool -K "$2" tx off rx off sg off tso off gso off gro off >/dev/null
}

# `ip netns exec` shows this file as /etc/resolv.conf, so that ordinary programs find the lab's names.
client_resolver() {
    mkdir -p "/etc/netns/$lab-client"
    echo "nameserver $public_server" >"/etc/netns/$lab-client/resolv.conf"
}

# kernel_keeps_out in|out: with packet sockets the kernel gets a copy of each frame and would answer too: it is dropped
# behind the socket.
kernel_keeps_out() {
    ip netns exec "$lab-gateway" nft -f - <<NFT
table netdev lab-$1 {
    chain everything { type filter hook ingress device "veth-$1" priority 0; policy drop; }
}
NFT
}

kernel_let_in() {
    ip netns exec "$lab-gateway" nft delete table netdev "lab-$1"
}

# A dropped packet on the way out would be told to the sender's TCP, which no wire does: it is sent to `lo` instead,
# where nobody owns its link address.
lose_packets() {
    ip netns exec "$lab-$1" nft -f - <<NFT
table netdev loss {
    chain arriving {
        type filter hook ingress device "eth0" priority 0;
        numgen random mod 100 < $loss counter drop;
    }
    chain leaving {
        type filter hook egress device "eth0" priority 0;
        numgen random mod 100 < $loss counter fwd to "lo";
    }
}
NFT
}
