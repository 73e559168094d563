#!/usr/bin/env bash
# A virtual core that looks for work before it gives itself back to its host
#
# Why: in a virtual machine a core without work leaves the machine, and the wake-up of a shard has to fetch it back
# through the host. With the idle governor haltpoll it looks for work for some µs first. Requests that come one by one
# are answered sooner. UNMOGROWP_TUNING_HALT_POLL_NS sets another time than the kernel's own 200000.
#
# When not: on real hardware, which has no such governor; where virtual cores are overcommitted, as others pay for
# what is polled; where ClickHouse runs beside the shards as an idle task, for then no core is ever without work.
#
# Effect: on a virtual machine of two cores (Linux 6.18, AMD EPYC with AVX-512) with the engine of `./dev up` at rest but for
# this load, five interleaved runs of 3 s, 200000 for 0: one client that sends single events one after the other got
# 7,200 synced answers a second (6,070-7,430) for 5,300 (4,420-5,600), p50 116 µs (113-138) for 162 µs (160-207); eight
# clients with 2,000 requests a second p50 258 µs (246-294) for 300 µs (264-319). Under full load no core is ever idle.
set -euo pipefail
# shellcheck source=tuning/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

poll_ns=${UNMOGROWP_TUNING_HALT_POLL_NS:-200000}
[[ $poll_ns =~ ^[0-9]{1,7}$ ]] || fail "UNMOGROWP_TUNING_HALT_POLL_NS is '$poll_ns'; it must be ns from 0 to 9999999"

settings() {
  exactly 'haltpoll guest_halt_poll_ns' /sys/module/haltpoll/parameters/guest_halt_poll_ns "$poll_ns"
}

run_knob "$@"
