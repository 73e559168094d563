# `./dev sim`: the deterministic simulation for as long as one likes. Two minutes of it run in `./dev test`.

sim_help() {
  cat <<'TEXT'
Usage: ./dev sim [--seed S] [--seeds N] [--hours H | --seconds N] [--trace]
       ./dev sim --planted BUG|all

Runs the real shards, journal, forwarder, Kafka lanes and consumers on virtual time, against simulated
clients, disks, Kafka and ClickHouse, with faults drawn from a seed, and checks that no acknowledged event
is lost or invented. One seed is always the same run. docs/testing.md says more.

  --seed S        the first seed; drawn from the clock where it is not given
  --seeds N       how many; 1 where --seed is given and no time
  --hours H, --seconds N
                  go on for so long; 60 seconds where nothing is given
  --trace         print everything that happens, with its virtual time; for one seed
  --without A,B   leave these faults out; --help-faults lists them
  --chaos-us N    how long load and faults go on in each run, in virtual microseconds; default 4000000
  --clients N     how many clients each run has; default 4
  --planted BUG   plant this bug and see it found; `all` for one after the other
  --threads N     default: one for each core

A failure prints its seed, the commit, the shortest schedule that still fails and the command that shows it.
Exit code: 0 when nothing failed (with --planted all: when every bug was found), else 1.
TEXT
}

sim() {
  case ${1-} in
    -h | --help) sim_help; exit 0 ;;
  esac
  prepare_tools
  target_dir
  # With assertions, as the `ci` profile has them: they are half of what is checked.
  cargo build --manifest-path "$root/Cargo.toml" --quiet --locked --profile ci -p sim
  cd "$here"
  exec "$reply/ci/sim" "$@"
}
