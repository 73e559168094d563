#!/usr/bin/env bash
# The topic that events go through
#
# Why: a record is a block of up to 512 KiB, and what the topic refuses goes to ClickHouse directly, alone.
# Retention bounds how long consumers may be away. With three replicas, min.insync.replicas 2 is what makes an
# acknowledgement outlive a broker (docs/adr/008-kafka-route.md). compression.type `producer` stores what the engine
# compressed; anything else makes the broker pack each batch again.
#
# When not: retention is disk: docs/capacity.md says how much. The engine makes the topic with these settings
# and never changes one that exists; /readyz tells of those that are too small.
#
# Effect: not measurable here: two cores hold one broker, which has no replica to wait for. `./dev bench kafka` measures
# with max.message.bytes and compression.type as here.
#
# UNMOGROWP_KAFKA_BROKERS says where Kafka is; UNMOGROWP_KAFKA_TOPIC (events); UNMOGROWP_KAFKA_TOOLS the folder of
# kafka-configs.sh and kafka-topics.sh, where it is not in PATH. It needs the rights of Kafka's administrator, not root.
set -euo pipefail
# shellcheck source=tuning/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=tuning/kafka-tools
source "$(dirname "${BASH_SOURCE[0]}")/kafka-tools"

topic=${UNMOGROWP_KAFKA_TOPIC:-events}
entity=(--entity-type topics --entity-name "$topic")
override=DYNAMIC_TOPIC_CONFIG

# -1 keeps for ever.
holds_retention() { [[ $1 == -1 ]] || holds_at_least "$1" "$2"; }

settings() {
  describe
  kafka_offer at_least max.message.bytes 1048576
  kafka_offer retention retention.ms 604800000
  kafka_offer exactly unclean.leader.election.enable false
  kafka_offer exactly compression.type producer
  # With fewer replicas it would stop all writing.
  if (($(replicas) >= 3)); then
    kafka_offer exactly min.insync.replicas 2
  else
    absent min.insync.replicas '2, with 3 replicas'
  fi
}

replicas() {
  local text
  text=$([[ -z $brokers ]] || "${tools}kafka-topics.sh" --bootstrap-server "$brokers" --describe --topic "$topic" 2>/dev/null) || true
  [[ $text =~ ReplicationFactor:[[:space:]]*([0-9]+) ]] && printf '%s' "${BASH_REMATCH[1]}" || printf 0
}

run_knob "$@"
