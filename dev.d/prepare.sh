# What must be on the machine before anything runs: commands, libchdb, binaries. Each step does
# nothing when its result is there already.

# The ClickHouse engine as a library comes from the npm registry, built for each platform; this
# release is there for Linux on x86_64 alone. It is named here with the SHA-512 of its archive, so
# that what runs is what was tested.
chdb_version=26.7.3-stable.1
chdb_package=@chdb/lib-linux-x64-gnu
chdb_sha512=5cff7b98caa7739b59a4a432c11f0dedc2d3b073624e61ebdf4a42e66ce8de35a6ba48ca9f62016bad1cd81fe059435cb858ce3235a8a2b408082a81563e70a7

# Apache Kafka, by Maven from Maven Central. dev.d/kafka.sha256 lists every jar of it: a run takes
# those or none.
kafka_version=4.4.0
kafka_scala=2.13
slf4j_version=1.7.36
maven_copy=org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies

# Set by the functions below.
libchdb=
binaries=
kafka_jars=

has() { command -v "$1" >/dev/null 2>&1; }

# Makes commands available that a build needs.
prepare_tools() {
  install_missing cc:build-essential npm:npm flock:util-linux setpriv:util-linux tar:tar pkg-config:pkg-config \
    openssl.pc:libssl-dev
  has cargo || [[ ! -x $HOME/.cargo/bin/cargo ]] || PATH=$HOME/.cargo/bin:$PATH
  has cargo || fail "missing: Rust; install it with rustup, which then fetches the version that rust-toolchain.toml names"
}

# Kafka and Redis; nothing else wants Java.
prepare_server_tools() {
  install_missing java:default-jre-headless redis-server:redis-server flock:util-linux setpriv:util-linux \
    perl:perl-base
  # An option that Java knows from 17 on.
  java --enable-native-access=ALL-UNNAMED -version >/dev/null 2>&1 ||
    fail "the java in PATH is older than 17, which Kafka $kafka_version needs"
}

