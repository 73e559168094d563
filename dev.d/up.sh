# `./dev up`: the whole system on one machine.
#
# Order. What is waited for comes first: Kafka, Redis and ClickHouse, then api, consumer and engine.
# dev.d/parts.sh holds them together and stops them.

up_help() {
  cat <<'TEXT'
Usage: ./dev up [FLAGS]

Fetches what is missing, builds, and starts embedded ClickHouse, engine and api. Prints each address,
a demo app_id and key, and a curl to paste. Ctrl-C or SIGTERM stops all of it.

  --data DIR            where everything is kept (default ./data of the checkout; made if missing)
  --host ADDR           address that ingest and api listen on (default 127.0.0.1); ClickHouse and the
                        admin ports stay on 127.0.0.1
  --ingest-port N       default 8080; 0 takes a free one, for every port
  --api-port N          default 8081
  --admin-port N        default 9090
  --clickhouse-port N   default 8123
  --driver NAME         the engine's way to the network: auto (default), uring, epoll or glommio

The way through Kafka, with a consumer:
  --full                starts Apache Kafka and Redis, too: the whole production path
  --kafka HOST:PORT     takes the Kafka that runs there; also a list, with commas
  --redis HOST:PORT     hot counters in the Redis that runs there
  --kafka-port N        of --full, default 9092
  --redis-port N        of --full, default 6380
  --consumer-port N     the consumer's admin port, default 9091

UNMOGROWP_PORTS=0 makes 0 the default of all. Once ready, DIR/endpoints.json says where everything
is; it is removed at the stop. Logs are in DIR/logs/.
Exit code: 0 stopped when asked to (128 + signal if a part had to be killed), 1 could not start,
2 wrong flags, 3 a part ended by itself and all were stopped.
TEXT
}

full=

