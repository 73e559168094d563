# `./dev sim`: the deterministic simulation for as long as one likes. Two minutes of it run in `./dev test`.

sim() {
  prepare_tools
  target_dir
  # With assertions, as the `ci` profile has them: they are half of what is checked.
  cargo build --manifest-path "$root/Cargo.toml" --quiet --locked --profile ci -p sim
  cd "$here"
  exec "$reply/ci/sim" "$@"
}
