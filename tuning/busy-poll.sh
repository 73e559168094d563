#!/usr/bin/env bash
# Asking the network card instead of waiting for its interrupt
#
# Why: a thread that waits may look into the card's queue itself for some µs. That takes an interrupt and a wake-up
# from the latency of a request that comes alone, and costs a whole core's time while there is nothing.
# UNMOGROWP_TUNING_BUSY_POLL_US=50 tuning/busy-poll.sh set switches it on; without it, 0 is recommended.
#
# When not: by default. Under load a shard finds its next packets there without waiting at all, and what it
# polls for is taken from forwarder and ClickHouse. With the io_uring driver net.core.busy_poll has no say: a ring asks
# only cards that were registered with it.
#
# Effect: not measurable here: loopback has no queue that could be polled.
set -euo pipefail
# shellcheck source=tuning/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

poll_us=${UNMOGROWP_TUNING_BUSY_POLL_US:-0}
[[ $poll_us =~ ^[0-9]{1,4}$ ]] || fail "UNMOGROWP_TUNING_BUSY_POLL_US is '$poll_us'; it must be µs from 0 to 9999"

settings() {
  sysctl_exactly net.core.busy_poll "$poll_us"
  sysctl_exactly net.core.busy_read "$poll_us"
}

run_knob "$@"
