#!/usr/bin/env bash
# Connections that wait to be accepted
#
# Why: when a machine is lost, its clients come to the others within seconds (docs/capacity.md). Each shard listens
# with a backlog of 4,096 (engine/src/driver/socket.rs), which the kernel cuts down to net.core.somaxconn without a
# word. tcp_max_syn_backlog is the same for handshakes that are not finished; with syncookies a full one costs options
# of TCP and no connections. tcp_abort_on_overflow would answer a full queue with a reset, which clients take for a
# dead server; without it they try again.
#
# When not: never seen to harm. It takes effect for listeners made afterwards: restart the engine.
#
# Effect: not measurable here: the kernel of the machine we measure on has a somaxconn of 4,096 already, and a shard
# accepts as many connections in one turn as there are. Without it a reconnect storm shows as ListenOverflows in
# /proc/net/netstat, and as 1 s, 3 s and 7 s in the clients' connect times.
set -euo pipefail
# shellcheck source=tuning/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

settings() {
  sysctl_at_least net.core.somaxconn 4096
  sysctl_at_least net.ipv4.tcp_max_syn_backlog 8192
  sysctl_exactly net.ipv4.tcp_syncookies 1
  sysctl_exactly net.ipv4.tcp_abort_on_overflow 0
}

run_knob "$@"
