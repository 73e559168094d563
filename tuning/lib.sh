# shellcheck shell=bash
# What all knobs share. A knob names its settings once, in a function `settings`; check, set and undo follow
# from that. Owns the remembering of old values; must not know what any setting is good for.
#
#   at_least NAME PATH VALUE    a kernel's number, or numbers in a row: each no less than this
#   exactly  NAME PATH VALUE    a kernel's value
#   choice   NAME PATH VALUE    one of several, the chosen one in [brackets]
#   mask     NAME PATH VALUE    a set of cores in hexadecimal
#   config   NAME PATH TEXT     a file that is ours alone
#   report   NAME NOW WANTED STATUS   only told of
#   absent   NAME WANTED        is not on this machine
#   offer    RULE KIND NAME TARGET VALUE   anything else: read_KIND TARGET, write_KIND TARGET VALUE, and old_KIND
#                               TARGET where what undo must write is not what is read
#
# Old values are kept in $state/KNOB, a line for each: kind, target, value, between tabs. The first value that
# `set` met is the one that `undo` restores, however often `set` runs. What a reboot restores by itself is
# forgotten at the first `set` or `undo` after it.

fail() {
  printf 'tuning: %s\n' "$*" >&2
  exit 1
}

# A folder that stands for /, with copies of what would be changed: for tests.
root=${UNMOGROWP_TUNING_ROOT-}
root=${root%/}
state=${UNMOGROWP_TUNING_STATE:-$root/var/lib/unmogrowp/tuning}
knob=$(basename "$0" .sh)
verb=
differs=0
failed=0
# Kinds that live in the kernel and are gone after a reboot.
volatile=' kernel choice dirty ethtool '
# A knob of a server, and not of this machine, asks nobody to be root.
needs_root=1