# Takes COMMAND:PACKAGE pairs, installs the Debian packages of what is missing; without the rights, names
# them. COMMAND may be a pkg-config file, NAME.pc.
install_missing() {
  local need
  local -a packages=()
  for need in "$@"; do
    has_needed "${need%%:*}" || packages+=("${need#*:}")
  done
  ((${#packages[@]})) || return 0
  local -a as_root=()
  if ((EUID != 0)); then
    as_root=(sudo -n)
    "${as_root[@]}" true 2>/dev/null || as_root=()
  fi
  if ((EUID != 0 && ${#as_root[@]} == 0)) || ! has apt-get; then
    fail "missing, and not ours to install: run 'sudo apt-get install -y ${packages[*]}'"
  fi
  say "installing ${packages[*]}"
  attend "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq || true
  attend "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${packages[@]}" >&2 ||
    fail "apt-get could not install ${packages[*]}"
}

has_needed() {
  case $1 in
    *.pc) has pkg-config && pkg-config --exists "${1%.pc}" ;;
    *) has "$1" ;;
  esac
}

# Puts libchdb.so of the pinned release into the user's cache and its path into `libchdb`.
prepare_libchdb() {
  if [[ -n ${UNMOGROWP_LIBCHDB-} ]]; then
    [[ -f $UNMOGROWP_LIBCHDB ]] || fail "UNMOGROWP_LIBCHDB names $UNMOGROWP_LIBCHDB, which is not a file"
    libchdb=$UNMOGROWP_LIBCHDB
    return
  fi
  local cache=${XDG_CACHE_HOME:-$HOME/.cache}/unmogrowp
  local kept=$cache/libchdb-$chdb_version
  libchdb=$kept/libchdb.so
  [[ ! -f $libchdb ]] || return 0
  [[ $HOSTTYPE-$OSTYPE == x86_64-linux-gnu ]] ||
    fail "no ClickHouse library is published for $OSTYPE on $HOSTTYPE: build chDB $chdb_version and name its libchdb.so in UNMOGROWP_LIBCHDB"
  fetch_once libchdb 'the ClickHouse library' "$cache" "$libchdb" fetch_libchdb "$kept.partial" "$kept"
}

# Runs the command after the first four words unless FILE is there. Of two that fetch at once the second
# waits here and then finds the first one's.
fetch_once() {
  local name=$1 what=$2 cache=$3 file=$4
  shift 4
  mkdir -p "$cache"
  exec {fetch_lock}>"$cache/$name.lock"
  flock -n "$fetch_lock" || {
    say "another ./dev is fetching $what: waiting for it"
    attend flock "$fetch_lock"
  }
  if [[ ! -e $file ]]; then
    rm -rf "$cache/$name"-*.partial
    "$@"
  fi
  exec {fetch_lock}>&-
}

# A folder appears under its final name whole or not at all.
fetch_libchdb() {
  local partial=$1 kept=$2
  local -a archives
  say "fetching the ClickHouse library, $chdb_package $chdb_version (about 180 MB, once)"
  mkdir -p "$partial"
  attend env -C "$partial" npm pack --silent "$chdb_package@$chdb_version" >/dev/null ||
    fail "npm could not fetch $chdb_package@$chdb_version"
  archives=("$partial"/*.tgz)
  echo "$chdb_sha512  ${archives[0]}" | sha512sum --check --quiet - >&2 ||
    fail "the archive of $chdb_package@$chdb_version is not the one that was recorded: not used"
  attend tar xzf "${archives[0]}" -C "$partial" --strip-components=1 package/libchdb.so ||
    fail "the archive of $chdb_package@$chdb_version could not be unpacked"
  rm -f "${archives[@]}"
  sync -f "$partial/libchdb.so"
  rm -rf "$kept"
  mv -T "$partial" "$kept"
}

# Puts Kafka's jars of the pinned release into the user's cache and their folder into `kafka_jars`.
prepare_kafka() {
  if [[ -n ${UNMOGROWP_KAFKA_JARS-} ]]; then
    [[ -f $UNMOGROWP_KAFKA_JARS/kafka_$kafka_scala-$kafka_version.jar ]] ||
      fail "UNMOGROWP_KAFKA_JARS names $UNMOGROWP_KAFKA_JARS, which does not hold Kafka $kafka_version"
    kafka_jars=$UNMOGROWP_KAFKA_JARS
    return
  fi
  local cache=${XDG_CACHE_HOME:-$HOME/.cache}/unmogrowp
  kafka_jars=$cache/kafka-$kafka_version
  [[ ! -d $kafka_jars ]] || return 0
  install_missing mvn:maven
  fetch_once kafka Kafka "$cache" "$kafka_jars" fetch_kafka "$kafka_jars.partial" "$kafka_jars"
}

# A folder appears under its final name whole or not at all.
fetch_kafka() {
  local partial=$1 kept=$2
  say "fetching Apache Kafka $kafka_version (about 45 MB, once)"
  mkdir -p "$partial/jars"
  cat >"$partial/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>unmogrowp</groupId><artifactId>kafka-jars</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_$kafka_scala</artifactId><version>$kafka_version</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>$slf4j_version</version>
    </dependency>
  </dependencies>
</project>
POM
  # --strict-checksums: what does not match Maven Central's own sums is refused, not only warned of.
  attend mvn --quiet --batch-mode --strict-checksums -Dstyle.color=never --file "$partial/pom.xml" "$maven_copy" \
    -DoutputDirectory="$partial/jars" -DincludeScope=runtime >&2 || fail "Maven could not fetch Kafka $kafka_version"
  (cd "$partial/jars" && sha256sum --check --quiet --strict "$root/dev.d/kafka.sha256") >&2 ||
    fail "the jars of Kafka $kafka_version are not the ones that were recorded: not used"
  local -a fetched=("$partial"/jars/*)
  local recorded=0 line
  while read -r line; do recorded=$((recorded + 1)); done <"$root/dev.d/kafka.sha256"
  ((${#fetched[@]} == recorded)) ||
    fail "Kafka $kafka_version came with ${#fetched[@]} jars instead of $recorded: not used"
  sync -f "$partial/jars"
  rm -rf "$kept"
  mv -T "$partial/jars" "$kept"
  rm -rf "$partial"
}

# Builds every binary that users run, so that nothing builds later; their folder into `binaries`. The benches'
# programs are not among them: each takes as long to link as the engine.
prepare_binaries() {
  if [[ -n ${UNMOGROWP_BIN_DIR-} ]]; then
    binaries=$UNMOGROWP_BIN_DIR
    [[ $binaries == /* ]] || binaries=$here/$binaries
    [[ -d $binaries ]] || fail "UNMOGROWP_BIN_DIR names $UNMOGROWP_BIN_DIR, which is not a folder"
    return
  fi
  prepare_tools
  target_dir
  binaries=$reply/release
  [[ -x $binaries/unmogrowp-engine ]] || say "building (a first build takes minutes)"
  # `/version` of the binaries tells the commit that they were built from.
  UNMOGROWP_COMMIT=$(git -C "$root" rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
  export UNMOGROWP_COMMIT
  attend env -C "$root" cargo build --release --locked --workspace --exclude sim --exclude fuzz --exclude bench --bins --quiet ||
    fail "the build failed"
}

target_dir() {
  # Cargo takes a relative folder from where it is started, and it is started at the root.
  reply=${CARGO_TARGET_DIR:-target}
  [[ $reply == /* ]] || reply=$root/$reply
}
