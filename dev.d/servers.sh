# `./dev servers`: Apache Kafka and Redis for a person, in the foreground of a terminal, and how
# `./dev up --full` starts the two.

servers_help() {
  cat <<'TEXT'
Usage: ./dev servers up [FLAGS]
       ./dev servers down [--data DIR]

  up    fetches what is missing and runs Apache Kafka (one node, KRaft) and Redis on 127.0.0.1;
        prints their addresses. Ctrl-C or SIGTERM stops both.
  down  stops those that an `up` runs elsewhere on DIR, and waits until they are gone

  --data DIR        where Kafka keeps its data (default ./data/servers of the checkout; made if missing)
  --kafka-port N    default 9092; 0 takes a free one
  --redis-port N    default 6380 (6379 is where Debian's own service listens); 0 takes a free one

UNMOGROWP_PORTS=0 makes 0 the default of both. Once ready, DIR/servers.json says where they are; it is
removed at the stop. Logs are in DIR/logs/. UNMOGROWP_KAFKA_HEAP_MIB sets Kafka's heap (default 512).
Exit code as of ./dev up.
TEXT
}

servers() {
  case ${1-} in
    up) servers_up "${@:2}" ;;
    down) servers_down "${@:2}" ;;
    -h | --help) servers_help ;;
    '') servers_help >&2; exit 2 ;;
    *) refuse "servers: unknown argument '$1'" ;;
  esac
}

servers_up() {
  answer_interrupts servers up "$@"
  local -A port=([kafka]=9092 [redis]=6380)
  take_ports_default
  data=$root/data/servers
  while (($#)); do
    case $1 in
      --data) data=$(flag_value "$@"); shift 2 ;;
      --kafka-port | --redis-port)
        local name=${1#--}
        port[${name%-port}]=$(flag_value "$@")
        shift 2
        ;;
      -h | --help) servers_help; exit 0 ;;
      *) refuse "servers up: unknown argument '$1'" ;;
    esac
  done
  check_ports
  umask 077
  hold_data './dev servers up' servers.json
  prepare_server_tools
  prepare_kafka
  start_servers
  wait_servers
  printf '{"kafka":"%s","redis":"%s"}\n' "$kafka_address" "$redis_url" >"$told_in.new"
  mv "$told_in.new" "$told_in"
  cat <<TEXT || true
ready.

  kafka  $kafka_address
  redis  $redis_url

The system on them, in another terminal:
  ./dev up --kafka $kafka_address --redis ${redis_url#redis://}

Ctrl-C stops both.
TEXT
  watch_parts
}

