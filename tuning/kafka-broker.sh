#!/usr/bin/env bash
# Settings of all brokers
#
# Why: message.max.bytes is the bound where a topic has none of its own. A broker that was behind must not become
# leader: what it never had is what was acknowledged (unclean.leader.election.enable). More than one fetcher lets a
# replica keep up with several leaders at once. auto.create.topics.enable makes a topic with wrong settings of a typing
# error; it can only be changed in server.properties and is only told of here.
#
# When not: num.replica.fetchers costs a thread and a connection for each pair of brokers; with hundreds of brokers stay at 1.
#
# Effect: not measurable here: two cores hold one broker, and what these settings do is between several.
#
# UNMOGROWP_KAFKA_BROKERS says where Kafka is; UNMOGROWP_KAFKA_BROKER_ID (1) which one is asked what is in force;
# UNMOGROWP_KAFKA_TOOLS the folder of kafka-configs.sh. Needs the rights of Kafka's administrator, not root.
set -euo pipefail
# shellcheck source=tuning/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=tuning/kafka-tools
source "$(dirname "${BASH_SOURCE[0]}")/kafka-tools"

entity=(--entity-type brokers --entity-name "${UNMOGROWP_KAFKA_BROKER_ID:-1}")
changed=(--entity-type brokers --entity-default)
override=DYNAMIC_DEFAULT_BROKER_CONFIG

settings() {
  local now verdict=ok
  describe
  kafka_offer at_least message.max.bytes 1048576
  kafka_offer exactly unclean.leader.election.enable false
  kafka_offer at_least num.replica.fetchers 2
  if now=$(read_kafka auto.create.topics.enable); then
    [[ $now == false ]] || verdict=differs
    report auto.create.topics.enable "$now" 'false, in server.properties' "$verdict"
  else
    absent auto.create.topics.enable 'false, in server.properties'
  fi
}

run_knob "$@"
