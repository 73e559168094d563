#!/usr/bin/env bash
# Spreading packets over cores in software
#
# Why: a card with one queue interrupts one core, and that core runs TCP for all shards. RPS hands packets on to
# all cores; RFS to the core whose shard reads the connection. Where there is a queue for each core already, RPS only
# costs, so it is switched off; XPS then lets each core send over its own queue.
#
# When not: while the core with the interrupt has time left (mpstat -P ALL: %soft below 50): handing a packet on costs
# an interrupt between cores.
#
# Effect: not measurable here: the machine's load goes over loopback, where the sender's core already runs the
# receiver's TCP.
set -euo pipefail
# shellcheck source=tuning/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly flows=32768

settings() {
  local nic cores path queues index found=0 spread=0
  cores=$(core_count)
  for nic in $(nics); do
    queues=0
    for path in "$root/sys/class/net/$nic/queues"/rx-*; do
      [[ ! -e $path ]] || queues=$((queues + 1))
    done
    ((queues)) || continue
    found=1
    for ((index = 0; index < queues; index++)); do
      path=/sys/class/net/$nic/queues/rx-$index
      if ((queues < cores)); then
        spread=1
        mask "$nic rx-$index rps_cpus" "$path/rps_cpus" "$(core_mask 0 "$cores")"
        exactly "$nic rx-$index rps_flow_cnt" "$path/rps_flow_cnt" $((flows / queues))
      else
        mask "$nic rx-$index rps_cpus" "$path/rps_cpus" 0
      fi
    done
    ((queues > 1 && queues >= cores)) || continue
    for ((index = 0; index < cores; index++)); do
      mask "$nic tx-$index xps_cpus" "/sys/class/net/$nic/queues/tx-$index/xps_cpus" "$(core_mask "$index" 1)"
    done
  done
  ((found)) || absent rps_cpus 'all cores'
  ((spread == 0)) || sysctl_at_least net.core.rps_sock_flow_entries "$flows"
}

run_knob "$@"
