#!/usr/bin/env bash
# Settings of the table of events
#
# Why: a journal's segment is used again once its events are in ClickHouse, so an INSERT must be on the disk when it is
# answered: fsync_after_insert and fsync_part_directory. Deduplication tokens do nothing with a window of 0, which is
# the default (docs/adr/004-events-table.md). The api makes the table with these; this tells of one that was
# made or changed by hand, and of replicated ones, whose window has another name.
#
# When not: on replicated tables with quorum inserts over zones the syncs may be left to the replicas.
#
# Effect: the syncs are in every figure of docs/figures.md. An INSERT of 1,000 rows of 120 B takes 11.4 ms with them
# (11.1–17.0) and 6.6 ms without (5.7–8.3), one of 100,000 rows 112 ms (104–116) and 96 ms (81–99): the embedded
# ClickHouse, one client, five interleaved rounds.
#
# UNMOGROWP_CLICKHOUSE_URL says where ClickHouse is, http://USER:PASSWORD@HOST:PORT/DATABASE as for the engine. It needs
# the right to ALTER the table, not root.
set -euo pipefail
# shellcheck source=tuning/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# shellcheck disable=SC2034
needs_root=0
url=${UNMOGROWP_CLICKHOUSE_URL-}
database=unmogrowp
if [[ $url =~ ^(https?://[^/]+)/([A-Za-z0-9_]+)$ ]]; then
  url=${BASH_REMATCH[1]}
  database=${BASH_REMATCH[2]}
fi
table=$database.events
engine=

# The address has a password in it, and a command line is there for every user to see.
query() {
  [[ -n $url ]] || return 1
  printf 'url = "%s/"\n' "${url%/}" |
    curl --silent --show-error --fail --max-time 30 --config - --data-binary "$1"
}

describe() {
  engine=$(query "SELECT engine_full FROM system.tables WHERE database = '$database' AND name = 'events' FORMAT TSVRaw") ||
    [[ -z $url ]] || printf 'tuning: %s: no answer about %s\n' "$knob" "$table" >&2
}

set_here() {
  [[ $engine =~ [\ ,]$1\ =\ ([^,]+)(,|$) ]] && printf '%s' "${BASH_REMATCH[1]}"
}

read_clickhouse() {
  [[ -n $engine ]] || return 1
  set_here "$1" || query "SELECT value FROM system.merge_tree_settings WHERE name = '$1' FORMAT TSVRaw"
}

old_clickhouse() { set_here "$1" || printf default; }

write_clickhouse() {
  if [[ $2 == default ]]; then
    query "ALTER TABLE $table RESET SETTING $1" || return 1
  else
    query "ALTER TABLE $table MODIFY SETTING $1 = $2" || return 1
  fi
  describe
}

settings() {
  local window=non_replicated_deduplication_window
  describe
  [[ $engine != Replicated* ]] || window=replicated_deduplication_window
  offer at_least clickhouse "$window" "$window" 10000
  offer exactly clickhouse fsync_after_insert fsync_after_insert 1
  offer exactly clickhouse fsync_part_directory fsync_part_directory 1
}

run_knob "$@"
