#!/usr/bin/env bash
# The cores' clock rate
#
# Why: a governor that saves power raises the clock only some ms after the load has come. A shard's work comes in
# pieces of µs, so that its core looks idle and stays slow: latency at low load is worst.
#
# When not: where power is what is short. Virtual machines have no such setting: their host decides.
#
# Effect: not measurable here: the machine is a virtual one, without /sys/devices/system/cpu/cpu0/cpufreq.
set -euo pipefail
# shellcheck source=tuning/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

settings() {
  local path name found=0
  for path in "$root"/sys/devices/system/cpu/cpu[0-9]*/cpufreq; do
    [[ -e $path/scaling_governor ]] || continue
    found=1
    name=$(basename "$(dirname "$path")")
    exactly "$name governor" "${path#"$root"}/scaling_governor" performance
    [[ ! -e $path/energy_performance_preference ]] ||
      exactly "$name energy preference" "${path#"$root"}/energy_performance_preference" performance
  done
  ((found)) || absent governor performance
}

run_knob "$@"
