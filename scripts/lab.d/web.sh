# What the web servers serve, the second of them, Apache httpd, and one for WebSockets. Sourced by scripts/lab; nginx is in servers.sh.
# shellcheck shell=bash

big_file_bytes=50000000
text_bytes=100000
objects=100
apache_port=8081
# The same in HTTP/2, too, and fresh for a minute.
http2_port=8083
websocket_port=8082

# Under www/: index.html, 1k, word, text (100 KB of words), big (50 MB that nothing compresses), events, album.html (a page
# of 100 objects, whose title says how many of them have come).
make_pages() {
    mkdir -p "$state/www" "$state/uploads"
    echo "hello from the server" >"$state/www/index.html"
    head -c 1024 /dev/zero | tr '\0' x >"$state/www/1k"
    echo "I am a little teapot, short and stout." >"$state/www/word"
    words >"$state/www/text"
    # Incompressible and the same every time: AES in counter mode over zeros.
    { head -c "$big_file_bytes" /dev/zero |
        openssl enc -aes-128-ctr -nosalt -K "$(printf '%032d' 1)" -iv "$(printf '%032d' 0)"; } >"$state/www/big"
    printf 'data: one\n\ndata: two\n\n' >"$state/www/events"
    album >"$state/www/album.html"
}

# Sentences by chance, the same every time; gzip makes a fifth of them.
words() {
    awk -v bytes="$text_bytes" 'BEGIN {
        count = split("the a gateway stream packet client server between and of to from reads writes cache holds answer " \
            "request quickly slowly often never header body field value first second whole part every", word, " ")
        srand(1)
        for (left = bytes; left > 0; left -= length(piece)) {
            piece = word[1 + int(rand() * count)] (rand() < 0.1 ? ".\n" : " ")
            printf "%s", substr(piece, 1, left)
        }
    }'
}

album() {
    local number
    echo '<!doctype html><title>0 of '$objects'</title><script>let come = 0;'
    echo "function came() { document.title = ++come + ' of $objects'; }</script>"
    for ((number = 1; number <= objects; number++)); do
        echo "<img src=\"/objects/$number.svg\" onload=\"came()\" alt=\"$number\">"
    done
}

# The same pages in other manners, as nginx's locations: what a cache, a compressor and a range need to be tried on.
site_locations() {
    cat <<NGINX
location = /events { default_type text/event-stream; }
location = /album.html { default_type text/html; }
location /objects/ {
    default_type image/svg+xml;
    add_header Cache-Control "max-age=3600";
    return 200 '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><title>\$uri</title></svg>';
}
location /fresh/ { alias $state/www/; add_header Cache-Control "max-age=3600"; }
location /fresh-slow/ { alias $state/www/; limit_rate 60k; add_header Cache-Control "max-age=3600"; }
location /renewed/ { alias $state/www/; add_header Cache-Control "max-age=0, stale-while-revalidate=60"; }
location /sturdy/ { alias $state/www/; add_header Cache-Control "max-age=0, stale-if-error=60"; }
location /strict/ { alias $state/www/; add_header Cache-Control "max-age=0, must-revalidate"; }
location /no-store/ { alias $state/www/; add_header Cache-Control "no-store"; }
location /vary/ { alias $state/www/; add_header Cache-Control "max-age=3600"; add_header Vary "Accept-Language"; }
location /gzip/ { alias $state/www/; gzip on; gzip_types *; gzip_vary on; }
location /chunked/ { alias $state/www/; ssi on; ssi_types *; }
location /slow/ { alias $state/www/; limit_rate 20k; }
location = /told {
    return 200 'host=\$http_host via=\$http_via added=\$http_x_added agent=\$http_user_agent encoding=\$http_accept_encoding\n';
}
NGINX
}

# The second server, for what is redirected, and for a second opinion: the same pages under / on all addresses, and
# compressed under /gzip/. Its answers say so in `Server`.
start_apache() {
    local modules=/usr/lib/apache2/modules
    command -v apache2 >/dev/null || die "apache2 is missing: scripts/setup"
    cat >"$state/apache.conf" <<APACHE
ServerName www.lab.example
ServerRoot $state
PidFile $state/pid/apache
Listen $apache_port
Listen $http2_port
ErrorLog $state/log/apache-error.log
DefaultRuntimeDir $state
LoadModule mpm_event_module $modules/mod_mpm_event.so
LoadModule authz_core_module $modules/mod_authz_core.so
LoadModule alias_module $modules/mod_alias.so
LoadModule filter_module $modules/mod_filter.so
LoadModule deflate_module $modules/mod_deflate.so
LoadModule headers_module $modules/mod_headers.so
LoadModule http2_module $modules/mod_http2.so
LogFormat "%h %A %{local}p %m %{Host}i %U%q %>s" clients
CustomLog $state/log/apache-access.log clients
DocumentRoot $state/www
FileETag MTime Size
<Location />
    ForceType text/plain
</Location>
Alias /gzip/ $state/www/
<Location /gzip/>
    SetOutputFilter DEFLATE
</Location>
MaxKeepAliveRequests 0
StartServers 1
<VirtualHost *:$http2_port>
    Protocols h2c http/1.1
    Header set Cache-Control max-age=60
</VirtualHost>
APACHE
    in_ns server apache2 -f "$state/apache.conf"
    wait_until 5 listening "$apache_port" || die "apache2 does not listen: $(<"$state/log/apache-error.log")"
}

# Sends back each message that it gets.
start_websocket() {
    /usr/bin/python3 -c 'import websockets' || die "python3-websockets is missing: scripts/setup"
    exec_in server "$repo/scripts/lab.d/websocket" serve "$public_server" "$websocket_port" \
        >"$state/log/websocket.log" 2>&1 &
    echo $! >"$state/pid/websocket"
    wait_until 5 listening "$websocket_port" || die "no WebSockets: $(<"$state/log/websocket.log")"
}

# server_start NAME: a server that only some need.
server_start() {
    [[ -e $state ]] || die "the lab is down (scripts/lab up)"
    case ${1-} in
        apache) start_apache ;;
        websocket) start_websocket ;;
        *) die "server start apache|websocket" ;;
    esac
}
