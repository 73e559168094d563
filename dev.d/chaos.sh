# `./dev chaos`: faults for longer than a test run has time for, and a long outage of Kafka under a
# constant rate.

chaos_help() {
  cat <<'TEXT'
Usage: ./dev chaos [--minutes N] [--seed S]
       ./dev chaos kafka-outage [--minutes N] [--rate EVENTS_PER_S] [--data DIR]

  (no word)      breaks the whole production path at random, on servers of its own, and checks after
                 every 20 s that each acknowledged event is there once. Default: 5 minutes. The seed is
                 printed; --seed repeats the faults of a run
  kafka-outage   starts ./dev up --full on a folder of its own (DIR, or a temporary one), sends a
                 constant rate (default 200000) and stops the broker for N minutes (default 10); then
                 waits until the backlog is gone. Prints failed requests, the backlog, the drain rate
                 as a multiple of the arrival rate, and what --verify of the load generator found

Exit code: 0 when nothing failed, was lost or doubled, else 1.
TEXT
}

chaos() {
  local minutes='' seed='' rate=200000 kind=random
  data=
  while (($#)); do
    case $1 in
      kafka-outage) kind=outage; shift ;;
      --minutes) minutes=$(flag_value "$@"); shift 2 ;;
      --seed) seed=$(flag_value "$@"); shift 2 ;;
      --rate) rate=$(flag_value "$@"); shift 2 ;;
      --data) data=$(flag_value "$@"); shift 2 ;;
      -h | --help) chaos_help; exit 0 ;;
      *) refuse "chaos: unknown argument '$1'" ;;
    esac
  done
  [[ $minutes =~ ^[0-9]{0,4}$ && $minutes != 0 ]] || refuse "--minutes is '$minutes'; it must be a number from 1 to 9999"
  [[ $seed =~ ^[0-9]{0,19}$ ]] || refuse "--seed is '$seed'; it must be a number"
  [[ $rate =~ ^[0-9]{3,8}$ ]] || refuse "--rate is '$rate'; it must be a number of at least 100"
  trap 'end_attended; exit 143' TERM
  trap 'end_attended; exit 130' INT
  trap 'end_attended; exit 129' HUP
  case $kind in
    random) random_chaos "${minutes:-5}" "$seed" ;;
    outage) kafka_outage "${minutes:-10}" "$rate" ;;
  esac
}

random_chaos() {
  local seconds=$(($1 * 60))
  prepare_tools
  prepare_libchdb
  prepare_server_tools
  prepare_kafka
  export UNMOGROWP_LIBCHDB=$libchdb UNMOGROWP_KAFKA_JARS=$kafka_jars UNMOGROWP_CHAOS_SECONDS=$seconds
  [[ -z $2 ]] || export UNMOGROWP_CHAOS_SEED=$2
  unset UNMOGROWP_BIN_DIR UNMOGROWP_PORTS UNMOGROWP_CLICKHOUSE_URL UNMOGROWP_REDIS_URL
  say "building"
  attend env -C "$root" cargo build --quiet --locked --profile ci --workspace --bins || fail "the build failed"
  attend $((seconds * 2 + 1200)) env -C "$root" \
    cargo test --quiet --locked --profile ci -p tests --test chaos -- --nocapture || exit 1
}

readonly outage_batch=100
readonly direct_after_ms=86400000
# Load before the broker stops, so that all of the path runs.
readonly outage_lead_s=10

