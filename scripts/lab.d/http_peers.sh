# Servers between client and server that understand HTTP, on the gateway's CPU, to which the kernel hands the client's
# connections whatever their destination, as PNAT does: Squid, and nginx compressing. Sourced by scripts/lab.
# shellcheck shell=bash

http_peer_port=3129

# Squid as `http_port intercept`: one process, a cache in memory only. PNAT_LAB_BLOCKED names a file of domains, one a line,
# which are denied.
start_squid() {
    # It refuses to be root, and writes nowhere else.
    install -d -o proxy -g proxy "$state/squid"
    squid_config >"$state/peer.conf"
    # One that was killed leaves its shared memory, and the next will not have it.
    local service=${lab//[^a-zA-Z0-9]/}
    rm -f "/dev/shm/$service-"*.shm
    start_http_peer squid squid -N -n "$service" -f "$state/peer.conf"
}

# nginx asks the server that the client meant, and compresses what comes; this Squid has no filter that could.
start_nginx_gzip() {
    nginx_gzip_config >"$state/peer.conf"
    start_http_peer nginx-gzip "$repo/scripts/lab.d/listening" "$http_peer_port" nginx -c "$state/peer.conf"
}

# start_http_peer PEER CMD...
start_http_peer() {
    start_kernel
    echo http_peer >"$state/peer"
    ip netns exec "$lab-gateway" sysctl -qw net.ipv4.ip_local_port_range="1024 65535" net.core.somaxconn=4096
    case $1 in
        # Squid looks the destination up in the kernel's translation; nginx reads it off the socket.
        squid) ip netns exec "$lab-gateway" nft -f - <<NFT
table ip intercept {
    chain pre { type nat hook prerouting priority dstnat; iifname "veth-in" meta l4proto tcp redirect to :$http_peer_port; }
}
NFT
            ;;
        *) intercept_transparently "$http_peer_port" ;;
    esac
    launch taskset -c $((cpus > 1 ? 1 : 0)) "${@:2}"
    answered 60 opens_connection
}

stop_http_peer() {
    end_process "$(<"$state/pid/gateway")" 10 || true
    rm -f "$state/pid/gateway"
    stop_intercepting
    stop_kernel
}

squid_config() {
    local deny=''
    if [[ -n ${PNAT_LAB_BLOCKED-} ]]; then
        deny="acl blocked dstdomain \"$PNAT_LAB_BLOCKED\"
http_access deny blocked"
    fi
    cat <<SQUID
http_port $http_peer_port intercept
# Squid insists on a port for clients that know of it.
http_port 3128
visible_hostname gateway.lab.example
dns_nameservers $public_server
$deny
http_access allow all
cache_mem 256 MB
memory_cache_mode always
access_log none
cache_log $state/squid/cache.log
cache_store_log none
pid_filename $state/squid/pid
coredump_dir $state/squid
pinger_enable off
cache_effective_user proxy
max_filedescriptors 16384
shutdown_lifetime 0 seconds
SQUID
}

nginx_gzip_config() {
    cat <<NGINX
user root;
daemon off;
worker_processes 1;
worker_rlimit_nofile 65536;
pid $state/peer-nginx.pid;
error_log $state/log/peer-nginx.log;
events { worker_connections 20000; }
http {
    access_log off;
    gzip on;
    gzip_types *;
    gzip_vary on;
    gzip_comp_level 1;
    keepalive_requests 1000000;
    upstream whither { server $public_server:8080; keepalive 64; keepalive_requests 1000000; }
    server {
        listen $http_peer_port;
        location / {
            proxy_pass http://whither;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host \$http_host;
        }
    }
}
NGINX
}
