#!/usr/bin/env bash
# The kernel's guards against leaks between processes (Spectre and its kin)
#
# Why: they make every entry into the kernel dearer, and a server of small requests enters often. We recommend to
# leave them as the distribution has them: the engine runs no foreign code, but the machine has keys, and others on it.
# Fewer entries are the better way, and the io_uring driver goes it.
#
# When not: a machine that runs nothing but this and is reached by nobody else may boot with mitigations=off on the
# kernel's command line. There is nothing to set while it runs, so `set` changes nothing.
#
# Effect: not measurable here: it takes a reboot with another command line, and the machine boots as it is given.
set -euo pipefail
# shellcheck source=tuning/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

settings() {
  local now verdict=ok
  if [[ ! -r $root/proc/cmdline ]]; then
    absent 'kernel command line' 'as by default'
    return
  fi
  now=$(tr ' ' '\n' <"$root/proc/cmdline" | grep -x 'mitigations=.*' || printf 'as by default')
  [[ $now != mitigations=off* ]] || verdict=differs
  report 'kernel command line' "$now" 'as by default' "$verdict"
  if [[ $verb == set ]]; then
    printf '%s\n' 'mitigations: nothing to set while the kernel runs; see tuning/mitigations.sh explain'
  fi
}

run_knob "$@"