servers_down() {
  local holder='' until_us
  data=$root/data/servers
  while (($#)); do
    case $1 in
      --data) data=$(flag_value "$@"); shift 2 ;;
      -h | --help) servers_help; exit 0 ;;
      *) refuse "servers down: unknown argument '$1'" ;;
    esac
  done
  [[ ! -f $data/lock ]] || read -r holder <"$data/lock" || true
  if [[ -z $holder ]] || ! has_open "$holder" "$data/lock"; then
    say "no ./dev servers up runs on $data"
    return 0
  fi
  # A ./dev up on the same folder is not this command's to stop.
  [[ -f $data/servers.json ]] || ! [[ -f $data/endpoints.json ]] ||
    fail "$data is held by a ./dev up, pid $holder; it is stopped by its Ctrl-C"
  kill -TERM "$holder" || fail "process $holder can not be stopped by this user"
  until_us=$((${EPOCHREALTIME//[!0-9]/} + leftover_within_s * 1000000))
  while has_open "$holder" "$data/lock"; do
    ((${EPOCHREALTIME//[!0-9]/} < until_us)) || fail "process $holder did not end within $leftover_within_s s"
    sleep 0.05
  done
  say "stopped"
}

take_ports_default() {
  local name
  case ${UNMOGROWP_PORTS-} in
    '') ;;
    0) for name in "${!port[@]}"; do port[$name]=0; done ;;
    *) refuse "UNMOGROWP_PORTS is '$UNMOGROWP_PORTS'; only 0 has a meaning" ;;
  esac
}

check_ports() {
  local name
  for name in "${!port[@]}"; do
    [[ ${port[$name]} =~ ^[0-9]{1,5}$ ]] && ((10#${port[$name]} <= 65535)) ||
      refuse "--$name-port is '${port[$name]}'; it must be a number from 0 to 65535"
  done
}

kafka_address=
redis_url=

# Starts both; they are ready after `wait_servers`.
start_servers() {
  free_ports 3
  local controller_port=${free[0]}
  ((port[kafka])) || port[kafka]=${free[1]}
  ((port[redis])) || port[redis]=${free[2]}
  kafka_address=127.0.0.1:${port[kafka]}
  redis_url=redis://127.0.0.1:${port[redis]}
  # Whoever answers there already would be taken for ours.
  local name
  for name in kafka redis; do
    ! is_listening "${port[$name]}" || fail "--$name-port ${port[$name]}: the address is in use"
  done
  start_redis
  start_kafka "$controller_port"
}

wait_servers() {
  wait_until redis redis_answers
  wait_until kafka is_listening "${port[kafka]}"
}

# Finds so many ports that nobody listens on, into the list `free`. A program that is told port 0 would
# find its own, but Kafka's two halves must know each other's beforehand. They are below those that
# outgoing connections use.
free_ports() {
  perl -MIO::Socket::INET -e '
    for (1 .. 1000) {
      last if @held == $ARGV[0];
      my $socket = IO::Socket::INET->new(
        Listen => 1, LocalAddr => "127.0.0.1", LocalPort => 20000 + int rand 12000);
      push @held, $socket if $socket;
    }
    print $_->sockport, "\n" for @held' "$1" >"$data/free-ports"
  mapfile -t free <"$data/free-ports"
  rm -f "$data/free-ports"
  ((${#free[@]} == $1)) || fail "no $1 free ports on 127.0.0.1"
}

is_listening() {
  local connection
  { exec {connection}<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return 1
  exec {connection}>&-
}

# Redis holds nothing that is not in ClickHouse: what it forgets is computed again.
start_redis() {
  mkdir -p "$data/redis"
  start_process redis --block-signal=INT,QUIT,HUP redis-server --port "${port[redis]}" --bind 127.0.0.1 \
    --dir "$data/redis" --save '' --appendonly no --maxmemory 128mb --maxmemory-policy allkeys-lru \
    --daemonize no --set-proc-title no
}

redis_answers() {
  local connection answer=
  { exec {connection}<>"/dev/tcp/127.0.0.1/${port[redis]}"; } 2>/dev/null || return 1
  printf 'PING\r\n' >&"$connection" && read -r -t 1 answer <&"$connection" || true
  exec {connection}>&-
  [[ $answer == +PONG* ]]
}

# Kafka's port answers only once the broker takes part in its cluster.
start_kafka() {
  local controller_port=$1 home=$data/kafka line
  mkdir -p "$home/tmp"
  while IFS= read -r line; do
    line=${line//@DATA@/$home}
    line=${line//@PORT@/${port[kafka]}}
    line=${line//@CONTROLLER_PORT@/$controller_port}
    printf '%s\n' "${line//@ADVERTISED@/$kafka_address}"
  done <"$root/dev.d/kafka.properties" >"$home/server.properties"
  local heap_mib=${UNMOGROWP_KAFKA_HEAP_MIB:-512}
  [[ $heap_mib =~ ^[0-9]+$ ]] && ((heap_mib >= 128)) ||
    refuse "UNMOGROWP_KAFKA_HEAP_MIB is '$heap_mib'; it must be a number of at least 128"
  local -a java=(java "@$root/dev.d/kafka.jvm" "-Djava.io.tmpdir=$home/tmp" "-XX:ErrorFile=$home/jvm-error.log")
  if [[ ! -f $home/log/meta.properties ]]; then
    attend "${java[@]}" -Xmx64m -cp "$kafka_jars/*" kafka.tools.StorageTool format \
      --cluster-id "$kafka_cluster" --config "$home/server.properties" >"$data/logs/kafka-format.log" 2>&1 ||
      { show_log kafka-format; fail "Kafka's folder $home could not be formatted"; }
  fi
  # The JVM answers SIGINT and SIGHUP also where they are blocked, unless they are ignored.
  start_process kafka --ignore-signal=INT,QUIT,HUP "${java[@]}" "-Xms${heap_mib}m" "-Xmx${heap_mib}m" \
    -cp "$kafka_jars/*" kafka.Kafka "$home/server.properties"
}

# One node is its own cluster; any name in this form will do.
readonly kafka_cluster=dW5tb2dyb3dwLW9uZS1ub2
