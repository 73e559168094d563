# Words to the user, and commands that a signal to this script can end at once.

say() { printf '%s\n' "$*" >&2 || true; }

fail() {
  say "dev: $*"
  exit 1
}

refuse() {
  say "dev: $*; see ./dev help"
  exit 2
}

# Prints the value of the flag $1, which is the argument after it.
flag_value() {
  (($# >= 2)) || refuse "$1 needs a value"
  printf '%s' "$2"
}

# Prints the text under KEY in a flat JSON file whose texts hold no escapes: the URLs, ids and keys
# that our own binaries write.
json_text() {
  sed -n 's/.*"'"$2"'"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p' "$1" | head -n 1
}

# Deadlines are in microseconds since 1970, ${EPOCHREALTIME//[!0-9]/}: SECONDS is too coarse for short ones.

# Prints a process and everything it started that still runs, parents first.
descendants() {
  local line pid file
  local -a rest
  local -A children=()
  for file in /proc/[0-9]*/stat; do
    { read -r line <"$file"; } 2>/dev/null || continue
    pid=${line%% *}
    # The name in parentheses may hold spaces and parentheses; the parent is the second word after it.
    read -ra rest <<<"${line##*) }"
    children[${rest[1]}]+=" $pid"
  done
  local -a queue=("$1")
  while ((${#queue[@]})); do
    pid=${queue[0]}
    queue=("${queue[@]:1}")
    printf '%s\n' "$pid"
    # shellcheck disable=SC2206
    queue+=(${children[$pid]-})
  done
}

attended=

# Runs a command that may take long. Bash answers a signal only between commands or while it waits,
# so the command runs in the background and this waits. A limit in seconds may stand first:
# `attend 60 cargo test`; the command is ended when it is over, and 124 returned.
attend() {
  local limit_s=0 code=0
  if [[ $1 =~ ^[0-9]+$ ]]; then
    limit_s=$1
    shift
  fi
  "$@" </dev/null &
  attended=$!
  if ((limit_s)); then
    local until_us=$((${EPOCHREALTIME//[!0-9]/} + limit_s * 1000000))
    while kill -0 "$attended" 2>/dev/null; do
      if ((${EPOCHREALTIME//[!0-9]/} > until_us)); then
        say "dev: '$1 ${2-}' did not end within $limit_s s"
        end_attended
        return 124
      fi
      sleep 0.2 || true
    done
  fi
  wait "$attended" || code=$?
  attended=
  return "$code"
}

# Ends the attended command and all it started: cargo leaves its compilers running otherwise.
end_attended() {
  [[ -n $attended ]] || return 0
  local -a family
  mapfile -t family < <(descendants "$attended")
  kill -TERM "${family[@]}" 2>/dev/null || true
  local until_us=$((${EPOCHREALTIME//[!0-9]/} + 5000000))
  while kill -0 "$attended" 2>/dev/null && ((${EPOCHREALTIME//[!0-9]/} < until_us)); do sleep 0.05 || true; done
  kill -KILL "${family[@]}" 2>/dev/null || true
  wait "$attended" 2>/dev/null || true
  attended=
}
