# Long scripts that clean up after themselves, also when interrupted. Source it after defining `clean_up`.
#
#   run CMD...   runs a step in a process group of its own, so that an interruption ends all of it
# shellcheck shell=bash

# Job control gives every background job its own process group.
set -m
step=

run() {
    "$@" &
    step=$!
    local code=0
    wait "$step" || code=$?
    step=
    return "$code"
}

ended() {
    local code=$?
    trap - EXIT
    trap '' INT TERM HUP
    if [[ -n $step ]]; then
        kill -TERM -- "-$step" 2>/dev/null || true
        wait "$step" || true
    fi
    clean_up || code=$((code > 0 ? code : 1))
    exit "$code"
}

trap ended EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
