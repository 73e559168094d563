#!/usr/bin/env bash
# TCP and the kernel's receive queues
#
# Why: tcp_slow_start_after_idle makes a connection that rested begin small again, and a pool of connections that
# send a batch every second rests all the time: a batch of 27 KB then needs two round trips more. The third of
# tcp_rmem bounds how much of a long batch may be under way to us; the kernel grows to it only where a connection
# needs it. netdev_max_backlog is the queue between a network card (or loopback, or RPS) and TCP, for each core:
# what is beyond it is dropped and sent again after 200 ms. The second column of /proc/net/softnet_stat counts that.
#
# When not: with memory so short that 6 MiB for some connections is too much; the kernel holds all of TCP to
# net.ipv4.tcp_mem in any case. Where a container has a network of its own, it has tcp_* of its own, too: set them there.
#
# Effect: not measurable here: on loopback, where we measure, a round trip is 30 µs, so that neither slow start nor windows
# bind. What was not dropped (softnet_stat, above) a longer queue does not help.
set -euo pipefail
# shellcheck source=tuning/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

settings() {
  sysctl_exactly net.ipv4.tcp_slow_start_after_idle 0
  sysctl_at_least net.ipv4.tcp_rmem '4096 131072 6291456'
  sysctl_at_least net.ipv4.tcp_wmem '4096 16384 4194304'
  sysctl_at_least net.core.netdev_max_backlog 16384
}

run_knob "$@"
