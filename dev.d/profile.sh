# `./dev profile`: where the time of one process goes while the whole system is under load.
#
# perf samples the release binary as it is: stacks are walked by the unwind tables (DWARF), so nothing is
# built for it with frame pointers. cpu-clock, because many machines have no hardware counters to offer.

profile_help() {
  cat <<'TEXT'
Usage: ./dev profile [--seconds N] [--load FLAGS] [-o FILE.svg] [engine|consumer|api|loadgen]

Starts the system on a folder of its own (through Kafka for `consumer`), puts load on it, samples one
process (default: engine) and writes a flame graph. Prints the 25 functions that took the most, CPU time
a request, and system calls a request.

  --seconds N    sample for so long, default 10
  --load FLAGS   flags of the load generator, one text; default '--batch 100 --connections 64'
  -o FILE.svg    default ./profile-PROCESS.svg; for any browser, loads nothing from elsewhere

  ./dev profile --load '--batch 1 --pipeline 16' -o pipelined.svg
Exit code: 0 when the picture was written, else 1.
TEXT
}

# Before the first sample; and how long system calls are counted, after the last one, as that slows.
readonly profile_warm_up_s=3
readonly profile_trace_s=3
readonly profile_hz=999

profile() {
  local seconds=10 flags='--batch 100 --connections 64' process=engine out='' up_flags=''
  while (($#)); do
    case $1 in
      --seconds) seconds=$(flag_value "$@"); shift 2 ;;
      --load) flags=$(flag_value "$@"); shift 2 ;;
      -o) out=$(flag_value "$@"); shift 2 ;;
      -h | --help) profile_help; exit 0 ;;
      engine | consumer | api | loadgen) process=$1; shift ;;
      *) refuse "profile: unknown argument '$1'" ;;
    esac
  done
  [[ $seconds =~ ^[1-9][0-9]{0,3}$ ]] || refuse "--seconds is '$seconds'; it must be a number from 1 to 9999"
  out=${out:-profile-$process.svg}
  [[ $out == /* ]] || out=$here/$out
  [[ $process != consumer ]] || up_flags=--full
  install_missing perf:linux-perf curl:curl
  prepare_binaries
  prepare_flame
  data=${TMPDIR:-/tmp}/unmogrowp-profile-$$
  mkdir -p "$data"
  # Not local: the trap runs when this function has returned.
  up_pid='' load_pid='' ask_pid=''
  trap 'profile_end' EXIT
  trap 'exit 143' TERM
  trap 'exit 130' INT
  # shellcheck disable=SC2086
  UNMOGROWP_PORTS=0 UNMOGROWP_BIN_DIR=$binaries "$root/dev" up $up_flags --data "$data" >"$data/up.log" 2>&1 &
  up_pid=$!
  until [[ -s $data/endpoints.json ]]; do
    kill -0 "$up_pid" 2>/dev/null || { tail -n 20 "$data/up.log" >&2; fail "./dev up ended"; }
    sleep 0.2
  done
  local admin
  json_text "$data/endpoints.json" admin
  admin=$reply
  # shellcheck disable=SC2086
  "$binaries/unmogrowp-loadgen" --endpoints "$data/endpoints.json" $flags --json "$data/load.json" \
    --duration $((seconds + profile_warm_up_s + profile_trace_s + 4)) </dev/null >"$data/load.log" 2>&1 &
  load_pid=$!
  if [[ $process == api ]]; then
    ask_without_end &
    ask_pid=$!
  fi
  sleep "$profile_warm_up_s"
  local pid=$load_pid
  [[ $process == loadgen ]] || find_part "$process"
  [[ $process == loadgen ]] || pid=$reply
  [[ -n $pid ]] && kill -0 "$pid" 2>/dev/null || { tail -n 20 "$data/load.log" >&2; fail "$process does not run"; }
  sample_process "$process" "$pid" "$seconds" "$admin" "$out"
  count_calls "$pid" "$admin"
  say "picture: $out"
}

# Beside the binaries that users run, of which it is none.
prepare_flame() {
  [[ -n ${UNMOGROWP_BIN_DIR-} ]] ||
    attend env -C "$root" cargo build --release --locked -p bench --bin unmogrowp-flame --quiet ||
    fail "the build of unmogrowp-flame failed"
  [[ -x $binaries/unmogrowp-flame ]] || fail "$binaries/unmogrowp-flame is not there"
}

sample_process() {
  local process=$1 pid=$2 seconds=$3 admin=$4 out=$5 before
  engine_metric "$admin" unmogrowp_requests_total
  before=$reply
  perf record -q -e cpu-clock -F "$profile_hz" --call-graph dwarf,8192 -p "$pid" -o "$data/perf.data" -- \
    sleep "$seconds" >"$data/perf.log" 2>&1 || { cat "$data/perf.log" >&2; fail "perf could not sample $process"; }
  engine_metric "$admin" unmogrowp_requests_total
  local requests=$((reply - before))
  printf '%s: %s requests in %s s\n' "$process" "$requests" "$seconds"
  perf script --no-inline -F comm,tid,ip,sym,dso -i "$data/perf.data" 2>>"$data/perf.log" |
    "$binaries/unmogrowp-flame" -o "$out" --title "$process, $seconds s" --requests "$requests" ||
    { tail -n 5 "$data/perf.log" >&2; fail "the samples could not be drawn"; }
}

# By tracepoints, which cost a microsecond a call and need the rights of root.
count_calls() {
  local pid=$1 admin=$2 before
  engine_metric "$admin" unmogrowp_requests_total
  before=$reply
  if ! perf trace -s -p "$pid" -o "$data/calls" -- sleep "$profile_trace_s" >"$data/perf.log" 2>&1; then
    say "system calls are not counted: perf trace needs root and tracefs"
    return
  fi
  engine_metric "$admin" unmogrowp_requests_total
  printf '\nsystem calls, of %s requests:\n' "$((reply - before))"
  awk -v requests=$((reply - before)) '
    # One line a call and thread; older versions of perf have no column of errors.
    NF >= 7 && $2 ~ /^[0-9]+$/ && $1 ~ /^[a-z_0-9]+$/ { calls[$1] += $2; all += $2 }
    END {
      for (name in calls) printf "%12.4f  %s\n", calls[name] / (requests ? requests : 1), name | "sort -rn | head -n 12"
      close("sort -rn | head -n 12")
      printf "%12.4f  all\n", all / (requests ? requests : 1)
    }' "$data/calls"
}

ask_without_end() {
  local api app_id api_key today
  json_text "$data/endpoints.json" api; api=$reply
  json_text "$data/endpoints.json" app_id; app_id=$reply
  json_text "$data/endpoints.json" api_key; api_key=$reply
  TZ=UTC0 printf -v today '%(%F)T' -1
  (umask 077; printf 'header = "X-API-Key: %s"\n' "$api_key" >"$data/ask.curl")
  while curl -sS -K "$data/ask.curl" -o /dev/null \
    "$api/api/v1/analytics/dau?app_id=$app_id&start_date=$today&end_date=$today" \
    "$api/api/v1/analytics/live?app_id=$app_id"; do :; done
}

# The pid of a part of this run, by its ready file in the command line.
find_part() {
  local file
  local -a words
  reply=
  for file in /proc/[0-9]*/cmdline; do
    { mapfile -d '' -t words <"$file"; } 2>/dev/null || continue
    [[ ${words[0]-} != */unmogrowp-$1 || " ${words[*]} " != *" $data/ready-$1.json "* ]] || reply=${file//[!0-9]/}
  done
}

profile_end() {
  trap '' TERM INT
  local pid
  for pid in $ask_pid $load_pid $up_pid; do
    kill -TERM "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  rm -rf "$data"
}
