#!/usr/bin/env bash
# Queues of the network card
#
# Why: a card with fewer queues than cores leaves all packets to some cores, and the shards on them have less time
# than the others. One receive and send queue for each core, and RSS spreads connections over them. Long rings take
# a burst of a reconnect storm instead of dropping it (ethtool -S NIC shows drops).
#
# When not: where other cores than the shards' are to do the network's work; a virtual card often allows one queue
# only, then rps-xps.sh is what is left. Changing either stops the card for a moment: connections stall, some break.
#
# Effect: not measurable here: we measure over loopback, which has no card.
set -euo pipefail
# shellcheck source=tuning/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Targets are "NIC combined" and "NIC rx", "NIC tx"; UNMOGROWP_TUNING_ETHTOOL names another ethtool.
ethtool=${UNMOGROWP_TUNING_ETHTOOL:-ethtool}

# Prints the value of FIELD in the part of `ethtool -l` or `-g` that begins with PART.
field() {
  "$ethtool" "$1" "$2" 2>/dev/null | awk -v part="$3" -v field="$4:" '
    /:$/ { inside = index($0, part) }
    inside && tolower($1) == tolower(field) && $2 ~ /^[0-9]+$/ { print $2; found = 1; exit }
    END { exit !found }'
}

read_ethtool() {
  local -a target
  read -r -a target <<<"$1"
  case ${target[1]} in
    combined) field -l "${target[0]}" Current Combined ;;
    *) field -g "${target[0]}" Current "${target[1]}" ;;
  esac
}

write_ethtool() {
  local -a target
  read -r -a target <<<"$1"
  case ${target[1]} in
    combined) "$ethtool" -L "${target[0]}" combined "$2" ;;
    *) "$ethtool" -G "${target[0]}" "${target[1]}" "$2" ;;
  esac
}

settings() {
  local nic most cores way found=0
  cores=$(core_count)
  for nic in $(nics); do
    found=1
    if most=$(field -l "$nic" maximums Combined); then
      offer exactly ethtool "$nic combined" "$nic combined" "$((most < cores ? most : cores))"
    else
      absent "$nic combined" "$cores"
    fi
    for way in rx tx; do
      if most=$(field -g "$nic" maximums "$way"); then
        offer at_least ethtool "$nic ring $way" "$nic $way" "$((most < 4096 ? most : 4096))"
      else
        absent "$nic ring $way" 'at least 4096'
      fi
    done
  done
  ((found)) || absent 'network card' "$cores queues"
}

run_knob "$@"
