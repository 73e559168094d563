# `./dev bench`: every figure that the project claims, each by one command. bench/README.md explains them.

# In this order by `./dev bench` without a name; a bench that is not in it runs after them.
readonly bench_order='head json journal block null ingest drivers kafka e2e peers'
readonly criterion_benches='head json journal block'
# Those that start Kafka.
readonly kafka_benches='kafka peers'

bench_help() {
  cat <<'TEXT'
Usage: ./dev bench [NAME] [--record] [FLAGS]
       ./dev bench list
       ./dev bench compare A B
       ./dev bench table [--write | --check]

Runs all benches, or the one called NAME, and prints each figure as: name  median (least–most) unit.
Nothing else should run on the machine. `./dev bench list` says what there is and how long it takes.

  --record       append the figures, with commit, kernel and processor, to bench/history.jsonl
  --rounds N     default 5, fewer only to try it
  --seconds N    of load for each run, default 6; with one of criterion's benches of each benchmark, default 2

Of criterion's benches (head, json, journal, block) one run is made, with criterion's own report; with any
of these flags they run in rounds, too. When several run, one that fails does not keep the others from it.

  compare A B    figures side by side; A and B are commits, HEAD, `last` (the commit recorded last), or
                 line numbers of bench/history.jsonl
  table          the newest figures with what is asked of them; --write puts them into bench/README.md,
                 --check fails where they are not there

Exit code: 0 when it ran to its end, 1 when something failed (an event missing, an error in an answer),
2 wrong arguments.
TEXT
}

bench() {
  local name='' word value record=''
  local -a flags=()
  case ${1-} in
    -h | --help) bench_help; exit 0 ;;
    list) (($# == 1)) || refuse "bench list takes no arguments"; bench_list; exit 0 ;;
    compare | table) bench_program bench-history "$@" ;;
  esac
  if (($#)) && [[ $1 != -* ]]; then
    name=$1
    shift
    # A program of bench/src/bin/, with flags of its own.
    [[ -f $root/bench/benches/$name.rs || ! -f $root/bench/src/bin/$name.rs ]] || bench_program "$name" "$@"
    [[ -f $root/bench/benches/$name.rs ]] || refuse "bench: there is no '$name'; there are: $(bench_names)"
  fi
  while (($#)); do
    word=$1
    case $word in
      --record) record=--record; shift ;;
      --rounds | --seconds)
        value=$(flag_value "$@")
        flags+=("$word" "$value")
        shift 2
        ;;
      # A bench's own flags, which it checks itself.
      -*) [[ -n $name ]] || refuse "bench: unknown flag '$word'"; flags+=("$word"); shift ;;
      *) refuse "bench: one NAME at most, got '$word' too" ;;
    esac
  done
  local -a names=("$name")
  [[ -n $name ]] || read -ra names <<<"$(bench_names)"
  bench_prepare "${names[@]}"
  cd "$root"
  [[ -z $record ]] || flags+=("$record")
  local one
  local -a criterion=() failed=()
  for one in "${names[@]}"; do
    if [[ " $criterion_benches " == *" $one "* ]] && ((${#flags[@]})); then
      criterion+=("$one")
    else
      bench_run bench --bench "$one" -- "${flags[@]}" || failed+=("$one")
    fi
  done
  if ((${#criterion[@]})); then
    bench_run run --release --bin bench-history -- criterion "${criterion[@]}" "${flags[@]}" || failed+=("${criterion[@]}")
  fi
  ((${#failed[@]} == 0)) || fail "failed: ${failed[*]}"
}

# Wrong flags of a bench are the caller's fault, and end all of it.
bench_run() {
  local code=0
  cargo "$1" --locked -p bench "${@:2}" || code=$?
  ((code != 2)) || exit 2
  return "$code"
}

# All of them on one line, in the order in which they run.
bench_names() {
  local one file
  local all=''
  for one in $bench_order; do
    [[ ! -f $root/bench/benches/$one.rs ]] || all+=" $one"
  done
  for file in "$root"/bench/benches/*.rs; do
    one=${file##*/}
    one=${one%.rs}
    [[ " $all " == *" $one "* ]] || all+=" $one"
  done
  printf '%s\n' "${all# }"
}

# Each with the first sentence of its file.
bench_list() {
  local one
  local -a names
  read -ra names <<<"$(bench_names)"
  for one in "${names[@]}"; do
    printf '%-10s %s\n' "$one" "$(awk '!/^\/\/! ./ { exit } { sub(/^\/\/! /, ""); printf "%s ", $0 }' \
      "$root/bench/benches/$one.rs")"
  done
}

# Replaces this script by a program of bench/src/bin/.
bench_program() {
  local program=$1
  shift
  prepare_tools
  cd "$root"
  exec cargo run --release --quiet --locked -p bench --bin "$program" -- "$@"
}

bench_prepare() {
  local one
  prepare_tools
  [[ " $* " != *" peers "* ]] || prepare_peers
  for one in "$@"; do
    [[ " $criterion_benches " != *" $one "* ]] || continue
    prepare_binaries
    prepare_libchdb
    export UNMOGROWP_LIBCHDB=$libchdb UNMOGROWP_BIN_DIR=$binaries
    break
  done
  for one in "$@"; do
    [[ " $kafka_benches " == *" $one "* ]] || continue
    prepare_server_tools
    prepare_kafka
    export UNMOGROWP_KAFKA_JARS=$kafka_jars
    break
  done
}
