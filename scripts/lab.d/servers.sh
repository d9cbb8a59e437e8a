# The servers: nginx (HTTP, HTTPS, uploads), dnsmasq, iperf3, and a port that swallows packets. Sourced by scripts/lab; what
# the web servers serve, and the second of them, is in web.sh.
# shellcheck shell=bash

silent_port=9
# Two, so that a policy by port can send one through the packet path and the other through the proxy.
iperf3_ports=(5201 5202)

servers_start() {
    make_pages
    make_certificate
    start_nginx
    start_dnsmasq
    start_iperf3
    silence_port
}

# All are told before any is waited for.
servers_stop() {
    local pidfile pid pids=()
    for pidfile in "$state"/pid/{nginx,apache,websocket,dnsmasq,iperf3-*}; do
        [[ ! -s $pidfile ]] || pids+=("$(tr -dc 0-9 <"$pidfile")")
    done
    for pid in "${pids[@]}"; do
        kill -TERM "$pid" 2>/dev/null || true
    done
    for pid in "${pids[@]}"; do
        end_process "$pid" 5 || true
    done
}

make_certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 7 -subj "/CN=PNAT lab" \
        -addext "subjectAltName=DNS:www.lab.example,DNS:blocked.example,IP:$public_server,IP:${far_servers[0]}" \
        -keyout "$state/key.pem" -out "$state/ca.pem" 2>"$state/log/openssl.log"
}

start_nginx() {
    site_locations >"$state/site.conf"
    cat >"$state/nginx.conf" <<NGINX
user root;
worker_processes 1;
worker_rlimit_nofile 16384;
pid $state/pid/nginx;
error_log $state/log/nginx-error.log;
events { worker_connections 8192; }
http {
    log_format clients '\$remote_addr \$server_addr \$server_port \$request_method \$host \$request_uri \$status';
    access_log $state/log/nginx-access.log clients;
    types { }
    default_type text/plain;
    sendfile on;
    client_max_body_size 0;
    client_body_temp_path $state/uploads/partial;
    server {
        listen 80 default_server backlog=4096;
        listen 443 ssl default_server backlog=4096;
        ssl_certificate $state/ca.pem;
        ssl_certificate_key $state/key.pem;
        root $state/www;
        location /uploads/ { root $state; dav_methods PUT; }
        include $state/site.conf;
    }
    # For load: nothing is logged, and connections last as long as the client likes.
    server {
        listen 8080 backlog=4096;
        access_log off;
        keepalive_requests 1000000;
        root $state/www;
        include $state/site.conf;
    }
}
NGINX
    in_ns server nginx -e "$state/log/nginx-error.log" -c "$state/nginx.conf"
}

start_dnsmasq() {
    in_ns server dnsmasq --conf-file=/dev/null --no-resolv --no-hosts --user=root --bind-interfaces \
        --listen-address="$public_server" --pid-file="$state/pid/dnsmasq" --log-facility="$state/log/dnsmasq.log" \
        --host-record="www.lab.example,$public_server" --host-record="far.lab.example,${far_servers[0]}" \
        --host-record="blocked.example,$public_server" --txt-record="lab.example,names for the lab"
}

start_iperf3() {
    local port
    for port in "${iperf3_ports[@]}"; do
        in_ns server iperf3 --server --daemon --port "$port" --pidfile "$state/pid/iperf3-$port" \
            --logfile "$state/log/iperf3-$port.log"
    done
    for port in "${iperf3_ports[@]}"; do
        wait_until 5 listening "$port" || die "iperf3 does not listen"
    done
}

listening() {
    [[ -n $(ip netns exec "$lab-server" ss -Hltn "sport = :$1") ]]
}

# Packets to this port vanish; any other port without a server is closed and refuses.
silence_port() {
    ip netns exec "$lab-server" nft -f - <<NFT
table inet silent {
    chain in {
        type filter hook input priority 0;
        tcp dport $silent_port drop;
        udp dport $silent_port drop;
    }
}
NFT
}
