# Words to the user, and commands that a signal to this script can end at once.
#
# No `$(…)` and no `<(…)` where traps are set: bash 5.2 parses those in this very shell, and a trap
# whose signal comes meanwhile fails to parse. Functions leave their result in the variable `reply`.

# Standard error as it was at the start, whatever is redirected around a trap.
exec {errors}>&2

say() { printf '%s\n' "$*" >&"$errors" || true; }

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

# Finds the text under KEY in a flat JSON file whose texts hold no escapes: the URLs, ids and keys
# that our own binaries write.
json_text() {
  local content='' pattern='"'$2'"[[:space:]]*:[[:space:]]*"([^"]*)"'
  read -r -d '' content <"$1" || true
  reply=
  [[ ! $content =~ $pattern ]] || reply=${BASH_REMATCH[1]}
}

# Deadlines are in microseconds since 1970, ${EPOCHREALTIME//[!0-9]/}: SECONDS is too coarse for short ones.

# Finds a process and everything it started that still runs, parents first: into the list `family`.
find_family() {
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
  family=()
  while ((${#queue[@]})); do
    pid=${queue[0]}
    queue=("${queue[@]:1}")
    family+=("$pid")
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
  find_family "$attended"
  kill -TERM "${family[@]}" 2>/dev/null || true
  local until_us=$((${EPOCHREALTIME//[!0-9]/} + 5000000))
  while kill -0 "$attended" 2>/dev/null && ((${EPOCHREALTIME//[!0-9]/} < until_us)); do sleep 0.05 || true; done
  kill -KILL "${family[@]}" 2>/dev/null || true
  wait "$attended" 2>/dev/null || true
  attended=
}
