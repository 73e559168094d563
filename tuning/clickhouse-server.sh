#!/usr/bin/env bash
# Settings of a ClickHouse server
#
# Why: engine and consumer keep their connections, and INSERTs come seconds apart: keep_alive_timeout above that
# saves making them again. Merges are the work that inserts leave behind (background_pool_size: one for each core), and
# reading with FINAL lives from the page cache, so that a fifth of the memory is left to it. The logs that are
# switched off are written for each query and thread, and merged like any table; query_log and part_log stay.
# What an INSERT must have is no server's setting: the engine sends it with each (proto/src/insert/statement.rs).
#
# When not: while looking for a slow query, trace_log is what you want. Takes effect at the server's next start.
# The embedded ClickHouse of ./dev up has its settings in embedded/src/engine_config.rs, and none of these.
#
# Effect: not measurable here: we measure with the embedded one.
set -euo pipefail
# shellcheck source=tuning/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

settings() {
  local cores
  cores=$(core_count)
  if [[ ! -d $root/etc/clickhouse-server ]]; then
    absent 'server settings' config.d/unmogrowp.xml
    return
  fi
  config 'server settings' /etc/clickhouse-server/config.d/unmogrowp.xml "<clickhouse>
    <!-- Set by tuning/clickhouse-server.sh. -->
    <keep_alive_timeout>75</keep_alive_timeout>
    <max_server_memory_usage_to_ram_ratio>0.8</max_server_memory_usage_to_ram_ratio>
    <background_pool_size>$cores</background_pool_size>
    <trace_log remove=\"1\"/>
    <text_log remove=\"1\"/>
    <query_thread_log remove=\"1\"/>
    <processors_profile_log remove=\"1\"/>
</clickhouse>"
}

run_knob "$@"
