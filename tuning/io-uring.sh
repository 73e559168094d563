#!/usr/bin/env bash
# io_uring
#
# Why: the engine's default driver needs it, and falls back to epoll without (its log says which: `shard running`).
# kernel.io_uring_disabled is 0 (all may), 1 (those of kernel.io_uring_group), or 2 (nobody). Rings themselves count
# to the memory of the control group; buffers that are registered with a ring count to the limit of locked memory.
#
# When not: where foreign code runs on the machine, prefer 1 and a group for the engine's user:
# sysctl kernel.io_uring_disabled=1 kernel.io_uring_group=GID. Container runtimes block the calls by seccomp,
# whatever stands here.
#
# Effect: a fifth to a quarter less CPU for un-pipelined requests: 34.5 µs over 64 connections and 29.5 µs over 512, for
# 44.8 and 38.0 with epoll, paced alike (`./dev bench drivers`, five rounds, 792ad86). docs/adr/002-drivers.md names the
# costs of each driver.
set -euo pipefail
# shellcheck source=tuning/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

settings() {
  sysctl_exactly kernel.io_uring_disabled 0
  config 'locked memory of log-ins' /etc/security/limits.d/90-unmogrowp-memlock.conf '# Set by tuning/io-uring.sh.
*    soft memlock 1048576
*    hard memlock 1048576
root soft memlock 1048576
root hard memlock 1048576'
}

run_knob "$@"
