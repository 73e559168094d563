#!/usr/bin/env bash
# What a sync waits for
#
# Why: a 200 stands on a synced journal write. A disk with a volatile cache ("write back") gets a flush or a forced
# write with each of them, 0.1 ms to some ms. A disk whose cache outlives a power cut (capacitors; "power-loss
# protection" in its data sheet, most data-centre NVMe) need not be asked: with "write through" here the kernel leaves
# the flushes out, and a sync is as fast as a write. Such disks usually report "write through" by themselves.
#
# When not: on any disk without power-loss protection. A power cut then loses events that were acknowledged, and the
# file system with them, in silence. So `set` wants your word: UNMOGROWP_POWER_LOSS_PROTECTION=yes. With =no, `check`
# complains of "write through" and `set` brings "write back".
#
# Effect: not measurable here: a virtual disk's cache is its host's, of which nothing is known. To see it on a disk:
# TMPDIR=/on/that/disk ./dev bench journal (durable_write/direct_dsync) before and after.
set -euo pipefail
# shellcheck source=tuning/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

protection=${UNMOGROWP_POWER_LOSS_PROTECTION-}

settings() {
  local disk path found=0
  for disk in $(disks); do
    path=/sys/block/$disk/queue/write_cache
    [[ -e $root$path ]] || continue
    found=1
    case $protection in
      yes) exactly "$disk write_cache" "$path" 'write through' ;;
      no) exactly "$disk write_cache" "$path" 'write back' ;;
      *) report "$disk write_cache" "$(<"$root$path")" 'as the disk reports it' ok ;;
    esac
  done
  ((found)) || absent write_cache 'as the disk reports it'
}

case ${1-}:$protection in
  set:yes | set:no | [!s]*:*) ;;
  set:*) fail "disk-write-cache: say whether the disks outlive a power cut: UNMOGROWP_POWER_LOSS_PROTECTION=yes or =no; see $0 explain" ;;
esac

run_knob "$@"
