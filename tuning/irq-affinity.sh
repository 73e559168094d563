#!/usr/bin/env bash
# Each queue's interrupt to a core of its own
#
# Why: shards are pinned, one to a core. With queue k's interrupt on core k, every core does the network's work for
# about its share of packets; where the kernel or irqbalance puts them on few cores, those cores' shards are slow, and
# the slowest shard is what users see (docs/capacity.md: the busiest core). irqbalance would move them again.
#
# When not: cards whose driver manages this itself refuse (the kernel says so, nothing is changed). On machines
# with two sockets the queues should stay on the card's socket, and the engine too (taskset).
#
# Effect: not measurable here: we measure over loopback, which has no interrupt.
set -euo pipefail
# shellcheck source=tuning/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Prints "IRQ QUEUE" for each queue of a card: the name in the last column of /proc/interrupts ends with its number.
queues_of() {
  local device irq
  for device in "$root/sys/class/net/$1/device" "$root/sys/class/net/$1/device/.."; do
    [[ -d $device/msi_irqs ]] || continue
    for irq in "$device"/msi_irqs/*; do
      awk -v irq="$(basename "$irq"):" '
        $1 == irq && $NF !~ /config|event|async|mgmnt|fdir/ && match($NF, /[0-9]+$/) {
          print substr(irq, 1, length(irq) - 1), substr($NF, RSTART)
        }' "$root/proc/interrupts"
    done
    return 0
  done
}

settings() {
  local nic irq queue cores found=0
  cores=$(core_count)
  for nic in $(nics); do
    while read -r irq queue; do
      found=1
      exactly "$nic queue $queue, irq $irq" "/proc/irq/$irq/smp_affinity_list" $((10#$queue % cores))
    done < <(queues_of "$nic" | sort -n -k 2 -k 1)
  done
  ((found)) || absent 'interrupts of queues' 'queue k on core k'
  [[ -z $root ]] || return 0
  local balancer='not running' verdict=ok
  ! grep -qsx irqbalance /proc/[0-9]*/comm || { balancer=running; verdict=differs; }
  report irqbalance "$balancer" 'not running' "$verdict"
}

run_knob "$@"
