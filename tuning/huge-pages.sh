#!/usr/bin/env bash
# Pages of 2 MiB set aside at the start
#
# Why: set aside, they are there for who maps them (a JVM with -XX:+UseLargePages, PostgreSQL) and for nobody else.
# Nothing of ours does: the engine's buffers are 512 KiB each and some tens a shard. So we recommend none.
# UNMOGROWP_TUNING_HUGE_PAGES=2048 tuning/huge-pages.sh set sets 4 GiB aside for a broker's heap of that size.
#
# When not: on machines of the engine, consumer and ClickHouse: what is set aside is lost to the page cache.
#
# Effect: not measurable here: nothing of ours maps them.
set -euo pipefail
# shellcheck source=tuning/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

pages=${UNMOGROWP_TUNING_HUGE_PAGES:-0}
[[ $pages =~ ^[0-9]{1,8}$ ]] || fail "UNMOGROWP_TUNING_HUGE_PAGES is '$pages'; it must be a number of pages"

settings() {
  sysctl_exactly vm.nr_hugepages "$pages"
}

run_knob "$@"
