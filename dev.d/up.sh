# `./dev up`: the whole system on one machine, in this session and process group.
#
# Order. ClickHouse first, then api and engine; at the stop engine (it hands on what it holds), api,
# ClickHouse. Ctrl-C reaches the whole foreground group at once, which would end them in any order:
# the parts are started with SIGINT, SIGQUIT and SIGHUP blocked, and only this script answers them.
#
# Holding DIR. The lock on DIR/lock is inherited by every part, so it is free only when the last part
# is gone. When this script itself is killed, the kernel sends every part SIGTERM (--pdeathsig), and
# the next `./dev up` waits for them.

up_help() {
  cat <<'TEXT'
Usage: ./dev up [FLAGS]

Fetches what is missing, builds, and starts embedded ClickHouse, engine and api. Prints each address,
a demo app_id and key, and a curl to paste. Ctrl-C or SIGTERM stops all of it.

  --data DIR            where everything is kept (default ./data of the checkout; made if missing)
  --host ADDR           address that ingest and api listen on (default 127.0.0.1); ClickHouse and the
                        admin port stay on 127.0.0.1
  --ingest-port N       default 8080; 0 takes a free one, for every port
  --api-port N          default 8081
  --admin-port N        default 9090
  --clickhouse-port N   default 8123
  --driver NAME         the engine's way to the network: auto (default), uring or epoll

UNMOGROWP_PORTS=0 makes 0 the default of all four. Once ready, DIR/endpoints.json says where everything
is; it is removed at the stop. Logs are in DIR/logs/.
Exit code: 0 stopped when asked to (128 + signal if a part had to be killed), 1 could not start,
2 wrong flags, 3 a part ended by itself and all were stopped.
TEXT
}

# How long a part may take, in seconds. The three stops together stay below 30.
declare -rA ready_within_s=([clickhouse]=120 [api]=60 [engine]=120)
declare -rA stop_within_s=([engine]=14 [api]=4 [clickhouse]=9)
readonly leftover_within_s=30
# A log longer than this is set aside at a start, once: a part's logs take at most twice what one run writes.
readonly log_kib_kept=4096

declare -A part_pid=()
data=
killed_a_part=

up() {
  answer_interrupts up "$@"
  local host=127.0.0.1 driver=auto
  local -A port=([ingest]=8080 [api]=8081 [admin]=9090 [clickhouse]=8123)
  case ${UNMOGROWP_PORTS-} in
    '') ;;
    0) port=([ingest]=0 [api]=0 [admin]=0 [clickhouse]=0) ;;
    *) refuse "UNMOGROWP_PORTS is '$UNMOGROWP_PORTS'; only 0 has a meaning" ;;
  esac
  data=$root/data
  while (($#)); do
    case $1 in
      --data) data=$(flag_value "$@"); shift 2 ;;
      --host) host=$(flag_value "$@"); shift 2 ;;
      --driver) driver=$(flag_value "$@"); shift 2 ;;
      --ingest-port | --api-port | --admin-port | --clickhouse-port)
        local name=${1#--}
        port[${name%-port}]=$(flag_value "$@")
        shift 2
        ;;
      -h | --help) up_help; exit 0 ;;
      *) refuse "up: unknown argument '$1'" ;;
    esac
  done
  local name
  for name in "${!port[@]}"; do
    [[ ${port[$name]} =~ ^[0-9]{1,5}$ ]] && ((10#${port[$name]} <= 65535)) ||
      refuse "--$name-port is '${port[$name]}'; it must be a number from 0 to 65535"
  done
  case $driver in auto | uring | epoll) ;; *) refuse "--driver is '$driver'; it must be auto, uring or epoll" ;; esac
  [[ $host != *:* || $host == \[* ]] || host="[$host]"

  hold_data
  trap 'stop_on_signal TERM 15' TERM
  trap 'stop_on_signal INT 2' INT
  trap 'stop_on_signal HUP 1' HUP
  trap 'stop_on_signal QUIT 3' QUIT
  trap '' PIPE
  trap stop_all EXIT

  prepare_binaries
  prepare_libchdb
  umask 077
  start_all
  write_endpoints
  tell_endpoints
  watch_parts
}