up() {
  answer_interrupts up "$@"
  local host=127.0.0.1 driver=auto
  local -A port=([ingest]=8080 [api]=8081 [admin]=9090 [clickhouse]=8123 [consumer]=9091 [kafka]=9092 [redis]=6380)
  take_ports_default
  data=$root/data
  while (($#)); do
    case $1 in
      --data) data=$(flag_value "$@"); shift 2 ;;
      --host) host=$(flag_value "$@"); shift 2 ;;
      --driver) driver=$(flag_value "$@"); shift 2 ;;
      --full) full=1; shift ;;
      --kafka) kafka_address=$(flag_value "$@"); shift 2 ;;
      --redis) redis_url=redis://$(flag_value "$@"); shift 2 ;;
      --ingest-port | --api-port | --admin-port | --clickhouse-port | --consumer-port | --kafka-port | --redis-port)
        local name=${1#--}
        port[${name%-port}]=$(flag_value "$@")
        shift 2
        ;;
      -h | --help) up_help; exit 0 ;;
      *) refuse "up: unknown argument '$1'" ;;
    esac
  done
  check_ports
  case $driver in auto | uring | epoll | glommio) ;; *) refuse "--driver is '$driver'; it must be auto, uring, epoll or glommio" ;; esac
  local address='^(\[[0-9a-fA-F:.]+\]|[^],:[:space:]"\\]+):[0-9]{1,5}$' one
  for one in ${kafka_address//,/ } ${redis_url#redis://}; do
    [[ $one =~ $address ]] || refuse "'$one' is no HOST:PORT"
  done
  [[ -z $full || -z $kafka_address$redis_url ]] || refuse "--full starts a Kafka and a Redis of its own"
  [[ $host != *:* || $host == \[* ]] || host="[$host]"

  hold_data './dev up' endpoints.json
  prepare_binaries
  prepare_libchdb
  if [[ -n $full ]]; then
    prepare_server_tools
    prepare_kafka
  fi
  umask 077
  start_all
  write_endpoints
  tell_endpoints
  watch_parts
}

start_all() {
  local password
  if [[ ! -s $data/clickhouse.password ]]; then
    od -An -v -tx1 -N24 /dev/urandom | tr -d ' \n' >"$data/clickhouse.password.new"
    mv "$data/clickhouse.password.new" "$data/clickhouse.password"
  fi
  read -r password <"$data/clickhouse.password" || [[ -n $password ]]
  local keys=$data/keys.json store=$data/apps.sqlite
  local -a api_flags=() engine_flags=()

  [[ -z $full ]] || start_servers
  UNMOGROWP_CLICKHOUSE_PASSWORD=$password start_part clickhouse unmogrowp-clickhouse \
    --data "$data/clickhouse" --listen "127.0.0.1:${port[clickhouse]}" --lib "$libchdb" --user unmogrowp

  # The demo app needs no ClickHouse; the engine finds its key at its first look.
  attend "$binaries/unmogrowp-api" demo --store "$store" --keys-snapshot "$keys" --out "$data/demo.json" \
    2>"$data/logs/demo.log" >/dev/null || { show_log demo; fail "the demo app could not be made"; }

  wait_ready clickhouse
  # Its many threads, and those that they make later, get what the others leave of the cores.
  chrt --idle --all-tasks --pid 0 "${part_pid[clickhouse]}" || true
  json_text "$data/ready-clickhouse.json" clickhouse
  clickhouse_url=${reply/:\/\//:\/\/unmogrowp:$password@}
  export UNMOGROWP_CLICKHOUSE_URL=$clickhouse_url
  [[ -z $full ]] || wait_servers

  [[ -z $redis_url ]] || api_flags=(--redis "$redis_url")
  start_part api unmogrowp-api serve --listen "$host:${port[api]}" --database "$database" \
    --store "$store" --keys-snapshot "$keys" "${api_flags[@]}"
  [[ -z $kafka_address ]] || engine_flags=(--set "kafka.brokers=$kafka_address")
  start_part engine unmogrowp-engine run --listen "$host:${port[ingest]}" \
    --admin-listen "127.0.0.1:${port[admin]}" --journal-dir "$data/journal" --keys-snapshot "$keys" \
    --driver "$driver" --set "server.nice=$background_niceness" "${engine_flags[@]}"
  wait_ready api
  if [[ -n $kafka_address ]]; then
    # The api has made the table by now.
    start_part consumer unmogrowp-consumer run --brokers "$kafka_address" --topic events --group unmogrowp \
      --database "$database" --admin-listen "127.0.0.1:${port[consumer]}"
    renice -n "$background_niceness" -p "${part_pid[consumer]}" >/dev/null || true
  fi
  wait_ready engine
  [[ -z $kafka_address ]] || wait_ready consumer
}

readonly database=unmogrowp
# Of forwarder and consumer: what takes events onwards shares the cores with the shards, and gives way to them.
readonly background_niceness=10

write_endpoints() {
  local part key
  consumer=
  for part in engine:ingest engine:admin api:api consumer:admin; do
    key=${part#*:} part=${part%%:*}
    [[ -n ${part_pid[$part]-} ]] || continue
    json_text "$data/ready-$part.json" "$key"
    [[ $part != consumer ]] || key=consumer
    # An address that means "all of them" is reached over loopback.
    reply=${reply/:\/\/0.0.0.0:/:\/\/127.0.0.1:}
    printf -v "$key" '%s' "${reply/:\/\/[[]::]:/:\/\/[::1]:}"
  done
  for key in app_id api_key; do
    json_text "$data/demo.json" "$key"
    printf -v "$key" '%s' "$reply"
  done
  local value more=
  for value in ingest admin api app_id api_key clickhouse_url ${kafka_address:+consumer}; do
    [[ -n ${!value} ]] || fail "$value is not in the ready files: see $data"
  done
  [[ -z $kafka_address ]] || more+=',"kafka":"'$kafka_address'","consumer":"'$consumer'"'
  [[ -z $redis_url ]] || more+=',"redis":"'$redis_url'"'
  printf '{"ingest":"%s","api":"%s","admin":"%s","clickhouse":"%s","database":"%s","app_id":"%s","api_key":"%s"%s}\n' \
    "$ingest" "$api" "$admin" "$clickhouse_url" "$database" "$app_id" "$api_key" "$more" >"$data/endpoints.json.new"
  mv "$data/endpoints.json.new" "$data/endpoints.json"
}

tell_endpoints() {
  local today now event_id
  TZ=UTC0 printf -v today '%(%F)T' -1
  TZ=UTC0 printf -v now '%(%FT%TZ)T' -1
  read -r event_id </proc/sys/kernel/random/uuid
  local more=
  [[ -z $kafka_address ]] || more+="
  kafka       $kafka_address
  consumer    $consumer (/healthz /readyz /metrics /version)"
  [[ -z $redis_url ]] || more+="
  redis       $redis_url"
  cat <<TEXT || true
ready.

  ingest      $ingest
  api         $api
  admin       $admin (/healthz /readyz /metrics /version)
  clickhouse  ${clickhouse_url/unmogrowp:*@/} (user unmogrowp, password in $data/clickhouse.password)$more
  app_id      $app_id
  api_key     $api_key

Send an event:
  curl -sS $ingest/api/v1/events -H 'X-API-Key: $api_key' -H 'Content-Type: application/json' -d '{"app_id":"$app_id","events":[{"event_id":"$event_id","event_name":"signed_up","user_id":"user-1","timestamp":"$now","properties":{"plan":"free"}}]}'

Ask for the daily active users:
  curl -sS '$api/api/v1/analytics/dau?app_id=$app_id&start_date=$today&end_date=$today' -H 'X-API-Key: $api_key'

Ctrl-C stops everything.
TEXT
}
