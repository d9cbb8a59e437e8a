# A gateway's configuration in which everything goes through one chain. Sourced by scripts that compare.
# shellcheck shell=bash

# chain_config SECTIONS [RULE_KEYS]: the lab's ports and cores (conf/lab.toml), these [[filter]] sections, and one rule that proxies
# everything through them in that order. From the top directory, with PNAT_LAB_DIR.
chain_config() {
    local names
    names=$(sed -n 's/^name = //p' <<<"$1" | paste -sd,)
    sed '/^\[\[filter\]\]/,$d' conf/lab.toml
    cat <<TOML
$1

[[rule]]
name = "everything"
match = {}
action = "proxy"
filters = [$names]
${2-}

[control]
socket = "$PNAT_LAB_DIR/control.sock"

[log]
level = "warn"
TOML
}
