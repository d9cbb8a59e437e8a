# 2 MB pages for DPDK, and a place to map them from; `down` leaves the machine as it was. Sourced by scripts/lab.
# shellcheck shell=bash

hugepages=${PNAT_LAB_HUGEPAGES:-256}
hugepages_control=/sys/kernel/mm/hugepages/hugepages-2048kB

hugepages_reserve() {
    ((hugepages > 0)) && [[ -w $hugepages_control/nr_hugepages ]] || return 0
    local before free
    # Surplus pages are somebody's who was left with them; they go when he does, so they are not to be restored.
    before=$(($(<"$hugepages_control/nr_hugepages") - $(<"$hugepages_control/surplus_hugepages")))
    free=$(<"$hugepages_control/free_hugepages")
    if ((free < hugepages)); then
        echo "$before" >"$state/hugepages.before"
        echo $((before + hugepages - free)) >"$hugepages_control/nr_hugepages"
    fi
    if ! grep -q ' hugetlbfs ' /proc/mounts; then
        echo "$([[ -d /dev/hugepages ]] && echo kept || echo made)" >"$state/hugepages.mounted"
        mkdir -p /dev/hugepages
        mount -t hugetlbfs hugetlbfs /dev/hugepages
    fi
}

hugepages_restore() {
    local former
    if former=$(cat "$state/hugepages.mounted" 2>/dev/null); then
        umount /dev/hugepages 2>/dev/null || true
        [[ $former == kept ]] || rmdir /dev/hugepages 2>/dev/null || true
    fi
    if former=$(cat "$state/hugepages.before" 2>/dev/null); then
        echo "$former" >"$hugepages_control/nr_hugepages"
    fi
}
