# The long-running processes of `./dev up` and `./dev servers up`, called parts: held together by one
# folder, in this session and process group, watched, and stopped in an order.
#
# Ctrl-C reaches the whole foreground group at once, which would end the parts in any order: they are
# started with SIGINT, SIGQUIT and SIGHUP blocked or ignored, and only this script answers those.
#
# Holding DIR. The lock on DIR/lock is inherited by every part, so it is free only when the last part
# is gone. When this script itself is killed, the kernel sends every part SIGTERM (--pdeathsig), and
# the next start on DIR waits for them.

# How long a part may take to be ready, in seconds.
declare -rA ready_within_s=([clickhouse]=120 [api]=60 [engine]=120 [consumer]=60 [kafka]=90 [redis]=20)
# The order of the stop, and seconds since its begin after which a part is killed: what one part does
# not use is there for those after it, and all of it is below 30. The engine hands on what it holds,
# the consumer what it has fetched.
readonly stop_order='engine consumer api clickhouse redis kafka'
declare -rA killed_after_s=([engine]=13 [consumer]=18 [api]=19 [clickhouse]=24 [redis]=25 [kafka]=28)
readonly leftover_within_s=30
# A log longer than this is set aside at a start, once: a part's logs take at most twice what one run writes.
readonly log_kib_kept=4096

declare -A part_pid=()
data=
# What runs on `data`, as the user calls it, and the file that tells where everything is while it does.
held_by=
told_in=
killed_a_part=

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

# Makes DIR this script's own until it and its parts are gone; every signal ends in a stop of all parts.
hold_data() {
  held_by=$1
  mkdir -p "$data" || fail "$data can not be made"
  data=$(cd "$data" && pwd -P)
  told_in=$data/$2
  exec {data_lock}<>"$data/lock" || fail "$data can not be written to"
  if ! flock -n "$data_lock"; then
    local holder=
    read -r holder <"$data/lock" || true
    # The number may belong to another process by now: only one that has the lock open holds it.
    if [[ -n $holder ]] && has_open "$holder" "$data/lock"; then
      fail "$data is held by another $held_by, pid $holder; stop that one, or name another folder with --data"
    fi
    say "the parts of a $held_by that was killed are still ending: waiting for them"
    flock -w "$leftover_within_s" "$data_lock" || fail "$data is still held by: $(lock_holders)"
  fi
  echo $$ >"$data/lock"
  rm -f "$told_in" "$data"/ready-*.json
  mkdir -p "$data/logs"
  trap 'stop_on_signal TERM 15' TERM
  trap 'stop_on_signal INT 2' INT
  trap 'stop_on_signal HUP 1' HUP
  trap 'stop_on_signal QUIT 3' QUIT
  trap '' PIPE
  trap stop_all EXIT
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

# Starts one of our own binaries, which tells in a ready file when it is ready and where.
start_part() {
  local name=$1 binary=$2
  shift 2
  [[ -x $binaries/$binary ]] || fail "$binaries/$binary is not there"
  start_process "$name" --block-signal=INT,QUIT,HUP "$binaries/$binary" "$@" --ready-file "$data/ready-$name.json"
}

# Starts part NAME with the way that env keeps it from the terminal's signals, its output in a log.
start_process() {
  local name=$1 signals=$2 log=$data/logs/$1.log
  shift 2
  [[ ! -f $log ]] || find "$log" -size "+${log_kib_kept}k" -exec mv {} {}.1 \;
  TZ=UTC0 printf -- "--- started by $held_by at %(%FT%TZ)T\n" -1 >>"$log"
  env "$signals" NO_COLOR=1 setpriv --pdeathsig TERM -- "$@" </dev/null >>"$log" 2>&1 &
  part_pid[$name]=$!
}

wait_ready() { wait_until "$1" has_ready_file "$1"; }

has_ready_file() { [[ -s $data/ready-$1.json ]]; }

# Waits for part NAME until the command after it succeeds.
wait_until() {
  local name=$1 told='' began_us
  shift
  began_us=${EPOCHREALTIME//[!0-9]/}
  until "$@"; do
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
  local began_us=${EPOCHREALTIME//[!0-9]/}
  rm -f "$told_in"
  for name in $stop_order; do
    [[ -z ${part_pid[$name]-} ]] || stop_part "$name"
  done
  rm -f "$data"/ready-*.json
}

stop_part() {
  local name=$1 pid=${part_pid[$1]} until_us
  kill -TERM "$pid" 2>/dev/null || true
  until_us=$((began_us + killed_after_s[$name] * 1000000))
  while kill -0 "$pid" 2>/dev/null; do
    if ((${EPOCHREALTIME//[!0-9]/} > until_us)); then
      say "$name did not end within ${killed_after_s[$name]} s of the stop's begin: killed"
      killed_a_part=1
      kill -KILL "$pid" 2>/dev/null || true
      break
    fi
    sleep 0.03 || true
  done
  wait "$pid" 2>/dev/null || true
}