kafka_outage() {
  local minutes=$1 rate=$2 up_pid code=0 own_folder='' name
  if [[ -z $data ]]; then
    data=${TMPDIR:-/tmp}/unmogrowp-outage-$$
    own_folder=1
  fi
  mkdir -p "$data"
  cd "$data"
  data=$PWD
  prepare_binaries
  # All of it waits for Kafka: what is inserted directly is no backlog.
  UNMOGROWP_ENGINE__KAFKA__DIRECT_INSERT_AFTER_MS=$direct_after_ms UNMOGROWP_PORTS=0 UNMOGROWP_BIN_DIR=$binaries \
    "$root/dev" up --full --data "$data" >"$data/up.log" 2>&1 &
  up_pid=$!
  attended=$up_pid
  until [[ -s $data/endpoints.json ]]; do
    kill -0 "$up_pid" 2>/dev/null || { tail -n 20 "$data/up.log" >&2; fail "./dev up --full ended"; }
    sleep 0.2
  done
  local admin broker
  json_text "$data/endpoints.json" admin
  admin=$reply
  find_broker
  broker=$reply
  [[ -n $broker ]] || fail "Kafka's process is not among the parts"

  local load_s=$((minutes * 60 + outage_lead_s * 2)) load_pid
  say "sending $rate events/s for $load_s s; Kafka is away from second $outage_lead_s on, for $minutes min"
  "$binaries/unmogrowp-loadgen" --endpoints "$data/endpoints.json" --batch "$outage_batch" --connections 32 \
    --rate $((rate / outage_batch)) --duration "$load_s" --json "$data/load.json" --verify \
    --verify-wait 120 --verify-users-max 300 </dev/null >"$data/load.log" 2>&1 &
  load_pid=$!
  sleep "$outage_lead_s"
  # A stopped process would end the run of ./dev up: its parts are expected to live.
  kill -STOP "$broker"
  sleep $((minutes * 60))
  engine_metric "$admin" unmogrowp_journal_backlog_bytes
  local backlog_bytes=$reply began_us=${EPOCHREALTIME//[!0-9]/}
  kill -CONT "$broker"
  say "Kafka is back; backlog $((backlog_bytes >> 20)) MiB"
  local backlog_after_load='' drained_us=''
  while [[ -z $drained_us ]]; do
    engine_metric "$admin" unmogrowp_journal_backlog_bytes
    ((reply > 16 << 20)) || drained_us=$((${EPOCHREALTIME//[!0-9]/} - began_us))
    ((${EPOCHREALTIME//[!0-9]/} < began_us + minutes * 240000000 + 600000000)) || fail "the backlog did not drain: $reply bytes are left"
    sleep 0.2
  done
  # What came in meanwhile was drained, too.
  local outage_ms=$((minutes * 60000)) drained_ms=$((drained_us / 1000))
  local during_ms=$((drained_ms < outage_lead_s * 1000 ? drained_ms : outage_lead_s * 1000))
  local hundredths=$(((outage_ms + during_ms) * 100 / (drained_ms + 1)))
  wait "$load_pid" || code=$?
  tail -n 25 "$data/load.log"
  json_number "$data/load.json" errors
  printf 'failed requests   %s\n' "$reply"
  printf 'backlog           %s MiB after %s min without Kafka\n' "$((backlog_bytes >> 20))" "$minutes"
  printf 'drained within    %s.%03d s: %s.%02d times the arrival rate\n' \
    $((drained_ms / 1000)) $((drained_ms % 1000)) $((hundredths / 100)) $((hundredths % 100))
  for name in missing doubled; do
    json_number "$data/load.json" "$name"
    printf '%-17s %s\n' "$name" "$reply"
  done
  end_attended_up
  [[ -z $own_folder || $code != 0 ]] || rm -rf "$data"
  ((code == 0)) || fail "the load generator ended with $code; everything is in $data"
}

end_attended_up() {
  kill -TERM "$attended" 2>/dev/null || true
  wait "$attended" || true
  attended=
}

# The pid of this run's Kafka, by its folder in the command line.
find_broker() {
  local file
  local -a words
  reply=
  for file in /proc/[0-9]*/cmdline; do
    { mapfile -d '' -t words <"$file"; } 2>/dev/null || continue
    [[ " ${words[*]} " != *" kafka.Kafka $data/kafka/"* ]] || reply=${file//[!0-9]/}
  done
}

# A whole number under KEY in a JSON file of ours; the first of that name.
json_number() {
  local content='' pattern='"'$2'"[[:space:]]*:[[:space:]]*([0-9]+)'
  read -r -d '' content <"$1" || true
  reply='?'
  [[ ! $content =~ $pattern ]] || reply=${BASH_REMATCH[1]}
}

# The sum of a metric over its labels, without its fraction.
engine_metric() {
  curl -sS --max-time 10 "$1/metrics" | awk -v name="$2" '
    { split($1, series, "{") } series[1] == name { sum += $NF } END { printf "%.0f\n", sum }' >"$data/metric"
  read -r reply <"$data/metric"
}
