# What every part of the lab shares: names, addresses, small functions. Sourced by scripts/lab.
# shellcheck shell=bash disable=SC2034 # the names are used by the files that are sourced after this one

lab=${PNAT_LAB_NAME:-pnat}
state=${PNAT_LAB_DIR:-/run/$lab-lab}
pnat=${PNAT_BIN:-$repo/target/release/pnat}

inside_gateway=10.77.1.1
inside_client=10.77.1.2
public_gateway=198.18.0.1
public_server=198.18.0.2
# Servers beyond the gateway's next hop.
far_servers=(198.18.5.10 203.0.113.10)

# CPU 1 belongs to the gateway's busy core; hosts, servers and tools stay off it where there is another.
cpus=$(nproc --all)
case $cpus in
    1) host_cpus=0 ;;
    2) host_cpus=0 ;;
    *) host_cpus=0,2-$((cpus - 1)) ;;
esac

die() {
    echo "lab: $*" >&2
    exit 1
}

# Prints the comment at the top of a script.
usage() {
    sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$1" >&2
    exit 64
}

need_root() {
    [[ $EUID -eq 0 ]] || die "network namespaces need root"
}

# A zombie counts as gone: who reaps it, and when, is not the lab's affair.
alive() {
    grep -qs '^State:[[:space:]]*[RSDTtIPKW]' "/proc/$1/status"
}

# in_ns NAME CMD...: runs a command in a namespace, away from the gateway's CPU.
in_ns() {
    ip netns exec "$lab-$1" taskset -c "$host_cpus" "${@:2}"
}

# Like in_ns, but the command takes this script's place, so signals and exit codes are its own.
exec_in() {
    [[ $# -ge 2 && -e /run/netns/$lab-$1 ]] || die "run client|server|gateway CMD... (is the lab up?)"
    exec ip netns exec "$lab-$1" taskset -c "$host_cpus" "${@:2}"
}

# wait_until SECONDS CMD...: true as soon as the command is, false when the time is over.
wait_until() {
    local deadline=$((SECONDS + $1))
    until "${@:2}" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || return 1
        sleep 0.01
    done
}

# end_process PID SECONDS: SIGTERM, then SIGKILL when it has not gone by then; false if it had to be killed.
end_process() {
    alive "$1" || return 0
    kill -TERM "$1" 2>/dev/null || return 0
    wait_until "$2" gone "$1" && return 0
    kill -KILL "$1" 2>/dev/null || true
    wait_until 5 gone "$1" || true
    return 1
}

gone() {
    ! alive "$1"
}
