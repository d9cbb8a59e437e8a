# The gateway between the two veth: pnat, or a peer to compare it with. Sourced by scripts/lab.
# shellcheck shell=bash

gateway_start() {
    [[ -e $state ]] || die "the lab is down (scripts/lab up)"
    [[ ! -e $state/pid/gateway && ! -e $state/peer ]] || die "a gateway runs already"
    local config=$repo/conf/lab.toml peer=
    while (($# > 0)); do
        case $1 in
            --config) config=$(realpath "$2") ;;
            --peer) peer=$2 ;;
            *) die "gateway start [--config FILE | --peer kernel|testpmd|haproxy|nginx|nginx-gzip|squid]" ;;
        esac
        shift 2
    done
    case $peer in
        '') start_pnat "$config" ;;
        kernel) start_kernel ;;
        testpmd) start_testpmd ;;
        haproxy | nginx) start_proxy "$peer" ;;
        nginx-gzip) start_nginx_gzip ;;
        squid) start_squid ;;
        *) die "no such peer: $peer" ;;
    esac
}

gateway_stop() {
    if [[ -e $state/peer ]]; then
        "stop_$(<"$state/peer")"
        rm -f "$state/peer"
        return
    fi
    [[ -e $state/pid/gateway ]] || die "no gateway runs"
    local ended=yes
    end_process "$(<"$state/pid/gateway")" 30 || ended=no
    wait_until 2 test -s "$state/gateway.status" || true
    rm -f "$state/pid/gateway"
    unbridge_taps
    cat "$state/log/gateway.out"
    [[ $ended == yes ]] || die "the gateway did not end within 30 s and was killed; see its log"
    [[ $(<"$state/gateway.status") == 0 ]] || die "the gateway ended with status $(<"$state/gateway.status")"
}

gateway_reload() {
    [[ -e $state/pid/gateway ]] || die "no gateway runs"
    kill -HUP "$(<"$state/pid/gateway")"
}

# For `down`: whatever runs, without a word. Open flows are not waited for: a second signal has pnat end them at once.
gateway_kill() {
    [[ -e $state/pid/gateway ]] || return 0
    kill -TERM "$(<"$state/pid/gateway")" 2>/dev/null || true
    sleep 0.05
    end_process "$(<"$state/pid/gateway")" 10 || true
    wait_until 2 test -s "$state/gateway.status" || true
}

# launch CMD...: starts a program in the gateway's namespace, free to choose its CPUs; its exit code is kept. It runs
# in the caller's directory, from which a configuration's relative paths are seen.
launch() {
    rm -f "$state/gateway.status"
    (
        # AF_XDP pins its frames; where root may not raise the limit, the driver says whether it was enough.
        ulimit -l unlimited 2>/dev/null || true
        ip netns exec "$lab-gateway" taskset -c "0-$((cpus - 1))" "$@" &
        echo $! >"$state/pid/gateway"
        trap '' INT HUP
        code=0
        wait $! || code=$?
        echo "$code" >"$state/gateway.status"
    ) </dev/null >"$state/log/gateway.out" 2>"$state/log/gateway.log" &
    wait_until 5 test -s "$state/pid/gateway"
}

# answered SECONDS CMD...: waits until the command succeeds; gives up with the program's exit code if it ends first.
answered() {
    local deadline=$((SECONDS + $1)) code
    until "${@:2}" >/dev/null 2>&1; do
        if [[ -s $state/gateway.status ]] || ((SECONDS >= deadline)); then
            cat "$state/log/gateway.out" "$state/log/gateway.log" >&2
            gateway_kill
            rm -f "$state/pid/gateway"
            code=$(cat "$state/gateway.status" 2>/dev/null || echo 1)
            echo "lab: the gateway does not answer" >&2
            return $((code == 0 ? 1 : code))
        fi
        sleep 0.02
    done
}

start_pnat() {
    [[ -x $pnat ]] || die "$pnat is missing: cargo build --release --locked"
    launch "$pnat" run --config "$1"
    answered 30 "$pnat" stats --config "$1"
    if grep -q '^ *device *= *"net_tap' "$1"; then
        bridge_tap in
        bridge_tap out
    fi
}

# bridge_tap in|out: joins the TAP device that came with the gateway (args = "iface=tap-in", "iface=tap-out") to the wire.
bridge_tap() {
    kernel_let_in "$1"
    # The gateway's port keeps the link address that the device was born with.
    ip -n "$lab-gateway" link set "tap-$1" address "02:00:00:00:$([[ $1 == in ]] && echo 01 || echo 02):fe"
    ip -n "$lab-gateway" link add "bridge-$1" mtu "$mtu" type bridge forward_delay 0 mcast_snooping 0
    ip -n "$lab-gateway" link set "tap-$1" master "bridge-$1" up
    ip -n "$lab-gateway" link set "veth-$1" master "bridge-$1"
    ip -n "$lab-gateway" link set "bridge-$1" up
}

unbridge_taps() {
    local side
    for side in in out; do
        [[ -e /run/netns/$lab-gateway ]] && ip -n "$lab-gateway" link show "bridge-$side" >/dev/null 2>&1 || continue
        ip -n "$lab-gateway" link del "bridge-$side"
        kernel_keeps_out "$side"
    done
}

