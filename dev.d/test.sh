# `./dev test`: everything is compiled once, then every test runs. The last line is the sum.

test_help() {
  cat <<'TEXT'
Usage: ./dev test [--long]

Installs what the tests need, checks format and lints, compiles everything once with the `ci` profile
(benches too, which are not run), runs every test and prints "N passed, M failed" last.

  --long   also the tests that take minutes (marked #[ignore]), and the engine's and the fuzz
           targets under AddressSanitizer

Exit code: 0 when all passed, else 1. One test, after a first run:
  cargo test --profile ci -p tests --test kill_9
TEXT
}

# Past these a stage is ended and the run has failed.
readonly build_within_s=2700
readonly tests_within_s=2400
readonly long_tests_within_s=7200

test() {
  local within_s=$tests_within_s
  local -a extra=()
  while (($#)); do
    case $1 in
      --long) extra=(--include-ignored) within_s=$long_tests_within_s; shift ;;
      -h | --help) test_help; exit 0 ;;
      *) refuse "test: unknown argument '$1'" ;;
    esac
  done
  cd "$root"
  trap 'end_attended; exit 143' TERM
  trap 'end_attended; exit 130' INT
  trap 'end_attended; exit 129' HUP
  # The tests start what was compiled for them, and nothing that a shell happens to name.
  unset UNMOGROWP_BIN_DIR UNMOGROWP_PORTS UNMOGROWP_CLICKHOUSE_URL UNMOGROWP_CLICKHOUSE_PASSWORD \
    UNMOGROWP_REDIS_URL UNMOGROWP_KAFKA_BROKERS UNMOGROWP_FAULT UNMOGROWP_CHAOS_SEED UNMOGROWP_CHAOS_SECONDS

  stage 'tools' prepare_tools
  stage 'libchdb' prepare_libchdb
  export UNMOGROWP_LIBCHDB=$libchdb
  stage 'servers' prepare_server_tools
  stage 'kafka' prepare_kafka
  export UNMOGROWP_KAFKA_JARS=$kafka_jars
  stage 'format' attend 120 cargo fmt --all --check
  stage 'lints' attend "$build_within_s" cargo clippy --quiet --locked --profile ci --workspace --all-targets -- -D warnings
  stage 'as released' check_as_released
  stage 'compile' attend "$build_within_s" cargo build --quiet --locked --profile ci --workspace --all-targets
  local log failed_run=0
  target_dir
  log=$reply/test-output.log
  : >"$log"
  # Every crate runs to its end, so that the sum is of all tests and not of those before a failure.
  stage_soft 'tests' run_tests "$within_s" "$log" test --workspace -- "${extra[@]}" || failed_run=1
  ((${#extra[@]} == 0)) || stage_soft 'sanitizer' run_sanitized "$within_s" "$log" || failed_run=1
  sum_up "$log" "$failed_run"
}

# Everything else here has debug assertions on, and what users build has not: code that is there only with
# them would first be missed in a release. Only our own crates are checked anew. The simulation and the
# fuzz targets are never released.
check_as_released() {
  local member
  local -a without=()
  for member in proto engine embedded consumer api loadgen bench tests; do
    without+=(--config "profile.ci.package.$member.debug-assertions=false")
  done
  attend "$build_within_s" cargo check --quiet --locked --profile ci "${without[@]}" --workspace --exclude sim --exclude fuzz
}

# Runs one step and prints how long it took; a step that fails ends the run.
stage() {
  stage_soft "$@" || {
    say "dev: the stage '$1' failed"
    printf '0 passed, 1 failed\n'
    exit 1
  }
}

stage_soft() {
  local name=$1 code=0 began_us
  shift
  began_us=${EPOCHREALTIME//[!0-9]/}
  say "== $name"
  "$@" || code=$?
  local tenths=$(((${EPOCHREALTIME//[!0-9]/} - began_us) / 100000))
  say "== $name: $((tenths / 10)).$((tenths % 10)) s"
  return "$code"
}

run_tests() {
  local within_s=$1 log=$2 code=0
  shift 2
  tail -c "+$(($(stat -c %s "$log") + 1))" -f --pid=$$ "$log" &
  local shown=$!
  attend "$within_s" cargo "$1" --locked --profile ci --no-fail-fast "${@:2}" >>"$log" 2>&1 || code=$?
  sleep 1.2
  kill "$shown" 2>/dev/null || true
  wait "$shown" 2>/dev/null || true
  return "$code"
}

# Everything that has `unsafe` in it, or is driven by what has, with every access checked. The host is
# named as a target so that build scripts stay as they are, and C code is left as it is: librdkafka's
# configure links against it without the sanitizer.
run_sanitized() {
  local host
  host=$(rustc -vV | sed -n 's/^host: //p')
  target_dir
  RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=$reply/sanitizer \
    CFLAGS=-fno-sanitize=address CXXFLAGS=-fno-sanitize=address \
    run_tests "$1" "$2" test --target "$host" -p engine -p fuzz --lib --test shard --test shard_bounds --test drivers \
    --test targets
}

# Adds up cargo's "test result:" lines. A run that failed without one failed test (a crash, a time-out)
# counts as one, and a run in which no test ran has failed.
sum_up() {
  local passed failed
  passed=$(awk '/^test result:/ { sum += $4 } END { print sum + 0 }' "$1")
  failed=$(awk '/^test result:/ { sum += $6 } END { print sum + 0 }' "$1")
  ((failed == 0)) || { say 'failed:'; grep -E '^test .* FAILED$' "$1" | sort -u >&2 || true; }
  if ((failed == 0 && ($2 != 0 || passed == 0))); then
    failed=1
    say "dev: the tests did not run to their end"
  fi
  printf '%s passed, %s failed\n' "$passed" "$failed"
  ((failed == 0)) || exit 1
}
