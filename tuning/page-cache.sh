#!/usr/bin/env bash
# How much written data may wait in memory
#
# Why: Kafka and ClickHouse write through the page cache. By default a fifth of the memory may be dirty before
# writers are stopped: 50 GB on a machine of 256 GB, which then go to the disk at once while a consumer's reads and
# ClickHouse's syncs wait. Lower bounds make the writing even. swappiness keeps the JVM's heap from being swapped for page cache;
# vm.max_map_count is for the many mapped files of both.
#
# When not: on a machine of the engine alone it does nothing: the journal goes past the page cache.
#
# Effect: not measurable here: what is to be evened out needs more memory and longer runs than the machine has.
set -euo pipefail
# shellcheck source=tuning/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The kernel keeps one of vm.NAME_bytes and vm.NAME_ratio and sets the other to 0, and takes no 0 itself.
read_dirty() {
  local bytes
  bytes=$(cat "$root/proc/sys/vm/${1}_bytes") || return 1
  if ((bytes)); then printf '%s' "$bytes"; else printf 'ratio %s' "$(cat "$root/proc/sys/vm/${1}_ratio")"; fi
}

write_dirty() {
  local path=/proc/sys/vm/${1}_bytes other=/proc/sys/vm/${1}_ratio value=$2
  if [[ $value == ratio* ]]; then
    other=$path path=/proc/sys/vm/${1}_ratio value=${value#ratio }
  fi
  printf '%s\n' "$value" >"$root$path" || return 1
  # The kernel does this by itself; a copy of it does not.
  [[ -z $root ]] || printf '0\n' >"$root$other"
}

settings() {
  offer exactly dirty vm.dirty_background_bytes dirty_background 268435456
  offer exactly dirty vm.dirty_bytes dirty 2147483648
  sysctl_exactly vm.swappiness 1
  sysctl_at_least vm.max_map_count 262144
}

run_knob "$@"