usage() {
  cat <<TEXT
Usage: $0 check|set|undo|explain

  check    what is set now, beside what is recommended; exit code 1 when something differs
  set      sets what is recommended and remembers what was there
  undo     sets what was there before the first \`set\`
  explain  why, when not, and what it does to our engine

UNMOGROWP_TUNING_ROOT=DIR works on copies below DIR instead of this machine.
TEXT
}

run_knob() {
  verb=${1-}
  (($# == 1)) || { usage >&2; exit 2; }
  case $verb in
    check) settings ;;
    set)
      become_able
      forget_after_reboot
      settings
      ;;
    undo)
      become_able
      forget_after_reboot
      undo
      ;;
    explain) awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0" ;;
    -h | --help) usage ;;
    *) usage >&2; exit 2 ;;
  esac
  ((failed == 0 && differs == 0)) || exit 1
}

become_able() {
  if ((needs_root && EUID != 0)) && [[ -z $root ]]; then
    fail "$knob: $verb changes the kernel's settings and must be run as root: sudo $0 $verb"
  fi
}

# One row of the table: between tabs for tuning/check, else to be read.
row() {
  [[ $verb == check ]] || return 0
  [[ $4 != differs ]] || differs=1
  if [[ -n ${UNMOGROWP_TUNING_ROWS-} ]]; then
    printf '%s\t%s\t%s\t%s\n' "$@"
  else
    printf '%-44s %-24s %-24s %s\n' "$@"
  fi
}

report() { row "$@"; }

absent() { row "$1" - "$2" 'not here'; }

at_least() { offer at_least kernel "$1" "$2" "$3"; }
exactly() { offer exactly kernel "$1" "$2" "$3"; }
choice() { offer exactly choice "$1" "$2" "$3"; }
mask() { offer mask kernel "$1" "$2" "$3"; }

sysctl_at_least() { at_least "$1" "/proc/sys/${1//.//}" "$2"; }
sysctl_exactly() { exactly "$1" "/proc/sys/${1//.//}" "$2"; }

offer() {
  local rule=$1 kind=$2 name=$3 target=$4 value=$5 now wanted=$5 old
  [[ $rule != at_least ]] || wanted="at least $value"
  if ! now=$("read_$kind" "$target" 2>/dev/null); then
    absent "$name" "$wanted"
    return 0
  fi
  if "holds_$rule" "$now" "$value"; then
    row "$name" "$(one_line "$now")" "$wanted" ok
    [[ $verb != set ]] || printf '%s: is %s already\n' "$name" "$(one_line "$now")"
    return 0
  fi
  row "$name" "$(one_line "$now")" "$wanted" differs
  [[ $verb == set ]] || return 0
  [[ $rule != at_least ]] || value=$(larger_of_each "$now" "$value")
  old=$now
  ! declare -F "old_$kind" >/dev/null || old=$("old_$kind" "$target")
  remember "$kind" "$target" "$old"
  change "$kind" "$name" "$target" "$value"
  if ((failed == 0)) && ! "holds_$rule" "$("read_$kind" "$target")" "$value"; then
    printf 'tuning: %s: the kernel or server took %s and kept %s\n' "$name" "$value" "$("read_$kind" "$target")" >&2
    failed=1
  fi
}

change() {
  local kind=$1 name=$2 target=$3 value=$4
  if "write_$kind" "$target" "$value"; then
    printf '%s: %s\n' "$name" "$(one_line "$value")"
  else
    printf 'tuning: %s: %s was not taken\n' "$name" "$(one_line "$value")" >&2
    failed=1
  fi
}

one_line() {
  local -a words
  read -r -d '' -a words <<<"$1" || true
  printf '%s' "${words[*]}"
}

holds_exactly() { [[ $(one_line "$1") == "$(one_line "$2")" ]]; }

holds_at_least() {
  local -a now wanted
  local index
  read -r -a now <<<"$(one_line "$1")"
  read -r -a wanted <<<"$2"
  for index in "${!wanted[@]}"; do
    [[ ${now[index]-} =~ ^[0-9]+$ ]] && ((now[index] >= wanted[index])) || return 1
  done
}

larger_of_each() {
  local -a now wanted
  local index
  read -r -a now <<<"$(one_line "$1")"
  read -r -a wanted <<<"$2"
  for index in "${!wanted[@]}"; do
    [[ ${now[index]-} =~ ^[0-9]+$ ]] && ((now[index] > wanted[index])) && wanted[index]=${now[index]}
  done
  printf '%s' "${wanted[*]}"
}

holds_mask() { [[ $(plain_mask "$1") == "$(plain_mask "$2")" ]]; }

# 00000000,00000003 and 3 are the same cores.
plain_mask() {
  local plain=${1//,/}
  while [[ $plain == 0?* ]]; do plain=${plain#0}; done
  printf '%s' "$plain"
}

read_kernel() { cat "$root$1"; }
write_kernel() { printf '%s\n' "$2" >"$root$1"; }

read_choice() {
  local text
  text=$(cat "$root$1") || return 1
  # A file without brackets has one value.
  [[ $text =~ \[([^]]*)\] ]] && text=${BASH_REMATCH[1]}
  printf '%s' "$text"
}

# The kernel keeps the list; a copy has to be told what it would look like.
write_choice() {
  local -a words
  local index
  [[ -n $root ]] || { printf '%s\n' "$2" >"$1"; return; }
  read -r -a words <"$root$1" || true
  for index in "${!words[@]}"; do
    words[index]=${words[index]//[\[\]]/}
    [[ ${words[index]} != "$2" ]] || words[index]="[$2]"
  done
  printf '%s\n' "${words[*]}" >"$root$1"
}

# A file that is ours: its old self, if there was one, is kept beside the old values.
config() {
  local name=$1 path=$2 text=$3 there=none
  [[ ! -f $root$path ]] || there=other
  [[ $there == none ]] || [[ $(<"$root$path") != "$text" ]] || there=ours
  if [[ $there == ours ]]; then
    row "$name" "$path" "$path" ok
    [[ $verb != set ]] || printf '%s: is there already\n' "$name"
    return 0
  fi
  row "$name" "$there" "$path" differs
  [[ $verb == set ]] || return 0
  local copy=
  if [[ $there == other ]]; then
    copy=$knob.${path//\//+}
    mkdir -p "$state"
    [[ -e $state/$copy ]] || cp -p "$root$path" "$state/$copy"
  fi
  remember config "$path" "$copy"
  mkdir -p "$(dirname "$root$path")"
  printf '%s\n' "$text" >"$root$path"
  printf '%s: %s\n' "$name" "$path"
}

# With an empty value the file was not there.
write_config() {
  if [[ -z $2 ]]; then
    rm -f "$root$1"
  else
    cp -p "$state/$2" "$root$1" && rm -f "$state/${2:?}"
  fi
}

boot_id() { cat "$root/proc/sys/kernel/random/boot_id" 2>/dev/null || printf unknown; }

remember() {
  local kind=$1 target=$2 value=$3
  mkdir -p "$state"
  [[ -f $state/$knob ]] || printf 'boot\t%s\n' "$(boot_id)" >"$state/$knob"
  ! grep -qF "$kind"$'\t'"$target"$'\t' "$state/$knob" || return 0
  value=${value//\\/\\\\}
  value=${value//$'\n'/\\n}
  printf '%s\t%s\t%s\n' "$kind" "$target" "${value//$'\t'/\\t}" >>"$state/$knob"
}

forget_after_reboot() {
  local kind target value kept=
  [[ -f $state/$knob ]] || return 0
  read -r kind value <"$state/$knob"
  [[ $value != "$(boot_id)" ]] || return 0
  while IFS=$'\t' read -r kind target value; do
    [[ $kind == boot || $volatile == *" $kind "* ]] || kept+="$kind"$'\t'"$target"$'\t'"$value"$'\n'
  done <"$state/$knob"
  rm -f "$state/$knob"
  [[ -z $kept ]] || printf 'boot\t%s\n%s' "$(boot_id)" "$kept" >"$state/$knob"
}

undo() {
  local -a lines
  local index kind target value line
  if [[ ! -f $state/$knob ]]; then
    printf '%s: nothing was set since the last boot\n' "$knob"
    return 0
  fi
  mapfile -t lines <"$state/$knob"
  # What was changed last goes first, in case one follows from another.
  for ((index = ${#lines[@]} - 1; index > 0; index--)); do
    line=${lines[index]}
    kind=${line%%$'\t'*}
    line=${line#*$'\t'}
    target=${line%%$'\t'*}
    value=$(printf '%b' "${line#*$'\t'}")
    change "$kind" "$target" "$target" "$value"
  done
  # What could not be put back is still known.
  ((failed)) || rm -f "$state/$knob"
}

# How many cores are online: 0-1 or 0,2-5.
core_count() {
  local list part count=0
  list=$(cat "$root/sys/devices/system/cpu/online" 2>/dev/null) || list=0
  for part in ${list//,/ }; do
    count=$((count + ${part#*-} - ${part%-*} + 1))
  done
  printf '%s' "$count"
}

# The set of the cores from FIRST, so many: groups of 32 between commas, as the kernel writes them.
core_mask() {
  local first=$1 last=$(($1 + $2 - 1)) group bit word text=
  for ((group = last / 32; group >= 0; group--)); do
    word=0
    for ((bit = 0; bit < 32; bit++)); do
      ((group * 32 + bit >= first && group * 32 + bit <= last)) && word=$((word | 1 << bit))
    done
    if [[ -z $text ]]; then text=$(printf '%x' "$word"); else text+=$(printf ',%08x' "$word"); fi
  done
  printf '%s' "$text"
}

# Network cards: what has a device behind it. UNMOGROWP_TUNING_NICS names others.
nics() {
  local path
  if [[ -n ${UNMOGROWP_TUNING_NICS-} ]]; then
    printf '%s\n' "$UNMOGROWP_TUNING_NICS" | tr ' ' '\n'
    return
  fi
  for path in "$root"/sys/class/net/*; do
    [[ ! -e $path/device ]] || basename "$path"
  done
}

# Disks: what has a device behind it and a queue. UNMOGROWP_TUNING_DISKS names others.
disks() {
  local path
  if [[ -n ${UNMOGROWP_TUNING_DISKS-} ]]; then
    printf '%s\n' "$UNMOGROWP_TUNING_DISKS" | tr ' ' '\n'
    return
  fi
  for path in "$root"/sys/block/*; do
    [[ ! -e $path/device || ! -e $path/queue/scheduler ]] || basename "$path"
  done
}
