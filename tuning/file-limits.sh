#!/usr/bin/env bash
# Open files
#
# Why: a connection is an open file. The engine needs shards × limits.connections_max + 512 (8,192 a shard by default),
# raises its own soft limit to the hard one, and refuses to start when that is too low. Kafka and ClickHouse hold a
# file for each segment and column of a part.
#
# When not: never seen to harm. limits.d counts at log-in; a systemd service takes LimitNOFILE= of its unit instead.
#
# Effect: none on speed; it bounds how many clients there can be.
set -euo pipefail
# shellcheck source=tuning/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

settings() {
  sysctl_at_least fs.nr_open 1048576
  sysctl_at_least fs.file-max 1048576
  config 'limits of log-ins' /etc/security/limits.d/90-unmogrowp-files.conf '# Set by tuning/file-limits.sh.
*    soft nofile 1048576
*    hard nofile 1048576
root soft nofile 1048576
root hard nofile 1048576'
  [[ -z $root ]] || return 0
  local needed now verdict=ok
  needed=$(($(core_count) * 8192 + 512))
  now=$(ulimit -Hn)
  [[ $now == unlimited ]] || ((now >= needed)) || verdict=differs
  report 'hard limit of this shell' "$now" "at least $needed" "$verdict"
}

run_knob "$@"
