#!/usr/bin/env bash
# The order of the disk's requests
#
# Why: a journal write is one large request that everybody waits for, and two at most are under way for each shard.
# There is nothing to be ordered on a disk without heads, and a scheduler costs a lock for each request. rq_affinity 2
# ends a request on the core that began it, where the shard is.
#
# When not: on turning disks (the knob leaves them at mq-deadline), or where somebody else's bulk reads share the
# disk with the journal: then mq-deadline or kyber keep the syncs short.
#
# Effect: a loss on the virtual disk that we measure on, so measure first on such: ./dev bench journal
# (durable_write/direct_dsync), five times in turn after set and undo. There a synced write of 4 KiB took 199 µs (175–260)
# for 169 µs (147–171) with mq-deadline and rq_affinity 1, one of 512 KiB 425 µs (356–541) for 373 µs (363–451).
set -euo pipefail
# shellcheck source=tuning/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

settings() {
  local disk queue found=0
  for disk in $(disks); do
    found=1
    queue=/sys/block/$disk/queue
    # A virtual disk often says that it turns, and has its host's scheduler below it.
    if [[ $disk != vd* && $(cat "$root$queue/rotational" 2>/dev/null) == 1 ]]; then
      choice "$disk scheduler" "$queue/scheduler" mq-deadline
    else
      choice "$disk scheduler" "$queue/scheduler" none
    fi
    exactly "$disk rq_affinity" "$queue/rq_affinity" 2
  done
  ((found)) || absent scheduler none
}

run_knob "$@"