# Plain kernel forwarding with nftables masquerade: the same addresses, the same view from both hosts.
start_kernel() {
    kernel_let_in in
    kernel_let_in out
    echo kernel >"$state/peer"
    ip -n "$lab-gateway" addr add "$inside_gateway/24" dev veth-in
    ip -n "$lab-gateway" addr add "$public_gateway/24" dev veth-out
    ip -n "$lab-gateway" route add default via "$public_server"
    ip netns exec "$lab-gateway" sysctl -qw net.ipv4.ip_forward=1
    ip netns exec "$lab-gateway" nft -f - <<'NFT'
table ip peer {
    chain post { type nat hook postrouting priority srcnat; oifname "veth-out" masquerade; }
}
NFT
    wait_until 5 reaches_server || die "the kernel does not forward"
}

stop_kernel() {
    ip netns exec "$lab-gateway" nft delete table ip peer
    ip netns exec "$lab-gateway" sysctl -qw net.ipv4.ip_forward=0
    ip -n "$lab-gateway" addr flush dev veth-in
    ip -n "$lab-gateway" addr flush dev veth-out
    kernel_keeps_out in
    kernel_keeps_out out
}

# testpmd's io mode copies frames from one port to the other, so the server must be the client's neighbour.
start_testpmd() {
    echo testpmd >"$state/peer"
    ip -n "$lab-server" addr add "$inside_gateway/24" dev eth0
    launch dpdk-testpmd -l "0,$((cpus > 1 ? 1 : 0))" --in-memory --no-pci \
        --vdev "net_af_xdp0,iface=veth-in,queue_count=$queues,busy_budget=0" \
        --vdev "net_af_xdp1,iface=veth-out,queue_count=$queues,busy_budget=0" \
        -- --forward-mode=io --auto-start --stats-period 3600 --rxq "$queues" --txq "$queues" \
        --rxd 2048 --txd 2048
    answered 20 reaches_server
}

stop_testpmd() {
    end_process "$(<"$state/pid/gateway")" 10 || true
    rm -f "$state/pid/gateway"
    ip -n "$lab-server" addr del "$inside_gateway/24" dev eth0
}

# A TCP proxy on the gateway's CPU to which the kernel hands the client's connections, whatever their destination
# (TPROXY): the client needs to know nothing of it, as with pnat.
start_proxy() {
    start_kernel
    echo proxy >"$state/peer"
    proxy_config "$1" >"$state/peer.conf"
    ip netns exec "$lab-gateway" sysctl -qw net.ipv4.ip_local_port_range="1024 65535" net.core.somaxconn=4096
    intercept_transparently "$proxy_port"
    case $1 in
        haproxy) launch taskset -c $((cpus > 1 ? 1 : 0)) haproxy -db -f "$state/peer.conf" ;;
        nginx) launch taskset -c $((cpus > 1 ? 1 : 0)) "$repo/scripts/lab.d/listening" "$proxy_port" nginx -c "$state/peer.conf" ;;
    esac
    answered 10 opens_connection
}

stop_proxy() {
    end_process "$(<"$state/pid/gateway")" 5 || true
    rm -f "$state/pid/gateway"
    stop_intercepting
    stop_kernel
}

# intercept_transparently PORT: the client's TCP connections reach a socket on this port, with their own destination.
intercept_transparently() {
    ip -n "$lab-gateway" rule add fwmark 1 lookup 100
    ip -n "$lab-gateway" route add local default dev lo table 100
    ip netns exec "$lab-gateway" nft -f - <<NFT
table ip intercept {
    chain pre {
        type filter hook prerouting priority mangle;
        iifname "veth-in" meta l4proto tcp meta mark set 1 tproxy to :$1 accept;
    }
}
NFT
}

stop_intercepting() {
    ip netns exec "$lab-gateway" nft delete table ip intercept
    if [[ -n $(ip -n "$lab-gateway" rule list fwmark 1) ]]; then
        ip -n "$lab-gateway" route del local default dev lo table 100
        ip -n "$lab-gateway" rule del fwmark 1 lookup 100
    fi
}

proxy_port=1080

proxy_config() {
    case $1 in
        haproxy) cat <<HAPROXY
global
    nbthread 1
    maxconn 6000
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend all
    bind :$proxy_port transparent backlog 4096
    default_backend whither
backend whither
    option transparent
    option splice-auto
HAPROXY
            ;;
        # The listening socket is handed down to nginx: it cannot set IP_TRANSPARENT by itself.
        nginx) cat <<NGINX
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
user root;
daemon off;
worker_processes 1;
worker_rlimit_nofile 65536;
pid $state/peer-nginx.pid;
error_log $state/log/peer-nginx.log;
events { worker_connections 20000; }
stream {
    server {
        listen $proxy_port backlog=4096;
        proxy_pass \$server_addr:\$server_port;
    }
}
NGINX
            ;;
    esac
}

opens_connection() {
    in_ns client curl -sf -m 1 -o "$state/peer.page" "http://$public_server:8080/1k"
}

reaches_server() {
    in_ns client ping -c 1 -W 1 "$public_server"
}
