# `scripts/compare http`: HTTP filters, beside Squid (interception, memory cache), which both see the same requests. Sourced by
# scripts/compare.
# shellcheck shell=bash

# shellcheck source=scripts/lab.d/chain.sh
source scripts/lab.d/chain.sh

# Where the lab's nginx logs nothing.
site=http://198.18.0.2:8080
list_names=1000000
list=$PNAT_LAB_DIR-names

http_prepare() {
    { scripts/lab.d/names "$list_names" && echo blocked.example; } >"$list"
    # Squid's way of saying "and all below it".
    sed 's/^/./' "$list" >"$list.squid"
}

http_clean_up() {
    rm -f "$list" "$list.squid" "$PNAT_LAB_DIR"-chain.toml
}

http_round() {
    local early='accept = "early"'
    squid_without_list
    pnat_chain plain pnat_plain ''
    squid_with_list
    pnat_chain cache pnat_cache "$early" "$cache"
    pnat_chain cache-list pnat_cache_with_list "$early" "$urls" "$cache"
    pnat_chain log-list pnat_log_and_list '' "$log" "$urls"
    with_gateway --peer nginx-gzip
    gzip_measured nginx-gzip
    without_gateway
    pnat_chain compress pnat_compress '' "$compress"
}

cache='[[filter]]
name = "cache"
type = "cache"'
urls="[[filter]]
name = \"urls\"
type = \"url-block\"
lists = [{ path = \"$list\", category = \"ads\" }]"
log="[[filter]]
name = \"access\"
type = \"http-log\"
path = \"$PNAT_LAB_DIR/access.log\"
format = \"combined\""
compress='[[filter]]
name = "compress"
type = "compress"
# As hard as nginx tries.
level = { gzip = 1 }'

squid_without_list() {
    with_gateway --peer squid
    cache_measured squid
    load squid text /no-store/text
    without_gateway
}

squid_with_list() {
    PNAT_LAB_BLOCKED=$list.squid with_gateway --peer squid
    list_measured squid
    without_gateway
}

pnat_plain() {
    load plain overhead /no-store/1k
}

pnat_cache() {
    cache_measured pnat
}

pnat_cache_with_list() {
    list_measured pnat
}

pnat_log_and_list() {
    load log+list overhead /no-store/1k
}

pnat_compress() {
    gzip_measured pnat
}

cache_measured() {
    told_twice '^age:' /fresh/1k
    load "$1" hit /fresh/1k
    note "$1" memory "$(memory)"
    load "$1" miss /no-store/1k
}

# The names are looked up, and one is on the list: on the way to a hit, so that the lookup is what is new.
list_measured() {
    note "$1" list-memory "$(memory)"
    told_twice '^age:' /fresh/1k -H "Host: www.lab.example:8080"
    load "$1" list /fresh/1k -H "Host: www.lab.example:8080"
    told_twice '^HTTP/1.1 403' /fresh/1k -H "Host: blocked.example:8080"
    refused=yes load "$1" blocked /fresh/1k -H "Host: blocked.example:8080"
}

gzip_measured() {
    told_twice '^content-encoding: gzip' /no-store/text -H "Accept-Encoding: gzip"
    load "$1" gzip /no-store/text -H "Accept-Encoding: gzip"
    note "$1" gzip-memory "$(memory)"
}

# pnat_chain NAME MEASURE RULE_KEYS FILTERS...: a gateway with such a chain.
pnat_chain() {
    local config=$PNAT_LAB_DIR-chain.toml
    chain_config "$(printf '%s\n' "${@:4}")" "$3" >"$config"
    with_gateway --config "$config"
    "$2"
    without_gateway
}

# load WAY MEASURE PATH [WRK_ARGS...]: requests per second and p99 in ms of 64 kept connections.
load() {
    local report
    report=$(scripts/lab run client wrk -t 1 -c 64 -d "$seconds" --latency "${@:4}" "$site$3")
    if grep -q 'Socket errors' <<<"$report" || { grep -q 'Non-2xx' <<<"$report" && [[ ${refused-} != yes ]]; }; then
        echo "compare: $1 $2: not all requests were answered as they should be: $report" >&2
        failed=1
    fi
    note_report "$1" "$2" "$report"
}

# told_twice PATTERN PATH [CURL_ARGS...]: a line of the second answer's head is as it must be, or figures would be of something else.
told_twice() {
    local head=''
    for _ in 1 2; do
        head=$(scripts/lab run client curl -sS -m 10 -o /dev/null -D - "${@:3}" "$site$2")
    done
    grep -qiE "$1" <<<"$head" || {
        echo "compare: no $1 in the answer to $2: $head" >&2
        exit 1
    }
}

# MB of the gateway's processes, huge pages included.
memory() {
    local pid
    for pid in $(ip netns pids "$PNAT_LAB_NAME-gateway"); do
        grep -E '^(VmRSS|HugetlbPages):' "/proc/$pid/status"
    done | awk '{ sum += $2 } END { printf "%.1f", sum / 1024 }'
}

http_table() {
    local measure
    for measure in hit miss list blocked; do
        row "$measure" squid
        case $measure in
            hit)
                row "$measure" pnat squid 3
                row "$measure-p99" squid
                row "$measure-p99" pnat squid - 0.5
                ;;
            *)
                row "$measure" pnat squid
                row "$measure-p99" squid
                row "$measure-p99" pnat squid
                ;;
        esac
    done
    row text squid
    row gzip nginx-gzip
    row gzip pnat nginx-gzip
    row gzip-p99 nginx-gzip
    row gzip-p99 pnat nginx-gzip
    for measure in memory list-memory; do
        row "$measure" squid
        row "$measure" pnat squid
    done
    row gzip-memory nginx-gzip
    row gzip-memory pnat nginx-gzip
    row overhead plain
    row overhead log+list plain 0.75
    cat <<TEXT
Requests per second, p99 in ms, memory in MB (resident and huge pages; the list's right after its start), medians of $rounds rounds
of $seconds s with ranges; ratios within a round. 64 kept connections, 1 KB: from the cache (hit), uncacheable (miss), from the
cache past a list of $list_names names (list), refused by it (blocked); 100 KB of text, uncacheable: as it is by Squid, which has no gzip
of its own (text), compressed (gzip); overhead: uncacheable 1 KB by the plain pair and by the chain of http-log and url-block.
TEXT
}
