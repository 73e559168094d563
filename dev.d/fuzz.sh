# `./dev fuzz`: the fuzz targets for as long as one likes. A short, fixed part of it runs in `./dev test`.

fuzz_help() {
  cat <<'TEXT'
Usage: ./dev fuzz TARGET|all [--seconds N] [--seed S]
       ./dev fuzz TARGET --replay FILE

Feeds changed inputs of tests/fuzz/corpus to what reads bytes from outside, and checks the laws that the
property tests have: head, chunked, json, block, journal, embedded. docs/testing.md says which.

  --seconds N   for each target; default 10
  --seed S      repeats a run: one seed gives the same inputs in the same order
  --replay FILE one input, once
  --failures DIR  where inputs that break a law are written, as small as they were made; default
                target/fuzz

Exit code: 0 when every law held, else 1.
TEXT
}

fuzz() {
  case ${1-} in
    -h | --help) fuzz_help; exit 0 ;;
    '') fuzz_help >&2; exit 2 ;;
  esac
  prepare_tools
  target_dir
  # Built from the root, run where the files that were named are.
  cargo build --manifest-path "$root/Cargo.toml" --quiet --locked --profile ci -p fuzz
  cd "$here"
  exec "$reply/ci/fuzz" --failures "$reply/fuzz" "$@"
}