# A shell that was started with `&` from another may have SIGINT ignored, and bash can not undo that
# for itself.
answer_interrupts() {
  local ignored
  ignored=$(sed -n 's/^SigIgn:[[:space:]]*//p' /proc/self/status)
  if ((16#$ignored & 2)) && [[ -z ${UNMOGROWP_DEV_INTERRUPTS-} ]]; then
    cd "$here"
    UNMOGROWP_DEV_INTERRUPTS=on exec env --default-signal=INT "$root/dev" "$@"
  fi
}

# Makes DIR this script's own until it and its parts are gone.
hold_data() {
  mkdir -p "$data" || fail "$data can not be made"
  data=$(cd "$data" && pwd -P)
  exec {data_lock}<>"$data/lock" || fail "$data can not be written to"
  if ! flock -n "$data_lock"; then
    local holder=
    read -r holder <"$data/lock" || true
    # The number may belong to another process by now: only one that has the lock open holds it.
    if [[ -n $holder ]] && has_open "$holder" "$data/lock"; then
      fail "$data is held by another ./dev up, pid $holder; stop that one, or name another folder with --data"
    fi
    say "the parts of a ./dev up that was killed are still ending: waiting for them"
    flock -w "$leftover_within_s" "$data_lock" || fail "$data is still held by: $(lock_holders)"
  fi
  echo $$ >"$data/lock"
  rm -f "$data"/endpoints.json "$data"/ready-*.json
  mkdir -p "$data/logs"
}

# Whether process $1 has the file $2 open; unknown counts as yes while the process lives.
has_open() {
  [[ -d /proc/$1 ]] || return 1
  [[ -r /proc/$1/fd ]] || return 0
  local fd
  for fd in "/proc/$1/fd"/*; do
    [[ ! $fd -ef $2 ]] || return 0
  done
  return 1
}

lock_holders() {
  local process pid
  for process in /proc/[0-9]*; do
    pid=${process#/proc/}
    if [[ $pid != "$$" ]] && has_open "$pid" "$data/lock" 2>/dev/null; then
      printf '%s (pid %s) ' "$(tr '\0' ' ' <"$process/cmdline" | cut -c 1-80)" "$pid"
    fi
  done
}

start_all() {
  local password
  if [[ ! -s $data/clickhouse.password ]]; then
    od -An -v -tx1 -N24 /dev/urandom | tr -d ' \n' >"$data/clickhouse.password.new"
    mv "$data/clickhouse.password.new" "$data/clickhouse.password"
  fi
  read -r password <"$data/clickhouse.password" || [[ -n $password ]]
  local keys=$data/keys.json store=$data/apps.sqlite

  UNMOGROWP_CLICKHOUSE_PASSWORD=$password start_part clickhouse unmogrowp-clickhouse \
    --data "$data/clickhouse" --listen "127.0.0.1:${port[clickhouse]}" --lib "$libchdb" --user unmogrowp \
    --nice "$background_niceness"

  # The demo app needs no ClickHouse; the engine finds its key at its first look.
  attend "$binaries/unmogrowp-api" demo --store "$store" --keys-snapshot "$keys" --out "$data/demo.json" \
    2>"$data/logs/demo.log" >/dev/null || { show_log demo; fail "the demo app could not be made"; }

  wait_ready clickhouse
  json_text "$data/ready-clickhouse.json" clickhouse
  clickhouse_url=${reply/:\/\//:\/\/unmogrowp:$password@}
  export UNMOGROWP_CLICKHOUSE_URL=$clickhouse_url

  start_part api unmogrowp-api serve --listen "$host:${port[api]}" --database "$database" \
    --store "$store" --keys-snapshot "$keys"
  start_part engine unmogrowp-engine run --listen "$host:${port[ingest]}" \
    --admin-listen "127.0.0.1:${port[admin]}" --journal-dir "$data/journal" --keys-snapshot "$keys" \
    --driver "$driver" --set "server.nice=$background_niceness"
  wait_ready api
  wait_ready engine
}

readonly database=unmogrowp
# ClickHouse and the forwarder share the cores with the shards, and give way to them.
readonly background_niceness=10

start_part() {
  local name=$1 binary=$2 log=$data/logs/$1.log
  shift 2
  [[ -x $binaries/$binary ]] || fail "$binaries/$binary is not there"
  [[ ! -f $log ]] || find "$log" -size "+${log_kib_kept}k" -exec mv {} {}.1 \;
  TZ=UTC0 printf -- '--- started by ./dev up at %(%FT%TZ)T\n' -1 >>"$log"
  env --block-signal=INT,QUIT,HUP NO_COLOR=1 setpriv --pdeathsig TERM -- "$binaries/$binary" "$@" \
    --ready-file "$data/ready-$name.json" </dev/null >>"$log" 2>&1 &
  part_pid[$name]=$!
}

wait_ready() {
  local name=$1 file=$data/ready-$1.json told='' began_us
  began_us=${EPOCHREALTIME//[!0-9]/}
  until [[ -s $file ]]; do
    if ! kill -0 "${part_pid[$name]}" 2>/dev/null; then
      show_log "$name"
      fail "$name ended before it was ready"
    fi
    local waited_s=$(((${EPOCHREALTIME//[!0-9]/} - began_us) / 1000000))
    if ((waited_s >= 2)) && [[ -z $told ]]; then
      told=1
      say "waiting for $name to be ready (at most ${ready_within_s[$name]} s; its log: $data/logs/$name.log)"
    fi
    if ((waited_s >= ready_within_s[$name])); then
      show_log "$name"
      fail "$name was not ready within ${ready_within_s[$name]} s"
    fi
    sleep 0.03
  done
}

show_log() {
  say "the last lines of $data/logs/$1.log:"
  tail -n 20 "$data/logs/$1.log" >&2 || true
}

write_endpoints() {
  local part key
  for part in engine:ingest engine:admin api:api; do
    key=${part#*:} part=${part%%:*}
    json_text "$data/ready-$part.json" "$key"
    # An address that means "all of them" is reached over loopback.
    reply=${reply/:\/\/0.0.0.0:/:\/\/127.0.0.1:}
    printf -v "$key" '%s' "${reply/:\/\/[[]::]:/:\/\/[::1]:}"
  done
  for key in app_id api_key; do
    json_text "$data/demo.json" "$key"
    printf -v "$key" '%s' "$reply"
  done
  local value
  for value in ingest admin api app_id api_key clickhouse_url; do
    [[ -n ${!value} ]] || fail "$value is not in the ready files: see $data"
  done
  printf '{"ingest":"%s","api":"%s","admin":"%s","clickhouse":"%s","database":"%s","app_id":"%s","api_key":"%s"}\n' \
    "$ingest" "$api" "$admin" "$clickhouse_url" "$database" "$app_id" "$api_key" >"$data/endpoints.json.new"
  mv "$data/endpoints.json.new" "$data/endpoints.json"
}

tell_endpoints() {
  local today now event_id
  TZ=UTC0 printf -v today '%(%F)T' -1
  TZ=UTC0 printf -v now '%(%FT%TZ)T' -1
  read -r event_id </proc/sys/kernel/random/uuid
  cat <<TEXT || true
ready.

  ingest      $ingest
  api         $api
  admin       $admin (/healthz /readyz /metrics /version)
  clickhouse  ${clickhouse_url/unmogrowp:*@/} (user unmogrowp, password in $data/clickhouse.password)
  app_id      $app_id
  api_key     $api_key

Send an event:
  curl -sS $ingest/api/v1/events -H 'X-API-Key: $api_key' -H 'Content-Type: application/json' -d '{"app_id":"$app_id","events":[{"event_id":"$event_id","event_name":"signed_up","user_id":"user-1","timestamp":"$now","properties":{"plan":"free"}}]}'

Ask for the daily active users:
  curl -sS '$api/api/v1/analytics/dau?app_id=$app_id&start_date=$today&end_date=$today' -H 'X-API-Key: $api_key'

Ctrl-C stops everything.
TEXT
}

# Looks until a part has ended, which none should. Not `wait -n`: bash forgets, for that, a child that
# ended just before it.
watch_parts() {
  local code=0 name ended='' silence
  rm -f "$data/silence"
  mkfifo "$data/silence"
  exec {silence}<>"$data/silence"
  rm -f "$data/silence"
  while [[ -z $ended ]]; do
    # A pause without a process, which a signal ends at once: nobody writes here.
    read -r -t 0.2 -u "$silence" || true
    for name in "${!part_pid[@]}"; do
      kill -0 "${part_pid[$name]}" 2>/dev/null || ended=$name
    done
  done
  # Without bash's own words on a part that was killed: ours follow.
  { wait "${part_pid[$ended]}" || code=$?; } 2>/dev/null
  say "dev: $ended ended by itself (exit code $code): stopping everything"
  show_log "$ended"
  exit 3
}

stop_on_signal() {
  trap ':' TERM INT HUP QUIT
  trap - EXIT
  say "stopping (SIG$1)"
  end_attended
  stop_all
  exit $((killed_a_part ? 128 + $2 : 0))
}

stop_all() {
  trap ':' TERM INT HUP QUIT
  local name
  rm -f "$data/endpoints.json"
  for name in engine api clickhouse; do
    [[ -z ${part_pid[$name]-} ]] || stop_part "$name"
  done
  rm -f "$data"/ready-*.json
}

stop_part() {
  local name=$1 pid=${part_pid[$1]} until_us
  kill -TERM "$pid" 2>/dev/null || true
  until_us=$((${EPOCHREALTIME//[!0-9]/} + stop_within_s[$name] * 1000000))
  while kill -0 "$pid" 2>/dev/null; do
    if ((${EPOCHREALTIME//[!0-9]/} > until_us)); then
      say "$name did not end within ${stop_within_s[$name]} s: killed"
      killed_a_part=1
      kill -KILL "$pid" 2>/dev/null || true
      break
    fi
    sleep 0.03 || true
  done
  wait "$pid" 2>/dev/null || true
}
