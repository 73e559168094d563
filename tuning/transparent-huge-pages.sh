#!/usr/bin/env bash
# Pages of 2 MiB that the kernel makes by itself
#
# Why: with `always` any allocation may stop for the kernel to gather 2 MiB in one piece, and a process at rest holds
# more memory than it asked for. With `madvise` those get them who ask, as ClickHouse can. The
# engine does not ask. Redis and ClickHouse both warn of `always`.
#
# When not: with `never`, ClickHouse's large scans miss the translation cache more often.
#
# Effect: none that shows. `always` against `madvise`, batches of 100, five interleaved rounds at d68a5e3: 55.3 µs of the
# engine's CPU a request (54.3–58.2) against 55.5 (54.7–60.0). Figures of ours are with `madvise`.
set -euo pipefail
# shellcheck source=tuning/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

settings() {
  choice enabled /sys/kernel/mm/transparent_hugepage/enabled madvise
  choice defrag /sys/kernel/mm/transparent_hugepage/defrag madvise
}

run_knob "$@"
